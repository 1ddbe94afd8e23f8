//! `mastctl keygen` and `mastctl secret`.

use std::path::PathBuf;

use masthead_pki::OperatorPrivateKey;
use masthead_seed::Secret;
use rustix::rand::{GetRandomFlags, getrandom};
use serde_json::json;

use super::say;
use super::session::Session;
use crate::Failure;
use crate::cli::Keygen;
use crate::files::write_private;

/// The private key's file when nobody names one, beside the configuration.
pub(super) const KEY_FILE: &str = "operator.key";

/// Makes an operator's key pair.
pub(super) fn keygen(session: &Session, arguments: Keygen) -> Result<(), Failure> {
    let file: PathBuf = arguments
        .file
        .unwrap_or_else(|| session.directory().join(KEY_FILE));
    let key = OperatorPrivateKey::generate()
        .map_err(|error| Failure::new("make a key pair", &error, "Try again."))?;
    write_private("the private key", &file, key.pem().expose(), false)?;
    let public = key.public().to_string();
    let text = format!(
        "{public}\n\nThe private key is in {}; keep it.\nThe line above goes into the seed: admins = [\"{public}\"]\n",
        file.display()
    );
    say(
        session.output(),
        &text,
        || json!({ "public_key": public, "file": file }),
    )
}

/// Makes a cluster's secret.
pub(super) fn secret(session: &Session) -> Result<(), Failure> {
    let mut bytes = [0; 32];
    let what = "make a secret";
    getrandom(&mut bytes, GetRandomFlags::empty())
        .map_err(|error| Failure::new(what, &error, "Try again."))?;
    let secret = Secret::generate(bytes)
        .map_err(|error| Failure::new(what, &error, "Try again."))?
        .to_text();
    say(
        session.output(),
        &format!("{}\n", *secret),
        || json!({ "secret": *secret }),
    )
}
