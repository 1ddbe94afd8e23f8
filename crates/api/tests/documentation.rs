//! `docs/api.md` says what the code says.

use std::collections::BTreeSet;
use std::path::Path;

use masthead_api::{ErrorCode, ReasonCode, routes};

fn document() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/api.md");
    std::fs::read_to_string(path).expect("docs/api.md can be read")
}

/// The rows of the table below `heading`, each split into its cells.
fn table(document: &str, heading: &str) -> Vec<Vec<String>> {
    let section = document
        .split_once(&format!("\n## {heading}\n"))
        .expect("the heading")
        .1;
    let section = section
        .split_once("\n## ")
        .map_or(section, |(section, _)| section);
    section
        .lines()
        .filter(|line| line.starts_with('|'))
        .skip(2)
        .map(|line| {
            line.trim_matches('|')
                .split(" | ")
                .map(|cell| cell.trim().to_owned())
                .collect()
        })
        .collect()
}

#[test]
fn every_reason_code_is_documented_with_its_texts() {
    let expected: Vec<Vec<String>> = ReasonCode::ALL
        .iter()
        .map(|code| {
            vec![
                format!("`{code}`"),
                code.cause().into(),
                code.remedy().into(),
            ]
        })
        .collect();
    let lines: Vec<String> = expected
        .iter()
        .map(|cells| format!("| {} |", cells.join(" | ")))
        .collect();
    assert_eq!(
        table(&document(), "Reason codes"),
        expected,
        "docs/api.md must hold these rows:\n{}",
        lines.join("\n")
    );
}

#[test]
fn every_error_code_is_documented_with_its_http_status() {
    let expected: BTreeSet<(String, String)> = ErrorCode::ALL
        .iter()
        .map(|code| (format!("`{code}`"), code.http_status().to_string()))
        .collect();
    let documented: BTreeSet<(String, String)> = table(&document(), "Errors")
        .into_iter()
        .map(|cells| (cells[0].clone(), cells[1].clone()))
        .collect();
    assert_eq!(documented, expected);
}

#[test]
fn every_route_is_documented() {
    let routes = [
        routes::STATUS,
        routes::LOGS,
        routes::KUBECONFIG,
        routes::REBOOT,
        routes::POWEROFF,
        routes::UNLOCK,
        routes::LOGIN_CHALLENGE,
        routes::LOGIN,
        routes::METRICS,
    ];
    let documented = table(&document(), "Routes");
    for route in routes {
        assert!(
            documented.iter().any(|cells| cells[0].contains(route)),
            "{route}"
        );
    }
}

#[test]
fn codes_are_kebab_case_and_texts_are_sentences() {
    for code in ReasonCode::ALL {
        assert!(
            code.as_str()
                .chars()
                .all(|c| c.is_ascii_lowercase() || c == '-'),
            "{code} is not kebab-case"
        );
        for text in [code.cause(), code.remedy()] {
            assert!(
                text.ends_with('.') && !text.contains('|'),
                "{code}: {text:?}"
            );
        }
        assert_eq!(&ReasonCode::from(code.as_str()), code);
    }
}
