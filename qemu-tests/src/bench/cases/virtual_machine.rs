//! From the kernel to `/init`, and from there to `/readyz`, in a machine: Masthead against the same programs started bare.

use std::{
    path::Path,
    thread,
    time::{Duration, Instant},
};

use super::{Bench, Figure, Measured};
use crate::{
    bench::{
        bare,
        figure::ratio,
        nodes::{BareMachine, Masthead, empty, remove},
    },
    console,
    error::{Error, Result},
    patience::Patience,
    provider::{Node, ProviderKind},
};

/// How PID 1's first line on the console begins, after the kernel's time in brackets.
const FIRST_WORD: &str = "] pid1: ";
const BETWEEN_LOOKS: Duration = Duration::from_millis(20);
/// From power on to `/init` on a real machine.
const NOMINAL: Duration = Duration::from_secs(10);

pub(super) fn measure(bench: &Bench) -> Result<Measured> {
    let labs = bench.directory.join("labs");
    let (image, folder) = (labs.join("bare-image"), labs.join("bare-machine"));
    make_bare_image(bench, &labs.join("bare-changes"), &image)?;

    let masthead = Masthead::new(bench, ProviderKind::Vm, "vm")?;
    let scale = masthead.cluster.timing_scale();
    let patience = masthead.cluster.patience();
    let boot_ours = || time_boot(masthead.node(), patience, || masthead.wait_until_ready());
    let (mut ours, mut bares) = (Boots::default(), Boots::default());
    ours.first.push(boot_ours()?);
    masthead.node().cut_power()?;
    let bare = BareMachine::new(&folder, &image, masthead.node())?;
    let boot_bare = || time_boot(bare.node(), patience, || bare.wait_until_ready(patience));
    bares.first.push(boot_bare()?);
    bare.node().cut_power()?;
    // An emulated machine takes minutes.
    for _ in 0..bench.runs.min(3) {
        ours.second.push(boot_ours()?);
        masthead.node().cut_power()?;
        bares.second.push(boot_bare()?);
        bare.node().cut_power()?;
    }
    drop(bare);
    masthead.remove()?;
    remove(&folder)?;
    remove(&image)?;

    let kernel = ours.first.iter().chain(&ours.second);
    let kernel = kernel.map(|boot| boot.kernel).collect();
    let mut figures = vec![Figure::new("kernel to /init", "s", kernel)];
    for (boot, ours, bare) in [
        ("first boot", ours.first, bares.first),
        ("boot after a power cut", ours.second, bares.second),
    ] {
        let ready = |boots: Vec<Boot>| boots.iter().map(|boot| boot.ready).collect();
        let ours = Figure::new(format!("{boot}, Masthead"), "s", ready(ours));
        let bare = Figure::new(format!("{boot}, bare"), "s", ready(bare));
        let ratio = ratio(boot, &ours, &bare, super::GOAL_BOOT_RATIO);
        figures.extend([ours, bare, ratio]);
    }
    Ok(Measured {
        figures,
        notes: vec![
            format!("Direct kernel boot in QEMU with one processor; timing.scale is {scale:.1} (1.5 with hardware virtualisation, 8 and more where the processor is emulated)."),
            "Kernel to /init is the kernel's clock at PID 1's first line on the console. The rest is measured outside of the machine, from the appearance of that line to /readyz.".to_owned(),
            "The bare machine's image is the same but for /init in the root, its disk a copy of the Masthead machine's. In a first boot, Masthead also makes partitions, file systems and keys, which the bare one finds made.".to_owned(),
        ],
    })
}

/// The image is of a node in a namespace: the command lines and files of a machine are the same, but for deadlines.
fn make_bare_image(bench: &Bench, changes: &Path, image: &Path) -> Result<()> {
    empty(changes)?;
    empty(image)?;
    let masthead = Masthead::ready(bench, "captured")?;
    let first_user = bare::capture(masthead.node(), changes)?;
    masthead.remove()?;
    bare::image::make(&bench.image, changes, first_user, image)?;
    remove(changes)
}

/// Of one kind of machine.
#[derive(Default)]
struct Boots {
    first: Vec<Boot>,
    second: Vec<Boot>,
}

/// In seconds.
struct Boot {
    /// From the kernel's start to `/init`.
    kernel: f64,
    /// From there to `/readyz`.
    ready: f64,
}

/// Powers a machine on and waits until it is ready.
fn time_boot(
    node: &dyn Node,
    patience: Patience,
    wait_until_ready: impl FnOnce() -> Result<Instant>,
) -> Result<Boot> {
    let path = node.plan().console();
    let before = console::text(&path).len();
    node.power_on()?;
    let powered = Instant::now();
    let (kernel, seen) = loop {
        let text = console::text(&path);
        let new = text.get(before..).unwrap_or_default();
        if let Some(stamp) = first_stamp(new) {
            break (stamp, Instant::now());
        }
        if powered.elapsed() > patience.of(NOMINAL) {
            return Err(Error::Impatient {
                what: "PID 1's first word".to_owned(),
                waited_seconds: powered.elapsed().as_secs_f64(),
                last: console::last_line(new).unwrap_or("silence").to_owned(),
            });
        }
        thread::sleep(BETWEEN_LOOKS);
    };
    let ready = (wait_until_ready()? - seen).as_secs_f64();
    Ok(Boot { kernel, ready })
}

/// The kernel's time of PID 1's first line, in seconds since the kernel's start.
fn first_stamp(console: &str) -> Option<f64> {
    console.lines().find_map(|line| {
        let (before, _) = line.split_once(FIRST_WORD)?;
        before.rsplit_once('[')?.1.trim().parse().ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_of_pid_1_counts() {
        let console = "Linux version 6\n[    0.5] Run /init\n[    1.250000] pid1: Masthead\n[    2.0] pid1: more\n";
        assert_eq!(first_stamp(console), Some(1.25));
        assert_eq!(first_stamp("[    0.5] Run /init"), None);
    }
}
