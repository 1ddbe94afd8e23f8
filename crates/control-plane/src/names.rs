//! What the servers of a master may be called.

use std::net::IpAddr;

use masthead_pki::{Purpose, SubjectNames};
use masthead_seed::{IpNet, Master, Seed, SubjectName};

/// The names in the certificate for that purpose; none for a client's.
pub fn subject_names(purpose: Purpose, seed: &Seed, master: &Master) -> SubjectNames {
    let node = |names: SubjectNames| names.with(&master.name).with(&master.address.to_string());
    match purpose {
        Purpose::EtcdServer => node(SubjectNames::loopback()),
        // Members verify that a peer calls from an address in its certificate.
        Purpose::EtcdPeer => node(SubjectNames::default()),
        Purpose::ManagementServer => of_endpoint(node(SubjectNames::loopback()), seed),
        Purpose::ApiserverServing => {
            let mut names = of_endpoint(node(SubjectNames::loopback()), seed)
                .with("kubernetes")
                .with("kubernetes.default")
                .with("kubernetes.default.svc")
                .with("kubernetes.default.svc.cluster.local");
            names
                .addresses
                .insert(first_address(&seed.kubernetes.services));
            for name in &seed.kubernetes.sans {
                match name {
                    SubjectName::Address(address) => {
                        names.addresses.insert(*address);
                    }
                    SubjectName::Dns(name) => {
                        names.dns.insert(name.clone());
                    }
                }
            }
            names
        }
        Purpose::ControllerManagerServing | Purpose::SchedulerServing => SubjectNames::loopback(),
        Purpose::EtcdClient
        | Purpose::SupervisorEtcdClient
        | Purpose::ApiserverKubeletClient
        | Purpose::FrontProxyClient
        | Purpose::ControllerManagerClient
        | Purpose::SchedulerClient
        | Purpose::ProbeClient => SubjectNames::default(),
    }
}

fn of_endpoint(names: SubjectNames, seed: &Seed) -> SubjectNames {
    let hosts = seed.endpoint.hosts();
    hosts.iter().fold(names, |names, host| names.with(host))
}

/// The cluster address of the service `kubernetes`: the first of the services' network.
fn first_address(services: &IpNet) -> IpAddr {
    match services.network() {
        IpAddr::V4(network) => IpAddr::V4((u32::from(network) + 1).into()),
        IpAddr::V6(network) => IpAddr::V6((u128::from(network) + 1).into()),
    }
}
