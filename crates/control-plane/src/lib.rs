//! What a master runs: etcd, kube-apiserver, kube-controller-manager and kube-scheduler, with every
//! flag, probe and configuration file.
//!
//! [`plan`] is a pure function: the same seed and the same identity always give the same services, so
//! that the command lines can be read in golden files and compared between releases. Nothing here
//! touches a file, a clock or a socket; whoever calls it writes [`ControlPlane::files`] and hands
//! [`ControlPlane::services`] to the life-cycle machine.
#![forbid(unsafe_code)]

mod inputs;
mod service;

pub use inputs::{
    AuditStore, Endpoint, EtcdStart, ExtraFlags, Inputs, KubernetesFiles, Member, Node, Paths,
};
pub use service::{
    ClientCertificate, Component, ControlPlane, Directory, File, Probe, Request, Secret, Service,
};
