//! The lab's side of a virtual machine: a QEMU process while it is powered, and a thread that waits for it.

use std::{
    fs::{self, File},
    process::{Child, Command, Stdio},
    sync::{Arc, mpsc},
    thread,
};

use nix::{
    sys::signal::{Signal as UnixSignal, kill},
    unistd::Pid,
};
use serde_json::{Value, json};

use super::{
    MachineOptions,
    acceleration::Acceleration,
    child,
    command_line::{Files, arguments},
    qmp::Control,
    wipe::wipe,
};
use crate::{
    block::{Cut, DiskServer, Fault, VolatileDisk},
    error::{Attempt, Error, Result},
    plan::{DiskRole, NodePlan},
    power::{self, Supply},
    provider::{
        Cable, DiskCondition, Effective, Link, Node, Power, PowerChange, PowerEvent, ProviderKind,
        Saving, Signal, Wipe,
    },
    switch::{PortNumber, PortServer, Switch},
};

/// A machine of [`super::VmProvider`].
pub(super) struct Machine {
    pub(super) shared: Arc<Shared>,
    _port: PortServer,
}

pub(super) struct Shared {
    pub(super) plan: NodePlan,
    pub(super) files: Files,
    acceleration: Acceleration,
    disk: DiskServer,
    switch: Switch,
    port: PortNumber,
    pub(super) supply: Supply<Running, Settings>,
}

type State = power::State<Running, Settings>;

/// What outlives a power cut.
#[derive(Default)]
pub(super) struct Settings {
    pub(super) options: MachineOptions,
    pub(super) link_down: bool,
    pub(super) condition: Option<DiskCondition>,
    /// What ended the power, as far as QEMU has said.
    ending: Option<PowerChange>,
}

/// A powered machine.
pub(super) struct Running {
    pid: i32,
    pub(super) control: Arc<Control>,
}

/// What a new QEMU begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Beginning {
    /// The firmware.
    Reset,
    /// The state that it is given over its control socket.
    Incoming,
}

/// The parts of a disk that carry no file system of a role: BIOS boot, ESP, META, tables.
const OTHER_PARTITIONS_MIB: u32 = 1024 + 16;

impl Machine {
    pub(super) fn new(
        plan: NodePlan,
        seed: &str,
        switch: &Switch,
        acceleration: Acceleration,
        options: MachineOptions,
    ) -> Result<Self> {
        let files = Files::of(&plan);
        fs::write(files.seed(), seed).attempt(|| format!("write {}", files.seed().display()))?;
        let size_mib: u32 = plan.disks.iter().map(|(_, size)| size).sum();
        let bytes = u64::from(size_mib + OTHER_PARTITIONS_MIB) << 20;
        let image = plan.disk_image();
        let disk =
            VolatileDisk::open(&image, bytes).attempt(|| format!("open {}", image.display()))?;
        let socket = files.disk_socket();
        let disk =
            DiskServer::start(&socket, disk).attempt(|| format!("serve {}", socket.display()))?;
        let port = switch.add_port();
        let socket = files.wire_socket();
        let server = switch
            .serve(port, &socket)
            .attempt(|| format!("serve {}", socket.display()))?;
        let settings = Settings {
            options,
            ..Settings::default()
        };
        let shared = Arc::new(Shared {
            supply: Supply::new(&plan.name, settings),
            plan,
            files,
            acceleration,
            disk,
            switch: switch.clone(),
            port,
        });
        Ok(Self {
            shared,
            _port: server,
        })
    }

    /// Its port of the switch.
    pub(super) fn port(&self) -> PortNumber {
        self.shared.port
    }
}

impl Node for Machine {
    fn plan(&self) -> &NodePlan {
        &self.shared.plan
    }

    fn power_on(&self) -> Result<()> {
        let mut state = self.shared.supply.hold_off()?;
        if state.condition != Some(DiskCondition::Removed) {
            self.shared.disk.set_fault(Fault::None);
            state.condition = None;
        }
        let control = self.shared.start(&mut state, Beginning::Reset)?;
        state.record(PowerChange::PoweredOn);
        let link_down = state.link_down;
        // QEMU's events wait for the state: no command may be given while it is held.
        drop(state);
        if link_down {
            set_carrier(&control, false)
        } else {
            Ok(())
        }
    }

    fn cut_power(&self) -> Result<()> {
        let mut state = self.shared.supply.hold();
        let Some(running) = &state.running else {
            return Ok(());
        };
        let pid = Pid::from_raw(running.pid);
        state.ending = Some(PowerChange::Cut);
        // A QEMU that is ending at this moment needs no signal.
        let _ = kill(pid, UnixSignal::SIGKILL);
        // One whose disk does not answer waits for it even when killed.
        self.shared.disk.set_stalled(false);
        self.shared.supply.wait_until_off(state);
        Ok(())
    }

    fn power(&self) -> Power {
        self.shared.supply.power()
    }

    fn history(&self) -> Vec<PowerEvent> {
        self.shared.supply.history()
    }

    fn set_link(&self, link: Link) -> Result<()> {
        let up = link == Link::Up;
        let mut state = self.shared.supply.hold();
        state.link_down = !up;
        self.shared.switch.set_link(self.shared.port, up);
        let control = state
            .running
            .as_ref()
            .map(|running| Arc::clone(&running.control));
        drop(state);
        match control {
            Some(control) => set_carrier(&control, up),
            None => Ok(()),
        }
    }

    fn set_cable(&self, cable: Cable) -> Result<()> {
        self.shared.switch.set_cable(self.shared.port, cable);
        Ok(())
    }

    fn signal(&self, _service: &str, _signal: Signal) -> Result<Vec<i32>> {
        Err(unsupported("signal a process"))
    }

    fn processes(&self, _service: &str) -> Result<Vec<i32>> {
        Err(unsupported("list its processes"))
    }

    fn set_disk(&self, _role: DiskRole, condition: DiskCondition) -> Result<Effective> {
        let mut state = self.shared.supply.hold();
        let before = state.condition.replace(condition);
        let disk = &self.shared.disk;
        disk.set_stalled(condition == DiskCondition::Stalled);
        disk.set_fault(match condition {
            DiskCondition::Healthy | DiskCondition::Stalled => Fault::None,
            DiskCondition::ReadOnly => Fault::ReadOnly,
            DiskCondition::Removed => Fault::Gone,
        });
        let given_up = matches!(
            before,
            Some(DiskCondition::ReadOnly | DiskCondition::Removed)
        );
        Ok(if given_up && condition == DiskCondition::Healthy {
            Effective::NextPowerOn
        } else {
            Effective::Now
        })
    }

    fn wipe(&self, what: Wipe) -> Result<()> {
        // Held to the end: nobody powers it on meanwhile.
        let held = self.shared.supply.hold_off()?;
        wipe(&self.shared.plan.disk_image(), what)?;
        drop(held);
        Ok(())
    }

    fn set_seed(&self, seed: &str) -> Result<()> {
        let held = self.shared.supply.hold_off()?;
        let file = self.shared.files.seed();
        fs::write(&file, seed).attempt(|| format!("write {}", file.display()))?;
        drop(held);
        Ok(())
    }

    fn set_machine(&self, options: MachineOptions) -> Result<()> {
        self.shared.supply.hold().options = options;
        Ok(())
    }

    fn init_process(&self) -> Result<i32> {
        Err(unsupported("show its PID 1"))
    }

    fn saving(&self) -> Result<&dyn Saving> {
        Ok(self)
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // A machine that cannot be switched off dies with this process.
        let _ = self.cut_power();
    }
}

fn unsupported(operation: &'static str) -> Error {
    Error::Unsupported {
        kind: ProviderKind::Vm,
        operation,
        reason: "its processes are inside a machine, where the image has no hook for the lab; use the \
                 namespace provider for faults of processes",
    }
}

fn set_carrier(control: &Control, up: bool) -> Result<()> {
    control
        .execute("set_link", &json!({ "name": "card", "up": up }))
        .map(drop)
        .attempt(|| "switch the network card's carrier")
}

impl Shared {
    /// Starts QEMU on a thread that lives as long as it does, and waits until it can be controlled.
    pub(super) fn start(
        self: &Arc<Self>,
        state: &mut State,
        beginning: Beginning,
    ) -> Result<Arc<Control>> {
        state.ending = None;
        let mut arguments = arguments(&self.plan, &self.files, self.acceleration, state.options)?;
        if beginning == Beginning::Incoming {
            arguments.extend(["-incoming", "defer"].map(Into::into));
        }
        let complaints = self.files.complaints();
        let log =
            File::create(&complaints).attempt(|| format!("write {}", complaints.display()))?;
        let mut command = Command::new("qemu-system-x86_64");
        command
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        let (sender, started) = mpsc::channel();
        let shared = Arc::clone(self);
        thread::Builder::new()
            .name(format!("vm-{}", self.plan.name))
            .spawn(move || match child::spawn(&mut command) {
                Ok(qemu) => {
                    let _ = sender.send(Ok(i32::try_from(qemu.id()).unwrap_or_default()));
                    shared.wait_for(qemu);
                }
                Err(error) => drop(sender.send(Err(error))),
            })
            .attempt(|| "start a thread for QEMU")?;
        let pid = started
            .recv()
            .unwrap_or_else(|_| Err(std::io::ErrorKind::BrokenPipe.into()))
            .attempt(|| "start qemu-system-x86_64 (make setup installs it)")?;
        let listening = Arc::clone(self);
        let control = Control::connect(
            &self.files.control_socket(),
            || runs(pid),
            move |event, data| listening.happened(event, data),
        );
        let Ok(control) = control.map(Arc::new) else {
            let _ = kill(Pid::from_raw(pid), UnixSignal::SIGKILL);
            return Err(self.failed("ended before it could be controlled"));
        };
        state.running = Some(Running {
            pid,
            control: Arc::clone(&control),
        });
        Ok(control)
    }

    /// Says that QEMU did something else than it should, with its own words.
    pub(super) fn failed(&self, status: &str) -> Error {
        Error::Program {
            program: "qemu-system-x86_64".to_owned(),
            status: status.to_owned(),
            output: fs::read_to_string(self.files.complaints()).unwrap_or_default(),
        }
    }

    /// Takes note of what QEMU says (qapi/run-state.json). Called from the control socket's thread.
    fn happened(&self, event: &str, data: &Value) {
        let guest = data
            .get("guest")
            .and_then(Value::as_bool)
            .unwrap_or_default();
        match event {
            "RESET" if guest => self.supply.hold().record(PowerChange::Rebooted),
            "SHUTDOWN" if guest => {
                let mut state = self.supply.hold();
                state.ending.get_or_insert(PowerChange::PoweredOff);
            }
            _ => {}
        }
    }

    /// Waits until QEMU ends, and lets the disk do what the end of power means for it.
    fn wait_for(&self, mut qemu: Child) {
        let how = match qemu.wait() {
            Ok(status) => status.to_string(),
            Err(error) => error.to_string(),
        };
        let mut state = self.supply.hold();
        let change = state.ending.take().unwrap_or(PowerChange::Crashed { how });
        // An orderly end gives the disk time to write its cache; the others do not. The image file is the
        // lab's own: what cannot be written there shows as a lost write.
        let _ = match change {
            PowerChange::PoweredOff => self.disk.settle(),
            _ => self.disk.cut(Cut::Drop).map(drop),
        };
        state.record(change);
        state.running = None;
        self.supply.went_off(state);
    }
}

/// Whether the process is there.
fn runs(pid: i32) -> bool {
    kill(Pid::from_raw(pid), None).is_ok()
}
