//! `disk` and `etcd-disk`.

use masthead_diagnostics::{Shape, Value};

use super::{At, serial_number};
use crate::{DiskKind, DiskMatch, DiskSelector};

const EXAMPLE: &str = "disk = { type = \"nvme\", min = \"100GB\" }";

/// `disk`: a table, or `"memory"`.
pub(crate) fn disk(value: &Value<'_>) -> Option<At<DiskSelector>> {
    let selector = match value.shape()? {
        Shape::String("memory") => DiskSelector::Memory,
        Shape::String(text) => {
            refuse_text(value, text);
            return None;
        }
        Shape::Table => DiskSelector::Match(disk_match(value)?.value),
        _ => {
            value.wrong_type("a table or \"memory\"", EXAMPLE);
            return None;
        }
    };
    Some(At::new(selector, value))
}

/// `etcd-disk`: a table.
pub(crate) fn disk_match(value: &Value<'_>) -> Option<At<DiskMatch>> {
    if let Some(Shape::String(text)) = value.shape() {
        refuse_text(value, text);
        return None;
    }
    let table = value.table()?;
    let kind = table.get("type").map(|value| disk_kind(&value));
    let min_bytes = table.get("min").map(|value| size(&value));
    let serial = table.get("serial").map(|value| serial_number(&value));
    Some(At::new(
        DiskMatch {
            kind: transpose(kind)?,
            min_bytes: transpose(min_bytes)?,
            serial: transpose(serial)?.map(|serial| serial.value),
        },
        value,
    ))
}

/// `None` if the key was there but could not be read.
#[expect(
    clippy::option_option,
    reason = "absent, unreadable and read are three different things"
)]
fn transpose<T>(field: Option<Option<T>>) -> Option<Option<T>> {
    match field {
        None => Some(None),
        Some(None) => None,
        Some(read) => Some(read),
    }
}

fn refuse_text(value: &Value<'_>, text: &str) {
    let path = value.path();
    if text.starts_with("/dev/") {
        value.error(
            format!("`{path}`: a path such as {text:?} can mean another disk after the next boot"),
            "name the disk by what it is: disk = { serial = \"S4EV123\" }",
        );
    } else {
        let example = EXAMPLE.replacen("disk", path.rsplit('.').next().unwrap_or(path), 1);
        value.error(
            format!("`{path}`: {text:?} is not a disk"),
            format!("write {example}"),
        );
    }
}

fn disk_kind(value: &Value<'_>) -> Option<DiskKind> {
    if matches!(
        value.string()?,
        "sata" | "sas" | "ssd" | "hdd" | "usb" | "ata"
    ) {
        value.error(
            format!(
                "`{}`: the kernel shows SATA, SAS and USB disks as SCSI disks",
                value.path()
            ),
            "write type = \"scsi\"",
        );
        return None;
    }
    value.one_of(&DiskKind::ALL.map(|kind| (kind.name(), kind)))
}

fn size(value: &Value<'_>) -> Option<u64> {
    const HELP: &str = "write a whole number and its unit, min = \"100GB\" or min = \"64GiB\"";
    if !matches!(value.shape(), Some(Shape::String(_))) {
        value.wrong_type("a size with its unit", "min = \"100GB\"");
        return None;
    }
    value.parse(parse_size, HELP)
}

/// A whole number with a decimal (`MB`, `GB`, `TB`) or binary (`MiB`, `GiB`, `TiB`) unit, in bytes.
fn parse_size(text: &str) -> Result<u64, String> {
    const UNITS: [(&str, u64); 6] = [
        ("MB", 1_000_000),
        ("GB", 1_000_000_000),
        ("TB", 1_000_000_000_000),
        ("MiB", 1 << 20),
        ("GiB", 1 << 30),
        ("TiB", 1 << 40),
    ];
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let unit = unit.trim_start();
    let number = number
        .parse::<u64>()
        .map_err(|_| format!("{text:?} does not begin with a whole number"))?;
    if number == 0 {
        return Err("a size of 0 asks for nothing".to_owned());
    }
    if unit.starts_with(['.', ',']) {
        return Err(format!("{text:?} is not a whole number of units"));
    }
    if unit.is_empty() {
        return Err(format!("{text:?} has no unit"));
    }
    let (_, factor) = UNITS
        .iter()
        .find(|(name, _)| *name == unit)
        .ok_or_else(|| format!("{unit:?} is no unit; there are MB, GB, TB, MiB, GiB and TiB"))?;
    number
        .checked_mul(*factor)
        .ok_or_else(|| format!("{text:?} is more than any disk holds"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_decimal_and_binary_units() {
        assert_eq!(parse_size("100GB"), Ok(100_000_000_000));
        assert_eq!(parse_size("64 GiB"), Ok(64 << 30));
        assert_eq!(parse_size("2TB"), Ok(2_000_000_000_000));
        for bad in [
            "",
            "100",
            "GB",
            "1.5TB",
            "-1GB",
            "100gb",
            "100G",
            "0GB",
            "99999999999TB",
        ] {
            assert!(parse_size(bad).is_err(), "{bad}");
        }
    }
}
