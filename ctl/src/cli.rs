//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use masthead_api::Fingerprint;

use crate::duration;

/// The operator's client of Masthead nodes.
#[derive(Debug, Parser)]
#[command(name = "mastctl", version, disable_version_flag = true, after_help = AFTER_HELP)]
pub struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

const AFTER_HELP: &str = "\
Exit codes: 0 done, 1 failed, 2 refused or wrong usage, 3 began and stopped.
The first steps: mastctl keygen, mastctl secret, mastctl seed check FILE, and, when the node
is up, mastctl login NODE and mastctl kubeconfig.";

impl Cli {
    /// How the caller wants the output.
    pub fn output(&self) -> Output {
        self.global.output
    }
}

/// For people or for programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// Tables and sentences.
    Table,
    /// JSON, one document.
    Json,
}

#[derive(Debug, Args)]
pub(crate) struct Global {
    /// The configuration [default: that of the environment's MASTCTL_CONFIG, or ~/.config/masthead/mastctl.toml].
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// The context in it [default: its current one].
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) context: Option<String>,
    /// Nodes by name or address, comma-separated [default: all of the context].
    #[arg(
        short,
        long,
        global = true,
        value_delimiter = ',',
        value_name = "NODES"
    )]
    pub(crate) nodes: Vec<String>,
    /// For people or for programs.
    #[arg(short, long, global = true, value_enum, default_value = "table")]
    pub(crate) output: Output,
    /// How long to wait for a node's answer.
    #[arg(long, global = true, value_parser = duration::parse, default_value = "30s", value_name = "TIME")]
    pub(crate) timeout: Duration,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make an operator's key pair; its public half goes into the seed's `admins`.
    Keygen(Keygen),
    /// Make a cluster's secret for a seed.
    Secret,
    /// Work with seeds.
    #[command(subcommand)]
    Seed(SeedCommand),
    /// Prove to hold an operator's key, and get a certificate of 8 hours.
    Login(Login),
    /// What nodes are and do, and what they wait for.
    Status,
    /// Why a node, or a part of it, waits or is degraded, and what to do.
    Why {
        /// The node: a name of the context, or an address.
        node: String,
    },
    /// Every certificate of the nodes: when it expires, and when it is renewed.
    Certs,
    /// A service's output.
    Logs(Logs),
    /// Get a kubeconfig that expires; its private key never leaves this machine.
    Kubeconfig(Kubeconfig),
    /// Found the cluster without some of the masters that the seed lists.
    Found(Found),
    /// Work with etcd's members.
    #[command(subcommand)]
    Etcd(EtcdCommand),
    /// Work with the virtual address.
    #[command(subcommand)]
    Vip(VipCommand),
    /// Stop a master in order, and start it again: one at a time, and never one too many.
    Reboot(Power),
    /// Stop a master in order: one at a time, and never one too many.
    Poweroff(Power),
    /// Give masters another image, one after the other: on trial, and back by itself if the cluster does not find it good.
    #[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
    Upgrade(Upgrade),
    /// Have a master go back to the image before this one, or end a trial.
    Rollback(Rollback),
    /// Take the disruption lock away from a master that never comes back.
    Unlock {
        /// The name of the master that holds it.
        node: String,
        /// Only the lock whose id begins so, as `mastctl status` tells it: not one that the master has taken since.
        #[arg(long)]
        id: Option<String>,
    },
    /// Make a one-time token, with which a further operator logs in.
    Token(Token),
    /// Who may log in.
    #[command(subcommand)]
    Operators(OperatorsCommand),
    /// The version of mastctl.
    Version,
}

#[derive(Debug, Args)]
pub(crate) struct Keygen {
    /// Where the private key goes [default: operator.key beside the configuration].
    #[arg(long, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum SeedCommand {
    /// Check a seed as a node would.
    Check {
        /// The seed.
        file: PathBuf,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Login {
    /// The node: HOST, HOST:PORT, or a name in the configuration.
    pub(crate) node: String,
    /// The fingerprint of the operators' authority, as the node's console shows it.
    #[arg(long)]
    pub(crate) fingerprint: Option<Fingerprint>,
    /// The operator's private key [default: the context's, or operator.key beside the configuration].
    #[arg(long, value_name = "FILE")]
    pub(crate) key: Option<PathBuf>,
    /// A token of another operator's, for a key that is no operator's yet; "-" reads it from standard input, where other users of
    /// this machine do not see it.
    #[arg(long)]
    pub(crate) token: Option<String>,
    /// The name in the node's certificate, when it is not the one to connect to.
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// Where this machine reaches the node's apiserver, for later kubeconfigs, when it is not where the node says: a
    /// forwarded port.
    #[arg(long, value_name = "URL")]
    pub(crate) kubernetes_server: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Token {
    /// How long it shall be good, at most 24h.
    #[arg(long, value_parser = duration::parse, default_value = "15m", value_name = "TIME")]
    pub(crate) ttl: Duration,
}

#[derive(Debug, Subcommand)]
pub(crate) enum OperatorsCommand {
    /// All operators, and the tokens that nobody has used yet.
    List,
    /// Take out an operator who came in by a token, or a token that nobody has used.
    Remove {
        /// The operator's public key, or the token's id.
        whom: String,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Logs {
    /// The service: etcd, kube-apiserver, …
    pub(crate) service: String,
    /// Go on with what it writes from now on.
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// How many past lines.
    #[arg(long, default_value_t = masthead_api::routes::DEFAULT_LOG_LINES)]
    pub(crate) lines: usize,
}

#[derive(Debug, Args)]
pub(crate) struct Kubeconfig {
    /// How long it shall be good, at most 7d.
    #[arg(long, value_parser = duration::parse, default_value = "8h", value_name = "TIME")]
    pub(crate) ttl: Duration,
    /// Group system:masters, past all authorization; logged by the node as a warning.
    #[arg(long)]
    pub(crate) break_glass: bool,
    /// The apiserver's URL [default: that of the login, or else as the node says].
    #[arg(long, value_name = "URL")]
    pub(crate) server: Option<String>,
    /// The name in the apiserver's certificate, when it is not the one in the URL.
    #[arg(long, value_name = "NAME")]
    pub(crate) tls_server_name: Option<String>,
    /// Where it goes, with mode 0600 [default: standard output].
    #[arg(long, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Found {
    /// The names of the masters to found without. This release cannot add them later.
    #[arg(long, required = true, value_delimiter = ',', value_name = "NAMES")]
    pub(crate) without: Vec<String>,
    /// The cluster's name, as its seed has it.
    #[arg(long, value_name = "NAME")]
    pub(crate) cluster: String,
}

#[derive(Debug, Subcommand)]
pub(crate) enum EtcdCommand {
    /// Have the leader hand over to another master's member.
    Leader(EtcdLeader),
}

#[derive(Debug, Subcommand)]
pub(crate) enum VipCommand {
    /// Have its owner hand it over to another master.
    Move(VipMove),
}

#[derive(Debug, Args)]
pub(crate) struct VipMove {
    /// The name of the master that shall own it.
    pub(crate) node: String,
    /// Which address, where there are several [default: all].
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) address: Option<String>,
    /// Only say what would be done, or why it would be refused.
    #[arg(long)]
    pub(crate) plan: bool,
}

#[derive(Debug, Args)]
pub(crate) struct EtcdLeader {
    /// The name of the master whose member shall lead.
    pub(crate) node: String,
    /// Only say what would be done, or why it would be refused.
    #[arg(long)]
    pub(crate) plan: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Power {
    /// The masters, one after the other: names of the context, or addresses [default: those of --nodes].
    #[arg(value_name = "NODE")]
    pub(crate) masters: Vec<String>,
    /// Only say what would be done, or why it would be refused.
    #[arg(long)]
    pub(crate) plan: bool,
    /// Go even if nothing can be written meanwhile, or another master is out of service on purpose.
    #[arg(long)]
    pub(crate) accept_outage: bool,
    /// Wait until it is done: the node is up again, or gone.
    #[arg(long)]
    pub(crate) wait: bool,
    /// How long to wait.
    #[arg(long, value_parser = duration::parse, default_value = "10m", value_name = "TIME")]
    pub(crate) wait_timeout: Duration,
}

#[derive(Debug, Args)]
pub(crate) struct Upgrade {
    #[command(subcommand)]
    pub(crate) command: Option<UpgradeCommand>,
    #[command(flatten)]
    pub(crate) options: UpgradeOptions,
    /// The masters, one after the other, by names of the context or addresses; and last the signed bundle, a file or a URL.
    #[arg(required = true, value_name = "NODE... BUNDLE")]
    pub(crate) words: Vec<String>,
    /// All masters of the cluster, those last that own the virtual address or lead etcd.
    #[arg(long)]
    pub(crate) all: bool,
    /// Also a master that runs this very image.
    #[arg(long)]
    pub(crate) again: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum UpgradeCommand {
    /// What each master runs, what is on trial, and why the last trial was not good.
    Status,
}

#[derive(Debug, Args)]
pub(crate) struct UpgradeOptions {
    /// Only say what would be done, or why it would be refused.
    #[arg(long)]
    pub(crate) plan: bool,
    /// Go even if nothing can be written meanwhile, another master is out of service on purpose, or no snapshot of etcd can be taken.
    #[arg(long)]
    pub(crate) accept_outage: bool,
    /// How long to wait for each master to be good, times its timing scale.
    #[arg(long, value_parser = duration::parse, default_value = "30m", value_name = "TIME")]
    pub(crate) wait_timeout: Duration,
}

#[derive(Debug, Args)]
pub(crate) struct Rollback {
    /// The master: a name of the context, or an address.
    #[arg(value_name = "NODE")]
    pub(crate) master: String,
    #[command(flatten)]
    pub(crate) options: UpgradeOptions,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;
    use clap::error::ErrorKind;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    /// What a page writes for the reader to fill in, and something that may stand there.
    const PLACEHOLDERS: [(&str, &str); 3] = [
        (
            "sha256:…",
            "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        ),
        ("TIME", "1h"),
        ("N", "5"),
    ];

    #[test]
    fn every_documented_command_line_is_one() {
        let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
        let pages = std::fs::read_dir(format!("{root}/docs")).unwrap();
        let pages = pages
            .map(|page| page.unwrap().path())
            .filter(|path| path.extension().is_some_and(|name| name == "md"))
            .chain([format!("{root}/README.md").into()]);
        let mut number = 0;
        for page in pages {
            let text = std::fs::read_to_string(&page).unwrap();
            // In the text between back quotes, and at the beginning of a line of an example.
            let quoted = text.split('`').filter(|span| !span.contains('\n'));
            for line in quoted.chain(text.lines()) {
                let line = line.split(" #").next().unwrap_or_default();
                let words = line.split_whitespace().skip_while(|word| *word == "lab");
                let mut words = words.map(|word| {
                    let known = PLACEHOLDERS.iter().find(|(name, _)| *name == word);
                    known.map_or(word, |(_, value)| value)
                });
                let program = words.next().unwrap_or_default();
                if !matches!(program, "mastctl" | ".lab/bin/mastctl") {
                    continue;
                }
                let words: Vec<_> = words.take_while(|word| *word != "|").collect();
                // The program itself, or all that follows it.
                if words.is_empty() || words.contains(&"…") {
                    continue;
                }
                let arguments = ["mastctl"].iter().chain(&words);
                match Cli::try_parse_from(arguments) {
                    Ok(_) => {}
                    // A sentence may name a command without what it needs.
                    Err(error) if error.kind() == ErrorKind::MissingRequiredArgument => {}
                    Err(error) => panic!("{}: {line}\n{error}", page.display()),
                }
                number += 1;
            }
        }
        assert!(number > 20, "only {number} command lines found");
    }

    #[test]
    fn the_table_of_commands_has_each_with_its_options() {
        let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/mastctl.md");
        let page = std::fs::read_to_string(page).unwrap();
        for command in Cli::command().get_subcommands() {
            let name = command.get_name();
            let row = page
                .lines()
                .find(|line| line.starts_with("| `") && line.contains(&format!("`{name}")));
            let row = row.unwrap_or_else(|| panic!("docs/mastctl.md has no `{name}`"));
            for option in command.get_arguments().filter_map(clap::Arg::get_long) {
                assert!(
                    option == "help" || row.contains(&format!("--{option}")) || option == "follow",
                    "docs/mastctl.md: `{name}` has --{option}, too"
                );
            }
        }
    }

    #[test]
    fn nodes_are_separated_by_commas() {
        let cli = Cli::parse_from(["mastctl", "status", "-n", "m1,m2", "-n", "m3"]);
        assert_eq!(cli.global.nodes, ["m1", "m2", "m3"]);
        assert!(Cli::try_parse_from(["mastctl", "kubeconfig", "--ttl", "soon"]).is_err());
        assert!(Cli::try_parse_from(["mastctl", "login", "m1", "--fingerprint", "ab"]).is_err());
    }
}
