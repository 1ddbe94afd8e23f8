//! Changes that the kernel makes together or not at all.

use std::time::Duration;

use crate::Expression;
use crate::attributes::Attributes;
use crate::expression::value;

const SUBSYSTEM: u16 = 10 << 8; // NFNL_SUBSYS_NFTABLES
const BATCH_BEGIN: u16 = 16; // NFNL_MSG_BATCH_BEGIN
const BATCH_END: u16 = 17;

// linux/netlink.h
const REQUEST: u16 = 0x1;
const ACKNOWLEDGE: u16 = 0x4;
const CREATE: u16 = 0x400;
const APPEND: u16 = 0x800;

/// Of a netlink message, and of nfnetlink's behind it.
const HEADER: usize = 16;

/// For which packets a table is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4 and IPv6.
    Inet,
    /// All that one device takes in and sends out.
    Device,
}

/// Where a chain hangs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hook {
    /// What a device takes in, before anything else sees it.
    Ingress(String),
    /// What a device sends out, after everything else has seen it.
    Egress(String),
    /// What is for this machine itself.
    Input,
}

/// A chain of rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    /// Its name in its table.
    pub name: String,
    /// Where it hangs; one without a hook is only reached from others.
    pub hook: Option<Hook>,
    /// Whether packets that no rule judges are dropped.
    pub drops: bool,
}

/// A set of keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Set {
    /// Its name in its table.
    pub name: String,
    /// Of a key, in bytes.
    pub length: u32,
    /// Whether its elements have a time, after which the kernel forgets them.
    pub timed: bool,
}

/// Changes to one table.
#[derive(Clone, Debug)]
pub struct Batch {
    family: Family,
    table: String,
    messages: Vec<Vec<u8>>,
}

impl Batch {
    /// Nothing yet.
    pub fn new(family: Family, table: &str) -> Self {
        Self {
            family,
            table: table.to_owned(),
            messages: Vec::new(),
        }
    }

    /// Makes the table, if it is not there.
    pub fn add_table(&mut self) {
        // NFT_MSG_NEWTABLE: NFTA_TABLE_NAME
        let attributes = Attributes::default().text(1, &self.table);
        self.push(0, CREATE, attributes);
    }

    /// Deletes the table, which must be there, with all that is in it.
    pub fn delete_table(&mut self) {
        // NFT_MSG_DELTABLE
        let attributes = Attributes::default().text(1, &self.table);
        self.push(2, 0, attributes);
    }

    /// Makes a chain.
    pub fn add_chain(&mut self, chain: &Chain) {
        // NFT_MSG_NEWCHAIN: NFTA_CHAIN_TABLE, _NAME
        let mut attributes = Attributes::default()
            .text(1, &self.table)
            .text(3, &chain.name);
        if let Some(hook) = &chain.hook {
            // NF_NETDEV_INGRESS, NF_NETDEV_EGRESS, NF_INET_LOCAL_IN
            let (number, device) = match hook {
                Hook::Ingress(device) => (0, Some(device)),
                Hook::Egress(device) => (1, Some(device)),
                Hook::Input => (1, None),
            };
            // NFTA_HOOK_HOOKNUM, _PRIORITY, _DEV
            let mut hook = Attributes::default().number(1, number).number(2, 0);
            if let Some(device) = device {
                hook = hook.text(3, device);
            }
            // NFTA_CHAIN_HOOK, _POLICY (NF_DROP, NF_ACCEPT), _TYPE
            attributes = attributes
                .nested(4, hook)
                .number(5, u32::from(!chain.drops))
                .text(7, "filter");
        }
        self.push(3, CREATE, attributes);
    }

    /// Makes a set. `id` is any number that no other set of the batch has.
    pub fn add_set(&mut self, set: &Set, id: u32) {
        const TIMEOUT: u32 = 0x10; // NFT_SET_TIMEOUT
        // NFT_MSG_NEWSET: NFTA_SET_TABLE, _NAME, _FLAGS, _KEY_TYPE, _KEY_LEN, _ID
        let attributes = Attributes::default()
            .text(1, &self.table)
            .text(2, &set.name)
            .number(3, if set.timed { TIMEOUT } else { 0 })
            .number(4, 0)
            .number(5, set.length)
            .number(10, id);
        self.push(9, CREATE, attributes);
    }

    /// Puts a key into a set, for a time if it is given, unless it is there.
    pub fn add_element(&mut self, set: &str, key: &[u8], time: Option<Duration>) {
        let mut element = Attributes::default().nested(1, value(key));
        if let Some(time) = time {
            // NFTA_SET_ELEM_TIMEOUT, in milliseconds; 0 would be for ever.
            let milliseconds = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
            element = element.long(4, milliseconds.max(1));
        }
        // NFT_MSG_NEWSETELEM
        self.push_element(12, CREATE, set, element);
    }

    /// Takes a key, which must be there, out of a set.
    pub fn delete_element(&mut self, set: &str, key: &[u8]) {
        // NFT_MSG_DELSETELEM
        let element = Attributes::default().nested(1, value(key));
        self.push_element(14, 0, set, element);
    }

    /// Appends a rule to a chain.
    pub fn add_rule(&mut self, chain: &str, expressions: impl IntoIterator<Item = Expression>) {
        // NFTA_LIST_ELEM
        let list = expressions
            .into_iter()
            .fold(Attributes::default(), |list, expression| {
                list.nested(1, expression.into_attributes())
            });
        // NFT_MSG_NEWRULE: NFTA_RULE_TABLE, _CHAIN, _EXPRESSIONS
        let attributes = Attributes::default()
            .text(1, &self.table)
            .text(2, chain)
            .nested(4, list);
        self.push(6, CREATE | APPEND, attributes);
    }

    /// Deletes all rules of a chain.
    pub fn flush_chain(&mut self, chain: &str) {
        // NFT_MSG_DELRULE without a handle
        let attributes = Attributes::default().text(1, &self.table).text(2, chain);
        self.push(8, 0, attributes);
    }

    /// As the kernel takes it; the messages are numbered from `first` on, the begin included.
    pub(crate) fn encode(&self, first: u32) -> Vec<u8> {
        let mark = |kind, number| message(kind, REQUEST, number, 0, SUBSYSTEM >> 8, &[]);
        let mut bytes = mark(BATCH_BEGIN, first);
        let mut number = first;
        for body in &self.messages {
            number = number.wrapping_add(1);
            let mut body = body.clone();
            // The number is behind length, type and flags.
            body[8..12].copy_from_slice(&number.to_ne_bytes());
            bytes.extend(body);
        }
        bytes.extend(mark(BATCH_END, number.wrapping_add(1)));
        bytes
    }

    /// How many changes there are: each is acknowledged.
    pub(crate) fn len(&self) -> usize {
        self.messages.len()
    }

    fn push_element(&mut self, kind: u16, flags: u16, set: &str, element: Attributes) {
        // NFTA_SET_ELEM_LIST_TABLE, _SET, _ELEMENTS of NFTA_LIST_ELEM
        let attributes = Attributes::default()
            .text(1, &self.table)
            .text(2, set)
            .nested(3, Attributes::default().nested(1, element));
        self.push(kind, flags, attributes);
    }

    fn push(&mut self, kind: u16, flags: u16, attributes: Attributes) {
        let family = match self.family {
            Family::Inet => 1,   // NFPROTO_INET
            Family::Device => 5, // NFPROTO_NETDEV
        };
        let flags = REQUEST | ACKNOWLEDGE | flags;
        let body = attributes.into_bytes();
        self.messages
            .push(message(SUBSYSTEM | kind, flags, 0, family, 0, &body));
    }
}

/// A message with nfnetlink's header (struct nlmsghdr, struct nfgenmsg).
fn message(kind: u16, flags: u16, number: u32, family: u8, resource: u16, body: &[u8]) -> Vec<u8> {
    let length = HEADER + 4 + body.len();
    let mut bytes = Vec::with_capacity(length);
    bytes.extend(u32::try_from(length).expect("it is short").to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(flags.to_ne_bytes());
    bytes.extend(number.to_ne_bytes());
    bytes.extend(0u32.to_ne_bytes());
    bytes.extend([family, 0]);
    bytes.extend(resource.to_be_bytes());
    bytes.extend(body);
    bytes
}
