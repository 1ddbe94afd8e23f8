//! Paths and limits of version 1 of the management API.

/// The management API's TCP port (mutual TLS 1.3).
pub const PORT: u16 = 9440;

/// The TCP port of `/metrics` (plain HTTP).
pub const METRICS_PORT: u16 = 9441;

/// `GET`: a [`Status`](crate::Status).
pub const STATUS: &str = "/v1/status";

/// `GET`: a [`ClusterStatus`](crate::cluster::ClusterStatus).
pub const CLUSTER: &str = "/v1/cluster";

/// `GET` `/v1/logs/SERVICE?follow=true&lines=N`: the service's output as bytes, chunked.
pub const LOGS: &str = "/v1/logs/";

/// `POST` a [`KubeconfigRequest`](crate::kubeconfig::KubeconfigRequest).
pub const KUBECONFIG: &str = "/v1/kubeconfig";

/// `POST` a [`PowerRequest`](crate::power::PowerRequest): an orderly reboot.
pub const REBOOT: &str = "/v1/reboot";

/// `POST` a [`PowerRequest`](crate::power::PowerRequest): an orderly power-off.
pub const POWEROFF: &str = "/v1/poweroff";

/// `PUT` a bundle: its image goes into the slot that does not run, if the bundle is signed by who may. With `?plan=true` only its beginning is
/// needed, up to the signature, and nothing is written.
pub const IMAGE: &str = "/v1/image";

/// `POST` an [`UpgradeRequest`](crate::upgrade::UpgradeRequest): reboot on trial into the image that was sent before.
pub const UPGRADE: &str = "/v1/upgrade";

/// `POST` a [`PowerRequest`](crate::power::PowerRequest): reboot into the image before this one.
pub const ROLLBACK: &str = "/v1/rollback";

/// `POST` a [`FoundRequest`](crate::found::FoundRequest).
pub const FOUND: &str = "/v1/found";

/// `POST` a [`LeaderRequest`](crate::etcd::LeaderRequest).
pub const ETCD_LEADER: &str = "/v1/etcd/leader";

/// `POST` a [`MoveRequest`](crate::vip::MoveRequest).
pub const VIP_MOVE: &str = "/v1/vip/move";

/// `POST` an [`UnlockRequest`](crate::disruption::UnlockRequest).
pub const UNLOCK: &str = "/v1/unlock";

/// `GET`: the [`Operators`](crate::operators::Operators).
pub const OPERATORS: &str = "/v1/operators";

/// `POST` a [`TokenRequest`](crate::operators::TokenRequest).
pub const OPERATORS_TOKEN: &str = "/v1/operators/token";

/// `POST` a [`RemoveRequest`](crate::operators::RemoveRequest).
pub const OPERATORS_REMOVE: &str = "/v1/operators/remove";

/// `POST` a [`ChallengeRequest`](crate::login::ChallengeRequest); needs no client certificate.
pub const LOGIN_CHALLENGE: &str = "/v1/login/challenge";

/// `POST` a [`LoginRequest`](crate::login::LoginRequest); needs no client certificate.
pub const LOGIN: &str = "/v1/login";

/// `GET` on [`METRICS_PORT`]: Prometheus text.
pub const METRICS: &str = "/metrics";

/// Lines of a log when the request does not say.
pub const DEFAULT_LOG_LINES: usize = 100;

/// At most this many past lines of a log in one answer.
pub const MAX_LOG_LINES: usize = 10_000;

/// The longest request body, in bytes, but for a bundle.
pub const MAX_BODY: usize = 16 * 1024;

/// The longest bundle, in bytes: two images must fit on a disk's EFI system partition.
pub const MAX_BUNDLE: u64 = 400 << 20;
