//! What a rule looks at, and what it does.

use crate::attributes::Attributes;

/// The register of four words that every expression here reads or writes.
const REGISTER: u32 = 1; // NFT_REG_1
const VERDICT: u32 = 0; // NFT_REG_VERDICT

/// A step of a rule. The rule goes on with the next one, or is left when a comparison fails.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expression(Attributes);

/// What is known of a packet beside its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meta {
    /// The Ethernet type, in network byte order.
    Protocol,
    /// `NFPROTO_IPV4` or `NFPROTO_IPV6`, one byte.
    Family,
    /// The transport protocol, one byte.
    Transport,
    /// The name of the interface it came in by, 16 bytes padded with zeros.
    InputName,
    /// Nanoseconds since 1970 by `CLOCK_REALTIME`, eight bytes in the machine's byte order.
    Time,
}

/// Where a packet's bytes are counted from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Header {
    /// Of Ethernet.
    Link,
    /// Of IP or ARP.
    Network,
    /// Of TCP, UDP or ICMP.
    Transport,
}

/// How the register is compared, byte by byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compare {
    /// It is the same.
    Equal,
    /// It is another one.
    Different,
    /// It is greater.
    Greater,
}

/// What becomes of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is let through.
    Accept,
    /// It is dropped.
    Drop,
    /// The rules of another chain follow, and then those after this one.
    Jump(String),
    /// The rules of another chain follow, and nothing else.
    GoTo(String),
}

impl Expression {
    fn new(name: &str, data: Attributes) -> Self {
        // NFTA_EXPR_NAME, NFTA_EXPR_DATA
        Self(Attributes::default().text(1, name).nested(2, data))
    }

    /// Loads what is known of the packet.
    pub fn meta(meta: Meta) -> Self {
        let key = match meta {
            Meta::Protocol => 1,   // NFT_META_PROTOCOL
            Meta::InputName => 6,  // NFT_META_IIFNAME
            Meta::Family => 15,    // NFT_META_NFPROTO
            Meta::Transport => 16, // NFT_META_L4PROTO
            Meta::Time => 30,      // NFT_META_TIME_NS
        };
        // NFTA_META_DREG, NFTA_META_KEY
        Self::new(
            "meta",
            Attributes::default().number(1, REGISTER).number(2, key),
        )
    }

    /// Loads bytes of the packet.
    pub fn payload(header: Header, offset: u32, length: u32) -> Self {
        let base = match header {
            Header::Link => 0,
            Header::Network => 1,
            Header::Transport => 2,
        };
        // NFTA_PAYLOAD_DREG, _BASE, _OFFSET, _LEN
        let data = Attributes::default()
            .number(1, REGISTER)
            .number(2, base)
            .number(3, offset)
            .number(4, length);
        Self::new("payload", data)
    }

    /// Loads these bytes.
    pub fn constant(bytes: &[u8]) -> Self {
        // NFTA_IMMEDIATE_DREG, _DATA
        let data = Attributes::default()
            .number(1, REGISTER)
            .nested(2, value(bytes));
        Self::new("immediate", data)
    }

    /// Turns eight bytes around, so that they compare as a number.
    pub fn network_order_of_eight() -> Self {
        // NFTA_BYTEORDER_SREG, _DREG, _OP (NFT_BYTEORDER_HTON), _LEN, _SIZE
        let data = Attributes::default()
            .number(1, REGISTER)
            .number(2, REGISTER)
            .number(3, 1)
            .number(4, 8)
            .number(5, 8);
        Self::new("byteorder", data)
    }

    /// Clears the bits that are not in the mask, which is as long as what was loaded.
    pub fn mask(mask: &[u8]) -> Self {
        let length = u32::try_from(mask.len()).expect("a mask is short");
        // NFTA_BITWISE_SREG, _DREG, _LEN, _MASK, _XOR
        let data = Attributes::default()
            .number(1, REGISTER)
            .number(2, REGISTER)
            .number(3, length)
            .nested(4, value(mask))
            .nested(5, value(&vec![0; mask.len()]));
        Self::new("bitwise", data)
    }

    /// Leaves the rule unless what was loaded compares so with these bytes.
    pub fn compare(how: Compare, with: &[u8]) -> Self {
        let operator = match how {
            Compare::Equal => 0,
            Compare::Different => 1,
            Compare::Greater => 4,
        };
        // NFTA_CMP_SREG, _OP, _DATA
        let data = Attributes::default()
            .number(1, REGISTER)
            .number(2, operator)
            .nested(3, value(with));
        Self::new("cmp", data)
    }

    /// Leaves the rule unless what was loaded is in a set; with `inverted`, if it is.
    pub fn lookup(set: &str, inverted: bool) -> Self {
        // NFTA_LOOKUP_SET, _SREG, _FLAGS (NFT_LOOKUP_F_INV)
        let data = Attributes::default()
            .text(1, set)
            .number(2, REGISTER)
            .number(5, u32::from(inverted));
        Self::new("lookup", data)
    }

    /// Ends the rule.
    pub fn verdict(verdict: &Verdict) -> Self {
        let (code, chain) = match verdict {
            Verdict::Drop => (0i32, None),
            Verdict::Accept => (1, None),
            Verdict::Jump(chain) => (-3, Some(chain)),
            Verdict::GoTo(chain) => (-4, Some(chain)),
        };
        // NFTA_VERDICT_CODE, _CHAIN
        let mut inner = Attributes::default().bytes(1, &code.to_be_bytes());
        if let Some(chain) = chain {
            inner = inner.text(2, chain);
        }
        // NFTA_DATA_VERDICT; NFTA_IMMEDIATE_DREG, _DATA
        let data = Attributes::default()
            .number(1, VERDICT)
            .nested(2, Attributes::default().nested(2, inner));
        Self::new("immediate", data)
    }

    pub(crate) fn into_attributes(self) -> Attributes {
        self.0
    }
}

/// NFTA_DATA_VALUE.
pub(crate) fn value(bytes: &[u8]) -> Attributes {
    Attributes::default().bytes(1, bytes)
}
