//! The daemon itself: `lab daemon`, which `lab up` starts.

use std::{
    fs::{self, OpenOptions},
    io::{self, BufRead, BufReader, stdin, stdout},
    os::{
        fd::{AsFd, RawFd},
        unix::net::{UnixListener, UnixStream},
    },
    sync::{Arc, PoisonError, RwLock},
    thread,
    time::{Duration, Instant},
};

use nix::sys::signal::{SigSet, Signal};

use super::protocol::{Answer, Order, Origin, Outcome, Request, receive, send};
use crate::{
    cluster::{Cluster, all_ready},
    directory::Directory,
    error::{Attempt, Error, Result, chain},
    patience::{Look, wait_until},
    saved::SavedCluster,
};

/// Runs a daemon to its end. What it is to run comes on standard input; whether that could be
/// started is said on standard output.
pub fn run() -> Result<()> {
    close_inherited()?;
    // Before there is a second thread: all of them wait for these in `await_signal` only.
    let signals = SigSet::from_iter([Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP]);
    signals.thread_block().attempt(|| "block signals")?;
    rustix::process::setsid().attempt(|| "start a session")?;

    let mut line = String::new();
    stdin()
        .lock()
        .read_line(&mut line)
        .attempt(|| "read what to run")?;
    let order: Order = serde_json::from_str(&line)
        .map_err(io::Error::from)
        .attempt(|| "understand what to run")?;
    let directory = Directory::new(&order.plan.directory);
    match begin(order, &directory) {
        Ok((server, listener)) => {
            let started = report(&Answer::Done {
                outcome: Outcome::Nothing,
            });
            if let Err(error) = started {
                // Who wanted the cluster was killed, and knows nothing of it.
                server.end()?;
                return Err(error);
            }
            detach(&directory)?;
            let for_starter = Arc::clone(&server);
            thread::spawn(move || for_starter.await_kept());
            let for_signals = Arc::clone(&server);
            thread::spawn(move || for_signals.await_signal(&signals));
            server.serve(&listener)
        }
        Err(error) => {
            // All that it made has gone with the cluster, but for the folder, which may be another lab's.
            let removed = directory.clear().err();
            report(&Answer::Failed {
                message: chain(removed.as_ref().unwrap_or(&error)),
            })
        }
    }
}

/// Closes what the caller has left open: a pipe that the daemon holds never ends for whoever reads it.
/// Called before this program has opened anything itself.
fn close_inherited() -> Result<()> {
    let action = || "list inherited files";
    let open = fs::read_dir("/proc/self/fd").attempt(action)?;
    let names = open.map(|entry| Ok(entry?.file_name()));
    // Entries hold the list open; it must be closed before its number is.
    let names = names.collect::<io::Result<Vec<_>>>().attempt(action)?;
    let numbers = names
        .iter()
        .filter_map(|name| name.to_str()?.parse::<RawFd>().ok());
    for number in numbers.filter(|number| *number > 2) {
        // The list's own is closed already.
        let _ = nix::unistd::close(number);
    }
    Ok(())
}

fn report(answer: &Answer) -> Result<()> {
    send(stdout(), answer).attempt(|| "report to lab up")
}

fn begin(order: Order, directory: &Directory) -> Result<(Arc<Server>, UnixListener)> {
    let Order {
        plan,
        origin,
        tools,
    } = order;
    let (cluster, off) = match origin {
        Origin::New { provider, off } => (Cluster::new(plan, provider, &tools)?, Some(off)),
        Origin::Saved(folder) => {
            let saved = SavedCluster::open(&folder)?;
            (saved.restore(&plan.directory, &plan.image, &tools)?, None)
        }
    };
    let listener = UnixListener::bind(directory.socket())
        .attempt(|| format!("listen on {}", directory.socket().display()))?;
    if let Some(off) = off {
        cluster.power_on_without(&off)?;
    }
    let server = Server {
        directory: directory.clone(),
        cluster: RwLock::new(Some(cluster)),
    };
    Ok((Arc::new(server), listener))
}

/// Lets go of the terminal.
fn detach(directory: &Directory) -> Result<()> {
    let path = directory.daemon_log();
    let log = OpenOptions::new()
        .append(true)
        .create(true)
        .open(&path)
        .attempt(|| format!("open {}", path.display()))?;
    rustix::stdio::dup2_stdout(log.as_fd()).attempt(|| "let go of standard output")?;
    rustix::stdio::dup2_stderr(log.as_fd()).attempt(|| "let go of standard error")
}

struct Server {
    directory: Directory,
    /// None when the cluster has been ended.
    cluster: RwLock<Option<Cluster>>,
}

impl Server {
    fn serve(self: &Arc<Self>, listener: &UnixListener) -> Result<()> {
        loop {
            let (socket, _) = listener.accept().attempt(|| "accept a connection")?;
            let server = Arc::clone(self);
            thread::spawn(move || {
                if let Err(error) = server.converse(socket) {
                    eprintln!("lab: {}", chain(&error));
                }
            });
        }
    }

    /// One connection: one request.
    fn converse(&self, socket: UnixStream) -> Result<()> {
        let mut reader = BufReader::new(socket.try_clone().attempt(|| "duplicate a socket")?);
        let Some(request) = receive(&mut reader).attempt(|| "read a request")? else {
            return Ok(());
        };
        let result = match &request {
            Request::Wait { or_down } => self.wait(&socket, *or_down),
            Request::Down => self.end().map(|()| Outcome::Nothing),
            other => self.with_cluster(|cluster| perform(cluster, other)),
        };
        let answer = match result {
            Ok(outcome) => Answer::Done { outcome },
            Err(error) => Answer::Failed {
                message: chain(&error),
            },
        };
        let sent = send(&socket, &answer).attempt(|| "answer");
        if request == Request::Down {
            std::process::exit(0);
        }
        sent
    }

    fn with_cluster<T>(&self, act: impl FnOnce(&Cluster) -> Result<T>) -> Result<T> {
        let guard = self.cluster.read().unwrap_or_else(PoisonError::into_inner);
        act(guard
            .as_ref()
            .ok_or_else(|| Error::Refused("the cluster has been ended".to_owned()))?)
    }

    /// The cluster is let go between two looks, so that `lab down` need not wait for this.
    fn wait(&self, socket: &UnixStream, or_down: bool) -> Result<Outcome> {
        const HEARTBEAT: Duration = Duration::from_secs(1);
        let patience = self.with_cluster(|cluster| Ok(cluster.patience_for_founding()))?;
        let mut told = (Vec::new(), Instant::now());
        let result = wait_until("the cluster to be ready", patience, || {
            let nodes = match self.with_cluster(|cluster| Ok(cluster.look_at_all())) {
                Ok(nodes) => nodes,
                Err(error) => return Look::Never(error),
            };
            // Also when nothing has changed: it shows whether the caller is still there.
            if nodes != told.0 || told.1.elapsed() >= HEARTBEAT {
                told = (nodes.clone(), Instant::now());
                if let Err(source) = send(
                    socket,
                    &Answer::Progress {
                        nodes: nodes.clone(),
                    },
                ) {
                    let action = "tell the caller of the progress".to_owned();
                    return Look::Never(Error::System { action, source });
                }
            }
            all_ready(&nodes)
        });
        match result {
            Err(Error::System { .. }) if or_down => {
                self.end()?;
                std::process::exit(0);
            }
            Err(error) => Err(error),
            Ok(()) => self.with_cluster(|cluster| Ok(Outcome::Cluster(cluster.describe()))),
        }
    }

    /// Ends the cluster and removes its folder.
    fn end(&self) -> Result<()> {
        self.cluster
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        self.directory.remove()
    }

    /// Ends the cluster when whoever started it goes without a word. Once it waits for readiness its connection says
    /// whether it is there; this is for the moments before.
    fn await_kept(&self) {
        let mut line = String::new();
        if matches!(stdin().lock().read_line(&mut line), Ok(1..)) {
            return;
        }
        if let Err(error) = self.end() {
            eprintln!("lab: {}", chain(&error));
        }
        std::process::exit(0);
    }

    fn await_signal(&self, signals: &SigSet) {
        if signals.wait().is_ok() {
            let code = match self.end() {
                Ok(()) => 0,
                Err(error) => {
                    eprintln!("lab: {}", chain(&error));
                    1
                }
            };
            std::process::exit(code);
        }
    }
}

fn perform(cluster: &Cluster, request: &Request) -> Result<Outcome> {
    match request {
        Request::Wait { .. } | Request::Down => Ok(Outcome::Nothing),
        Request::Status => Ok(Outcome::Cluster(cluster.describe())),
        Request::PowerCut { node } => cluster.node(node)?.cut_power().map(|()| Outcome::Nothing),
        Request::PowerOn { node } => cluster.node(node)?.power_on().map(|()| Outcome::Nothing),
        Request::Partition { groups, direction } => cluster
            .partition(groups, *direction)
            .map(|()| Outcome::Nothing),
        Request::Cable { node, cable } => cluster
            .node(node)?
            .set_cable(*cable)
            .map(|()| Outcome::Nothing),
        Request::Wipe { node, what } => cluster.node(node)?.wipe(*what).map(|()| Outcome::Nothing),
        Request::Seed { node, seed } => cluster
            .node(node)?
            .set_seed(seed)
            .map(|()| Outcome::Nothing),
        Request::Link { node, link } => cluster
            .node(node)?
            .set_link(*link)
            .map(|()| Outcome::Nothing),
        Request::Signal {
            node,
            service,
            signal,
        } => cluster
            .node(node)?
            .signal(service, *signal)
            .map(|pids| Outcome::Processes { pids }),
        Request::Disk {
            node,
            role,
            condition,
        } => cluster
            .node(node)?
            .set_disk(*role, *condition)
            .map(|effective| Outcome::Disk { effective }),
        Request::Save { folder } => SavedCluster::save(cluster, folder).map(|()| Outcome::Nothing),
        Request::InitProcess { node } => {
            let pid = cluster.node(node)?.init_process()?;
            Ok(Outcome::Processes { pids: vec![pid] })
        }
    }
}
