//! Durations as people write and read them.

use std::fmt::Write as _;
use std::time::Duration;

const UNITS: [(char, u64); 4] = [('d', 86_400), ('h', 3600), ('m', 60), ('s', 1)];

/// Reads `90s`, `15m`, `8h`, `7d` or several in a row, `1h30m`.
pub(crate) fn parse(text: &str) -> Result<Duration, String> {
    let wrong = || "write it like 90s, 15m, 8h, 7d or 1h30m".to_owned();
    let mut rest = text;
    let mut seconds = 0u64;
    if rest.is_empty() {
        return Err(wrong());
    }
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
        let number: u64 = rest[..end].parse().map_err(|_| wrong())?;
        let unit = rest[end..].chars().next().ok_or_else(wrong)?;
        let (_, factor) = UNITS
            .iter()
            .find(|(name, _)| *name == unit)
            .ok_or_else(wrong)?;
        seconds = number
            .checked_mul(*factor)
            .and_then(|more| seconds.checked_add(more))
            .ok_or_else(wrong)?;
        rest = &rest[end + 1..];
    }
    Ok(Duration::from_secs(seconds))
}

/// Writes the two largest units: `2d3h`, `4m10s`, `7s`.
pub(crate) fn format(seconds: i64) -> String {
    let Ok(mut left) = u64::try_from(seconds) else {
        return "0s".to_owned();
    };
    let Some(first) = UNITS.iter().position(|(_, factor)| left >= *factor) else {
        return "0s".to_owned();
    };
    let mut text = String::new();
    for (unit, factor) in UNITS.iter().skip(first).take(2) {
        let number = left / factor;
        left %= factor;
        if number > 0 {
            let _ = write!(text, "{number}{unit}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read() {
        assert_eq!(parse("8h"), Ok(Duration::from_secs(28_800)));
        assert_eq!(parse("1d2h3m4s"), Ok(Duration::from_secs(93_784)));
        for wrong in [
            "",
            "8",
            "h",
            "8x",
            "-1h",
            "1.5h",
            "99999999999999999999d",
            "300000000000000d",
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn durations_are_written_short() {
        for (seconds, text) in [
            (-5, "0s"),
            (0, "0s"),
            (7, "7s"),
            (250, "4m10s"),
            (3600, "1h"),
            (3661, "1h1m"),
            (183_600, "2d3h"),
        ] {
            assert_eq!(format(seconds), text);
        }
    }
}
