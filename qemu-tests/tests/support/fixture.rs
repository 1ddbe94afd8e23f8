//! A real cluster for one test: its own folder, network and ports, gone at its end.
#![allow(dead_code, reason = "each test file uses its part")]

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    time::Duration,
};

use masthead_imagebuild::bundle;
use masthead_lab::{
    cluster::Cluster,
    error::{Result, chain},
    image::unified_kernel_image,
    patience::{Look, Patience},
    plan::ClusterPlan,
    provider::{Node, Power, ProviderKind},
    saved::SavedCluster,
    tools::{Tools, run},
};
use serde_json::Value;

/// The services of a master, in the order of their start.
pub(crate) const SERVICES: [&str; 4] = [
    "etcd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
];

/// A running cluster of one master.
pub(crate) struct Fixture {
    pub(crate) cluster: Cluster,
    _folder: tempfile::TempDir,
}

impl Fixture {
    /// A cluster in namespaces that is ready.
    pub(crate) fn ready() -> Self {
        Self::ready_with(|_, _| ())
    }

    /// The same of a changed plan; `change` also gets the folder of the test for what it needs.
    pub(crate) fn ready_with(change: impl FnOnce(&mut ClusterPlan, &Path)) -> Self {
        let fixture = Self::off(ProviderKind::Namespace, change);
        fixture.expect(fixture.cluster.power_on());
        fixture.expect(fixture.cluster.wait_until_ready());
        fixture
    }

    /// A cluster whose nodes are off.
    pub(crate) fn off(kind: ProviderKind, change: impl FnOnce(&mut ClusterPlan, &Path)) -> Self {
        Self::made(|folder, image, tools| {
            let mut plan = ClusterPlan::new(1, folder.join("lab"), image);
            change(&mut plan, folder);
            Cluster::new(plan, kind, tools)
        })
    }

    /// The cluster that was saved in a folder, ready again.
    pub(crate) fn restored(saved: &Path) -> Self {
        let fixture = Self::made(|folder, image, tools| {
            SavedCluster::open(saved)?.restore(&folder.join("lab"), image, tools)
        });
        fixture.expect(fixture.cluster.wait_until_ready());
        fixture
    }

    /// What `make` makes in a folder of its own, of the image, with the programs.
    fn made(make: impl FnOnce(&Path, &Path, &Tools) -> Result<Cluster>) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let image = super::support::image();
        let cluster = Tools::find(Path::new(env!("CARGO_BIN_EXE_lab")), &image)
            .and_then(|tools| make(folder.path(), &image, &tools));
        Self {
            cluster: cluster.unwrap_or_else(|error| panic!("{}", chain(&error))),
            _folder: folder,
        }
    }

    /// The only master.
    pub(crate) fn m1(&self) -> &dyn Node {
        self.cluster.nodes()[0].as_ref()
    }

    /// How long things may take here.
    pub(crate) fn patience(&self) -> Patience {
        self.cluster.patience()
    }

    /// The value, or a failure of the test that shows what m1 has shown.
    pub(crate) fn expect<T>(&self, result: Result<T>) -> T {
        result.unwrap_or_else(|error| {
            panic!(
                "{}\nhistory: {:?}\nconsole:\n{}",
                chain(&error),
                self.m1().history(),
                super::support::console(self.m1())
            )
        })
    }

    /// Waits until `condition` holds, for as long as what takes a real machine `nominal`.
    pub(crate) fn wait_until<T>(
        &self,
        what: &str,
        nominal: Duration,
        condition: impl FnMut() -> Look<T>,
    ) -> T {
        self.expect(self.patience().wait_until(what, nominal, condition))
    }

    /// kubectl with these arguments, to its end.
    pub(crate) fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        run(self
            .cluster
            .kubectl()
            .arg("--request-timeout=10s")
            .args(arguments))
    }

    /// Makes a Deployment of two, and waits until its Pods wait for nodes.
    pub(crate) fn makes_a_deployment(&self) {
        self.expect(self.kubectl(&[
            "create",
            "deployment",
            "web",
            "--image=nginx",
            "--replicas=2",
        ]));
        self.wait_until("two pending Pods", Duration::from_secs(10), || {
            let phases =
                self.kubectl(&["get", "pods", "--output=jsonpath={.items[*].status.phase}"]);
            let phases = phases.unwrap_or_else(|error| chain(&error));
            Look::at(phases == "Pending Pending", || phases)
        });
    }

    /// mastctl with these arguments, to its end.
    pub(crate) fn mastctl(&self, arguments: &[&str]) -> Result<String> {
        run(self
            .cluster
            .mastctl()
            .args(["--timeout", "5s"])
            .args(arguments))
    }

    /// Sends m1 the image that it runs, signed by that key, and waits until it is on trial in the other slot.
    pub(crate) fn sends_its_own_image(&self, key: &Path) {
        let image = self.expect(unified_kernel_image(&self.m1().plan().image));
        let file = key.with_file_name("image.bundle");
        bundle::make(&image, key, &file).expect("a bundle");
        let file = file.display().to_string();
        let before = self.expect(self.status());
        let mut upgrade = self.cluster.mastctl();
        upgrade.args(["upgrade", "m1", &file, "--again", "--accept-outage"]);
        let begun = upgrade
            .args(["--wait-timeout", "1s"])
            .output()
            .expect("mastctl runs");
        let said = String::from_utf8_lossy(&begun.stderr);
        assert_eq!(begun.status.code(), Some(3), "{said}");
        assert!(said.contains("has the image in slot B"), "{said}");
        self.wait_until("the trial", Duration::from_secs(180), || {
            match self.status() {
                Ok(status) => {
                    let on_trial = status["installation"]["on_trial"] == true;
                    let is_next = status["node"]["boot_id"] != before["node"]["boot_id"];
                    Look::at(on_trial && is_next, || status["installation"].to_string())
                }
                Err(error) => Look::NotYet(chain(&error)),
            }
        });
        let status = self.expect(self.status());
        assert_eq!(status["installation"]["slot"], "B", "{status}");
    }

    /// What m1 says about itself: the management API's status.
    pub(crate) fn status(&self) -> Result<Value> {
        self.status_of("m1")
    }

    /// What a node says about itself.
    pub(crate) fn status_of(&self, name: &str) -> Result<Value> {
        let text = self.mastctl(&["--output", "json", "--nodes", name, "status"])?;
        let answer: Value = serde_json::from_str(&text).expect("mastctl prints JSON");
        Ok(answer["nodes"][0]["status"].clone())
    }

    /// What m1 says about one of its services.
    pub(crate) fn service(&self, name: &str) -> Result<Value> {
        let status = self.status()?;
        let services = status["services"].as_array().cloned().unwrap_or_default();
        Ok(services
            .into_iter()
            .find(|service| service["name"] == name)
            .unwrap_or(Value::Null))
    }

    /// The processes of every service, by the host's numbers.
    pub(crate) fn processes(&self) -> Vec<(&'static str, Vec<i32>)> {
        SERVICES
            .map(|service| (service, self.expect(self.m1().processes(service))))
            .into()
    }

    /// Waits until a service runs in other processes than `before`, and is ready.
    pub(crate) fn wait_until_replaced(&self, service: &str, before: &[i32], nominal: Duration) {
        self.wait_until(&format!("{service} to be back"), nominal, || {
            let now = self.m1().processes(service).unwrap_or_default();
            let replaced = !now.is_empty() && now.iter().all(|pid| !before.contains(pid));
            let state = match self.service(service) {
                Ok(story) => story["state"].clone(),
                Err(error) => Value::from(chain(&error)),
            };
            Look::at(replaced && state == "ready", || {
                format!("processes {now:?}, state {state}")
            })
        });
    }

    /// Waits until the node's power is as it should be.
    pub(crate) fn wait_for_power(&self, power: Power, nominal: Duration) {
        self.wait_until("the node's power", nominal, || {
            Look::at(self.m1().power() == power, || {
                format!("{:?}", self.m1().power())
            })
        });
    }

    /// Writes many ConfigMaps, `enough` at least, and stops the writer by `cut` in the middle of them.
    /// Returns those that the apiserver has acknowledged.
    pub(crate) fn write_until_cut(&self, enough: usize, cut: impl FnOnce()) -> BTreeSet<String> {
        use std::io::{BufRead, BufReader, Write};
        let mut writer = self
            .cluster
            .kubectl()
            .args(["create", "--filename=-", "--output=name"])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::null())
            .spawn()
            .expect("start kubectl");
        let mut input = writer.stdin.take().expect("a pipe");
        // More than it can ever write before the cut; it is fed while its answers are read.
        std::thread::spawn(move || {
            for number in 0..1_000_000 {
                let document = format!(
                    "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: w{number}, namespace: default}}\n"
                );
                // It ends when kubectl does.
                if input.write_all(document.as_bytes()).is_err() {
                    return;
                }
            }
        });
        let mut lines = BufReader::new(writer.stdout.take().expect("a pipe"))
            .lines()
            .map_while(Result::ok);
        let mut acknowledged: BTreeSet<String> = lines.by_ref().take(enough).collect();
        assert_eq!(acknowledged.len(), enough, "kubectl ended before the cut");
        // kubectl goes on writing meanwhile.
        cut();
        let _ = writer.kill();
        acknowledged.extend(lines);
        let _ = writer.wait();
        acknowledged
    }

    /// Those of the acknowledged ConfigMaps that are not there.
    pub(crate) fn missing(&self, acknowledged: &BTreeSet<String>) -> Result<BTreeSet<String>> {
        let text = self.kubectl(&["get", "configmaps", "--output=name"])?;
        let there: BTreeSet<String> = text.lines().map(str::to_owned).collect();
        Ok(acknowledged.difference(&there).cloned().collect())
    }
}

/// A folder of files that replace those of the image: that program as `/init`, which Cargo has built.
pub(crate) fn other_init(folder: &Path, program: &str) -> PathBuf {
    let changes = folder.join("other-init");
    std::fs::create_dir_all(&changes).expect("make a folder");
    std::fs::copy(program, changes.join("init")).expect("copy the program");
    changes
}

/// A folder of files that replace those of the image: an etcd that does not flush what it writes.
pub(crate) fn etcd_without_fsync(folder: &Path) -> PathBuf {
    let changes = folder.join("changes");
    std::fs::create_dir_all(changes.join("bin")).expect("make a folder");
    std::fs::copy(
        env!("CARGO_BIN_EXE_etcd-without-fsync"),
        changes.join("bin/etcd"),
    )
    .expect("copy the program");
    changes
}
