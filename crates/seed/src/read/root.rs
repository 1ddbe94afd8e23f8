//! The top of the file.

use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;
use masthead_diagnostics::{Shape, Table, Value};

use super::At;
use super::kubernetes::{KubernetesDraft, kubernetes, prefix};
use super::masters::{Draft, Storage, masters};
use super::network::{KEYS, NetworkDraft, network};
use crate::encoded::EncodedError;
use crate::names::{check_label, host_address, is_dns_name, unusable};
use crate::{Endpoint, ImageKey, OperatorKey, Secret, SecretError};

/// The seed as far as it could be read.
#[derive(Debug)]
pub(crate) struct SeedDraft {
    pub(crate) cluster: Option<String>,
    pub(crate) secret: Option<Secret>,
    pub(crate) admins: Vec<At<OperatorKey>>,
    pub(crate) operators: Vec<IpNet>,
    pub(crate) image_keys: Vec<At<ImageKey>>,
    pub(crate) endpoint: Option<At<Endpoint>>,
    pub(crate) masters: Vec<Draft>,
    pub(crate) kubernetes: KubernetesDraft,
}

/// The format of seed that this version reads.
const VERSION: i64 = 1;

/// Reads the whole file. `None` if it is of another format, about which nothing more can be said.
pub(crate) fn seed(root: &Table<'_>) -> Option<SeedDraft> {
    let version = root.require("version", "version = 1");
    if let Some(number) = version
        .as_ref()
        .and_then(|version| version.integer(0..=i64::MAX))
        && let Some(version) = version
        && number != VERSION
    {
        version.error(
            format!("version {number} of the seed's format is unknown to this Masthead"),
            "write version = 1, or use the Masthead that this seed was written for",
        );
        root.entries();
        return None;
    }
    let common = root
        .get("network")
        .map(|value| network(&value))
        .unwrap_or_default();
    let storage = Storage::read(root);
    for key in KEYS {
        root.refuse(
            key,
            &format!("`{key}` belongs into `network`"),
            &format!("write network = {{ {key} = … }}"),
        );
    }
    for key in ["services", "pods", "sans", "flags", "files"] {
        root.refuse(
            key,
            &format!("`{key}` belongs under [kubernetes]"),
            "move it below the line [kubernetes]",
        );
    }
    let draft = SeedDraft {
        cluster: root
            .require("cluster", "cluster = \"ams-prod\"")
            .and_then(|value| cluster(&value)),
        secret: root
            .require("secret", "secret = \"mh1-…\", as mastctl secret prints it")
            .and_then(|value| secret(&value)),
        admins: root
            .require(
                "admins",
                "admins = [\"mk1-…\"], with a key that mastctl keygen prints",
            )
            .map(|value| admins(&value))
            .unwrap_or_default(),
        operators: root
            .get("operators")
            .and_then(|value| operators(&value))
            .unwrap_or_default(),
        image_keys: root
            .get("image-keys")
            .map(|value| image_keys(&value))
            .unwrap_or_default(),
        endpoint: root
            .require(
                "endpoint",
                "endpoint = \"10.20.0.10\", or \"api.example.net:6443\" for a load balancer",
            )
            .and_then(|value| endpoint(&value)),
        masters: root
            .get("masters")
            .map(|value| masters(&value, &common, &storage))
            .unwrap_or_default(),
        kubernetes: root
            .get("kubernetes")
            .map(|value| kubernetes(&value))
            .unwrap_or_default(),
    };
    if root.get("masters").is_none() && !root.is_broken() {
        root.error(
            "`masters` is missing",
            "write [masters] and below it, for each, m1 = { mac = \"52:54:00:10:00:11\", address = \"10.20.0.11\" }",
        );
    }
    require_common(root, &draft, &common);
    Some(draft)
}

/// What must be said either once for all or by each master.
fn require_common(root: &Table<'_>, draft: &SeedDraft, common: &NetworkDraft) {
    if root.is_broken() {
        return;
    }
    let without_prefix =
        |master: &&Draft| matches!(master.network.prefix, super::network::Field::Absent);
    if let Some(master) = draft.masters.iter().find(without_prefix) {
        let message = format!(
            "`prefix` is missing in the network of `masters.{}`",
            master.name
        );
        let help = "write network = { prefix = 24 } in the common part, with the length of the network's prefix";
        match common.place {
            Some(place) => root.error_at(place, message, help),
            None => root.error(
                "`network` is missing",
                "write network = { prefix = 24, gateway = \"10.20.0.1\" } above the first [table]",
            ),
        }
    }
    if draft
        .masters
        .iter()
        .any(|master| !master.storage.disk_written)
    {
        root.error(
            "`disk` is missing",
            "write disk = { type = \"nvme\", min = \"100GB\" } above the first [table], or in each master",
        );
    }
}

fn cluster(value: &Value<'_>) -> Option<String> {
    let text = value.string()?;
    if let Err(reason) = check_label(text) {
        value.error(
            format!("`cluster`: the name {text:?} {reason}"),
            "write a name of a-z, 0-9 and \"-\", cluster = \"ams-prod\"",
        );
        return None;
    }
    Some(text.to_owned())
}

fn secret(value: &Value<'_>) -> Option<Secret> {
    const HELP: &str = "make one with mastctl secret, and copy the whole of it";
    match value.string()?.parse::<Secret>() {
        Ok(secret) => {
            if secret.is_example() {
                value.warning(
                    "`secret` is the one of Masthead's examples: everybody knows it",
                    "make your own with mastctl secret",
                );
            }
            Some(secret)
        }
        Err(SecretError::Encoded(error)) => {
            value.error(explain("secret", Secret::PREFIX, error), HELP);
            None
        }
        Err(error @ SecretError::LowEntropy) => {
            value.error(
                format!("`secret`: {error}"),
                "make a random one with mastctl secret",
            );
            None
        }
    }
}

fn admins(value: &Value<'_>) -> Vec<At<OperatorKey>> {
    let Some(items) = value.array() else {
        return Vec::new();
    };
    if items.is_empty() {
        value.error(
            "`admins` is empty: nobody could log in",
            "add the public key of at least one operator, as mastctl keygen prints it",
        );
    }
    keys(
        &items,
        OperatorKey::PREFIX,
        "copy the whole line that mastctl keygen printed",
    )
}

/// Who signs images, beside those whom the image itself names. Nobody is as good as no key at all.
fn image_keys(value: &Value<'_>) -> Vec<At<ImageKey>> {
    let items = value.array().unwrap_or_default();
    keys(
        &items,
        ImageKey::PREFIX,
        "copy the whole line that imagebuild keygen printed",
    )
}

/// Public keys, each once.
fn keys<K: FromStr<Err = EncodedError> + PartialEq>(
    items: &[Value<'_>],
    prefix: &str,
    help: &str,
) -> Vec<At<K>> {
    let mut keys: Vec<At<K>> = Vec::new();
    for item in items {
        let Some(text) = item.string() else { continue };
        match text.parse::<K>() {
            Ok(key) if keys.iter().any(|known| known.value == key) => {
                item.warning(
                    format!("`{}` is the same key again", item.path()),
                    "leave it out",
                );
            }
            Ok(key) => keys.push(At::new(key, item)),
            Err(error) => item.error(explain(item.path(), prefix, error), help),
        }
    }
    keys
}

/// From where operators come. Without the key that is anywhere; with an empty list nobody could.
fn operators(value: &Value<'_>) -> Option<Vec<IpNet>> {
    if value.array()?.is_empty() {
        value.error(
            "`operators` is empty: nobody could reach the management API",
            "write the prefixes that operators come from, operators = [\"10.0.0.0/8\"], or leave the key out",
        );
        return None;
    }
    let nets = value.array_of(|item| prefix(item, "10.0.0.0/8"))?;
    Some(nets.into_iter().map(|net| net.value).collect())
}

/// Never quotes the text: it may be a secret.
fn explain(path: &str, prefix: &str, error: EncodedError) -> String {
    match error {
        EncodedError::Prefix => format!("`{path}` does not begin with \"{prefix}\""),
        error => format!("`{path}`: {error}"),
    }
}

fn endpoint(value: &Value<'_>) -> Option<At<Endpoint>> {
    if let Some(Shape::Array(_)) = value.shape() {
        let addresses = virtual_addresses(value)?;
        return Some(At::new(Endpoint::Virtual(addresses), value));
    }
    let text = value.string()?;
    if text.parse::<IpAddr>().is_ok() {
        let address = host_address(value, "endpoint = \"10.20.0.10\"")?;
        return Some(At::new(Endpoint::Virtual(vec![address]), value));
    }
    match load_balancer(text) {
        Ok(endpoint) => Some(At::new(endpoint, value)),
        Err((reason, help)) => {
            value.error(format!("`endpoint`: {reason}"), help);
            None
        }
    }
}

/// Several of them. Each costs renewals in etcd, so there are not many.
fn virtual_addresses(value: &Value<'_>) -> Option<Vec<IpAddr>> {
    const EXAMPLE: &str = "endpoint = [\"10.20.0.10\", \"10.20.0.20\"]";
    let mut addresses: Vec<IpAddr> = Vec::new();
    for address in
        value.array_of(|item| Some((host_address(item, EXAMPLE)?, item.path().to_owned())))?
    {
        let (address, path) = address;
        if addresses.contains(&address) {
            value.error(
                format!("`{path}`: {address} is in the list already"),
                "leave it out",
            );
            return None;
        }
        addresses.push(address);
    }
    if addresses.is_empty() || addresses.len() > Endpoint::MOST_ADDRESSES {
        let (number, most) = (addresses.len(), Endpoint::MOST_ADDRESSES);
        value.error(
            format!("`endpoint` has {number} addresses, and has to have 1 to {most}"),
            format!("write {EXAMPLE}"),
        );
        return None;
    }
    Some(addresses)
}

/// `host:port`. The error is what is wrong and what to write.
fn load_balancer(text: &str) -> Result<Endpoint, (String, String)> {
    const EXAMPLES: &str = "write endpoint = \"10.20.0.10\" for a virtual address, or endpoint = \"api.example.net:6443\" for a load balancer";
    let refuse = |reason: String| Err((reason, EXAMPLES.to_owned()));
    if let Some((scheme, rest)) = text.split_once("://") {
        let rest = rest.trim_end_matches('/').escape_debug();
        return Err((
            format!("\"{}://\" does not belong here", scheme.escape_debug()),
            format!("write endpoint = \"{rest}\""),
        ));
    }
    if let Some((address, prefix)) = text.split_once('/') {
        if address.parse::<IpAddr>().is_ok() && prefix.parse::<u8>().is_ok() {
            return Err((
                "a virtual address has no prefix length of its own".to_owned(),
                format!("write endpoint = \"{address}\""),
            ));
        }
        return refuse(format!("{text:?} has a path"));
    }
    let Some((host, port)) = text.rsplit_once(':') else {
        if is_dns_name(text) {
            return Err((
                format!("{text:?} is a name, and a load balancer needs its port"),
                format!("write endpoint = \"{text}:6443\""),
            ));
        }
        return refuse(format!(
            "{text:?} is neither an address nor a name with a port"
        ));
    };
    let port = match port.parse::<u16>() {
        Ok(port) if port > 0 => port,
        _ => return refuse(format!("{port:?} is not a port from 1 to 65535")),
    };
    let bracketed = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    let address = match bracketed {
        Some(inner) => inner.parse().ok().filter(IpAddr::is_ipv6),
        None => host.parse().ok().filter(IpAddr::is_ipv4),
    };
    match address {
        Some(address) => match unusable(address) {
            Some(kind) => refuse(format!("{address} is {kind}")),
            None => Ok(Endpoint::LoadBalancer {
                host: address.to_string(),
                port,
            }),
        },
        None if is_dns_name(host) => Ok(Endpoint::LoadBalancer {
            host: host.to_ascii_lowercase(),
            port,
        }),
        None => refuse(format!("{host:?} is neither an address nor a name")),
    }
}
