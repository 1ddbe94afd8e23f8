//! keepalived in the nodes of a cluster, beside Masthead, with addresses of its own: the same machines, the same apiservers, the same faults.
//!
//! Debian's package, run in a node's namespaces as its root. Two virtual routers in each node: one with keepalived's defaults, and one as kubeadm's guide
//! for highly available clusters has it, with a check of the apiserver
//! (<https://github.com/kubernetes/kubeadm/blob/main/docs/ha-considerations.md>).

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs::{self, Permissions},
    net::Ipv4Addr,
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use crate::{
    cluster::Cluster,
    error::{Attempt, Error, Result},
    patience::Look,
    plan::KUBERNETES_PORT,
    provider::Node,
    tools::run,
};

/// The package's default timers: an advertisement a second, and dead after three.
pub(super) const DEFAULTS: Ipv4Addr = Ipv4Addr::new(10, 20, 0, 8);
/// kubeadm's guide: every three seconds a look at the apiserver, ten of which have to fail.
pub(super) const KUBEADM: Ipv4Addr = Ipv4Addr::new(10, 20, 0, 9);

/// How long it may take to own its addresses, generously.
const NOMINAL: Duration = Duration::from_secs(60);

/// Masthead's firewall drops what it does not know, which VRRP is: the table of `init/src/firewall.rs`.
const FIREWALL: [&str; 5] = ["nft", "delete", "table", "inet", "masthead-host"];

/// The ones that run. Dropping it ends them.
pub(super) struct Keepalived {
    directory: PathBuf,
    running: BTreeMap<String, Child>,
}

impl Keepalived {
    /// None yet; their files are kept there.
    pub(super) fn new(directory: PathBuf) -> Result<Self> {
        let made = fs::create_dir_all(&directory);
        // A node's root is an ordinary user here.
        made.and_then(|()| fs::set_permissions(&directory, Permissions::from_mode(0o1777)))
            .attempt(|| format!("make {}", directory.display()))?;
        Ok(Self {
            directory,
            running: BTreeMap::new(),
        })
    }

    /// Starts one in a node that has just been switched on. The first master is preferred, as in the guide.
    pub(super) fn start(&mut self, node: &dyn Node) -> Result<()> {
        let name = &node.plan().name;
        self.stop(name);
        inside(node, &FIREWALL)?;
        let check = self.directory.join("check");
        let url = format!("https://localhost:{KUBERNETES_PORT}/healthz");
        let script = format!(
            "#!/bin/sh\nexec curl --silent --fail --insecure --max-time 2 --output /dev/null {url}\n"
        );
        fs::write(&check, script)
            .and_then(|()| fs::set_permissions(&check, Permissions::from_mode(0o755)))
            .attempt(|| format!("write {}", check.display()))?;
        let configuration = self.directory.join(format!("{name}.conf"));
        let text = text(node.plan().number == 1, &check.display().to_string());
        fs::write(&configuration, text).attempt(|| format!("write {}", configuration.display()))?;
        let pid_file = |kind: &str| self.directory.join(format!("{name}.{kind}.pid"));
        let log = fs::File::create(self.directory.join(format!("{name}.log")))
            .attempt(|| "make a log")?;
        let mut command = entering(node)?;
        let child = command
            // Not beyond this program's own end. Entering the namespaces would undo it, so it is said in there.
            .args(["setpriv", "--pdeathsig", "KILL"])
            .args([
                "keepalived",
                "--dont-fork",
                "--log-console",
                "--vrrp",
                "--use-file",
            ])
            .arg(&configuration)
            .arg("--pid")
            .arg(pid_file("parent"))
            .arg("--vrrp_pid")
            .arg(pid_file("vrrp"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().attempt(|| "open a log")?)
            .stderr(log)
            .spawn()
            .attempt(|| "start keepalived (Debian package keepalived)")?;
        self.running.insert(name.clone(), child);
        Ok(())
    }

    /// Ends that of a node whose power was cut.
    pub(super) fn stop(&mut self, name: &str) {
        if let Some(mut child) = self.running.remove(name) {
            // It tells the kernel to end its own children with it.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Drop for Keepalived {
    fn drop(&mut self) {
        let names: Vec<String> = self.running.keys().cloned().collect();
        for name in names {
            self.stop(&name);
        }
    }
}

/// Waits until a node has both addresses.
pub(super) fn wait_until_owned(cluster: &Cluster, node: &dyn Node) -> Result<()> {
    let what = format!("keepalived's addresses on {}", node.plan().name);
    cluster.patience().wait_until(&what, NOMINAL, || {
        match inside(node, &["ip", "-oneline", "-4", "address", "show"]) {
            Ok(shown) => {
                let has = |address| shown.contains(&format!(" {address}/"));
                Look::at(has(DEFAULTS) && has(KUBEADM), || shown.clone())
            }
            Err(error) => Look::NotYet(error.to_string()),
        }
    })
}

fn text(preferred: bool, check: &str) -> String {
    let state = if preferred { "MASTER" } else { "BACKUP" };
    let priority = if preferred { 101 } else { 100 };
    let mut text = format!(
        "global_defs {{\n    script_user root\n}}\n\
         vrrp_script check_apiserver {{\n    script \"{check}\"\n    interval 3\n    weight -2\n    fall 10\n    rise 2\n}}\n"
    );
    for (name, number, address, more) in [
        ("defaults", 50, DEFAULTS, ""),
        (
            "kubeadm",
            51,
            KUBEADM,
            "    track_script {\n        check_apiserver\n    }\n",
        ),
    ] {
        let _ = write!(
            text,
            "vrrp_instance {name} {{\n    state {state}\n    interface eth0\n    virtual_router_id {number}\n    \
             priority {priority}\n    virtual_ipaddress {{\n        {address}/32\n    }}\n{more}}}\n"
        );
    }
    text
}

/// What a program says that runs in a node's namespaces, from the host's files.
fn inside(node: &dyn Node, words: &[&str]) -> Result<String> {
    run(entering(node)?.args(words))
}

fn entering(node: &dyn Node) -> Result<Command> {
    let process = node.init_process()?;
    if process <= 0 {
        return Err(Error::Refused(format!("{process} is no process")));
    }
    let mut command = Command::new("nsenter");
    command.args(["--user", "--net", "--target", &process.to_string(), "--"]);
    Ok(command)
}
