//! An Ethernet switch in user space, for virtual machines without root.
//!
//! Each machine's QEMU connects to a unix socket of its own (`-netdev stream`) and sends frames behind
//! their length. The switch learns addresses, floods what it does not know, and can pull a cable.
//! [`forward`] is one more port: a small TCP/IP stack through which the host reaches the machines.

mod faults;
pub mod forward;
mod tap;

use std::{
    collections::{HashMap, HashSet},
    io::{self, Read, Write},
    os::unix::net::{UnixListener, UnixStream},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc::{self, Receiver, SyncSender},
    },
    thread,
};

use crate::provider::Cable;
use faults::{Chance, Delays};
use tap::Ear;
pub use tap::SwitchTap;

/// An Ethernet frame without its check sequence.
pub type Frame = Arc<[u8]>;

/// As a real switch's buffers are: a port that does not take its frames loses them.
const QUEUED_FRAMES: usize = 1024;
/// Longer ones are no frames; a machine with offloads sends up to 64 KiB.
const LONGEST_FRAME: usize = 128 << 10;

/// A port's number.
pub type PortNumber = usize;

/// The switch. Cheap to clone; all clones are the same one.
#[derive(Clone, Default)]
pub struct Switch {
    table: Arc<Mutex<Table>>,
}

#[derive(Default)]
struct Table {
    ports: Vec<PortState>,
    /// On which port an address was last seen as a sender.
    learned: HashMap<[u8; 6], PortNumber>,
    /// Who does not hear whom: sender and receiver.
    cut: HashSet<(PortNumber, PortNumber)>,
    chance: Chance,
    /// Started by the first frame that is late.
    delays: Option<Delays>,
    /// Who listens to all.
    ears: Vec<Ear>,
}

struct PortState {
    /// None while nothing is connected.
    frames: Option<SyncSender<Frame>>,
    up: bool,
    /// Of a machine; nothing that is not one suffers from it.
    cable: Option<Cable>,
}

impl Switch {
    /// A new port, with its cable plugged in.
    pub fn add_port(&self) -> PortNumber {
        let mut table = self.table();
        table.ports.push(PortState {
            frames: None,
            up: true,
            cable: None,
        });
        table.ports.len() - 1
    }

    /// Plugs a port's cable in, or pulls it.
    pub fn set_link(&self, port: PortNumber, up: bool) {
        let mut table = self.table();
        table.ports[port].up = up;
        table.learned.retain(|_, learned| *learned != port);
    }

    /// Makes the cable of a machine's port a bad one, or a good one again.
    pub fn set_cable(&self, port: PortNumber, cable: Cable) {
        self.table().ports[port].cable = Some(cable);
    }

    /// Carries nothing from the first port of a pair to the second from now on. Replaces what was said before.
    pub fn cut(&self, pairs: HashSet<(PortNumber, PortNumber)>) {
        self.table().cut = pairs;
    }

    /// Connects something to a port: frames for it come out of the receiver.
    pub fn connect(&self, port: PortNumber) -> Receiver<Frame> {
        let (sender, receiver) = mpsc::sync_channel(QUEUED_FRAMES);
        self.table().ports[port].frames = Some(sender);
        receiver
    }

    /// Takes a frame in at a port and sends it where it belongs.
    pub fn send(&self, from: PortNumber, frame: &Frame) {
        // Destination, sender and type: 14 bytes (IEEE 802.3).
        let (Some(to), Some(sender)) = (address(frame, 0), address(frame, 6)) else {
            return;
        };
        let mut table = self.table();
        if frame.len() < 14 || !table.ports[from].up {
            return;
        }
        table.ears.retain(|ear| ear.take(sender, frame));
        table.learned.insert(sender, from);
        self.carry(&mut table, from, to, frame);
    }

    /// Takes a frame in that is said in the name of another port: nothing is learned from it.
    fn say(&self, from: PortNumber, frame: &Frame) {
        if let Some(to) = address(frame, 0) {
            let mut table = self.table();
            self.carry(&mut table, from, to, frame);
        }
    }

    fn carry(&self, table: &mut Table, from: PortNumber, to: [u8; 6], frame: &Frame) {
        let group = to[0] & 1 == 1;
        match table.learned.get(&to).copied().filter(|_| !group) {
            Some(port) if port != from => self.deliver(table, from, port, frame),
            Some(_) => {}
            None => {
                for port in (0..table.ports.len()).filter(|port| *port != from) {
                    self.deliver(table, from, port, frame);
                }
            }
        }
    }

    /// Carries a frame from port to port, as well as the way between them allows.
    fn deliver(&self, table: &mut Table, from: PortNumber, to: PortNumber, frame: &Frame) {
        if table.cut.contains(&(from, to)) {
            return;
        }
        if let (Some(sender), Some(receiver)) = (table.ports[from].cable, table.ports[to].cable) {
            let lost = [sender, receiver].map(|cable| table.chance.strikes(cable.loss_percent));
            if lost.contains(&true) {
                return;
            }
            if !receiver.delay.is_zero() {
                let delays = table
                    .delays
                    .get_or_insert_with(|| Delays::new(Arc::downgrade(&self.table)));
                return delays.send(receiver.delay, to, frame);
            }
        }
        table.hand_over(to, frame);
    }

    /// Serves a port to a QEMU that connects to `socket`, again and again, until the result is dropped.
    pub fn serve(&self, port: PortNumber, socket: &Path) -> io::Result<PortServer> {
        match std::fs::remove_file(socket) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(socket)?;
        self.table().ports[port].cable = Some(Cable::default());
        let closed = Arc::new(AtomicBool::new(false));
        let server = PortServer {
            socket: socket.to_owned(),
            closed: Arc::clone(&closed),
        };
        let switch = self.clone();
        thread::Builder::new()
            .name(format!("port-{port}"))
            .spawn(move || {
                for stream in listener.incoming() {
                    let Ok(stream) = stream else { return };
                    if closed.load(Ordering::SeqCst) {
                        return;
                    }
                    // Ends when QEMU does; then the next one may connect.
                    let _ = switch.exchange(port, stream);
                }
            })?;
        Ok(server)
    }

    /// Carries frames between one QEMU and the switch until the connection ends.
    fn exchange(&self, port: PortNumber, mut stream: UnixStream) -> io::Result<()> {
        let frames = self.connect(port);
        let mut writer = stream.try_clone()?;
        thread::Builder::new()
            .name(format!("port-{port}-out"))
            .spawn(move || {
                for frame in frames {
                    let Ok(length) = u32::try_from(frame.len()) else {
                        continue;
                    };
                    let sent = writer
                        .write_all(&length.to_be_bytes())
                        .and_then(|()| writer.write_all(&frame));
                    if sent.is_err() {
                        return;
                    }
                }
            })?;
        loop {
            let mut length = [0; 4];
            stream.read_exact(&mut length)?;
            let length = u32::from_be_bytes(length) as usize;
            if length > LONGEST_FRAME {
                return Err(io::ErrorKind::InvalidData.into());
            }
            let mut frame = vec![0; length];
            stream.read_exact(&mut frame)?;
            self.send(port, &Frame::from(frame));
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn hand_over(&self, port: PortNumber, frame: &Frame) {
        let state = &self.ports[port];
        if let (true, Some(frames)) = (state.up, &state.frames) {
            // Full, or gone: lost, as on a real wire.
            let _ = frames.try_send(Arc::clone(frame));
        }
    }
}

fn address(frame: &[u8], at: usize) -> Option<[u8; 6]> {
    frame.get(at..at + 6)?.try_into().ok()
}

/// A port that QEMU can connect to. Dropping it closes the port.
pub struct PortServer {
    socket: PathBuf,
    closed: Arc<AtomicBool>,
}

impl Drop for PortServer {
    fn drop(&mut self) {
        self.closed.store(true, Ordering::SeqCst);
        // Wakes the accepting thread, which then sees that it is over.
        let _ = UnixStream::connect(&self.socket);
        let _ = std::fs::remove_file(&self.socket);
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    const A: [u8; 6] = [2, 0, 0, 0, 0, 1];
    const B: [u8; 6] = [2, 0, 0, 0, 0, 2];
    const ALL: [u8; 6] = [255; 6];

    fn frame(to: [u8; 6], from: [u8; 6]) -> Frame {
        [&to[..], &from[..], &[8, 0, 42]].concat().into()
    }

    fn three_ports() -> (Switch, [(PortNumber, Receiver<Frame>); 3]) {
        let switch = Switch::default();
        let ports = [(); 3].map(|()| {
            let port = switch.add_port();
            (port, switch.connect(port))
        });
        (switch, ports)
    }

    #[test]
    fn the_unknown_is_flooded_and_the_learned_is_not() {
        let (switch, [(one, _), (two, at_two), (_, at_three)]) = three_ports();
        switch.send(one, &frame(B, A));
        assert!(at_two.try_recv().is_ok() && at_three.try_recv().is_ok());
        switch.send(two, &frame(ALL, B));
        assert!(at_three.try_recv().is_ok());
        switch.send(one, &frame(B, A));
        assert!(at_two.try_recv().is_ok());
        assert!(at_three.try_recv().is_err(), "B is known to be at port two");
    }

    #[test]
    fn a_pulled_cable_carries_nothing_either_way() {
        let (switch, [(one, at_one), (two, at_two), _]) = three_ports();
        switch.set_link(two, false);
        switch.send(one, &frame(ALL, A));
        switch.send(two, &frame(ALL, B));
        assert!(at_two.try_recv().is_err() && at_one.try_recv().is_err());
        switch.set_link(two, true);
        switch.send(one, &frame(ALL, A));
        assert!(at_two.try_recv().is_ok());
    }

    #[test]
    fn a_cut_stops_one_direction_and_nobody_else() {
        let (switch, [(one, at_one), (two, at_two), (_, at_three)]) = three_ports();
        switch.cut(HashSet::from([(one, two)]));
        switch.send(one, &frame(ALL, A));
        switch.send(two, &frame(ALL, B));
        assert!(at_two.try_recv().is_err() && at_one.try_recv().is_ok());
        assert_eq!(at_three.try_iter().count(), 2, "the third hears both");
        switch.cut(HashSet::from([(one, two), (two, one)]));
        switch.send(one, &frame(ALL, A));
        switch.send(two, &frame(ALL, B));
        assert!(at_two.try_recv().is_err() && at_one.try_recv().is_err());
        assert_eq!(at_three.try_iter().count(), 2, "the third hears both");
        switch.cut(HashSet::new());
        switch.send(one, &frame(ALL, A));
        assert!(at_two.try_recv().is_ok());
    }

    #[test]
    fn a_bad_cable_loses_its_share_between_machines() {
        let (switch, [(one, _), (two, at_two), (_, at_three)]) = three_ports();
        let bad = Cable {
            loss_percent: 20.0,
            ..Cable::default()
        };
        switch.set_cable(one, Cable::default());
        switch.set_cable(two, bad);
        for _ in 0..1000 {
            switch.send(one, &frame(ALL, A));
        }
        let arrived = at_two.try_iter().count();
        assert!((750..850).contains(&arrived), "{arrived} of 1000");
        assert_eq!(at_three.try_iter().count(), 1000, "no machine is there");
    }

    #[test]
    fn a_slow_cable_keeps_the_order() {
        let (switch, [(one, _), (two, at_two), _]) = three_ports();
        let delay = Duration::from_millis(30);
        let slow = Cable {
            delay,
            ..Cable::default()
        };
        switch.set_cable(one, Cable::default());
        switch.set_cable(two, slow);
        let started = Instant::now();
        for number in 0..3 {
            let sent = [&frame(B, A)[..], &[number]].concat().into();
            switch.send(one, &sent);
        }
        for number in 0..3 {
            let frame = at_two.recv().expect("it comes");
            assert_eq!(frame.last(), Some(&number));
        }
        assert!(started.elapsed() >= delay);
    }

    #[test]
    fn runts_are_dropped() {
        let (switch, [(one, _), (_, at_two), _]) = three_ports();
        switch.send(one, &Frame::from(vec![255; 13]));
        assert!(at_two.try_recv().is_err());
    }
}
