//! The fixed table of exit statuses that no supervisor has acknowledged yet.

use crate::link::{Exit, ProcessKey};

/// How many exits are kept.
pub const CAPACITY: usize = 256;

/// Exits in the order in which they happened.
///
/// When it is full, the oldest of those that matter least makes room: a flood of orphans must not push out how etcd
/// ended, not even when they are etcd's own.
#[derive(Debug)]
pub struct ExitTable {
    entries: [Entry; CAPACITY],
    length: usize,
    dropped: u64,
}

/// What an ended process was; the later, the more its exit matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// Nobody's service.
    Stranger,
    /// In a service's control group, but not what the supervisor has started there.
    Helper,
    /// A service itself: in its control group, the leader of a session, as the supervisor starts it.
    Service,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    exit: Exit,
    origin: Origin,
    to_send: bool,
}

const EMPTY: Entry = Entry {
    exit: Exit {
        process: ProcessKey {
            pid: 0,
            start_time: 0,
        },
        wait_status: 0,
    },
    origin: Origin::Stranger,
    to_send: false,
};

impl Default for ExitTable {
    fn default() -> Self {
        Self {
            entries: [EMPTY; CAPACITY],
            length: 0,
            dropped: 0,
        }
    }
}

impl ExitTable {
    /// Keeps an exit, to be sent to the supervisor. Returns the exit that had to be dropped for it, which is the new
    /// one itself when all others matter more.
    pub fn keep(&mut self, exit: Exit, origin: Origin) -> Option<Exit> {
        let mut dropped = None;
        if self.length == CAPACITY {
            self.dropped += 1;
            // Of those that matter alike, the first is the oldest.
            let oldest_least = (0..CAPACITY).min_by_key(|&index| self.entries[index].origin);
            match oldest_least {
                Some(victim) if self.entries[victim].origin <= origin => {
                    dropped = Some(self.remove(victim));
                }
                _ => return Some(exit),
            }
        }
        self.entries[self.length] = Entry {
            exit,
            origin,
            to_send: true,
        };
        self.length += 1;
        dropped
    }

    /// Forgets an exit that a supervisor has recorded. One that is not there is no fault: the
    /// acknowledgement may have been on its way when a supervisor died.
    pub fn acknowledge(&mut self, process: ProcessKey) {
        if let Some(index) = self
            .kept()
            .iter()
            .position(|entry| entry.exit.process == process)
        {
            self.remove(index);
        }
    }

    /// A new supervisor is there: nothing is sent to it before it asks with `Replay`, except what
    /// happens from now on.
    pub fn hold(&mut self) {
        self.entries[..self.length]
            .iter_mut()
            .for_each(|entry| entry.to_send = false);
    }

    /// The supervisor asked for every exit that it has not acknowledged.
    pub fn replay(&mut self) {
        self.entries[..self.length]
            .iter_mut()
            .for_each(|entry| entry.to_send = true);
    }

    /// The oldest exit that is still to be sent.
    pub fn next_to_send(&self) -> Option<Exit> {
        self.kept()
            .iter()
            .find(|entry| entry.to_send)
            .map(|entry| entry.exit)
    }

    /// The link took this exit.
    pub fn sent(&mut self, process: ProcessKey) {
        let entry = self.entries[..self.length]
            .iter_mut()
            .find(|entry| entry.to_send && entry.exit.process == process);
        if let Some(entry) = entry {
            entry.to_send = false;
        }
    }

    /// How many exits were dropped since boot.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    fn kept(&self) -> &[Entry] {
        &self.entries[..self.length]
    }

    fn remove(&mut self, index: usize) -> Exit {
        let exit = self.entries[index].exit;
        self.entries.copy_within(index + 1..self.length, index);
        self.length -= 1;
        exit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exit(pid: u32) -> Exit {
        Exit {
            process: ProcessKey {
                pid,
                start_time: u64::from(pid) * 10,
            },
            wait_status: i32::try_from(pid).expect("small"),
        }
    }

    fn send_all(table: &mut ExitTable) -> Vec<u32> {
        let mut sent = Vec::new();
        while let Some(exit) = table.next_to_send() {
            table.sent(exit.process);
            sent.push(exit.process.pid);
        }
        sent
    }

    #[test]
    fn an_exit_is_sent_once_and_replayed_until_it_is_acknowledged() {
        let mut table = ExitTable::default();
        for pid in [5, 3, 9] {
            assert_eq!(table.keep(exit(pid), Origin::Service), None);
        }
        assert_eq!(send_all(&mut table), [5, 3, 9]);
        assert_eq!(send_all(&mut table), [0; 0]);

        table.acknowledge(exit(3).process);
        table.replay();
        assert_eq!(send_all(&mut table), [5, 9]);
    }

    #[test]
    fn a_new_supervisor_gets_old_exits_only_when_it_asks() {
        let mut table = ExitTable::default();
        table.keep(exit(1), Origin::Service);
        table.hold();
        table.keep(exit(2), Origin::Service);
        assert_eq!(send_all(&mut table), [2]);
        table.replay();
        assert_eq!(send_all(&mut table), [1, 2]);
    }

    #[test]
    fn the_same_number_of_another_process_is_not_acknowledged() {
        let mut table = ExitTable::default();
        table.keep(exit(7), Origin::Service);
        table.acknowledge(ProcessKey {
            pid: 7,
            start_time: 71,
        });
        table.replay();
        assert_eq!(send_all(&mut table), [7]);
    }

    #[test]
    fn when_full_the_oldest_that_matters_least_makes_room() {
        let mut table = ExitTable::default();
        for pid in 0..256 {
            let origin = match pid {
                100 | 200 => Origin::Stranger,
                50 => Origin::Helper,
                _ => Origin::Service,
            };
            assert_eq!(table.keep(exit(pid), origin), None);
        }
        assert_eq!(table.keep(exit(300), Origin::Service), Some(exit(100)));
        assert_eq!(table.keep(exit(301), Origin::Stranger), Some(exit(200)));
        assert_eq!(table.keep(exit(302), Origin::Helper), Some(exit(301)));
        assert_eq!(table.keep(exit(303), Origin::Service), Some(exit(50)));
        assert_eq!(
            table.keep(exit(304), Origin::Stranger),
            Some(exit(304)),
            "all others matter more"
        );
        assert_eq!(table.keep(exit(305), Origin::Service), Some(exit(302)));
        assert_eq!(table.keep(exit(306), Origin::Service), Some(exit(0)));
        assert_eq!(table.dropped(), 7);
        let kept = send_all(&mut table);
        assert_eq!(kept.len(), CAPACITY);
        assert_eq!(kept[..2], [1, 2]);
        assert_eq!(kept[252..], [300, 303, 305, 306]);
    }

    #[test]
    fn a_service_that_forks_without_end_does_not_push_out_how_it_ended() {
        let mut table = ExitTable::default();
        table.keep(exit(1), Origin::Service);
        for pid in 2..2000 {
            table.keep(exit(pid), Origin::Helper);
        }
        assert_eq!(send_all(&mut table)[0], 1);
    }
}
