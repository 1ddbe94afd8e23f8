//! Whether this node's own apiserver can serve clients of the address.
//!
//! Not its plain `/readyz`: that turns unready on all masters whenever etcd elects a leader. That etcd works is what renewals
//! prove.

use std::time::Duration;

/// Between two questions, on a real machine.
pub const ASK_EVERY: Duration = Duration::from_millis(200);

/// How long one answer may take, on a real machine.
pub const PATIENCE: Duration = Duration::from_millis(500);

/// So many answers of the other kind in a row change it.
const IN_A_ROW: u32 = 3;

/// What is asked for.
pub const PATH: &str = "/readyz?exclude=etcd&exclude=etcd-readiness";

/// What the last answers say.
#[derive(Clone, Copy, Debug, Default)]
pub struct Health {
    ready: bool,
    otherwise: u32,
}

impl Health {
    /// Takes an answer in. Says whether the apiserver can serve, if that has changed.
    pub fn answered(&mut self, ready: bool) -> Option<bool> {
        if ready == self.ready {
            self.otherwise = 0;
            return None;
        }
        self.otherwise += 1;
        if self.otherwise < IN_A_ROW {
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
    use super::*;

    #[test]
    fn three_in_a_row_change_it() {
        let mut health = Health::default();
        let mut say = |answers: &[bool]| -> Vec<Option<bool>> {
            answers
                .iter()
                .map(|ready| health.answered(*ready))
                .collect()
        };
        let (ready, unready) = (Some(true), Some(false));
        assert_eq!(say(&[false, true, true, false]), [None; 4]);
        assert_eq!(say(&[true, true, true, true]), [None, None, ready, None]);
        assert_eq!(say(&[false, false, true]), [None; 3]);
        assert_eq!(say(&[false, false, false]), [None, None, unready]);
    }
}
