//! Who this machine is: made once, at its first boot, and kept for as long as STATE is.

use std::path::Path;
use std::sync::Arc;

use masthead_formation::MachineId;
use masthead_pki::{PeerKey, Secret};
use rustix::rand::{GetRandomFlags, getrandom};

use crate::identity::Problem;
use crate::identity::storage::{Storage, read};

/// Who this machine is.
#[derive(Clone, Debug)]
pub(super) struct Own {
    /// Random, for ever.
    pub(super) machine_id: MachineId,
    /// By which its peers know it.
    pub(super) key: Arc<PeerKey>,
}

impl Own {
    /// Reads it from STATE, mounted at `state`, or makes what is missing. Once there are records of formation nothing is
    /// made any more: they are about the machine that made them.
    pub(super) fn establish(
        storage: &dyn Storage,
        state: &Path,
        has_records: bool,
    ) -> Result<Self, Problem> {
        let (id_path, key_path) = (state.join("machine-id"), state.join("peer.key"));
        let missing =
            |path| Problem::damaged(path, "missing, while records of formation are there.");
        let machine_id = match read(&id_path)? {
            Some(bytes) => parse_id(&id_path, &bytes)?,
            None if has_records => return Err(missing(&id_path)),
            None => {
                let machine_id = MachineId(random()?);
                storage.replace(&id_path, format!("{machine_id}\n").as_bytes())?;
                machine_id
            }
        };
        let key = match read(&key_path)? {
            Some(bytes) => PeerKey::parse(&Secret::new(bytes))
                .map_err(|error| Problem::damaged(&key_path, format_args!("{error}.")))?,
            None if has_records => return Err(missing(&key_path)),
            None => {
                let key = PeerKey::generate()?;
                storage.replace(&key_path, key.pem().expose())?;
                key
            }
        };
        Ok(Self {
            machine_id,
            key: Arc::new(key),
        })
    }
}

fn parse_id(path: &Path, bytes: &[u8]) -> Result<MachineId, Problem> {
    String::from_utf8_lossy(bytes)
        .trim_end()
        .parse()
        .map_err(|error| Problem::damaged(path, format_args!("{error}.")))
}

/// Random bytes of the kernel.
pub(super) fn random<const N: usize>() -> Result<[u8; N], Problem> {
    let mut bytes = [0; N];
    if getrandom(&mut bytes, GetRandomFlags::empty()) == Ok(N) {
        Ok(bytes)
    } else {
        Err(Problem::no_random_numbers())
    }
}
