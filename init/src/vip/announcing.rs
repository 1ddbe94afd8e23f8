//! When the neighbours are told: at once and again and again, for as long as this node owns the address, and whenever somebody else has told them.

use std::net::IpAddr;
use std::time::Duration;

use masthead_api::status::Network;
use masthead_machine::Scale;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::announce::{Announcer, hexadecimal};
use super::claims::Claims;

/// Between the first announcements, on a real machine: one frame may be lost, and a switch may learn a port late.
const AT_ONCE: Duration = Duration::from_millis(20);

/// Between the next ones, on a real machine.
const SOON: Duration = Duration::from_secs(1);

/// For ever after, on a real machine: whoever has missed all of them hears of it at last.
const FOR_EVER: Duration = Duration::from_secs(30);

/// Between two contradictions, on a real machine: two who both insist must not fill the wire.
const CONTRADICT: Duration = Duration::from_secs(1);

/// How many of the first kind, and of the second.
const HOW_OFTEN: [u32; 2] = [3, 10];

/// Announcements of one address, until this is dropped.
pub(super) struct Announcing(JoinHandle<()>);

impl Drop for Announcing {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Announcing {
    /// Begins. The interface's state is followed in `network`: one that has its carrier back is announced at anew.
    pub(super) fn begin(
        device: String,
        address: IpAddr,
        scale: Scale,
        network: watch::Receiver<Network>,
    ) -> Self {
        Self(tokio::spawn(announce(device, address, scale, network)))
    }
}

async fn announce(
    device: String,
    address: IpAddr,
    scale: Scale,
    mut network: watch::Receiver<Network>,
) {
    // Opened here: the interface may have another hardware address than last time.
    let announcer = match Announcer::open(&device) {
        Ok(announcer) => announcer,
        Err(error) => {
            tracing::error!(%address, %error, "the neighbours cannot be told of a virtual address");
            return;
        }
    };
    let claims = Claims::open(&device, address)
        .inspect_err(|error| tracing::error!(%address, %error, "other claims to a virtual address are not heard"))
        .ok();
    loop {
        for said in 0_u32.. {
            // The gate lets it through or not, at the instant at which it is sent.
            if let Err(error) = announcer.announce(address) {
                tracing::debug!(%address, %error, "an announcement is not sent");
            }
            let pause = match said {
                said if said + 1 < HOW_OFTEN[0] => AT_ONCE,
                said if said + 1 < HOW_OFTEN[0] + HOW_OFTEN[1] => SOON,
                _ => FOR_EVER,
            };
            tokio::select! {
                () = sleep(scale * pause) => {}
                () = carrier_is_back(&mut network) => break,
                () = contradict(&announcer, claims.as_ref(), address, scale) => {}
            }
        }
    }
}

/// Says the truth whenever somebody has said otherwise; for ever.
async fn contradict(announcer: &Announcer, claims: Option<&Claims>, address: IpAddr, scale: Scale) {
    while let Some(claims) = claims {
        match claims.next().await {
            Ok(other) => {
                let hardware = hexadecimal(other);
                tracing::warn!(%address, hardware, "another machine says that it has the address; the neighbours are told again");
            }
            Err(error) => {
                tracing::error!(%address, %error, "other claims to a virtual address are not heard any more");
                break;
            }
        }
        // The gate decides, as with every other one.
        if let Err(error) = announcer.announce(address) {
            tracing::debug!(%address, %error, "a contradiction is not sent");
        }
        sleep(scale * CONTRADICT).await;
    }
    std::future::pending::<()>().await;
}

/// Waits until the interface has a carrier that it has not now.
async fn carrier_is_back(network: &mut watch::Receiver<Network>) {
    for there in [false, true] {
        if network
            .wait_for(|network| network.carrier == there)
            .await
            .is_err()
        {
            std::future::pending::<()>().await;
        }
    }
}
