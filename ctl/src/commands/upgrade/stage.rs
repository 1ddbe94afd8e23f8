//! How far a master has come, by its own word; pure.

use masthead_api::Status;
use masthead_api::status::InstallationState;

/// What is looked for.
#[derive(Clone, Debug)]
pub(super) struct Awaited {
    /// The boot in which the word was given; the one after it counts. None where any does: the word was given by another `mastctl`.
    pub(super) boot_id: Option<String>,
    /// UUID of the root that it is to run.
    pub(super) image: String,
}

/// How far it has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// It has not gone down yet.
    Stopping,
    /// It is up, and what is said is not known yet, or it does not serve yet.
    Starting,
    /// It runs the image, which is on trial; and what it waits for, if it does not serve.
    OnTrial(Option<String>),
    /// It runs the image, which is good, and serves.
    Good,
    /// It is back with another image, and serves; and why the one on trial was not good, if it is known.
    Back(Option<String>),
}

impl Awaited {
    /// What a master's status says.
    pub(super) fn stage(&self, status: &Status) -> Stage {
        if self.boot_id.as_ref() == Some(&status.node.boot_id) {
            return Stage::Stopping;
        }
        let Some(installation) = &status.installation else {
            return Stage::Starting;
        };
        if installation.state == InstallationState::NotInstalled {
            return Stage::Starting;
        }
        let runs_it = status.node.image == self.image;
        if runs_it && installation.on_trial {
            let waiting = status.waiting.first();
            return Stage::OnTrial(waiting.map(|reason| reason.cause.clone()));
        }
        if !status.serves() || status.holds_disruption_lock() {
            return Stage::Starting;
        }
        if runs_it {
            return Stage::Good;
        }
        let failed = installation.failed.as_ref();
        Stage::Back(failed.map(|failed| failed.why.clone()))
    }
}

impl Stage {
    /// For people.
    pub(super) fn words(&self) -> String {
        match self {
            Self::Stopping => "stops its services".to_owned(),
            Self::Starting => "is up, and does not serve yet".to_owned(),
            Self::OnTrial(None) => "runs the new image, on trial".to_owned(),
            Self::OnTrial(Some(waits)) => format!("runs the new image, on trial: {waits}"),
            Self::Good => "is good".to_owned(),
            Self::Back(None) => "is back with its last image".to_owned(),
            Self::Back(Some(why)) => format!("is back with its last image: {why}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn status(change: impl FnOnce(&mut Value)) -> Status {
        let mut status = json!({
            "node": {
                "name": "m1", "machine_id": "a", "kind": "machine", "version": "0.1.0", "image": "new",
                "boot_time": "2026-01-01T00:00:00Z", "uptime": 1, "boot_id": "after", "timing_scale": 1.0,
                "supervisor": { "pid": 2, "restarts": 0 },
            },
            "installation": { "state": "installed", "generation": 2, "slot": "B", "version": "0.2.0" },
            "services": [{ "name": "etcd", "state": "ready", "since": "2026-01-01T00:00:00Z", "restarts": 0 }],
            "etcd": {
                "member_id": "1", "role": "voter", "leader": "m2", "raft_term": 3, "raft_index": 9, "raft_applied_index": 9,
                "db_size": 1, "db_in_use": 1,
            },
        });
        change(&mut status);
        serde_json::from_value(status).expect("a status")
    }

    fn stage(change: impl FnOnce(&mut Value)) -> Stage {
        let awaited = Awaited {
            boot_id: Some("before".to_owned()),
            image: "new".to_owned(),
        };
        awaited.stage(&status(change))
    }

    #[test]
    fn an_image_is_good_when_its_node_serves_and_is_on_trial_no_more() {
        assert_eq!(stage(|_| ()), Stage::Good);
        assert_eq!(
            stage(|status| status["node"]["boot_id"] = "before".into()),
            Stage::Stopping
        );
        assert_eq!(
            stage(|status| status["installation"] = Value::Null),
            Stage::Starting
        );
        assert_eq!(
            stage(|status| status["services"][0]["state"] = "starting".into()),
            Stage::Starting
        );
        let lock = json!({
            "id": "d", "holder": "m1", "machine_id": "a", "purpose": "upgrade", "by": "mk1-x", "since": "2026-01-01T00:00:00Z",
        });
        assert_eq!(
            stage(|status| status["etcd"]["disruption"] = lock),
            Stage::Starting,
            "the next master would be refused"
        );
        assert_eq!(
            stage(|status| status["installation"]["on_trial"] = true.into()),
            Stage::OnTrial(None)
        );
    }

    #[test]
    fn a_node_that_is_back_with_another_image_says_why() {
        let other = |status: &mut Value| status["node"]["image"] = "old".into();
        assert_eq!(stage(other), Stage::Back(None));
        let failed = json!({ "generation": 2, "version": "0.2.0", "why": "it hung", "at": "2026-01-01T00:00:00Z" });
        let why = stage(|status| {
            other(status);
            status["installation"]["failed"] = failed;
        });
        assert_eq!(why, Stage::Back(Some("it hung".to_owned())));
    }
}
