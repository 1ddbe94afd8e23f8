//! Whose signature makes a bundle an image of ours: the keys in the image that runs, and those in the seed.

use std::fs;
use std::io;
use std::path::Path;

use masthead_seed::{EncodedError, ImageKey};
use thiserror::Error;

/// Where the image has its keys, if it has any: one a line, and lines that begin with `#`. The image's manifest puts it there (`[[files]]`).
const IN_THE_IMAGE: &str = "/etc/masthead/image-keys";

/// Why nobody is trusted.
#[derive(Debug, Error)]
pub enum TrustError {
    /// The file is there.
    #[error("{IN_THE_IMAGE} cannot be read")]
    Read(#[source] io::Error),
    /// A line is no key.
    #[error("{IN_THE_IMAGE}, line {line}: no key of who signs images")]
    Line {
        /// From 1.
        line: usize,
        /// What is wrong with it.
        source: EncodedError,
    },
}

/// All keys: those in the image, and those in the seed.
pub fn trusted(in_the_seed: &[ImageKey]) -> Result<Vec<[u8; 32]>, TrustError> {
    read(Path::new(IN_THE_IMAGE), in_the_seed)
}

fn read(file: &Path, in_the_seed: &[ImageKey]) -> Result<Vec<[u8; 32]>, TrustError> {
    let text = match fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(TrustError::Read(error)),
    };
    let mut keys: Vec<_> = in_the_seed.iter().map(|key| key.0).collect();
    for (number, line) in text.lines().map(str::trim).enumerate() {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let line_number = number + 1;
        let key: ImageKey = line.parse().map_err(|source| TrustError::Line {
            line: line_number,
            source,
        })?;
        keys.push(key.0);
    }
    Ok(keys)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_come_from_the_image_and_the_seed_and_a_wrong_line_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("image-keys");
        let (one, other) = (ImageKey([1; 32]), ImageKey([2; 32]));
        assert_eq!(read(&file, &[one]).unwrap(), [[1; 32]], "no file");
        fs::write(&file, format!("# of the release\n\n{other}\n")).unwrap();
        assert_eq!(read(&file, &[one]).unwrap(), [[1; 32], [2; 32]]);
        fs::write(&file, format!("{other}\nmi1-x\n")).unwrap();
        let wrong = read(&file, &[one]).unwrap_err();
        assert!(matches!(wrong, TrustError::Line { line: 2, .. }), "{wrong}");
    }
}
