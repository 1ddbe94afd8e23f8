//! What etcd holds, in a file: what can be restored (`etcdutl snapshot restore`) when all else is lost.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Duration;

use etcd_client::Error;
use masthead_api::Timestamp;
use sha2::{Digest as _, Sha256};
use thiserror::Error as ThisError;
use tokio::task::spawn_blocking;

use super::{Members, in_time};

/// Where they are.
pub const FOLDER: &str = "/data/snapshots";

/// So many are kept, the newest.
const KEPT: usize = 3;

/// How long etcd may take to send the next piece, on a real machine.
const TO_SEND: Duration = Duration::from_secs(10);

/// Pieces that wait for the disk.
const PIECES: usize = 4;

/// Bytes of the digest that etcd appends to a snapshot.
const DIGEST: usize = 32;

/// Why there is none.
#[derive(Debug, ThisError)]
pub enum SnapshotError {
    /// The member does not send it.
    #[error("this master's member of etcd does not give a snapshot")]
    Etcd(#[from] Error),
    /// The disk does not take it.
    #[error("the snapshot is not written to {FOLDER}")]
    Disk(#[from] io::Error),
    /// Not all of it came.
    #[error("the snapshot is not whole: its {0} bytes do not have the SHA-256 at their end")]
    Damaged(u64),
}

/// Has this master's own member give a snapshot, and puts it on DATA, whole and synced. Older ones are removed.
pub async fn take(members: &Members) -> Result<PathBuf, SnapshotError> {
    let patience = members.scale * TO_SEND;
    let mut client = members.own_client().await?;
    let mut stream = in_time(patience, client.snapshot()).await?;
    let (pieces, incoming) = sync_channel::<Vec<u8>>(PIECES);
    let name = Timestamp::now().to_string().replace(':', "");
    let writing = spawn_blocking(move || store(Path::new(FOLDER), &name, &incoming));
    let received = loop {
        match in_time(patience, stream.message()).await {
            Ok(None) => break Ok(()),
            Ok(Some(piece)) => {
                let piece = piece.blob().to_vec();
                let pieces = pieces.clone();
                // The disk may be slow, and the supervisor's one thread must not wait for it.
                let sent = spawn_blocking(move || pieces.send(piece)).await;
                if !matches!(sent, Ok(Ok(()))) {
                    // The writer says why.
                    break Ok(());
                }
            }
            Err(error) => break Err(error),
        }
    };
    drop(pieces);
    let Ok(stored) = writing.await else {
        // A panic aborts the supervisor.
        return std::future::pending().await;
    };
    received?;
    stored
}

/// Writes what comes until nothing more does, and keeps it if it is whole.
fn store(
    folder: &Path,
    name: &str,
    incoming: &Receiver<Vec<u8>>,
) -> Result<PathBuf, SnapshotError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)?;
    // What a power cut has left of an earlier one.
    for path in files(folder, "part")? {
        fs::remove_file(path)?;
    }
    let part = folder.join(format!("etcd-{name}.part"));
    let mut file = File::options()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&part)?;
    let written = write(&mut file, incoming).and_then(|()| Ok(file.sync_all()?));
    if let Err(error) = written {
        // A full disk is not to stay so for what is of no use.
        let _ = fs::remove_file(&part);
        return Err(error);
    }
    let path = part.with_extension("db");
    fs::rename(&part, &path)?;
    File::open(folder)?.sync_all()?;
    let mut all = files(folder, "db")?;
    all.sort();
    for old in all.iter().rev().skip(KEPT) {
        fs::remove_file(old)?;
    }
    Ok(path)
}

/// etcd ends a snapshot with the SHA-256 of all before (etcdctl's `snapshot save` looks at the same).
fn write(file: &mut File, incoming: &Receiver<Vec<u8>>) -> Result<(), SnapshotError> {
    let mut digest = Sha256::new();
    let (mut last, mut bytes) = (Vec::new(), 0);
    for piece in incoming {
        file.write_all(&piece)?;
        bytes += piece.len() as u64;
        last.extend_from_slice(&piece);
        let sure = last.len().saturating_sub(DIGEST);
        digest.update(&last[..sure]);
        last.drain(..sure);
    }
    if last.as_slice() != digest.finalize().as_slice() {
        return Err(SnapshotError::Damaged(bytes));
    }
    Ok(())
}

fn files(folder: &Path, extension: &str) -> io::Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder)?.collect::<io::Result<Vec<_>>>()?;
    let paths = entries.into_iter().map(|entry| entry.path());
    Ok(paths
        .filter(|path| path.extension().is_some_and(|its| its == extension))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As etcd sends it, in pieces of that size.
    fn sent(content: &[u8], size: usize) -> Receiver<Vec<u8>> {
        let whole = [content, Sha256::digest(content).as_slice()].concat();
        cut(&whole, size)
    }

    fn cut(bytes: &[u8], size: usize) -> Receiver<Vec<u8>> {
        let pieces: Vec<_> = bytes.chunks(size).map(<[u8]>::to_vec).collect();
        let (sender, receiver) = sync_channel(pieces.len());
        for piece in pieces {
            sender.send(piece).unwrap();
        }
        receiver
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        let mut names: Vec<_> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn the_newest_three_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("snapshots");
        for name in ["1", "2", "3", "4"] {
            let path = store(&folder, name, &sent(b"the database", 5)).unwrap();
            let content = fs::read(path).unwrap();
            assert!(content.starts_with(b"the database"));
            assert_eq!(content.len(), 12 + DIGEST);
        }
        assert_eq!(names(&folder), ["etcd-2.db", "etcd-3.db", "etcd-4.db"]);
    }

    #[test]
    fn what_is_not_whole_is_not_kept() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        fs::write(folder.join("etcd-0.part"), "of a power cut").unwrap();
        store(folder, "1", &sent(b"the database", 1)).unwrap();
        let whole = fs::read(folder.join("etcd-1.db")).unwrap();
        for bad in [&whole[..whole.len() - 1], &whole[1..], &whole[..7]] {
            let refused = store(folder, "2", &cut(bad, 3));
            assert!(
                matches!(refused, Err(SnapshotError::Damaged(_))),
                "{refused:?}"
            );
        }
        assert_eq!(names(folder), ["etcd-1.db"]);
    }
}
