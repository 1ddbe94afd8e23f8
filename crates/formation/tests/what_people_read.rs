//! Names of files, causes that a console shows, and what is kept out of logs.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use masthead_formation::{
    ClusterId, KeyFingerprint, MachineId, Marker, Member, Plan, PlanDocument, Reason, Record,
    Sealed, SeedHash, Started, Volume, plan_file_name,
};

fn plan() -> Arc<Plan> {
    let member = Member {
        address: IpAddr::V4(Ipv4Addr::LOCALHOST),
        name: "m1".into(),
        machine_id: MachineId([1; 16]),
        key: KeyFingerprint([1; 32]),
    };
    let document = PlanDocument {
        format: 1,
        oldest_format: 1,
        generation: 7,
        cluster_id: ClusterId([8; 16]),
        cluster: "prod".into(),
        seed: SeedHash([9; 32]),
        members: vec![member],
        excluded: Vec::new(),
        timing_scale_per_mille: 1000,
        sealed: Sealed(b"secret keys".to_vec()),
    };
    Arc::new(Plan::write(&document).expect("a plan"))
}

/// What a disk holds is found again by the next release.
#[test]
fn records_have_the_names_that_they_always_had() {
    assert_eq!(plan_file_name(12), "plan-12");
    let marker = Marker {
        cluster_id: ClusterId([8; 16]),
        machine_id: MachineId([1; 16]),
    };
    let started = Started {
        cluster_id: ClusterId([8; 16]),
        etcd_filesystem: "uuid".into(),
        confirmed: true,
    };
    for (record, volume, name) in [
        (Record::Plan(plan()), "STATE", "plan-7"),
        (Record::Go(plan().hash()), "STATE", "go"),
        (Record::Started(started), "STATE", "started"),
        (Record::Marker(marker), "ETCD", "started"),
    ] {
        assert_eq!(record.file_name(), name);
        assert_eq!(record.volume().to_string(), volume);
    }
    assert_eq!(format!("{:>6}", Volume::Etcd), "  ETCD");
}

#[test]
fn a_plan_can_be_logged_and_its_secrets_cannot() {
    let told = format!("{:?}", plan());
    assert!(
        told.starts_with("Plan(generation 7, ") && told.ends_with(", of [\"m1\"])"),
        "{told}"
    );
    let told = format!("{:?}", Sealed(b"secret keys".to_vec()));
    assert_eq!(told, "Sealed(11 bytes)");
}

#[test]
fn each_cause_is_a_sentence_that_names_who_is_meant() {
    let names = || vec!["m2".to_owned(), "m3".to_owned()];
    let seeds = vec![
        (SeedHash([0x11; 32]), vec!["m1".to_owned()]),
        (SeedHash([0x22; 32]), names()),
    ];
    let clusters = vec![
        (ClusterId([0x11; 16]), vec!["m1".to_owned()]),
        (ClusterId([0x22; 16]), names()),
    ];
    let (first, second) = ("11".repeat(16), "22".repeat(16));
    let cases = [
        (
            Reason::PeersMissing { names: names() },
            "No answer from m2, m3.".to_owned(),
        ),
        (
            Reason::SeedsDiffer { seeds },
            "Masters hold different seeds: m1 has 111111111111; m2, m3 has 222222222222.".into(),
        ),
        (
            Reason::Acknowledging { missing: names() },
            "The plan is not yet acknowledged by m2, m3.".into(),
        ),
        (
            Reason::Acknowledging {
                missing: Vec::new(),
            },
            "All have acknowledged the plan; its planner's word to start is awaited.".into(),
        ),
        (
            Reason::ForeignCluster {
                clusters: clusters.clone(),
                refused: false,
            },
            format!("Disks of different clusters meet: m1 holds {first}; m2, m3 holds {second}."),
        ),
        (
            Reason::ForeignCluster {
                clusters,
                refused: true,
            },
            format!(
                "Disks of different clusters meet: m1 holds {first}; m2, m3 holds {second}. This node's etcd stays off."
            ),
        ),
    ];
    for (reason, sentence) in &cases {
        assert_eq!(reason.to_string(), *sentence);
    }
    let warns: Vec<bool> = cases
        .iter()
        .map(|(reason, _)| reason.is_warning())
        .collect();
    assert_eq!(warns, [false, false, false, false, true, false]);
    assert!(Reason::EvenMasters { masters: 2 }.is_warning());
}
