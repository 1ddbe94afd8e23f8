//! The address on the interface: there or not there, and never a source.

use std::net::IpAddr;
use std::time::Duration;

use rtnetlink::packet_route::address::{
    AddressAttribute, AddressFlags, AddressHeaderFlags, AddressScope, CacheInfo,
};
use rtnetlink::{Error, Handle};
use tokio::sync::Mutex;

/// Before the kernel is asked again for what it has refused.
const PAUSE: Duration = Duration::from_millis(100);

/// An interface by its index.
#[derive(Clone)]
pub(super) struct Interface {
    pub(super) netlink: Handle,
    pub(super) index: u32,
}

/// One address on an interface, as it is wanted there.
pub(super) struct Placement {
    interface: Interface,
    address: IpAddr,
    /// Held while the kernel is asked, so that nothing is put back that was just removed.
    wanted: Mutex<bool>,
}

impl Placement {
    /// Nothing is wanted yet.
    pub(super) fn new(interface: Interface, address: IpAddr) -> Self {
        Self {
            interface,
            address,
            wanted: Mutex::new(false),
        }
    }

    /// Adds the address, or removes it, for as long as that takes.
    pub(super) async fn set(&self, there: bool) {
        let mut wanted = self.wanted.lock().await;
        *wanted = there;
        self.interface.set(self.address, there).await;
    }

    /// Puts the address back if it is wanted and somebody else has removed it.
    pub(super) async fn keep(&self) {
        let wanted = self.wanted.lock().await;
        if *wanted {
            self.interface.set(self.address, true).await;
        }
    }
}

impl Interface {
    /// Adds the address, or removes it, for as long as that takes. Whether it was there already makes no difference.
    pub(super) async fn set(&self, address: IpAddr, there: bool) {
        while let Err(error) = self.try_set(address, there).await {
            tracing::error!(%address, there, %error, "a virtual address cannot be set");
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn try_set(&self, address: IpAddr, there: bool) -> Result<(), Error> {
        let bits = if address.is_ipv4() { 32 } else { 128 };
        let mut adding = self
            .netlink
            .address()
            .add(self.index, address, bits)
            .replace();
        let message = adding.message_mut();
        // A broadcast address would be the address itself.
        message
            .attributes
            .retain(|attribute| !matches!(attribute, AddressAttribute::Broadcast(_)));
        match address {
            // Chosen as a source for nobody but this host. `preferred_lft 0` does not keep the kernel from choosing it once the
            // node's own address was removed and added again (measured).
            IpAddr::V4(_) => message.header.scope = AddressScope::Host,
            IpAddr::V6(_) => {
                // Its owner need not ask whether anybody has it: the gate is closed, and the key in etcd says so.
                message.header.flags |= AddressHeaderFlags::Nodad;
                message
                    .attributes
                    .push(AddressAttribute::Flags(AddressFlags::Nodad));
                // Deprecated from the start: no source (RFC 6724, rule 3).
                let mut never_preferred = CacheInfo::default();
                never_preferred.ifa_valid = u32::MAX;
                message
                    .attributes
                    .push(AddressAttribute::CacheInfo(never_preferred));
            }
        }
        if there {
            return adding.execute().await;
        }
        let message = adding.message_mut().clone();
        match self.netlink.address().del(message).execute().await {
            Err(Error::NetlinkError(error)) if is_gone(error.raw_code()) => Ok(()),
            other => other,
        }
    }
}

/// The address is not there, or the interface is not.
fn is_gone(code: i32) -> bool {
    [libc::EADDRNOTAVAIL, libc::ENODEV].contains(&-code)
}
