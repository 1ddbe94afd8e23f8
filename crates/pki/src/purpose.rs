//! What a leaf is for, and what follows for its certificate.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use rcgen::ExtendedKeyUsagePurpose::{self, ClientAuth, ServerAuth};

use crate::AuthorityKind;

/// What a leaf of a master is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Purpose {
    /// etcd towards its clients.
    EtcdServer,
    /// etcd towards the other members, both ways.
    EtcdPeer,
    /// The apiserver towards etcd.
    EtcdClient,
    /// The supervisor towards etcd.
    SupervisorEtcdClient,
    /// The apiserver towards everybody.
    ApiserverServing,
    /// The apiserver towards kubelets.
    ApiserverKubeletClient,
    /// The apiserver towards aggregated apiservers.
    FrontProxyClient,
    /// The controller manager towards the apiserver.
    ControllerManagerClient,
    /// The controller manager's own port.
    ControllerManagerServing,
    /// The scheduler towards the apiserver.
    SchedulerClient,
    /// The scheduler's own port.
    SchedulerServing,
    /// The supervisor's probes towards the Kubernetes components.
    ProbeClient,
    /// The management API towards operators.
    ManagementServer,
}

impl Purpose {
    /// All of them.
    pub const ALL: [Self; 13] = [
        Self::EtcdServer,
        Self::EtcdPeer,
        Self::EtcdClient,
        Self::SupervisorEtcdClient,
        Self::ApiserverServing,
        Self::ApiserverKubeletClient,
        Self::FrontProxyClient,
        Self::ControllerManagerClient,
        Self::ControllerManagerServing,
        Self::SchedulerClient,
        Self::SchedulerServing,
        Self::ProbeClient,
        Self::ManagementServer,
    ];

    /// The common name of every peer certificate of etcd: peers accept no other, so that a certificate of the same
    /// authority for a client opens no peer port.
    pub const ETCD_PEER_NAME: &str = "masthead:etcd-peer";

    /// The user that the apiserver is towards kubelets; bound to `system:kubelet-api-admin`.
    pub const KUBELET_CLIENT_NAME: &str = "masthead:kube-apiserver-kubelet-client";

    /// Its name, also that of its files.
    pub const fn name(self) -> &'static str {
        match self {
            Self::EtcdServer => "etcd-server",
            Self::EtcdPeer => "etcd-peer",
            Self::EtcdClient => "kube-apiserver-etcd-client",
            Self::SupervisorEtcdClient => "supervisor-etcd-client",
            Self::ApiserverServing => "kube-apiserver-serving",
            Self::ApiserverKubeletClient => "kube-apiserver-kubelet-client",
            Self::FrontProxyClient => "kube-apiserver-front-proxy-client",
            Self::ControllerManagerClient => "kube-controller-manager-client",
            Self::ControllerManagerServing => "kube-controller-manager-serving",
            Self::SchedulerClient => "kube-scheduler-client",
            Self::SchedulerServing => "kube-scheduler-serving",
            Self::ProbeClient => "probe-client",
            Self::ManagementServer => "management-server",
        }
    }

    /// Who issues it.
    pub const fn authority(self) -> AuthorityKind {
        match self {
            Self::EtcdServer | Self::EtcdPeer | Self::EtcdClient | Self::SupervisorEtcdClient => {
                AuthorityKind::Etcd
            }
            Self::FrontProxyClient => AuthorityKind::FrontProxy,
            Self::ManagementServer => AuthorityKind::Operators,
            Self::ApiserverServing
            | Self::ApiserverKubeletClient
            | Self::ControllerManagerClient
            | Self::ControllerManagerServing
            | Self::SchedulerClient
            | Self::SchedulerServing
            | Self::ProbeClient => AuthorityKind::Kubernetes,
        }
    }

    /// The subject's common name: to Kubernetes, the user.
    pub const fn common_name(self) -> &'static str {
        match self {
            Self::EtcdServer => "masthead:etcd",
            Self::EtcdPeer => Self::ETCD_PEER_NAME,
            Self::EtcdClient => "masthead:kube-apiserver",
            Self::SupervisorEtcdClient => "masthead:supervisor",
            Self::ApiserverServing => "kube-apiserver",
            Self::ApiserverKubeletClient => Self::KUBELET_CLIENT_NAME,
            Self::FrontProxyClient => "front-proxy-client",
            Self::ControllerManagerClient => "system:kube-controller-manager",
            Self::ControllerManagerServing => "kube-controller-manager",
            Self::SchedulerClient => "system:kube-scheduler",
            Self::SchedulerServing => "kube-scheduler",
            Self::ProbeClient => "masthead:probe",
            Self::ManagementServer => "masthead",
        }
    }

    /// The subject's organisation: to Kubernetes, the user's group.
    pub(crate) const fn organization(self) -> Option<&'static str> {
        match self {
            // May read health and metrics and nothing else.
            Self::ProbeClient => Some("system:monitoring"),
            _ => None,
        }
    }

    /// The extended key usages.
    pub(crate) fn usages(self) -> Vec<ExtendedKeyUsagePurpose> {
        match self {
            // A peer is server to one member and client of another.
            Self::EtcdPeer => vec![ServerAuth, ClientAuth],
            Self::EtcdServer
            | Self::ApiserverServing
            | Self::ControllerManagerServing
            | Self::SchedulerServing
            | Self::ManagementServer => vec![ServerAuth],
            Self::EtcdClient
            | Self::SupervisorEtcdClient
            | Self::ApiserverKubeletClient
            | Self::FrontProxyClient
            | Self::ControllerManagerClient
            | Self::SchedulerClient
            | Self::ProbeClient => vec![ClientAuth],
        }
    }
}

/// Subject alternative names: what a server may be called. Empty for clients.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SubjectNames {
    /// DNS names.
    pub dns: BTreeSet<String>,
    /// Addresses.
    pub addresses: BTreeSet<IpAddr>,
}

impl SubjectNames {
    /// `localhost` and its two addresses.
    pub fn loopback() -> Self {
        Self {
            dns: BTreeSet::from(["localhost".to_owned()]),
            addresses: BTreeSet::from([
                IpAddr::V4(Ipv4Addr::LOCALHOST),
                IpAddr::V6(Ipv6Addr::LOCALHOST),
            ]),
        }
    }

    /// These and one more, which is an address if it can be read as one.
    #[must_use]
    pub fn with(mut self, name: &str) -> Self {
        match name.parse() {
            Ok(address) => self.addresses.insert(address),
            Err(_) => self.dns.insert(name.to_owned()),
        };
        self
    }
}
