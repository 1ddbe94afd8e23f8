//! The whole way, from the lock to an image. These take minutes: `make test` calls them by name.

use std::fs::{self, File};
use std::io::{Cursor, Read as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use masthead_disk_layout::{Contents, Part, Role};
use masthead_imagebuild::digest::Digest;
use masthead_imagebuild::formats::cpio;
use masthead_imagebuild::inspect;
use masthead_slots::{Partition, Slot};
use masthead_uki::check;
use masthead_uki::frame::{FILE, Framed};

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("..")
        .canonicalize()
        .expect("the repository")
}

fn imagebuild(root: &Path, cache: &Path, output: &Path) {
    let status = Command::new(env!("CARGO_BIN_EXE_imagebuild"))
        .args(["build", "--locked", "--cache"])
        .arg(cache)
        .arg("--output")
        .arg(output)
        .current_dir(root)
        .status()
        .expect("starting imagebuild");
    assert!(status.success());
}

/// Copies what an image is built from; links would be resolved to where the original lies.
fn copy_sources(target: &Path) {
    let sources = [
        "Cargo.toml",
        "Cargo.lock",
        ".cargo",
        "init",
        "ctl",
        "imagebuild",
        "qemu-tests",
        "crates",
        "configs",
        "components",
        "firmware",
    ];
    let status = Command::new("cp")
        .arg("--archive")
        .args(sources.map(|name| repository().join(name)))
        .arg(target)
        .status()
        .expect("starting cp");
    assert!(status.success());
}

/// Every file of an output, by name. The disk image is too large for the memory of most machines twice.
fn contents(output: &Path) -> Vec<(String, Digest)> {
    masthead_imagebuild::files::walk(output)
        .expect("walking")
        .into_iter()
        .filter(|name| output.join(name).is_file())
        .map(|name| {
            let digest = Digest::of_file(&output.join(&name)).expect("reading");
            (name.display().to_string(), digest)
        })
        .collect()
}

/// Builds in two folders with nothing in common but fetched packages and Go's own cache.
#[test]
#[ignore = "builds two images from nothing, init compiled twice: minutes"]
fn two_clean_builds_give_the_same_bytes() {
    let scratch = repository().join("build/reproducible");
    // What an interrupted test left.
    let _ = fs::remove_dir_all(&scratch);
    let mut images = Vec::new();
    for name in ["first", "second-with-a-longer-name"] {
        let root = scratch.join(name);
        fs::create_dir_all(root.join("cache")).expect("creating");
        copy_sources(&root);
        let packages = repository().join("build/cache/packages");
        if packages.is_dir() {
            let status = Command::new("cp")
                .arg("--archive")
                .arg(packages)
                .arg(root.join("cache"))
                .status()
                .expect("starting cp");
            assert!(status.success());
        }
        imagebuild(&root, &root.join("cache"), &root.join("image"));
        images.push(contents(&root.join("image")));
    }
    let (first, second) = (&images[0], &images[1]);
    let names = |image: &[(String, Digest)]| -> Vec<String> {
        image.iter().map(|(name, _)| name.clone()).collect()
    };
    assert_eq!(names(first), names(second));
    assert!(first.len() > 8, "{:?}", names(first));
    for ((name, one), (_, other)) in first.iter().zip(second) {
        assert!(one == other, "{name} differs");
    }
    fs::remove_dir_all(&scratch).expect("removing");
}

/// Each medium has the image whole, where it is looked for.
fn the_media_hold(output: &Path, uki: &[u8]) {
    let scratch = tempfile::tempdir().expect("a folder");
    let extracted = scratch.path().join("masthead.efi");
    let status = Command::new("xorriso")
        .args(["-osirrox", "on", "-indev"])
        .arg(output.join("masthead.iso"))
        .args(["-extract", "/masthead.efi"])
        .arg(&extracted)
        .status()
        .expect("xorriso is installed");
    assert!(status.success());
    assert!(
        fs::read(extracted).expect("extracted") == uki,
        "the ISO image"
    );

    let mut disk = File::open(output.join("masthead.img")).expect("the disk image");
    let contents = masthead_disk_layout::inspect(&mut disk);
    let Contents::Image(table, rest) = &contents else {
        panic!("{contents:?}")
    };
    assert!(rest.is_empty(), "{rest:?}");
    let system = table.partition(Role::Esp).expect("there");
    let mut system = Partition::open(Part::of(disk, table, system)).expect("FAT32");
    let slot = system.read(Slot::A.path()).expect("read");
    assert!(slot.as_deref() == Some(uki), "the disk image");
}

/// On what `make image` left: nothing is done again, in less than two seconds.
#[test]
#[ignore = "needs a built image, and builds it if there is none: minutes"]
fn a_second_run_is_short_and_the_image_is_whole() {
    let root = repository();
    let (cache, output) = (root.join("build/cache"), root.join("build/image"));
    imagebuild(&root, &cache, &output);
    let since = Instant::now();
    imagebuild(&root, &cache, &output);
    let took = since.elapsed();
    assert!(took.as_secs_f32() < 2.0, "the second run took {took:?}");

    let uki = fs::read_dir(&output)
        .expect("listing")
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .find(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.starts_with("masthead-") && name.ends_with(".efi")
        })
        .expect("a unified kernel image");
    let uki = fs::read(uki).expect("reading");
    the_media_hold(&output, &uki);
    assert!(uki.len() <= 70_000_000, "{} bytes", uki.len());
    let inspection = inspect::inspect(&uki).expect("an EFI program");
    let section = |name: &str| {
        inspection
            .sections
            .iter()
            .find(|section| section.name == name)
    };
    for name in [".osrel", ".cmdline", ".uname", ".linux", ".initrd", ".sbat"] {
        assert!(section(name).is_some(), "{name} is missing");
    }
    // What the lab boots directly is what the boot loader boots.
    let initrd = fs::read(output.join("initrd")).expect("reading");
    let digest = Digest::of(&initrd);
    assert_eq!(
        section(".initrd").map(|section| section.sha256),
        Some(digest)
    );
    let names: Vec<_> = inspection
        .initrd
        .iter()
        .map(|entry| entry.name.as_str())
        .collect();
    for name in [
        "init",
        "root.erofs",
        "modules/load",
        "modules/erofs.ko",
        "dev/console",
    ] {
        assert!(names.contains(&name), "{name} is not in {names:?}");
    }

    a_node_of_the_network_has_all_of_it(&output, &uki);

    let version = Command::new(output.join("components/kubectl"))
        .args(["version", "--client", "--output=json"])
        .output()
        .expect("starting kubectl");
    let version: serde_json::Value = serde_json::from_slice(&version.stdout).expect("JSON");
    let stamped = version["clientVersion"]["gitVersion"]
        .as_str()
        .unwrap_or_default();
    let go_mod = fs::read_to_string(root.join("components/go.mod")).expect("reading");
    let pinned = masthead_imagebuild::steps::components::requirements(&go_mod)["k8s.io/kubernetes"];
    assert_eq!(stamped, pinned);
}

/// Root and frame, which such a node has in memory, are the image; and what firmware fetches has both.
fn a_node_of_the_network_has_all_of_it(output: &Path, uki: &[u8]) {
    let read = |name: &str| fs::read(output.join(name)).expect("reading");
    let install = read("install.cpio");
    let (entries, _) = cpio::read(&install).expect("an archive");
    let frame = entries.iter().find(|entry| entry.name == FILE);
    let frame = frame.expect("a frame").content;
    let root = read("root.erofs");
    let mut whole = Vec::new();
    Framed::new(Cursor::new(frame), Cursor::new(&root))
        .expect("both fit")
        .read_to_end(&mut whole)
        .expect("reading");
    assert!(whole == uki, "it is another image");

    let network = read("network.efi");
    let release = check(&mut Cursor::new(&network)).expect("whole");
    assert_eq!(release, check(&mut Cursor::new(uki)).expect("whole"));
    let inspection = inspect::inspect(&network).expect("an EFI program");
    let names: Vec<_> = inspection.initrd.iter().map(|one| &*one.name).collect();
    assert!(
        names.contains(&FILE) && names.contains(&"init"),
        "{names:?}"
    );
}
