//! Signed upgrade bundles, and the keys that sign them.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use masthead_bundle::{Header, Writer};
use masthead_pki::{ImagePrivateKey, Secret};
use masthead_seed::ImageKey;

/// Makes a key pair, and the file of its private half. One that is there is left alone.
pub fn generate_key(file: &Path) -> Result<ImageKey> {
    let key = ImagePrivateKey::generate()?;
    let mut made = File::options()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(file)
        .with_context(|| format!("making {}", file.display()))?;
    made.write_all(key.pem().expose())
        .and_then(|()| made.sync_all())
        .with_context(|| format!("writing {}", file.display()))?;
    Ok(key.public())
}

/// Makes a bundle of an image, whole or not at all. Returns what it says, and who has signed it.
pub fn make(image: &Path, key: &Path, bundle: &Path) -> Result<(Header, ImageKey)> {
    let pem = fs::read_to_string(key).with_context(|| format!("reading {}", key.display()))?;
    let key = ImagePrivateKey::parse(&Secret::new(pem))
        .with_context(|| format!("reading the key in {}", key.display()))?;
    let reading = || format!("reading the image {}", image.display());
    let mut file = File::open(image).with_context(reading)?;
    let release = masthead_uki::check(&mut file).with_context(reading)?;
    let writing = || format!("writing {}", bundle.display());
    let parent = match bundle.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    let scratch = tempfile::NamedTempFile::new_in(parent).with_context(writing)?;
    let mut target = BufWriter::new(scratch);
    let writer = Writer {
        version: release.version,
        image: release.image,
        kubernetes: release.kubernetes,
        etcd: release.etcd,
    };
    let sign = |head: &[u8]| key.sign(head).map_err(Into::into);
    let header = writer
        .write(&mut file, &mut target, sign)
        .with_context(writing)?;
    let scratch = target
        .into_inner()
        .map_err(io::IntoInnerError::into_error)
        .with_context(writing)?;
    scratch.as_file().sync_all().with_context(writing)?;
    scratch.persist(bundle).with_context(writing)?;
    Ok((header, key.public()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use masthead_bundle::Reader;
    use masthead_uki::example::image;

    use super::*;

    #[test]
    fn a_bundle_says_what_its_image_is_and_holds_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name);
        let public = generate_key(&path("key")).expect("made");
        let mode = fs::metadata(path("key")).expect("there").permissions();
        assert_eq!(mode.mode() & 0o777, 0o600);
        generate_key(&path("key")).expect_err("it is there");
        fs::write(path("image"), image("0.2.0")).expect("written");
        let (header, by) = make(&path("image"), &path("key"), &path("bundle")).expect("made");
        assert_eq!(
            (&*header.version, &*header.kubernetes),
            ("0.2.0", "v1.36.3")
        );
        assert_eq!(by, public);
        let bundle = File::open(path("bundle")).expect("there");
        let mut reader = Reader::open(bundle, &[public.0]).expect("signed");
        let mut held = Vec::new();
        io::Read::read_to_end(&mut reader, &mut held).expect("whole");
        assert!(held == image("0.2.0"));
    }

    #[test]
    fn of_a_damaged_image_no_bundle_is_made() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name);
        generate_key(&path("key")).expect("made");
        let mut damaged = image("0.2.0");
        let last = damaged.len() - 1;
        damaged[last] ^= 1;
        fs::write(path("image"), damaged).expect("written");
        let error = make(&path("image"), &path("key"), &path("bundle")).expect_err("damaged");
        assert!(format!("{error:#}").contains("it is damaged"), "{error:#}");
        assert!(!path("bundle").exists());
    }
}
