use rustix::net::SendFlags;

use super::*;

const PROCESS: ProcessKey = ProcessKey {
    pid: 0x0102_0304,
    start_time: 0x1122_3344_5566_7788,
};

const FROM_SUPERVISOR: [FromSupervisor; 6] = [
    FromSupervisor::Beat,
    FromSupervisor::Acknowledge(PROCESS),
    FromSupervisor::Replay,
    FromSupervisor::Shutdown(Ending::Reboot),
    FromSupervisor::Shutdown(Ending::PowerOff),
    FromSupervisor::Request(Ending::Reboot),
];

fn from_pid1() -> Vec<FromPid1> {
    let mut messages = vec![
        FromPid1::Exit(Exit {
            process: PROCESS,
            wait_status: -9,
        }),
        FromPid1::Exit(Exit {
            process: PROCESS,
            wait_status: 0x0100,
        }),
        FromPid1::Stop(Ending::Reboot),
        FromPid1::Stop(Ending::PowerOff),
    ];
    for node_kind in [NodeKind::Machine, NodeKind::Namespace] {
        for previous_end in [
            PreviousEnd::None,
            PreviousEnd::Exited(3),
            PreviousEnd::Killed(9),
            PreviousEnd::Silent,
        ] {
            messages.push(FromPid1::Welcome(Welcome {
                node_kind,
                timing_scale: Scale::new(12.5).expect("a scale"),
                supervisor_starts: 7,
                previous_end,
            }));
        }
    }
    messages
}

#[test]
fn every_message_survives_the_round_trip() {
    for message in FROM_SUPERVISOR {
        assert_eq!(FromSupervisor::decode(&message.encode()), Ok(message));
    }
    for message in from_pid1() {
        assert_eq!(FromPid1::decode(&message.encode()), Ok(message));
    }
}

#[test]
fn the_encoding_is_little_endian_and_fixed() {
    let packet = FromSupervisor::Acknowledge(PROCESS).encode();
    assert_eq!(
        packet[..16],
        [
            2, 0, 0, 0, 4, 3, 2, 1, 0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11
        ]
    );
    assert_eq!(packet[16..], [0; 16]);
}

#[test]
fn what_means_nothing_is_refused() {
    assert_eq!(
        FromSupervisor::decode(&[0; 31]),
        Err(DecodeError::Length(31))
    );
    assert_eq!(
        FromSupervisor::decode(&[9; 32]),
        Err(DecodeError::Field {
            field: "kind",
            value: 0x0909_0909
        })
    );
    let mut packet = FromSupervisor::Shutdown(Ending::Reboot).encode();
    packet[4] = 3;
    assert_eq!(
        FromSupervisor::decode(&packet),
        Err(DecodeError::Field {
            field: "ending",
            value: 3
        })
    );
    // Neither side takes its own words for the other's.
    for message in from_pid1() {
        assert!(FromSupervisor::decode(&message.encode()).is_err());
    }
    for message in FROM_SUPERVISOR {
        assert!(FromPid1::decode(&message.encode()).is_err());
    }
}

#[tokio::test]
async fn both_ends_talk() {
    let (pid1, theirs) = pair().expect("a socket pair");
    let supervisor = SupervisorLink::new(theirs).expect("an asynchronous end");
    assert_eq!(pid1.receive().expect("an open link"), Received::Nothing);

    supervisor.beat().await.expect("sent");
    supervisor.acknowledge(PROCESS).await.expect("sent");
    supervisor.replay().await.expect("sent");
    supervisor.shutdown(Ending::PowerOff).await.expect("sent");
    for expected in [
        FromSupervisor::Beat,
        FromSupervisor::Acknowledge(PROCESS),
        FromSupervisor::Replay,
        FromSupervisor::Shutdown(Ending::PowerOff),
    ] {
        assert_eq!(
            pid1.receive().expect("an open link"),
            Received::Message(expected)
        );
    }

    for message in from_pid1() {
        assert!(pid1.send(message).expect("an open link"));
        assert_eq!(supervisor.next_message().await.expect("a message"), message);
    }
}

#[tokio::test]
async fn pid1_never_waits_for_a_supervisor_that_does_not_read() {
    let (pid1, theirs) = pair().expect("a socket pair");
    let mut sent = 0;
    while pid1
        .send(FromPid1::Stop(Ending::Reboot))
        .expect("an open link")
    {
        sent += 1;
        assert!(sent < 1_000_000, "the buffer never fills");
    }
    // Room again once the supervisor reads.
    let supervisor = SupervisorLink::new(theirs).expect("an asynchronous end");
    for _ in 0..sent {
        supervisor.next_message().await.expect("a message");
    }
    assert!(
        pid1.send(FromPid1::Stop(Ending::Reboot))
            .expect("an open link")
    );
}

#[tokio::test]
async fn a_closed_end_and_garbage_are_told_apart() {
    let (pid1, theirs) = pair().expect("a socket pair");
    rustix::net::send(&theirs, &[1; 40], SendFlags::empty()).expect("sent");
    assert_eq!(
        pid1.receive().expect("an open link"),
        Received::Garbage(DecodeError::Length(40))
    );
    drop(theirs);
    assert_eq!(pid1.receive().expect("an end"), Received::Closed);

    let (pid1, theirs) = pair().expect("a socket pair");
    let supervisor = SupervisorLink::new(theirs).expect("an asynchronous end");
    drop(pid1);
    let error = supervisor.next_message().await.expect_err("PID 1 is gone");
    assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
}
