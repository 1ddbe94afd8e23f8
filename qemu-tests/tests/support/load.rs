//! Writers through some masters, while something happens to others.
#![allow(dead_code, reason = "each test file uses its part")]

use std::time::Duration;

use masthead_lab::{
    patience::Look,
    writers::{Pace, Writers, Written},
};

use super::{
    fixture::Fixture,
    masters::{A_MINUTE, THREE, wait_for_voters},
};

/// What a client waits for an answer before it tries again.
pub(crate) const TIMEOUT: Duration = Duration::from_millis(250);
/// What a client that is in no hurry waits.
const LONG_TIMEOUT: Duration = Duration::from_secs(30);
/// So many more acknowledged writes through a master show that it goes on.
const ENOUGH: usize = 20;

/// Writers at work through some masters.
pub(crate) struct Load<'a> {
    fixture: &'a Fixture,
    nodes: Vec<&'static str>,
    writers: Writers,
}

impl<'a> Load<'a> {
    /// Two writers through each of these masters.
    pub(crate) fn through(fixture: &'a Fixture, nodes: &[&'static str]) -> Self {
        Self::at_pace(fixture, nodes, Pace::fast(TIMEOUT))
    }

    /// The same of clients that wait for long. On an emulated machine a TLS handshake takes a second, and clients that
    /// soon give up and begin anew keep it busy with nothing else.
    pub(crate) fn unhurried(fixture: &'a Fixture, nodes: &[&'static str]) -> Self {
        Self::at_pace(fixture, nodes, Pace::fast(LONG_TIMEOUT))
    }

    /// The same of clients that leave the masters time for other things. Many minutes of the others make so many objects that a
    /// small machine is busy with nothing else.
    pub(crate) fn gentle(fixture: &'a Fixture, nodes: &[&'static str]) -> Self {
        let pace = Pace {
            timeout: TIMEOUT,
            pause: TIMEOUT / 2,
            retry: Pace::CALM,
        };
        Self::at_pace(fixture, nodes, pace)
    }

    fn at_pace(fixture: &'a Fixture, nodes: &[&'static str], pace: Pace) -> Self {
        let writers = Writers::start(&fixture.cluster, nodes, 2, pace);
        let load = Self::of(fixture, nodes, fixture.expect(writers));
        load.goes_on();
        load
    }

    /// One writer through each master, all of which want to be the first to write each name.
    pub(crate) fn contending(fixture: &'a Fixture) -> Self {
        let writers = Writers::contend(&fixture.cluster, &THREE, TIMEOUT);
        let load = Self::of(fixture, &THREE, fixture.expect(writers));
        // Through whomever: the quickest is first most of the time.
        load.reaches(ENOUGH);
        load
    }

    fn of(fixture: &'a Fixture, nodes: &[&'static str], writers: Writers) -> Self {
        Self {
            fixture,
            nodes: nodes.to_vec(),
            writers,
        }
    }

    /// Waits until writes go on through each of the masters.
    pub(crate) fn goes_on(&self) {
        self.goes_on_through(&self.nodes);
    }

    /// Waits until writes go on through each of these masters.
    pub(crate) fn goes_on_through(&self, nodes: &[&str]) {
        let through = || nodes.iter().map(|node| self.acknowledged_through(node));
        let before: Vec<usize> = through().collect();
        let what = format!("writes through {}", nodes.join(" and "));
        self.fixture.wait_until(&what, A_MINUTE, || {
            let now: Vec<usize> = through().collect();
            let mut pairs = now.iter().zip(&before);
            let on = pairs.all(|(now, before)| *now >= before + ENOUGH);
            Look::at(on, || format!("{now:?} after {before:?}"))
        });
    }

    /// How many writes have been acknowledged through that master.
    pub(crate) fn acknowledged_through(&self, node: &str) -> usize {
        self.writers.acknowledged_through(node)
    }

    /// Waits for so many acknowledged writes since the beginning.
    pub(crate) fn reaches(&self, enough: usize) {
        self.fixture.wait_until("writes", A_MINUTE, || {
            let written = self.writers.acknowledged();
            Look::at(written >= enough, || format!("{written} of {enough}"))
        });
    }

    /// Goes on while `fault` strikes a master that it does not write through, and after `repair` has undone that; then
    /// nothing is lost.
    pub(crate) fn survives(self, fault: impl FnOnce(), repair: impl FnOnce()) {
        let fixture = self.fixture;
        fault();
        self.goes_on();
        repair();
        wait_for_voters(fixture, &THREE, 3);
        fixture.expect(fixture.cluster.wait_until_ready());
        // Through the returned master too: it has caught up by itself.
        nothing_is_lost(fixture, &self.stop());
    }

    /// Ends the writers.
    pub(crate) fn stop(self) -> Written {
        self.writers.stop()
    }
}

/// Fails unless each master has all that was acknowledged, once.
pub(crate) fn nothing_is_lost(fixture: &Fixture, written: &Written) {
    for name in THREE {
        let missing = fixture.expect(written.missing(&fixture.cluster, name));
        let count = written.count();
        assert!(missing.is_empty(), "{name} lacks {missing:?} of {count}");
    }
    let twice = written.acknowledged_twice();
    assert!(twice.is_empty(), "acknowledged twice: {twice:?}");
}
