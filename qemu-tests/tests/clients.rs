//! What clients of the virtual address notice of what is planned, of no apiserver at all, and of an owner's death when they only wait.

#[path = "support/address.rs"]
mod address;
#[path = "support/fixture.rs"]
mod fixture;
#[path = "support/load.rs"]
mod load;
#[path = "support/masters.rs"]
mod masters;
mod support;

use std::{
    net::{Ipv4Addr, SocketAddrV4},
    process::Command,
    time::{Duration, Instant},
};

use address::wait_for_owner;
use fixture::Fixture;
use load::nothing_is_lost;
use masters::{A_MINUTE, THREE, formed, kubectl_through, node, others, wait_for_voters};
use masthead_lab::{
    error::{Result, chain},
    patience::Look,
    plan::{ENDPOINT, KUBERNETES_PORT, Mac},
    provider::Signal,
    tap::Tap,
    tools::run,
    watcher::Watcher,
    writers::{Pace, Writers},
};

const WRITERS: usize = 8;
/// As clients have it that try again once: a first segment that was lost is sent again after a second, which is too late for them.
const IMPATIENT: Pace = Pace {
    timeout: Duration::from_secs(1),
    pause: Duration::from_millis(50),
    retry: Pace::CALM,
};
/// The same of clients that wait for an answer.
const PATIENT: Pace = Pace {
    timeout: Duration::from_secs(10),
    ..IMPATIENT
};
/// At once: whoever lets go of the address has not let go of it yet.
const HASTY: Pace = Pace {
    pause: Duration::ZERO,
    retry: Duration::ZERO,
    ..PATIENT
};
/// So many more acknowledged writes show that clients go on.
const ENOUGH: usize = 40;
/// Longer than a reboot takes.
const LONG: &str = "10m";
/// How soon a client that only waits is told what happens after its owner's death, on a real machine. Without help it would notice by its own
/// pings, which come every 30 s, or, as this one, never.
const SOON: Duration = Duration::from_secs(8);

/// One after the other on one cluster.
#[test]
fn clients_of_the_address_go_on() {
    let fixture = formed(3);
    an_idle_watch_is_told_of_its_owners_death(&fixture);
    moves_and_reboots_fail_no_request_twice(&fixture);
    whoever_comes_back_at_once_finds_the_next_owner(&fixture);
    what_somebody_else_does_to_the_owners_kernel_is_mended(&fixture);
    an_owner_keeps_the_address_when_no_apiserver_serves(&fixture);
    a_stranger_that_claims_the_address_is_contradicted(&fixture);
}

/// Longer than a second, in which a contradiction comes, and not as long as half a minute, after which an announcement does.
const QUIET: Duration = Duration::from_secs(5);

/// None of the lab's.
const STRANGER: Mac = Mac([0x52, 0x54, 0, 0x66, 0, 1]);

/// Another address than the lab's own.
const SECOND: Ipv4Addr = Ipv4Addr::new(10, 20, 0, 20);

/// Each has an owner of its own, and moves when that one dies.
#[test]
fn each_of_two_addresses_has_its_own_owner() {
    let fixture = Fixture::ready_with(|plan, _| {
        plan.masters = 3;
        plan.endpoints.push(SECOND);
    });
    let second = fixture
        .cluster
        .forward(SocketAddrV4::new(SECOND, KUBERNETES_PORT));
    let second = fixture.expect(second);
    let writers = Writers::through_address(&fixture.cluster, second.local, WRITERS, PATIENT);
    let writers = fixture.expect(writers);
    goes_on(&fixture, &writers);
    moves(&fixture, &ENDPOINT.to_string(), "m1");
    moves(&fixture, &SECOND.to_string(), "m2");
    goes_on(&fixture, &writers);
    assert_eq!(owners(&fixture, "m3"), ["m1", "m2"]);
    let before = wait_for_owner(&fixture);

    fixture.expect(node(&fixture, "m2").cut_power());
    goes_on(&fixture, &writers);
    fixture.wait_until("another owner of the second address", A_MINUTE, || {
        let owners = owners(&fixture, "m3");
        Look::at(owners[0] == "m1" && owners[1] != "m2", || {
            format!("{owners:?}")
        })
    });
    assert_eq!(wait_for_owner(&fixture), before, "the first one stays");
    let written = writers.stop();
    fixture.expect(node(&fixture, "m2").power_on());
    fixture.expect(fixture.cluster.wait_until_ready());
    nothing_is_lost(&fixture, &written);
}

fn moves(fixture: &Fixture, address: &str, to: &str) {
    fixture.wait_until("an address to move", A_MINUTE, || {
        match fixture.mastctl(&["vip", "move", to, "--address", address]) {
            Ok(_) => Look::Done(()),
            Err(error) => Look::NotYet(chain(&error)),
        }
    });
}

/// Of both addresses, as a master sees it.
fn owners(fixture: &Fixture, asked: &str) -> [String; 2] {
    let status = fixture.expect(fixture.status_of(asked));
    [0, 1].map(|place| {
        let owner = status["virtual_addresses"][place]["owner"].as_str();
        owner.unwrap_or_default().to_owned()
    })
}

/// The watch has nothing to send: only the next owner's segment tells it that its connection is nobody's.
fn an_idle_watch_is_told_of_its_owners_death(fixture: &Fixture) {
    let watcher = fixture.expect(Watcher::begin(&fixture.cluster));
    wait_for_event(fixture, &watcher, "m1", "before");
    // The owner tells the others of its clients three times a second.
    fixture.wait_until("an owner that has told of it", A_MINUTE, || {
        let since = watcher.saw("before").map(|at| at.elapsed());
        Look::at(since > Some(Duration::from_secs(2)), || {
            format!("{since:?}")
        })
    });
    let owner = wait_for_owner(fixture).owner.expect("an owner");
    let connections = watcher.connections();
    fixture.expect(node(fixture, &owner).cut_power());
    let died = Instant::now();
    let [through, ..] = others(&owner)[..] else {
        panic!("nobody else")
    };
    let told = wait_for_event(fixture, &watcher, through, "after") - died;
    println!(
        "idle watch: told {} ms after its owner's death",
        told.as_millis()
    );
    let soon = fixture.patience().of(SOON);
    assert!(
        told < soon,
        "told after {told:?}, where {soon:?} is the bound"
    );
    assert!(watcher.connections() > connections);
    fixture.expect(node(fixture, &owner).power_on());
    wait_for_voters(fixture, &THREE, 3);
    fixture.expect(fixture.cluster.wait_until_ready());
}

/// Makes an object through a master, past the address, and says when the watcher was told of it.
fn wait_for_event(fixture: &Fixture, watcher: &Watcher, through: &str, name: &str) -> Instant {
    fixture.wait_until("a write past the address", A_MINUTE, || {
        let made = kubectl_through(&fixture.cluster, through, &["create", "configmap", name]);
        match made {
            Ok(_) => Look::Done(()),
            Err(error) if chain(&error).contains("already exists") => Look::Done(()),
            Err(error) => Look::NotYet(chain(&error)),
        }
    });
    fixture.wait_until("the watcher to be told", A_MINUTE, || {
        match watcher.saw(name) {
            Some(at) => Look::Done(at),
            None => Look::NotYet(format!("nothing of {name}")),
        }
    })
}

/// Each master in turn: the address is handed to it, and then it reboots, with the address.
fn moves_and_reboots_fail_no_request_twice(fixture: &Fixture) {
    let writers = Writers::through_endpoint(&fixture.cluster, WRITERS, IMPATIENT);
    let writers = fixture.expect(writers);
    goes_on(fixture, &writers);
    for name in THREE {
        moves(fixture, &ENDPOINT.to_string(), name);
        goes_on(fixture, &writers);
        assert_eq!(wait_for_owner(fixture).owner.as_deref(), Some(name));
        let words = ["reboot", name, "--wait", "--wait-timeout", LONG];
        fixture.expect(run(fixture.cluster.mastctl().args(words)));
        goes_on(fixture, &writers);
        assert_ne!(wait_for_owner(fixture).owner.as_deref(), Some(name));
        wait_for_voters(fixture, &THREE, 3);
        fixture.expect(fixture.cluster.wait_until_ready());
    }
    let written = writers.stop();
    nothing_is_lost(fixture, &written);
    let twice = written.failed_twice();
    assert!(
        twice.is_empty(),
        "of {} writes: {twice:#?}",
        written.count()
    );
}

/// Clients that connect again within a millisecond after their connection was reset.
fn whoever_comes_back_at_once_finds_the_next_owner(fixture: &Fixture) {
    let writers = Writers::through_endpoint(&fixture.cluster, WRITERS, HASTY);
    let writers = fixture.expect(writers);
    for name in THREE.iter().cycle().take(12) {
        goes_on(fixture, &writers);
        moves(fixture, &ENDPOINT.to_string(), name);
    }
    goes_on(fixture, &writers);
    let written = writers.stop();
    nothing_is_lost(fixture, &written);
    let twice = written.failed_twice();
    assert!(
        twice.is_empty(),
        "of {} writes: {twice:#?}",
        written.count()
    );
}

/// The rules of its gate, and the address itself, are taken from the owner's kernel. No other master can help: their apiservers hang.
fn what_somebody_else_does_to_the_owners_kernel_is_mended(fixture: &Fixture) {
    let owner = wait_for_owner(fixture).owner.expect("an owner");
    for other in others(&owner) {
        fixture.expect(node(fixture, other).signal("kube-apiserver", Signal::Stop));
    }
    let supervisors = fixture.expect(node(fixture, &owner).processes("supervisor"));
    let [supervisor] = supervisors[..] else {
        panic!("{supervisors:?}")
    };
    let inside = |words: &[&str]| {
        let mut inside = Command::new("nsenter");
        inside.args(["--net", "--target", &supervisor.to_string()]);
        run(inside.args(words))
    };
    let address = format!("{ENDPOINT}/32");
    for (harm, look) in [
        (
            &["nft", "flush", "ruleset"][..],
            &["nft", "list", "table", "netdev", "masthead-vip"][..],
        ),
        (
            &["ip", "address", "del", &address, "dev", "eth0"],
            &["ip", "address", "show", "to", &address, "dev", "eth0"],
        ),
    ] {
        fixture.expect(inside(harm));
        fixture.wait_until("the owner to mend it", A_MINUTE, || match inside(look) {
            Ok(shown) => Look::at(shown.contains(&ENDPOINT.to_string()), || shown),
            Err(error) => Look::NotYet(chain(&error)),
        });
        let writers = Writers::through_endpoint(&fixture.cluster, WRITERS, PATIENT);
        goes_on(fixture, &fixture.expect(writers));
        assert_eq!(wait_for_owner(fixture).owner.as_ref(), Some(&owner));
    }
    for other in others(&owner) {
        // Its supervisor may have replaced it by now.
        let _ = node(fixture, other).signal("kube-apiserver", Signal::Continue);
    }
    fixture.expect(fixture.cluster.wait_until_ready());
    moves(fixture, &ENDPOINT.to_string(), others(&owner)[0]);
}

/// Nobody is better: so the address stays, its owner says so, and the first apiserver that serves again has the clients.
fn an_owner_keeps_the_address_when_no_apiserver_serves(fixture: &Fixture) {
    wait_for_owner(fixture);
    let writers = Writers::through_endpoint(&fixture.cluster, WRITERS, PATIENT);
    let writers = fixture.expect(writers);
    goes_on(fixture, &writers);
    for name in THREE {
        fixture.expect(node(fixture, name).signal("kube-apiserver", Signal::Stop));
    }
    // The first one that notices may hand it to another one that has not yet.
    fixture.wait_until("an owner that says so", A_MINUTE, || {
        let addresses = THREE.map(|name| {
            let status = fixture.expect(fixture.status_of(name));
            status["virtual_addresses"][0].clone()
        });
        let says = addresses.iter().any(|address| {
            address["state"] == "owner" && address["reason"]["code"] == "vip-unready"
        });
        Look::at(says, || format!("{addresses:?}"))
    });
    for name in THREE {
        // Its supervisor may have replaced it by now.
        let _ = node(fixture, name).signal("kube-apiserver", Signal::Continue);
    }
    goes_on(fixture, &writers);
    nothing_is_lost(fixture, &writers.stop());
}

/// The owner announces itself at once, which it would else have done half a minute later.
fn a_stranger_that_claims_the_address_is_contradicted(fixture: &Fixture) {
    let owner = wait_for_owner(fixture).owner.expect("an owner");
    let owner = node(fixture, &owner).plan().mac();
    let mut tap = fixture.expect(fixture.cluster.tap());
    let quiet = fixture.patience().of(QUIET);
    fixture.wait_until("an owner that has told everybody", A_MINUTE, || {
        let announced = fixture.expect(heard(tap.as_mut(), owner, quiet));
        Look::at(!announced, || "it announces itself still".to_owned())
    });
    fixture.expect(tap.say(&announcement(STRANGER, ENDPOINT)));
    assert!(fixture.expect(heard(tap.as_mut(), owner, quiet)));
}

/// An ARP announcement (RFC 5227, 3).
fn announcement(of: Mac, address: Ipv4Addr) -> Vec<u8> {
    [
        &[0xff; 6][..],
        &of.0,
        &[0x08, 0x06, 0, 1, 0x08, 0, 6, 4, 0, 1],
        &of.0,
        &address.octets(),
        &[0; 6],
        &address.octets(),
    ]
    .concat()
}

/// Whether the owner announces the address in that time.
fn heard(tap: &mut dyn Tap, owner: Mac, patience: Duration) -> Result<bool> {
    let meant = announcement(owner, ENDPOINT);
    let until = Instant::now() + patience;
    while let Some(frame) = tap.hear(until.saturating_duration_since(Instant::now()))? {
        let said = frame.bytes.get(12..42);
        if said.is_some() && said == meant.get(12..42) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn goes_on(fixture: &Fixture, writers: &Writers) {
    let before = writers.acknowledged();
    fixture.wait_until("writes through the address", A_MINUTE, || {
        let now = writers.acknowledged();
        Look::at(now >= before + ENOUGH, || format!("{now} after {before}"))
    });
}
