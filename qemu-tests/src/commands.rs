//! What the commands of `lab` do.

use std::{
    env,
    ffi::OsString,
    fmt::Write as _,
    fs,
    io::{IsTerminal, stderr, stdout},
    os::unix::process::CommandExt,
    path::{self, Path, PathBuf},
    process::{self, ExitCode},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use masthead_lab::{
    cluster::{Description, Progress},
    console,
    daemon::{
        client::{self, Client, Started},
        protocol::{Origin, Outcome, Request},
        server,
    },
    directory::Directory,
    enter,
    error::{self, chain},
    namespace::{self, launcher},
    partition::Direction,
    patience::{Look, wait_until},
    plan::ClusterPlan,
    provider::{Cable, Effective, ProviderKind},
    tools::Tools,
};
use masthead_streams::{end_with_reader, note, print};
use serde::Serialize;
use serde_json::json;

use crate::command_line::{Command, CommandLine, Output};

/// Until a daemon that was started listens: it makes disks before.
const TO_LISTEN: Duration = Duration::from_secs(120);

/// Carries out what the command line says.
pub(crate) fn run(line: CommandLine) -> Result<ExitCode> {
    let lab = Lab {
        // The daemon and other programs have working folders of their own.
        directory: Directory::new(
            path::absolute(&line.directory).context("find the working folder")?,
        ),
        output: line.output,
    };
    let done = |result: Result<()>| result.map(|()| ExitCode::SUCCESS);
    match line.command {
        Command::Up {
            masters,
            spares,
            off,
            no_wait,
            provider,
            memory,
            image,
            from,
        } => {
            let mut plan = ClusterPlan::new(masters, lab.directory.path(), image);
            plan.spares = spares;
            plan.memory_mib = memory;
            let origin = from.map_or(Origin::New { provider, off }, Origin::Saved);
            done(lab.up(plan, origin, !no_wait))
        }
        Command::Save { folder } => done(lab.save(&folder)),
        Command::Down => done(lab.down()),
        Command::Status => done(lab.status()),
        Command::Exec { node, command } => lab.exec(node, &command),
        Command::PowerCut { node } => done(lab.change(&Request::PowerCut { node })),
        Command::PowerOn { node } => done(lab.change(&Request::PowerOn { node })),
        Command::Console { node, follow } => done(lab.console(&node, follow)),
        Command::Link { node, link } => done(lab.change(&Request::Link { node, link })),
        Command::Partition { groups, direction } => {
            done(lab.change(&Request::Partition { groups, direction }))
        }
        Command::Heal => done(lab.change(&Request::Partition {
            groups: Vec::new(),
            direction: Direction::Both,
        })),
        Command::Cable { node, delay, loss } => done(lab.change(&Request::Cable {
            node,
            cable: Cable {
                delay: Duration::from_millis(delay),
                loss_percent: loss,
            },
        })),
        Command::Wipe { node, what } => done(lab.change(&Request::Wipe { node, what })),
        Command::Seed { node, file } => done(lab.seed(node, &file)),
        Command::Kill {
            node,
            service,
            signal,
        } => done(lab.change(&Request::Signal {
            node,
            service,
            signal,
        })),
        Command::Disk {
            node,
            role,
            condition,
        } => done(lab.change(&Request::Disk {
            node,
            role,
            condition,
        })),
        Command::Kubectl { arguments } => lab.become_program(
            "kubectl",
            "--kubeconfig",
            &lab.directory.kubeconfig(),
            &arguments,
        ),
        Command::Mastctl { arguments } => lab.become_program(
            "mastctl",
            "--config",
            &lab.directory.mastctl_configuration(),
            &arguments,
        ),
        Command::Daemon => done(server::run().map_err(Into::into)),
        Command::NamespaceNode => done(launcher::run().map_err(Into::into)),
    }
}

struct Lab {
    directory: Directory,
    output: Output,
}

impl Lab {
    fn up(&self, mut plan: ClusterPlan, origin: Origin, wait: bool) -> Result<()> {
        if let Some(client) = Client::find(&self.directory)? {
            let Outcome::Cluster(cluster) = client.ask(&Request::Status)? else {
                bail!("the daemon answered something else");
            };
            if let Some(difference) = difference(&cluster, &plan, &origin) {
                bail!(
                    "a cluster runs already in {}, and it {difference}: end it first with `lab down`, or keep another one beside it with --directory FOLDER",
                    self.directory.path().display()
                );
            }
            self.tell("The cluster runs already; `lab down` ends it.\n")?;
            return self.show(&cluster);
        }
        plan.image = plan
            .image
            .canonicalize()
            .with_context(|| format!("there is no {}: run make image", plan.image.display()))?;
        let tools = Tools::of_this_lab(&plan.image)?;
        let origin = match origin {
            // The daemon's working folder may be another one.
            Origin::Saved(folder) => Origin::Saved(absolute(&folder)?),
            new @ Origin::New { .. } => new,
        };
        let mut started = Some(client::start(plan, origin, tools)?);
        let mut keep = || started.take().map_or(Ok(()), Started::keep);
        if !wait {
            keep()?;
            return self.status();
        }

        let mut display = Display::new(self.output);
        let waited = Client::connect(&self.directory)?.ask_with_progress(
            &Request::Wait { or_down: true },
            &mut |nodes| {
                // From here on the connection tells the daemon whether somebody waits. Should it be gone, the next
                // answer says so.
                let _ = keep();
                display.update(nodes);
            },
        );
        display.end();
        // One that is not ready in time is kept, to be looked into.
        let _ = keep();
        let outcome = waited.context(
            "the cluster was started, but is not ready; see `lab status` and `lab console m1`, and end it with `lab down`",
        )?;
        let Outcome::Cluster(cluster) = outcome else {
            bail!("the daemon answered something else");
        };
        self.tell("The cluster is ready.\n")?;
        self.show(&cluster)
    }

    fn down(&self) -> Result<()> {
        let look = || self.try_down().unwrap_or_else(Look::Never);
        let ended = wait_until("the cluster to end", TO_LISTEN, look)?;
        namespace::remove_leftovers();
        let text = if ended {
            "The cluster has ended."
        } else {
            "No cluster runs."
        };
        self.result(text, &json!({ "ended": ended }))
    }

    /// Ends the cluster, or removes what one has left that was killed; says which. A daemon that is being started
    /// does not listen yet, and one whose caller was killed ends by itself.
    fn try_down(&self) -> error::Result<Look<bool>> {
        let Some(client) = Client::find(&self.directory)? else {
            let cleared = self.directory.clear()?;
            return Ok(if cleared {
                Look::Done(false)
            } else {
                Look::NotYet("it is being started".to_owned())
            });
        };
        match client.ask(&Request::Down) {
            Ok(_) => Ok(Look::Done(true)),
            Err(error) if Client::find(&self.directory)?.is_some() => Err(error),
            Err(error) => Ok(Look::NotYet(chain(&error))),
        }
    }

    fn save(&self, folder: &Path) -> Result<()> {
        let folder = absolute(folder)?;
        self.ask(&Request::Save {
            folder: folder.clone(),
        })?;
        let text = format!(
            "Saved; `lab up --from {}` restores it.",
            relative(&folder).display()
        );
        self.result(&text, &json!({ "saved": folder }))
    }

    fn status(&self) -> Result<()> {
        match self.ask(&Request::Status)? {
            Outcome::Cluster(cluster) => self.show(&cluster),
            _ => bail!("the daemon answered something else"),
        }
    }

    fn change(&self, request: &Request) -> Result<()> {
        let outcome = self.ask(request)?;
        let text = match &outcome {
            Outcome::Processes { pids } => {
                let pids: Vec<String> = pids.iter().map(ToString::to_string).collect();
                format!("Sent to process {}.", pids.join(", "))
            }
            Outcome::Disk {
                effective: Effective::NextPowerOn,
            } => "Done; it takes effect when the node is next switched on.".to_owned(),
            Outcome::Disk { .. } | Outcome::Nothing | Outcome::Cluster(_) => "Done.".to_owned(),
        };
        self.result(&text, &outcome)
    }

    fn seed(&self, node: String, file: &Path) -> Result<()> {
        let seed = fs::read_to_string(file).with_context(|| format!("read {}", file.display()))?;
        self.change(&Request::Seed { node, seed })
    }

    fn exec(&self, node: String, command: &[OsString]) -> Result<ExitCode> {
        let Outcome::Processes { pids } = self.ask(&Request::InitProcess { node })? else {
            bail!("the daemon answered something else");
        };
        let [init] = pids[..] else {
            bail!("the node has {} first processes", pids.len())
        };
        let status = enter::run(init, command)?;
        Ok(status
            .code()
            .and_then(|code| u8::try_from(code).ok())
            .map_or(ExitCode::FAILURE, Into::into))
    }

    fn console(&self, node: &str, follow: bool) -> Result<()> {
        let path = self.directory.path().join(node).join("console.log");
        if !path.exists() {
            bail!(
                "node {node} has no console in {}",
                self.directory.path().display()
            );
        }
        end_with_reader(console::copy(&path, follow, &mut stdout().lock()))
            .with_context(|| format!("read {}", path.display()))
    }

    /// Becomes one of the cluster's programs, as the person's own call of it would be.
    fn become_program(
        &self,
        name: &str,
        option: &str,
        configuration: &Path,
        arguments: &[OsString],
    ) -> Result<ExitCode> {
        let path = self.directory.programs().join(name);
        let mut program = process::Command::new(&path);
        program
            .arg0(name)
            .arg(option)
            .arg(configuration)
            .args(arguments);
        Err(program.exec()).with_context(|| {
            format!(
                "cannot run {}: is there a cluster? (lab status)",
                path.display()
            )
        })
    }

    fn ask(&self, request: &Request) -> Result<Outcome> {
        Ok(Client::connect(&self.directory)?.ask(request)?)
    }

    fn show(&self, cluster: &Description) -> Result<()> {
        if self.output == Output::Json {
            return write_json(cluster);
        }
        say(&self.text(cluster))
    }

    fn text(&self, cluster: &Description) -> String {
        let mut out = String::new();
        for node in &cluster.nodes {
            let state = node.waits_for.as_deref().unwrap_or("ready");
            let port = |port: &Option<String>| port.clone().unwrap_or_default();
            let _ = writeln!(out, "{}  {state}", node.name);
            let _ = writeln!(
                out,
                "    apiserver https://{}  management {}  metrics {}  console {}",
                port(&node.kubernetes),
                port(&node.management),
                port(&node.metrics),
                relative(&node.console).display()
            );
        }
        if let Some(master) = &cluster.endpoint_leads_to {
            let _ = writeln!(
                out,
                "\nkubeconfig: https://{}, now {master}",
                cluster.endpoint
            );
        }
        // Whole: they are good in every working folder.
        let folder = self.directory.path().display();
        let _ = writeln!(
            out,
            "\nexport KUBECONFIG={folder}/kubeconfig   # kubectl: yours, or {folder}/bin/kubectl\n\
             export MASTCTL_CONFIG={folder}/mastctl.toml\n\
             lab status | console m1 -f | power-cut m1 | …; lab down ends it"
        );
        out
    }

    fn result(&self, text: &str, value: &impl Serialize) -> Result<()> {
        match self.output {
            Output::Text => say(&format!("{text}\n")),
            Output::Json => write_json(value),
        }
    }

    /// For people only.
    fn tell(&self, text: &str) -> Result<()> {
        match self.output {
            Output::Text => say(text),
            Output::Json => Ok(()),
        }
    }
}

fn absolute(path: &Path) -> Result<PathBuf> {
    path::absolute(path).with_context(|| format!("make sense of the path {}", path.display()))
}

fn write_json(value: &impl Serialize) -> Result<()> {
    let text = serde_json::to_string_pretty(value).context("write JSON")?;
    say(&format!("{text}\n"))
}

fn say(text: &str) -> Result<()> {
    print(text.as_bytes()).context("write to standard output")
}

/// What a running cluster has otherwise than it is asked for now: `has 1 master, not 3`.
fn difference(cluster: &Description, plan: &ClusterPlan, origin: &Origin) -> Option<String> {
    let Origin::New { provider, .. } = *origin else {
        return Some("may be another one than was saved".to_owned());
    };
    let counted = |number: u8, what: &str| {
        let plural = if number == 1 { "" } else { "s" };
        format!("has {number} {what}{plural}")
    };
    // An image that is gone is not the one that runs.
    let image = plan.image.canonicalize();
    if cluster.masters != plan.masters {
        let has = counted(cluster.masters, "master");
        Some(format!("{has}, not {}", plan.masters))
    } else if cluster.spares != plan.spares {
        let has = counted(cluster.spares, "spare");
        Some(format!("{has}, not {}", plan.spares))
    } else if cluster.provider != provider {
        let is = cluster.provider;
        Some(format!("is of provider {is}, not {provider}"))
    } else if provider == ProviderKind::Vm && cluster.memory_mib != plan.memory_mib {
        let (has, asked) = (cluster.memory_mib, plan.memory_mib);
        Some(format!("has {has} MiB in each machine, not {asked}"))
    } else if image.is_ok_and(|image| image == cluster.image) {
        None
    } else {
        let (runs, asked) = (cluster.image.display(), plan.image.display());
        Some(format!("runs the image in {runs}, not in {asked}"))
    }
}

/// A path as a person in the working folder would write it.
fn relative(path: &Path) -> PathBuf {
    env::current_dir()
        .ok()
        .and_then(|folder| path.strip_prefix(folder).ok().map(Path::to_owned))
        .unwrap_or_else(|| path.to_owned())
}

/// What each node waits for, on standard error: in place on a terminal, a line per change elsewhere.
struct Display {
    quiet: bool,
    in_place: bool,
    shown: String,
}

impl Display {
    fn new(output: Output) -> Self {
        Self {
            quiet: output == Output::Json,
            in_place: stderr().is_terminal(),
            shown: String::new(),
        }
    }

    fn update(&mut self, nodes: &[Progress]) {
        let text = nodes
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join("  |  ");
        if self.quiet || text == self.shown {
            return;
        }
        if self.in_place {
            // Carriage return and "erase to the end of the line" (ECMA-48).
            note(&format!("\r\u{1b}[K{text}"));
        } else {
            note(&format!("{text}\n"));
        }
        self.shown = text;
    }

    fn end(&self) {
        if self.in_place && !self.shown.is_empty() {
            note("\n");
        }
    }
}
