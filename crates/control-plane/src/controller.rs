//! What the controller manager and the scheduler have in common: clients of the local apiserver that elect a leader
//! and serve nothing but their health and metrics.

use std::time::Duration;

use masthead_lifecycle::{Forgiveness, Policy, ProbePolicy};
use masthead_pki::{AuthorityKind, Purpose};

use crate::files::{Files, Reading};
use crate::flags::Flags;
use crate::kubeconfig::{Credential, Kubeconfig};
use crate::{Component, Inputs};

/// One of the two.
pub(crate) struct Controller {
    pub(crate) component: Component,
    /// Where it serves its health, on loopback.
    pub(crate) port: u16,
    /// Its certificate as a client of the apiserver.
    pub(crate) client: Purpose,
    /// Its certificate as a server.
    pub(crate) serving: Purpose,
}

/// The beginning of a controller's command line, and the files that the rest of it refers to as well.
pub(crate) struct Common {
    pub(crate) flags: Flags,
    /// The certificate of the apiserver's authority.
    pub(crate) authority: String,
    pub(crate) kubeconfig: String,
}

impl Controller {
    /// How it is run.
    pub(crate) fn policy() -> Policy {
        Policy {
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
        }
    }

    /// Adds the files that both have, and begins the command line with them.
    pub(crate) fn common(&self, inputs: &Inputs<'_>, files: &mut Files<'_>) -> Common {
        let owner = Some(self.component);
        let authority = files.authority(owner, AuthorityKind::Kubernetes);
        let proxy_authority = files.authority(owner, AuthorityKind::FrontProxy);
        let client = files.leaf(owner, self.client, Reading::Watched);
        let serving = files.leaf(owner, self.serving, Reading::Watched);
        let kubeconfig = Kubeconfig {
            cluster: &inputs.seed.cluster,
            // The local apiserver only: its failure moves the work to another master.
            server: &inputs.local_apiserver(),
            authority: Credential::Path(&authority),
            user: self.component.name(),
            certificate: Credential::Path(&client.0),
            key: Credential::Path(&client.1),
        };
        let kubeconfig = files.document(
            self.component,
            "kubeconfig.json",
            &kubeconfig.document(),
            Reading::Once,
        );
        let mut flags = Flags::default();
        flags
            .set("bind-address", inputs.loopback())
            .set("secure-port", self.port)
            .set("tls-cert-file", serving.0)
            .set("tls-private-key-file", serving.1)
            .set("tls-min-version", "VersionTLS13")
            .set("authentication-kubeconfig", &kubeconfig)
            .set("authorization-kubeconfig", &kubeconfig)
            .set("client-ca-file", &authority)
            .set("requestheader-client-ca-file", proxy_authority)
            .set(
                "requestheader-allowed-names",
                Purpose::FrontProxyClient.common_name(),
            );
        Common {
            flags,
            authority,
            kubeconfig,
        }
    }
}
