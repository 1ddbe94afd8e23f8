//! The commands' side of the daemon's socket.

use std::{
    io::{BufRead, BufReader},
    os::unix::net::UnixStream,
    process::{ChildStdin, Command, Stdio},
};

use super::protocol::{Answer, Kept, Order, Origin, Outcome, Request, receive, send};
use crate::{
    cluster::Progress,
    directory::Directory,
    error::{Attempt, Error, Result},
    plan::ClusterPlan,
    tools::Tools,
};

/// A cluster that was started just now. Until it is kept it ends with whoever has started it, however that ends.
#[must_use = "dropping it ends the cluster"]
pub struct Started(ChildStdin);

impl Started {
    /// Lets the cluster go on without the caller.
    pub fn keep(self) -> Result<()> {
        send(self.0, &Kept).attempt(|| "let the cluster go on")
    }
}

/// Starts a daemon with a cluster, whose nodes run when this returns.
pub fn start(plan: ClusterPlan, origin: Origin, tools: Tools) -> Result<Started> {
    let mut daemon = Command::new(&tools.lab)
        .arg("daemon")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .attempt(|| format!("start {} daemon", tools.lab.display()))?;
    let (Some(stdin), Some(stdout)) = (daemon.stdin.take(), daemon.stdout.take()) else {
        return Err(Error::Refused("the daemon has no pipes".to_owned()));
    };
    let order = Order {
        plan,
        origin,
        tools,
    };
    send(&stdin, &order).attempt(|| "order a cluster")?;
    let mut line = String::new();
    BufReader::new(stdout)
        .read_line(&mut line)
        .attempt(|| "hear the daemon")?;
    match serde_json::from_str(&line) {
        Ok(Answer::Done { .. }) => Ok(Started(stdin)),
        Ok(Answer::Failed { message }) => Err(Error::Refused(message)),
        Ok(Answer::Progress { .. }) | Err(_) => Err(Error::Refused(
            "the daemon ended during its start".to_owned(),
        )),
    }
}

/// A connection to the daemon of a cluster.
pub struct Client {
    socket: UnixStream,
}

impl Client {
    /// Connects to the daemon of the cluster in a folder, if there is one.
    pub fn find(directory: &Directory) -> Result<Option<Self>> {
        Ok(directory.connect()?.map(|socket| Self { socket }))
    }

    /// Connects to the daemon of the cluster in a folder.
    pub fn connect(directory: &Directory) -> Result<Self> {
        Self::find(directory)?.ok_or_else(|| {
            Error::Refused(format!(
                "no cluster runs in {}: start one with `lab up`",
                directory.path().display()
            ))
        })
    }

    /// Asks for one thing, and waits for what comes of it.
    pub fn ask(self, request: &Request) -> Result<Outcome> {
        self.ask_with_progress(request, &mut |_| ())
    }

    /// The same for what takes longer.
    pub fn ask_with_progress(
        self,
        request: &Request,
        progress: &mut dyn FnMut(&[Progress]),
    ) -> Result<Outcome> {
        send(&self.socket, request).attempt(|| "ask the daemon")?;
        let mut reader = BufReader::new(self.socket);
        loop {
            match receive(&mut reader).attempt(|| "hear the daemon")? {
                Some(Answer::Progress { nodes }) => progress(&nodes),
                Some(Answer::Done { outcome }) => return Ok(outcome),
                Some(Answer::Failed { message }) => return Err(Error::Refused(message)),
                None => return Err(Error::Refused("the daemon has ended".to_owned())),
            }
        }
    }
}
