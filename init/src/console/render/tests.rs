use super::*;
use crate::console::examples;

#[test]
fn a_running_master() {
    assert_eq!(
        render(&examples::running(), 80),
        include_str!("running.golden")
    );
}

#[test]
fn a_machine_without_a_good_seed() {
    assert_eq!(
        render(&examples::seedless(), 80),
        include_str!("seedless.golden")
    );
}

#[test]
fn the_first_screen_promises_no_list_of_places_that_is_empty() {
    let mut status = examples::seedless();
    status.seed.attempts.clear();
    let text = render(&status, 80);
    assert!(
        text.contains("\nseed    none yet, looking for it\n"),
        "{text}"
    );
    assert!(!text.contains("looked at"), "{text}");
}

#[test]
fn a_failing_master_says_what_fails_and_what_to_do() {
    assert_eq!(
        render(&examples::failing(), 80),
        include_str!("failing.golden")
    );
}

#[test]
fn no_line_is_wider_than_the_screen_and_none_steers_it() {
    for status in [
        examples::running(),
        examples::seedless(),
        examples::failing(),
    ] {
        for width in [40, 57, 80, 132] {
            let text = render(&status, width);
            for line in text.lines() {
                assert!(line.chars().count() <= width, "{width}: {line}");
                assert!(!line.contains(char::is_control), "{line:?}");
            }
        }
    }
}

#[test]
fn time_alone_changes_nothing() {
    let mut status = examples::running();
    let before = render(&status, 80);
    status.node.uptime += 1;
    status.services[0].probes[0].at = Timestamp::from_unix_millis(0);
    status.node.supervisor.processor = Some(99_999);
    assert_eq!(render(&status, 80), before);
    status.services[0].restarts += 1;
    assert_ne!(render(&status, 80), before);
}
