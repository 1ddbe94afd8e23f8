//! The scheduler's command line and configuration.

use std::time::Duration;

use masthead_lifecycle::{Forgiveness, Policy, ProbePolicy};
use masthead_pki::{AuthorityKind, Purpose};
use serde_json::json;

use crate::files::{Files, Reading};
use crate::flags::{Flags, LeaderElection, scaled};
use crate::kubeconfig::{Credential, Kubeconfig};
use crate::{Component, Inputs, SCHEDULER_PORT, Service};

const COMPONENT: Component = Component::KubeScheduler;

pub(crate) fn service(inputs: &Inputs<'_>, files: &mut Files<'_>) -> Service {
    Service {
        component: COMPONENT,
        program: inputs.paths.programs.join(COMPONENT.name()),
        arguments: arguments(inputs, files),
        environment: Vec::new(),
        readiness: files.probe(SCHEDULER_PORT, "/readyz"),
        liveness: files.probe(SCHEDULER_PORT, "/livez"),
        policy: Policy {
            // Its rights are written while the apiserver becomes ready; before, it would only be refused.
            after: vec![Component::KubeApiserver.name().into()],
            readiness: Some(ProbePolicy::READINESS),
            liveness: Some(ProbePolicy::LIVENESS),
            startup: Duration::from_secs(120),
            // It ends, with 1, whenever it loses its leadership, such as to a restarting apiserver.
            forgiveness: Some(Forgiveness {
                codes: vec![1],
                at_most: 2,
            }),
            stop_grace: Duration::from_secs(15),
            ..Policy::default()
        },
    }
}

fn arguments(inputs: &Inputs<'_>, files: &mut Files<'_>) -> Vec<String> {
    let owner = Some(COMPONENT);
    let authority = files.authority(owner, AuthorityKind::Kubernetes);
    let proxy_authority = files.authority(owner, AuthorityKind::FrontProxy);
    let client = files.leaf(owner, Purpose::SchedulerClient, Reading::Watched);
    let serving = files.leaf(owner, Purpose::SchedulerServing, Reading::Watched);
    let kubeconfig = Kubeconfig {
        cluster: &inputs.seed.cluster,
        server: &inputs.local_apiserver(),
        authority: Credential::Path(&authority),
        user: COMPONENT.name(),
        certificate: Credential::Path(&client.0),
        key: Credential::Path(&client.1),
    };
    let kubeconfig = files.document(
        COMPONENT,
        "kubeconfig.json",
        &kubeconfig.document(),
        Reading::Once,
    );
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

    let mut flags = Flags::default();
    flags
        .set("config", configuration)
        .set("bind-address", inputs.loopback())
        .set("secure-port", SCHEDULER_PORT)
        .set("tls-cert-file", serving.0)
        .set("tls-private-key-file", serving.1)
        .set("tls-min-version", "VersionTLS13")
        .set("authentication-kubeconfig", &kubeconfig)
        .set("authorization-kubeconfig", &kubeconfig)
        .set("client-ca-file", authority)
        .set("requestheader-client-ca-file", proxy_authority)
        .set(
            "requestheader-allowed-names",
            Purpose::FrontProxyClient.common_name(),
        );
    flags.with_extra(inputs.seed.kubernetes.flags.get(&COMPONENT))
}
