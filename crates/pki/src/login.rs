//! The proof that a person who logs in has the key that the seed names.
//!
//! The client signs the server's challenge together with the hash of the TLS public key that *it* sees. A server in
//! between, which has another TLS key, cannot pass the proof on: the true server computes the hash from its own
//! key, and the signature does not match.

use masthead_seed::OperatorKey;
use ring::digest::{SHA256, digest};
use ring::signature::{ED25519, UnparsedPublicKey};

use crate::{Error, OperatorPrivateKey};

/// Length of a challenge, in bytes.
pub const NONCE_LENGTH: usize = 32;

/// First bytes of what is signed: no signature made for something else is a login, and none made here is
/// something else.
const LABEL: &[u8] = b"masthead login v1\0";

/// SHA-256 of a server's public key: of the SubjectPublicKeyInfo in its certificate (DER), as in RFC 7469.
pub fn server_key_hash(certificate: &[u8]) -> Result<[u8; 32], Error> {
    let (_, certificate) =
        x509_parser::parse_x509_certificate(certificate).map_err(|error| Error::Certificate {
            of: "the server".to_owned(),
            detail: error.to_string(),
        })?;
    let hash = digest(&SHA256, certificate.public_key().raw);
    Ok(hash.as_ref().try_into().expect("SHA-256 has 32 bytes"))
}

/// What is proved: the holder of `operator` wants a certificate for that key from the server whose TLS key has
/// that hash, in answer to that challenge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoginProof {
    /// The key that the certificate is for, and that signs.
    pub operator: OperatorKey,
    /// [`server_key_hash`] of the certificate: for the client the one it sees, for the server its own.
    pub server_key_hash: [u8; 32],
    /// The challenge.
    pub nonce: [u8; NONCE_LENGTH],
}

impl LoginProof {
    /// Every part has a fixed length, so that no two proofs are the same bytes.
    fn message(&self) -> Vec<u8> {
        [LABEL, &self.server_key_hash, &self.nonce, &self.operator.0].concat()
    }

    /// Signs a login with a private key: an Ed25519 signature of 64 bytes.
    pub fn sign(
        key: &OperatorPrivateKey,
        server_key_hash: [u8; 32],
        nonce: [u8; NONCE_LENGTH],
    ) -> Result<Vec<u8>, Error> {
        let proof = Self {
            operator: key.public(),
            server_key_hash,
            nonce,
        };
        key.0.sign(&proof.message(), "a login")
    }

    /// Verifies a signature.
    pub fn verify(&self, signature: &[u8]) -> Result<(), Error> {
        UnparsedPublicKey::new(&ED25519, self.operator.0)
            .verify(&self.message(), signature)
            .map_err(|_| Error::LoginProof)
    }
}
