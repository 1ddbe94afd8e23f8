//! Keeps the clock right by the seed's time servers (SNTP, RFC 4330 and 5905): certificates and the order of log lines depend on it. Ownership of virtual
//! addresses does not, and neither does etcd.

mod choose;
mod kernel;

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::time::{Duration, SystemTime};

use masthead_api::status::{Clock, ClockState};
use masthead_api::{Reason, ReasonCode, Timestamp};
use masthead_machine::Scale;
use rsntp::{AsyncSntpClient, Config};
use serde::Deserialize;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::error_chain::with_sources;
use choose::{Answer, Correction, choose, correct, pause};
use kernel::Machine;

/// How long a server may take.
const TO_ANSWER: Duration = Duration::from_secs(3);
/// Of NTP.
const PORT: u16 = 123;
/// Says when the image was built, before which no clock is set.
const RELEASE: &str = "/etc/masthead/release.json";

/// There once the clock was right in this boot, for a supervisor that replaces this one.
const WAS_RIGHT: &str = "/run/masthead/clock-was-right";

#[derive(Debug, Deserialize)]
struct Release {
    build_time: u64,
}

/// Asks these servers for ever, corrects the clock, and reports how it stands.
pub async fn keep(servers: Vec<String>, scale: Scale, report: watch::Sender<Option<Clock>>) {
    let built = built().unwrap_or_else(|error| {
        tracing::warn!(%error, "{RELEASE} cannot be read: the clock may be set before the image was built");
        SystemTime::UNIX_EPOCH
    });
    let mut keeper = Keeper {
        clock: Machine,
        built,
        is_first: !Path::new(WAS_RIGHT).exists(),
    };
    let mut last = None;
    loop {
        let (answers, failures) = ask_all(&servers, PORT, scale * TO_ANSWER).await;
        let told = keeper.take(&answers, &failures, SystemTime::now());
        let offset = told.offset_us.filter(|_| told.reason.is_none());
        let wait = pause(last, offset.map(seconds));
        last = Some(wait);
        publish(&report, told);
        if !keeper.is_first
            && let Err(error) = std::fs::write(WAS_RIGHT, "")
        {
            tracing::warn!(%error, "{WAS_RIGHT} cannot be written");
        }
        tokio::time::sleep(wait).await;
    }
}

fn built() -> io::Result<SystemTime> {
    let text = std::fs::read(RELEASE)?;
    let release: Release = serde_json::from_slice(&text)?;
    Ok(SystemTime::UNIX_EPOCH + Duration::from_secs(release.build_time))
}

/// The answers, and why each of the others gave none.
async fn ask_all(servers: &[String], port: u16, patience: Duration) -> (Vec<Answer>, Vec<String>) {
    let mut asking = JoinSet::new();
    for server in servers {
        asking.spawn(ask(server.clone(), port, patience));
    }
    let (mut answers, mut failures) = (Vec::new(), Vec::new());
    for outcome in asking.join_all().await {
        match outcome {
            Ok(answer) => answers.push(answer),
            Err(failure) => failures.push(failure),
        }
    }
    failures.sort();
    (answers, failures)
}

async fn ask(server: String, port: u16, patience: Duration) -> Result<Answer, String> {
    let failed = |why: String| format!("{server}: {why}");
    let asked = async {
        let found = tokio::net::lookup_host((server.as_str(), port)).await;
        let address = found.map_err(|error| failed(error.to_string()))?.next();
        let address = address.ok_or_else(|| failed("the name has no address".to_owned()))?;
        let own: SocketAddr = if address.is_ipv4() {
            (Ipv4Addr::UNSPECIFIED, 0).into()
        } else {
            (Ipv6Addr::UNSPECIFIED, 0).into()
        };
        let client =
            AsyncSntpClient::with_config(Config::default().bind_address(own).timeout(patience));
        let answer = client.synchronize(address).await;
        let answer = answer.map_err(|error| failed(with_sources(&error)))?;
        Ok(Answer {
            server: server.clone(),
            offset: answer.clock_offset().as_secs_f64(),
            delay: answer.round_trip_delay().as_secs_f64(),
        })
    };
    match tokio::time::timeout(patience, asked).await {
        Ok(outcome) => outcome,
        Err(_) => Err(failed(format!("no answer within {} s", patience.as_secs()))),
    }
}

/// A clock, and what is known of it.
struct Keeper<C> {
    clock: C,
    /// No clock was ever earlier.
    built: SystemTime,
    /// It was not right yet.
    is_first: bool,
}

impl<C: kernel::Clock> Keeper<C> {
    /// Corrects the clock by what the servers say, and tells how it stands.
    fn take(&mut self, answers: &[Answer], failures: &[String], now: SystemTime) -> Clock {
        let Some(answer) = choose(answers) else {
            return without(answers, failures);
        };
        let correction = match correct(answer.offset, self.is_first) {
            Correction::Set(by) if !self.is_possible(now, by) => Correction::Refuse(by),
            other => other,
        };
        let done = match correction {
            Correction::Slew(by) => self.clock.slew(by),
            Correction::Set(by) => {
                tracing::warn!(by, server = answer.server, "the clock is set");
                self.clock.set(by)
            }
            Correction::Refuse(by) => {
                return unsynchronized(
                    ReasonCode::ClockJumpRefused,
                    format!(
                        "{} says that this clock is wrong by {by:.0} s.",
                        answer.server
                    ),
                    Some(answer),
                );
            }
        };
        if let Err(error) = done {
            let cause = format!("The kernel refuses to correct the clock: {error}.");
            return unsynchronized(ReasonCode::ClockUnsynchronized, cause, Some(answer));
        }
        self.is_first = false;
        Clock {
            state: ClockState::Synchronized,
            server: Some(answer.server.clone()),
            offset_us: Some(microseconds(answer.offset)),
            at: Some(Timestamp::now()),
            reason: None,
        }
    }

    fn is_possible(&self, now: SystemTime, by: f64) -> bool {
        let amount = Duration::try_from_secs_f64(by.abs()).ok();
        let wanted = amount.and_then(|amount| {
            if by < 0.0 {
                now.checked_sub(amount)
            } else {
                now.checked_add(amount)
            }
        });
        wanted.is_some_and(|wanted| wanted >= self.built)
    }
}

/// None of them is believed, or none there is.
fn without(answers: &[Answer], failures: &[String]) -> Clock {
    if answers.is_empty() {
        let cause = format!("No time server answers: {}.", failures.join("; "));
        return unsynchronized(ReasonCode::ClockUnsynchronized, cause, None);
    }
    let said = |one: &Answer| format!("{} by {:.3} s", one.server, one.offset);
    let said: Vec<_> = answers.iter().map(said).collect();
    let cause = format!(
        "The time servers do not agree on how wrong this clock is: {}.",
        said.join(", ")
    );
    unsynchronized(ReasonCode::ClockServersDisagree, cause, None)
}

fn unsynchronized(code: ReasonCode, cause: String, answer: Option<&Answer>) -> Clock {
    Clock {
        state: ClockState::Unsynchronized,
        server: answer.map(|answer| answer.server.clone()),
        offset_us: answer.map(|answer| microseconds(answer.offset)),
        at: None,
        reason: Some(Reason::new(code, Timestamp::now()).with_cause(cause)),
    }
}

#[expect(clippy::cast_possible_truncation, reason = "it saturates")]
fn microseconds(seconds: f64) -> i64 {
    (seconds * 1e6) as i64
}

#[expect(clippy::cast_precision_loss, reason = "only what is small matters")]
fn seconds(microseconds: i64) -> f64 {
    microseconds as f64 / 1e6
}

/// A reason that still holds is kept, with the time since when it does.
fn publish(report: &watch::Sender<Option<Clock>>, mut told: Clock) {
    report.send_modify(|known| {
        let before = known.as_ref().and_then(|known| known.reason.as_ref());
        if let (Some(before), Some(now)) = (before, told.reason.as_mut())
            && before.code == now.code
        {
            now.since = before.since;
        }
        *known = Some(told);
    });
}

#[cfg(test)]
mod tests;
