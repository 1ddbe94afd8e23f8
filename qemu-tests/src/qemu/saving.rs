//! Saving a machine and restoring it: QEMU's migration, into a file and out of it.
//!
//! QEMU flushes its disks when it stops a machine, so that the write cache of [`crate::block`] is empty in
//! every state that is saved: the disk's image is all there is of the disk. A restored machine's clocks go on
//! from where they were: all nodes of a cluster live equally far in the past.

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::{
    MachineOptions,
    machine::{Beginning, Machine},
    qmp::Control,
};
use crate::{
    error::{Attempt, Error, Result},
    patience::Patience,
    provider::{Power, PowerChange, Saving},
    tools::run,
};

/// Memory and devices, in a saved machine's folder.
const STATE: &str = "state";
const BETWEEN_LOOKS: Duration = Duration::from_millis(10);
/// For a gigabyte of memory to be written or read, by a disk that is slow.
const NOMINAL: Duration = Duration::from_secs(60);
/// More bytes a second than any disk takes: QEMU's default would be 128 MiB.
const UNLIMITED_BYTES: u64 = 1 << 40;

impl Saving for Machine {
    fn pause(&self) -> Result<()> {
        let state = self.shared.supply.hold();
        let whole = state.options == MachineOptions::default()
            && !state.link_down
            && state.condition.is_none();
        drop(state);
        if !whole {
            return Err(Error::Refused(format!(
                "{} cannot be saved: only a machine that booted directly, with its cable plugged in and its disk \
                 healthy, is",
                self.shared.plan.name
            )));
        }
        self.tell("stop", &json!({}))
    }

    fn save(&self, folder: &Path) -> Result<()> {
        if self.shared.supply.power() == Power::On {
            self.migrate(self.control()?.as_ref(), "migrate", &folder.join(STATE))?;
        }
        copy(&self.shared.plan.disk_image(), &disk(folder))?;
        match copy(&self.shared.plan.console(), &console(folder)) {
            // It was never on.
            Err(_) if !self.shared.plan.console().exists() => Ok(()),
            copied => copied,
        }
    }

    fn restore(&self, folder: &Path) -> Result<()> {
        let mut state = self.shared.supply.hold_off()?;
        copy(&disk(folder), &self.shared.plan.disk_image())?;
        if console(folder).exists() {
            copy(&console(folder), &self.shared.plan.console())?;
        }
        let from = folder.join(STATE);
        if !from.exists() {
            return Ok(());
        }
        let control = self.shared.start(&mut state, Beginning::Incoming)?;
        state.record(PowerChange::Restored);
        drop(state);
        self.migrate(&control, "migrate-incoming", &from)
    }

    fn resume(&self) -> Result<()> {
        self.tell("cont", &json!({}))
    }
}

impl Machine {
    /// A QEMU command to a machine that runs, without an answer worth having.
    fn tell(&self, command: &str, arguments: &Value) -> Result<()> {
        let told = self.control()?.execute(command, arguments);
        told.map(drop)
            .attempt(|| format!("have QEMU of {} {command}", self.shared.plan.name))
    }

    fn control(&self) -> Result<Arc<Control>> {
        let state = self.shared.supply.hold();
        let running = state.running.as_ref();
        running
            .map(|running| Arc::clone(&running.control))
            .ok_or_else(|| self.shared.supply.must_be_on())
    }

    /// Moves the machine into a file, or out of it, and waits until that is done.
    fn migrate(&self, control: &Control, command: &str, file: &Path) -> Result<()> {
        let name = &self.shared.plan.name;
        let action = || format!("{command} {name}: {}", file.display());
        // Each page has its place in the file, which therefore is no larger than the memory (QEMU,
        // docs/devel/migration/mapped-ram.rst).
        let capability = json!({ "capability": "mapped-ram", "state": true });
        for (command, arguments) in [
            (
                "migrate-set-capabilities",
                json!({ "capabilities": [capability] }),
            ),
            (
                "migrate-set-parameters",
                json!({ "max-bandwidth": UNLIMITED_BYTES }),
            ),
            (
                command,
                json!({ "uri": format!("file:{}", file.display()) }),
            ),
        ] {
            control.execute(command, &arguments).attempt(action)?;
        }
        let patience = Patience::new(1.0).of(NOMINAL);
        let begun = Instant::now();
        loop {
            // A QEMU that cannot take a state in ends, and says on its standard error why.
            let answer = control
                .execute("query-migrate", &json!({}))
                .map_err(|_| self.shared.failed("ended while its state was moved"))?;
            match answer.get("status").and_then(Value::as_str) {
                Some("completed") => return Ok(()),
                Some("failed" | "cancelled") => {
                    return Err(std::io::Error::other(answer.to_string())).attempt(action);
                }
                status if begun.elapsed() > patience => {
                    return Err(Error::Impatient {
                        what: action(),
                        waited_seconds: begun.elapsed().as_secs_f64(),
                        last: status.unwrap_or("nothing").to_owned(),
                    });
                }
                _ => thread::sleep(BETWEEN_LOOKS),
            }
        }
    }
}

fn disk(folder: &Path) -> PathBuf {
    folder.join("disk.img")
}

fn console(folder: &Path) -> PathBuf {
    folder.join("console.log")
}

/// Copies a file with its holes, or its extents where the file system can share them.
fn copy(from: &Path, to: &Path) -> Result<()> {
    run(Command::new("cp")
        .args(["--sparse=always", "--reflink=auto"])
        .arg(from)
        .arg(to))
    .map(drop)
}
