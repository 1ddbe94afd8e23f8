//! Files that the services read.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use masthead_control_plane::{
    Component, ControlPlane, Credential, Kubeconfig, bootstrap_objects, subject_names,
};
use masthead_pki::Purpose;
use serde_json::{Value, json};
use support::{planned, planned_of, seed, seed_of};

fn document(plan: &ControlPlane, owner: Component, name: &str) -> Value {
    let file = plan
        .files
        .iter()
        .find(|file| file.owner == Some(owner) && file.path.ends_with(name))
        .unwrap_or_else(|| panic!("{name}"));
    serde_norway::from_slice(file.contents.expose()).unwrap()
}

#[test]
fn a_seed_s_issuers_do_not_open_more_to_the_anonymous() {
    for name in ["single", "full"] {
        let plan = planned(&seed(name), |_| {});
        let document = document(&plan, Component::KubeApiserver, "authentication.json");
        assert_eq!(document["kind"], "AuthenticationConfiguration", "{name}");
        assert_eq!(document["jwt"].is_array(), name == "full");
        let paths: Vec<&str> = document["anonymous"]["conditions"]
            .as_array()
            .unwrap()
            .iter()
            .map(|condition| condition["path"].as_str().unwrap())
            .collect();
        assert_eq!(
            paths,
            [
                "/livez",
                "/readyz",
                "/healthz",
                "/api/v1/namespaces/kube-public/configmaps/cluster-info",
            ]
        );
    }
}

#[test]
fn secrets_are_written_encrypted_and_read_either_way() {
    let plan = planned(&seed("single"), |_| {});
    let document = document(&plan, Component::KubeApiserver, "encryption.json");
    let providers = document["resources"][0]["providers"].as_array().unwrap();
    assert!(
        providers[0]["secretbox"]["keys"][0]["secret"]
            .as_str()
            .unwrap()
            .len()
            == 44
    );
    assert_eq!(providers[1], json!({ "identity": {} }));
}

#[test]
fn a_seed_s_policy_files_take_the_place_of_ours() {
    let ours = planned(&seed("single"), |_| {});
    let policy = document(&ours, Component::KubeApiserver, "audit-policy.yaml");
    assert_eq!(policy["kind"], "Policy");
    assert!(policy["rules"].as_array().unwrap().len() > 5);

    let theirs = planned(&seed("full"), |_| {});
    let policy = document(&theirs, Component::KubeApiserver, "audit-policy.json");
    assert_eq!(policy["rules"].as_array().unwrap().len(), 2);
    let admission = document(&theirs, Component::KubeApiserver, "admission.json");
    assert_eq!(admission["plugins"][0]["name"], "PodSecurity");
}

#[test]
fn every_key_is_in_one_directory_that_only_its_reader_opens() {
    let plan = planned(&seed("single"), |_| {});
    for file in &plan.files {
        let directory = file.path.parent().unwrap();
        let directory = plan
            .directories
            .iter()
            .find(|known| known.path == directory)
            .unwrap();
        assert_eq!(directory.owner, file.owner, "{}", file.path.display());
        assert_eq!(
            (file.mode, directory.mode & 0o077),
            (0o400, 0),
            "{}",
            file.path.display()
        );
    }
    let readers = |name: &str| {
        let named = plan.files.iter().filter(|file| file.path.ends_with(name));
        named.map(|file| file.owner).collect::<Vec<_>>()
    };
    // Whoever has the authority's key can become anybody: only the signer of node certificates has it.
    assert_eq!(
        readers("kubernetes-ca.key"),
        [Some(Component::KubeControllerManager)]
    );
    assert_eq!(
        readers("service-account.key"),
        [
            Some(Component::KubeApiserver),
            Some(Component::KubeControllerManager)
        ]
    );
    assert_eq!(readers("encryption.json"), [Some(Component::KubeApiserver)]);
    for absent in ["etcd-ca.key", "front-proxy-ca.key", "operators-ca.key"] {
        assert!(readers(absent).is_empty(), "{absent}");
    }
}

#[test]
fn the_apiserver_answers_to_all_its_names() {
    let seed = seed("full");
    let names = subject_names(Purpose::ApiserverServing, &seed, &seed.masters[0]);
    for name in [
        "localhost",
        "m1",
        "kubernetes.default.svc",
        "api.example.net",
    ] {
        assert!(names.dns.contains(name), "{name}");
    }
    for address in [
        "127.0.0.1",
        "10.20.0.11",
        "10.20.0.10",
        "10.96.0.1",
        "192.0.2.10",
    ] {
        assert!(
            names.addresses.contains(&address.parse().unwrap()),
            "{address}"
        );
    }
    assert!(!names.addresses.contains(&"10.20.0.12".parse().unwrap()));
    let peer = subject_names(Purpose::EtcdPeer, &seed, &seed.masters[0]);
    assert_eq!(peer.addresses, ["10.20.0.11".parse().unwrap()].into());
}

/// Each says what it is called, and what all are called together; none says another's name.
#[test]
fn every_apiserver_answers_to_the_endpoint_and_to_itself() {
    let seed = seed_of(5);
    for (master, others) in seed.masters.iter().map(|master| {
        let others = seed
            .masters
            .iter()
            .filter(move |other| other.name != master.name);
        (master, others)
    }) {
        let names = subject_names(Purpose::ApiserverServing, &seed, master);
        assert!(names.dns.contains(&master.name) && names.addresses.contains(&master.address));
        for shared in ["10.20.0.10", "10.96.0.1", "127.0.0.1"] {
            assert!(
                names.addresses.contains(&shared.parse().unwrap()),
                "{shared}"
            );
        }
        for other in others {
            assert!(!names.addresses.contains(&other.address), "{}", other.name);
        }
        let peer = subject_names(Purpose::EtcdPeer, &seed, master);
        assert_eq!(peer.addresses, [master.address].into());
    }
}

/// With several masters, the work moves when the apiserver beside it fails: neither asks another one.
#[test]
fn scheduler_and_controller_manager_elect_a_leader_through_their_own_apiserver() {
    let seed = seed_of(3);
    for index in 0..3 {
        let plan = planned_of(&seed, index, |_| {});
        for component in [Component::KubeScheduler, Component::KubeControllerManager] {
            let kubeconfig = document(&plan, component, "kubeconfig.json");
            let server = &kubeconfig["clusters"][0]["cluster"]["server"];
            assert_eq!(server, "https://127.0.0.1:6443");
        }
        let configuration = document(&plan, Component::KubeScheduler, "configuration.json");
        assert_eq!(
            configuration["leaderElection"],
            json!({ "leaderElect": true, "leaseDuration": "15s", "renewDeadline": "10s", "retryPeriod": "2s" })
        );
    }
}

#[test]
fn kubeconfigs_hold_paths_or_data() {
    let config = |credential| {
        Kubeconfig {
            cluster: "lab",
            server: "https://10.20.0.11:6443",
            authority: credential,
            user: "admin",
            certificate: credential,
            key: credential,
        }
        .document()
    };
    let path = config(Credential::Path("/f"));
    assert_eq!(
        path["users"][0]["user"],
        json!({ "client-certificate": "/f", "client-key": "/f" })
    );
    let data = config(Credential::Data("Zg=="));
    assert_eq!(
        data["clusters"][0]["cluster"]["certificate-authority-data"],
        "Zg=="
    );
    assert_eq!(data["current-context"], data["contexts"][0]["name"]);
}

#[test]
fn administrators_and_the_kubelet_client_get_their_rights() {
    let objects = bootstrap_objects();
    let paths: Vec<&str> = objects.iter().map(|object| object.path.as_str()).collect();
    let base = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings";
    assert_eq!(
        paths,
        [
            format!("{base}/masthead:admins"),
            format!("{base}/masthead:kube-apiserver-kubelet-client"),
        ]
    );
    assert_eq!(objects[0].object["roleRef"]["name"], "cluster-admin");
    assert_eq!(
        objects[1].object["subjects"][0]["name"],
        Purpose::KUBELET_CLIENT_NAME
    );
}
