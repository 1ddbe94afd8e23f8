//! A disk for tests: in memory, sparse, with a volatile cache, and a record of all that was written to it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::rc::Rc;

use masthead_disk_layout::Storage;
use masthead_machine::Random;

const SECTOR: u64 = 512;
type Sector = [u8; 512];

/// So many states are looked at where the disk is waited for, and at the end.
const AT_A_WAIT: usize = 4;
const AT_THE_END: usize = 32;

/// What is on a disk: sectors that are not all zeros.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Image {
    bytes: u64,
    sectors: BTreeMap<u64, Rc<Sector>>,
}

impl Image {
    pub(crate) fn blank(bytes: u64) -> Self {
        Self {
            bytes,
            sectors: BTreeMap::new(),
        }
    }

    /// As a file, for other programs.
    pub(crate) fn store(&self, path: &Path) -> io::Result<()> {
        let mut file = File::create(path)?;
        file.set_len(self.bytes)?;
        for (number, data) in &self.sectors {
            file.seek(SeekFrom::Start(number * SECTOR))?;
            file.write_all(&**data)?;
        }
        Ok(())
    }

    fn sector(&self, number: u64) -> Sector {
        self.sectors
            .get(&number)
            .map_or([0; 512], |sector| **sector)
    }

    /// With those of the writes for which this says so.
    fn with(&self, writes: &[(u64, Rc<Sector>)], mut kept: impl FnMut() -> bool) -> Self {
        let mut image = self.clone();
        for (number, data) in writes {
            if kept() {
                image.apply(*number, data);
            }
        }
        image
    }

    /// Few of them are there, or few are lost, or half of them.
    fn with_some_of(&self, writes: &[(u64, Rc<Sector>)], random: &mut Random) -> Self {
        let share = [1, 8, 15][usize::try_from(random.below(3)).unwrap_or(0)];
        self.with(writes, || random.below(16) < share)
    }

    fn apply(&mut self, number: u64, data: &Rc<Sector>) {
        if data.iter().all(|byte| *byte == 0) {
            self.sectors.remove(&number);
        } else {
            self.sectors.insert(number, Rc::clone(data));
        }
    }
}

/// What happened to a disk.
#[derive(Clone, Debug)]
enum Step {
    Write(u64, Rc<Sector>),
    Sync,
}

/// A disk that remembers.
#[derive(Debug)]
pub(crate) struct Recorder {
    began: Image,
    now: Image,
    steps: Vec<Step>,
    position: u64,
    /// Whether anything is ever waited for.
    pub(crate) syncs: bool,
}

impl Recorder {
    pub(crate) fn of(image: Image) -> Self {
        Self {
            now: image.clone(),
            began: image,
            steps: Vec::new(),
            position: 0,
            syncs: true,
        }
    }

    pub(crate) fn image(&self) -> Image {
        self.now.clone()
    }

    /// States in which a cut could have left the disk, about so many of them: sectors are whole or not written, and those since the last wait
    /// in any order. `judge` is called with each.
    pub(crate) fn cuts(&self, about: usize, seed: u64, mut judge: impl FnMut(Image)) {
        let mut random = Random::new(seed);
        let every = (self.steps.len() / about.max(1)).max(1) as u64;
        let mut stable = self.began.clone();
        let mut pending: Vec<(u64, Rc<Sector>)> = Vec::new();
        for step in &self.steps {
            match step {
                Step::Write(number, data) => {
                    pending.push((*number, Rc::clone(data)));
                    if random.below(every) == 0 {
                        judge(stable.with(&pending, || true));
                        judge(stable.with_some_of(&pending, &mut random));
                    }
                }
                Step::Sync => {
                    for _ in 0..AT_A_WAIT {
                        judge(stable.with_some_of(&pending, &mut random));
                    }
                    stable = stable.with(&pending, || true);
                    pending.clear();
                }
            }
        }
        // What nobody has waited for may be lost for as long.
        for _ in 0..AT_THE_END {
            judge(stable.with_some_of(&pending, &mut random));
        }
    }
}

impl Read for Recorder {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let within = usize::try_from(self.position % SECTOR).expect("small");
        let left = usize::try_from(self.now.bytes.saturating_sub(self.position)).expect("fits");
        let part = buffer.len().min(512 - within).min(left);
        if part > 0 {
            let sector = self.now.sector(self.position / SECTOR);
            buffer[..part].copy_from_slice(&sector[within..][..part]);
        }
        self.position += part as u64;
        Ok(part)
    }
}

impl Write for Recorder {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let number = self.position / SECTOR;
        let within = usize::try_from(self.position % SECTOR).expect("small");
        let part = data.len().min(512 - within);
        let before = self.now.sector(number);
        let mut sector = before;
        sector[within..][..part].copy_from_slice(&data[..part]);
        if sector != before {
            let sector = Rc::new(sector);
            self.now.apply(number, &sector);
            self.steps.push(Step::Write(number, sector));
        }
        self.position += part as u64;
        Ok(part)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for Recorder {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.position = match to {
            SeekFrom::Start(at) => at,
            SeekFrom::End(offset) => self.now.bytes.checked_add_signed(offset).expect("inside"),
            SeekFrom::Current(offset) => self.position.checked_add_signed(offset).expect("inside"),
        };
        Ok(self.position)
    }
}

impl Storage for Recorder {
    fn sync(&mut self) -> io::Result<()> {
        if self.syncs {
            self.steps.push(Step::Sync);
        }
        Ok(())
    }
}
