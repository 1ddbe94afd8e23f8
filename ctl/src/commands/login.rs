//! `mastctl login`.

use std::io::{self, BufRead as _, IsTerminal as _};
use std::path::{Path, PathBuf};

use masthead_api::login::{Challenge, ChallengeRequest, LoginAnswer, LoginRequest};
use masthead_api::{FORMAT, Fingerprint, hex, routes};
use masthead_pki::{LoginProof, OperatorPrivateKey, Secret, server_key_hash};
use masthead_streams::note;
use serde_json::json;

use super::keys::KEY_FILE;
use super::say;
use super::session::Session;
use crate::Failure;
use crate::cli::Login;
use crate::client::{Client, Trust, unreadable};
use crate::config::{Config, Context, Node, Part};
use crate::files::read_private;

/// Proves to hold the operator's key, and keeps the certificate.
pub(super) async fn run(session: &Session, arguments: Login) -> Result<(), Failure> {
    let mut config = session.load()?;
    let known = known(session, &config, &arguments);
    let node = match &known {
        Some((_, node, _)) => node.clone(),
        None => as_node(&arguments.node),
    };
    let node = Node {
        endpoint: node.endpoint,
        name: arguments.name.clone().or(node.name),
        kubernetes_server: arguments
            .kubernetes_server
            .clone()
            .or(node.kubernetes_server),
    };
    let (key_path, key) = operator_key(session, &arguments, known.as_ref().map(|(_, _, c)| *c))?;

    let pinned = match &known {
        Some((_, _, context)) => context.part(Part::Authority, session.directory())?,
        None => None,
    };
    let trust = match (arguments.fingerprint, pinned) {
        (Some(fingerprint), _) => Trust::Fingerprint(fingerprint),
        (None, Some(authority)) => Trust::authority(&authority)?,
        (None, None) => match recognised(session, &config, &node).await? {
            Some(trust) => trust,
            None => Trust::Fingerprint(ask_a_person(session, &node).await?),
        },
    };
    let token = arguments.token.clone().map(token).transpose()?;
    let answer = prove(session, &node, trust, &key, token).await?;

    let name = session
        .context_name()
        .map(str::to_owned)
        .or_else(|| {
            let (name, _, context) = known.as_ref()?;
            (context.provisional == answer.provisional).then(|| name.clone())
        })
        .unwrap_or_else(|| {
            if answer.provisional {
                format!("{}{}", provisional_prefix(&answer.cluster), answer.node)
            } else {
                answer.cluster.clone()
            }
        });
    keep(&mut config, &name, &answer, node, key_path.as_deref());
    config.save(session.path())?;

    let until = if answer.provisional {
        "This node belongs to no cluster yet. Log in again when the cluster is founded, or when the node has restarted: it \
         then has another authority.\n"
    } else if answer.enrolled {
        "The token is used: your key is an operator's from now on.\n"
    } else if arguments.token.is_some() {
        "Your key was an operator's already: the token is still good, for somebody else.\n"
    } else {
        ""
    };
    let text = format!(
        "{} of cluster {} has given you a certificate, good until {}.\nIt is kept in {}, as context \"{name}\", which is the current one now.\n{until}",
        answer.node,
        answer.cluster,
        answer.expires_at,
        session.path().display()
    );
    say(session.output(), &text, || {
        json!({
            "context": name,
            "cluster": answer.cluster,
            "node": answer.node,
            "expires_at": answer.expires_at,
            "provisional": answer.provisional,
            "enrolled": answer.enrolled,
        })
    })
}

/// The node in the configuration, if its name is in the context that is in use.
fn known<'a>(
    session: &Session,
    config: &'a Config,
    arguments: &Login,
) -> Option<(String, Node, &'a Context)> {
    let (name, context) = config
        .context(session.context_name(), session.path())
        .ok()?;
    let node = context.nodes.get(&arguments.node).or_else(|| {
        context.nodes.values().find(|node| {
            node.endpoint == arguments.node || node.address() == as_node(&arguments.node).address()
        })
    })?;
    Some((name.to_owned(), node.clone(), context))
}

/// The authority of the context that is in use, if a node that it does not know yet proves to be one of its cluster.
async fn recognised(
    session: &Session,
    config: &Config,
    node: &Node,
) -> Result<Option<Trust>, Failure> {
    let Ok((_, context)) = config.context(session.context_name(), session.path()) else {
        return Ok(None);
    };
    let Some(authority) = context.part(Part::Authority, session.directory())? else {
        return Ok(None);
    };
    let trust = Trust::authority(&authority)?;
    let client = Client::new(node.clone(), trust, None, session.timeout())?;
    match client.connect().await {
        Ok(_) => Trust::authority(&authority).map(Some),
        // Of another cluster, or of none yet: a person compares.
        Err(failure) if failure.code == "authority-differs" => Ok(None),
        Err(failure) => Err(failure),
    }
}

fn as_node(endpoint: &str) -> Node {
    Node {
        endpoint: endpoint.to_owned(),
        name: None,
        kubernetes_server: None,
    }
}

/// The operator's private key: as the arguments say, else the context's, else the one beside the configuration.
fn operator_key(
    session: &Session,
    arguments: &Login,
    context: Option<&Context>,
) -> Result<(Option<PathBuf>, OperatorPrivateKey), Failure> {
    let in_context = match (&arguments.key, context) {
        (None, Some(context)) => context.part(Part::Key, session.directory())?,
        _ => None,
    };
    let (path, pem) = match (&arguments.key, in_context) {
        (None, Some(pem)) => (None, pem),
        (path, _) => {
            let path = path
                .clone()
                .unwrap_or_else(|| session.directory().join(KEY_FILE));
            let pem =
                read_private("the operator's private key", &path).map_err(|mut failure| {
                    if !path.exists() {
                        "Make one with `mastctl keygen`, or say where it is with --key."
                            .clone_into(&mut failure.next);
                    }
                    failure
                })?;
            (Some(path), pem)
        }
    };
    let key = OperatorPrivateKey::parse(&Secret::new(pem)).map_err(|error| {
        Failure::new(
            "use the operator's private key",
            &error,
            "Use a key of `mastctl keygen`.",
        )
    })?;
    Ok((path, key))
}

/// Shows the fingerprint of whoever answers, and asks a person whether the node's console shows the same.
async fn ask_a_person(session: &Session, node: &Node) -> Result<Fingerprint, Failure> {
    let client = Client::new(node.clone(), Trust::Nobody, None, session.timeout())?;
    let refused = client.connect().await.err();
    let presented = match (client.presented(), refused) {
        (Some(presented), _) => presented,
        (None, Some(failure)) => return Err(failure),
        (None, None) => unreachable!("a connection that trusts nobody fails"),
    };
    let what = format!("believe that {} is your node", node.endpoint);
    if !io::stdin().is_terminal() {
        return Err(Failure::refused(
            what,
            format!("nothing is pinned yet, and nobody can be asked here. It presents {presented}"),
            format!(
                "Compare with the node's console, then: mastctl login {} --fingerprint {presented}",
                node.endpoint
            ),
        )
        .with_code("fingerprint-needed"));
    }
    note(&format!(
        "The operators' authority of {} has the fingerprint\n  {presented}\nDoes the node's console show the same? (yes/no) ",
        node.endpoint
    ));
    let mut answer = String::new();
    io::stdin()
        .lock()
        .read_line(&mut answer)
        .map_err(|error| Failure::new(&what, &error, "Use --fingerprint."))?;
    if answer.trim() == "yes" {
        return Ok(presented);
    }
    Err(Failure::refused(
        what,
        "you did not say \"yes\"",
        "If the fingerprints differ, this is another machine, or somebody is in between.",
    ))
}

/// A token as it was given, or from standard input.
fn token(given: String) -> Result<String, Failure> {
    if given != "-" {
        return Ok(given);
    }
    if io::stdin().is_terminal() {
        note("The token: ");
    }
    let mut line = String::new();
    let what = "read the token from standard input";
    let read = io::stdin().read_line(&mut line);
    read.map_err(|error| Failure::new(what, &error, "Give it a line with the token."))?;
    match line.trim() {
        "" => Err(Failure::refused(
            what,
            "there is none",
            "Give it a line with the token.",
        )),
        token => Ok(token.to_owned()),
    }
}

async fn prove(
    session: &Session,
    node: &Node,
    trust: Trust,
    key: &OperatorPrivateKey,
    token: Option<String>,
) -> Result<LoginAnswer, Failure> {
    let what = "log in with a key";
    let wrong = |error: &dyn std::error::Error| Failure::new(what, error, "Report it.");
    let public_key = key.public().to_string();
    // One connection: the proof is for the server that this one is with.
    let mut connection = Client::new(node.clone(), trust, None, session.timeout())?
        .connect()
        .await?;
    let request = ChallengeRequest {
        format: FORMAT,
        public_key: public_key.clone(),
    };
    let challenge = connection
        .ask(what, routes::LOGIN_CHALLENGE, Some(&request))
        .await?;
    let challenge: Challenge =
        serde_json::from_value(challenge).map_err(|error| unreadable(what, &error))?;
    let nonce = hex::decode(&challenge.nonce)
        .and_then(|nonce| nonce.try_into().ok())
        .ok_or_else(|| {
            Failure::refused(
                what,
                "the node's nonce is not 32 bytes",
                "Use a mastctl of its version.",
            )
        })?;
    let hash = server_key_hash(connection.certificate()).map_err(|error| wrong(&error))?;
    let signature = LoginProof::sign(key, hash, nonce).map_err(|error| wrong(&error))?;
    let request = LoginRequest {
        format: FORMAT,
        public_key,
        nonce: challenge.nonce,
        signature: hex::encode(&signature),
        token,
    };
    let answer = connection.ask(what, routes::LOGIN, Some(&request)).await;
    let answer = answer.map_err(Failure::as_the_node_says)?;
    serde_json::from_value(answer).map_err(|error| unreadable(what, &error))
}

/// What the contexts of nodes begin with that belong to no cluster yet: each has an authority of its own.
fn provisional_prefix(cluster: &str) -> String {
    format!("{cluster}.")
}

/// Puts what the login gave into the configuration. Another authority than before means another cluster of the
/// same name, whose old nodes are gone; a cluster's makes the provisional ones of its nodes void.
fn keep(
    config: &mut Config,
    name: &str,
    answer: &LoginAnswer,
    node: Node,
    key_path: Option<&Path>,
) {
    if !answer.provisional {
        let prefix = provisional_prefix(&answer.cluster);
        config
            .contexts
            .retain(|name, context| !(context.provisional && name.starts_with(&prefix)));
    }
    let context = config.contexts.entry(name.to_owned()).or_default();
    context.provisional = answer.provisional;
    if context.authority_file.is_some()
        || context
            .authority
            .as_deref()
            .is_some_and(|authority| authority != answer.authority)
    {
        context.nodes.clear();
    }
    context.authority = Some(answer.authority.clone());
    context.authority_file = None;
    context.certificate = Some(answer.certificate.clone());
    context.certificate_file = None;
    if let Some(path) = key_path {
        context.key = None;
        context.key_file = Some(std::path::absolute(path).unwrap_or_else(|_| path.to_owned()));
    }
    // The same node under the name that it was asked for by.
    context
        .nodes
        .retain(|_, other| other.endpoint != node.endpoint);
    let node_name = if answer.node.is_empty() {
        node.endpoint.clone()
    } else {
        answer.node.clone()
    };
    context.nodes.insert(node_name, node);
    config.current = Some(name.to_owned());
}

#[cfg(test)]
mod tests {
    use masthead_api::Timestamp;

    use super::*;

    fn answer(authority: &str, node: &str) -> LoginAnswer {
        LoginAnswer {
            format: FORMAT,
            certificate: "certificate".into(),
            authority: authority.into(),
            expires_at: Timestamp::from_unix_millis(0),
            cluster: "c".into(),
            node: node.into(),
            provisional: false,
            enrolled: false,
        }
    }

    fn nodes(config: &Config) -> Vec<&str> {
        config.contexts["c"]
            .nodes
            .keys()
            .map(String::as_str)
            .collect()
    }

    #[test]
    fn a_founded_cluster_takes_the_place_of_its_nodes_provisional_contexts() {
        let mut config = Config::default();
        for node in ["m1", "m2"] {
            let answer = LoginAnswer {
                provisional: true,
                ..answer(node, node)
            };
            keep(
                &mut config,
                &format!("c.{node}"),
                &answer,
                as_node(node),
                None,
            );
        }
        let mut other = Context::default();
        config.contexts.insert("c.d".into(), other.clone());
        other.provisional = true;
        config.contexts.insert("other.m1".into(), other);
        assert_eq!(config.current.as_deref(), Some("c.m2"));
        keep(&mut config, "c", &answer("A", "m1"), as_node("m1"), None);
        let names: Vec<_> = config.contexts.keys().collect();
        assert_eq!(names, ["c", "c.d", "other.m1"]);
    }

    #[test]
    fn logins_at_several_nodes_of_a_cluster_share_a_context() {
        let mut config = Config::default();
        let key = Some(Path::new("/k"));
        keep(
            &mut config,
            "c",
            &answer("A", "m1"),
            as_node("10.0.0.1"),
            key,
        );
        keep(
            &mut config,
            "c",
            &answer("A", "m2"),
            as_node("10.0.0.2"),
            None,
        );
        assert_eq!(nodes(&config), ["m1", "m2"]);
        assert_eq!(
            config.contexts["c"].key_file.as_deref(),
            Some(Path::new("/k"))
        );
        keep(
            &mut config,
            "c",
            &answer("A", "m3"),
            as_node("10.0.0.2"),
            None,
        );
        assert_eq!(nodes(&config), ["m1", "m3"], "an endpoint is one node");
        keep(
            &mut config,
            "c",
            &answer("B", "m1"),
            as_node("10.0.0.9"),
            None,
        );
        assert_eq!(
            nodes(&config),
            ["m1"],
            "another authority is another cluster"
        );
    }
}
