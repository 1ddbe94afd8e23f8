//! Whether this node's own apiserver can serve clients of the address.
//!
//! Not its plain `/readyz`: that turns unready on all masters whenever etcd elects a leader. That etcd works is what renewals
//! prove.

use std::time::Duration;

/// Between two questions, on a real machine.
pub const ASK_EVERY: Duration = Duration::from_millis(200);

/// How long one answer may take, on a real machine.
pub const PATIENCE: Duration = Duration::from_millis(500);

/// So many answers of the other kind in a row change it, but for a refused connection.
const IN_A_ROW: u32 = 3;

/// What is asked for.
pub const PATH: &str = "/readyz?exclude=etcd&exclude=etcd-readiness";

/// What came of one question.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Sight {
    /// It can serve.
    Serves,
    /// It says that it cannot, or nothing: that may pass.
    Fails,
    /// Nobody listens: it is not there, and takes seconds to start.
    Gone,
}

/// What the last answers say.
#[derive(Clone, Copy, Debug, Default)]
pub struct Health {
    ready: bool,
    otherwise: u32,
}

impl Health {
    /// Takes an answer in. Says whether the apiserver can serve, if that has changed.
    pub fn saw(&mut self, sight: Sight) -> Option<bool> {
        let ready = sight == Sight::Serves;
        if ready == self.ready {
            self.otherwise = 0;
            return None;
        }
        self.otherwise += 1;
        if self.otherwise < IN_A_ROW && sight != Sight::Gone {
            return None;
        }
        *self = Self {
            ready,
            otherwise: 0,
        };
        Some(ready)
    }
}

#[cfg(test)]
mod tests {
    use super::Sight::{Fails, Gone, Serves};
    use super::*;

    #[test]
    fn three_in_a_row_change_it_and_nobody_there_at_once() {
        let mut health = Health::default();
        let mut see = |sights: &[Sight]| -> Vec<Option<bool>> {
            sights.iter().map(|sight| health.saw(*sight)).collect()
        };
        let (ready, unready) = (Some(true), Some(false));
        assert_eq!(see(&[Fails, Serves, Serves, Gone]), [None; 4]);
        let three = [Serves, Serves, Serves];
        assert_eq!(see(&three), [None, None, ready]);
        assert_eq!(see(&[Serves, Fails, Fails, Serves]), [None; 4]);
        assert_eq!(see(&[Fails, Fails, Fails]), [None, None, unready]);
        assert_eq!(see(&three), [None, None, ready]);
        assert_eq!(see(&[Gone, Gone, Serves]), [unready, None, None]);
    }
}
