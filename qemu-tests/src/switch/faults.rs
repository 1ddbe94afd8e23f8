//! What goes wrong on the way from port to port: lost frames and late ones.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    sync::{
        Mutex, PoisonError, Weak,
        mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    },
    thread,
    time::{Duration, Instant},
};

use super::{Frame, PortNumber, Table};

/// Chance, the same in each run (xorshift32, Marsaglia 2003).
pub(super) struct Chance(u32);

impl Default for Chance {
    fn default() -> Self {
        Self(0x9e37_79b9)
    }
}

impl Chance {
    /// True in that many of a hundred cases.
    pub(super) fn strikes(&mut self, percent: f64) -> bool {
        if percent <= 0.0 {
            return false;
        }
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 17;
        self.0 ^= self.0 << 5;
        f64::from(self.0) < percent / 100.0 * f64::from(u32::MAX)
    }
}

/// Frames that are on their way: when they arrive, in which order they left, and where.
type Late = Reverse<(Instant, u64, PortNumber, Frame)>;

/// The way to the thread that delivers late frames. It ends with the switch.
pub(super) struct Delays {
    to_thread: Sender<Late>,
    next: u64,
}

impl Delays {
    /// Starts the thread.
    pub(super) fn new(table: Weak<Mutex<Table>>) -> Self {
        let (to_thread, inbox) = channel();
        thread::spawn(move || deliver(&table, &inbox));
        Self { to_thread, next: 0 }
    }

    /// Has a frame delivered after `delay`; frames with the same delay keep their order.
    pub(super) fn send(&mut self, delay: Duration, port: PortNumber, frame: &Frame) {
        self.next += 1;
        let late = Reverse((Instant::now() + delay, self.next, port, frame.clone()));
        // It takes frames for as long as there is a switch.
        let _ = self.to_thread.send(late);
    }
}

fn deliver(table: &Weak<Mutex<Table>>, inbox: &Receiver<Late>) {
    const IDLE: Duration = Duration::from_secs(60);
    let mut waiting: BinaryHeap<Late> = BinaryHeap::new();
    loop {
        let next = waiting.peek().map_or(IDLE, |Reverse((due, ..))| {
            due.saturating_duration_since(Instant::now())
        });
        match inbox.recv_timeout(next) {
            Ok(late) => waiting.push(late),
            Err(RecvTimeoutError::Disconnected) => return,
            Err(RecvTimeoutError::Timeout) => {
                let Some(table) = table.upgrade() else { return };
                let table = table.lock().unwrap_or_else(PoisonError::into_inner);
                let now = Instant::now();
                while let Some(Reverse((due, ..))) = waiting.peek()
                    && *due <= now
                {
                    if let Some(Reverse((_, _, port, frame))) = waiting.pop() {
                        table.hand_over(port, &frame);
                    }
                }
            }
        }
    }
}
