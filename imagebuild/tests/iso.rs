//! `imagebuild iso`: what it refuses, before it writes anything.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

fn iso(folder: &Path, image: &[u8], seed: &str) -> Output {
    for name in ["masthead-0.2.0.efi", "grub-cd.img", "grub-hybrid.img"] {
        fs::create_dir_all(folder.join("image")).expect("made");
        fs::write(folder.join("image").join(name), image).expect("written");
    }
    fs::write(folder.join("seed.toml"), seed).expect("written");
    Command::new(env!("CARGO_BIN_EXE_imagebuild"))
        .args(["iso", "--image", "image", "--seed", "seed.toml"])
        .args(["--output", "masthead.iso"])
        .current_dir(folder)
        .output()
        .expect("starting imagebuild")
}

#[test]
fn a_seed_that_no_node_would_take_is_refused_with_its_line() {
    let folder = tempfile::tempdir().expect("a folder");
    let refused = iso(folder.path(), b"", "version = 1\ncluster = 7\n");
    let said = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(64), "{said}");
    assert!(said.contains("seed.toml:2:"), "{said}");
    assert!(!folder.path().join("masthead.iso").exists());
}

#[test]
fn what_is_not_built_yet_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let refused = Command::new(env!("CARGO_BIN_EXE_imagebuild"))
        .args(["iso", "--image", ".", "--output", "masthead.iso"])
        .current_dir(folder.path())
        .output()
        .expect("starting imagebuild");
    let said = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(1), "{said}");
    assert!(
        said.contains("there is no masthead-VERSION.efi in ."),
        "{said}"
    );
}

#[test]
fn of_what_is_no_image_no_iso_is_made() {
    let folder = tempfile::tempdir().expect("a folder");
    let seed = include_str!("../../configs/seeds/single.toml");
    let program = masthead_uki::example::program();
    for image in [&b"MZ"[..], &program] {
        let refused = iso(folder.path(), image, seed);
        let said = String::from_utf8_lossy(&refused.stderr);
        assert_eq!(refused.status.code(), Some(1), "{said}");
        assert!(said.contains("reading the image in image"), "{said}");
        let left = fs::read_dir(folder.path()).expect("listed").count();
        assert_eq!(left, 2, "only what it was given");
    }
}
