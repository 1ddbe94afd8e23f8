//! OEM strings of the firmware (SMBIOS type 11), which hypervisors let one set: `masthead.seed.base64=` and the seed in base64.
//!
//! Format: DMTF DSP0134, "System Management BIOS Reference Specification", sections 6.1.2, 6.1.3 and 7.12. The kernel shows the whole table
//! in `/sys/firmware/dmi/tables/DMI` (Documentation/ABI/testing/sysfs-firmware-dmi-tables), with or without a driver for its entries.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// What stands in front of the seed.
pub(super) const PREFIX: &str = "masthead.seed.base64=";

/// Of a structure: type, length, and two bytes of its handle.
const HEADER: usize = 4;
const OEM_STRINGS: u8 = 11;
const END_OF_TABLE: u8 = 127;

/// The seed among the OEM strings of a table, or why what stands for one is none. None where there is no such string.
pub(super) fn seed(table: &[u8]) -> Option<Result<Vec<u8>, String>> {
    let mut strings =
        oem_strings(table).filter_map(|string| string.strip_prefix(PREFIX.as_bytes()));
    let text = strings.next()?;
    let more = strings.count();
    if more > 0 {
        return Some(Err(format!(
            "{} strings begin with {PREFIX}; leave one",
            more + 1
        )));
    }
    // base64(1) breaks its lines, and a file that is handed in whole ends with one.
    let text: Vec<u8> = text
        .iter()
        .copied()
        .filter(|byte| !byte.is_ascii_whitespace())
        .collect();
    Some(STANDARD.decode(text).map_err(|error| {
        format!("what follows {PREFIX} is no base64 ({error}); write what `base64 --wrap=0 seed.toml` gives")
    }))
}

/// The strings of all structures of type 11. A table that is cut off ends where it is.
fn oem_strings(table: &[u8]) -> impl Iterator<Item = &[u8]> {
    structures(table)
        .filter(|(kind, _)| *kind == OEM_STRINGS)
        .flat_map(|(_, strings)| strings.split(|byte| *byte == 0))
        .filter(|string| !string.is_empty())
}

/// Each structure's type, and its strings with the zeros between them.
fn structures(mut table: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    std::iter::from_fn(move || {
        let (&kind, length) = (table.first()?, usize::from(*table.get(1)?));
        if kind == END_OF_TABLE || length < HEADER {
            return None;
        }
        let strings = table.get(length..)?;
        // Two zeros end them, also where there are none.
        let end = strings.windows(2).position(|pair| pair == [0, 0])?;
        table = &strings[end + 2..];
        Some((kind, &strings[..end]))
    })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A structure with bytes behind its header, and with strings.
    fn structure(kind: u8, formatted: &[u8], strings: &[&[u8]]) -> Vec<u8> {
        let length = u8::try_from(HEADER + formatted.len()).expect("short");
        let mut bytes = vec![kind, length, 1, 0];
        bytes.extend(formatted);
        for string in strings {
            bytes.extend(*string);
            bytes.push(0);
        }
        bytes.extend(if strings.is_empty() {
            &[0, 0][..]
        } else {
            &[0]
        });
        bytes
    }

    /// A table with these OEM strings between other structures.
    pub(in crate::seed_source) fn table(strings: &[&[u8]]) -> Vec<u8> {
        let count = u8::try_from(strings.len()).expect("few");
        [
            structure(
                1,
                &[1, 2, 0, 0],
                &[b"QEMU", b"masthead.seed.base64=bm9uZQ=="],
            ),
            structure(32, &[0; 7], &[]),
            structure(OEM_STRINGS, &[count], strings),
            structure(END_OF_TABLE, &[], &[]),
        ]
        .concat()
    }

    #[test]
    fn the_string_with_the_prefix_is_the_seed() {
        assert_eq!(seed(&table(&[b"some vendor's", b"masthead.seed=/a"])), None);
        let given = table(&[b"some vendor's", b"masthead.seed.base64=c2Vl\nZA==\n"]);
        assert_eq!(seed(&given), Some(Ok(b"seed".to_vec())));
        let empty = table(&[PREFIX.as_bytes()]);
        assert_eq!(seed(&empty), Some(Ok(Vec::new())));
    }

    #[test]
    fn what_is_no_base64_and_what_is_there_twice_is_refused() {
        let wrong = seed(&table(&[b"masthead.seed.base64=c2V!ZA=="])).expect("there");
        assert_eq!(
            wrong.expect_err("no base64"),
            "what follows masthead.seed.base64= is no base64 (Invalid symbol 33, offset 3.); write what \
             `base64 --wrap=0 seed.toml` gives"
        );
        let twice = seed(&table(&[
            b"masthead.seed.base64=YQ==",
            b"masthead.seed.base64=Yg==",
        ]));
        assert_eq!(
            twice.expect("there").expect_err("two"),
            "2 strings begin with masthead.seed.base64=; leave one"
        );
    }

    #[test]
    fn a_table_that_is_cut_off_anywhere_is_read_as_far_as_it_goes() {
        let whole = table(&[b"masthead.seed.base64=c2VlZA=="]);
        let end = whole.len() - (HEADER + 2);
        for length in 0..whole.len() {
            let expected = (length >= end).then(|| Ok(b"seed".to_vec()));
            assert_eq!(seed(&whole[..length]), expected, "{length} bytes");
        }
        assert_eq!(
            seed(&[OEM_STRINGS, 0, 0, 0, 0, 0]),
            None,
            "shorter than its header"
        );
    }
}
