//! The ear on the switch: every frame that a machine's cable brings in.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{self, Receiver, SyncSender},
    },
    time::{Duration, Instant},
};

use super::{Frame, PortNumber, Switch};
use crate::{
    error::{Error, Result},
    plan::Mac,
    tap::{HEARD, Heard, Tap},
};

/// Frames that the ear has not taken yet.
const ROOM: usize = 64 << 10;

/// Where the switch puts what it hears.
pub(super) struct Ear {
    sink: SyncSender<Heard>,
    missed: Arc<AtomicU64>,
}

impl Ear {
    /// Takes a frame. False when nobody listens any more.
    pub(super) fn take(&self, from: [u8; 6], frame: &Frame) -> bool {
        let heard = Heard {
            at: Instant::now(),
            from: Mac(from),
            bytes: frame[..frame.len().min(HEARD)].to_vec(),
        };
        match self.sink.try_send(heard) {
            Ok(()) => true,
            Err(mpsc::TrySendError::Full(_)) => {
                self.missed.fetch_add(1, Ordering::Relaxed);
                true
            }
            Err(mpsc::TrySendError::Disconnected(_)) => false,
        }
    }
}

/// An ear on every port of the switch, and a port of its own.
pub struct SwitchTap {
    switch: Switch,
    port: PortNumber,
    heard: Receiver<Heard>,
    missed: Arc<AtomicU64>,
}

impl Switch {
    /// Begins to listen.
    pub fn tap(&self) -> SwitchTap {
        let (sink, heard) = mpsc::sync_channel(ROOM);
        let missed = Arc::new(AtomicU64::new(0));
        let port = self.add_port();
        self.table().ears.push(Ear {
            sink,
            missed: Arc::clone(&missed),
        });
        SwitchTap {
            switch: self.clone(),
            port,
            heard,
            missed,
        }
    }
}

impl Tap for SwitchTap {
    fn hear(&mut self, patience: Duration) -> Result<Option<Heard>> {
        match self.heard.recv_timeout(patience) {
            Ok(heard) => Ok(Some(heard)),
            Err(mpsc::RecvTimeoutError::Timeout) => Ok(None),
            Err(mpsc::RecvTimeoutError::Disconnected) => {
                Err(Error::Refused("the switch is gone".to_owned()))
            }
        }
    }

    fn say(&mut self, frame: &[u8]) -> Result<()> {
        self.switch.say(self.port, &Frame::from(frame));
        Ok(())
    }

    fn missed(&mut self) -> Result<u64> {
        Ok(self.missed.load(Ordering::Relaxed))
    }
}
