//! The cases, by name.

mod address;
mod boot;
mod build;
mod failover;
mod formation;
mod idle;
mod restart;
mod size;
mod suite;
mod upgrade;
mod virtual_machine;
mod wal;
mod writers;

use std::time::Duration;

use super::{Bench, figure::Figure};
use crate::error::Result;

/// How much longer than the same programs started bare a node may take from `/init` to `/readyz`.
const GOAL_BOOT_RATIO: f64 = 1.15;

/// How long what a cluster does by itself may take, generously.
const NOMINAL: Duration = Duration::from_secs(60);

/// What a case hands back.
#[derive(Debug, Default)]
pub struct Measured {
    /// What was measured.
    pub figures: Vec<Figure>,
    /// What a reader must know to judge them.
    pub notes: Vec<String>,
}

/// One case.
pub struct Case {
    /// As on the command line, and in the page as `{{name}}`.
    pub name: &'static str,
    /// Measures.
    pub measure: fn(&Bench) -> Result<Measured>,
    /// Whether it is measured when no case is named.
    pub usual: bool,
}

/// All cases, short ones first.
pub const ALL: [Case; 17] = [
    Case::usual("size", size::measure),
    Case::usual("boot", boot::measure),
    Case::usual("formation", formation::measure),
    Case::usual("idle", idle::measure),
    Case::usual("restart", restart::measure),
    Case::usual("wal", wal::measure),
    Case::usual("build", build::measure),
    Case::usual("outage", writers::outage),
    Case::usual("owner", address::owner),
    Case::usual("moves", address::moves),
    Case::usual("upgrade", upgrade::measure),
    Case::usual("failover", failover::measure),
    Case::usual("vm", virtual_machine::measure),
    // Twenty minutes.
    Case::on_demand("elections", writers::elections),
    // An hour.
    Case::on_demand("needless", address::needless),
    // They only read what `make test` has left, of which nobody but the caller knows what it was.
    Case::on_demand("test-cold", suite::cold),
    Case::on_demand("test-warm", suite::warm),
];

impl Case {
    const fn usual(name: &'static str, measure: fn(&Bench) -> Result<Measured>) -> Self {
        Self {
            name,
            measure,
            usual: true,
        }
    }

    const fn on_demand(name: &'static str, measure: fn(&Bench) -> Result<Measured>) -> Self {
        Self {
            name,
            measure,
            usual: false,
        }
    }
}
