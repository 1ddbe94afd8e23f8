//! A client that watches through the virtual address and waits, without any time-out of its own: when its connection's other end dies, nobody but that
//! end's successor tells it.

use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;
use ureq::Agent;

use crate::{cluster::Cluster, credentials::credentials, error::Result};

/// Between the end of a connection and the next one.
const PAUSE: Duration = Duration::from_millis(20);

/// A watch of the ConfigMaps of the default namespace. Its thread ends with its next line after it was dropped, and with the process at the latest.
pub struct Watcher {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    over: AtomicBool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// When each object was first told of.
    seen: BTreeMap<String, Instant>,
    connections: usize,
}

impl Watcher {
    /// Begins to watch, from now on. The cluster must be ready: its kubeconfig is used.
    pub fn begin(cluster: &Cluster) -> Result<Self> {
        let agent: Agent = Agent::config_builder()
            .tls_config(credentials(&cluster.directory().kubeconfig())?)
            .http_status_as_error(false)
            .build()
            .into();
        let url = format!(
            "https://{}/api/v1/namespaces/default/configmaps?watch=true",
            cluster.endpoint()
        );
        let shared = Arc::<Shared>::default();
        let watching = Arc::clone(&shared);
        thread::spawn(move || {
            while !watching.over.load(Ordering::SeqCst) {
                // However it ended, a client begins anew.
                let _ = watch(&agent, &url, &watching);
                thread::sleep(PAUSE);
            }
        });
        Ok(Self { shared })
    }

    /// When an object was first told of.
    pub fn saw(&self, name: &str) -> Option<Instant> {
        self.shared.state().seen.get(name).copied()
    }

    /// How many connections it has made.
    pub fn connections(&self) -> usize {
        self.shared.state().connections
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::SeqCst);
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One connection, to its end. A watch without a resource version begins with all that is there.
fn watch(agent: &Agent, url: &str, shared: &Shared) -> std::result::Result<(), ureq::Error> {
    let mut answer = agent.get(url).call()?;
    if !answer.status().is_success() {
        return Ok(());
    }
    shared.state().connections += 1;
    for line in BufReader::new(answer.body_mut().as_reader()).lines() {
        if shared.over.load(Ordering::SeqCst) {
            break;
        }
        let Ok(told) = serde_json::from_str::<Value>(&line?) else {
            break;
        };
        if let Some(name) = told
            .pointer("/object/metadata/name")
            .and_then(Value::as_str)
        {
            let mut state = shared.state();
            state
                .seen
                .entry(name.to_owned())
                .or_insert_with(Instant::now);
        }
    }
    Ok(())
}
