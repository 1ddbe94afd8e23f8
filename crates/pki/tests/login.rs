//! Operators' keys and the proof of holding one.

use masthead_pki::{
    EncryptionKey, Error, LoginProof, OperatorPrivateKey, Secret, ServiceAccountKey,
};

const SERVER: [u8; 32] = [7; 32];
const NONCE: [u8; 32] = [9; 32];

#[test]
fn a_proof_holds_for_exactly_what_was_signed() {
    let key = OperatorPrivateKey::generate().unwrap();
    let other = OperatorPrivateKey::generate().unwrap();
    let signature = LoginProof::sign(&key, SERVER, NONCE).unwrap();
    let proof = LoginProof {
        operator: key.public(),
        server_key_hash: SERVER,
        nonce: NONCE,
    };
    proof.verify(&signature).unwrap();

    let wrong = [
        LoginProof {
            operator: other.public(),
            ..proof
        },
        // A server in between has a TLS key of its own.
        LoginProof {
            server_key_hash: [8; 32],
            ..proof
        },
        LoginProof {
            nonce: [8; 32],
            ..proof
        },
    ];
    for wrong in wrong {
        assert!(
            matches!(wrong.verify(&signature), Err(Error::LoginProof)),
            "{wrong:?}"
        );
    }
    let mut damaged = signature.clone();
    damaged[10] ^= 1;
    assert!(proof.verify(&damaged).is_err());
    assert!(proof.verify(&[]).is_err());
}

#[test]
fn a_key_is_read_back_and_so_is_one_of_openssl() {
    let key = OperatorPrivateKey::generate().unwrap();
    let again = OperatorPrivateKey::parse(&key.pem()).unwrap();
    assert_eq!(key.public(), again.public());
    assert_eq!(key.public().to_string().parse(), Ok(key.public()));

    // `openssl genpkey -algorithm ed25519`, and its public half by `openssl pkey -pubout -outform DER`.
    let theirs =
        OperatorPrivateKey::parse(&Secret::new(include_str!("openssl-ed25519.pem"))).unwrap();
    let expected = "eddcea96e903e5a595d79688e7c8e4bc956d8b2779b297edeea58144d984c572";
    let digits = |index: usize| u8::from_str_radix(&expected[2 * index..][..2], 16).unwrap();
    assert_eq!(theirs.public().0, std::array::from_fn(digits));
}

#[test]
fn a_key_of_another_kind_is_refused() {
    let other = ServiceAccountKey::generate().unwrap();
    assert!(matches!(
        OperatorPrivateKey::parse(&other.private_pem()),
        Err(Error::PrivateKey { .. })
    ));
}

#[test]
fn encryption_keys_are_read_back() {
    let key = EncryptionKey::generate().unwrap();
    let again = EncryptionKey::parse(&key.base64()).unwrap();
    assert_eq!(key.base64(), again.base64());
    assert_ne!(key.base64(), EncryptionKey::generate().unwrap().base64());
    for wrong in ["", "AAAA", "no base64!"] {
        assert!(matches!(
            EncryptionKey::parse(&Secret::new(wrong)),
            Err(Error::EncryptionKey)
        ));
    }
}

#[test]
fn the_public_half_of_a_key_for_tokens_is_its_own() {
    let [one, other] = [0; 2].map(|_| ServiceAccountKey::generate().unwrap());
    let public = one.public_pem();
    assert!(public.starts_with("-----BEGIN PUBLIC KEY-----"), "{public}");
    assert_ne!(public, other.public_pem());
    let again = ServiceAccountKey::parse(&one.private_pem()).unwrap();
    assert_eq!(public, again.public_pem());
}

#[test]
fn what_is_secret_is_not_shown() {
    let key = EncryptionKey::generate().unwrap();
    assert_eq!(format!("{key:?}"), "EncryptionKey(hidden)");
    assert_eq!(format!("{:?}", Secret::new("abc")), "Secret(3 bytes)");
}
