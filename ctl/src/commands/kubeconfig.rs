//! `mastctl kubeconfig`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use masthead_api::kubeconfig::{KubeconfigAnswer, KubeconfigRequest, MAX_TTL};
use masthead_api::{FORMAT, routes};
use masthead_streams::note;
use rcgen::KeyPair;
use serde_json::json;

use super::session::Session;
use super::{say, write};
use crate::Failure;
use crate::cli::{Kubeconfig, Output};
use crate::client::unreadable;
use crate::files::write_private;

/// Makes a key pair, has its public half certified, and writes a kubeconfig.
pub(super) async fn run(session: &Session, arguments: Kubeconfig) -> Result<(), Failure> {
    let what = "get a kubeconfig";
    let ttl = arguments.ttl.as_secs();
    if ttl == 0 || ttl > MAX_TTL {
        return Err(Failure::refused(
            what,
            format!("a time to live of {ttl} s was asked for"),
            "Ask for at most 7d.",
        ));
    }
    let config = session.load()?;
    let (_, context) = config.context(session.context_name(), session.path())?;
    let key = KeyPair::generate()
        .map_err(|error| Failure::new("make a key pair", &error, "Try again."))?;
    let request = KubeconfigRequest {
        format: FORMAT,
        public_key: key.public_key_pem(),
        ttl,
        break_glass: arguments.break_glass,
    };
    // Any node can issue it: the first that answers.
    let mut last = None;
    let mut answer = None;
    for target in session.targets(context)? {
        let client = session.client(context, &target.node)?;
        match client.ask(what, routes::KUBECONFIG, Some(&request)).await {
            Ok(found) => {
                answer = Some((found, target.node));
                break;
            }
            Err(failure) => last = Some(failure),
        }
    }
    let (answer, node) = match (answer, last) {
        (Some((answer, node)), _) => {
            let answer: KubeconfigAnswer =
                serde_json::from_value(answer).map_err(|error| unreadable(what, &error))?;
            (answer, node)
        }
        (None, Some(failure)) => return Err(failure),
        (None, None) => unreachable!("there is at least one target"),
    };
    let server = arguments
        .server
        .as_ref()
        .or(node.kubernetes_server.as_ref());
    let server = server.unwrap_or(&answer.server);
    let text = render(
        &answer,
        server,
        arguments.tls_server_name.as_deref(),
        &key.serialize_pem(),
    );
    let Some(file) = &arguments.file else {
        return write(text.as_bytes());
    };
    write_private("the kubeconfig", file, text.as_bytes(), true)?;
    if session.output() == Output::Table {
        note(&format!(
            "{} is good until {}.\n",
            file.display(),
            answer.expires_at
        ));
        return Ok(());
    }
    say(
        session.output(),
        "",
        || json!({ "file": file, "expires_at": answer.expires_at }),
    )
}

/// A kubeconfig. Strings are JSON strings, which YAML has too, so that nothing in them can be taken for syntax.
fn render(
    answer: &KubeconfigAnswer,
    server: &str,
    tls_server_name: Option<&str>,
    key_pem: &str,
) -> String {
    let quote = |text: &str| json!(text).to_string();
    let encode = |text: &str| STANDARD.encode(text);
    let context = quote(&format!("{}-admin", answer.cluster));
    let name_line = tls_server_name
        .map(|name| format!("    tls-server-name: {}\n", quote(name)))
        .unwrap_or_default();
    format!(
        "\
apiVersion: v1
kind: Config
clusters:
- name: {cluster}
  cluster:
    server: {server}
{name_line}    certificate-authority-data: {authority}
users:
- name: {user}
  user:
    client-certificate-data: {certificate}
    client-key-data: {key}
contexts:
- name: {context}
  context:
    cluster: {cluster}
    user: {user}
current-context: {context}
",
        cluster = quote(&answer.cluster),
        server = quote(server),
        user = quote(&answer.user),
        authority = encode(&answer.authority),
        certificate = encode(&answer.certificate),
        key = encode(key_pem),
    )
}

#[cfg(test)]
mod tests {
    use masthead_api::Timestamp;

    use super::*;

    #[test]
    fn a_kubeconfig_is_written() {
        let answer = KubeconfigAnswer {
            format: FORMAT,
            cluster: "ams: \"x\"".into(),
            user: "masthead:mk1-a".into(),
            server: "https://10.20.0.10:6443".into(),
            authority: "CA".into(),
            certificate: "CERT".into(),
            expires_at: Timestamp::from_unix_millis(0),
        };
        assert_eq!(
            render(&answer, "https://127.0.0.1:4000", Some("10.20.0.10"), "KEY"),
            r#"apiVersion: v1
kind: Config
clusters:
- name: "ams: \"x\""
  cluster:
    server: "https://127.0.0.1:4000"
    tls-server-name: "10.20.0.10"
    certificate-authority-data: Q0E=
users:
- name: "masthead:mk1-a"
  user:
    client-certificate-data: Q0VSVA==
    client-key-data: S0VZ
contexts:
- name: "ams: \"x\"-admin"
  context:
    cluster: "ams: \"x\""
    user: "masthead:mk1-a"
current-context: "ams: \"x\"-admin"
"#
        );
    }
}
