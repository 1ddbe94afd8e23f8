//! What can go wrong with keys and certificates.

use thiserror::Error;

/// What can go wrong with keys and certificates.
#[derive(Debug, Error)]
pub enum Error {
    /// The random number generator or the key generation failed.
    #[error("generate the key of {of}")]
    Generate {
        /// Whose key.
        of: String,
        /// Why.
        source: rcgen::Error,
    },
    /// A certificate could not be made, for example of a name that is no DNS name.
    #[error("issue the certificate of {of}")]
    Issue {
        /// Whose certificate.
        of: String,
        /// Why.
        source: rcgen::Error,
    },
    /// A private key cannot be parsed.
    #[error("{of}: no private key in PKCS #8, PEM")]
    PrivateKey {
        /// Whose key.
        of: String,
        /// Why.
        source: rcgen::Error,
    },
    /// A public key cannot be parsed.
    #[error("no public key of a known kind in SubjectPublicKeyInfo form")]
    PublicKey {
        /// Why.
        source: rcgen::Error,
    },
    /// A certificate cannot be parsed.
    #[error("{of}: no X.509 certificate in PEM: {detail}")]
    Certificate {
        /// Whose certificate.
        of: String,
        /// What the parser says.
        detail: String,
    },
    /// Key and certificate are not a pair.
    #[error("{of}: the private key does not belong to the certificate")]
    Mismatch {
        /// Whose.
        of: String,
    },
    /// Text that should hold an encryption key does not.
    #[error("the encryption key is not 32 bytes in base64")]
    EncryptionKey,
    /// A certificate was asked for longer than is allowed.
    #[error("a certificate for {asked_hours} h was asked for; at most {most_hours} h are given")]
    Lifetime {
        /// Asked for, in hours.
        asked_hours: i64,
        /// Given at most, in hours.
        most_hours: i64,
    },
    /// A proof of login is no signature of that key over that challenge as this server sees it.
    #[error("the proof does not match the operator's key, this server and its challenge")]
    LoginProof,
}
