//! The controller manager's command line.

use std::time::Duration;

use masthead_lifecycle::{Forgiveness, Policy, ProbePolicy};
use masthead_pki::{AuthorityKind, Purpose};

use crate::files::{Files, Reading};
use crate::flags::{Flags, LeaderElection, scaled};
use crate::kubeconfig::{Credential, Kubeconfig};
use crate::{CONTROLLER_MANAGER_PORT, Component, Inputs, Service};

const COMPONENT: Component = Component::KubeControllerManager;

pub(crate) fn service(inputs: &Inputs<'_>, files: &mut Files<'_>) -> Service {
    Service {
        component: COMPONENT,
        program: inputs.paths.programs.join(COMPONENT.name()),
        arguments: arguments(inputs, files),
        environment: Vec::new(),
        readiness: files.probe(CONTROLLER_MANAGER_PORT, "/healthz"),
        liveness: files.probe(CONTROLLER_MANAGER_PORT, "/healthz"),
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
    let kubernetes = &inputs.seed.kubernetes;
    let authority = files.authority(owner, AuthorityKind::Kubernetes);
    let proxy_authority = files.authority(owner, AuthorityKind::FrontProxy);
    let client = files.leaf(owner, Purpose::ControllerManagerClient, Reading::Watched);
    let serving = files.leaf(owner, Purpose::ControllerManagerServing, Reading::Watched);
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
    let signing_key = files.add(
        owner,
        "kubernetes-ca.key",
        inputs.roots.authority(AuthorityKind::Kubernetes).key_pem(),
        Reading::Watched,
    );
    let token_key = files.add(
        owner,
        "service-account.key",
        inputs.roots.service_account.private_pem(),
        Reading::Once,
    );

    let mut flags = Flags::default();
    flags
        .set("bind-address", inputs.loopback())
        .set("secure-port", CONTROLLER_MANAGER_PORT)
        .set("tls-cert-file", serving.0)
        .set("tls-private-key-file", serving.1)
        .set("tls-min-version", "VersionTLS13")
        // The local apiserver only: its failure moves the work to another master.
        .set("kubeconfig", &kubeconfig)
        .set("authentication-kubeconfig", &kubeconfig)
        .set("authorization-kubeconfig", &kubeconfig)
        .set("client-ca-file", &authority)
        .set("requestheader-client-ca-file", proxy_authority)
        .set(
            "requestheader-allowed-names",
            Purpose::FrontProxyClient.common_name(),
        )
        .set("cluster-name", &inputs.seed.cluster)
        .set("root-ca-file", &authority)
        .set("cluster-signing-cert-file", &authority)
        .set("cluster-signing-key-file", signing_key)
        .set("service-account-private-key-file", token_key)
        .set("use-service-account-credentials", true)
        // The last two are off by default; `kubeadm join` needs the first of them.
        .set(
            "controllers",
            "*,bootstrap-signer-controller,token-cleaner-controller",
        )
        .set("service-cluster-ip-range", kubernetes.services);
    if let Some(pods) = &kubernetes.pods {
        flags
            .set("allocate-node-cidrs", true)
            .set("cluster-cidr", pods);
    }
    flags
        .set("leader-elect", true)
        .set(
            "leader-elect-lease-duration",
            scaled(inputs.scale, LeaderElection::LEASE),
        )
        .set(
            "leader-elect-renew-deadline",
            scaled(inputs.scale, LeaderElection::RENEW),
        )
        .set(
            "leader-elect-retry-period",
            scaled(inputs.scale, LeaderElection::RETRY),
        )
        .set("profiling", false);
    flags.with_extra(kubernetes.flags.get(&COMPONENT))
}
