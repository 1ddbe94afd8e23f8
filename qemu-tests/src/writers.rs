//! Writers that go on while masters die, and what becomes of their writes.
//!
//! Each writer makes ConfigMaps, one after the other, through one master's apiserver, and tries each again until it is
//! acknowledged: created, or found to exist, when the answer to an earlier try was lost. What was acknowledged must be
//! there ever after; the longest time without an acknowledgement is the outage that clients have seen.
//!
//! Contending writers all make the same ConfigMaps, and only the answer that it was created acknowledges one. Two such
//! answers for one name would be two clusters.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use serde_json::json;
use ureq::Agent;

use crate::{cluster::Cluster, credentials::credentials, error::Result, tools::run};

/// What writes through the virtual address are counted by.
pub const ENDPOINT_NAME: &str = "the virtual address";

/// How fast a writer goes.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// A try that has no answer after this has failed.
    pub timeout: Duration,
    /// Between a write that is acknowledged and the next one.
    pub pause: Duration,
    /// Between a try that has failed and the next one.
    pub retry: Duration,
}

impl Pace {
    /// Between two tries of a client that does not flood a master that refuses it.
    pub const CALM: Duration = Duration::from_millis(20);

    /// As fast as the masters are.
    pub fn fast(timeout: Duration) -> Self {
        Self {
            timeout,
            pause: Duration::ZERO,
            retry: Self::CALM,
        }
    }
}

/// Writers at work. Dropping them ends them.
pub struct Writers {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

struct Shared {
    over: AtomicBool,
    acknowledged: Mutex<Vec<Acknowledged>>,
    failed_twice: Mutex<Vec<String>>,
}

/// A write that an apiserver has acknowledged.
#[derive(Clone, Debug)]
struct Acknowledged {
    name: String,
    through: String,
    at: Instant,
}

/// What came of all writes.
#[derive(Debug)]
pub struct Written {
    acknowledged: Vec<Acknowledged>,
    ended: Instant,
    failed_twice: Vec<String>,
}

impl Writers {
    /// Starts so many writers to the apiserver of each of these nodes. The cluster must be ready: its kubeconfig is used.
    pub fn start(
        cluster: &Cluster,
        nodes: &[&str],
        writers_per_node: usize,
        pace: Pace,
    ) -> Result<Self> {
        let mut names = Vec::new();
        for node in nodes {
            for number in 0..writers_per_node {
                let target = Target::node(cluster, node)?;
                names.push((target, Names::Own(format!("{node}-{number}"))));
            }
        }
        Self::of(cluster, names, pace)
    }

    /// Starts so many writers through the virtual address, each write with a connection of its own.
    pub fn through_endpoint(cluster: &Cluster, writers: usize, pace: Pace) -> Result<Self> {
        Self::through_address(cluster, cluster.endpoint(), writers, pace)
    }

    /// The same through any address that leads to an apiserver.
    pub fn through_address(
        cluster: &Cluster,
        address: SocketAddr,
        writers: usize,
        pace: Pace,
    ) -> Result<Self> {
        let target = || Target {
            name: ENDPOINT_NAME.to_owned(),
            address,
            // A client that comes anew each time is the first to notice.
            keeps_connection: false,
        };
        let names = (0..writers).map(|number| Names::Own(format!("vip-{number}")));
        let writers = names.map(|names| (target(), names)).collect();
        Self::of(cluster, writers, pace)
    }

    /// Starts one writer to the apiserver of each of these nodes, which contend for the same names.
    pub fn contend(cluster: &Cluster, nodes: &[&str], timeout: Duration) -> Result<Self> {
        let targets = nodes.iter().map(|node| Target::node(cluster, node));
        let names = targets.map(|target| Ok((target?, Names::Contended)));
        Self::of(cluster, names.collect::<Result<_>>()?, Pace::fast(timeout))
    }

    fn of(cluster: &Cluster, writers: Vec<(Target, Names)>, pace: Pace) -> Result<Self> {
        // What earlier writers have made, these must not find to exist.
        static RUNS: AtomicU32 = AtomicU32::new(0);
        let run = RUNS.fetch_add(1, Ordering::Relaxed);
        let tls = credentials(&cluster.directory().kubeconfig())?;
        let shared = Arc::new(Shared {
            over: AtomicBool::new(false),
            acknowledged: Mutex::default(),
            failed_twice: Mutex::default(),
        });
        let mut threads = Vec::new();
        for (target, names) in writers {
            let writer = Writer {
                shared: Arc::clone(&shared),
                agent: Agent::config_builder()
                    .max_idle_connections(usize::from(target.keeps_connection))
                    .tls_config(tls.clone())
                    .timeout_global(Some(pace.timeout))
                    .http_status_as_error(false)
                    .build()
                    .into(),
                target,
                run,
                names,
                pace,
            };
            threads.push(thread::spawn(move || writer.work()));
        }
        Ok(Self { shared, threads })
    }

    /// How many writes have been acknowledged so far, through any node.
    pub fn acknowledged(&self) -> usize {
        self.shared.acknowledged().len()
    }

    /// How many writes have been acknowledged so far through that node.
    pub fn acknowledged_through(&self, node: &str) -> usize {
        let acknowledged = self.shared.acknowledged();
        let through = acknowledged.iter().filter(|write| write.through == node);
        through.count()
    }

    /// Ends them, and says what came of it. What is not acknowledged by now does not count.
    pub fn stop(mut self) -> Written {
        self.end();
        Written {
            acknowledged: std::mem::take(&mut *self.shared.acknowledged()),
            ended: Instant::now(),
            failed_twice: self.shared.failed_twice().clone(),
        }
    }

    fn end(&mut self) {
        self.shared.over.store(true, Ordering::SeqCst);
        for thread in self.threads.drain(..) {
            // One that has panicked has acknowledged what it has.
            let _ = thread.join();
        }
    }
}

impl Drop for Writers {
    fn drop(&mut self) {
        self.end();
    }
}

impl Shared {
    fn acknowledged(&self) -> MutexGuard<'_, Vec<Acknowledged>> {
        self.acknowledged
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn failed_twice(&self) -> MutexGuard<'_, Vec<String>> {
        self.failed_twice
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Written {
    /// How many writes were acknowledged.
    pub fn count(&self) -> usize {
        self.acknowledged.len()
    }

    /// The longest time without an acknowledgement through that node, or through any if none is named.
    pub fn longest_gap(&self, node: Option<&str>) -> Duration {
        let mut times: Vec<Instant> = self
            .acknowledged
            .iter()
            .filter(|write| node.is_none_or(|node| write.through == node))
            .map(|write| write.at)
            .collect();
        times.push(self.ended);
        times.sort_unstable();
        let gaps = times.windows(2).map(|pair| pair[1] - pair[0]);
        gaps.max().unwrap_or_default()
    }

    /// The writes that have failed, and their first retry, too, and why each.
    pub fn failed_twice(&self) -> &[String] {
        &self.failed_twice
    }

    /// The names of all acknowledged writes.
    pub fn names(&self) -> BTreeSet<String> {
        let names = self.acknowledged.iter().map(|write| &write.name);
        names.cloned().collect()
    }

    /// The names that were acknowledged more than once.
    pub fn acknowledged_twice(&self) -> BTreeSet<String> {
        let mut seen = BTreeSet::new();
        let names = self.acknowledged.iter().map(|write| &write.name);
        names.filter(|name| !seen.insert(*name)).cloned().collect()
    }

    /// The acknowledged writes that a master does not have. It is asked for its own view: a read that the quorum
    /// agrees on.
    pub fn missing(&self, cluster: &Cluster, node: &str) -> Result<BTreeSet<String>> {
        let server = format!("--server=https://{}", cluster.apiserver(node)?);
        let mut list = cluster.kubectl();
        list.args([
            &server,
            "--request-timeout=60s",
            "get",
            "configmaps",
            "--output=name",
        ]);
        let there = run(&mut list)?;
        let there: BTreeSet<&str> = there
            .lines()
            .map(|line| line.trim_start_matches("configmap/"))
            .collect();
        let names = self.acknowledged.iter().map(|write| &write.name);
        let missing = names.filter(|name| !there.contains(name.as_str()));
        Ok(missing.cloned().collect())
    }
}

/// What a writer writes through.
struct Target {
    /// What its writes are counted by.
    name: String,
    address: SocketAddr,
    keeps_connection: bool,
}

impl Target {
    fn node(cluster: &Cluster, node: &str) -> Result<Self> {
        Ok(Self {
            name: node.to_owned(),
            address: cluster.apiserver(node)?,
            keeps_connection: true,
        })
    }
}

struct Writer {
    shared: Arc<Shared>,
    agent: Agent,
    target: Target,
    run: u32,
    names: Names,
    pace: Pace,
}

/// How a writer names what it writes.
enum Names {
    /// By this prefix, which nobody else has.
    Own(String),
    /// As all that contend with it.
    Contended,
}

/// What came of a try.
enum Answer {
    /// The ConfigMap is there, by this try.
    Created,
    /// It was there before.
    Exists,
    /// Nothing is known, and why.
    Unknown(String),
}

impl Writer {
    fn work(&self) {
        let mut number = 0_u64;
        let mut failed: Vec<String> = Vec::new();
        while !self.shared.over.load(Ordering::SeqCst) {
            let name = match &self.names {
                Names::Own(prefix) => format!("written-{}-{prefix}-{number}", self.run),
                Names::Contended => format!("contended-{}-{number}", self.run),
            };
            let acknowledged = match (self.write(&name), &self.names) {
                // One of its own that exists: an earlier try went through, and its answer was lost.
                (Answer::Created, _) | (Answer::Exists, Names::Own(_)) => true,
                (Answer::Exists, Names::Contended) => false,
                (Answer::Unknown(why), _) => {
                    failed.push(why);
                    if failed.len() == 2 {
                        let mut twice = self.shared.failed_twice();
                        twice.push(format!("{name}: {}", failed.join("; then ")));
                    }
                    thread::sleep(self.pace.retry);
                    continue;
                }
            };
            if acknowledged {
                self.shared.acknowledged().push(Acknowledged {
                    name,
                    through: self.target.name.clone(),
                    at: Instant::now(),
                });
            }
            number += 1;
            failed.clear();
            thread::sleep(self.pace.pause);
        }
    }

    /// One try.
    fn write(&self, name: &str) -> Answer {
        let url = format!(
            "https://{}/api/v1/namespaces/default/configmaps",
            self.target.address
        );
        let object =
            json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": name } });
        let answer = self
            .agent
            .post(url)
            .content_type("application/json")
            .send(object.to_string());
        let mut answer = match answer {
            Ok(answer) => answer,
            Err(error) => return Answer::Unknown(error.to_string()),
        };
        // To its end, so that the connection can be used again.
        let body = match answer.body_mut().read_to_vec() {
            Ok(body) => body,
            Err(error) => return Answer::Unknown(error.to_string()),
        };
        match answer.status().as_u16() {
            201 => Answer::Created,
            409 => Answer::Exists,
            code => Answer::Unknown(format!("{code} {}", String::from_utf8_lossy(&body))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_and_names_are_those_of_the_acknowledgements() {
        let start = Instant::now();
        let at = |seconds: u64, through: &str| Acknowledged {
            name: seconds.to_string(),
            through: through.to_owned(),
            at: start + Duration::from_secs(seconds),
        };
        let written = Written {
            acknowledged: vec![at(0, "m1"), at(3, "m2"), at(1, "m1"), at(4, "m2")],
            ended: start + Duration::from_secs(5),
            failed_twice: Vec::new(),
        };
        assert_eq!(written.longest_gap(None), Duration::from_secs(2));
        assert_eq!(written.longest_gap(Some("m1")), Duration::from_secs(4));
        assert_eq!(written.longest_gap(Some("m2")), Duration::from_secs(1));
        assert!(written.acknowledged_twice().is_empty());
        let mut twice = written;
        twice.acknowledged.push(at(3, "m1"));
        let names = BTreeSet::from(["3".to_owned()]);
        assert_eq!(twice.acknowledged_twice(), names);
    }
}
