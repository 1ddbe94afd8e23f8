//! What a master runs: etcd, kube-apiserver, kube-controller-manager and kube-scheduler, with every
//! flag, probe and configuration file.
//!
//! [`plan`] is a pure function: the same seed and the same identity always give the same services, so
//! that the command lines can be read in golden files and compared between releases. Nothing here
//! touches a file, a clock or a socket; whoever calls it writes [`ControlPlane::files`] and hands
//! [`ControlPlane::services`] to the life-cycle machine.
//!
//! One module for each program; `flags` is how a command line is put together, `files` where
//! things lie.
#![forbid(unsafe_code)]

mod apiserver;
mod bootstrap;
mod controller;
mod controller_manager;
mod etcd;
mod files;
mod flags;
mod inputs;
mod kubeconfig;
mod names;
mod scheduler;
mod service;

pub use bootstrap::{BootstrapObject, bootstrap_objects};
pub use inputs::{AuditStore, EtcdStart, Inputs, Member, Paths};
pub use kubeconfig::{Credential, Kubeconfig};
pub use masthead_pki::Secret;
pub use masthead_seed::Component;
pub use names::subject_names;
pub use service::{ClientCertificate, ControlPlane, Directory, File, Request, Service};

/// The port of the apiserver, on all addresses.
pub const APISERVER_PORT: u16 = 6443;
/// The port of etcd for its clients, on the node's address and on loopback.
pub const ETCD_CLIENT_PORT: u16 = 2379;
/// The port of etcd for its peers, on the node's address.
pub const ETCD_PEER_PORT: u16 = 2380;
/// The port of etcd's health and metrics, plain HTTP on loopback.
pub const ETCD_METRICS_PORT: u16 = 2381;
/// The port of etcd's HTTP clients, on loopback: apart from gRPC, which it would slow down.
pub const ETCD_HTTP_PORT: u16 = 2382;
/// The port of the controller manager, on loopback.
pub const CONTROLLER_MANAGER_PORT: u16 = 10257;
/// The port of the scheduler, on loopback.
pub const SCHEDULER_PORT: u16 = 10259;

/// Says what a master runs.
pub fn plan(inputs: &Inputs<'_>) -> ControlPlane {
    let mut files = files::Files::new(inputs);
    let services = vec![
        etcd::service(inputs, &mut files),
        apiserver::service(inputs, &mut files),
        controller_manager::service(inputs, &mut files),
        scheduler::service(inputs, &mut files),
    ];
    let (directories, files) = files.finish();
    ControlPlane {
        services,
        directories,
        files,
    }
}
