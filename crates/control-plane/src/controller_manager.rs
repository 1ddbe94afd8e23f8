//! The controller manager's command line.

use masthead_pki::{AuthorityKind, Purpose};

use crate::controller::{Common, Controller};
use crate::files::{Files, Reading};
use crate::flags::{LeaderElection, scaled};
use crate::{CONTROLLER_MANAGER_PORT, Component, Inputs, Service};

const COMPONENT: Component = Component::KubeControllerManager;
const CONTROLLER: Controller = Controller {
    component: COMPONENT,
    port: CONTROLLER_MANAGER_PORT,
    client: Purpose::ControllerManagerClient,
    serving: Purpose::ControllerManagerServing,
};

pub(crate) fn service(inputs: &Inputs<'_>, files: &mut Files<'_>) -> Service {
    Service {
        component: COMPONENT,
        program: inputs.paths.programs.join(COMPONENT.name()),
        arguments: arguments(inputs, files),
        environment: Vec::new(),
        readiness: files.probe(CONTROLLER_MANAGER_PORT, "/healthz"),
        liveness: files.probe(CONTROLLER_MANAGER_PORT, "/healthz"),
        policy: Controller::policy(),
    }
}

fn arguments(inputs: &Inputs<'_>, files: &mut Files<'_>) -> Vec<String> {
    let owner = Some(COMPONENT);
    let kubernetes = &inputs.seed.kubernetes;
    let Common {
        mut flags,
        authority,
        kubeconfig,
    } = CONTROLLER.common(inputs, files);
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

    flags
        .set("kubeconfig", kubeconfig)
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
