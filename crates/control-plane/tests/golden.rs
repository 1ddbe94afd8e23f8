//! Command lines and documents as they are, to be read and compared between releases. After an intended change:
//! `UPDATE_GOLDEN=1 cargo test -p masthead-control-plane --test golden`, and read the difference.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::fmt::Write as _;
use std::path::Path;

use masthead_control_plane::ControlPlane;
use support::{planned, seed};

/// Documents that hold no secret.
const DOCUMENTS: [&str; 5] = [
    "authentication.json",
    "authorization.json",
    "kubeconfig.json",
    "configuration.json",
    "admission.json",
];

fn render(plan: &ControlPlane) -> String {
    let mut text = String::new();
    for service in &plan.services {
        writeln!(text, "# {}", service.program.display()).unwrap();
        for argument in &service.arguments {
            writeln!(text, "{argument}").unwrap();
        }
        writeln!(text, "# readiness: {:?}", service.readiness).unwrap();
        writeln!(text, "# liveness: {:?}\n", service.liveness).unwrap();
    }
    for directory in &plan.directories {
        let owner = directory.owner.map_or("root", |owner| owner.name());
        writeln!(
            text,
            "{:o} {owner} {}/",
            directory.mode,
            directory.path.display()
        )
        .unwrap();
    }
    for file in &plan.files {
        let owner = file.owner.map_or("root", |owner| owner.name());
        let once = if file.read_once { " (read once)" } else { "" };
        writeln!(
            text,
            "{:o} {owner} {}{once}",
            file.mode,
            file.path.display()
        )
        .unwrap();
    }
    for file in &plan.files {
        let name = file.path.file_name().unwrap().to_str().unwrap();
        if DOCUMENTS.contains(&name) {
            let contents = file.contents.text().unwrap();
            write!(text, "\n# {}\n{contents}", file.path.display()).unwrap();
        }
    }
    text
}

/// Compares with `tests/golden/NAME.txt`, or writes that.
fn is_what_it_was(name: &str, now: &str) {
    let golden = format!("{}/tests/golden/{name}.txt", env!("CARGO_MANIFEST_DIR"));
    let golden = Path::new(&golden);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(golden, now).unwrap();
        return;
    }
    let expected = std::fs::read_to_string(golden).unwrap();
    let first = now
        .lines()
        .zip(expected.lines())
        .find(|(now, before)| now != before);
    assert!(
        now == expected,
        "{name}: the first difference is {first:#?}"
    );
}

#[test]
fn plans_are_what_they_were() {
    for name in ["single", "three-masters", "full", "ipv6"] {
        is_what_it_was(name, &render(&planned(&seed(name), |_| {})));
    }
}

/// Order, probes, back-off and graces: no seed changes them.
#[test]
fn policies_are_what_they_were() {
    let plan = planned(&seed("single"), |_| {});
    let policies = plan.services.iter();
    let policies = policies.map(|service| format!("# {}\n{:#?}\n", service.name(), service.policy));
    is_what_it_was("policies", &policies.collect::<String>());
}
