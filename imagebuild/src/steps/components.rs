//! etcd and Kubernetes: compiled here, taken from a folder, or fetched.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};

use super::Build;
use crate::cache::Made;
use crate::digest::{Digest, Inputs};
use crate::fetch::Fetcher;
use crate::files;
use crate::manifest::{Components as Source, Fetch, OPTIONAL_PROGRAMS, PROGRAMS, Versions};
use crate::process;
use crate::progress::megabytes;

/// The one file that is all programs, when they are built here.
pub const MULTICALL: &str = "masthead-components";

/// Programs in a folder, and what they are.
pub struct Components {
    /// The folder: one file per program, or one file and links.
    pub made: Made,
    /// Their versions.
    pub versions: Versions,
}

/// The step.
pub fn provide(build: &Build<'_>) -> Result<Components> {
    match &build.manifest.components {
        Source::Build { path } => compile(build, path),
        Source::Directory { path, versions } => {
            let line = build.progress.line("components");
            let inputs = Inputs::of_step("components", 1)
                .digest("directory", build.cache.memory().tree(path)?);
            let made = build
                .cache
                .step("components", inputs, line, |folder, line| {
                    line.doing("copying");
                    take(path, folder)
                })?;
            Ok(Components {
                made,
                versions: versions.clone(),
            })
        }
        Source::Urls { fetch, versions } => {
            let line = build.progress.line("components");
            let inputs = Inputs::of_step("components", 1).value("urls", fetch);
            let made = build
                .cache
                .step("components", inputs, line, |folder, line| {
                    let fetcher = Fetcher::new();
                    for one in fetch {
                        line.doing(&format!("fetching {}", one.name));
                        obtain(&fetcher, one, folder)?;
                    }
                    Ok(format!("{} programs", fetch.len()))
                })?;
            Ok(Components {
                made,
                versions: versions.clone(),
            })
        }
    }
}

/// Copies the programs that a folder has.
fn take(source: &Path, folder: &Path) -> Result<String> {
    let there = |name: &&&str| source.join(name).is_file();
    let missing: Vec<_> = PROGRAMS
        .iter()
        .filter(|name| !there(name))
        .copied()
        .collect();
    ensure!(
        missing.is_empty(),
        "{} has no {}",
        source.display(),
        missing.join(", ")
    );
    let taken: Vec<_> = PROGRAMS
        .iter()
        .chain(OPTIONAL_PROGRAMS)
        .filter(there)
        .collect();
    for name in &taken {
        files::copy(&source.join(name), folder, name, 0o755)?;
    }
    Ok(format!("{} programs", taken.len()))
}

/// Fetches one program, or the archive that holds it.
fn obtain(fetcher: &Fetcher, fetch: &Fetch, folder: &Path) -> Result<()> {
    let scratch = tempfile::NamedTempFile::new_in(folder).context("creating a file")?;
    fetcher.fetch(&fetch.url, fetch.sha256, scratch.path())?;
    let program = match &fetch.member {
        None => scratch.path().to_owned(),
        Some(member) => {
            let unpacked = folder.join(format!(".{}", fetch.name));
            let file = fs::File::create(&unpacked)
                .with_context(|| format!("creating {}", unpacked.display()))?;
            let status = Command::new("tar")
                .args(["--extract", "--to-stdout", "--file"])
                .arg(scratch.path())
                .arg(member)
                .stdout(file)
                .stderr(std::process::Stdio::null())
                .status()
                .context("starting tar")?;
            ensure!(
                status.success(),
                "{} from {} holds no {member}",
                fetch.name,
                fetch.url
            );
            unpacked
        }
    };
    files::copy(&program, folder, &fetch.name, 0o755)?;
    if program != scratch.path() {
        fs::remove_file(&program).with_context(|| format!("removing {}", program.display()))?;
    }
    Ok(())
}

/// Compiles the Go module.
fn compile(build: &Build<'_>, module: &Path) -> Result<Components> {
    let line = build.progress.line("components");
    let versions = pinned(module)?;
    let stamps = stamps(&versions, build.time)?;
    let go = process::output(
        Command::new("go")
            .arg("version")
            .env("GOTOOLCHAIN", "local"),
    )?;
    let inputs = Inputs::of_step("components", 1)
        .text("go", &go)
        .text("stamps", &stamps)
        .digest("module", build.cache.memory().tree(module)?);
    let made = build
        .cache
        .step("components", inputs, line, |folder, line| {
            line.doing("compiling (minutes the first time)");
            let binary =
                std::path::absolute(folder.join(MULTICALL)).context("naming the program")?;
            process::run(
                Command::new("go")
                    .current_dir(module)
                    .args(["build", "-mod=readonly", "-trimpath", "-buildvcs=false"])
                    .arg(format!("-ldflags=-s -w {stamps}"))
                    .arg("-o")
                    .arg(&binary)
                    .arg(".")
                    // Only these decide what comes out, whatever the caller's environment says.
                    .env("CGO_ENABLED", "0")
                    .env("GOOS", "linux")
                    .env("GOARCH", "amd64")
                    .env("GOAMD64", "v1")
                    .env("GOFLAGS", "")
                    .env("GOEXPERIMENT", "")
                    .env("GOTOOLCHAIN", "local")
                    .env("GOWORK", "off"),
            )?;
            for name in PROGRAMS.iter().chain(OPTIONAL_PROGRAMS) {
                files::link(MULTICALL, folder, name)?;
            }
            let size = fs::metadata(&binary)
                .context("looking at the program")?
                .len();
            Ok(format!(
                "Kubernetes {}, etcd {}, {}",
                versions.kubernetes,
                versions.etcd,
                megabytes(size)
            ))
        })?;
    Ok(Components { made, versions })
}

/// The versions that the module's go.mod requires.
fn pinned(module: &Path) -> Result<Versions> {
    let path = module.join("go.mod");
    let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    let required = requirements(&text);
    let version = |name: &str| {
        required
            .get(name)
            .with_context(|| format!("{} requires no {name}", path.display()))
    };
    Ok(Versions {
        kubernetes: (*version("k8s.io/kubernetes")?).to_owned(),
        etcd: version("go.etcd.io/etcd/server/v3")?
            .trim_start_matches('v')
            .to_owned(),
    })
}

/// Module and version of every `require` of a go.mod.
pub fn requirements(go_mod: &str) -> BTreeMap<&str, &str> {
    let mut required = BTreeMap::new();
    let mut within = false;
    for line in go_mod.lines() {
        let line = line.trim();
        let entry = match line.strip_prefix("require") {
            Some(rest) if rest.trim() == "(" => {
                within = true;
                continue;
            }
            Some(rest) => rest,
            None if line == ")" => {
                within = false;
                continue;
            }
            None if within => line,
            None => continue,
        };
        let mut words = entry.split_whitespace();
        if let (Some(module), Some(version)) = (words.next(), words.next()) {
            required.insert(module, version);
        }
    }
    required
}

/// The linker's `-X` flags by which Kubernetes and etcd know what they are.
///
/// The source is the published module, not a checkout: there is no commit to name, and the state
/// of the tree is what Kubernetes' own build scripts call that of an archive.
fn stamps(versions: &Versions, time: u64) -> Result<String> {
    let version = &versions.kubernetes;
    let mut numbers = version.trim_start_matches('v').split('.');
    let (Some(major), Some(minor)) = (numbers.next(), numbers.next()) else {
        bail!("{version} is no version of Kubernetes");
    };
    let date = super::rfc3339(time)?;
    let mut flags = Vec::new();
    for package in [
        "k8s.io/component-base/version",
        "k8s.io/client-go/pkg/version",
    ] {
        for (name, value) in [
            ("gitVersion", version.as_str()),
            ("gitMajor", major),
            ("gitMinor", minor),
            ("gitCommit", "unknown"),
            ("gitTreeState", "archive"),
            ("buildDate", &date),
        ] {
            flags.push(format!("-X {package}.{name}={value}"));
        }
    }
    Ok(flags.join(" "))
}

/// The digest by which a component's file is named in the bill of materials.
pub fn digest_of(build: &Build<'_>, components: &Components, program: &str) -> Result<Digest> {
    build
        .cache
        .memory()
        .file(&components.made.path.join(program))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fetch::tests::serve;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn requirements_are_read_in_both_forms() {
        let text = "module m\n\nrequire a.example/one v1.2.3\n\nrequire (\n\tb.example/two v0.1.0\n\t\
                    c.example/three v3.0.0 // indirect\n)\n\nreplace (\n\td.example => ../d\n)\n";
        let required = requirements(text);
        assert_eq!(required.len(), 3);
        assert_eq!(required["a.example/one"], "v1.2.3");
        assert_eq!(required["c.example/three"], "v3.0.0");
    }

    #[test]
    fn stamps_hold_the_version_twice() {
        let versions = Versions {
            kubernetes: "v1.36.3".to_owned(),
            etcd: "3.6.16".to_owned(),
        };
        let stamps = stamps(&versions, 0).expect("stamps");
        assert_eq!(stamps.matches("gitVersion=v1.36.3").count(), 2);
        assert!(stamps.contains("k8s.io/client-go/pkg/version.gitMinor=36"));
        assert!(stamps.contains("buildDate=1970-01-01T00:00:00Z"));
    }

    #[test]
    fn a_folder_must_have_what_a_node_needs() {
        let scratch = tempfile::tempdir().expect("a folder for the test");
        let (source, target) = (scratch.path().join("source"), scratch.path().join("target"));
        for folder in [&source, &target] {
            fs::create_dir(folder).expect("creating");
        }
        for name in [
            "etcd",
            "kube-apiserver",
            "kube-scheduler",
            "etcdctl",
            "unrelated",
        ] {
            files::put(&source, name, 0o644, name.as_bytes()).expect("writing");
        }
        let error = take(&source, &target).expect_err("one is missing");
        assert!(
            error
                .to_string()
                .ends_with("has no kube-controller-manager"),
            "{error}"
        );
        files::put(&source, "kube-controller-manager", 0o644, b"").expect("writing");
        assert_eq!(take(&source, &target).expect("all are there"), "5 programs");
        assert!(!target.join("unrelated").exists());
        let mode = fs::metadata(target.join("etcd"))
            .expect("looking")
            .permissions();
        assert_eq!(mode.mode() & 0o777, 0o755);
    }

    #[test]
    fn a_program_is_taken_out_of_an_archive() {
        let scratch = tempfile::tempdir().expect("a folder for the test");
        files::put(scratch.path(), "release/etcd", 0o755, b"the program").expect("writing");
        let archive = scratch.path().join("release.tar.gz");
        process::run(
            Command::new("tar")
                .args(["--create", "--gzip", "--directory"])
                .arg(scratch.path())
                .arg("--file")
                .arg(&archive)
                .arg("release"),
        )
        .expect("packing");
        let archive = fs::read(archive).expect("reading");
        let target = scratch.path().join("target");
        fs::create_dir(&target).expect("creating");
        let mut fetch = Fetch {
            name: "etcd".to_owned(),
            url: serve("200 OK", archive.clone()),
            sha256: Digest::of(&archive),
            member: Some("release/etcd".to_owned()),
        };
        obtain(&Fetcher::new(), &fetch, &target).expect("fetching");
        assert_eq!(
            fs::read(target.join("etcd")).expect("reading"),
            b"the program"
        );
        assert_eq!(fs::read_dir(&target).expect("listing").count(), 1);
        fetch.url = serve("200 OK", archive);
        fetch.member = Some("release/etcdctl".to_owned());
        let error = obtain(&Fetcher::new(), &fetch, &target).expect_err("no such member");
        assert!(
            error.to_string().contains("holds no release/etcdctl"),
            "{error}"
        );
    }
}
