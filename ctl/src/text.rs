//! Foreign text for terminals.

/// Text of a node without the control characters that could steer a terminal; line ends and tabs stay.
pub(crate) fn harmless(text: &str) -> String {
    text.chars()
        .map(|c| {
            if c.is_control() && !matches!(c, '\n' | '\t') {
                '\u{fffd}'
            } else {
                c
            }
        })
        .collect()
}

/// A table's cell: one line without control characters.
pub(crate) fn cell(text: &str) -> String {
    harmless(text).replace(['\n', '\t'], " ")
}

/// Bytes with units of 1024, three digits or so: `512B`, `1.5KiB`, `20GiB`.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let mut unit = 0;
    let mut tenths = u128::from(bytes) * 10;
    while tenths >= 10_240 && unit + 1 < UNITS.len() {
        tenths /= 1024;
        unit += 1;
    }
    if tenths < 100 && tenths % 10 != 0 {
        return format!("{}.{}{}", tenths / 10, tenths % 10, UNITS[unit]);
    }
    format!("{}{}", tenths / 10, UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_short() {
        for (bytes, text) in [
            (0, "0B"),
            (1023, "1023B"),
            (1024, "1KiB"),
            (1536, "1.5KiB"),
            (20 << 30, "20GiB"),
            (u64::MAX, "16383PiB"),
        ] {
            assert_eq!(size(bytes), text);
        }
    }

    #[test]
    fn a_node_cannot_steer_the_terminal() {
        assert_eq!(harmless("a\x1b[2J\tb\n\r"), "a\u{fffd}[2J\tb\n\u{fffd}");
    }
}
