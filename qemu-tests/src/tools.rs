//! The programs that a cluster needs beside itself.

use std::{
    env,
    ffi::OsStr,
    io::Write,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use serde::{Deserialize, Serialize};

use crate::error::{Attempt, Error, Result};

/// Where the programs are.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Tools {
    /// The lab itself: the launcher of namespace nodes.
    pub lab: PathBuf,
    /// The operator's client.
    pub mastctl: PathBuf,
    /// kubectl, of the components that the image was built from.
    pub kubectl: PathBuf,
}

impl Tools {
    /// `mastctl` is expected beside `lab`, where cargo puts both; kubectl in the built image's folder.
    pub fn find(lab: &Path, image: &Path) -> Result<Self> {
        let lab = lab
            .canonicalize()
            .attempt(|| format!("find {}", lab.display()))?;
        let mastctl = lab.with_file_name("mastctl");
        let kubectl = image.join("components/kubectl");
        for (program, remedy) in [
            (&mastctl, "cargo build -p masthead-ctl"),
            (&kubectl, "make image"),
        ] {
            if !program.exists() {
                return Err(Error::Refused(format!(
                    "there is no {}: build it with `{remedy}`",
                    program.display()
                )));
            }
        }
        Ok(Self {
            lab,
            mastctl,
            kubectl,
        })
    }

    /// Of the running program, for `lab` itself.
    pub fn of_this_lab(image: &Path) -> Result<Self> {
        Self::find(
            &env::current_exe().attempt(|| "find the running program")?,
            image,
        )
    }
}

/// A program to run, by the name it is called by (kubectl is one of several in its file).
pub(crate) fn program(path: &Path) -> Command {
    let mut command = Command::new(path);
    command
        .arg0(path.file_name().unwrap_or(OsStr::new("program")))
        .stdin(Stdio::null());
    command
}

/// Runs a program to its end and returns what it wrote to standard output.
pub fn run(command: &mut Command) -> Result<String> {
    let output = command
        .output()
        .attempt(|| format!("run {}", command.get_program().display()))?;
    judge(command, &output)
}

/// Runs a program to its end, with `input` on its standard input.
pub(crate) fn run_with_input(mut command: Command, input: &str) -> Result<()> {
    let action = format!("run {}", command.get_program().display());
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .attempt(|| action.as_str())?;
    if let Some(mut stdin) = child.stdin.take() {
        // One that does not read it says why at its end.
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child.wait_with_output().attempt(|| action.as_str())?;
    judge(&command, &output).map(drop)
}

fn judge(command: &Command, output: &Output) -> Result<String> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if output.status.success() {
        return Ok(text(&output.stdout));
    }
    let arguments: Vec<_> = command.get_args().map(OsStr::to_string_lossy).collect();
    let name = Path::new(command.get_program())
        .file_name()
        .unwrap_or_default();
    Err(Error::Program {
        program: format!("{} {}", name.display(), arguments.join(" ")),
        status: output.status.to_string(),
        output: text(&output.stderr),
    })
}
