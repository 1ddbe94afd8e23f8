//! What `/proc` still says about a process that has ended and is not yet reaped, read without
//! allocating.

use std::fmt::{self, Write as _};

use rustix::fs::{Mode, OFlags};
use rustix::process::Pid;

/// Its start time in clock ticks since boot, field 22 of proc_pid_stat(5); 0 if it cannot be read,
/// which no process of the node has.
pub(super) fn start_time(pid: Pid) -> u64 {
    let mut buffer = [0; 1024];
    read(pid, "stat", &mut buffer)
        .and_then(parse_start_time)
        .unwrap_or(0)
}

/// Whether it was in a service's control group. The kernel still tells after the group is gone.
pub(super) fn was_of_service(pid: Pid) -> bool {
    let mut buffer = [0; 4096];
    read(pid, "cgroup", &mut buffer).is_some_and(is_of_service)
}

/// The name comes second, in parentheses, and may hold spaces and parentheses of its own.
fn parse_start_time(stat: &[u8]) -> Option<u64> {
    let name_end = stat.iter().rposition(|byte| *byte == b')')?;
    // The state, field 3, is the first after the name.
    let field = stat
        .get(name_end + 2..)?
        .split(|byte| *byte == b' ')
        .nth(22 - 3)?;
    str::from_utf8(field).ok()?.parse().ok()
}

fn is_of_service(cgroup: &[u8]) -> bool {
    cgroup
        .split(|byte| *byte == b'\n')
        .any(|line| line.starts_with(b"0::/services/"))
}

fn read<'a>(pid: Pid, file: &str, buffer: &'a mut [u8]) -> Option<&'a [u8]> {
    let mut path = Path {
        bytes: [0; 40],
        length: 0,
    };
    write!(path, "/proc/{}/{file}", pid.as_raw_nonzero()).ok()?;
    let path = str::from_utf8(&path.bytes[..path.length]).ok()?;
    let file = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()?;
    let length = rustix::io::read(&file, &mut *buffer).ok()?;
    buffer.get(..length)
}

struct Path {
    bytes: [u8; 40],
    length: usize,
}

impl fmt::Write for Path {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let end = self.length + text.len();
        let place = self.bytes.get_mut(self.length..end).ok_or(fmt::Error)?;
        place.copy_from_slice(text.as_bytes());
        self.length = end;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_start_time_behind_any_name() {
        let stat = b"42 (a) b (c) Z 1 42 42 0 -1 4 0 0 0 0 1 2 0 0 20 0 1 0 987654 0 0\n";
        assert_eq!(parse_start_time(stat), Some(987_654));
        assert_eq!(parse_start_time(b"42 (short) Z 1"), None);
        assert_eq!(parse_start_time(b""), None);
    }

    #[test]
    fn knows_its_own_start_time() {
        let pid = rustix::process::getpid();
        let text = std::fs::read_to_string("/proc/self/stat").expect("readable");
        let expected = text
            .rsplit(") ")
            .next()
            .and_then(|rest| rest.split(' ').nth(19));
        assert_eq!(Some(start_time(pid).to_string().as_str()), expected);
        assert_ne!(start_time(pid), 0);
    }

    #[test]
    fn tells_services_from_others_on_hosts_with_both_hierarchies() {
        assert!(is_of_service(b"9:name=systemd:/\n0::/services/etcd\n"));
        assert!(is_of_service(b"0::/services/etcd (deleted)\n"));
        assert!(!is_of_service(b"0::/supervisor\n"));
        assert!(!is_of_service(b"8:pids:/services/etcd\n0::/\n"));
    }
}
