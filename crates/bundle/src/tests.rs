//! A bundle is read back, and nothing else is.

use std::io::{self, Cursor, Read as _};
use std::sync::LazyLock;

use proptest::prelude::*;
use ring::signature::{Ed25519KeyPair, KeyPair as _};

use super::*;

fn key(seed: u8) -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).expect("a key")
}

fn public(key: &Ed25519KeyPair) -> PublicKey {
    key.public_key().as_ref().try_into().expect("32 bytes")
}

/// Two blocks and a half.
fn image() -> Vec<u8> {
    let part: Vec<u8> = (0..1_u32 << 10)
        .map(|number| (number % 251) as u8)
        .collect();
    part.repeat(5 << 9)
}

fn signed_by(key: &Ed25519KeyPair, image: &[u8]) -> Vec<u8> {
    let writer = Writer {
        version: "0.2.0".to_owned(),
        image: "0d7b1c2e-0000-4000-8000-000000000001".to_owned(),
        kubernetes: "v1.36.3".to_owned(),
        etcd: "3.6.16".to_owned(),
    };
    let mut bundle = Vec::new();
    let sign = |head: &[u8]| Ok(key.sign(head).as_ref().to_vec());
    writer
        .write(&mut Cursor::new(image), &mut bundle, sign)
        .expect("written");
    bundle
}

/// A bundle with another header, signed.
fn with_header(change: impl FnOnce(&mut serde_json::Value)) -> Vec<u8> {
    let bundle = signed_by(&key(1), &image());
    let length = u32::from_le_bytes(bundle[16..20].try_into().expect("four")) as usize;
    let mut header = serde_json::from_slice(&bundle[20..20 + length]).expect("JSON");
    change(&mut header);
    let text = serde_json::to_vec(&header).expect("JSON");
    let length_now = u32::try_from(text.len()).expect("small").to_le_bytes();
    let head = [BEGIN.as_slice(), &length_now, &text].concat();
    let signature = key(1).sign(&head);
    [
        &head,
        signature.as_ref(),
        &bundle[20 + length + SIGNATURE..],
    ]
    .concat()
}

/// The image, or why it is refused; and how much of it was given before that.
fn read(bundle: &[u8]) -> (Result<Header, String>, Vec<u8>) {
    let mut given = Vec::new();
    let mut reader = match Reader::open(bundle, &[public(&key(7)), public(&key(1))]) {
        Ok(reader) => reader,
        Err(error) => return (Err(error.to_string()), given),
    };
    let outcome = match reader.read_to_end(&mut given) {
        Ok(_) => Ok(reader.header().clone()),
        Err(error) => Err(error.to_string()),
    };
    (outcome, given)
}

#[test]
fn a_bundle_gives_its_image_to_who_trusts_its_key() {
    let (header, given) = read(&signed_by(&key(1), &image()));
    let header = header.expect("a bundle");
    assert!(given == image());
    assert_eq!((header.size, header.blocks.len()), (5 << 19, 3));
    assert_eq!(header.version, "0.2.0");
    let (other, given) = read(&signed_by(&key(2), &image()));
    let other = other.expect_err("of another key");
    assert!(given.is_empty());
    assert_eq!(
        other,
        "the bundle is not signed by any of the keys that this master trusts"
    );
    let bundle = signed_by(&key(1), &image());
    let said = Unverified::read(&mut &*bundle).expect("whoever has signed it");
    assert!(bundle.starts_with(&said.head));
    assert_eq!(said.size(), bundle.len() as u64);
    assert_eq!(said.header, header);
    let nobody = Reader::open(&*bundle, &[]);
    assert!(matches!(nobody, Err(BundleError::Unsigned)));
}

#[test]
fn what_is_cut_off_or_goes_on_is_refused() {
    let bundle = signed_by(&key(1), &image());
    let length = bundle.len();
    for (end, within) in [
        (0, "its beginning"),
        (19, "its beginning"),
        (100, "its header"),
        (length - (5 << 19) - 1, "its signature"),
        (length - (5 << 19), "its image"),
        (length - 1, "its image"),
    ] {
        let (refused, given) = read(&bundle[..end]);
        let told = format!("the bundle is cut off: it ends within {within}");
        assert_eq!(refused, Err(told), "{end}");
        assert!(image().starts_with(&given));
    }
    let (longer, _) = read(&[&*bundle, b"x"].concat());
    assert_eq!(
        longer,
        Err("the bundle goes on behind its image".to_owned())
    );
}

#[test]
fn a_signed_header_that_is_not_for_us_says_why() {
    let told = |bundle: &[u8]| read(bundle).0.expect_err("refused");
    let changed = |name: &'static str, value: serde_json::Value| {
        with_header(move |header| header[name] = value)
    };
    assert_eq!(
        told(&changed("format", 2.into())),
        "the bundle has the format 2, and this release reads 1 and earlier ones"
    );
    assert_eq!(
        told(&changed("architecture", "aarch64".into())),
        "the bundle is for aarch64, and this machine is x86_64"
    );
    let begin = "the bundle's header is not as any release writes it: ";
    assert_eq!(
        told(&changed("size", 1.into())),
        format!("{begin}1 bytes in 3 blocks of 1048576")
    );
    assert_eq!(
        told(&changed("block", 0.into())),
        format!("{begin}2621440 bytes in 3 blocks of 0")
    );
    assert!(told(&changed("version", 7.into())).starts_with(begin));
    // A later release may say more.
    assert!(read(&changed("more", 7.into())).0.is_ok());
    let mut long = signed_by(&key(1), &image());
    long[16..20].copy_from_slice(&u32::MAX.to_le_bytes());
    assert_eq!(told(&long), format!("{begin}it has 4294967295 bytes"));
    assert_eq!(
        told(b"masthead-bundler and more"),
        "this is no upgrade bundle of Masthead"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn with_any_bit_changed_nothing_is_given_but_what_was_signed_for(at in any::<prop::sample::Index>(), bit in 0_u8..8, near in any::<bool>()) {
        static BUNDLE: LazyLock<Vec<u8>> = LazyLock::new(|| signed_by(&key(1), &image()));
        let mut bundle = BUNDLE.clone();
        // Half of them before the image.
        let within = if near { bundle.len() - image().len() } else { bundle.len() };
        bundle[at.index(within)] ^= 1_u8 << bit;
        let (refused, given) = read(&bundle);
        prop_assert!(refused.is_err());
        prop_assert!(image().starts_with(&given));
    }
}

#[test]
fn an_image_that_changes_meanwhile_or_is_empty_makes_no_bundle() {
    /// Another content each time that it is read from the beginning.
    struct Fickle(u8, bool);
    impl io::Read for Fickle {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            if std::mem::replace(&mut self.1, true) {
                return Ok(0);
            }
            buffer[0] = self.0;
            Ok(1)
        }
    }
    impl io::Seek for Fickle {
        fn seek(&mut self, _: io::SeekFrom) -> io::Result<u64> {
            *self = Self(self.0 + 1, false);
            Ok(0)
        }
    }
    let writer = Writer {
        version: String::new(),
        image: String::new(),
        kubernetes: String::new(),
        etcd: String::new(),
    };
    let sign = |head: &[u8]| Ok(key(1).sign(head).as_ref().to_vec());
    let fickle = writer.write(&mut Fickle(0, false), &mut Vec::new(), sign);
    assert!(matches!(fickle, Err(WriterError::Changed)));
    let empty = writer.write(&mut Cursor::new([]), &mut Vec::new(), sign);
    assert!(matches!(empty, Err(WriterError::Empty)));
    let unsigned = writer.write(&mut Cursor::new([1]), &mut Vec::new(), |_| Ok(vec![1]));
    assert!(matches!(unsigned, Err(WriterError::Sign(_))));
}
