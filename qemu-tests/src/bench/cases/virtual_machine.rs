//! From the kernel to `/init`, and from there to `/readyz`, in a machine.

use std::{
    thread,
    time::{Duration, Instant},
};

use super::{Bench, Figure, Measured};
use crate::{
    bench::nodes::Masthead,
    console,
    error::{Error, Result},
    provider::ProviderKind,
};

/// How PID 1's first line on the console begins, after the kernel's time in brackets.
const FIRST_WORD: &str = "] pid1: ";
const BETWEEN_LOOKS: Duration = Duration::from_millis(20);
/// From power on to `/init` on a real machine.
const NOMINAL: Duration = Duration::from_secs(10);

pub(super) fn measure(bench: &Bench) -> Result<Measured> {
    let (mut kernel, mut ready) = (Vec::new(), Vec::new());
    let mut scale = 1.0;
    // An emulated machine takes minutes.
    for _ in 0..bench.runs.min(3) {
        let masthead = Masthead::new(bench, ProviderKind::Vm, "vm")?;
        scale = masthead.cluster.timing_scale();
        let path = masthead.node().plan().console();
        masthead.cluster.power_on()?;
        let patience = masthead.cluster.patience().of(NOMINAL);
        let powered = Instant::now();
        let (stamp, seen) = loop {
            if let Some(stamp) = first_stamp(&console::text(&path)) {
                break (stamp, Instant::now());
            }
            if powered.elapsed() > patience {
                return Err(Error::Impatient {
                    what: "PID 1's first word".to_owned(),
                    waited_seconds: powered.elapsed().as_secs_f64(),
                    last: console::last_line(&console::text(&path))
                        .unwrap_or("silence")
                        .to_owned(),
                });
            }
            thread::sleep(BETWEEN_LOOKS);
        };
        kernel.push(stamp);
        ready.push((masthead.wait_until_ready()? - seen).as_secs_f64());
        masthead.remove()?;
    }
    Ok(Measured {
        figures: vec![
            Figure::new("kernel to /init", "s", kernel),
            Figure::new("/init to /readyz", "s", ready),
        ],
        notes: vec![
            format!("Direct kernel boot of the image in QEMU; timing.scale is {scale:.1} (1 with hardware virtualisation, 10 and more where the processor is emulated)."),
            "Kernel to /init is the kernel's clock at PID 1's first line on the console. The rest is measured outside of the machine, from the appearance of that line.".to_owned(),
            "There is no bare figure beside it: a machine runs its image as it is, and a bare one would be another image.".to_owned(),
        ],
    })
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
