//! The two kinds of node, what each does without, and the options of a node.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs;
use std::io;
use std::os::fd::RawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use masthead_machine::Scale;
use thiserror::Error;

/// Where QEMU offers the timing scale that the lab gave it; no real machine has this file.
pub const SCALE_IN_FIRMWARE: &str =
    "/sys/firmware/qemu_fw_cfg/by_name/opt/masthead/timing-scale/raw";

/// Where a node runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NodeKind {
    /// A machine, real or virtual, whose kernel belongs to the node.
    Machine,
    /// New namespaces on somebody else's kernel, made by the lab.
    Namespace,
}

/// What a machine has and a namespace does without: there it is the host's, and the kernel, not
/// our care, keeps it out of reach.
///
/// This is the only list of the differences. Code asks [`NodeKind::has`] for the one facility it
/// is about to use, never for the kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Facility {
    /// The initramfs, and the switch to the EROFS root: the lab mounts that root first.
    SwitchOfRoot,
    /// The device file system: the lab hands in the few devices that programs need.
    Devices,
    /// The wall clock.
    Clock,
    /// Kernel modules.
    Modules,
    /// The settings that are not a network namespace's own.
    KernelSettings,
    /// Firmware: EFI variables, pstore, and QEMU's fw_cfg with seed and timing scale.
    Firmware,
    /// Whole disks to partition, check and mount: the lab hands in mounted file systems.
    Disks,
    /// The hardware watchdog.
    Watchdog,
    /// Ctrl-Alt-Del, the virtual terminals and the kernel's own log.
    Console,
    /// An `oom_score_adj` below the inherited one.
    OomProtection,
}

impl Facility {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::SwitchOfRoot,
        Self::Devices,
        Self::Clock,
        Self::Modules,
        Self::KernelSettings,
        Self::Firmware,
        Self::Disks,
        Self::Watchdog,
        Self::Console,
        Self::OomProtection,
    ];

    /// In words, for the boot log and the status.
    pub fn name(self) -> &'static str {
        match self {
            Self::SwitchOfRoot => "switch of root",
            Self::Devices => "device file system",
            Self::Clock => "clock",
            Self::Modules => "kernel modules",
            Self::KernelSettings => "kernel settings",
            Self::Firmware => "firmware",
            Self::Disks => "disks",
            Self::Watchdog => "watchdog",
            Self::Console => "console",
            Self::OomProtection => "protection from the out-of-memory killer",
        }
    }
}

impl NodeKind {
    /// Whether this kind of node has it.
    pub fn has(self, _facility: Facility) -> bool {
        match self {
            Self::Machine => true,
            Self::Namespace => false,
        }
    }

    /// Whether the lines of a policy table that say `where = "machine"` hold here.
    pub fn is_machine(self) -> bool {
        self == Self::Machine
    }
}

impl fmt::Display for NodeKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Machine => "machine",
            Self::Namespace => "namespace",
        })
    }
}

/// What a node is told from outside, beside its seed.
#[derive(Debug, Clone, PartialEq)]
pub struct NodeOptions {
    /// The kind of node.
    pub kind: NodeKind,
    /// The seed's file, where the lab hands it in; a machine looks for its seed by itself.
    pub seed: Option<PathBuf>,
    /// The factor on every deadline.
    pub scale: Scale,
}

/// The options of `/init supervisor`.
#[derive(Debug, Clone, PartialEq)]
pub struct SupervisorOptions {
    /// The number of the descriptor that is its end of the link.
    pub link: RawFd,
    /// How many sockets it inherits, see [`listeners`](crate::listeners).
    pub listeners: u8,
    /// The node's options, as PID 1 has them.
    pub node: NodeOptions,
}

/// An argument that neither PID 1 nor the supervisor takes.
#[derive(Debug, Error)]
pub enum OptionError {
    /// The timing scale is wrong.
    #[error("the argument `{argument}` is wrong")]
    Scale {
        /// As given.
        argument: String,
        /// Why.
        #[source]
        source: masthead_machine::InvalidScale,
    },
    /// The descriptor is no number.
    #[error("the argument `{0}` is wrong: it takes the number of an open descriptor")]
    Link(String),
    /// The number of sockets is none.
    #[error("the argument `{0}` is wrong: it takes a number of sockets, up to 255")]
    Listeners(String),
    /// The supervisor was not given its link.
    #[error("the supervisor is started by PID 1 only: `--link-fd` is missing")]
    NoLink,
    /// Nothing of ours.
    #[error(
        "there is no argument `{0}`; there are --namespace, --seed=PATH and --timing-scale=FACTOR"
    )]
    Unknown(String),
}

impl NodeOptions {
    /// The options of a machine.
    pub const MACHINE: Self = Self {
        kind: NodeKind::Machine,
        seed: None,
        scale: Scale::REAL,
    };

    /// Reads PID 1's arguments, without the program's name.
    ///
    /// A kernel hands every word of its command line that it does not know to PID 1, so that a
    /// machine ignores them all; only a first argument `--namespace`, which the lab gives, makes the
    /// others count.
    pub fn of_pid1(arguments: &[OsString]) -> Result<Self, OptionError> {
        if arguments.first().is_none_or(|first| first != "--namespace") {
            return Ok(Self::MACHINE);
        }
        let mut options = Self::MACHINE;
        for argument in arguments {
            options.take(argument)?;
        }
        Ok(options)
    }

    /// On a machine, takes the timing scale from the firmware if the lab has put one there.
    ///
    /// `firmware` is [`SCALE_IN_FIRMWARE`]. A scale that is wrong is an error, and the scale stays
    /// as it is.
    pub fn read_scale(&mut self, firmware: &Path) -> io::Result<()> {
        if !self.kind.has(Facility::Firmware) {
            return Ok(());
        }
        match fs::read_to_string(firmware) {
            Ok(text) => {
                let text = text.trim_end_matches(['\0', '\n']);
                self.scale = text.parse().map_err(io::Error::other)?;
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// The arguments that [`SupervisorOptions::parse`] reads back.
    pub fn arguments(&self) -> Vec<OsString> {
        let mut arguments = Vec::new();
        if self.kind == NodeKind::Namespace {
            arguments.push("--namespace".into());
        }
        if let Some(seed) = &self.seed {
            let mut argument = OsString::from("--seed=");
            argument.push(seed);
            arguments.push(argument);
        }
        arguments.push(format!("--timing-scale={}", self.scale).into());
        arguments
    }

    fn take(&mut self, argument: &OsStr) -> Result<(), OptionError> {
        let text = || argument.to_string_lossy().into_owned();
        if argument == "--namespace" {
            self.kind = NodeKind::Namespace;
        } else if let Some(path) = argument.as_bytes().strip_prefix(b"--seed=") {
            self.seed = Some(PathBuf::from(OsStr::from_bytes(path)));
        } else if let Some(scale) = text().strip_prefix("--timing-scale=") {
            self.scale = scale.parse().map_err(|source| OptionError::Scale {
                argument: text(),
                source,
            })?;
        } else {
            return Err(OptionError::Unknown(text()));
        }
        Ok(())
    }
}

impl SupervisorOptions {
    /// Reads the arguments after `supervisor`.
    pub fn parse(arguments: &[OsString]) -> Result<Self, OptionError> {
        let mut node = NodeOptions::MACHINE;
        let mut link = None;
        let mut listeners = 0;
        for argument in arguments {
            let text = argument.to_string_lossy();
            if let Some(number) = text.strip_prefix("--link-fd=") {
                let number = number.parse();
                link = Some(number.map_err(|_| OptionError::Link(text.into_owned()))?);
            } else if let Some(number) = text.strip_prefix("--listeners=") {
                let number = number.parse();
                listeners = number.map_err(|_| OptionError::Listeners(text.into_owned()))?;
            } else {
                node.take(argument)?;
            }
        }
        Ok(Self {
            link: link.ok_or(OptionError::NoLink)?,
            listeners,
            node,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<OsString> {
        text.split_whitespace().map(OsString::from).collect()
    }

    #[test]
    fn a_machine_ignores_the_words_that_the_kernel_hands_on() {
        let options = NodeOptions::of_pid1(&words("splash --timing-scale=9 --namespace"));
        assert_eq!(options.expect("options"), NodeOptions::MACHINE);
    }

    #[test]
    fn the_supervisor_gets_what_pid_1_got() {
        for text in ["", "--namespace --seed=/host/seed.toml --timing-scale=12.5"] {
            let node = NodeOptions::of_pid1(&words(text)).expect("options");
            let mut arguments = words("--link-fd=3 --listeners=4");
            arguments.extend(node.arguments());
            let options = SupervisorOptions::parse(&arguments).expect("options");
            let expected = SupervisorOptions {
                link: 3,
                listeners: 4,
                node,
            };
            assert_eq!(options, expected);
        }
    }

    #[test]
    fn wrong_arguments_are_named() {
        for (text, expected) in [
            ("--namespace --sed=/x", "`--sed=/x`"),
            ("--namespace --timing-scale=fast", "`--timing-scale=fast`"),
        ] {
            let error = NodeOptions::of_pid1(&words(text)).expect_err("refused");
            assert!(error.to_string().contains(expected), "{error}");
        }
        assert!(matches!(
            SupervisorOptions::parse(&[]),
            Err(OptionError::NoLink)
        ));
        assert!(matches!(
            SupervisorOptions::parse(&words("--link-fd=x")),
            Err(OptionError::Link(_))
        ));
    }

    #[test]
    fn the_scale_comes_from_the_firmware_of_a_machine_only() {
        let file = std::env::temp_dir().join(format!("timing-scale-{}", std::process::id()));
        fs::write(&file, "12.5\n").expect("written");
        let mut machine = NodeOptions::MACHINE;
        machine.read_scale(&file).expect("a scale");
        assert_eq!(machine.scale.to_string(), "12.5");

        let mut namespace = NodeOptions {
            kind: NodeKind::Namespace,
            ..NodeOptions::MACHINE
        };
        namespace.read_scale(&file).expect("nothing read");
        assert_eq!(namespace.scale, Scale::REAL);

        fs::write(&file, "fast").expect("written");
        assert!(machine.read_scale(&file).is_err());
        fs::remove_file(&file).expect("removed");
        machine.read_scale(&file).expect("no lab");
        assert_eq!(machine.scale.to_string(), "12.5");
    }
}
