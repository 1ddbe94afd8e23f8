//! The cluster's endpoint on the host: a loopback port that leads to a master whose apiserver is ready.
//!
//! Without an address that the masters own together, clients must choose a master, and choose again when it
//! dies. This port does that for kubectl: it stays with one master for as long as that is ready, moves to the
//! first that is when it is not, and then closes the connections to the old one, so that watches move too. It asks only
//! while somebody is connected: a cluster that is measured is not disturbed.

use std::{
    io,
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use crate::{
    error::{Attempt, Result},
    provider::{Node, Power},
    readyz::Asker,
};

/// Between two looks at the master that is used.
const BETWEEN_LOOKS: Duration = Duration::from_millis(250);

/// The port. Dropping it closes it, with all connections.
pub(super) struct Endpoint {
    local: SocketAddr,
    shared: Arc<Shared>,
}

/// A master that connections can lead to.
pub(super) trait Target: Send {
    /// Where its apiserver can be reached.
    fn through(&self) -> SocketAddr;
    /// Whether it has power.
    fn is_on(&self) -> bool;
    /// Whether its apiserver says that it is ready.
    fn is_ready(&mut self) -> bool;
}

/// A node of a cluster.
pub(super) struct Master {
    node: Arc<dyn Node>,
    through: SocketAddr,
    apiserver: Asker,
}

impl Master {
    /// The apiserver is reached at `through`, and not ready when it does not answer for `timeout`.
    pub(super) fn new(node: Arc<dyn Node>, through: SocketAddr, timeout: Duration) -> Result<Self> {
        let apiserver = Asker::new(through, timeout)?;
        Ok(Self {
            node,
            through,
            apiserver,
        })
    }
}

impl Target for Master {
    fn through(&self) -> SocketAddr {
        self.through
    }

    fn is_on(&self) -> bool {
        self.node.power() == Power::On
    }

    fn is_ready(&mut self) -> bool {
        self.apiserver.is_ready()
    }
}

struct Shared {
    /// Held while one of them is chosen.
    targets: Mutex<Vec<Box<dyn Target>>>,
    state: Mutex<State>,
    /// Notified when somebody connects, and at the end.
    connected: Condvar,
    closed: AtomicBool,
}

#[derive(Default)]
struct State {
    chosen: Option<usize>,
    next_connection: usize,
    /// Both ends of each connection.
    connections: Vec<(usize, TcpStream, TcpStream)>,
}

impl Endpoint {
    /// Opens the port.
    pub(super) fn open(targets: Vec<Box<dyn Target>>) -> Result<Self> {
        let listener =
            TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).attempt(|| "listen on a loopback port")?;
        let local = listener.local_addr().attempt(|| "ask for the port")?;
        let shared = Arc::new(Shared {
            targets: Mutex::new(targets),
            state: Mutex::default(),
            connected: Condvar::new(),
            closed: AtomicBool::new(false),
        });
        let accepting = Arc::clone(&shared);
        thread::Builder::new()
            .name("endpoint".to_owned())
            .spawn(move || accepting.accept(&listener))
            .attempt(|| "start the endpoint's thread")?;
        let watching = Arc::clone(&shared);
        thread::Builder::new()
            .name("endpoint-watch".to_owned())
            .spawn(move || watching.watch())
            .attempt(|| "start the endpoint's thread")?;
        Ok(Self { local, shared })
    }

    /// Where to connect.
    pub(super) fn local(&self) -> SocketAddr {
        self.local
    }

    /// Which of the targets connections lead to; `None` before the first connection.
    pub(super) fn leads_to(&self) -> Option<usize> {
        self.shared.state().chosen
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.shared.closed.store(true, Ordering::SeqCst);
        self.shared.connected.notify_all();
        // Wakes the accepting thread, which then sees that it is over.
        let _ = TcpStream::connect(self.local);
        // The threads may live a moment longer, and must not keep the nodes.
        self.shared.targets().clear();
        self.shared.state().disconnect();
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn targets(&self) -> MutexGuard<'_, Vec<Box<dyn Target>>> {
        self.targets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn accept(self: &Arc<Self>, listener: &TcpListener) {
        for client in listener.incoming() {
            if self.closed.load(Ordering::SeqCst) {
                return;
            }
            if let Ok(client) = client {
                let shared = Arc::clone(self);
                // A client sees what goes wrong: its connection is closed.
                thread::spawn(move || shared.serve(client));
            }
        }
    }

    fn serve(&self, client: TcpStream) -> io::Result<()> {
        let through = self.choose().ok_or(io::ErrorKind::ConnectionRefused)?;
        let server = TcpStream::connect(through)?;
        client.set_nodelay(true)?;
        server.set_nodelay(true)?;
        let number = {
            let mut state = self.state();
            let number = state.next_connection;
            state.next_connection += 1;
            let ends = (number, client.try_clone()?, server.try_clone()?);
            state.connections.push(ends);
            self.connected.notify_all();
            number
        };
        thread::scope(|scope| {
            scope.spawn(|| copy(&client, &server));
            copy(&server, &client);
        });
        self.state()
            .connections
            .retain(|(other, ..)| *other != number);
        Ok(())
    }

    /// Looks after the chosen master for as long as somebody is connected to it.
    fn watch(&self) {
        loop {
            let mut state = self.state();
            while state.connections.is_empty() && !self.closed.load(Ordering::SeqCst) {
                state = self
                    .connected
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner);
            }
            drop(state);
            if self.closed.load(Ordering::SeqCst) {
                return;
            }
            self.choose();
            thread::sleep(BETWEEN_LOOKS);
        }
    }

    /// The chosen master if it is ready, otherwise the first that is; when none is, one that may become so.
    fn choose(&self) -> Option<SocketAddr> {
        let mut targets = self.targets();
        let before = self.state().chosen;
        // Whoever was chosen is asked first, and the others in their order.
        let order: Vec<usize> = before.into_iter().chain(0..targets.len()).collect();
        let is_on = |index: &usize| targets.get(*index).is_some_and(|target| target.is_on());
        let on: Vec<usize> = order.into_iter().filter(is_on).collect();
        let ready = on.iter().find(|index| targets[**index].is_ready());
        let chosen = ready.or(on.first()).copied();
        let mut state = self.state();
        if state.chosen != chosen {
            state.disconnect();
            state.chosen = chosen;
        }
        chosen.map(|index| targets[index].through())
    }
}

impl State {
    fn disconnect(&mut self) {
        for (_, client, server) in self.connections.drain(..) {
            let _ = client.shutdown(Shutdown::Both);
            let _ = server.shutdown(Shutdown::Both);
        }
    }
}

/// One direction, to its end, which the other side is told.
fn copy(mut from: &TcpStream, mut to: &TcpStream) {
    let _ = io::copy(&mut from, &mut to);
    let _ = to.shutdown(Shutdown::Write);
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    /// A master that says its name to whoever connects, and keeps the connection.
    struct Named {
        through: SocketAddr,
        on: Arc<AtomicBool>,
        ready: Arc<AtomicBool>,
    }

    impl Named {
        fn new(name: u8) -> Self {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
            let through = listener.local_addr().expect("its address");
            thread::spawn(move || {
                let mut kept = Vec::new();
                for mut stream in listener.incoming().flatten() {
                    let _ = stream.write_all(&[name]);
                    kept.push(stream);
                }
            });
            let yes = || Arc::new(AtomicBool::new(true));
            Self {
                through,
                on: yes(),
                ready: yes(),
            }
        }
    }

    impl Target for Named {
        fn through(&self) -> SocketAddr {
            self.through
        }

        fn is_on(&self) -> bool {
            self.on.load(Ordering::SeqCst)
        }

        fn is_ready(&mut self) -> bool {
            self.ready.load(Ordering::SeqCst)
        }
    }

    fn name(stream: &mut TcpStream) -> u8 {
        let mut name = [0];
        stream.read_exact(&mut name).expect("a name");
        name[0]
    }

    #[test]
    fn it_stays_with_a_master_until_another_is_the_one_that_is_ready() {
        let (one, two) = (Named::new(b'1'), Named::new(b'2'));
        let (one_on, one_ready) = (Arc::clone(&one.on), Arc::clone(&one.ready));
        let two_ready = Arc::clone(&two.ready);
        let endpoint = Endpoint::open(vec![Box::new(one), Box::new(two)]).expect("a port");
        assert_eq!(endpoint.leads_to(), None);
        let connect = || TcpStream::connect(endpoint.local()).expect("a connection");
        let mut first = connect();
        assert_eq!(name(&mut first), b'1');

        one_ready.store(false, Ordering::SeqCst);
        // The end of the connection: whoever watches must not wait for a dead master.
        assert_eq!(first.read(&mut [0]).unwrap_or_default(), 0);
        let mut second = connect();
        assert_eq!(name(&mut second), b'2');

        one_ready.store(true, Ordering::SeqCst);
        assert_eq!(name(&mut connect()), b'2', "no reason to move back");

        one_ready.store(false, Ordering::SeqCst);
        two_ready.store(false, Ordering::SeqCst);
        assert_eq!(name(&mut connect()), b'2', "none is better");
        one_on.store(false, Ordering::SeqCst);
        assert_eq!(name(&mut connect()), b'2');
        assert_eq!(endpoint.leads_to(), Some(1));
    }
}
