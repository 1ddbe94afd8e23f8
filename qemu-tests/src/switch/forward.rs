//! The host's way into the machines' network: loopback ports, and behind them a TCP/IP stack on a port
//! of the switch. The stack is the wire's gateway; no address or route is added to the host.

use std::{
    collections::VecDeque,
    io::{self, Read, Write},
    net::{Ipv4Addr, Shutdown, SocketAddr, SocketAddrV4, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU16, Ordering},
        mpsc::{self, Receiver, Sender},
    },
    thread,
    time::{Duration, Instant},
};

use smoltcp::{
    iface::{Config, Interface, SocketHandle, SocketSet},
    phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken},
    socket::tcp,
    time::Instant as StackInstant,
    wire::{EthernetAddress, IpCidr},
};

use super::{Frame, PortNumber, Switch};
use crate::plan::GATEWAY_MAC;

/// Bytes buffered in each direction of a connection.
const BUFFER: usize = 256 << 10;
/// The longest sleep of the stack; it is woken for every frame and every byte.
const LONGEST_SLEEP: Duration = Duration::from_millis(200);
/// A connection that is not established by then is refused to the client.
const PATIENCE: Duration = Duration::from_secs(20);

/// The first port that connections come from: the dynamic ones begin there (RFC 6335, section 6).
pub const FIRST_PORT: u16 = 49152;

/// The stack. Forwarders end when it is dropped.
pub struct Gateway {
    inbox: Sender<Input>,
    next_port: Arc<AtomicU16>,
}

/// What wakes the stack.
enum Input {
    Frame(Frame),
    Connect { client: TcpStream, to: SocketAddrV4 },
    Readable,
}

impl Gateway {
    /// Puts the gateway on a port of the switch. Its connections come from `next_port` and the ports above.
    pub fn start(
        switch: &Switch,
        address: Ipv4Addr,
        prefix: u8,
        next_port: u16,
    ) -> io::Result<Self> {
        let port = switch.add_port();
        let frames = switch.connect(port);
        let (inbox, inputs) = mpsc::channel();
        let to_stack = inbox.clone();
        thread::Builder::new()
            .name("gateway-frames".to_owned())
            .spawn(move || {
                for frame in frames {
                    if to_stack.send(Input::Frame(frame)).is_err() {
                        return;
                    }
                }
            })?;
        let wake = inbox.clone();
        let wire = Wire {
            switch: switch.clone(),
            port,
            received: VecDeque::new(),
        };
        let next_port = Arc::new(AtomicU16::new(next_port));
        let counted = Arc::clone(&next_port);
        thread::Builder::new()
            .name("gateway".to_owned())
            .spawn(move || Stack::new(wire, address, prefix, wake, counted).run(&inputs))?;
        Ok(Self { inbox, next_port })
    }

    /// The port that the next connection will come from.
    pub fn next_port(&self) -> u16 {
        self.next_port.load(Ordering::Relaxed)
    }

    /// Forwards a new loopback port to `to`. Ends when the guard is dropped.
    pub fn forward(&self, to: SocketAddrV4) -> io::Result<(SocketAddr, ForwardGuard)> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let local = listener.local_addr()?;
        let closed = Arc::new(AtomicBool::new(false));
        let guard = ForwardGuard {
            local,
            closed: Arc::clone(&closed),
        };
        let inbox = self.inbox.clone();
        thread::Builder::new()
            .name("forward".to_owned())
            .spawn(move || {
                for client in listener.incoming() {
                    if closed.load(Ordering::SeqCst) {
                        return;
                    }
                    let Ok(client) = client else { continue };
                    if inbox.send(Input::Connect { client, to }).is_err() {
                        return;
                    }
                }
            })?;
        Ok((local, guard))
    }
}

/// Ends a forwarder.
pub struct ForwardGuard {
    local: SocketAddr,
    closed: Arc<AtomicBool>,
}

impl Drop for ForwardGuard {
    fn drop(&mut self) {
        self.closed.store(true, Ordering::SeqCst);
        // Wakes the accepting thread, which then sees that it is over.
        let _ = TcpStream::connect(self.local);
    }
}

/// The stack's network card.
struct Wire {
    switch: Switch,
    port: PortNumber,
    received: VecDeque<Frame>,
}

struct Received(Frame);
struct Sending<'a>(&'a Wire);

impl Device for Wire {
    type RxToken<'a> = Received;
    type TxToken<'a> = Sending<'a>;

    fn receive(&mut self, _: StackInstant) -> Option<(Received, Sending<'_>)> {
        let frame = self.received.pop_front()?;
        Some((Received(frame), Sending(self)))
    }

    fn transmit(&mut self, _: StackInstant) -> Option<Sending<'_>> {
        Some(Sending(self))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = 1514;
        capabilities
    }
}

impl RxToken for Received {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, use_frame: F) -> R {
        use_frame(&self.0)
    }
}

impl TxToken for Sending<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, fill: F) -> R {
        let mut frame = vec![0; length];
        let result = fill(&mut frame);
        self.0.switch.send(self.0.port, &Frame::from(frame));
        result
    }
}

/// One forwarded connection.
struct Connection {
    socket: SocketHandle,
    client: TcpStream,
    from_client: Arc<Mutex<FromClient>>,
    /// Bytes for a client that does not take them at once.
    to_client: VecDeque<u8>,
    begun: Instant,
    established: bool,
}

/// What the thread that reads a client has read.
#[derive(Default)]
struct FromClient {
    bytes: VecDeque<u8>,
    ended: bool,
}

struct Stack {
    wire: Wire,
    interface: Interface,
    sockets: SocketSet<'static>,
    connections: Vec<Connection>,
    wake: Sender<Input>,
    next_port: Arc<AtomicU16>,
    begun: Instant,
}

impl Stack {
    fn new(
        mut wire: Wire,
        address: Ipv4Addr,
        prefix: u8,
        wake: Sender<Input>,
        next_port: Arc<AtomicU16>,
    ) -> Self {
        let mut config = Config::new(EthernetAddress(GATEWAY_MAC.0).into());
        config.random_seed = u64::from(std::process::id());
        let mut interface = Interface::new(config, &mut wire, StackInstant::ZERO);
        interface.update_ip_addrs(|addresses| {
            // The list holds two at least, and this is the first.
            let _ = addresses.push(IpCidr::new(address.into(), prefix));
        });
        Self {
            wire,
            interface,
            sockets: SocketSet::new(Vec::new()),
            connections: Vec::new(),
            wake,
            next_port,
            begun: Instant::now(),
        }
    }

    fn run(mut self, inputs: &Receiver<Input>) {
        loop {
            let now = self.now();
            self.interface.poll(now, &mut self.wire, &mut self.sockets);
            let moved = self.exchange();
            // Bytes that were moved want frames of their own at once.
            let sleep = if moved {
                Duration::ZERO
            } else {
                let asked = self.interface.poll_delay(self.now(), &self.sockets);
                asked
                    .map_or(LONGEST_SLEEP, Duration::from)
                    .min(LONGEST_SLEEP)
            };
            match inputs.recv_timeout(sleep) {
                Ok(input) => self.take(input),
                Err(mpsc::RecvTimeoutError::Timeout) => {}
                Err(mpsc::RecvTimeoutError::Disconnected) => return,
            }
            while let Ok(input) = inputs.try_recv() {
                self.take(input);
            }
        }
    }

    fn now(&self) -> StackInstant {
        StackInstant::from_micros(
            i64::try_from(self.begun.elapsed().as_micros()).unwrap_or(i64::MAX),
        )
    }

    fn take(&mut self, input: Input) {
        match input {
            Input::Frame(frame) => self.wire.received.push_back(frame),
            Input::Readable => {}
            Input::Connect { client, to } => {
                // A client that is not served sees its connection closed.
                let _ = self.connect(client, to);
            }
        }
    }

    fn connect(&mut self, client: TcpStream, to: SocketAddrV4) -> io::Result<()> {
        let buffer = || tcp::SocketBuffer::new(vec![0; BUFFER]);
        let mut socket = tcp::Socket::new(buffer(), buffer());
        socket.set_nagle_enabled(false);
        let port = self.next_port.load(Ordering::Relaxed);
        // Only this thread changes it.
        let next = port.checked_add(1).unwrap_or(FIRST_PORT);
        self.next_port.store(next, Ordering::Relaxed);
        socket
            .connect(self.interface.context(), (*to.ip(), to.port()), port)
            .map_err(|error| io::Error::other(error.to_string()))?;
        let from_client = Arc::new(Mutex::new(FromClient::default()));
        spawn_reader(
            client.try_clone()?,
            Arc::clone(&from_client),
            self.wake.clone(),
        )?;
        client.set_nonblocking(false)?;
        client.set_write_timeout(Some(Duration::from_millis(1)))?;
        client.set_nodelay(true)?;
        let socket = self.sockets.add(socket);
        self.connections.push(Connection {
            socket,
            client,
            from_client,
            to_client: VecDeque::new(),
            begun: Instant::now(),
            established: false,
        });
        Ok(())
    }

    /// Moves bytes between clients and sockets; true if any were moved.
    fn exchange(&mut self) -> bool {
        let mut moved = false;
        let sockets = &mut self.sockets;
        self.connections.retain_mut(|connection| {
            let socket = sockets.get_mut::<tcp::Socket<'_>>(connection.socket);
            let goes_on = connection.exchange(socket, &mut moved);
            if !goes_on {
                let _ = connection.client.shutdown(Shutdown::Both);
                sockets.remove(connection.socket);
            }
            goes_on
        });
        moved
    }
}

impl Connection {
    /// False when the connection is over.
    fn exchange(&mut self, socket: &mut tcp::Socket<'_>, moved: &mut bool) -> bool {
        self.established |= socket.may_send();
        if !self.established && self.begun.elapsed() > PATIENCE {
            socket.abort();
        }
        while socket.can_recv() && self.to_client.len() < BUFFER {
            let taken = socket.recv(|bytes| {
                self.to_client.extend(&*bytes);
                (bytes.len(), ())
            });
            if taken.is_err() {
                break;
            }
            *moved = true;
        }
        if !self.write_to_client() {
            socket.abort();
        }
        let mut from_client = lock(&self.from_client);
        while socket.can_send() && !from_client.bytes.is_empty() {
            let (bytes, _) = from_client.bytes.as_slices();
            let Ok(sent) = socket.send_slice(bytes) else {
                break;
            };
            from_client.bytes.drain(..sent);
            *moved = true;
        }
        if from_client.ended && from_client.bytes.is_empty() && self.established {
            socket.close();
        }
        drop(from_client);
        if self.established && !socket.may_recv() && self.to_client.is_empty() {
            // The machine has ended its half: so do we.
            let _ = self.client.shutdown(Shutdown::Write);
        }
        socket.is_active()
    }

    /// Writes what the client takes now; false when it is gone.
    fn write_to_client(&mut self) -> bool {
        while !self.to_client.is_empty() {
            let (bytes, _) = self.to_client.as_slices();
            match self.client.write(bytes) {
                Ok(0) => return false,
                Ok(written) => drop(self.to_client.drain(..written)),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
                    ) =>
                {
                    return true;
                }
                Err(_) => return false,
            }
        }
        true
    }
}

/// Reads a client into its buffer, and holds it when the buffer is full.
fn spawn_reader(
    mut client: TcpStream,
    into: Arc<Mutex<FromClient>>,
    wake: Sender<Input>,
) -> io::Result<()> {
    thread::Builder::new()
        .name("forward-client".to_owned())
        .spawn(move || {
            let mut buffer = vec![0; 64 << 10];
            loop {
                let read = client.read(&mut buffer).unwrap_or(0);
                {
                    let mut shared = lock(&into);
                    shared.ended = read == 0;
                    shared.bytes.extend(&buffer[..read]);
                }
                if wake.send(Input::Readable).is_err() || read == 0 {
                    return;
                }
                while lock(&into).bytes.len() > BUFFER {
                    // The machine does not take it; TCP holds the client back meanwhile.
                    thread::sleep(Duration::from_millis(2));
                }
            }
        })?;
    Ok(())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
