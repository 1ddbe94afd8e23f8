//! Netlink attributes (netlink(7)): length, type, value, padded to four bytes.

/// Set in the type of an attribute that holds attributes.
const NESTED: u16 = 1 << 15;

const ALIGNMENT: usize = 4;

/// Attributes in a row.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Attributes(Vec<u8>);

impl Attributes {
    pub(crate) fn bytes(mut self, kind: u16, value: &[u8]) -> Self {
        self.push(kind, value);
        self
    }

    /// A string with its zero.
    pub(crate) fn text(self, kind: u16, text: &str) -> Self {
        let mut value = text.as_bytes().to_vec();
        value.push(0);
        self.bytes(kind, &value)
    }

    pub(crate) fn number(self, kind: u16, number: u32) -> Self {
        self.bytes(kind, &number.to_be_bytes())
    }

    pub(crate) fn long(self, kind: u16, number: u64) -> Self {
        self.bytes(kind, &number.to_be_bytes())
    }

    pub(crate) fn nested(self, kind: u16, inner: Self) -> Self {
        self.bytes(kind | NESTED, &inner.0)
    }

    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    fn push(&mut self, kind: u16, value: &[u8]) {
        let length = u16::try_from(value.len() + 4).expect("an attribute is short");
        self.0.extend(length.to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
        self.0.extend(value);
        self.0.resize(self.0.len().next_multiple_of(ALIGNMENT), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_padded_and_their_length_is_not() {
        let inner = Attributes::default().text(1, "ab");
        let bytes = Attributes::default()
            .number(2, 7)
            .nested(3, inner)
            .into_bytes();
        let [length, kind] = [11u16.to_ne_bytes(), (3 | NESTED).to_ne_bytes()];
        assert_eq!(bytes.len(), 8 + 4 + 8);
        assert_eq!(bytes[4..8], [0, 0, 0, 7]);
        assert_eq!(bytes[8..12], [12u16.to_ne_bytes(), kind].concat());
        assert_eq!(bytes[12..14], 7u16.to_ne_bytes());
        assert_eq!(bytes[16..20], *b"ab\0\0");
        assert_ne!(bytes[8..10], length);
    }
}
