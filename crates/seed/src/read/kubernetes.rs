//! `[kubernetes]`.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use masthead_diagnostics::{Shape, Table, Value};

use super::At;
use super::document::files;
use super::network::Field;
use crate::flags::{instead, nearest_component, own_flag};
use crate::names::is_dns_name;
use crate::{Component, Files, SubjectName};

/// `[kubernetes]` as far as it could be read.
#[derive(Debug, Default)]
pub(crate) struct KubernetesDraft {
    pub(crate) services: Field<At<IpNet>>,
    pub(crate) pods: Option<At<IpNet>>,
    pub(crate) sans: Vec<SubjectName>,
    pub(crate) flags: BTreeMap<Component, BTreeMap<String, String>>,
    pub(crate) files: Files,
}

pub(crate) fn kubernetes(value: &Value<'_>) -> KubernetesDraft {
    let Some(table) = value.table() else {
        return KubernetesDraft::default();
    };
    KubernetesDraft {
        services: Field::read(table.get("services"), services),
        pods: table
            .get("pods")
            .and_then(|value| prefix(&value, "10.244.0.0/16")),
        sans: table
            .get("sans")
            .and_then(|value| value.array_of(subject_name))
            .unwrap_or_default(),
        flags: table
            .get("flags")
            .map(|value| flags(&value))
            .unwrap_or_default(),
        files: table
            .get("files")
            .map(|value| files(&value))
            .unwrap_or_default(),
    }
}

pub(super) fn prefix(value: &Value<'_>, example: &str) -> Option<At<IpNet>> {
    let text = value.string()?;
    let path = value.path();
    let Ok(net) = text.parse::<IpNet>() else {
        value.error(
            format!("`{path}`: {text:?} is not an address prefix"),
            format!("write an address and a prefix length, such as \"{example}\""),
        );
        return None;
    };
    if net.trunc() != net {
        value.error(
            format!("`{path}`: {net} has bits set after the prefix"),
            format!("write \"{}\"", net.trunc()),
        );
        return None;
    }
    Some(At::new(net, value))
}

/// The apiserver's limits: at most 20 bits for the services (`validateMaxCIDRRange` in
/// `cmd/kube-apiserver/app/options`), and at least 8 addresses.
fn services(value: &Value<'_>) -> Option<At<IpNet>> {
    let net = prefix(value, "10.96.0.0/12")?;
    let host_bits = net.value.max_prefix_len() - net.value.prefix_len();
    if !(3..=20).contains(&host_bits) {
        let width = net.value.max_prefix_len();
        value.error(
            format!(
                "`{}`: {} is too {}",
                value.path(),
                net.value,
                if host_bits > 20 { "large" } else { "small" }
            ),
            format!(
                "the prefix length must be from {} to {}",
                width - 20,
                width - 3
            ),
        );
        return None;
    }
    Some(net)
}

fn subject_name(value: &Value<'_>) -> Option<SubjectName> {
    let text = value.string()?;
    if let Ok(address) = text.parse::<IpAddr>() {
        return Some(SubjectName::Address(address));
    }
    if is_dns_name(text.strip_prefix("*.").unwrap_or(text)) {
        return Some(SubjectName::Dns(text.to_ascii_lowercase()));
    }
    value.error(
        format!(
            "`{}`: {text:?} is neither an IP address nor a DNS name",
            value.path()
        ),
        "write the name alone, without scheme and port: sans = [\"api.example.net\"]",
    );
    None
}

fn flags(value: &Value<'_>) -> BTreeMap<Component, BTreeMap<String, String>> {
    let Some(table) = value.table() else {
        return BTreeMap::new();
    };
    let mut all = BTreeMap::new();
    for (key, value) in table.entries() {
        let Some(component) = Component::ALL
            .into_iter()
            .find(|component| component.name() == key.name)
        else {
            let help = match nearest_component(key.name) {
                Some(meant) => format!("did you mean `{meant}`?"),
                None => format!(
                    "the components are {}",
                    Component::ALL.map(Component::name).join(", ")
                ),
            };
            table.error_at(
                key.place,
                format!("`{}` is no component", key.name.escape_debug()),
                help,
            );
            continue;
        };
        if let Some(flags) = value.table() {
            all.insert(component, component_flags(component, &flags));
        }
    }
    all
}

fn component_flags(component: Component, table: &Table<'_>) -> BTreeMap<String, String> {
    let mut flags = BTreeMap::new();
    for (key, value) in table.entries() {
        let bare = key.name.trim_start_matches('-');
        let shown = bare.escape_debug();
        if bare.len() < key.name.len() {
            table.error_at(
                key.place,
                format!(
                    "the flag `{}` is written with dashes",
                    key.name.escape_debug()
                ),
                format!("write {shown} = …"),
            );
        } else if !bare
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
        {
            table.error_at(
                key.place,
                format!("`{shown}` is no flag of {}", component.name()),
                "flags are written in small letters, digits and \"-\"",
            );
        } else if let Some(own) = own_flag(component, bare) {
            let family = if own == bare {
                String::new()
            } else {
                format!(" (as all of `{own}`)")
            };
            table.error_at(
                key.place,
                format!(
                    "the flag `{bare}` of {} is Masthead's own{family}",
                    component.name()
                ),
                instead(bare),
            );
        } else if let Some(text) = flag_value(&value) {
            flags.insert(bare.to_owned(), text);
        }
    }
    flags
}

fn flag_value(value: &Value<'_>) -> Option<String> {
    let text = match value.shape()? {
        Shape::String(text) if text.contains(['\n', '\0']) => {
            value.error(
                format!("`{}` has more than one line", value.path()),
                "write the value on one line",
            );
            return None;
        }
        Shape::String(text) => text.to_owned(),
        Shape::Integer(number) => number.to_string(),
        Shape::Boolean(boolean) => boolean.to_string(),
        _ => {
            value.wrong_type(
                "a string",
                "the value as on the command line, such as \"one,two\"",
            );
            return None;
        }
    };
    Some(text)
}
