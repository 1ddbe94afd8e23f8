//! A way in behind a node's firewall: connections that are made inside of the node, as its own programs make them.

use std::{
    fs::File,
    net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener},
    sync::mpsc,
    thread,
};

use nix::sched::{CloneFlags, setns};
use tokio::sync::oneshot;

use super::wire;
use crate::error::{Attempt, Error, Result};

/// Forwards from a new loopback port of the host to `to`, from within the network namespace of that process, until the guard is dropped.
pub(super) fn forward(init: i32, to: SocketAddrV4) -> Result<(SocketAddr, oneshot::Sender<()>)> {
    let namespace = format!("/proc/{init}/ns/net");
    let namespace = File::open(&namespace).attempt(|| format!("open {namespace}"))?;
    let listener =
        TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).attempt(|| "listen on a loopback port")?;
    let local = listener.local_addr().attempt(|| "ask for the port")?;
    listener
        .set_nonblocking(true)
        .attempt(|| "prepare the listener")?;
    let (guard, stop) = oneshot::channel();
    let (ready, outcome) = mpsc::channel();
    thread::Builder::new()
        .name("inside".to_owned())
        .spawn(move || live(namespace, listener, to, stop, &ready))
        .attempt(|| "start a forwarder's thread")?;
    let gone = |_| Error::Refused("a forwarder's thread has ended".to_owned());
    outcome.recv().map_err(gone)??;
    Ok((local, guard))
}

fn live(
    namespace: File,
    listener: TcpListener,
    to: SocketAddrV4,
    stop: oneshot::Receiver<()>,
    ready: &mpsc::Sender<Result<()>>,
) {
    let entered = setns(namespace, CloneFlags::CLONE_NEWNET)
        .attempt(|| "enter the node's network")
        .and_then(|()| {
            tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .attempt(|| "start a forwarder's executor")
        });
    let runtime = match entered {
        Ok(runtime) => runtime,
        Err(error) => return drop(ready.send(Err(error))),
    };
    runtime.block_on(async {
        match tokio::net::TcpListener::from_std(listener).attempt(|| "take over the listener") {
            Ok(listener) => {
                let _ = ready.send(Ok(()));
                wire::forward(listener, to, stop).await;
            }
            Err(error) => drop(ready.send(Err(error))),
        }
    });
}
