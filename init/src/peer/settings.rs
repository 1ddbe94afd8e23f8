//! Who this node is, and whom its seed lists.

use std::net::IpAddr;
use std::sync::Arc;

use masthead_machine::Scale;
use masthead_peer_protocol::{PORT, SPOKEN, Versions};
use masthead_pki::{Error, PeerAuthority, PeerKey, PeerSubject};
use masthead_seed::{Master, Seed};

/// What does not change while the node runs.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The cluster's name in the seed.
    pub cluster: String,
    /// Machine id and name of this node.
    pub subject: PeerSubject,
    /// Its key.
    pub key: Arc<PeerKey>,
    /// Its address: where it calls from, so that peers know it by it.
    pub address: IpAddr,
    /// The authority that follows from the seed's secret.
    pub join: PeerAuthority,
    /// The other masters of the seed.
    pub listed: Vec<Listed>,
    /// The port of all of them.
    pub port: u16,
    /// What this node speaks.
    pub versions: Versions,
    /// Multiplies all deadlines.
    pub scale: Scale,
}

/// Another master of the seed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its name.
    pub name: String,
    /// Its address.
    pub address: IpAddr,
}

impl Settings {
    /// What follows from the seed for the master that this machine is.
    pub fn of_seed(
        seed: &Seed,
        master: &Master,
        machine_id: &str,
        key: Arc<PeerKey>,
        scale: Scale,
    ) -> Result<Self, Error> {
        Ok(Self {
            cluster: seed.cluster.clone(),
            subject: PeerSubject {
                machine_id: machine_id.to_owned(),
                name: master.name.clone(),
            },
            key,
            address: master.address,
            join: PeerAuthority::join(&seed.secret, &seed.cluster)?,
            listed: seed
                .masters
                .iter()
                .filter(|listed| listed.name != master.name)
                .map(|listed| Listed {
                    name: listed.name.clone(),
                    address: listed.address,
                })
                .collect(),
            port: PORT,
            versions: SPOKEN,
            scale,
        })
    }

    /// The same in these versions of the protocol, instead of this release's.
    pub fn speaking(self, versions: Versions) -> Self {
        Self { versions, ..self }
    }
}
