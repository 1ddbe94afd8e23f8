//! The way from bytes to a [`Seed`].

use masthead_diagnostics::{Document, Report};

use crate::Route;
use crate::check::{DEFAULT_SERVICES, check};
use crate::masking::secrets;
use crate::read::At;
use crate::read::masters::Draft;
use crate::read::network::Field;
use crate::read::root::{SeedDraft, seed};
use crate::{Hash, Kubernetes, Master, Network, Seed, Selector};

impl Seed {
    /// Reads and validates a seed. The report of a refusal holds every error and warning, with secrets masked.
    pub fn parse(file_name: &str, bytes: &[u8]) -> Result<Self, Report> {
        let (seed, report) = Self::check(file_name, bytes);
        seed.ok_or(report)
    }

    /// Like [`Seed::parse`], with the warnings of a seed that is accepted: what `mastctl seed check` shows.
    /// There is a seed if, and only if, the report has no error.
    pub fn check(file_name: &str, bytes: &[u8]) -> (Option<Self>, Report) {
        let mut document = match Document::decode(file_name, bytes) {
            Ok(document) => document,
            Err(report) => return (None, report),
        };
        let secrets = secrets(document.text());
        document.hide(secrets);
        let is_blank = document.text().trim().is_empty();
        document.read(|root| {
            if is_blank {
                root.error(
                    "the file is empty",
                    "write a seed; docs/seed.md has examples",
                );
                return None;
            }
            let draft = seed(root)?;
            check(root, &draft);
            finish(draft)
        })
    }
}

/// The seed, if everything could be read. Whatever could not has been reported.
fn finish(draft: SeedDraft) -> Option<Seed> {
    let kubernetes = draft.kubernetes;
    let masters = draft
        .masters
        .into_iter()
        .map(master)
        .collect::<Option<Vec<_>>>()?;
    let mut seed = Seed {
        cluster: draft.cluster?,
        secret: draft.secret?,
        admins: draft.admins.into_iter().map(|key| key.value).collect(),
        operators: draft.operators,
        image_keys: draft.image_keys.into_iter().map(|key| key.value).collect(),
        endpoint: draft.endpoint?.value,
        masters,
        kubernetes: Kubernetes {
            services: kubernetes
                .services
                .get()
                .map_or(DEFAULT_SERVICES, |services| services.value),
            pods: kubernetes.pods.map(|pods| pods.value),
            sans: kubernetes.sans,
            flags: kubernetes.flags,
            files: kubernetes.files,
        },
        hash: Hash([0; 32]),
    };
    seed.hash = Hash::of_meaning(&seed);
    Some(seed)
}

fn master(draft: Draft) -> Option<Master> {
    let network = draft.network;
    let plain = |values: Field<Vec<At<_>>>| -> Vec<_> {
        values
            .get()
            .into_iter()
            .flatten()
            .map(|at| at.value)
            .collect()
    };
    Some(Master {
        name: draft.name,
        selector: Selector {
            mac: draft.mac.map(|mac| mac.value),
            serial: draft.serial.map(|serial| serial.value),
        },
        address: draft.address?.value,
        network: Network {
            prefix: network.prefix.get()?.value,
            gateway: network.gateway.get().map(|gateway| gateway.value),
            dns: plain(network.dns),
            ntp: network
                .ntp
                .get()
                .into_iter()
                .flatten()
                .map(|server| server.value.clone())
                .collect(),
            mtu: network.mtu.get().map(|mtu| mtu.value),
            routes: network
                .routes
                .get()
                .into_iter()
                .flatten()
                .map(|route| Route {
                    to: route.to.value,
                    via: route.via.value,
                })
                .collect(),
            addresses: network
                .addresses
                .get()
                .into_iter()
                .flatten()
                .map(|address| address.value)
                .collect(),
        },
        disk: draft.storage.disk?.value,
        etcd_disk: draft.storage.etcd_disk.map(|disk| disk.value),
        wipe: draft.storage.wipe.map(|wipe| wipe.value),
    })
}
