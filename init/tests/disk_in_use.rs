//! A partition that is still being checked is told from one that is beyond repair: with a real block device, as root.
#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{OpenOptionsExt, symlink};
use std::path::PathBuf;
use std::process::Command;

use masthead_disk_layout::{Holds, Role, plan};
use masthead_init::disk::discover::Roots;
use masthead_init::disk::prepare::{PrepareError, check_and_mount};

/// A loop device, gone with the test.
struct Loop(PathBuf);

impl Loop {
    fn of(file: &std::path::Path) -> Self {
        let made = Command::new("losetup")
            .args(["--find", "--show"])
            .arg(file)
            .output()
            .unwrap();
        assert!(made.status.success(), "{made:?}");
        Self(String::from_utf8(made.stdout).unwrap().trim().into())
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let gone = Command::new("losetup")
            .arg("--detach")
            .arg(&self.0)
            .status();
        assert!(gone.unwrap().success());
    }
}

#[test]
fn a_partition_on_which_a_program_of_a_dead_supervisor_works_is_busy_and_not_broken() {
    let folder = tempfile::tempdir().unwrap();
    let image = folder.path().join("data");
    File::create(&image).unwrap().set_len(16 << 20).unwrap();
    let device = Loop::of(&image);
    let roots = Roots {
        sys: folder.path().join("sys"),
        dev: folder.path().join("dev"),
    };
    fs::create_dir(&roots.dev).unwrap();
    let table = plan(64 << 30, 512, Holds::Everything, Default::default).unwrap();
    let number = table.number(Role::Data).unwrap();
    symlink(&device.0, roots.dev.join(format!("vda{number}"))).unwrap();
    let check = || check_and_mount(&roots, "vda", &table, Role::Data).unwrap_err();

    // As e2fsck has it while it works.
    let working = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_EXCL)
        .open(&device.0)
        .unwrap();
    let error = check();
    assert!(matches!(error, PrepareError::Busy { .. }), "{error:?}");

    // There is no file system on it, which is what e2fsck says once it is let.
    drop(working);
    let error = check();
    assert!(matches!(error, PrepareError::Program { .. }), "{error:?}");
}
