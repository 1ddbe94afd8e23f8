//! A disk for tests: in memory, sparse, with a volatile cache.

use std::collections::BTreeMap;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::rc::Rc;

use crate::table::Storage;

const SECTOR: u64 = 512;
type Sector = [u8; 512];

/// What is on a disk: sectors that are not all zeros.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Image {
    bytes: u64,
    sectors: BTreeMap<u64, Rc<Sector>>,
}

impl Image {
    fn sector(&self, number: u64) -> Sector {
        self.sectors
            .get(&number)
            .map_or([0; 512], |sector| **sector)
    }

    fn apply(&mut self, (number, data): &(u64, Rc<Sector>)) {
        if data.iter().all(|byte| *byte == 0) {
            self.sectors.remove(number);
        } else {
            self.sectors.insert(*number, Rc::clone(data));
        }
    }
}

/// A disk that records every state in which a cut could leave it: sectors are whole or not written, those
/// since the last sync in any order.
pub(crate) struct Memory {
    stable: Image,
    /// In the order of writing, and the last of each sector.
    pending: Vec<(u64, Rc<Sector>)>,
    cache: BTreeMap<u64, Rc<Sector>>,
    position: u64,
    pub(crate) crash_states: Vec<Image>,
}

impl Memory {
    /// A blank one.
    pub(crate) fn new(bytes: u64) -> Self {
        Self::of(Image {
            bytes,
            sectors: BTreeMap::new(),
        })
    }

    /// One that holds this.
    pub(crate) fn of(stable: Image) -> Self {
        Self {
            stable,
            pending: Vec::new(),
            cache: BTreeMap::new(),
            position: 0,
            crash_states: Vec::new(),
        }
    }

    /// What is on it after everything has been written.
    pub(crate) fn image(&self) -> Image {
        let mut image = self.stable.clone();
        for write in &self.pending {
            image.apply(write);
        }
        image
    }

    /// Writes to a place.
    pub(crate) fn put(&mut self, at: u64, data: &[u8]) {
        self.seek(SeekFrom::Start(at)).expect("inside");
        self.write_all(data).expect("written");
    }

    /// Inverts a bit of one byte.
    pub(crate) fn flip(&mut self, at: u64) {
        let byte = self.current(at / SECTOR)[usize::try_from(at % SECTOR).expect("small")];
        self.put(at, &[byte ^ 1]);
    }

    fn current(&self, number: u64) -> Sector {
        let pending = self.cache.get(&number);
        pending.map_or_else(|| self.stable.sector(number), |data| **data)
    }
}

impl Read for Memory {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let within = usize::try_from(self.position % SECTOR).expect("small");
        let left = usize::try_from(self.stable.bytes.saturating_sub(self.position)).expect("fits");
        let part = buffer.len().min(512 - within).min(left);
        if part > 0 {
            let sector = self.current(self.position / SECTOR);
            buffer[..part].copy_from_slice(&sector[within..][..part]);
        }
        self.position += part as u64;
        Ok(part)
    }
}

impl Write for Memory {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let number = self.position / SECTOR;
        let within = usize::try_from(self.position % SECTOR).expect("small");
        let part = data.len().min(512 - within);
        let mut contents = self.current(number);
        contents[within..][..part].copy_from_slice(&data[..part]);
        let contents = Rc::new(contents);
        self.cache.insert(number, Rc::clone(&contents));
        match self.pending.last_mut() {
            Some((sector, last)) if *sector == number => *last = contents,
            _ => self.pending.push((number, contents)),
        }
        self.position += part as u64;
        Ok(part)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for Memory {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.position = match to {
            SeekFrom::Start(at) => at,
            SeekFrom::End(offset) => self
                .stable
                .bytes
                .checked_add_signed(offset)
                .expect("inside"),
            SeekFrom::Current(offset) => self.position.checked_add_signed(offset).expect("inside"),
        };
        Ok(self.position)
    }
}

impl Storage for Memory {
    fn sync(&mut self) -> io::Result<()> {
        // In order, each prefix; and out of order, all but any one or two, and any one alone, of those that
        // change anything.
        let mut prefix = self.stable.clone();
        let mut changing = Vec::new();
        for write in &self.pending {
            if prefix.sector(write.0) != *write.1 {
                changing.push(write.clone());
                self.crash_states.push(prefix.clone());
                prefix.apply(write);
            }
        }
        for lost in 0..changing.len() {
            let mut alone = self.stable.clone();
            alone.apply(&changing[lost]);
            self.crash_states.push(alone);
            for also_lost in lost..changing.len() {
                let mut without = self.stable.clone();
                for (index, kept) in changing.iter().enumerate() {
                    if index != lost && index != also_lost {
                        without.apply(kept);
                    }
                }
                self.crash_states.push(without);
            }
        }
        self.stable = prefix;
        self.pending.clear();
        self.cache.clear();
        Ok(())
    }
}
