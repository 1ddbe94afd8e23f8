//! PID 1 itself, as process 1 of new user, PID, mount, control group, network, UTS and IPC namespaces.
//!
//! Needs root, to make a control group and to start the node as another user; the node itself is
//! root of its own user namespace only. The supervisor is `examples/stand_in.rs`.

mod support;

use std::os::unix::process::ExitStatusExt;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use support::{Node, send, state_of};

#[test]
fn exits_outlive_the_supervisor_until_one_acknowledges_them() {
    let node = Node::start("orphans");
    node.wait_for_report("welcome 1 None");
    let orphans = node.reported("orphan ");
    assert_eq!(orphans.len(), 3);

    node.behave("");
    send(node.supervisor(), Signal::SIGKILL);
    node.wait_for_report("welcome 2 Killed(9)");
    node.let_go();
    for (orphan, code) in orphans.iter().zip(40..) {
        node.wait_for_report(&format!("exit {orphan} {code}"));
    }
    assert_eq!(node.reported("exit ").len(), 3, "an exit is sent once");

    node.behave("replay acknowledge");
    send(node.supervisor(), Signal::SIGKILL);
    node.wait_until("the exits are replayed and acknowledged", || {
        node.reported("acknowledged ").len() == 3
    });
    let mut replayed = node.reported("exit ").split_off(3);
    replayed.sort_unstable();
    let mut expected: Vec<String> = orphans
        .iter()
        .zip(40..)
        .map(|(orphan, code)| format!("{orphan} {code}"))
        .collect();
    expected.sort_unstable();
    assert_eq!(replayed, expected);

    // The next one asks again, and hears only of what is new.
    node.behave("replay acknowledge orphans");
    send(node.supervisor(), Signal::SIGKILL);
    node.wait_for_report("welcome 4 Killed(9)");
    node.behave("replay");
    send(node.supervisor(), Signal::SIGKILL);
    node.wait_for_report("welcome 5 Killed(9)");
    let new = node.reported("orphan ").split_off(3);
    for orphan in &new {
        node.wait_until("the new orphans are reported", || {
            node.reported("exit ")
                .iter()
                .any(|exit| exit.starts_with(&format!("{orphan} ")))
        });
    }
    let later = node.reported("exit ").split_off(6);
    assert!(
        later.iter().all(|exit| !orphans
            .iter()
            .any(|old| exit.starts_with(&format!("{old} ")))),
        "{later:?}"
    );
    node.wait_until("everything is reaped", || {
        node.children_of_pid1().len() == 1
    });
}

#[test]
fn a_silent_supervisor_is_killed_and_replaced() {
    let node = Node::start("");
    node.wait_for_report("welcome 1 None");
    node.wait_until("its first beat came", || {
        node.age() > Duration::from_millis(300)
    });
    let stopped = Instant::now();
    let silent = node.supervisor();
    send(silent, Signal::SIGSTOP);
    node.wait_for_report("welcome 2 Silent");
    let silence = stopped.elapsed();
    // 5 s at a scale of 0.1, and half of it again for a busy machine.
    assert!(silence > Duration::from_millis(400), "{silence:?}");
    assert!(
        silence < Duration::from_millis(750) + support::SLACK,
        "{silence:?}"
    );
    assert!(node.log().contains("is silent for too long: killing it"));
    assert_eq!(state_of(silent), None, "there are never two");
    assert!(!node.log().contains("does not die"));
}

#[test]
fn a_supervisor_that_dies_at_once_is_tried_again() {
    let node = Node::start("die-at-once");
    node.wait_until("it was tried five times", || {
        node.reported("died").len() >= 5
    });
    node.behave("");
    node.wait_until("it was started", || !node.reported("welcome ").is_empty());
    assert!(node.reported("welcome ")[0].contains(" Exited(3) "));
    assert!(
        node.log()
            .contains("the supervisor exited with code 3; the next in ")
    );
}

#[test]
fn dead_supervisors_cost_pid_1_nothing() {
    let node = Node::start_with("die-at-once", "0.01");
    let died = |enough: usize| {
        node.wait_until("they died", || node.reported("died").len() >= enough);
        node.cost_of_pid1()
    };
    let (open, own) = died(10);
    let (open_after, own_after) = died(60);
    // Either look may be between the start of one and its end.
    assert!(open_after <= open + 2, "{open_after} open, not {open}");
    assert!(own_after <= own + 64, "{own_after} KiB, not {own}");
    assert!(node.children_of_pid1().len() <= 1, "never two");
}

#[test]
fn term_switches_off_and_int_reboots() {
    for (signal, word, how) in [
        (Signal::SIGTERM, "stop PowerOff", Signal::SIGINT),
        (Signal::SIGINT, "stop Reboot", Signal::SIGHUP),
    ] {
        let mut node = Node::start("");
        node.wait_for_report("welcome 1 None");
        send(node.pid1(), signal);
        let status = node.wait_for_end();
        assert_eq!(
            status.signal(),
            Some(how as i32),
            "as reboot(2) ends a PID namespace"
        );
        assert_eq!(node.reported("stop ").len(), 1);
        assert!(!node.reported(word).is_empty());
        assert!(node.log().contains("asking all processes to end"));
    }
}

#[test]
fn a_supervisor_that_dies_while_it_stops_services_is_replaced_and_asked_again() {
    let mut node = Node::start("never-stops");
    node.wait_for_report("welcome 1 None");
    send(node.pid1(), Signal::SIGTERM);
    node.wait_for_report("stop PowerOff");
    node.behave("");
    send(node.supervisor(), Signal::SIGKILL);
    let status = node.wait_for_end();
    assert_eq!(status.signal(), Some(Signal::SIGINT as i32));
    assert_eq!(node.reported("stop PowerOff").len(), 2);
}

/// PID 1 gets to look only when the supervisor that sent it is dead, as on a busy machine.
#[test]
fn an_operators_word_is_taken_also_from_a_supervisor_that_is_dead_by_then() {
    let mut node = Node::start("asks-when-let");
    node.wait_until("a supervisor runs", || {
        node.log().contains("started the supervisor")
    });
    node.stop_pid1();
    node.let_go();
    node.wait_for_report("asked");
    node.behave("");
    let supervisor = node.supervisor();
    send(supervisor, Signal::SIGKILL);
    node.wait_until("the supervisor is dead", || {
        state_of(supervisor) == Some('Z')
    });
    send(node.pid1(), Signal::SIGCONT);
    let status = node.wait_for_end();
    assert_eq!(status.signal(), Some(Signal::SIGINT as i32));
    assert_eq!(node.reported("stop "), ["PowerOff"]);
}

#[test]
fn a_signal_that_comes_before_pid_1_is_ready_is_kept() {
    let mut node = Node::stopped_early();
    send(node.pid1(), Signal::SIGTERM);
    send(node.pid1(), Signal::SIGCONT);
    let status = node.wait_for_end();
    assert_eq!(status.signal(), Some(Signal::SIGINT as i32));
    assert!(node.log().contains("asked to power off by signal 15"));
}

#[test]
fn a_full_link_does_not_swallow_the_word_to_stop() {
    // Its first beat comes after the crowd, which a busy machine takes seconds for.
    let mut node = Node::start_with("crowd deaf", "1");
    node.wait_for_report("crowded");
    node.wait_until("the crowd is reaped", || node.children_of_pid1().len() == 1);
    let told = node.log().matches("the table of exits is full").count();
    assert!(
        (1..=10).contains(&told),
        "{told} lines for hundreds of exits"
    );
    send(node.pid1(), Signal::SIGTERM);
    node.wait_until("PID 1 wants the services stopped", || {
        node.log().contains("asking the supervisor to stop")
    });
    node.let_go();
    let status = node.wait_for_end();
    assert_eq!(node.reported("stop "), ["PowerOff"]);
    assert_eq!(status.signal(), Some(Signal::SIGINT as i32));
}

#[test]
fn a_supervisor_ends_with_a_task_that_panics_and_not_with_blocking_work() {
    let node = Node::start("panics-beside");
    node.wait_for_report("told of a panic: true");
    node.wait_for_report("welcome 1 None");
    node.behave("panics");
    send(node.supervisor(), Signal::SIGKILL);
    node.wait_until("it ended by SIGABRT", || {
        node.log().contains("the supervisor was killed by signal 6")
    });
}

#[test]
fn the_supervisors_word_ends_the_node() {
    let mut node = Node::start("powers-off");
    assert_eq!(node.wait_for_end().signal(), Some(Signal::SIGINT as i32));
    assert!(
        node.log()
            .contains("the supervisor has stopped the services: power off")
    );
}

#[test]
fn the_node_is_as_the_tables_say() {
    let node = Node::start("compare");
    node.wait_for_report("compared");
    assert_eq!(node.reported("difference: "), Vec::<String>::new());
    let groups = node.control_groups();
    assert_eq!(
        groups,
        (vec!["/init".to_owned()], vec!["/supervisor".to_owned()])
    );
}

#[test]
fn a_pid_1_that_cannot_go_on_says_why_and_ends() {
    let mut node = Node::start_with("", "fast");
    assert_eq!(node.wait_for_end().signal(), Some(Signal::SIGHUP as i32));
    let log = node.log();
    assert!(
        log.contains("cannot go on: the argument `--timing-scale=fast` is wrong"),
        "{log}"
    );
    assert!(log.contains("is not a number from 0.01 to 1000"), "{log}");
}
