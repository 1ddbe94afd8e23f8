//! The thread that talks to nf_tables: the kernel may take a while for a batch, and nothing else is to wait for that.

use std::net::IpAddr;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use masthead_machine::BootTime;
use masthead_nftables::Error;
use tokio::sync::oneshot;

use super::gate::Gates;
use crate::error_chain::with_sources;

/// Before a batch is tried again that the kernel has refused.
const PAUSE: Duration = Duration::from_millis(100);

/// The way to the gates of one device. They stay as they are when it is dropped.
#[derive(Clone, Debug)]
pub(super) struct Gatekeeper {
    orders: mpsc::Sender<Order>,
}

#[derive(Debug)]
struct Order {
    address: IpAddr,
    until: Option<BootTime>,
    done: oneshot::Sender<()>,
}

impl Gatekeeper {
    /// Hangs closed gates into the device.
    pub(super) async fn install(device: &str, addresses: &[IpAddr]) -> Result<Self, Error> {
        let (device, addresses) = (device.to_owned(), addresses.to_vec());
        let (told, installed) = oneshot::channel();
        let (orders, received) = mpsc::channel();
        thread::spawn(move || match Gates::install(&device, &addresses) {
            Ok(gates) => {
                if told.send(Ok(())).is_ok() {
                    carry_out(gates, &received);
                }
            }
            Err(error) => drop(told.send(Err(error))),
        });
        let gone = |_| Error::Socket(std::io::ErrorKind::BrokenPipe.into());
        installed.await.map_err(gone)??;
        Ok(Self { orders })
    }

    /// Opens the gate until then, or closes it. When this returns the kernel has done it, and said so.
    pub(super) async fn set(&self, address: IpAddr, until: Option<BootTime>) {
        let (done, is_done) = oneshot::channel();
        let order = Order {
            address,
            until,
            done,
        };
        // The thread goes on for as long as anybody may ask.
        if self.orders.send(order).is_ok() {
            let _ = is_done.await;
        }
    }
}

fn carry_out(mut gates: Gates, orders: &mpsc::Receiver<Order>) {
    for order in orders {
        // An order that the kernel refuses holds up the next ones: what it does not confirm nobody may count on. An open gate
        // closes by itself meanwhile.
        while let Err(error) = gates.set(order.address, order.until) {
            let error = with_sources(&error);
            tracing::error!(address = %order.address, error, "the gate of a virtual address cannot be set");
            thread::sleep(PAUSE);
        }
        let _ = order.done.send(());
    }
}
