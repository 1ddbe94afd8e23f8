use super::*;
use crate::contents::Finding;
use crate::layout::{Holds, plan};

fn disk(name: &str, contents: Contents) -> Candidate {
    Candidate {
        name: name.to_owned(),
        kind: "virtio".to_owned(),
        bytes: 10_000_000_000,
        serial: Some(format!("S-{name}")),
        read_only: false,
        contents,
    }
}

fn ours(holds: Holds, prepared: bool) -> Contents {
    let table = plan(20 << 30, 512, holds, || [1; 16]).expect("fits");
    Contents::Ours(Table { prepared, ..table })
}

fn foreign() -> Contents {
    Contents::Foreign(vec![Finding("XFS file system".to_owned())])
}

fn any() -> Wanted {
    Wanted {
        kind: Some("virtio".to_owned()),
        ..Wanted::default()
    }
}

#[test]
fn one_blank_match_is_prepared() {
    let disks = [disk("vda", Contents::Blank), disk("vdb", foreign())];
    assert_eq!(
        choose(Role::State, &any(), &disks, false),
        Choice::Prepare {
            name: "vda".to_owned(),
            wiped: None
        }
    );
}

#[test]
fn two_blank_matches_are_listed_and_one_named_is_taken() {
    let disks = [disk("vda", Contents::Blank), disk("vdb", Contents::Blank)];
    let Choice::Wait(refusal) = choose(Role::State, &any(), &disks, false) else {
        panic!("must wait")
    };
    assert_eq!(
        refusal.to_string(),
        "several blank disks match the seed: vda (virtio, 10.0 GB, serial \"S-vda\") blank; \
         vdb (virtio, 10.0 GB, serial \"S-vdb\") blank"
    );
    let named = Wanted {
        serial: Some("S-vdb".to_owned()),
        ..any()
    };
    assert_eq!(
        choose(Role::State, &named, &disks, false),
        Choice::Prepare {
            name: "vdb".to_owned(),
            wiped: None
        }
    );
}

#[test]
fn an_installed_disk_is_found_whatever_its_name_and_beside_blank_ones() {
    let disks = [
        disk("vdb", Contents::Blank),
        disk("vdc", ours(Holds::Everything, true)),
    ];
    let choice = choose(Role::State, &any(), &disks, false);
    assert!(matches!(choice, Choice::Use { name, .. } if name == "vdc"));
}

#[test]
fn two_installed_disks_are_a_question_for_a_person() {
    let disks = [
        disk("vda", ours(Holds::Everything, true)),
        disk("vdb", ours(Holds::Everything, true)),
    ];
    assert!(matches!(
        choose(Role::State, &any(), &disks, false),
        Choice::Wait(Refusal::SeveralInstalled(lines)) if lines.len() == 2
    ));
}

#[test]
fn an_interrupted_preparation_starts_over() {
    let disks = [
        disk("vda", ours(Holds::Everything, false)),
        disk("vdb", Contents::Blank),
    ];
    assert_eq!(
        choose(Role::State, &any(), &disks, false),
        Choice::Prepare {
            name: "vda".to_owned(),
            wiped: None
        }
    );
}

#[test]
fn a_foreign_disk_is_refused_by_what_is_on_it_and_wiped_once_when_the_seed_says_so() {
    let disks = [disk("vda", foreign())];
    let Choice::Wait(refusal) = choose(Role::State, &any(), &disks, false) else {
        panic!("must wait")
    };
    assert!(
        refusal.to_string().contains("holds XFS file system"),
        "{refusal}"
    );
    let wiping = Wanted {
        wipe: Some("S-vda".to_owned()),
        ..any()
    };
    assert_eq!(
        choose(Role::State, &wiping, &disks, false),
        Choice::Prepare {
            name: "vda".to_owned(),
            wiped: Some("S-vda".to_owned())
        }
    );
    assert!(matches!(
        choose(Role::State, &wiping, &disks, true),
        Choice::Wait(_)
    ));
    let mistyped = Wanted {
        wipe: Some("S-vdx".to_owned()),
        ..any()
    };
    assert!(matches!(
        choose(Role::State, &mistyped, &disks, false),
        Choice::Wait(_)
    ));
}

#[test]
fn a_master_in_service_is_never_wiped() {
    // The seed names another serial for its disk, so the installed one is not used, and not erased.
    let disks = [
        disk("vda", ours(Holds::Everything, true)),
        disk("vdb", foreign()),
    ];
    let wiping = Wanted {
        serial: Some("S-vdb".to_owned()),
        wipe: Some("S-vdb".to_owned()),
        ..Wanted::default()
    };
    assert!(matches!(
        choose(Role::State, &wiping, &disks, false),
        Choice::Wait(_)
    ));
    let ours_named = Wanted {
        serial: Some("S-vda".to_owned()),
        wipe: Some("S-vda".to_owned()),
        ..Wanted::default()
    };
    assert!(matches!(
        choose(Role::State, &ours_named, &disks, false),
        Choice::Use { .. }
    ));
}

#[test]
fn an_unreadable_disk_is_never_written_not_even_by_wipe() {
    let disks = [disk(
        "vda",
        Contents::Unknown {
            why: "Input/output error".to_owned(),
        },
    )];
    let wiping = Wanted {
        wipe: Some("S-vda".to_owned()),
        ..any()
    };
    let Choice::Wait(refusal) = choose(Role::State, &wiping, &disks, false) else {
        panic!("must wait")
    };
    assert!(
        refusal
            .to_string()
            .contains("cannot be read: Input/output error"),
        "{refusal}"
    );
}

#[test]
fn what_does_not_match_says_why() {
    let mut small = disk("vda", Contents::Blank);
    small.bytes = 1_000_000_000;
    let mut protected = disk("vdb", Contents::Blank);
    protected.read_only = true;
    let mut other = disk("sda", Contents::Blank);
    other.kind = "scsi".to_owned();
    other.serial = None;
    let wanted = Wanted {
        min_bytes: Some(5_000_000_000),
        ..any()
    };
    let Choice::Wait(refusal) = choose(Role::State, &wanted, &[small, protected, other], false)
    else {
        panic!("must wait")
    };
    let text = refusal.to_string();
    assert!(text.contains("blank: is smaller than 5.0 GB"), "{text}");
    assert!(text.contains("blank: is read-only"), "{text}");
    assert!(
        text.contains("sda (scsi, 10.0 GB, no serial number) blank: is no virtio disk"),
        "{text}"
    );
    assert_eq!(
        choose(Role::State, &any(), &[], false),
        Choice::Wait(Refusal::NoneMatches(vec![]))
    );
}

#[test]
fn etcd_alone_is_chosen_by_its_own_role() {
    let disks = [
        disk("vda", ours(Holds::EverythingButEtcd, true)),
        disk("vdb", ours(Holds::EtcdAlone, true)),
        disk("vdc", Contents::Blank),
    ];
    let wanted = Wanted {
        serial: Some("S-vdb".to_owned()),
        ..Wanted::default()
    };
    assert!(matches!(
        choose(Role::Etcd, &wanted, &disks, false),
        Choice::Use { name, .. } if name == "vdb"
    ));
    let fresh = Wanted {
        serial: Some("S-vdc".to_owned()),
        ..Wanted::default()
    };
    assert_eq!(
        choose(Role::Etcd, &fresh, &disks, false),
        Choice::Prepare {
            name: "vdc".to_owned(),
            wiped: None
        }
    );
}

#[test]
fn each_refusal_has_a_remedy_of_its_own() {
    let line = || "vda".to_owned();
    let refusals = [
        (Refusal::NoneMatches(vec![line()]), "connect such a disk"),
        (Refusal::SeveralMatch(vec![line()]), "name one of them"),
        (Refusal::SeveralInstalled(vec![line()]), "disconnect"),
        (Refusal::Occupied(line()), "wipe = "),
        (Refusal::Remains(line()), "repair its partition table"),
    ];
    for (refusal, words) in refusals {
        assert!(refusal.remedy().contains(words), "{refusal}");
        assert!(refusal.to_string().ends_with("vda"), "{refusal}");
    }
    let none = Refusal::NoneMatches(Vec::new());
    assert_eq!(none.to_string(), "this machine has no disk");
}

#[test]
fn a_disk_of_just_the_least_size_matches() {
    let wanted = |least| Wanted {
        min_bytes: Some(least),
        ..any()
    };
    let disks = [disk("vda", Contents::Blank)];
    let bytes = disks[0].bytes;
    let choice = choose(Role::State, &wanted(bytes), &disks, false);
    assert!(matches!(choice, Choice::Prepare { .. }), "{choice:?}");
    let choice = choose(Role::State, &wanted(bytes + 1), &disks, false);
    assert!(
        matches!(choice, Choice::Wait(Refusal::NoneMatches(_))),
        "{choice:?}"
    );
}

fn image(rest: &[&str]) -> Contents {
    let holds = Holds::Image;
    let table = plan(crate::layout::smallest(holds), 512, holds, || [1; 16]).expect("fits");
    let rest = rest.iter().map(|what| Finding((*what).to_owned()));
    let prepared = true;
    Contents::Image(Table { prepared, ..table }, rest.collect())
}

#[test]
fn a_disk_with_an_image_goes_before_a_blank_one() {
    let mut disks = vec![
        disk("vda", Contents::Blank),
        disk("vdb", image(&[])),
        disk("vdc", Contents::Blank),
    ];
    let chosen = Choice::Prepare {
        name: "vdb".to_owned(),
        wiped: None,
    };
    assert_eq!(choose(Role::State, &any(), &disks, false), chosen);
    // It is no disk for etcd alone.
    disks.pop();
    let Choice::Prepare { name, .. } = choose(Role::Etcd, &any(), &disks, false) else {
        panic!("the blank one is left")
    };
    assert_eq!(name, "vda");
    disks.push(disk("vdd", image(&[])));
    let Choice::Wait(refusal) = choose(Role::State, &any(), &disks, false) else {
        panic!("which one?")
    };
    assert!(matches!(refusal, Refusal::SeveralInstalled(_)), "{refusal}");
    // What is installed goes before both.
    disks.push(disk("vde", ours(Holds::Everything, true)));
    let choice = choose(Role::State, &any(), &disks, false);
    assert!(matches!(choice, Choice::Use { .. }), "{choice:?}");
}

#[test]
fn what_is_behind_an_image_is_written_over_only_at_the_seeds_word() {
    let disks = [
        disk("vda", image(&["XFS file system"])),
        disk("vdb", Contents::Blank),
    ];
    let Choice::Wait(refusal) = choose(Role::State, &any(), &disks, false) else {
        panic!("must wait, and not take another one")
    };
    assert_eq!(
        refusal.to_string(),
        "the disk that matches is not blank: vda (virtio, 10.0 GB, serial \"S-vda\") holds a Masthead's image, and \
         behind it XFS file system"
    );
    let wiping = Wanted {
        wipe: Some("S-vda".to_owned()),
        ..any()
    };
    let chosen = Choice::Prepare {
        name: "vda".to_owned(),
        wiped: Some("S-vda".to_owned()),
    };
    assert_eq!(choose(Role::State, &wiping, &disks, false), chosen);
    let used = choose(Role::State, &wiping, &disks, true);
    assert!(matches!(used, Choice::Wait(_)), "{used:?}");
}
