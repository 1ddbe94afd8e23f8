//! What the values of a seed must be to each other.

mod masters;
mod network;
mod prefixes;
mod routes;

use masthead_diagnostics::{Place, Table};

use crate::read::root::SeedDraft;

use masters::{disks_of, number_of_masters, twins};
use network::{endpoint, network_of, one_family};
use prefixes::prefixes;
use routes::{further, routes};

pub(crate) use prefixes::DEFAULT_SERVICES;

/// Reports every contradiction.
pub(crate) fn check(root: &Table<'_>, seed: &SeedDraft) {
    let reporter = &mut Reporter {
        root,
        reported: Vec::new(),
    };
    number_of_masters(reporter, &seed.masters);
    twins(reporter, &seed.masters);
    for master in &seed.masters {
        disks_of(reporter, master, &seed.masters);
    }
    // With two families, whatever else is said about networks would only confuse.
    if one_family(reporter, &seed.masters) {
        for master in &seed.masters {
            network_of(reporter, master);
            routes(reporter, master);
        }
        further(reporter, seed);
        endpoint(reporter, seed);
        prefixes(reporter, seed);
    }
}

/// Says one thing about one place once: a common value can be wrong for every master.
struct Reporter<'r, 'd> {
    root: &'r Table<'d>,
    reported: Vec<Place>,
}

impl Reporter<'_, '_> {
    fn error(&mut self, place: Place, message: String, help: impl Into<String>) {
        if !self.reported.contains(&place) {
            self.reported.push(place);
            self.root.error_at(place, message, help);
        }
    }

    fn warning(&mut self, place: Place, message: String, help: &str) {
        if !self.reported.contains(&place) {
            self.reported.push(place);
            self.root.warning_at(place, message, help);
        }
    }
}
