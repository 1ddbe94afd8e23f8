//! The command line of `lab`.

use std::{collections::BTreeSet, ffi::OsString, path::PathBuf};

use clap::{Parser, Subcommand, ValueEnum};
use masthead_lab::{
    partition::Direction,
    plan::DiskRole,
    provider::{DiskCondition, Link, ProviderKind, Signal, Wipe},
};

/// Clusters of Masthead on this machine, for trying things and for the tests.
#[derive(Debug, Parser)]
#[command(name = "lab", version)]
pub(crate) struct CommandLine {
    /// The folder of the cluster.
    #[arg(long, global = true, default_value = ".lab", value_name = "FOLDER")]
    pub(crate) directory: PathBuf,
    /// For people or for programs.
    #[arg(short, long, global = true, value_enum, default_value = "text")]
    pub(crate) output: Output,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// How results are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// Sentences and tables.
    Text,
    /// One JSON document.
    Json,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Start a cluster, and wait until it is ready.
    Up {
        /// How many masters, 1 to 7.
        #[arg(long, default_value_t = 1, value_name = "NUMBER")]
        masters: u8,
        /// How many machines more, which stay off and which the seed does not list.
        #[arg(long, default_value_t = 0, value_name = "NUMBER")]
        spares: u8,
        /// A master to leave off; may be repeated.
        #[arg(long, value_name = "NODE")]
        off: Vec<String>,
        /// Return as soon as the nodes are powered on.
        #[arg(long)]
        no_wait: bool,
        /// How they are run: `vm` (QEMU) or `namespace` (at native speed, needs root).
        #[arg(long, default_value = "vm")]
        provider: ProviderKind,
        /// Memory of each machine, in MiB.
        #[arg(long, default_value_t = 2048, value_name = "MIB")]
        memory: u32,
        /// The folder that `make image` has filled.
        #[arg(long, default_value = "build/image", value_name = "FOLDER")]
        image: PathBuf,
        /// Restore the cluster that was saved in this folder, instead of founding one.
        #[arg(
            long,
            value_name = "FOLDER",
            conflicts_with_all = ["masters", "spares", "off", "provider", "memory"]
        )]
        from: Option<PathBuf>,
    },
    /// Save a running cluster of machines, all nodes at one moment; it goes on.
    Save {
        /// A new folder.
        folder: PathBuf,
    },
    /// End the cluster, and leave nothing behind.
    Down,
    /// What runs, and how to reach it.
    Status,
    /// Run a program inside of a namespace node, as its root.
    Exec {
        /// m1, …
        node: String,
        /// The program, as the node's root holds it (there is no shell), and its arguments.
        #[arg(required = true, last = true)]
        command: Vec<OsString>,
    },
    /// Pull a node's plug: what it has not flushed is lost.
    PowerCut {
        /// m1, …
        node: String,
    },
    /// Press a node's power button.
    PowerOn {
        /// m1, …
        node: String,
    },
    /// Show what a node has shown on its console.
    Console {
        /// m1, …
        node: String,
        /// Go on with what it shows from now on.
        #[arg(short, long)]
        follow: bool,
    },
    /// Plug a node's network cable in, or pull it out.
    Link {
        /// m1, …
        node: String,
        /// In or out.
        #[arg(value_parser = parse_link)]
        link: Link,
    },
    /// Cut the wire between groups of nodes: `partition m1 m2,m3`. Nodes in no group hear everybody.
    Partition {
        /// Names with commas between them.
        #[arg(required = true, num_args = 2.., value_name = "GROUP", value_parser = parse_group)]
        groups: Vec<Group>,
        /// Which directions between the first group and the others are cut: both; the first is mute, and hears them;
        /// or it is deaf, and heard by them.
        #[arg(long, value_enum, default_value = "both")]
        direction: Direction,
    },
    /// Put the wire together again after `partition`.
    Heal,
    /// Make a node's cable a bad one; without options, a good one again.
    Cable {
        /// m1, …
        node: String,
        /// Every frame to the node comes that many milliseconds later.
        #[arg(long, default_value_t = 0, value_name = "MILLISECONDS")]
        delay: u64,
        /// Of every hundred frames that many are lost, in each direction.
        #[arg(long, default_value_t = 0.0, value_name = "PERCENT", value_parser = parse_percent)]
        loss: f64,
    },
    /// Give a node that is off a blank disk.
    Wipe {
        /// m1, …
        node: String,
        /// state, etcd, data or all.
        #[arg(value_parser = parse_wipe)]
        what: Wipe,
    },
    /// Give a node that is off another seed file, from its next start on.
    Seed {
        /// m1, …
        node: String,
        /// The file.
        file: PathBuf,
    },
    /// Send a signal to a service of a node.
    Kill {
        /// m1, …
        node: String,
        /// etcd, kube-apiserver, …, supervisor or init.
        service: String,
        /// kill, terminate, stop or continue.
        #[arg(long, default_value = "kill", value_parser = parse_signal)]
        signal: Signal,
    },
    /// Bring a disk into trouble, or out of it.
    Disk {
        /// m1, …
        node: String,
        /// state, etcd or data.
        role: DiskRole,
        /// read-only, remove, stall or restore.
        #[arg(value_parser = parse_condition)]
        condition: DiskCondition,
    },
    /// kubectl, as administrator of the cluster.
    Kubectl {
        /// What kubectl is to do.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// mastctl, as operator of the cluster.
    Mastctl {
        /// What mastctl is to do.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// (The process behind `lab up`.)
    #[command(hide = true)]
    Daemon,
    /// (The process behind a powered namespace node.)
    #[command(hide = true)]
    NamespaceNode,
}

/// Nodes that hear each other.
pub(crate) type Group = BTreeSet<String>;

fn parse_group(text: &str) -> Result<Group, String> {
    let names = text.split(',').map(str::trim);
    if names.clone().any(str::is_empty) {
        return Err("write names with commas between them".to_owned());
    }
    Ok(names.map(str::to_owned).collect())
}

fn parse_percent(text: &str) -> Result<f64, String> {
    text.trim_end_matches('%')
        .parse()
        .ok()
        .filter(|percent| (0.0..=100.0).contains(percent))
        .ok_or_else(|| "write a number from 0 to 100".to_owned())
}

fn parse_wipe(text: &str) -> Result<Wipe, String> {
    match text {
        "all" => Ok(Wipe::All),
        role => role
            .parse()
            .map(Wipe::Disk)
            .map_err(|_| "write `state`, `etcd`, `data` or `all`".to_owned()),
    }
}

fn parse_link(text: &str) -> Result<Link, String> {
    match text {
        "up" => Ok(Link::Up),
        "down" => Ok(Link::Down),
        _ => Err("write `up` or `down`".to_owned()),
    }
}

fn parse_signal(text: &str) -> Result<Signal, String> {
    match text.to_ascii_lowercase().trim_start_matches("sig") {
        "kill" | "9" => Ok(Signal::Kill),
        "terminate" | "term" | "15" => Ok(Signal::Terminate),
        "stop" | "19" => Ok(Signal::Stop),
        "continue" | "cont" | "18" => Ok(Signal::Continue),
        _ => Err("write `kill`, `terminate`, `stop` or `continue`".to_owned()),
    }
}

fn parse_condition(text: &str) -> Result<DiskCondition, String> {
    match text {
        "read-only" => Ok(DiskCondition::ReadOnly),
        "remove" => Ok(DiskCondition::Removed),
        "stall" => Ok(DiskCondition::Stalled),
        "restore" => Ok(DiskCondition::Healthy),
        _ => Err("write `read-only`, `remove`, `stall` or `restore`".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        CommandLine::command().debug_assert();
    }

    #[test]
    fn a_signal_may_be_written_in_many_ways() {
        for text in ["stop", "STOP", "SIGSTOP", "19"] {
            assert_eq!(parse_signal(text), Ok(Signal::Stop), "{text}");
        }
        assert!(parse_signal("hup").is_err());
    }

    #[test]
    fn groups_are_names_with_commas_between_them() {
        let line = CommandLine::parse_from(["lab", "partition", "m1", "m2,m3"]);
        let Command::Partition { groups, direction } = line.command else {
            panic!("{line:?}")
        };
        assert_eq!(groups.len(), 2);
        assert_eq!(direction, Direction::Both);
        assert!(groups[1].contains("m3"));
        for wrong in [&["m1"][..], &["m1,", "m2"], &[]] {
            let words = ["lab", "partition"].iter().chain(wrong);
            assert!(CommandLine::try_parse_from(words).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn kubectl_gets_all_that_follows() {
        let line = CommandLine::parse_from(["lab", "kubectl", "get", "pods", "-o", "json"]);
        let Command::Kubectl { arguments } = line.command else {
            panic!("{line:?}")
        };
        assert_eq!(arguments, ["get", "pods", "-o", "json"]);
    }
}
