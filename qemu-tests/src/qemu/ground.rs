//! What a saved machine stands on: it cannot be restored on anything else.

use std::{
    ffi::OsString,
    fmt::Write as _,
    fs::{self, File},
    io,
    path::Path,
    process::Command,
};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{
    MachineOptions,
    acceleration::Acceleration,
    command_line::{Files, arguments},
};
use crate::{
    error::{Attempt, Error, Result},
    plan::NodePlan,
    tools::run,
};

/// What must be the same for a machine's memory to have a meaning.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ground {
    /// SHA-256 of kernel and initrd, in hexadecimal.
    image: String,
    /// As `qemu-system-x86_64 --version` has it.
    qemu: String,
    /// All that QEMU is told, with the folders' names left out.
    machine: Vec<String>,
    /// The host's processor, where machines see it as it is.
    processor: Option<String>,
}

impl Ground {
    /// Of a machine made from this plan, here and now.
    pub(super) fn of(plan: &NodePlan, acceleration: Acceleration) -> Result<Self> {
        let line = arguments(
            plan,
            &Files::of(plan),
            acceleration,
            MachineOptions::default(),
        )?;
        let processor = match acceleration {
            Acceleration::Kvm => Some(processor()?),
            Acceleration::Emulation { .. } => None,
        };
        Ok(Self {
            image: hash(&["vmlinuz", "initrd"].map(|file| plan.image.join(file)))?,
            qemu: version()?,
            machine: line.into_iter().map(|word| nameless(word, plan)).collect(),
            processor,
        })
    }

    /// Refuses a state that was saved on another ground than `now`, and says what is different.
    pub(super) fn must_be(&self, now: &Self) -> Result<()> {
        let different = [
            (self.image != now.image, "the image"),
            (self.qemu != now.qemu, "QEMU"),
            (
                self.machine != now.machine,
                "the definition of the machines",
            ),
            (self.processor != now.processor, "the processor"),
        ];
        let different: Vec<&str> = different
            .into_iter()
            .filter_map(|(different, what)| different.then_some(what))
            .collect();
        if different.is_empty() {
            return Ok(());
        }
        Err(Error::Refused(format!(
            "the saved cluster is stale: {} changed since; start a new one and save it",
            different.join(" and ")
        )))
    }
}

/// A word of the command line without what differs from cluster to cluster.
fn nameless(word: OsString, plan: &NodePlan) -> String {
    let folder = |path: &Path| path.to_string_lossy().replace(',', ",,");
    word.to_string_lossy()
        .replace(&folder(&plan.directory), "NODE")
        .replace(&folder(&plan.image), "IMAGE")
}

fn version() -> Result<String> {
    let text = run(Command::new("qemu-system-x86_64").arg("--version"))?;
    Ok(text.lines().next().unwrap_or_default().to_owned())
}

fn processor() -> Result<String> {
    let text = fs::read_to_string("/proc/cpuinfo").attempt(|| "read /proc/cpuinfo")?;
    let name = text.lines().find(|line| line.starts_with("model name"));
    Ok(name.unwrap_or_default().to_owned())
}

/// SHA-256 of the contents of these files, one after the other.
fn hash(files: &[impl AsRef<Path>]) -> Result<String> {
    let mut hash = Sha256::new();
    for path in files.iter().map(AsRef::as_ref) {
        File::open(path)
            .and_then(|mut file| io::copy(&mut file, &mut hash))
            .attempt(|| format!("read {}", path.display()))?;
    }
    let mut text = String::new();
    for byte in hash.finalize() {
        let _ = write!(text, "{byte:02x}");
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ground() -> Ground {
        Ground {
            image: "1234".to_owned(),
            qemu: "QEMU 10".to_owned(),
            machine: vec!["-m".to_owned(), "2048".to_owned()],
            processor: None,
        }
    }

    #[test]
    fn another_ground_is_refused_by_its_difference() {
        type Change = fn(&mut Ground);
        let saved = ground();
        saved.must_be(&ground()).expect("the same");
        let changes: [(Change, &str); 4] = [
            (|now| now.image.push('5'), "the image changed"),
            (|now| now.qemu.push('1'), "QEMU changed"),
            (|now| now.machine.truncate(1), "definition of the machines"),
            (
                |now| now.processor = Some("EPYC".to_owned()),
                "the processor",
            ),
        ];
        for (change, expected) in changes {
            let mut now = ground();
            change(&mut now);
            let error = saved.must_be(&now).expect_err("stale").to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn folders_are_left_out() {
        let plan = crate::plan::ClusterPlan::new(1, "/a,b", "/image");
        let node = &plan.nodes()[0];
        let word = nameless("file,path=/a,,b/m1/console.log".into(), node);
        assert_eq!(word, "file,path=NODE/console.log");
    }
}
