//! Every manifest that is wrong is refused with all that is wrong with it. The reports lie beside
//! the manifests; `UPDATE_EXPECTED=1` writes them anew, for a person to read before they are kept.

use std::fs;
use std::path::{Path, PathBuf};

use masthead_imagebuild::manifest::{Components, Flavour, Manifest};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/manifests")
}

#[test]
fn each_bad_manifest_gets_its_report() {
    let mut seen = 0;
    for entry in fs::read_dir(folder()).expect("listing") {
        let path = entry.expect("an entry").path();
        let name = path
            .file_name()
            .expect("a name")
            .to_string_lossy()
            .into_owned();
        if path.extension().is_none_or(|extension| extension != "toml") || name == "good.toml" {
            continue;
        }
        let text = fs::read(&path).expect("reading");
        let report = Manifest::parse(&name, &text).expect_err(&name).to_string();
        let beside = path.with_extension("expected");
        if std::env::var_os("UPDATE_EXPECTED").is_some() {
            fs::write(&beside, &report).expect("writing");
        }
        let expected = fs::read_to_string(&beside).expect(&name);
        assert_eq!(report, expected, "the report about {name}");
        seen += 1;
    }
    assert!(seen >= 24, "only {seen} manifests were found");
}

#[test]
fn a_good_manifest_is_read_in_full() {
    let text = fs::read(folder().join("good.toml")).expect("reading");
    let manifest = Manifest::parse("good.toml", &text).unwrap_or_else(|report| panic!("{report}"));
    assert_eq!(manifest.kernel.flavour, Flavour::Full);
    assert_eq!(manifest.limits.uki, 120 << 20);
    assert_eq!(manifest.files[0].mode, 0o600);
    let Components::Urls { fetch, versions } = &manifest.components else {
        panic!("components from elsewhere: {:?}", manifest.components);
    };
    assert_eq!(fetch.len(), 4);
    assert_eq!(
        fetch[0].member.as_deref(),
        Some("etcd-v3.6.16-linux-amd64/etcd")
    );
    assert_eq!(versions.etcd, "3.6.16");
    let packages: Vec<_> = manifest.packages().collect();
    assert_eq!(
        packages,
        ["linux-image-amd64", "systemd-boot-efi", "grub-common"]
    );
}

#[test]
fn the_manifests_that_are_shipped_are_good_and_locked() {
    use masthead_imagebuild::{lock::Lock, steps::packages};
    let configs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs");
    let path = configs.join("image.toml");
    let manifest = Manifest::load(&path).unwrap_or_else(|error| panic!("{error:#}"));
    let lock = Lock::load(&path.with_extension("lock"))
        .expect("loading the lock")
        .expect("a lock");
    assert_eq!(packages::mismatches(&manifest, &lock), [""; 0]);
}
