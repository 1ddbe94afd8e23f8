//! `[kubernetes.files]`: documents written as TOML tables or as YAML in a string.

use masthead_diagnostics::{Shape, Value};
use serde_json::{Map, Value as Json};

use super::schema::{self, Fault, Type};
use crate::Files;

/// A document that a seed can hold.
struct Specification {
    key: &'static str,
    api_version: &'static str,
    kind: &'static str,
    schema: Type,
}

const AUTHENTICATION: Specification = Specification {
    key: "authentication",
    api_version: "apiserver.config.k8s.io/v1",
    kind: "AuthenticationConfiguration",
    schema: schema::AUTHENTICATION,
};
const AUDIT_POLICY: Specification = Specification {
    key: "audit-policy",
    api_version: "audit.k8s.io/v1",
    kind: "Policy",
    schema: schema::AUDIT_POLICY,
};
const ADMISSION: Specification = Specification {
    key: "admission",
    api_version: "apiserver.config.k8s.io/v1",
    kind: "AdmissionConfiguration",
    schema: schema::ADMISSION,
};

pub(crate) fn files(value: &Value<'_>) -> Files {
    let Some(table) = value.table() else {
        return Files::default();
    };
    let read = |specification: &Specification, rules: fn(&Json, &mut Vec<Fault>)| {
        table
            .get(specification.key)
            .and_then(|value| document(&value, specification, rules))
    };
    Files {
        authentication: read(&AUTHENTICATION, authentication_rules),
        audit_policy: read(&AUDIT_POLICY, audit_rules),
        admission: read(&ADMISSION, |_, _| {}),
    }
}

fn document(
    value: &Value<'_>,
    specification: &Specification,
    rules: fn(&Json, &mut Vec<Fault>),
) -> Option<Json> {
    let mut document = match value.shape()? {
        Shape::String(text) => from_yaml(value, text)?,
        Shape::Table => from_toml(value)?,
        _ => {
            value.wrong_type("a table, or a string with YAML", "");
            return None;
        }
    };
    let Json::Object(entries) = &mut document else {
        value.error(
            format!("`{}`: the YAML is not a document with keys", value.path()),
            format!(
                "begin it with apiVersion: {} and kind: {}",
                specification.api_version, specification.kind
            ),
        );
        return None;
    };
    // Its place says what it is: repeating that is allowed, not asked for.
    entries
        .entry("apiVersion")
        .or_insert_with(|| specification.api_version.into());
    entries
        .entry("kind")
        .or_insert_with(|| specification.kind.into());

    let mut faults = Vec::new();
    if specification.key == AUTHENTICATION.key && entries.remove("anonymous").is_some() {
        faults.push(Fault {
            message: "`anonymous` is set by Masthead: it opens the health paths and nothing else"
                .to_owned(),
            help: "leave it out".to_owned(),
        });
    }
    if specification.key == ADMISSION.key {
        refuse_paths(&mut document, &mut faults);
    }
    schema::check(
        specification.key,
        &document,
        &specification.schema,
        &mut faults,
    );
    if faults.is_empty() {
        rules(&document, &mut faults);
    }
    if faults.is_empty() {
        return Some(document);
    }
    for Fault { message, help } in faults {
        value.error(message, help);
    }
    None
}

/// What a schema cannot say about JWT issuers (`ValidateAuthenticationConfiguration` of the apiserver).
fn authentication_rules(document: &Json, faults: &mut Vec<Fault>) {
    let issuers = document["jwt"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    for (index, issuer) in issuers.iter().enumerate() {
        let path = format!("authentication.jwt[{index}]");
        let url = issuer["issuer"]["url"].as_str().unwrap_or_default();
        if !url.starts_with("https://") {
            faults.push(Fault {
                message: format!("`{path}.issuer.url`: {url:?} does not begin with \"https://\""),
                help: "write the issuer's address, url = \"https://login.example.net\"".to_owned(),
            });
        }
        if issuers[..index]
            .iter()
            .any(|other| other["issuer"]["url"] == url)
        {
            faults.push(Fault {
                message: format!("`{path}.issuer.url`: {url:?} is listed already"),
                help: "give each issuer one entry".to_owned(),
            });
        }
        if issuer["issuer"]["audiences"]
            .as_array()
            .is_some_and(Vec::is_empty)
        {
            faults.push(Fault {
                message: format!(
                    "`{path}.issuer.audiences` is empty: every token would be refused"
                ),
                help: "write the client's id at the issuer, audiences = [\"kubernetes\"]"
                    .to_owned(),
            });
        }
        let username = &issuer["claimMappings"]["username"];
        let (claim, expression) = (username.get("claim"), username.get("expression"));
        if claim.is_some() == expression.is_some() {
            faults.push(Fault {
                message: format!(
                    "`{path}.claimMappings.username` must have either claim or expression"
                ),
                help: "write username = { claim = \"sub\", prefix = \"oidc:\" }".to_owned(),
            });
        }
        if claim.is_some() && username.get("prefix").is_none() {
            faults.push(Fault {
                message: format!("`prefix` is missing in `{path}.claimMappings.username`"),
                help: "write prefix = \"oidc:\", or prefix = \"\" for none".to_owned(),
            });
        }
    }
}

fn audit_rules(document: &Json, faults: &mut Vec<Fault>) {
    if document["rules"].as_array().is_some_and(Vec::is_empty) {
        faults.push(Fault {
            message: "`audit-policy.rules` is empty".to_owned(),
            help: "add a rule such as { level = \"Metadata\" }, or leave `audit-policy` out"
                .to_owned(),
        });
    }
}

/// The admission configuration can name files, and the node has none of them.
fn refuse_paths(document: &mut Json, faults: &mut Vec<Fault>) {
    let plugins = document.get_mut("plugins").and_then(Json::as_array_mut);
    for (index, plugin) in plugins.into_iter().flatten().enumerate() {
        let Json::Object(plugin) = plugin else {
            continue;
        };
        if plugin.remove("path").is_some() {
            faults.push(Fault {
                message: format!(
                    "`admission.plugins[{index}].path` names a file, and a node holds none"
                ),
                help: "write the content of that file as `configuration`".to_owned(),
            });
            plugin.entry("configuration").or_insert(Json::Null);
        }
    }
}

fn from_yaml(value: &Value<'_>, text: &str) -> Option<Json> {
    match serde_norway::from_str(text) {
        Ok(document) => Some(document),
        Err(error) => {
            value.error(
                format!("`{}`: this is not YAML: {error}", value.path()),
                "lines are counted within the string; mind the indentation, and write no tabs",
            );
            None
        }
    }
}

/// TOML as JSON. TOML's dates have no counterpart there.
fn from_toml(value: &Value<'_>) -> Option<Json> {
    Some(match value.shape()? {
        Shape::String(text) => Json::from(text),
        Shape::Integer(number) => Json::from(number),
        Shape::Float(number) => Json::from(number),
        Shape::Boolean(boolean) => Json::from(boolean),
        Shape::Datetime(text) => {
            value.error(
                format!(
                    "`{}` is a date, which this document cannot hold",
                    value.path()
                ),
                format!("put it in quotes: \"{text}\""),
            );
            return None;
        }
        Shape::Array(items) => {
            let items: Vec<Option<Json>> = items.iter().map(from_toml).collect();
            Json::Array(items.into_iter().collect::<Option<_>>()?)
        }
        Shape::Table => {
            let entries: Vec<Option<(String, Json)>> = value
                .table()?
                .entries()
                .iter()
                .map(|(key, value)| Some((key.name.to_owned(), from_toml(value)?)))
                .collect();
            Json::Object(entries.into_iter().collect::<Option<Map<_, _>>>()?)
        }
    })
}
