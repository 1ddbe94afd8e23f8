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
    wish: Wish,
    done: oneshot::Sender<()>,
}

#[derive(Clone, Copy, Debug)]
enum Wish {
    /// Open until then, or closed.
    Set(Option<BootTime>),
    /// As it is, and no new connections.
    RefuseNew,
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
                    carry_out(gates, &device, &addresses, &received);
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
        self.order(address, Wish::Set(until)).await;
    }

    /// Lets nobody begin a connection to the address until its gate is set anew.
    pub(super) async fn refuse_new(&self, address: IpAddr) {
        self.order(address, Wish::RefuseNew).await;
    }

    async fn order(&self, address: IpAddr, wish: Wish) {
        let (done, is_done) = oneshot::channel();
        let order = Order {
            address,
            wish,
            done,
        };
        // The thread goes on for as long as anybody may ask.
        if self.orders.send(order).is_ok() {
            let _ = is_done.await;
        }
    }
}

fn carry_out(mut gates: Gates, device: &str, addresses: &[IpAddr], orders: &mpsc::Receiver<Order>) {
    for order in orders {
        // An order that the kernel refuses holds up the next ones: what it does not confirm nobody may count on. An open gate
        // closes by itself meanwhile.
        while let Err(error) = carry_out_one(&mut gates, &order) {
            let error = with_sources(&error);
            tracing::error!(address = %order.address, error, "the gate of a virtual address cannot be set");
            // Somebody may have flushed the kernel's rules. All gates are closed then, until they are set anew.
            match Gates::install(device, addresses) {
                Ok(anew) => {
                    gates = anew;
                    tracing::warn!(device, "the gates of the virtual addresses are hung anew");
                }
                Err(error) => {
                    let error = with_sources(&error);
                    tracing::error!(device, error, "the gates cannot be hung anew");
                    thread::sleep(PAUSE);
                }
            }
        }
        let _ = order.done.send(());
    }
}

fn carry_out_one(gates: &mut Gates, order: &Order) -> Result<(), Error> {
    match order.wish {
        Wish::Set(until) => gates.set(order.address, until),
        Wish::RefuseNew => gates.refuse_new(order.address),
    }
}
