//! Host names, and addresses that a node can have or reach.

use std::net::IpAddr;

use masthead_diagnostics::Value;

/// Why a text is not a DNS label (RFC 1123): what a host and a cluster may be called.
pub(crate) fn check_label(text: &str) -> Result<(), &'static str> {
    if text.is_empty() {
        return Err("is empty");
    }
    if text.len() > 63 {
        return Err("has more than 63 characters");
    }
    if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Err("has capital letters");
    }
    if !text
        .bytes()
        .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
    {
        return Err("has characters other than a–z, 0–9 and \"-\"");
    }
    if text.starts_with('-') || text.ends_with('-') {
        return Err("begins or ends with \"-\"");
    }
    Ok(())
}

/// Whether a text is a DNS name: labels joined by dots, the last one not a number (that would be a
/// mistyped address).
pub(crate) fn is_dns_name(text: &str) -> bool {
    let labels: Vec<&str> = text.split('.').collect();
    text.len() <= 253
        && labels
            .iter()
            .all(|label| check_label(&label.to_ascii_lowercase()).is_ok())
        && labels
            .last()
            .is_some_and(|last| !last.bytes().all(|byte| byte.is_ascii_digit()))
}

/// An address that one host can have. Reports what is wrong with any other.
pub(crate) fn host_address(value: &Value<'_>, example: &str) -> Option<IpAddr> {
    let text = value.string()?;
    let path = value.path();
    let Ok(address) = text.parse::<IpAddr>() else {
        let help = if let Some((address, _)) = text.split_once('/') {
            format!(
                "write \"{}\"; the length of the prefix goes to `network.prefix`",
                address.escape_debug()
            )
        } else {
            format!("write {example}")
        };
        value.error(format!("`{path}`: {text:?} is not an IP address"), help);
        return None;
    };
    if let Some(kind) = unusable(address) {
        value.error(
            format!("`{path}`: {address} is {kind}, not that of a host in the network"),
            format!("write the host's own address, {example}"),
        );
        return None;
    }
    Some(address)
}

/// What makes an address unfit to be one host's, if anything does.
pub(crate) fn unusable(address: IpAddr) -> Option<&'static str> {
    let mapped = matches!(address, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some());
    match address {
        _ if mapped => Some("an IPv4 address written as IPv6"),
        _ if address.is_unspecified() => Some("the unspecified address"),
        _ if address.is_loopback() => Some("a loopback address"),
        _ if address.is_multicast() => Some("a multicast address"),
        IpAddr::V4(v4) if v4.is_broadcast() => Some("the broadcast address"),
        _ => None,
    }
}

/// Whether an address holds on one link only.
pub(crate) fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_those_of_rfc_1123() {
        for good in ["m1", "a", "ams-prod", "0x", &"a".repeat(63)] {
            assert_eq!(check_label(good), Ok(()), "{good}");
        }
        for bad in ["", "-a", "a-", "A", "a_b", "a.b", "ä", &"a".repeat(64)] {
            assert!(check_label(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn names_are_told_apart_from_mistyped_addresses() {
        assert!(is_dns_name("api.example.net"));
        assert!(is_dns_name("Time1.example.net"));
        assert!(is_dns_name("api"));
        for bad in ["10.0.0.300", "10.0.0", "a..b", "a b", "", ".a", "a."] {
            assert!(!is_dns_name(bad), "{bad}");
        }
    }

    #[test]
    fn some_addresses_are_no_hosts() {
        for bad in [
            "0.0.0.0",
            "127.0.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "ff02::1",
            "::ffff:10.0.0.1",
        ] {
            assert!(
                unusable(bad.parse().expect("an address")).is_some(),
                "{bad}"
            );
        }
        for good in ["10.0.0.1", "fd00::1", "2001:db8::1"] {
            assert!(
                unusable(good.parse().expect("an address")).is_none(),
                "{good}"
            );
        }
    }
}
