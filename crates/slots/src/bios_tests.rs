//! What a BIOS and GRUB start, wherever the power was cut while that was written, and whatever has become of what GRUB itself has written.

use std::cell::RefCell;
use std::io::{self, Cursor, Read, Seek, Write};
use std::rc::Rc;

use masthead_disk_layout::boot_sector::{BYTES, CODE};
use masthead_uki::example::{image, release};

use super::*;
use crate::grub_model::grub;
use crate::memory::{Image, Recorder};
use crate::replay_tests::boot_loader;
use crate::upgrade::{arm, bless, stage, withdraw};
use crate::{Format, Source, install};

const MIB: u64 = 1 << 20;
/// First sector of the BIOS boot partition.
const BEGIN: u64 = MIB / SECTOR;

/// A part of a disk, as a device of its own.
struct Window {
    disk: Rc<RefCell<Recorder>>,
    begin: u64,
    bytes: u64,
    position: u64,
}

impl Window {
    fn on(disk: &Rc<RefCell<Recorder>>, begin: u64, bytes: u64) -> Self {
        Self {
            disk: Rc::clone(disk),
            begin,
            bytes,
            position: 0,
        }
    }

    fn all(disk: &Rc<RefCell<Recorder>>) -> [Self; 3] {
        [(0, 1026 * MIB), (MIB, MIB), (2 * MIB, 1024 * MIB)]
            .map(|(begin, bytes)| Self::on(disk, begin, bytes))
    }

    fn there(&mut self, bytes: usize) -> io::Result<usize> {
        let at = SeekFrom::Start(self.begin + self.position);
        self.disk.borrow_mut().seek(at)?;
        let left = self.bytes.saturating_sub(self.position);
        Ok(bytes.min(usize::try_from(left).expect("small")))
    }
}

impl Read for Window {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let bytes = self.there(buffer.len())?;
        let read = self.disk.borrow_mut().read(&mut buffer[..bytes])?;
        self.position += read as u64;
        Ok(read)
    }
}

impl Write for Window {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let bytes = self.there(data.len())?;
        let written = self.disk.borrow_mut().write(&data[..bytes])?;
        self.position += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for Window {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.position = match to {
            SeekFrom::Start(at) => at,
            SeekFrom::End(offset) => self.bytes.checked_add_signed(offset).expect("inside"),
            SeekFrom::Current(offset) => self.position.checked_add_signed(offset).expect("inside"),
        };
        Ok(self.position)
    }
}

impl Storage for Window {
    fn sync(&mut self) -> io::Result<()> {
        self.disk.borrow_mut().sync()
    }
}

/// Code that is told from any other, and of which the last byte counts.
fn code(bytes: usize) -> Vec<u8> {
    (1..=239).cycle().take(bytes).collect()
}

const CORE: usize = 150_001;

/// A disk with a table and nothing else.
fn blank() -> Image {
    let mut disk = Recorder::of(Image::blank(1026 * MIB));
    let mut sector = [0; BYTES];
    sector[..5].copy_from_slice(&[0xcd, 0x18, 0xf4, 0xeb, 0xfd]);
    sector[446..].copy_from_slice(&[7; 66]);
    sector[510..].copy_from_slice(&[0x55, 0xaa]);
    disk.write_all(&sector).expect("written");
    disk.image()
}

fn put(disk: &Rc<RefCell<Recorder>>) {
    let [mut whole, mut bios_boot, system] = Window::all(disk);
    let mut partition = Partition::format(system, Format::disk(512)).expect("formatted");
    let source = Source {
        image: Cursor::new(image("1")),
        boot_loader: &boot_loader(),
    };
    install(&mut partition, source, &release("1")).expect("installed");
    let (boot_sector, core) = (code(BYTES), code(CORE));
    let grub = Grub {
        boot_sector: &boot_sector,
        core: &core,
    };
    complete(&mut partition, &mut bios_boot, &mut whole, BEGIN, grub).expect("complete");
}

fn installed(syncs: bool) -> Rc<RefCell<Recorder>> {
    let disk = Rc::new(RefCell::new(Recorder::of(blank())));
    disk.borrow_mut().syncs = syncs;
    put(&disk);
    disk
}

/// What a BIOS does with a disk: goes on to the next, or starts an image of this version.
fn starts(image: Image) -> Result<Option<String>, String> {
    let disk = Rc::new(RefCell::new(Recorder::of(image)));
    let [mut whole, mut bios_boot, system] = Window::all(&disk);
    let mut sector = [0; BYTES];
    whole.read_exact(&mut sector).expect("read");
    assert_eq!(sector[446..510], [7; 64], "the table of the sector stays");
    if sector[0] == 0xcd {
        return Ok(None);
    }
    let mut expected = code(BYTES)[..CODE].to_vec();
    expected[0x5c..0x64].copy_from_slice(&2048_u64.to_le_bytes());
    expected[0x66..0x68].copy_from_slice(&[0x90, 0x90]);
    if sector[..CODE] != expected {
        return Err("a BIOS executes half a boot sector".to_owned());
    }
    let mut core = code(CORE);
    core.resize(CORE.next_multiple_of(512), 0);
    // 293 sectors, the first of which loads the others.
    core[500..512].copy_from_slice(&[0x01, 0x08, 0, 0, 0, 0, 0, 0, 0x24, 0x01, 0x20, 0x08]);
    let mut found = vec![0; core.len()];
    bios_boot.read_exact(&mut found).expect("read");
    if found != core {
        return Err("the boot sector starts half a GRUB".to_owned());
    }
    let mut partition = Partition::open(system).map_err(|error| error.to_string())?;
    let started = grub(&mut partition)?.ok_or("GRUB has nothing to start")?;
    Ok(Some(started.0.version))
}

#[test]
fn a_cut_at_any_instant_of_an_installation_leaves_a_bios_nothing_or_the_whole_and_the_next_try_completes_it()
 {
    let disk = installed(true);
    assert_eq!(starts(disk.borrow().image()), Ok(Some("1".to_owned())));
    let (mut whole, mut nothing) = (0, 0);
    disk.borrow().cuts(2000, 11, |cut| {
        match starts(cut.clone()).unwrap_or_else(|why| panic!("{why}")) {
            Some(_) => whole += 1,
            None => nothing += 1,
        }
        if nothing % 64 == 0 {
            let again = Rc::new(RefCell::new(Recorder::of(cut)));
            put(&again);
            let image = again.borrow().image();
            assert_eq!(starts(image), Ok(Some("1".to_owned())));
        }
    });
    assert!(
        whole > 0 && nothing > 100,
        "{whole} start, {nothing} do not"
    );
}

#[test]
fn what_a_bios_starts_already_is_left_alone() {
    let disk = installed(true);
    let before = disk.borrow().image();
    let [mut whole, mut bios_boot, system] = Window::all(&disk);
    let mut partition = Partition::open(system).expect("there");
    let other = Grub {
        boot_sector: b"another",
        core: b"one",
    };
    complete(&mut partition, &mut bios_boot, &mut whole, BEGIN, other).expect("nothing to do");
    assert_eq!(disk.borrow().image(), before);
}

#[test]
fn the_replay_finds_an_installer_that_waits_for_nothing_or_begins_with_the_boot_sector() {
    let bad = |disk: &Rc<RefCell<Recorder>>| {
        let mut bad = 0;
        disk.borrow()
            .cuts(400, 12, |cut| bad += usize::from(starts(cut).is_err()));
        bad
    };
    assert!(bad(&installed(false)) > 0);

    let done = installed(true).borrow().image();
    let mut sector = [0; BYTES];
    Recorder::of(done).read_exact(&mut sector).expect("read");
    let wrong = Rc::new(RefCell::new(Recorder::of(blank())));
    let [mut whole, ..] = Window::all(&wrong);
    embed(&mut whole, &sector, "the sector", "writing it").expect("written");
    put(&wrong);
    assert!(bad(&wrong) > 0);
}

#[test]
fn a_grub_that_is_none_or_does_not_fit_is_refused_before_anything_is_written() {
    let disk = Rc::new(RefCell::new(Recorder::of(blank())));
    let [mut whole, mut bios_boot, system] = Window::all(&disk);
    let mut partition = Partition::format(system, Format::disk(512)).expect("formatted");
    let before = disk.borrow().image();
    let (sector, large) = (code(BYTES), code(1_048_577));
    for (boot_sector, core) in [
        (&sector[1..], &large[..9000]),
        (&sector, &large[..512]),
        (&sector, &large),
    ] {
        let grub = Grub { boot_sector, core };
        complete(&mut partition, &mut bios_boot, &mut whole, BEGIN, grub).expect_err("refused");
    }
    assert_eq!(disk.borrow().image(), before);
}

/// A system partition on which the second image is on trial.
fn on_trial() -> Recorder {
    let mut disk = Recorder::of(Image::blank(1 << 30));
    let mut partition = Partition::format(&mut disk, Format::disk(512)).expect("formatted");
    let source = Source {
        image: Cursor::new(image("1")),
        boot_loader: &boot_loader(),
    };
    install(&mut partition, source, &release("1")).expect("installed");
    stage(&mut partition, 1, &mut &*image("2")).expect("staged");
    arm(&mut partition, 1, &release("2").image).expect("armed");
    drop(partition);
    disk
}

/// One start by GRUB: what it has started, and what the disk is then.
fn boot(disk: &mut Recorder) -> String {
    let mut partition = Partition::open(&mut *disk).expect("there");
    let (entry, written) = grub(&mut partition).expect("whole").expect("an entry");
    if let Some(written) = written {
        partition
            .write(ENVIRONMENT, &mut &*written)
            .expect("written");
    }
    entry.version
}

fn tries(disk: &mut Recorder) -> Option<Tries> {
    let mut partition = Partition::open(&mut *disk).expect("there");
    let there = entries(&mut partition).expect("read");
    there.into_iter().find_map(|entry| entry.tries)
}

#[test]
fn a_trial_that_says_nothing_is_started_twice_and_then_the_last_good_image() {
    let mut disk = on_trial();
    let started = [(); 4].map(|()| boot(&mut disk));
    assert_eq!(started, ["2", "2", "1", "1"]);
    // The image that runs then learns how often.
    take_count(&mut Partition::open(&mut disk).expect("there")).expect("taken");
    assert_eq!(tries(&mut disk), Some(Tries { left: 0, done: 2 }));
    assert_eq!(boot(&mut disk), "1");
}

#[test]
fn a_count_is_moved_into_the_name_once_wherever_it_is_cut() {
    let mut disk = on_trial();
    assert_eq!(boot(&mut disk), "2");
    let mut now = Recorder::of(disk.image());
    let mut partition = Partition::open(&mut now).expect("there");
    let moved = take_count(&mut partition).expect("taken").expect("one");
    assert_eq!(moved.tries, Some(Tries { left: 1, done: 1 }));
    assert_eq!(take_count(&mut partition).expect("taken"), None, "again");
    drop(partition);
    let (mut states, mut kept) = (0, 0);
    now.cuts(1000, 13, |cut| {
        states += 1;
        let mut disk = Recorder::of(cut);
        if states % 2 == 0 {
            take_count(&mut Partition::open(&mut disk).expect("there")).expect("taken");
        }
        // One try is left of two; a cut may cost it, and adds none.
        let started = [(); 2].map(|()| boot(&mut disk));
        assert!(
            started == ["2", "1"] || started == ["1", "1"],
            "{started:?}"
        );
        kept += usize::from(started[0] == "2");
    });
    assert!(kept > 0 && kept < states, "{kept} of {states}");
}

#[test]
fn a_generation_that_is_given_to_another_image_begins_anew() {
    let mut disk = on_trial();
    let started = [(); 3].map(|()| boot(&mut disk));
    assert_eq!(started, ["2", "2", "1"]);
    let mut partition = Partition::open(&mut disk).expect("there");
    withdraw(&mut partition, |_, _| true).expect("withdrawn");
    let entry = arm(&mut partition, 1, &release("2").image).expect("armed");
    assert_eq!(entry.generation, 2);
    drop(partition);
    assert_eq!(boot(&mut disk), "2");
}

#[test]
fn whatever_is_in_grubs_file_something_whole_starts_and_no_trial_is_started_for_ever() {
    let whole = environment();
    let mut torn = whole.clone();
    torn[..512].fill(0);
    let mut half = whole.clone();
    half[512..].fill(0);
    let other = b"# GRUB Environment Block\ntried=7\nused=xx\n".to_vec();
    let nonsense = b"# GRUB Environment Block\ntried=\nused=xx\n".to_vec();
    for (content, started) in [
        (whole, ["2", "2", "1"]),
        (half, ["2", "2", "1"]),
        (other, ["2", "2", "1"]),
        (nonsense, ["2", "2", "1"]),
        // What is no environment block is not written to by GRUB, and so nothing is tried.
        (torn, ["1", "1", "1"]),
        (Vec::new(), ["1", "1", "1"]),
    ] {
        let mut disk = on_trial();
        let mut partition = Partition::open(&mut disk).expect("there");
        partition
            .write(ENVIRONMENT, &mut &*content)
            .expect("written");
        drop(partition);
        assert_eq!([(); 3].map(|()| boot(&mut disk)), started);
    }
}

#[test]
fn parts_that_no_entry_needs_are_removed_and_no_others() {
    let mut disk = on_trial();
    let mut partition = Partition::open(&mut disk).expect("there");
    bless(&mut partition, 2).expect("blessed");
    // The first image's slot gets another one.
    stage(&mut partition, 2, &mut &*image("3")).expect("staged");
    let entry = arm(&mut partition, 2, &release("3").image).expect("armed");
    assert_eq!(entry.generation, 3);
    let names = partition.names("/masthead").expect("read");
    assert_eq!(
        names,
        ["000002.parts", "000003.parts", "a.efi", "b.efi", "grub.env"]
    );
}
