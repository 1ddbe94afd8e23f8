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
    planned_of(seed, 0, change)
}

/// A seed of that many masters, 10.20.0.11 and on, behind 10.20.0.10.
#[allow(dead_code, reason = "each test file uses its part")]
pub(crate) fn seed_of(masters: u8) -> Seed {
    let text = include_str!("../../../../configs/seeds/three-masters.toml");
    let (head, _) = text.split_once("[masters]").unwrap();
    let masters = (1..=masters).map(|number| {
        format!("m{number} = {{ mac = \"52:54:00:10:00:1{number}\", address = \"10.20.0.1{number}\" }}\n")
    });
    let text = format!("{head}[masters]\n{}", masters.collect::<String>());
    Seed::parse("seed.toml", text.as_bytes()).unwrap()
}

/// The plan of the master with that index.
pub(crate) fn planned_of(
    seed: &Seed,
    index: usize,
    change: impl FnOnce(&mut Inputs<'_>),
) -> ControlPlane {
    let master = &seed.masters[index];
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
        machine_id: &members[index].machine_id,
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
