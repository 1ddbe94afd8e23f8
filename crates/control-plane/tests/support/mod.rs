//! A plan of a seed under `configs/seeds/`, with ids that never change.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use masthead_control_plane::{
    AuditStore, ControlPlane, EtcdStart, Inputs, Member, Paths, plan, subject_names,
};
use masthead_machine::Scale;
use masthead_pki::{Leaves, Roots};
use masthead_seed::Seed;
use time::OffsetDateTime;
use time::macros::datetime;

const NOW: OffsetDateTime = datetime!(2026-03-01 12:00 UTC);

/// The seed of that name under `configs/seeds/`.
pub(crate) fn seed(name: &str) -> Seed {
    let path = format!(
        "{}/../../configs/seeds/{name}.toml",
        env!("CARGO_MANIFEST_DIR")
    );
    Seed::parse(name, &std::fs::read(path).unwrap()).unwrap()
}

/// The plan of its first master, with inputs changed by `change`.
pub(crate) fn planned(seed: &Seed, change: impl FnOnce(&mut Inputs<'_>)) -> ControlPlane {
    let master = &seed.masters[0];
    let roots = Roots::generate("c0ffee", NOW).unwrap();
    let names = |purpose| subject_names(purpose, seed, master);
    let leaves = Leaves::issue(&roots, names, NOW).unwrap();
    let id = |number: usize| format!("{number:032x}");
    let members: Vec<Member> = seed
        .masters
        .iter()
        .enumerate()
        .map(|(index, master)| Member {
            machine_id: id(index + 1),
            address: master.address,
        })
        .collect();
    let mut inputs = Inputs {
        seed,
        master,
        cluster_id: "c0ffee00c0ffee00c0ffee00c0ffee00",
        machine_id: &members[0].machine_id,
        members: &members,
        etcd_start: EtcdStart::New,
        roots: &roots,
        leaves: &leaves,
        audit: AuditStore::Disk,
        scale: Scale::REAL,
        paths: Paths::default(),
    };
    change(&mut inputs);
    plan(&inputs)
}
