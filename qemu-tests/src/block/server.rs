//! The NBD protocol, as far as QEMU's client speaks it (NetworkBlockDevice/nbd, doc/proto.md):
//! fixed newstyle handshake, `NBD_OPT_GO`, simple replies.

use std::{
    io::{self, Read, Write},
    os::unix::net::{UnixListener, UnixStream},
    path::{Path, PathBuf},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use super::disk::{Cut, Fault, VolatileDisk};

const OPTION_MAGIC: u64 = 0x4948_4156_454f_5054; // "IHAVEOPT"
const OPTION_REPLY_MAGIC: u64 = 0x0003_e889_0455_65a9;
const REQUEST_MAGIC: u32 = 0x2560_9513;
const REPLY_MAGIC: u32 = 0x6744_6698;
/// Fixed newstyle, and no padding after the old export option.
const HANDSHAKE_FLAGS: u16 = 0b11;
/// Has flags, flush, FUA, trim, write zeroes.
const TRANSMISSION_FLAGS: u16 = 1 | 1 << 2 | 1 << 3 | 1 << 5 | 1 << 6;
const COMMAND_FLAG_FUA: u16 = 1;
/// QEMU asks for at most 32 MiB at a time; more is a broken client.
const LARGEST_REQUEST: u32 = 64 << 20;
/// Handshake options are short.
const LARGEST_OPTION: u32 = 64 << 10;

/// One disk on one socket, for any number of QEMU runs one after another.
pub struct DiskServer {
    socket: PathBuf,
    shared: Arc<Shared>,
}

struct Shared {
    disk: Mutex<VolatileDisk>,
    /// Whether requests wait. Nothing is answered while they do.
    stalled: Mutex<bool>,
    released: Condvar,
    closed: AtomicBool,
}

impl DiskServer {
    /// Serves `disk` on `socket` until dropped.
    pub fn start(socket: &Path, disk: VolatileDisk) -> io::Result<Self> {
        match std::fs::remove_file(socket) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(socket)?;
        let shared = Arc::new(Shared {
            disk: Mutex::new(disk),
            stalled: Mutex::new(false),
            released: Condvar::new(),
            closed: AtomicBool::new(false),
        });
        let serving = Arc::clone(&shared);
        thread::Builder::new()
            .name("disk".to_owned())
            .spawn(move || {
                for stream in listener.incoming() {
                    if serving.closed.load(Ordering::SeqCst) {
                        return;
                    }
                    let Ok(stream) = stream else { return };
                    let shared = Arc::clone(&serving);
                    let session = move || {
                        // A QEMU that is killed closes the socket in the middle of a request.
                        let _ = Session::new(stream, shared).run();
                    };
                    if thread::Builder::new()
                        .name("disk-client".to_owned())
                        .spawn(session)
                        .is_err()
                    {
                        return;
                    }
                }
            })?;
        Ok(Self {
            socket: socket.to_owned(),
            shared,
        })
    }

    /// Where QEMU connects.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// The power goes; QEMU must be dead. Returns how many written sectors were lost.
    pub fn cut(&self, cut: Cut) -> io::Result<usize> {
        lock(&self.shared.disk).cut(cut)
    }

    /// The machine switched itself off in order: its disk writes its cache as it loses power.
    pub fn settle(&self) -> io::Result<()> {
        lock(&self.shared.disk).flush()
    }

    /// Makes the disk fail, or work again.
    pub fn set_fault(&self, fault: Fault) {
        lock(&self.shared.disk).set_fault(fault);
    }

    /// Lets every request wait, or all of them go on.
    pub fn set_stalled(&self, stalled: bool) {
        *lock(&self.shared.stalled) = stalled;
        self.shared.released.notify_all();
    }
}

impl Drop for DiskServer {
    fn drop(&mut self) {
        self.shared.closed.store(true, Ordering::SeqCst);
        self.set_stalled(false);
        // Wakes the accepting thread, which then sees that it is over.
        let _ = UnixStream::connect(&self.socket);
        let _ = std::fs::remove_file(&self.socket);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One connection.
struct Session {
    stream: UnixStream,
    shared: Arc<Shared>,
    /// Of the disk, when this began. What a dead QEMU has left in the socket must not be written later.
    cuts: u64,
}

struct Request {
    flags: u16,
    command: u16,
    cookie: u64,
    offset: u64,
    length: u32,
}

impl Session {
    fn new(stream: UnixStream, shared: Arc<Shared>) -> Self {
        let cuts = lock(&shared.disk).cuts();
        Self {
            stream,
            shared,
            cuts,
        }
    }

    fn run(mut self) -> io::Result<()> {
        self.stream.write_all(b"NBDMAGIC")?;
        self.stream.write_all(&OPTION_MAGIC.to_be_bytes())?;
        self.stream.write_all(&HANDSHAKE_FLAGS.to_be_bytes())?;
        let _client_flags: [u8; 4] = self.take()?;
        if self.negotiate()? {
            while self.serve_one()? {}
        }
        Ok(())
    }

    fn take<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        self.stream.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    /// Answers options until one begins the transmission (true) or ends the session (false).
    fn negotiate(&mut self) -> io::Result<bool> {
        const EXPORT_NAME: u32 = 1;
        const ABORT: u32 = 2;
        const INFO: u32 = 6;
        const GO: u32 = 7;
        const ACKNOWLEDGED: u32 = 1;
        const INFORMATION: u32 = 3;
        const UNSUPPORTED: u32 = (1 << 31) + 1;
        loop {
            if u64::from_be_bytes(self.take()?) != OPTION_MAGIC {
                return Err(io::ErrorKind::InvalidData.into());
            }
            let option = u32::from_be_bytes(self.take()?);
            let length = u32::from_be_bytes(self.take()?);
            if length > LARGEST_OPTION {
                return Err(io::ErrorKind::InvalidData.into());
            }
            let mut data = vec![0; length as usize];
            self.stream.read_exact(&mut data)?;
            let bytes = lock(&self.shared.disk).bytes();
            match option {
                EXPORT_NAME => {
                    self.stream.write_all(&bytes.to_be_bytes())?;
                    self.stream.write_all(&TRANSMISSION_FLAGS.to_be_bytes())?;
                    return Ok(true);
                }
                INFO | GO => {
                    // Type 0 (export), size, flags; then type 3 (block size): smallest, best, largest.
                    let mut export = vec![0, 0];
                    export.extend(bytes.to_be_bytes());
                    export.extend(TRANSMISSION_FLAGS.to_be_bytes());
                    self.reply_option(option, INFORMATION, &export)?;
                    let mut sizes = vec![0, 3];
                    for size in [512_u32, 4096, 32 << 20] {
                        sizes.extend(size.to_be_bytes());
                    }
                    self.reply_option(option, INFORMATION, &sizes)?;
                    self.reply_option(option, ACKNOWLEDGED, &[])?;
                    if option == GO {
                        return Ok(true);
                    }
                }
                ABORT => {
                    self.reply_option(option, ACKNOWLEDGED, &[])?;
                    return Ok(false);
                }
                _ => self.reply_option(option, UNSUPPORTED, &[])?,
            }
        }
    }

    fn reply_option(&mut self, option: u32, kind: u32, data: &[u8]) -> io::Result<()> {
        let mut reply = Vec::with_capacity(20 + data.len());
        reply.extend(OPTION_REPLY_MAGIC.to_be_bytes());
        reply.extend(option.to_be_bytes());
        reply.extend(kind.to_be_bytes());
        reply.extend(
            u32::try_from(data.len())
                .map_err(io::Error::other)?
                .to_be_bytes(),
        );
        reply.extend(data);
        self.stream.write_all(&reply)
    }

    /// Serves one request; false when the client says goodbye.
    fn serve_one(&mut self) -> io::Result<bool> {
        const READ: u16 = 0;
        const WRITE: u16 = 1;
        const DISCONNECT: u16 = 2;
        let header: [u8; 28] = self.take()?;
        let mut fields = &header[..];
        if u32::from_be_bytes(part(&mut fields)) != REQUEST_MAGIC {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let request = Request {
            flags: u16::from_be_bytes(part(&mut fields)),
            command: u16::from_be_bytes(part(&mut fields)),
            cookie: u64::from_be_bytes(part(&mut fields)),
            offset: u64::from_be_bytes(part(&mut fields)),
            length: u32::from_be_bytes(part(&mut fields)),
        };
        if request.command == DISCONNECT {
            return Ok(false);
        }
        let carries_data = matches!(request.command, READ | WRITE);
        if carries_data && request.length > LARGEST_REQUEST {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut data = vec![
            0;
            if carries_data {
                request.length as usize
            } else {
                0
            }
        ];
        if request.command == WRITE {
            self.stream.read_exact(&mut data)?;
        }
        self.wait_while_stalled();
        let result = self.carry_out(&request, &mut data);
        let error = match &result {
            Ok(()) => 0,
            Err(error) => error_number(error),
        };
        let mut reply = Vec::with_capacity(16 + data.len());
        reply.extend(REPLY_MAGIC.to_be_bytes());
        reply.extend(error.to_be_bytes());
        reply.extend(request.cookie.to_be_bytes());
        if request.command == READ && result.is_ok() {
            reply.extend(data);
        }
        self.stream.write_all(&reply)?;
        Ok(true)
    }

    fn carry_out(&self, request: &Request, data: &mut [u8]) -> io::Result<()> {
        let mut disk = lock(&self.shared.disk);
        if disk.cuts() != self.cuts {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        match request.command {
            0 => disk.read(request.offset, data)?,
            1 => disk.write(request.offset, data)?,
            3 => disk.flush()?,
            // A trim is a hint, and may leave what was there.
            4 => {}
            6 => disk.zero(request.offset, u64::from(request.length))?,
            _ => return Err(io::ErrorKind::InvalidInput.into()),
        }
        if request.flags & COMMAND_FLAG_FUA != 0 {
            // Flushing more than was asked for is allowed, and FUA is rare.
            disk.flush()?;
        }
        Ok(())
    }

    fn wait_while_stalled(&self) {
        let mut stalled = lock(&self.shared.stalled);
        while *stalled {
            stalled = self
                .shared
                .released
                .wait(stalled)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// Takes a field off the front of a header that is known to be long enough.
fn part<const N: usize>(fields: &mut &[u8]) -> [u8; N] {
    let (field, rest) = fields.split_at(N);
    *fields = rest;
    let mut bytes = [0; N];
    bytes.copy_from_slice(field);
    bytes
}

/// The protocol's own numbers, which are Linux's.
fn error_number(error: &io::Error) -> u32 {
    let number = match error.kind() {
        io::ErrorKind::PermissionDenied => libc::EPERM,
        io::ErrorKind::InvalidInput => libc::EINVAL,
        _ => error.raw_os_error().unwrap_or(libc::EIO),
    };
    number.unsigned_abs()
}

#[cfg(test)]
mod tests {
    use std::{os::unix::process::ExitStatusExt, process::Command};

    use super::*;

    /// QEMU's own client (package qemu-utils) writes 64 KiB of sevens, does something more, and ends as by
    /// a crash; otherwise it would flush. Returns what is on the disk after a cut.
    fn written_and_cut(then: &[&str]) -> Vec<u8> {
        let folder = tempfile::tempdir().expect("made");
        let disk = VolatileDisk::open(&folder.path().join("disk"), 1 << 20).expect("opened");
        let socket = folder.path().join("socket");
        let server = DiskServer::start(&socket, disk).expect("started");
        let mut client = Command::new("qemu-io");
        client.args(["--format=raw", "--cache=writeback"]);
        for command in [&["write -P 7 0 64k", "read -P 7 0 64k"], then, &["abort"]].concat() {
            client.args(["-c", command]);
        }
        let output = client
            .arg(format!("nbd+unix:///?socket={}", socket.display()))
            .output()
            .expect("qemu-io is installed");
        assert_eq!(output.status.signal(), Some(libc::SIGABRT), "{output:?}");
        let read = || {
            let mut data = vec![0; 64 << 10];
            lock(&server.shared.disk).read(0, &mut data).expect("read");
            data
        };
        assert_eq!(read()[(64 << 10) - 1], 7, "it was written: {output:?}");
        server.cut(Cut::Drop).expect("cut");
        read()
    }

    #[test]
    fn a_cut_loses_what_qemu_wrote_and_did_not_flush() {
        assert!(written_and_cut(&[]).iter().all(|byte| *byte == 0));
    }

    #[test]
    fn a_cut_keeps_what_qemu_flushed_or_forced_through() {
        assert!(written_and_cut(&["flush"]).iter().all(|byte| *byte == 7));
        let forced = written_and_cut(&["write -f -P 8 0 4k"]);
        assert!(forced[..4096].iter().all(|byte| *byte == 8));
    }

    #[test]
    fn a_cut_keeps_zeros_where_qemu_asked_for_them() {
        let zeroed = written_and_cut(&["flush", "write -z 0 32k"]);
        let (zeros, sevens) = zeroed.split_at(32 << 10);
        assert!(zeros.iter().all(|byte| *byte == 0) && sevens.iter().all(|byte| *byte == 7));
    }

    #[test]
    fn what_a_dead_qemu_left_in_the_socket_is_not_written_after_the_cut() {
        let folder = tempfile::tempdir().expect("made");
        let disk = VolatileDisk::open(&folder.path().join("disk"), 1 << 20).expect("opened");
        let socket = folder.path().join("socket");
        let server = DiskServer::start(&socket, disk).expect("started");
        let mut client = UnixStream::connect(&socket).expect("connected");
        // Greeting, flags; then export 1 (by name, of no length): size and flags.
        client.read_exact(&mut [0; 18]).expect("a greeting");
        client.write_all(&[0, 0, 0, 3]).expect("flags");
        let option = [&OPTION_MAGIC.to_be_bytes()[..], &[0, 0, 0, 1, 0, 0, 0, 0]].concat();
        client.write_all(&option).expect("an option");
        client.read_exact(&mut [0; 10]).expect("an export");
        server.cut(Cut::Drop).expect("cut");
        // A write of one sector at 0.
        let mut write = REQUEST_MAGIC.to_be_bytes().to_vec();
        write.extend([0, 0, 0, 1]);
        write.extend([0; 16]);
        write.extend(512_u32.to_be_bytes());
        write.extend([7; 512]);
        client.write_all(&write).expect("a request");
        let mut answer = [0; 16];
        client.read_exact(&mut answer).expect("an answer");
        assert_ne!(answer[4..8], [0; 4], "it was refused");
        let mut sector = [0; 512];
        lock(&server.shared.disk)
            .read(0, &mut sector)
            .expect("read");
        assert_eq!(sector, [0; 512]);
    }
}
