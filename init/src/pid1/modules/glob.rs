//! The patterns of `modules.alias`, as fnmatch(3) without flags.

/// Whether `text` matches `pattern`: `*` is any string, `?` any character, `[a-f0]` and `[!a-f]`
/// one of, or none of, a set.
pub fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut at, mut position) = (0, 0);
    // Where to go on when what follows the last star does not fit: one character later.
    let mut retry = None;
    loop {
        if pattern.get(at) == Some(&b'*') {
            at += 1;
            retry = Some((at, position));
            continue;
        }
        let step = match text.get(position) {
            None if at == pattern.len() => return true,
            None => return false,
            Some(byte) => one(&pattern[at..], *byte),
        };
        if let Some(length) = step {
            at += length;
            position += 1;
        } else if let Some((after_star, from)) = retry {
            at = after_star;
            position = from + 1;
            retry = Some((after_star, position));
        } else {
            return false;
        }
    }
}

/// How long the first element of the pattern is, if the byte matches it.
fn one(pattern: &[u8], byte: u8) -> Option<usize> {
    match pattern.first()? {
        b'?' => Some(1),
        b'[' => set(pattern, byte),
        first => (*first == byte).then_some(1),
    }
}

/// The same for a set; without an end it is no set but a bracket.
fn set(pattern: &[u8], byte: u8) -> Option<usize> {
    let negated = matches!(pattern.get(1), Some(b'!' | b'^'));
    let start = if negated { 2 } else { 1 };
    // A bracket that comes first is a member.
    let length = pattern
        .get(start + 1..)
        .and_then(|rest| rest.iter().position(|b| *b == b']'));
    let Some(length) = length else {
        return (byte == b'[').then_some(1);
    };
    let end = start + 1 + length;
    let mut members = &pattern[start..end];
    let mut found = false;
    while let Some((first, rest)) = members.split_first() {
        if let [b'-', last, rest @ ..] = rest {
            found |= (*first..=*last).contains(&byte);
            members = rest;
        } else {
            found |= *first == byte;
            members = rest;
        }
    }
    (found != negated).then_some(end + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matches_aliases_as_kernels_have_them() {
        for (pattern, text) in [
            (
                "pci:v00001AF4d*sv*sd*bc*sc*i*",
                "pci:v00001AF4d00001041sv00001AF4sd0000bc02sc00i00",
            ),
            ("virtio:d00000001v*", "virtio:d00000001v00001AF4"),
            ("acpi*:QEMU0002:*", "acpi:QEMU0002:"),
            (
                "usb:v*p*d*dc*dsc*dp*ic08isc0[2-6]ip50in*",
                "usb:v1p2d3dc00dsc00dp00ic08isc06ip50in00",
            ),
            (
                "cpu:type:x86,ven*fam*mod*:feature:*0099*",
                "cpu:type:x86,ven0fam6mod6:feature:,0098,0099,",
            ),
            ("dmi*:svn[Aa]cme:*", "dmi:bvnX:svnAcme:pn"),
            ("*", ""),
            ("a**b", "ab"),
        ] {
            assert!(matches(pattern, text), "{pattern} {text}");
        }
    }

    #[test]
    fn refuses_what_does_not_fit() {
        for (pattern, text) in [
            ("virtio:d00000001v*", "virtio:d00000002v00001AF4"),
            ("usb:ic0[2-6]", "usb:ic07"),
            ("usb:ic0[!2-6]", "usb:ic03"),
            ("acpi*:QEMU0002:*", "acpi:QEMU0002"),
            ("abc", "abcd"),
            ("abcd", "abc"),
            ("*a", "ab"),
            ("?", ""),
        ] {
            assert!(!matches(pattern, text), "{pattern} {text}");
        }
    }

    #[test]
    fn sets_are_as_in_fnmatch() {
        assert!(matches("[]a]", "]") && matches("[]a]", "a") && !matches("[]a]", "b"));
        assert!(matches("[!]a]", "b") && !matches("[!]a]", "]"));
        assert!(matches("[a-", "[a-") && !matches("[a-", "a"));
        assert!(matches("x[a-cx-z]", "xy") && !matches("x[a-cx-z]", "xd"));
    }
}
