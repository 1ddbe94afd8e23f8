//! The pins of components/go.mod, after every `go mod tidy`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use masthead_imagebuild::steps::components::requirements;

fn module() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../components")
}

fn go_mod() -> String {
    fs::read_to_string(module().join("go.mod")).expect("reading go.mod")
}

/// Module and target of every `replace`.
fn replacements(go_mod: &str) -> BTreeMap<&str, &str> {
    go_mod
        .lines()
        .filter_map(|line| {
            let (module, target) = line.split_once("=>")?;
            let module = module.trim().trim_start_matches("replace ").trim();
            Some((module.split(' ').next()?, target.trim()))
        })
        .collect()
}

/// With one of the three left out, `go mod tidy` takes the newest, and raises the others with it.
#[test]
fn all_etcd_modules_are_of_one_pinned_version() {
    let text = go_mod();
    let required = requirements(&text);
    let server = required["go.etcd.io/etcd/server/v3"];
    assert!(
        server.starts_with("v3.6."),
        "Kubernetes 1.36 is tested against etcd 3.6: {server}"
    );
    let mut seen = 0;
    for (module, version) in &required {
        if module.starts_with("go.etcd.io/etcd/") {
            assert_eq!(*version, server, "{module}");
            seen += 1;
        }
    }
    assert!(seen >= 3, "server, etcdctl and etcdutl are pinned");
}

/// Kubernetes' own go.mod points its staging modules at folders; ours at their releases.
#[test]
fn the_replacements_are_those_of_kubernetes() {
    let text = go_mod();
    let version = requirements(&text)["k8s.io/kubernetes"];
    let staged = version.replacen("v1.", "v0.", 1);
    let output = Command::new("go")
        .args([
            "mod",
            "download",
            "-json",
            &format!("k8s.io/kubernetes@{version}"),
        ])
        .current_dir(module())
        .output()
        .expect("go is installed");
    let answer: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let folder = answer["Dir"].as_str().unwrap_or_else(|| panic!("{answer}"));
    let theirs = fs::read_to_string(Path::new(folder).join("go.mod")).expect("reading go.mod");
    let staging: Vec<_> = replacements(&theirs)
        .into_iter()
        .filter(|(_, target)| target.starts_with("./staging/"))
        .map(|(module, _)| module)
        .collect();
    assert!(
        staging.len() > 20,
        "Kubernetes has staging modules: {staging:?}"
    );
    let ours = replacements(&text);
    assert_eq!(ours.keys().copied().collect::<Vec<_>>(), staging);
    for (module, target) in ours {
        assert_eq!(target, format!("{module} {staged}"));
    }
}
