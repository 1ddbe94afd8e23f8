//! What a kernel module says about itself, and the indexes that are made of it.
//!
//! Each module has an ELF section `.modinfo` of `key=value` texts, each ended by a zero byte
//! (`MODULE_INFO` of include/linux/module.h in the kernel). `depmod` makes `modules.dep`,
//! `modules.alias` and `modules.softdep` of them; so does this module, for a set of modules that
//! depmod could only see after it was copied, and without the need for kmod on the build machine.

use object::{Object as _, ObjectSection as _};

/// What is needed from a module's `.modinfo`.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct ModuleInfo {
    /// Names of the modules whose symbols it uses.
    pub depends: Vec<String>,
    /// Modules that should be loaded before it when they exist (`softdep=pre: …`).
    pub soft_before: Vec<String>,
    /// Device patterns for which it is the driver.
    pub aliases: Vec<String>,
    /// The licence as the module declares it.
    pub license: String,
    /// The whole of its `softdep` texts.
    pub soft_dependencies: Vec<String>,
}

/// The module's form of a name: `-` and `_` are the same to the kernel.
pub fn canonical(name: &str) -> String {
    name.replace('-', "_")
}

/// The module's name that its file name implies: `/…/nls-x.ko.xz` is `nls_x`.
pub fn name_of_file(path: &str) -> Option<String> {
    let file = path.rsplit('/').next()?;
    let (name, extension) = file.split_once('.')?;
    (extension == "ko" || extension.starts_with("ko.")).then(|| canonical(name))
}

/// Reads the `.modinfo` of an uncompressed module.
pub fn read(module: &[u8]) -> Result<ModuleInfo, object::read::Error> {
    let file = object::File::parse(module)?;
    let section = match file.section_by_name(".modinfo") {
        Some(section) => section.data()?,
        None => &[],
    };
    Ok(parse(section))
}

fn parse(section: &[u8]) -> ModuleInfo {
    let mut info = ModuleInfo::default();
    for text in section.split(|byte| *byte == 0) {
        let Some((key, value)) = std::str::from_utf8(text)
            .ok()
            .and_then(|text| text.split_once('='))
        else {
            continue;
        };
        match key {
            "depends" => info.depends.extend(
                value
                    .split(',')
                    .filter(|name| !name.is_empty())
                    .map(canonical),
            ),
            "alias" => info.aliases.push(value.to_owned()),
            "license" => value.clone_into(&mut info.license),
            "softdep" => {
                info.soft_before.extend(before(value));
                info.soft_dependencies.push(value.to_owned());
            }
            _ => {}
        }
    }
    info
}

/// The names after `pre:`, up to `post:`.
fn before(softdep: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut listed = false;
    for word in softdep.split_whitespace() {
        match word {
            "pre:" => listed = true,
            "post:" => listed = false,
            name if listed => names.push(canonical(name)),
            _ => {}
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modinfo_is_read() {
        let info = parse(
            b"license=GPL\0alias=pci:v00008086d000025ABsv*sd*bc*sc*i*\0depends=watchdog,nls-x\0\
              softdep=pre: crc32c post: other\0vermagic=6.12 SMP\0",
        );
        assert_eq!(info.depends, ["watchdog", "nls_x"]);
        assert_eq!(info.soft_before, ["crc32c"]);
        assert_eq!(info.aliases, ["pci:v00008086d000025ABsv*sd*bc*sc*i*"]);
        assert_eq!(info.license, "GPL");
        assert_eq!(parse(b"depends=\0"), ModuleInfo::default());
    }

    #[test]
    fn names_come_from_files() {
        assert_eq!(
            name_of_file("kernel/a/virtio-rng.ko.xz").as_deref(),
            Some("virtio_rng")
        );
        assert_eq!(name_of_file("loop.ko").as_deref(), Some("loop"));
        assert_eq!(name_of_file("kernel/modules.order"), None);
        assert_eq!(name_of_file("kernel/readme.koi"), None);
    }
}
