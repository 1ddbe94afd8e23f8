use tokio::net::UdpSocket;

use super::*;

/// A clock that only remembers.
#[derive(Debug, Default, PartialEq)]
struct Remembered(Vec<(&'static str, i64)>);

impl kernel::Clock for Remembered {
    fn slew(&mut self, by: f64) -> io::Result<()> {
        self.0.push(("slew", microseconds(by)));
        Ok(())
    }

    fn set(&mut self, by: f64) -> io::Result<()> {
        self.0.push(("set", microseconds(by)));
        Ok(())
    }
}

fn keeper() -> Keeper<Remembered> {
    Keeper {
        clock: Remembered::default(),
        built: SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000),
        is_first: true,
    }
}

fn answer(server: &str, offset: f64) -> Answer {
    Answer {
        server: server.to_owned(),
        offset,
        delay: 0.01,
    }
}

fn code(told: &Clock) -> Option<&ReasonCode> {
    told.reason.as_ref().map(|reason| &reason.code)
}

#[test]
fn a_wrong_clock_is_set_once_and_slewed_afterwards() {
    let mut keeper = keeper();
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(2_000_000);
    let told = keeper.take(&[answer("a", 7200.0)], &[], now);
    assert_eq!(told.state, ClockState::Synchronized);
    assert_eq!(told.server.as_deref(), Some("a"));
    keeper.take(&[answer("a", -0.25)], &[], now);
    assert_eq!(keeper.clock.0, [("set", 7_200_000_000), ("slew", -250_000)]);

    // A server that has lost its mind meanwhile.
    let told = keeper.take(&[answer("a", 1e8)], &[], now);
    assert_eq!(code(&told), Some(&ReasonCode::ClockJumpRefused));
    assert_eq!(keeper.clock.0.len(), 2, "nothing was done");
}

#[test]
fn no_clock_is_set_before_the_image_was_built() {
    let mut keeper = keeper();
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_100);
    let told = keeper.take(&[answer("a", -101.0)], &[], now);
    assert_eq!(code(&told), Some(&ReasonCode::ClockJumpRefused));
    let told = keeper.take(&[answer("a", -1e12)], &[], now);
    assert_eq!(code(&told), Some(&ReasonCode::ClockJumpRefused));
    assert_eq!(keeper.clock.0, []);
    keeper.take(&[answer("a", -99.0)], &[], now);
    assert_eq!(keeper.clock.0, [("set", -99_000_000)]);
}

#[test]
fn servers_that_are_silent_or_disagree_are_named() {
    let mut keeper = keeper();
    let now = SystemTime::now();
    let told = keeper.take(&[], &["a: no answer within 3 s".to_owned()], now);
    assert_eq!(code(&told), Some(&ReasonCode::ClockUnsynchronized));
    let cause = told.reason.map(|reason| reason.cause).unwrap_or_default();
    assert_eq!(cause, "No time server answers: a: no answer within 3 s.");
    let told = keeper.take(&[answer("a", 0.0), answer("b", 9.0)], &[], now);
    assert_eq!(code(&told), Some(&ReasonCode::ClockServersDisagree));
    let cause = told.reason.map(|reason| reason.cause).unwrap_or_default();
    assert!(cause.ends_with("a by 0.000 s, b by 9.000 s."), "{cause}");
    assert_eq!(keeper.clock.0, []);
}

#[test]
fn a_reason_that_still_holds_keeps_its_time() {
    let (report, known) = watch::channel(None);
    let told = |code| unsynchronized(code, "why".to_owned(), None);
    let mut first = told(ReasonCode::ClockUnsynchronized);
    let since = Timestamp::from_unix_millis(1_000_000);
    first.reason.as_mut().unwrap().since = since;
    publish(&report, first);
    publish(&report, told(ReasonCode::ClockUnsynchronized));
    let now = || known.borrow().clone().unwrap().reason.unwrap().since;
    assert_eq!(now(), since);
    publish(&report, told(ReasonCode::ClockServersDisagree));
    assert_ne!(now(), since);
}

/// Answers as an NTP server (RFC 5905, 7.3) whose clock is ahead by so many seconds, and whose stratum is this.
async fn serve(socket: UdpSocket, ahead: u64, stratum: u8) {
    const FROM_1900_TO_1970: u64 = 2_208_988_800;
    let mut packet = [0; 48];
    loop {
        let (_, client) = socket.recv_from(&mut packet).await.unwrap();
        let now = SystemTime::now() + Duration::from_secs(ahead);
        let now = now.duration_since(SystemTime::UNIX_EPOCH).unwrap();
        let seconds = u32::try_from((now.as_secs() + FROM_1900_TO_1970) & 0xffff_ffff).unwrap();
        let fraction = (u64::from(now.subsec_nanos()) << 32) / 1_000_000_000;
        let time = [seconds, u32::try_from(fraction).unwrap()]
            .map(u32::to_be_bytes)
            .concat();
        let mut reply = [0; 48];
        // No leap second, version 4, server; and then the stratum.
        reply[..2].copy_from_slice(&[0b00_100_100, stratum]);
        reply[24..32].copy_from_slice(&packet[40..48]);
        reply[32..40].copy_from_slice(&time);
        reply[40..48].copy_from_slice(&time);
        socket.send_to(&reply, client).await.unwrap();
    }
}

#[tokio::test]
async fn servers_are_asked_by_ntp_and_each_failure_is_told() {
    let patience = Duration::from_secs(5);
    for own in ["127.0.0.1:0", "[::1]:0"] {
        let Ok(socket) = UdpSocket::bind(own).await else {
            continue; // A host without IPv6.
        };
        let address = socket.local_addr().unwrap();
        let server = tokio::spawn(serve(socket, 3600, 2));
        let asked = [address.ip().to_string()];
        let (answers, failures) = ask_all(&asked, address.port(), patience).await;
        assert_eq!(failures, Vec::<String>::new());
        assert!((answers[0].offset - 3600.0).abs() < 1.0, "{answers:?}");
        server.abort();
    }

    // One that does not know the time itself, and one that says nothing.
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let port = socket.local_addr().unwrap().port();
    let server = tokio::spawn(serve(socket, 0, 16));
    let (answers, failures) = ask_all(&["127.0.0.1".to_owned()], port, patience).await;
    assert_eq!(answers, []);
    assert!(failures[0].starts_with("127.0.0.1: "), "{failures:?}");
    server.abort();
    let silent = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let port = silent.local_addr().unwrap().port();
    let short = Duration::from_millis(50);
    let (answers, failures) = ask_all(&["127.0.0.1".to_owned()], port, short).await;
    assert_eq!((answers.len(), failures.len()), (0, 1), "{failures:?}");
}
