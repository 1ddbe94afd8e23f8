//! A built image's files, and other images that are made of one.

use std::{
    fs,
    io::Cursor,
    path::{Path, PathBuf},
    process::Command,
};

use masthead_imagebuild::{
    bundle,
    formats::cpio::{Kind, Writer},
    steps::root::packer,
};
use masthead_uki::{
    Release,
    example::program,
    pe::{NewSection, with_sections},
    seal,
};

use crate::{
    error::{Attempt, Error, Result, chain},
    tools::run,
};

/// The image in a folder that `imagebuild` has written.
pub fn unified_kernel_image(folder: &Path) -> Result<PathBuf> {
    fs::read_dir(folder)
        .attempt(|| format!("read {}", folder.display()))?
        .flatten()
        .map(|entry| entry.path())
        .find(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.starts_with("masthead-") && path.extension().is_some_and(|end| end == "efi")
        })
        .ok_or_else(|| {
            Error::Refused(format!(
                "there is no masthead-VERSION.efi in {}: build the image first (make image)",
                folder.display()
            ))
        })
}

/// What an image says of itself.
pub fn release(image: &Path) -> Result<Release> {
    let what = || format!("read {}", image.display());
    let mut file = fs::File::open(image).attempt(what)?;
    let read = masthead_uki::release::read(&mut file);
    read.map_err(|error| Error::Refused(format!("{}: {}", image.display(), chain(&error))))
}

/// Makes an image of another version for nodes in namespaces, and its signed bundle `VERSION.bundle` in `folder`: the root of the image in `of`,
/// `change`d. No machine can start it: there is a root in it, and no kernel.
pub fn other_image(
    of: &Path,
    folder: &Path,
    version: &str,
    key: &Path,
    change: impl FnOnce(&Path) -> Result<()>,
) -> Result<PathBuf> {
    let release = Release {
        version: version.to_owned(),
        // Any other one than that of the image that it is made of.
        image: format!("00000000-0000-4000-8000-{:0>12}", version.replace('.', "")),
        ..release(&unified_kernel_image(of)?)?
    };
    let tree = folder.join("tree");
    let root = folder.join("root.erofs");
    run(Command::new("fsck.erofs")
        .arg(format!("--extract={}", tree.display()))
        .arg(of.join("root.erofs")))?;
    let put = |path: &str, content: &str| {
        fs::write(tree.join(path), content).attempt(|| format!("write {path}"))
    };
    put("etc/masthead/image", &format!("{}\n", release.image))?;
    let told = fs::read_to_string(tree.join("etc/masthead/release.json"))
        .attempt(|| "read release.json")?;
    let mut told: serde_json::Value =
        serde_json::from_str(&told).map_err(|error| Error::Refused(error.to_string()))?;
    told["version"] = version.into();
    put("etc/masthead/release.json", &told.to_string())?;
    change(&tree)?;
    run(packer().arg("--all-root").arg(&root).arg(&tree))?;
    fs::remove_dir_all(&tree).attempt(|| format!("remove {}", tree.display()))?;

    let content = fs::read(&root).attempt(|| format!("read {}", root.display()))?;
    let mut archive = Writer::new(Vec::new(), 0);
    let packed = archive
        .add("root.erofs", Kind::File, 0o644, &content)
        .and_then(|()| archive.finish());
    let archive = packed.attempt(|| "pack the root")?;
    let text = release.text();
    let section = |name, content| NewSection {
        name,
        content,
        memory: 0,
    };
    let added = [
        section(".osrel", text.as_bytes()),
        section(".initrd", &archive),
    ];
    let wrong = |error: &dyn std::error::Error| Error::Refused(chain(error));
    let mut image = with_sections(&program(), &added).map_err(|error| wrong(&error))?;
    seal(&mut image).map_err(|error| wrong(&error))?;
    let file = folder.join(format!("{version}.efi"));
    fs::write(&file, &image).attempt(|| format!("write {}", file.display()))?;
    let signed = folder.join(format!("{version}.bundle"));
    bundle::make(&file, key, &signed).map_err(|error| Error::Refused(format!("{error:#}")))?;
    for used in [&file, &root] {
        fs::remove_file(used).attempt(|| format!("remove {}", used.display()))?;
    }
    Ok(signed)
}

/// The root in an image, whatever else that holds.
pub(crate) fn root_of(image: &[u8]) -> Result<&[u8]> {
    let place = masthead_uki::root::find(&mut Cursor::new(image));
    let place = place.map_err(|error| Error::Refused(chain(&error)))?;
    let range = usize::try_from(place.begin)
        .and_then(|begin| Ok(begin..begin + usize::try_from(place.bytes)?));
    let part = range.ok().and_then(|range| image.get(range));
    part.ok_or_else(|| Error::Refused("the root leads out of its image".to_owned()))
}
