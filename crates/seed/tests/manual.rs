//! Every TOML block of `docs/seed.md` is accepted: whole, or put into the page's whole seed.
//!
//! A block's language says what it is: `toml` a whole seed; `toml-top` keys at the top, `toml-masters` and
//! `toml-kubernetes` that table, each in place of what the whole seed has; `toml-single` keys at the top of a seed with one master.

use masthead_seed::Seed;

const MANUAL: &str = include_str!("../../../docs/seed.md");

fn blocks() -> Vec<(&'static str, &'static str)> {
    MANUAL
        .split("```toml")
        .skip(1)
        .map(|rest| {
            let (kind, rest) = rest
                .split_once('\n')
                .expect("a line of the block's language");
            let (block, _) = rest.split_once("\n```").expect("the block's end");
            (kind, block)
        })
        .collect()
}

/// The parts of the whole seed: top, masters, Kubernetes.
fn parts(whole: &str) -> [&str; 3] {
    let (top, rest) = whole.split_once("[masters]").expect("masters");
    let at = rest.find("[kubernetes]").expect("kubernetes");
    [top, &rest[..at], &rest[at..]]
}

/// The top without the keys that the block has.
fn top_without(top: &str, block: &str) -> String {
    let key = |line: &str| line.split_once('=').map(|(key, _)| key.trim().to_owned());
    let given: Vec<_> = block
        .lines()
        .filter(|line| !line.starts_with(' '))
        .filter_map(key)
        .collect();
    let kept = top
        .lines()
        .filter(|line| key(line).is_none_or(|key| !given.contains(&key)));
    kept.flat_map(|line| [line, "\n"]).collect()
}

#[test]
fn every_block_of_the_manual_is_accepted() {
    let blocks = blocks();
    assert!(
        blocks.len() >= 11,
        "only {} blocks were found",
        blocks.len()
    );
    let (kind, whole) = blocks[0];
    assert_eq!(kind, "", "the first block is a whole seed");
    let [top, masters, kubernetes] = parts(whole);
    for (kind, block) in &blocks {
        let replaces_top = matches!(*kind, "-top" | "-single");
        let top = if replaces_top {
            top_without(top, block)
        } else {
            top.to_owned()
        };
        let text = match *kind {
            "" => (*block).to_owned(),
            "-top" => format!("{top}{block}\n[masters]{masters}{kubernetes}"),
            "-masters" => format!("{top}{block}\n{kubernetes}"),
            "-kubernetes" => format!("{top}[masters]{masters}{block}"),
            "-single" => {
                let one = masters.lines().nth(1).expect("the first master");
                format!("{top}{block}\n[masters]\n{one}\n")
            }
            other => panic!("unknown kind of block: toml{other}"),
        };
        if let Err(report) = Seed::parse("docs/seed.md", text.as_bytes()) {
            panic!("{block}\nis refused, put together as\n{text}\n{report}");
        }
    }
}
