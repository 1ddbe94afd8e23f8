//! A built image's files, and other images that are made of one.

use std::{
    fs,
    io::Cursor,
    path::{Path, PathBuf},
    process::Command,
};

use masthead_imagebuild::{
    bundle,
    formats::cpio::{self, Kind, Writer},
    steps::root::packer,
};
use masthead_uki::{
    Release,
    example::program,
    pe::{NewSection, memory_size, sections, with_sections, without_sections_from},
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

/// The ISO image in such a folder.
pub fn iso(folder: &Path) -> Result<PathBuf> {
    let path = folder.join(masthead_imagebuild::steps::iso::FILE);
    if path.exists() {
        return Ok(path);
    }
    Err(Error::Refused(format!(
        "there is no {}: build the image first (make image)",
        path.display()
    )))
}

/// What an image says of itself.
pub fn release(image: &Path) -> Result<Release> {
    let what = || format!("read {}", image.display());
    let mut file = fs::File::open(image).attempt(what)?;
    let read = masthead_uki::release::read(&mut file);
    read.map_err(|error| Error::Refused(format!("{}: {}", image.display(), chain(&error))))
}

/// Makes an image of another version for nodes in namespaces, and its signed bundle `VERSION.bundle` in `folder`: the root of the image in `of`,
/// `change`d. No machine can start it: what is in the kernel's place is none.
pub fn other_image(
    of: &Path,
    folder: &Path,
    version: &str,
    key: &Path,
    change: impl FnOnce(&Path) -> Result<()>,
) -> Result<PathBuf> {
    let (release, root) = other_root(of, folder, version, change)?;
    let archive = packed(&root)?;
    let text = release.text();
    let added = [
        NewSection::new(".osrel", text.as_bytes()),
        NewSection::new(".cmdline", b"console=ttyS0"),
        NewSection::new(".initrd", &archive),
        NewSection::new(".linux", b"none"),
    ];
    let image = with_sections(&program(), &added).map_err(|error| refused(&error))?;
    signed(image, folder, version, key)
}

/// The same, with everything else that is in the image: machines start it.
pub fn other_image_of_machines(
    of: &Path,
    folder: &Path,
    version: &str,
    key: &Path,
    change: impl FnOnce(&Path) -> Result<()>,
) -> Result<PathBuf> {
    let (release, root) = other_root(of, folder, version, change)?;
    let file = unified_kernel_image(of)?;
    let before = fs::read(&file).attempt(|| format!("read {}", file.display()))?;
    let stub = without_sections_from(&before, ".osrel").map_err(|error| refused(&error))?;
    let kept = sections(&before).map_err(|error| refused(&error))?;
    let of_stub = sections(&stub).map_err(|error| refused(&error))?.len();
    let mut initramfs = packed(&root)?;
    let text = release.text();
    for section in &kept {
        if section.name == ".initrd" {
            // All but the first archive, which has the root.
            let (_, first) = cpio::read(section.content).map_err(|error| refused(&error))?;
            initramfs.extend_from_slice(&section.content[first..]);
        }
    }
    let added: Vec<_> = kept[of_stub..]
        .iter()
        .map(|section| NewSection {
            name: &section.name,
            content: match &*section.name {
                ".osrel" => text.as_bytes(),
                ".initrd" => &initramfs,
                _ => section.content,
            },
            // A kernel is started in place, and says how much it takes; nothing else is a program.
            memory: memory_size(section.content).unwrap_or(0),
        })
        .collect();
    let image = with_sections(&stub, &added).map_err(|error| refused(&error))?;
    signed(image, folder, version, key)
}

/// The root of the image in `of`, as one of that version, and `change`d.
fn other_root(
    of: &Path,
    folder: &Path,
    version: &str,
    change: impl FnOnce(&Path) -> Result<()>,
) -> Result<(Release, Vec<u8>)> {
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
    fs::remove_file(&root).attempt(|| format!("remove {}", root.display()))?;
    Ok((release, content))
}

/// The archive of an initramfs that has a root in it.
fn packed(root: &[u8]) -> Result<Vec<u8>> {
    let mut archive = Writer::new(Vec::new(), 0);
    archive
        .add("root.erofs", Kind::File, 0o644, root)
        .and_then(|()| archive.finish())
        .attempt(|| "pack the root")
}

/// Seals an image, and makes its bundle.
fn signed(mut image: Vec<u8>, folder: &Path, version: &str, key: &Path) -> Result<PathBuf> {
    seal(&mut image).map_err(|error| refused(&error))?;
    let file = folder.join(format!("{version}.efi"));
    fs::write(&file, &image).attempt(|| format!("write {}", file.display()))?;
    let signed = folder.join(format!("{version}.bundle"));
    bundle::make(&file, key, &signed).map_err(|error| Error::Refused(format!("{error:#}")))?;
    fs::remove_file(&file).attempt(|| format!("remove {}", file.display()))?;
    Ok(signed)
}

fn refused(error: &dyn std::error::Error) -> Error {
    Error::Refused(chain(error))
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
