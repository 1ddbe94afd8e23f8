//! What the configuration files of the apiserver may hold: the types of Kubernetes v1.36
//! (`k8s.io/apiserver/pkg/apis/apiserver/v1` and `…/audit/v1`). The apiserver refuses unknown keys and then does
//! not start, so they are found here first.

use masthead_diagnostics::nearest;
use serde_json::{Map, Value};

/// The type of a part of a document.
pub(crate) enum Type {
    Text,
    Boolean,
    Choice(&'static [&'static str]),
    List(&'static Type),
    Object(&'static [Field]),
    /// Anything: judged by the program that reads it.
    Free,
}

/// A key of an object.
pub(crate) struct Field {
    name: &'static str,
    required: bool,
    kind: Type,
}

const fn required(name: &'static str, kind: Type) -> Field {
    Field {
        name,
        required: true,
        kind,
    }
}

const fn optional(name: &'static str, kind: Type) -> Field {
    Field {
        name,
        required: false,
        kind,
    }
}

/// A fault: the path in the document, what is wrong, and what to write.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) message: String,
    pub(crate) help: String,
}

/// Everything that is wrong with `value`, which is at `path`.
pub(crate) fn check(path: &str, value: &Value, kind: &Type, faults: &mut Vec<Fault>) {
    let mut fault = |message, help| faults.push(Fault { message, help });
    match (kind, value) {
        (Type::Free, _) | (Type::Text, Value::String(_)) | (Type::Boolean, Value::Bool(_)) => {}
        (Type::Choice(choices), Value::String(text)) => {
            if !choices.contains(&text.as_str()) {
                let help = match nearest(text, choices.iter().copied()) {
                    Some(meant) => format!("did you mean {meant:?}?"),
                    None if choices.len() == 1 => format!("write {:?}", choices[0]),
                    None => format!("the choices are {}", choices.join(", ")),
                };
                fault(format!("`{path}` cannot be {text:?}"), help);
            }
        }
        (Type::List(item), Value::Array(items)) => {
            for (index, value) in items.iter().enumerate() {
                check(&format!("{path}[{index}]"), value, item, faults);
            }
        }
        (Type::Object(fields), Value::Object(entries)) => object(path, entries, fields, faults),
        (kind, _) => fault(format!("`{path}` must be {}", kind.name()), String::new()),
    }
}

fn object(path: &str, entries: &Map<String, Value>, fields: &[Field], faults: &mut Vec<Fault>) {
    let absent = || {
        fields
            .iter()
            .map(|field| field.name)
            .filter(|name| !entries.contains_key(*name))
    };
    let mut meant = Vec::new();
    for key in entries
        .keys()
        .filter(|key| !fields.iter().any(|field| field.name == key.as_str()))
    {
        let suggestion = nearest(key, absent());
        meant.extend(suggestion);
        faults.push(Fault {
            message: format!("unknown key `{}` in `{path}`", key.escape_debug()),
            help: if let Some(meant) = suggestion {
                format!("did you mean `{meant}`?")
            } else {
                let names: Vec<&str> = fields.iter().map(|field| field.name).collect();
                format!("the keys here are {}", names.join(", "))
            },
        });
    }
    for Field {
        name,
        required,
        kind,
    } in fields
    {
        match entries.get(*name) {
            Some(value) => check(&format!("{path}.{name}"), value, kind, faults),
            None if *required && !meant.contains(name) => faults.push(Fault {
                message: format!("`{name}` is missing in `{path}`"),
                help: format!("add `{name}`: {}", kind.name()),
            }),
            None => {}
        }
    }
}

impl Type {
    fn name(&self) -> &'static str {
        match self {
            Self::Text | Self::Choice(_) => "a string",
            Self::Boolean => "true or false",
            Self::List(_) => "a list",
            Self::Object(_) => "a table",
            Self::Free => "a value",
        }
    }
}

const TEXTS: Type = Type::List(&Type::Text);

const STAGES: Type = Type::List(&Type::Choice(&[
    "RequestReceived",
    "ResponseStarted",
    "ResponseComplete",
    "Panic",
]));

/// `AuthenticationConfiguration`. Without `anonymous`, which Masthead sets.
pub(crate) const AUTHENTICATION: Type = Type::Object(&[
    required("apiVersion", Type::Choice(&["apiserver.config.k8s.io/v1"])),
    required("kind", Type::Choice(&["AuthenticationConfiguration"])),
    required("jwt", Type::List(&ISSUER)),
]);

const ISSUER: Type = Type::Object(&[
    required(
        "issuer",
        Type::Object(&[
            required("url", Type::Text),
            required("audiences", TEXTS),
            optional("discoveryURL", Type::Text),
            optional("certificateAuthority", Type::Text),
            optional("audienceMatchPolicy", Type::Choice(&["MatchAny"])),
            optional(
                "egressSelectorType",
                Type::Choice(&["controlplane", "cluster"]),
            ),
        ]),
    ),
    required(
        "claimMappings",
        Type::Object(&[
            required("username", MAPPING),
            optional("groups", MAPPING),
            optional(
                "uid",
                Type::Object(&[
                    optional("claim", Type::Text),
                    optional("expression", Type::Text),
                ]),
            ),
            optional(
                "extra",
                Type::List(&Type::Object(&[
                    required("key", Type::Text),
                    required("valueExpression", Type::Text),
                ])),
            ),
        ]),
    ),
    optional(
        "claimValidationRules",
        Type::List(&Type::Object(&[
            optional("claim", Type::Text),
            optional("requiredValue", Type::Text),
            optional("expression", Type::Text),
            optional("message", Type::Text),
        ])),
    ),
    optional(
        "userValidationRules",
        Type::List(&Type::Object(&[
            required("expression", Type::Text),
            optional("message", Type::Text),
        ])),
    ),
]);

const MAPPING: Type = Type::Object(&[
    optional("claim", Type::Text),
    optional("prefix", Type::Text),
    optional("expression", Type::Text),
]);

/// `Policy` of the audit log.
pub(crate) const AUDIT_POLICY: Type = Type::Object(&[
    required("apiVersion", Type::Choice(&["audit.k8s.io/v1"])),
    required("kind", Type::Choice(&["Policy"])),
    optional("metadata", Type::Free),
    required("rules", Type::List(&RULE)),
    optional("omitStages", STAGES),
    optional("omitManagedFields", Type::Boolean),
]);

const RULE: Type = Type::Object(&[
    required(
        "level",
        Type::Choice(&["None", "Metadata", "Request", "RequestResponse"]),
    ),
    optional("users", TEXTS),
    optional("userGroups", TEXTS),
    optional("verbs", TEXTS),
    optional(
        "resources",
        Type::List(&Type::Object(&[
            optional("group", Type::Text),
            optional("resources", TEXTS),
            optional("resourceNames", TEXTS),
        ])),
    ),
    optional("namespaces", TEXTS),
    optional("nonResourceURLs", TEXTS),
    optional("omitStages", STAGES),
    optional("omitManagedFields", Type::Boolean),
]);

/// `AdmissionConfiguration`. Without `path`: there is no file it could name.
pub(crate) const ADMISSION: Type = Type::Object(&[
    required("apiVersion", Type::Choice(&["apiserver.config.k8s.io/v1"])),
    required("kind", Type::Choice(&["AdmissionConfiguration"])),
    required(
        "plugins",
        Type::List(&Type::Object(&[
            required("name", Type::Text),
            required("configuration", Type::Free),
        ])),
    ),
]);
