//! One module for each command.

mod certs;
mod etcd;
mod found;
mod keys;
mod kubeconfig;
mod login;
mod logs;
mod operators;
mod power;
mod seed;
mod session;
mod status;
mod statuses;
mod unlock;
mod upgrade;
mod vip;
mod why;

use serde_json::{Value, json};

use crate::Failure;
use crate::cli::{
    Cli, Command, EtcdCommand, OperatorsCommand, Output, SeedCommand, Upgrade, UpgradeCommand,
    VipCommand,
};
use masthead_api::routes;
use masthead_streams::print;
use session::Session;

/// Runs a command.
pub(crate) async fn run(cli: Cli) -> Result<(), Failure> {
    let Cli { global, command } = cli;
    let session = Session::new(global)?;
    match command {
        Command::Keygen(arguments) => keys::keygen(&session, arguments),
        Command::Secret => keys::secret(&session),
        Command::Seed(SeedCommand::Check { file }) => seed::check(&session, &file),
        Command::Login(arguments) => login::run(&session, arguments).await,
        Command::Status => status::run(&session).await,
        Command::Why { node } => why::run(&session, &node).await,
        Command::Certs => certs::run(&session).await,
        Command::Logs(arguments) => logs::run(&session, arguments).await,
        Command::Kubeconfig(arguments) => kubeconfig::run(&session, arguments).await,
        Command::Found(arguments) => found::run(&session, arguments).await,
        Command::Etcd(EtcdCommand::Leader(arguments)) => etcd::leader(&session, arguments).await,
        Command::Vip(VipCommand::Move(arguments)) => vip::move_to(&session, arguments).await,
        Command::Reboot(arguments) => power::run(&session, routes::REBOOT, arguments).await,
        Command::Poweroff(arguments) => power::run(&session, routes::POWEROFF, arguments).await,
        Command::Upgrade(Upgrade {
            command: Some(UpgradeCommand::Status),
            ..
        }) => upgrade::status(&session).await,
        Command::Upgrade(arguments) => upgrade::run(&session, arguments).await,
        Command::Rollback(arguments) => upgrade::back(&session, arguments).await,
        Command::Unlock { node, id } => unlock::run(&session, node, id).await,
        Command::Token(arguments) => operators::token(&session, arguments).await,
        Command::Operators(OperatorsCommand::List) => operators::list(&session).await,
        Command::Operators(OperatorsCommand::Remove { whom }) => {
            operators::remove(&session, whom).await
        }
        Command::Version => {
            let version = env!("CARGO_PKG_VERSION");
            say(
                session.output(),
                &format!("mastctl {version}\n"),
                || json!({ "version": version }),
            )
        }
    }
}

/// Prints text for people, or a document for programs.
fn say(output: Output, text: &str, document: impl FnOnce() -> Value) -> Result<(), Failure> {
    match output {
        Output::Table => write(text.as_bytes()),
        Output::Json => write(format!("{}\n", document()).as_bytes()),
    }
}

/// Writes to standard output.
fn write(bytes: &[u8]) -> Result<(), Failure> {
    print(bytes).map_err(|error| {
        Failure::new(
            "write to standard output",
            &error,
            "Check where it goes to.",
        )
    })
}
