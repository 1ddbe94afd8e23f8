//! A seed that is fetched: `masthead.seed=https://…` and NoCloud's `ds=nocloud;s=…` on the kernel command line.
//!
//! - [`template`]: the address, with `${mac}` and its like;
//! - [`ip_parameter`]: `ip=`, which address the machine has meanwhile;
//! - [`names`]: questions to name servers;
//! - [`http`]: the fetch itself, and what it is believed by.
//!
//! The machine has an address for the fetch alone ([`Uplinks`]): what the seed says of the network finds nothing of it.

mod http;
mod ip_parameter;
mod names;
mod template;

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use masthead_machine::Scale;
use rustls::pki_types::CertificateDer;

use super::command_line::last;
use http::{Trust, Way, must_be_believable};
pub use ip_parameter::{Card, How, Wanted};
pub use names::PORT as NAME_SERVER_PORT;
pub use template::Facts;
use template::{Place, filled};

/// By which a machine is on the network while it fetches.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Uplink {
    /// `mac` and `hostname` of it.
    pub facts: Facts,
    /// Name servers, with their ports.
    pub dns: Vec<SocketAddr>,
    /// Whether its address is of IPv6.
    pub is_ipv6: bool,
}

/// What is done while there is an uplink.
pub type Errand<'e> = dyn FnMut(Uplink) -> Result<Vec<u8>, String> + 'e;

/// Where an uplink is to be had. Tests have the machine that they run on.
pub trait Uplinks {
    /// Does the errand while there is one, which takes no longer than both need. Afterwards nothing of it is left.
    fn with(
        &self,
        wanted: &Wanted,
        scale: Scale,
        errand: &mut Errand<'_>,
    ) -> Result<Vec<u8>, String>;
}

/// What the command line says of the fetch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Order {
    template: String,
    trust: Trust,
    wanted: Wanted,
}

impl Order {
    /// Reads what belongs to an address. `authority` finds the file that `masthead.seed-ca=` names.
    pub(super) fn read(
        template: &str,
        command_line: &str,
        authority: impl FnOnce(&str) -> Result<Vec<CertificateDer<'static>>, String>,
    ) -> Result<Self, String> {
        let sha256 = last(command_line, "masthead.seed-sha256=")
            .map(digest)
            .transpose()?;
        let authorities = last(command_line, "masthead.seed-ca=")
            .map(authority)
            .transpose()?;
        let order = Self {
            template: template.to_owned(),
            trust: Trust {
                sha256,
                authorities: authorities.unwrap_or_default(),
            },
            wanted: ip_parameter::parse(command_line)?,
        };
        // What can be seen to be wrong is said before anybody is asked for an address.
        let any = Facts {
            mac: Some(masthead_seed::MacAddress([2, 0, 0, 0, 0, 0])),
            uuid: Some("0".to_owned()),
            serial: Some("0".to_owned()),
            hostname: Some("0".to_owned()),
        };
        must_be_believable(&Place::parse(&filled(template, &any)?)?, &order.trust)?;
        Ok(order)
    }

    /// Carries it out. `sys` says which machine this is. May take minutes where a network is slow to fail.
    pub(super) fn carry_out(
        &self,
        sys: &Path,
        uplinks: &dyn Uplinks,
        scale: Scale,
    ) -> Result<Vec<u8>, String> {
        uplinks.with(&self.wanted, scale, &mut |uplink| {
            let facts = Facts {
                uuid: firmware(sys, "product_uuid").map(|uuid| uuid.to_ascii_lowercase()),
                serial: super::machine::serial(sys),
                ..uplink.facts
            };
            let address = filled(&self.template, &facts)?;
            let place = Place::parse(&address)?;
            let way = Way {
                dns: uplink.dns,
                is_ipv6: uplink.is_ipv6,
                scale,
            };
            // The node's own runtime goes on meanwhile.
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .map_err(|error| error.to_string())?;
            let fetched = runtime.block_on(http::fetch(place, &self.trust, &way));
            fetched.map(Vec::from).map_err(|why| {
                if address == self.template {
                    return why;
                }
                format!("{}: {why}", shown(&address))
            })
        })
    }
}

/// For people.
pub(super) fn shown(template: &str) -> String {
    template::shown(template)
}

fn digest(text: &str) -> Result<String, String> {
    if text.len() == 64 && text.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return Ok(text.to_ascii_lowercase());
    }
    Err(format!(
        "masthead.seed-sha256={text} has not 64 hexadecimal digits, as sha256sum gives them"
    ))
}

fn firmware(sys: &Path, name: &str) -> Option<String> {
    let text = fs::read_to_string(sys.join("class/dmi/id").join(name)).ok()?;
    let text = text.trim();
    (!text.is_empty()).then(|| text.to_owned())
}
