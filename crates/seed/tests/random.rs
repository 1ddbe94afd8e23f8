//! No bytes make the parser panic, and every seed that is generated to be valid is accepted.

use std::net::Ipv4Addr;

use masthead_seed::{OperatorKey, Secret, Seed};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

const FULL: &str = include_str!("../../../configs/seeds/full.toml");

/// Pieces that matter to the parser, to be put where they do harm.
const PIECES: [&str; 22] = [
    "\"",
    "'",
    "\"\"\"",
    "[",
    "]",
    "[[",
    "]]",
    "{",
    "}",
    "=",
    ".",
    ",",
    "#",
    "\n",
    "\r",
    "\u{feff}",
    "\\u001b",
    "masters",
    "masters.m1",
    "mh1-",
    "-1",
    "\u{202e}",
];

/// There is a seed if, and only if, no error is reported; and every report can be printed and shows no secret.
fn check(bytes: &[u8]) {
    let (seed, report) = Seed::check("seed.toml", bytes);
    assert_eq!(seed.is_some(), !report.has_errors(), "{report}");
    let text = report.to_string();
    assert!(!text.contains("UR35iI6VKJc_nFv2OrrqB3pw"), "{text}");
    assert!(
        !text
            .chars()
            .any(|character| character.is_control() && character != '\n'),
        "{text:?}"
    );
    for diagnostic in report.diagnostics() {
        assert!(diagnostic.line >= 1 && diagnostic.column >= 1);
    }
}

#[derive(Debug, Clone)]
enum Edit {
    Delete(Index, usize),
    Insert(Index, &'static str),
    SwapLines(Index, Index),
    Flip(Index, u8),
}

fn edit() -> impl Strategy<Value = Edit> {
    prop_oneof![
        (any::<Index>(), 1..30_usize).prop_map(|(place, length)| Edit::Delete(place, length)),
        (any::<Index>(), proptest::sample::select(PIECES.to_vec()))
            .prop_map(|(place, piece)| Edit::Insert(place, piece)),
        (any::<Index>(), any::<Index>()).prop_map(|(one, other)| Edit::SwapLines(one, other)),
        (any::<Index>(), any::<u8>()).prop_map(|(place, byte)| Edit::Flip(place, byte)),
    ]
}

fn apply(bytes: &mut Vec<u8>, edit: &Edit) {
    if bytes.is_empty() {
        return;
    }
    match edit {
        Edit::Delete(place, length) => {
            let start = place.index(bytes.len());
            let end = bytes.len().min(start + length);
            bytes.drain(start..end);
        }
        Edit::Insert(place, piece) => {
            let at = place.index(bytes.len());
            bytes.splice(at..at, piece.bytes());
        }
        Edit::SwapLines(one, other) => {
            let mut lines: Vec<Vec<u8>> = bytes
                .split(|byte| *byte == b'\n')
                .map(<[u8]>::to_vec)
                .collect();
            let (one, other) = (one.index(lines.len()), other.index(lines.len()));
            lines.swap(one, other);
            *bytes = lines.join(&b'\n');
        }
        Edit::Flip(place, byte) => {
            let at = place.index(bytes.len());
            bytes[at] = *byte;
        }
    }
}

/// A seed that is valid by construction: networks 10.1.0.0 to 10.79.0.0 stay clear of the services.
fn valid_seed() -> impl Strategy<Value = String> {
    let masters = prop_oneof![Just(1_u8), Just(3), Just(5), Just(7), Just(2)];
    let label = "[a-z]([a-z0-9-]{0,20}[a-z0-9])?";
    (label, any::<[u8; 32]>(), vec(any::<[u8; 32]>(), 1..4), masters, 1..80_u8, any::<u8>(), any::<bool>(), 20..25_u8)
        .prop_filter_map("random bytes that look random", |(cluster, random, keys, masters, second, third, vip, prefix)| {
            let secret = Secret::generate(random).ok()?.to_text();
            let admins: Vec<String> = keys.iter().map(|key| format!("\"{}\"", OperatorKey(*key))).collect();
            // Within the first 255 addresses of the prefix, whatever its length.
            let base = u32::from(Ipv4Addr::new(10, second, third, 0)) & (u32::MAX << (32 - prefix));
            let host = |number: u32| Ipv4Addr::from(base + number);
            let endpoint = match (vip, second % 2) {
                (true, 0) => format!("\"{}\"", host(10)),
                (true, _) => format!("[\"{}\", \"{}\"]", host(10), host(11)),
                (false, _) => "\"api.example.net:6443\"".to_owned(),
            };
            let table: Vec<String> = (0..masters)
                .map(|index| {
                    let address = host(20 + u32::from(index));
                    format!("m{index} = {{ mac = \"02:00:00:00:00:{index:02x}\", address = \"{address}\" }}\n")
                })
                .collect();
            Some(format!(
                "version = 1\ncluster = \"{cluster}\"\nsecret = \"{}\"\nadmins = [{}]\nendpoint = {endpoint}\n\
                 network = {{ prefix = {prefix}, gateway = \"{}\" }}\ndisk = {{ min = \"{}GB\" }}\n[masters]\n{}",
                secret.as_str(),
                admins.join(", "),
                host(1),
                u32::from(third) + 1,
                table.concat(),
            ))
        })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_survived(bytes in vec(any::<u8>(), 0..400)) {
        check(&bytes);
    }

    #[test]
    fn any_text_of_telling_pieces_is_survived(
        pieces in vec(prop_oneof![
            proptest::sample::select(PIECES.to_vec()).prop_map(str::to_owned),
            proptest::sample::select(FULL.lines().collect::<Vec<_>>()).prop_map(str::to_owned),
            "[a-z0-9 ]{0,6}",
        ], 0..40),
    ) {
        check(pieces.concat().as_bytes());
    }

    #[test]
    fn any_mutation_of_a_good_seed_is_survived(edits in vec(edit(), 1..6)) {
        let mut bytes = FULL.as_bytes().to_vec();
        for edit in &edits {
            apply(&mut bytes, edit);
        }
        check(&bytes);
    }

    #[test]
    fn a_secret_broken_anywhere_shows_nowhere(place in 0..60_usize, piece in proptest::sample::select(PIECES.to_vec())) {
        let mut bytes = FULL.as_bytes().to_vec();
        let at = FULL.find("mh1-").expect("the example's secret") - 1 + place;
        bytes.splice(at..at, piece.bytes());
        check(&bytes);
    }

    #[test]
    fn valid_seeds_are_accepted(text in valid_seed()) {
        let seed = Seed::parse("seed.toml", text.as_bytes());
        prop_assert!(seed.is_ok(), "{text}\n{}", seed.expect_err("it was refused"));
    }

    #[test]
    fn a_secret_survives_its_text_and_no_typing_error_does(
        random in any::<[u8; 32]>(), place in 0..52_usize, typed in "[A-Za-z0-9_-]",
    ) {
        let Ok(secret) = Secret::generate(random) else { return Ok(()) };
        let text = secret.to_text();
        prop_assert_eq!(text.parse::<Secret>(), Ok(secret));
        let mut mistyped = text.to_string();
        mistyped.replace_range(place..=place, &typed);
        prop_assume!(mistyped != text.as_str());
        prop_assert!(mistyped.parse::<Secret>().is_err());
    }
}
