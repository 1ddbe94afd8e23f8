//! Addresses of seeds with `${mac}` and its like in them.

use std::fmt::Write as _;

use hyper::Uri;
use masthead_seed::MacAddress;

/// What stands for the places in an address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Of the card by which the seed is fetched.
    pub mac: Option<MacAddress>,
    /// The system's, by its firmware.
    pub uuid: Option<String>,
    /// The system's, by its firmware.
    pub serial: Option<String>,
    /// From `ip=`, or from a DHCP server.
    pub hostname: Option<String>,
}

/// The address for this machine.
pub(super) fn filled(template: &str, facts: &Facts) -> Result<String, String> {
    let mut address = String::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once("${") {
        let (name, behind) = after.split_once('}').ok_or("`${` is not closed by a `}`")?;
        let (value, what) = match name {
            "mac" => (facts.mac.map(|mac| mac.to_string()), "network card"),
            "uuid" => (facts.uuid.clone(), "UUID in its firmware"),
            "serial" => (facts.serial.clone(), "serial number in its firmware"),
            "hostname" => (facts.hostname.clone(), "host name, from ip= or by DHCP"),
            other => {
                return Err(format!(
                    "`${{{other}}}` is not known; there are ${{mac}}, ${{uuid}}, ${{serial}} and ${{hostname}}"
                ));
            }
        };
        let value = value.ok_or_else(|| format!("this machine has no {what} for `${{{name}}}`"))?;
        address.push_str(before);
        push_encoded(&mut address, &value);
        rest = behind;
    }
    address.push_str(rest);
    Ok(address)
}

/// Percent-encoded, but for what stands for itself in a path (RFC 3986, 2.3), and the colons of a MAC address.
fn push_encoded(address: &mut String, value: &str) {
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~:".contains(&byte) {
            address.push(char::from(byte));
        } else {
            let _ = write!(address, "%{byte:02X}");
        }
    }
}

/// Where a seed is fetched from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) is_tls: bool,
    /// Without the brackets of IPv6.
    pub(super) host: String,
    pub(super) port: u16,
    /// With its query.
    pub(super) path: String,
}

impl Place {
    pub(super) fn parse(address: &str) -> Result<Self, String> {
        let uri: Uri = address
            .parse()
            .map_err(|error| format!("it is no address of the web: {error}"))?;
        let is_tls = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err("write https:// or http:// and a host".to_owned()),
        };
        let authority = uri.authority().ok_or("it names no host")?;
        if authority.as_str().contains('@') {
            return Err("a name and a password in it are not used".to_owned());
        }
        if authority.port().is_none() && authority.as_str() != authority.host() {
            return Err("its port is none".to_owned());
        }
        let host = authority
            .host()
            .trim_start_matches('[')
            .trim_end_matches(']');
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        Ok(Self {
            is_tls,
            host: host.to_owned(),
            port: authority
                .port_u16()
                .unwrap_or(if is_tls { 443 } else { 80 }),
            path: path.to_owned(),
        })
    }

    /// What an answer's `Location` leads to: an address, or a path on the same host.
    pub(super) fn redirected(&self, location: &str) -> Result<Self, String> {
        if location.starts_with('/') && !location.starts_with("//") {
            return Ok(Self {
                path: location.to_owned(),
                ..self.clone()
            });
        }
        Self::parse(location).map_err(|why| format!("it redirects to {location}: {why}"))
    }

    /// As the header `Host` has it.
    pub(super) fn authority(&self) -> String {
        let host = if self.host.contains(':') {
            format!("[{}]", self.host)
        } else {
            self.host.clone()
        };
        let usual = if self.is_tls { 443 } else { 80 };
        if self.port == usual {
            host
        } else {
            format!("{host}:{}", self.port)
        }
    }
}

/// For people: without its query, which may hold a token.
pub(super) fn shown(address: &str) -> String {
    match address.split_once('?') {
        Some((path, _)) => format!("{path}?…"),
        None => address.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> Facts {
        Facts {
            mac: Some("52:54:00:10:00:11".parse().expect("a MAC address")),
            uuid: Some("1b4e28ba-2fa1-11d2-883f-0016d3cca427".to_owned()),
            serial: Some("J4 K2/M1".to_owned()),
            hostname: None,
        }
    }

    #[test]
    fn places_are_filled_in() {
        let filled = |template| filled(template, &facts());
        assert_eq!(
            filled("http://h/seed.toml").as_deref(),
            Ok("http://h/seed.toml")
        );
        assert_eq!(
            filled("http://h/${mac}/${serial}.toml?id=${uuid}").as_deref(),
            Ok(
                "http://h/52:54:00:10:00:11/J4%20K2%2FM1.toml?id=1b4e28ba-2fa1-11d2-883f-0016d3cca427"
            )
        );
        assert_eq!(
            filled("http://h/${hostname}").expect_err("none"),
            "this machine has no host name, from ip= or by DHCP for `${hostname}`"
        );
        assert_eq!(
            filled("http://h/${name}").expect_err("unknown"),
            "`${name}` is not known; there are ${mac}, ${uuid}, ${serial} and ${hostname}"
        );
        assert_eq!(
            filled("http://h/${mac").expect_err("open"),
            "`${` is not closed by a `}`"
        );
    }

    #[test]
    fn an_address_has_a_host_and_maybe_a_port() {
        let place =
            Place::parse("https://seeds.example.net/52:54:00:10:00:11.toml?a=b").expect("one");
        assert!(place.is_tls);
        assert_eq!(
            (place.host.as_str(), place.port),
            ("seeds.example.net", 443)
        );
        assert_eq!(place.path, "/52:54:00:10:00:11.toml?a=b");
        assert_eq!(place.authority(), "seeds.example.net");
        let place = Place::parse("http://[2001:db8::1]:8080").expect("one");
        assert_eq!(
            (place.host.as_str(), place.port, place.path.as_str()),
            ("2001:db8::1", 8080, "/")
        );
        assert_eq!(place.authority(), "[2001:db8::1]:8080");
        for wrong in [
            "ftp://h/a",
            "https://",
            "https:///a",
            "/a",
            "http://u:p@h/",
            "http://h:99999/",
            "http://h/ a",
        ] {
            assert!(Place::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_redirect_leads_to_a_path_or_elsewhere() {
        let place = Place::parse("http://h:81/a").expect("one");
        assert_eq!(
            place.redirected("/b?c").map(|to| to.path).as_deref(),
            Ok("/b?c")
        );
        assert_eq!(
            place.redirected("https://i/b").map(|to| to.host).as_deref(),
            Ok("i")
        );
        assert!(place.redirected("b").is_err());
    }

    #[test]
    fn a_token_is_not_shown() {
        assert_eq!(shown("https://h/a?token=b"), "https://h/a?…");
        assert_eq!(shown("https://h/a"), "https://h/a");
    }
}
