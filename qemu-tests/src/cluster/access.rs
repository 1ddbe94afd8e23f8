//! An operator's way into a cluster, with the operator's own tools: the lab has no back door.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    process::Command,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use serde_json::Value;

use crate::{
    console,
    directory::Directory,
    error::{Error, Result},
    patience::Patience,
    provider::Node,
    tools::{program, run},
};

/// How long kubectl and mastctl wait for an answer, on the nominal machine.
const NOMINAL_PATIENCE: Duration = Duration::from_secs(3);

/// Logs in and fetches what kubectl needs, by mastctl.
pub(crate) struct Access {
    directory: Directory,
    /// That, here, as they take it.
    patience: String,
    /// The nodes that know us.
    logged_in: Mutex<BTreeSet<String>>,
}

impl Access {
    pub(crate) fn new(directory: &Directory, patience: Patience) -> Self {
        let seconds = patience.of(NOMINAL_PATIENCE).as_secs();
        Self {
            directory: directory.clone(),
            patience: format!("{seconds}s"),
            logged_in: Mutex::new(BTreeSet::new()),
        }
    }

    /// mastctl with this cluster's configuration.
    pub(crate) fn mastctl(&self) -> Command {
        let mut command = program(&self.directory.programs().join("mastctl"));
        command
            .arg("--config")
            .arg(self.directory.mastctl_configuration());
        command
    }

    /// The same, which gives up a request in time.
    fn patient_mastctl(&self) -> Command {
        let mut command = self.mastctl();
        command.args(["--timeout", &self.patience]);
        command
    }

    /// What makes kubectl give up a request in time.
    pub(crate) fn request_timeout(&self) -> String {
        format!("--request-timeout={}", self.patience)
    }

    /// kubectl with this cluster's configuration.
    pub(crate) fn kubectl(&self) -> Command {
        let mut command = program(&self.directory.programs().join("kubectl"));
        command.arg("--kubeconfig").arg(self.directory.kubeconfig());
        command
    }

    /// A secret for a seed.
    pub(crate) fn new_secret(&self) -> Result<String> {
        word(&run(self.mastctl().arg("secret"))?, "mh1-")
    }

    /// Makes the lab's key pair as an operator; returns its public half.
    pub(crate) fn new_operator(&self) -> Result<String> {
        let key = self.directory.operator_key();
        word(
            &run(self.mastctl().arg("keygen").arg("--file").arg(key))?,
            "mk1-",
        )
    }

    /// Logs in to a node, once, with the fingerprint that its console shows; otherwise says what
    /// that waits for.
    pub(crate) fn log_in(
        &self,
        node: &dyn Node,
        through: SocketAddr,
        endpoint: SocketAddr,
    ) -> Result<(), String> {
        let plan = node.plan();
        let mut logged_in = self
            .logged_in
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if logged_in.contains(&plan.name) {
            return Ok(());
        }
        let console = console::text(&plan.console());
        let Some(fingerprint) = console::fingerprint(&console) else {
            return Err(console::waiting(&console)
                .or_else(|| console::last_line(&console).map(str::to_owned))
                .unwrap_or_else(|| "silent".to_owned()));
        };
        let mut login = self.patient_mastctl();
        login
            .args(["login", &through.to_string()])
            .args(["--fingerprint", fingerprint])
            .args(["--name", &plan.address().to_string()])
            .args(["--kubernetes-server", &format!("https://{endpoint}")])
            .arg("--key")
            .arg(self.directory.operator_key());
        run(&mut login).map_err(|error| format!("login: {}", first_line(&error)))?;
        logged_in.insert(plan.name.clone());
        Ok(())
    }

    /// Has a node issue the cluster's kubeconfig, whose server is the loopback port of the login, which leads to the virtual
    /// address: every apiserver's certificate has the loopback address in it.
    pub(crate) fn fetch_kubeconfig(&self, node: &dyn Node) -> Result<(), String> {
        let plan = node.plan();
        let mut fetch = self.patient_mastctl();
        fetch
            .args(["--nodes", &plan.name, "kubeconfig"])
            .arg("--file")
            .arg(self.directory.kubeconfig());
        run(&mut fetch)
            .map(drop)
            .map_err(|error| format!("kubeconfig: {}", first_line(&error)))
    }

    /// A node's status, as `mastctl status` prints it.
    pub(crate) fn status_of(&self, node: &str) -> Result<Value> {
        let mut status = self.patient_mastctl();
        let text = run(status.args(["-o", "json", "-n", node, "status"]))?;
        serde_json::from_str(&text)
            .map_err(|error| Error::Refused(format!("mastctl printed no status: {error}")))
    }

    /// What a node says that it waits for.
    pub(crate) fn waits_for(&self, node: &dyn Node) -> String {
        match self
            .status_of(&node.plan().name)
            .map_err(|error| first_line(&error))
        {
            Ok(status) => {
                let mut causes = BTreeSet::new();
                collect_waiting(&status, &mut causes);
                if causes.is_empty() {
                    "its apiserver is not ready".to_owned()
                } else {
                    causes.into_iter().collect::<Vec<_>>().join("; ")
                }
            }
            Err(error) => format!("status: {error}"),
        }
    }
}

/// The causes of all `waiting` reasons in a status, wherever they are in it; the node repeats those
/// of its services.
fn collect_waiting(value: &Value, causes: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            for (name, field) in fields {
                let reasons = match field {
                    Value::Array(reasons) => reasons.as_slice(),
                    one => std::slice::from_ref(one),
                };
                if name == "waiting" {
                    let cause = |reason: &Value| {
                        Some(
                            reason
                                .get("cause")?
                                .as_str()?
                                .trim_end_matches('.')
                                .to_owned(),
                        )
                    };
                    causes.extend(reasons.iter().filter_map(cause));
                } else {
                    collect_waiting(field, causes);
                }
            }
        }
        Value::Array(elements) => {
            for element in elements {
                collect_waiting(element, causes);
            }
        }
        _ => {}
    }
}

/// The word in a program's output that begins with `prefix`.
fn word(output: &str, prefix: &str) -> Result<String> {
    output
        .split(|character: char| character.is_whitespace() || "\"',".contains(character))
        .find(|word| word.starts_with(prefix))
        .map(str::to_owned)
        .ok_or_else(|| Error::Refused(format!("mastctl printed no `{prefix}…`")))
}

fn first_line(error: &Error) -> String {
    let text = match error {
        Error::Program { output, .. } if !output.is_empty() => {
            refusal(output).unwrap_or_else(|| output.clone())
        }
        other => crate::error::chain(other),
    };
    text.lines().next().unwrap_or_default().to_owned()
}

/// What people need of mastctl's failure in JSON: what failed and why, and what to do.
fn refusal(output: &str) -> Option<String> {
    let failure: Value = serde_json::from_str(output).ok()?;
    let field = |name: &str| failure.get("error")?.get(name)?.as_str();
    let message = field("message")?;
    Some(match field("remedy") {
        Some(remedy) if !remedy.is_empty() => format!("{message} ({remedy})"),
        _ => message.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_reasons_wherever_they_are() {
        let status = serde_json::json!({
            "nodes": [{ "status": {
                "waiting": [{ "code": "disk-missing", "cause": "no disk" }],
                "services": [
                    { "name": "etcd", "waiting": null },
                    { "name": "kube-apiserver", "waiting": { "cause": "etcd is not ready." } },
                ],
            }}],
        });
        let mut causes = BTreeSet::new();
        collect_waiting(&status, &mut causes);
        let causes: Vec<String> = causes.into_iter().collect();
        assert_eq!(causes, ["etcd is not ready", "no disk"]);
    }

    #[test]
    fn shows_a_failure_in_words_and_not_in_json() {
        let failed = |output: &str| Error::Program {
            program: "mastctl".to_owned(),
            status: "exit status: 1".to_owned(),
            output: output.to_owned(),
        };
        let answer = r#"{"error":{"code":"not-ready","message":"cannot read the status of m1: not yet","remedy":"Wait."}}"#;
        assert_eq!(
            first_line(&failed(answer)),
            "cannot read the status of m1: not yet (Wait.)"
        );
        assert_eq!(first_line(&failed("error: one\n  why: two")), "error: one");
    }

    #[test]
    fn finds_a_key_in_what_people_read() {
        assert_eq!(
            word("public key: \"mk1-abc\"\n", "mk1-").expect("there"),
            "mk1-abc"
        );
        assert!(word("nothing", "mk1-").is_err());
    }
}
