//! Images for the test node, and what it does with those that are sent to it.

use std::io::{Cursor, Read as _};
use std::sync::{Arc, LazyLock, Mutex};

use masthead_api::status::{FailedImage, Installation, InstallationState};
use masthead_api::upgrade::{Image, StageAnswer};
use masthead_api::{ApiError, ErrorCode, FORMAT, Timestamp};
use masthead_bundle::{Reader, Unverified, Writer};
use masthead_init::management::Bundle;
use masthead_pki::ImagePrivateKey;

use super::Seen;

static KEY: LazyLock<ImagePrivateKey> =
    LazyLock::new(|| ImagePrivateKey::generate().expect("a key"));

/// Of the root in the image of that version.
pub(crate) fn uuid(version: &str) -> String {
    format!("root-of-{version}")
}

/// A signed bundle of an image that has so many bytes.
pub(crate) fn bundle(version: &str, bytes: usize) -> Vec<u8> {
    let writer = Writer {
        version: version.to_owned(),
        image: uuid(version),
        kubernetes: "v1.36.4".to_owned(),
        etcd: "3.6.16".to_owned(),
    };
    let mut bundle = Vec::new();
    let sign = |head: &[u8]| KEY.sign(head).map_err(Into::into);
    let mut image = Cursor::new(vec![7; bytes]);
    writer
        .write(&mut image, &mut bundle, sign)
        .expect("written");
    bundle
}

/// As a node does: nothing of what nobody has signed for. The version 9.9.9 is refused at once, while the rest is still on its way.
pub(super) async fn take(
    mut bundle: Bundle,
    seen: Arc<Mutex<Seen>>,
) -> Result<StageAnswer, ApiError> {
    let refuse = |why: String| ApiError::new(ErrorCode::BadRequest, why, "Send another one.");
    let mut bytes = Vec::new();
    while let Some(piece) = bundle.pieces.recv().await {
        bytes.extend_from_slice(&piece.map_err(|error| refuse(error.to_string()))?);
        let said = Unverified::read(&mut &*bytes);
        if said.is_ok_and(|said| said.header.version == "9.9.9" && !bundle.plan) {
            return Err(refuse("nobody wants that one".to_owned()));
        }
    }
    let opened = Reader::open(&*bytes, &[KEY.public().0]);
    let mut reader = opened.map_err(|error| refuse(error.to_string()))?;
    if !bundle.plan {
        let read = reader.read_to_end(&mut Vec::new());
        read.map_err(|error| refuse(error.to_string()))?;
        let image = reader.header().image.clone();
        seen.lock().expect("no panic").images.push(image);
    }
    let header = reader.header();
    Ok(StageAnswer {
        format: FORMAT,
        image: Image {
            version: header.version.clone(),
            image: header.image.clone(),
            kubernetes: header.kubernetes.clone(),
            etcd: header.etcd.clone(),
        },
        running: Image::default(),
        slot: (!bundle.plan).then(|| "B".to_owned()),
    })
}

/// What the disk says after a boot that was to start this image.
pub(super) fn started(image: &str) -> Installation {
    let failed = FailedImage {
        generation: 3,
        version: "0.3.0".to_owned(),
        why: "kube-apiserver is backing-off".to_owned(),
        at: Timestamp::from_unix_millis(0),
    };
    Installation {
        state: InstallationState::Installed,
        generation: Some(2),
        slot: Some("B".to_owned()),
        version: Some("0.2.0".to_owned()),
        reason: None,
        on_trial: false,
        failed: (image == uuid("0.3.0")).then_some(failed),
    }
}
