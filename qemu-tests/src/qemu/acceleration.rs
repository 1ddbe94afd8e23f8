//! Whether KVM works on this machine, and how slow emulation is.
//!
//! `/dev/kvm` that can be opened proves nothing: on some hosts it runs a kernel hundreds of times too
//! slowly, or has QEMU abort. So a real kernel is booted without an initrd, until it panics for want of a
//! root file system: a fraction of a second on working KVM, seconds emulated.

use std::{
    io::Read,
    path::Path,
    process::{Command, Stdio},
    sync::Mutex,
    thread,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};

use crate::error::{Attempt, Error, Result};

/// How machines run here.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "by", rename_all = "kebab-case")]
pub enum Acceleration {
    /// By the processor.
    Kvm,
    /// By QEMU's translator.
    Emulation {
        /// Seconds that the probe took.
        probe_seconds: f64,
    },
}

/// KVM is worth using when the probe takes less; a working one needs half a second.
const KVM_PATIENCE: Duration = Duration::from_secs(6);
/// A machine on which emulation is slower than this cannot run Kubernetes in any patience.
const EMULATION_PATIENCE: Duration = Duration::from_secs(180);
/// What the probe takes on the machine for which the scale of 15 was measured to be right.
const USUAL_PROBE_SECONDS: f64 = 4.0;

impl Acceleration {
    /// The arguments of `-accel` and `-cpu`.
    pub fn arguments(self) -> [&'static str; 4] {
        match self {
            Self::Kvm => ["-accel", "kvm", "-cpu", "host"],
            Self::Emulation { .. } => ["-accel", "tcg,thread=multi", "-cpu", "max"],
        }
    }

    /// `timing.scale` for machines that run so. Emulated ones are 10 to 20 times slower than real ones, and
    /// two of them may share a core.
    pub fn timing_scale(self) -> f64 {
        match self {
            Self::Kvm => 1.5,
            Self::Emulation { probe_seconds } => (15.0 * probe_seconds / USUAL_PROBE_SECONDS)
                .clamp(8.0, 60.0)
                .round(),
        }
    }
}

/// Finds out, once for this process.
pub fn probe(kernel: &Path) -> Result<Acceleration> {
    static KNOWN: Mutex<Option<Acceleration>> = Mutex::new(None);
    let mut known = KNOWN
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    if let Some(acceleration) = *known {
        return Ok(acceleration);
    }
    let usable =
        Path::new("/dev/kvm").exists() && boot(kernel, Acceleration::Kvm, KVM_PATIENCE)?.is_ok();
    let acceleration = if usable {
        Acceleration::Kvm
    } else {
        let emulation = Acceleration::Emulation {
            probe_seconds: USUAL_PROBE_SECONDS,
        };
        match boot(kernel, emulation, EMULATION_PATIENCE)? {
            Ok(took) => Acceleration::Emulation {
                probe_seconds: took.as_secs_f64(),
            },
            Err(printed) => {
                return Err(Error::Program {
                    program: "qemu-system-x86_64 (probing emulation)".to_owned(),
                    status: format!(
                        "no kernel came up within {} s",
                        EMULATION_PATIENCE.as_secs()
                    ),
                    output: printed,
                });
            }
        }
    };
    *known = Some(acceleration);
    Ok(acceleration)
}

/// Boots the kernel until it panics. The inner error is what was printed instead.
fn boot(
    kernel: &Path,
    acceleration: Acceleration,
    patience: Duration,
) -> Result<Result<Duration, String>> {
    let begun = Instant::now();
    let mut qemu = Command::new("qemu-system-x86_64")
        .args([
            "-machine",
            "q35",
            "-m",
            "256",
            "-nodefaults",
            "-no-user-config",
            "-display",
            "none",
        ])
        .args(acceleration.arguments())
        .args(["-no-reboot", "-serial", "stdio"])
        .arg("-kernel")
        .arg(kernel)
        // panic=-1 reboots at once, and -no-reboot makes that an exit.
        .args(["-append", "console=ttyS0 panic=-1 quiet"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .attempt(|| "start qemu-system-x86_64 (make setup installs it)")?;
    let reader = qemu.stdout.take().map(|mut output| {
        thread::spawn(move || {
            let mut printed = Vec::new();
            // What a killed QEMU has not printed is not missed.
            let _ = output.read_to_end(&mut printed);
            String::from_utf8_lossy(&printed).into_owned()
        })
    });
    let ended = loop {
        if qemu.try_wait().attempt(|| "wait for QEMU")?.is_some() {
            break true;
        }
        if begun.elapsed() > patience {
            let _ = qemu.kill();
            qemu.wait().attempt(|| "wait for QEMU")?;
            break false;
        }
        thread::sleep(Duration::from_millis(20));
    };
    let took = begun.elapsed();
    let printed = reader
        .and_then(|reader| reader.join().ok())
        .unwrap_or_default();
    let came_up = ended && printed.contains("Kernel panic - not syncing: VFS");
    Ok(if came_up { Ok(took) } else { Err(printed) })
}
