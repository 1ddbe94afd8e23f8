//! What every refused or failed request answers.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::open_enum::open_enum;

open_enum! {
    /// The kind of a failure, for programs.
    pub enum ErrorCode {
        /// The body or the query is not what the route takes (400).
        BadRequest = "bad-request",
        /// The route needs an operator's certificate (401).
        CertificateRequired = "certificate-required",
        /// The proof of a login is wrong, its nonce is used up, or its key is not in the seed (403).
        LoginRefused = "login-refused",
        /// The certificate's role may not do this (403).
        Forbidden = "forbidden",
        /// No such route or service (404).
        NotFound = "not-found",
        /// The route exists, with another method (405).
        MethodNotAllowed = "method-not-allowed",
        /// The body did not arrive in time (408).
        RequestTimeout = "request-timeout",
        /// The node is already doing something that excludes this (409).
        Conflict = "conflict",
        /// The body is too long (413).
        BodyTooLarge = "body-too-large",
        /// Too many logins from one source (429).
        TooManyRequests = "too-many-requests",
        /// The node itself failed (500).
        Internal = "internal",
        /// Not yet: the node waits for something first (503).
        NotReady = "not-ready",
    }
}

impl ErrorCode {
    /// The HTTP status that goes with the code (RFC 9110).
    pub fn http_status(&self) -> u16 {
        match self {
            Self::BadRequest => 400,
            Self::CertificateRequired => 401,
            Self::LoginRefused | Self::Forbidden => 403,
            Self::NotFound => 404,
            Self::MethodNotAllowed => 405,
            Self::RequestTimeout => 408,
            Self::Conflict => 409,
            Self::BodyTooLarge => 413,
            Self::TooManyRequests => 429,
            Self::Internal | Self::Other(_) => 500,
            Self::NotReady => 503,
        }
    }
}

/// A refused or failed request: what, why and what to do next.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiError {
    /// See [`FORMAT`](crate::FORMAT).
    #[serde(default = "crate::first_format")]
    pub format: u32,
    /// The kind, for programs.
    pub code: ErrorCode,
    /// What failed and why, one sentence without a full stop.
    pub message: String,
    /// What to do next.
    #[serde(default)]
    pub remedy: String,
}

impl ApiError {
    /// An error of this release's format.
    pub fn new(code: ErrorCode, message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            format: crate::FORMAT,
            code,
            message: message.into(),
            remedy: remedy.into(),
        }
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} ({})", self.message, self.code)
    }
}

impl std::error::Error for ApiError {}
