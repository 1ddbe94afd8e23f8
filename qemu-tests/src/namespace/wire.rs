//! The cluster's wire: a network namespace with a bridge, and a thread that lives in it.
//!
//! The namespace has no name: it is held by the thread, and ends with the lab, and everything in
//! it too. Sockets belong to the namespace in which they were made, so the thread is also the
//! way in: it accepts on listeners that were made outside, and connects inside.

use std::{
    net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener},
    process::Command,
    sync::mpsc as blocking,
    thread,
};

use rtnetlink::{Handle, LinkBridge, LinkUnspec, LinkVeth, packet_route::link::LinkMessage};
use tokio::{
    net::TcpStream,
    sync::{mpsc, oneshot},
};

use super::tap::WireTap;
use crate::{
    error::{Attempt, Error, Result},
    plan::{GATEWAY, GATEWAY_MAC, Mac, PREFIX},
    provider::Link,
    tools::run_with_input,
};

/// The bridge's name.
pub(super) const BRIDGE: &str = "wire";

/// What the thread is asked to do, with where to answer.
enum Request {
    Attach {
        name: String,
        pid: i32,
        mac: Mac,
        link: Link,
        answer: blocking::Sender<Result<()>>,
    },
    SetLink {
        name: String,
        link: Link,
        answer: blocking::Sender<Result<()>>,
    },
    Forward {
        listener: TcpListener,
        to: SocketAddrV4,
        stop: oneshot::Receiver<()>,
        answer: blocking::Sender<Result<()>>,
    },
    Tap {
        answer: blocking::Sender<Result<WireTap>>,
    },
    Run {
        program: Command,
        input: String,
        answer: blocking::Sender<Result<()>>,
    },
}

/// A handle to the wire; the last one that is dropped ends it.
#[derive(Clone)]
pub(super) struct Wire {
    requests: mpsc::UnboundedSender<Request>,
}

impl Wire {
    /// Makes the namespace, with loopback and bridge up and the gateway's address on the bridge.
    pub(super) fn new() -> Result<Self> {
        let (requests, inbox) = mpsc::unbounded_channel();
        let (ready, outcome) = blocking::channel();
        thread::Builder::new()
            .name("wire".to_owned())
            .spawn(move || live(inbox, &ready))
            .attempt(|| "start the wire's thread")?;
        outcome.recv().unwrap_or_else(|_| Err(gone()))?;
        Ok(Self { requests })
    }

    /// Plugs a node into the bridge: a veth pair, whose other end becomes `eth0` in the network
    /// namespace of process `pid`, with the address `mac`.
    pub(super) fn attach(&self, name: &str, pid: i32, mac: Mac, link: Link) -> Result<()> {
        self.ask(|answer| Request::Attach {
            name: name.to_owned(),
            pid,
            mac,
            link,
            answer,
        })
    }

    /// Pulls a node's cable out or plugs it in: the node sees its carrier go and come.
    pub(super) fn set_link(&self, name: &str, link: Link) -> Result<()> {
        self.ask(|answer| Request::SetLink {
            name: name.to_owned(),
            link,
            answer,
        })
    }

    /// Forwards from a new loopback port of the host to `to`, until the guard is dropped.
    pub(super) fn forward(&self, to: SocketAddrV4) -> Result<(SocketAddr, oneshot::Sender<()>)> {
        let listener =
            TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).attempt(|| "listen on a loopback port")?;
        let local = listener.local_addr().attempt(|| "ask for the port")?;
        listener
            .set_nonblocking(true)
            .attempt(|| "prepare the listener")?;
        let (guard, stop) = oneshot::channel();
        self.ask(|answer| Request::Forward {
            listener,
            to,
            stop,
            answer,
        })?;
        Ok((local, guard))
    }

    /// An ear on every port.
    pub(super) fn tap(&self) -> Result<WireTap> {
        self.ask(|answer| Request::Tap { answer })
    }

    /// Runs a program of the host inside of the namespace, with `input` on its standard input, to its end.
    pub(super) fn run(&self, program: &str, arguments: &[&str], input: String) -> Result<()> {
        let mut command = Command::new(program);
        command.args(arguments);
        self.ask(|answer| Request::Run {
            program: command,
            input,
            answer,
        })
    }

    fn ask<T>(&self, request: impl FnOnce(blocking::Sender<Result<T>>) -> Request) -> Result<T> {
        let (answer, outcome) = blocking::channel();
        self.requests.send(request(answer)).map_err(|_| gone())?;
        outcome.recv().unwrap_or_else(|_| Err(gone()))
    }
}

fn gone() -> Error {
    Error::Refused("the cluster's network has ended".to_owned())
}

/// The thread's life.
fn live(mut inbox: mpsc::UnboundedReceiver<Request>, ready: &blocking::Sender<Result<()>>) {
    let runtime = nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET)
        .attempt(|| "unshare a network namespace")
        .and_then(|()| {
            tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .attempt(|| "start the wire's executor")
        });
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return drop(ready.send(Err(error))),
    };
    runtime.block_on(async move {
        let links = match Links::new().await {
            Ok(links) => links,
            Err(error) => return drop(ready.send(Err(error))),
        };
        // Whoever asks waits for the answer; one who does not any more does not need it.
        let _ = ready.send(Ok(()));
        while let Some(request) = inbox.recv().await {
            match request {
                Request::Attach {
                    name,
                    pid,
                    mac,
                    link,
                    answer,
                } => {
                    let _ = answer.send(links.attach(&name, pid, mac, link).await);
                }
                Request::SetLink { name, link, answer } => {
                    let _ = answer.send(links.set(&name, link).await);
                }
                Request::Tap { answer } => {
                    let _ = answer.send(WireTap::open());
                }
                // What it starts is in its namespace. It takes milliseconds.
                Request::Run {
                    program,
                    input,
                    answer,
                } => {
                    let _ = answer.send(run_with_input(program, &input));
                }
                Request::Forward {
                    listener,
                    to,
                    stop,
                    answer,
                } => {
                    let listener = tokio::net::TcpListener::from_std(listener)
                        .attempt(|| "take over the listener");
                    let _ = answer.send(listener.map(|listener| {
                        tokio::spawn(forward(listener, to, stop));
                    }));
                }
            }
        }
    });
}

/// Accepts until `stop` ends, and then drops the connections too.
pub(super) async fn forward(
    listener: tokio::net::TcpListener,
    to: SocketAddrV4,
    mut stop: oneshot::Receiver<()>,
) {
    let mut connections = tokio::task::JoinSet::new();
    loop {
        tokio::select! {
            _ = &mut stop => return,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => if let Ok((outside, _)) = accepted {
                connections.spawn(join(outside, to));
            }
        }
    }
}

/// One connection. A node that does not answer is the client's to see: its connection is closed.
async fn join(mut outside: TcpStream, to: SocketAddrV4) {
    if let Ok(mut inside) = TcpStream::connect(to).await {
        let _ = outside.set_nodelay(true);
        let _ = inside.set_nodelay(true);
        let _ = tokio::io::copy_bidirectional(&mut outside, &mut inside).await;
    }
}

/// The links of the namespace, over netlink.
struct Links {
    handle: Handle,
    bridge: u32,
}

impl Links {
    async fn new() -> Result<Self> {
        let (connection, handle, _) =
            rtnetlink::new_connection().attempt(|| "open a netlink socket")?;
        tokio::spawn(connection);
        let mut links = Self { handle, bridge: 0 };
        let loopback = Self::index("lo")?;
        links
            .change(LinkUnspec::new_with_index(loopback).up().build())
            .await?;
        links
            .handle
            .link()
            .add(
                // Its own: else it has that of a port, and another one with each port that goes.
                LinkBridge::new(BRIDGE)
                    .address(GATEWAY_MAC.0.to_vec())
                    .up()
                    .build(),
            )
            .execute()
            .await
            .map_err(|error| netlink("add the bridge", error))?;
        links.bridge = Self::index(BRIDGE)?;
        links
            .handle
            .address()
            .add(links.bridge, GATEWAY.into(), PREFIX)
            .execute()
            .await
            .map_err(|error| netlink("give the bridge its address", error))?;
        Ok(links)
    }

    async fn attach(&self, name: &str, pid: i32, mac: Mac, link: Link) -> Result<()> {
        // The kernel removes the pair of an ended namespace later, when it has time.
        if let Ok(old) = Self::index(name) {
            let _ = self.handle.link().del(old).execute().await;
        }
        let peer_name = format!("{name}-node");
        self.handle
            .link()
            .add(
                LinkVeth::new(name, &peer_name)
                    .controller(self.bridge)
                    .build(),
            )
            .execute()
            .await
            .map_err(|error| netlink("add a veth pair", error))?;
        let peer = Self::index(&peer_name)?;
        self.change(
            LinkUnspec::new_with_index(peer)
                .address(mac.0.to_vec())
                .build(),
        )
        .await?;
        #[expect(clippy::cast_sign_loss, reason = "a process id is positive")]
        self.change(
            LinkUnspec::new_with_index(peer)
                .name("eth0".to_owned())
                .setns_by_pid(pid as u32)
                .build(),
        )
        .await?;
        self.set(name, link).await
    }

    async fn set(&self, name: &str, link: Link) -> Result<()> {
        let message = LinkUnspec::new_with_index(Self::index(name)?);
        self.change(match link {
            Link::Up => message.up().build(),
            Link::Down => message.down().build(),
        })
        .await
    }

    async fn change(&self, message: LinkMessage) -> Result<()> {
        self.handle
            .link()
            .set(message)
            .execute()
            .await
            .map_err(|error| netlink("change a link", error))
    }

    fn index(name: &str) -> Result<u32> {
        let name = std::ffi::CString::new(name).map_err(|_| gone())?;
        nix::net::if_::if_nametoindex(name.as_c_str())
            .attempt(|| format!("find the link {}", name.to_string_lossy()))
    }
}

fn netlink(action: &str, error: rtnetlink::Error) -> Error {
    Error::System {
        action: action.to_owned(),
        source: std::io::Error::other(error),
    }
}
