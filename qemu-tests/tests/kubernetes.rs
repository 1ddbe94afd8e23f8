//! Kubernetes on three masters is the real one: what people do with kubectl works through whichever master they
//! reach, and watches go on when a master dies.

#[path = "support/fixture.rs"]
mod fixture;
#[path = "support/load.rs"]
mod load;
#[path = "support/masters.rs"]
mod masters;
mod support;

use std::{
    collections::BTreeSet,
    io::Write as _,
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use fixture::Fixture;
use load::{Load, nothing_is_lost};
use masters::{A_MINUTE, THREE, formed, kubectl_through, node, others, wait_for_voters};
use masthead_lab::{
    error::{Result, chain},
    patience::Look,
};

/// What is made through one master is seen, changed and removed through the others.
#[test]
fn deployments_leases_namespaces_and_definitions_work_through_any_master() {
    let fixture = formed(3);
    let kubernetes = Kubernetes::of(&fixture);
    kubernetes.runs_a_deployment();
    kubernetes.keeps_leases();
    kubernetes.takes_definitions();
    kubernetes.refuses_conflicting_fields();
    kubernetes.removes_a_namespace();
}

struct Kubernetes<'a> {
    fixture: &'a Fixture,
    manifests: tempfile::TempDir,
}

impl<'a> Kubernetes<'a> {
    /// With a namespace for all that is done here.
    fn of(fixture: &'a Fixture) -> Self {
        let kubernetes = Self {
            fixture,
            manifests: tempfile::tempdir().expect("a folder"),
        };
        kubernetes.done("m1", &["create", "namespace", "shop"]);
        kubernetes
    }

    fn runs_a_deployment(&self) {
        let create = ["create", "deployment", "web", "--image=web", "--replicas=2"];
        self.done("m1", &create);
        // There are no nodes to run them.
        let phases = ["get", "pods", "--output=jsonpath={.items[*].status.phase}"];
        self.wait_for("m2", &phases, "Pending Pending");
        self.done("m2", &["scale", "deployment", "web", "--replicas=3"]);
        self.wait_for("m3", &phases, "Pending Pending Pending");
        self.done("m3", &["delete", "pods", "--all", "--wait=false"]);
        let replicas = [
            "get",
            "deployment",
            "web",
            "--output=jsonpath={.status.replicas}",
        ];
        self.wait_for("m1", &replicas, "3");
    }

    /// A lease is held by one: who has seen an older state does not get it. Each apiserver has its own.
    fn keeps_leases(&self) {
        let lease = |holder: &str, version: &str| {
            self.manifest(&format!(
                "apiVersion: coordination.k8s.io/v1\nkind: Lease\n\
                 metadata: {{ name: till, resourceVersion: \"{version}\" }}\n\
                 spec: {{ holderIdentity: {holder}, leaseDurationSeconds: 15 }}\n"
            ))
        };
        self.done("m1", &["create", &lease("one", "")]);
        let version = [
            "get",
            "lease",
            "till",
            "--output=jsonpath={.metadata.resourceVersion}",
        ];
        let version = self.done("m2", &version);
        self.done("m2", &["replace", &lease("two", &version)]);
        let refused = self.refused("m3", &["replace", &lease("three", &version)]);
        assert!(
            refused.contains("the object has been modified"),
            "{refused}"
        );
        let holder = [
            "get",
            "lease",
            "till",
            "--output=jsonpath={.spec.holderIdentity}",
        ];
        assert_eq!(self.done("m1", &holder), "two");
        let own = [
            "get",
            "leases",
            "--namespace=kube-system",
            "--selector=apiserver.kubernetes.io/identity=kube-apiserver",
            "--output=name",
        ];
        self.fixture
            .wait_until("three apiservers' leases", A_MINUTE, || {
                let leases = self.ask("m2", &own).unwrap_or_else(|error| chain(&error));
                Look::at(leases.lines().count() == 3, || leases.clone())
            });
    }

    fn takes_definitions(&self) {
        let definition = self.manifest(
            "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\n\
             metadata: { name: ships.example.net }\n\
             spec:\n\
             \x20 group: example.net\n\
             \x20 scope: Namespaced\n\
             \x20 names: { kind: Ship, plural: ships, singular: ship }\n\
             \x20 versions:\n\
             \x20 - name: v1\n\
             \x20   served: true\n\
             \x20   storage: true\n\
             \x20   schema:\n\
             \x20     openAPIV3Schema:\n\
             \x20       type: object\n\
             \x20       properties:\n\
             \x20         masts: { type: integer, minimum: 1 }\n",
        );
        let ship = |masts: i32| {
            self.manifest(&format!(
                "apiVersion: example.net/v1\nkind: Ship\nmetadata: {{ name: bark }}\nmasts: {masts}\n"
            ))
        };
        self.done("m2", &["create", &definition]);
        // Each apiserver serves it by its own watch.
        for name in THREE {
            self.wait_for(name, &["get", "ships", "--output=name"], "");
        }
        let refused = self.refused("m3", &["create", "--validate=false", &ship(0)]);
        assert!(
            refused.contains("should be greater than or equal to 1"),
            "{refused}"
        );
        self.done("m3", &["create", &ship(3)]);
        let masts = ["get", "ship", "bark", "--output=jsonpath={.masts}"];
        self.wait_for("m1", &masts, "3");
    }

    fn refuses_conflicting_fields(&self) {
        let pennant = |colour: &str| {
            self.manifest(&format!(
                "apiVersion: v1\nkind: ConfigMap\nmetadata: {{ name: pennant }}\ndata: {{ colour: {colour} }}\n"
            ))
        };
        let apply = |through: &str, manager: &str, colour: &str, more: &[&str]| {
            let manager = format!("--field-manager={manager}");
            let manifest = pennant(colour);
            let words = ["apply", "--server-side", &manager, &manifest];
            self.ask(through, &[&words[..], more].concat())
        };
        self.fixture.expect(apply("m1", "bosun", "red", &[]));
        let refused = apply("m2", "mate", "blue", &[]).expect_err("the bosun owns the field");
        let refused = chain(&refused);
        assert!(refused.contains("conflict with \"bosun\""), "{refused}");
        let forced = apply("m3", "mate", "blue", &["--force-conflicts"]);
        self.fixture.expect(forced);
        let colour = [
            "get",
            "configmap",
            "pennant",
            "--output=jsonpath={.data.colour}",
        ];
        assert_eq!(self.done("m1", &colour), "blue");
    }

    /// With all that was made in it.
    fn removes_a_namespace(&self) {
        let delete = ["delete", "namespace", "shop", "--timeout=120s"];
        self.done("m3", &delete);
        for name in THREE {
            let gone = self.refused(name, &["get", "namespace", "shop"]);
            assert!(gone.contains("NotFound"), "{gone}");
            let left = ["get", "all,configmaps,leases,ships", "--output=name"];
            assert_eq!(self.done(name, &left), "");
        }
    }

    fn ask(&self, through: &str, arguments: &[&str]) -> Result<String> {
        let arguments = [&["--namespace=shop"], arguments].concat();
        kubectl_through(&self.fixture.cluster, through, &arguments)
    }

    fn done(&self, through: &str, arguments: &[&str]) -> String {
        self.fixture.expect(self.ask(through, arguments))
    }

    fn refused(&self, through: &str, arguments: &[&str]) -> String {
        match self.ask(through, arguments) {
            Ok(answer) => panic!("{arguments:?} is to be refused: {answer}"),
            Err(error) => chain(&error),
        }
    }

    fn wait_for(&self, through: &str, arguments: &[&str], answer: &str) {
        let what = format!("{answer:?} of {arguments:?}");
        self.fixture
            .wait_until(&what, A_MINUTE, || match self.ask(through, arguments) {
                Ok(now) => Look::at(now == answer, || now.clone()),
                Err(error) => Look::NotYet(chain(&error)),
            });
    }

    /// The option that hands a document to kubectl.
    fn manifest(&self, text: &str) -> String {
        let mut file = tempfile::Builder::new()
            .suffix(".yaml")
            .tempfile_in(self.manifests.path())
            .expect("a file");
        file.write_all(text.as_bytes()).expect("write");
        let (_, path) = file.keep().expect("keep the file");
        format!("--filename={}", path.display())
    }
}

/// The one that leads etcd dies. Watches through the two others go on and miss nothing; a client whose master it was
/// finds another, and sees there what happens afterwards.
#[test]
fn watches_go_on_when_a_master_dies() {
    let fixture = formed(3);
    wait_for_voters(&fixture, &THREE, 3);
    fixture.expect(fixture.kubectl(&["create", "configmap", "bell"]));
    let victim = fixture.cluster.describe().endpoint_leads_to;
    let victim = victim.expect("kubectl was led somewhere");
    fixture.expect(fixture.mastctl(&["--nodes", &victim, "etcd", "leader", &victim]));
    let others = others(&victim);
    let folder = tempfile::tempdir().expect("a folder");
    let watches: Vec<Watch> = others
        .iter()
        .map(|name| Watch::through(&fixture, name, folder.path().join(name)))
        .collect();
    let rung = Watch::for_the_bell(&fixture, folder.path().join("bell"));

    let load = Load::through(&fixture, &others);
    fixture.expect(node(&fixture, &victim).cut_power());
    load.goes_on();
    let ring = [
        "patch",
        "configmap",
        "bell",
        "--patch={\"data\":{\"rung\":\"yes\"}}",
    ];
    fixture.expect(kubectl_through(&fixture.cluster, others[0], &ring));
    rung.ends_well(&fixture);
    let written = load.stop();
    let names = written.names();
    for watch in &watches {
        fixture.wait_until("all that was written in a watch", A_MINUTE, || {
            let seen = watch.seen();
            let missed: Vec<&str> = names.difference(&seen).map(String::as_str).collect();
            Look::at(missed.is_empty(), || format!("not {missed:?}"))
        });
    }
    fixture.expect(node(&fixture, &victim).power_on());
    fixture.expect(fixture.cluster.wait_until_ready());
    nothing_is_lost(&fixture, &written);
}

/// A kubectl that runs on.
struct Watch {
    child: Child,
    output: PathBuf,
}

impl Watch {
    /// Watches ConfigMaps through a master, and is ready when it has seen those that are there.
    fn through(fixture: &Fixture, name: &str, output: PathBuf) -> Self {
        let server = format!(
            "--server=https://{}",
            fixture.expect(fixture.cluster.apiserver(name))
        );
        let mut watch = fixture.cluster.kubectl();
        watch.args([&server, "get", "configmaps", "--watch", "--output=name"]);
        let watch = Self::start(watch, output);
        fixture.wait_until("the beginning of a watch", A_MINUTE, || {
            let seen = watch.seen();
            Look::at(seen.contains("bell"), || format!("{seen:?}"))
        });
        watch
    }

    /// Waits, by a watch, for a change of one ConfigMap, through the master that the endpoint leads to.
    fn for_the_bell(fixture: &Fixture, output: PathBuf) -> Self {
        let mut wait = fixture.cluster.kubectl();
        wait.args(["wait", "configmap/bell", "--for=jsonpath={.data.rung}=yes"])
            // It tells its requests.
            .args(["--timeout=600s", "--v=6"]);
        let wait = Self::start(wait, output);
        fixture.wait_until("the beginning of a watch", A_MINUTE, || {
            let told = wait.told();
            Look::at(told.contains("watch=true"), || told.clone())
        });
        wait
    }

    fn start(mut kubectl: Command, output: PathBuf) -> Self {
        let file = std::fs::File::create(&output).expect("make a file");
        let child = kubectl
            .stdin(Stdio::null())
            .stdout(file.try_clone().expect("the same file"))
            .stderr(file)
            .spawn()
            .expect("start kubectl");
        Self { child, output }
    }

    /// The names that it has told.
    fn seen(&self) -> BTreeSet<String> {
        let lines = self.told();
        let names = lines
            .lines()
            .filter_map(|line| line.strip_prefix("configmap/"));
        names.map(str::to_owned).collect()
    }

    fn told(&self) -> String {
        std::fs::read_to_string(&self.output).unwrap_or_default()
    }

    fn ends_well(mut self, fixture: &Fixture) {
        fixture.wait_until("kubectl to end", A_MINUTE, || match self.child.try_wait() {
            Ok(Some(status)) => {
                assert!(status.success(), "{status}: {}", self.told());
                Look::Done(())
            }
            Ok(None) => Look::NotYet(self.told()),
            Err(error) => Look::NotYet(error.to_string()),
        });
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
