//! The scheduler's command line and configuration.

use masthead_pki::Purpose;
use serde_json::json;

use crate::controller::{Common, Controller};
use crate::files::{Files, Reading};
use crate::flags::{LeaderElection, scaled};
use crate::{Component, Inputs, SCHEDULER_PORT, Service};

const COMPONENT: Component = Component::KubeScheduler;
const CONTROLLER: Controller = Controller {
    component: COMPONENT,
    port: SCHEDULER_PORT,
    client: Purpose::SchedulerClient,
    serving: Purpose::SchedulerServing,
};

pub(crate) fn service(inputs: &Inputs<'_>, files: &mut Files<'_>) -> Service {
    Service {
        component: COMPONENT,
        program: inputs.paths.programs.join(COMPONENT.name()),
        arguments: arguments(inputs, files),
        environment: Vec::new(),
        readiness: files.probe(SCHEDULER_PORT, "/readyz"),
        liveness: files.probe(SCHEDULER_PORT, "/livez"),
        policy: Controller::policy(),
    }
}

fn arguments(inputs: &Inputs<'_>, files: &mut Files<'_>) -> Vec<String> {
    let Common {
        mut flags,
        kubeconfig,
        ..
    } = CONTROLLER.common(inputs, files);
    // The flags for these are deprecated.
    let configuration = json!({
        "apiVersion": "kubescheduler.config.k8s.io/v1",
        "kind": "KubeSchedulerConfiguration",
        "clientConnection": { "kubeconfig": kubeconfig },
        "leaderElection": {
            "leaderElect": true,
            "leaseDuration": scaled(inputs.scale, LeaderElection::LEASE),
            "renewDeadline": scaled(inputs.scale, LeaderElection::RENEW),
            "retryPeriod": scaled(inputs.scale, LeaderElection::RETRY),
        },
        "enableProfiling": false,
        "enableContentionProfiling": false,
    });
    let configuration = files.document(
        COMPONENT,
        "configuration.json",
        &configuration,
        Reading::Once,
    );

    flags.set("config", configuration);
    flags.with_extra(inputs.seed.kubernetes.flags.get(&COMPONENT))
}
