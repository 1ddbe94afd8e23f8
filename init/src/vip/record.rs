//! The key of an address as etcd keeps it: JSON, with times in milliseconds.

use std::time::Duration;

use masthead_api::hex;
use masthead_vip::{Free, Held, Identity, Nonce, Record, Terms};
use serde::{Deserialize, Serialize};

/// Of what this release writes; it leaves every other one alone.
const FORMAT: u32 = 1;

#[derive(Serialize, Deserialize)]
struct Kept {
    format: u32,
    /// 16 hexadecimal digits.
    nonce: String,
    epoch: u64,
    #[serde(flatten)]
    state: State,
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
enum State {
    Held {
        owner: String,
        instance: String,
        hold: u64,
        gap: u64,
    },
    Free {
        heir: Option<String>,
        reserved: u64,
    },
}

/// The value for etcd; none for what this release does not understand.
pub fn encode(record: &Record) -> Option<Vec<u8>> {
    let (nonce, epoch, state) = match record {
        Record::Held(held) => (
            held.nonce,
            held.epoch,
            State::Held {
                owner: held.by.node.clone(),
                instance: held.by.instance.clone(),
                hold: milliseconds(held.terms.hold),
                gap: milliseconds(held.terms.gap),
            },
        ),
        Record::Free(free) => (
            free.nonce,
            free.epoch,
            State::Free {
                heir: free.heir.clone(),
                reserved: milliseconds(free.reserved),
            },
        ),
        Record::Unknown => return None,
    };
    let kept = Kept {
        format: FORMAT,
        nonce: hex::encode(&nonce.0.to_be_bytes()),
        epoch,
        state,
    };
    serde_json::to_vec(&kept).ok()
}

/// What a value of etcd's says.
pub fn decode(value: &[u8]) -> Record {
    let kept: Option<Kept> = serde_json::from_slice(value).ok();
    let known = kept.filter(|kept| kept.format == FORMAT);
    known.and_then(understood).unwrap_or(Record::Unknown)
}

fn understood(kept: Kept) -> Option<Record> {
    let nonce = hex::decode(&kept.nonce)?.try_into().ok()?;
    let nonce = Nonce(u64::from_be_bytes(nonce));
    let epoch = kept.epoch;
    Some(match kept.state {
        State::Held {
            owner,
            instance,
            hold,
            gap,
        } => Record::Held(Held {
            by: Identity {
                node: owner,
                instance,
            },
            nonce,
            epoch,
            terms: Terms {
                hold: Duration::from_millis(hold),
                gap: Duration::from_millis(gap),
            },
        }),
        State::Free { heir, reserved } => Record::Free(Free {
            nonce,
            epoch,
            heir,
            reserved: Duration::from_millis(reserved),
        }),
    })
}

/// Rounded up: others wait for no less than the owner counts on.
fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_micros().div_ceil(1000)).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held() -> Record {
        Record::Held(Held {
            by: Identity {
                node: "m1".to_owned(),
                instance: "b".to_owned(),
            },
            nonce: Nonce(0x0a0b),
            epoch: 3,
            terms: Terms {
                hold: Duration::from_millis(250),
                gap: Duration::from_millis(150),
            },
        })
    }

    #[test]
    fn a_record_is_kept_as_people_can_read_it() {
        let text = r#"{"format":1,"nonce":"0000000000000a0b","epoch":3,"state":"held","owner":"m1","instance":"b","hold":250,"gap":150}"#;
        assert_eq!(encode(&held()).unwrap(), text.as_bytes());
        assert_eq!(decode(text.as_bytes()), held());
        let free = Record::Free(Free {
            nonce: Nonce(1),
            epoch: 3,
            heir: None,
            reserved: Duration::from_millis(400),
        });
        assert_eq!(decode(&encode(&free).unwrap()), free);
        assert_eq!(milliseconds(Duration::from_micros(342_001)), 343);
    }

    #[test]
    fn what_is_not_understood_is_left_alone() {
        assert_eq!(encode(&Record::Unknown), None);
        let text = String::from_utf8(encode(&held()).unwrap()).unwrap();
        for other in [
            text.replace("\"format\":1", "\"format\":2"),
            text.replace("held", "shared"),
            text.replace("0a0b", "0a0"),
            "{}".to_owned(),
        ] {
            assert_eq!(decode(other.as_bytes()), Record::Unknown, "{other}");
        }
    }
}
