//! What a dynamically linked program needs at run time.

use object::read::elf::{Dyn as _, FileHeader as _, ProgramHeader as _};
use object::{Endianness, elf};

/// The interpreter and the libraries that an ELF file asks for by name.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// `PT_INTERP`: the path of the dynamic loader.
    pub interpreter: Option<String>,
    /// `DT_NEEDED`: names of libraries, in order.
    pub libraries: Vec<String>,
}

/// Reads them from the bytes of a 64-bit program or library; a static one needs nothing.
pub fn needs(bytes: &[u8]) -> Result<Needs, object::read::Error> {
    let header = elf::FileHeader64::<Endianness>::parse(bytes)?;
    let endian = header.endian()?;
    let mut needs = Needs::default();
    for segment in header.program_headers(endian, bytes)? {
        if let Some(path) = segment.interpreter(endian, bytes)? {
            needs.interpreter = Some(String::from_utf8_lossy(path).into_owned());
        }
    }
    let sections = header.sections(endian, bytes)?;
    if let Some((dynamic, link)) = sections.dynamic(endian, bytes)? {
        let strings = sections.strings(endian, bytes, link)?;
        for entry in dynamic {
            if entry.tag32(endian) == Some(elf::DT_NEEDED) {
                let name = entry.string(endian, strings)?;
                needs
                    .libraries
                    .push(String::from_utf8_lossy(name).into_owned());
            }
        }
    }
    Ok(needs)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Test programs are static, as every program of this workspace.
    #[test]
    fn a_static_program_needs_nothing() {
        let program = std::env::current_exe().expect("a path");
        let bytes = std::fs::read(program).expect("reading");
        assert_eq!(needs(&bytes).expect("an ELF file"), Needs::default());
    }

    #[test]
    fn a_dynamic_program_needs_its_loader_and_libraries() {
        let bytes = std::fs::read("/bin/sh").expect("reading");
        let needs = needs(&bytes).expect("an ELF file");
        assert!(needs.interpreter.is_some_and(|path| path.contains("ld-")));
        assert!(needs.libraries.iter().any(|name| name.starts_with("libc.")));
    }
}
