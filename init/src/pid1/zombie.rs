//! What `/proc` still says about a process that has ended and is not yet reaped, read without
//! allocating.

use std::fmt::{self, Write as _};

use rustix::fs::{Mode, OFlags};
use rustix::process::Pid;

/// What proc_pid_stat(5) says of it; nothing but zeros if it cannot be read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Stat {
    /// Clock ticks since boot, field 22; 0 is the start time of no process of the node.
    pub(super) start_time: u64,
    /// Whether it was the leader of its session, field 6.
    pub(super) led_session: bool,
}

pub(super) fn stat(pid: Pid) -> Stat {
    let mut buffer = [0; 1024];
    read(pid, "stat", &mut buffer)
        .and_then(|stat| parse(pid, stat))
        .unwrap_or_default()
}

/// Whether it was in a service's control group. The kernel still tells after the group is gone.
pub(super) fn was_of_service(pid: Pid) -> bool {
    let mut buffer = [0; 4096];
    read(pid, "cgroup", &mut buffer).is_some_and(is_of_service)
}

/// The name comes second, in parentheses, and may hold spaces and parentheses of its own.
fn parse(pid: Pid, stat: &[u8]) -> Option<Stat> {
    let name_end = stat.iter().rposition(|byte| *byte == b')')?;
    let fields = stat.get(name_end + 2..)?;
    let field = |number: usize| {
        // The state, field 3, is the first after the name.
        let field = fields.split(|byte| *byte == b' ').nth(number - 3)?;
        str::from_utf8(field).ok()?.parse::<u64>().ok()
    };
    Some(Stat {
        start_time: field(22)?,
        led_session: field(6) == u64::try_from(pid.as_raw_pid()).ok(),
    })
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
    fn finds_its_fields_behind_any_name() {
        let pid = |number| Pid::from_raw(number).expect("positive");
        let stat = b"42 (a) b (c) Z 1 42 42 0 -1 4 0 0 0 0 1 2 0 0 20 0 1 0 987654 0 0\n";
        let leader = Stat {
            start_time: 987_654,
            led_session: true,
        };
        let child = Stat {
            led_session: false,
            ..leader
        };
        assert_eq!(parse(pid(42), stat), Some(leader));
        assert_eq!(parse(pid(43), stat), Some(child));
        assert_eq!(parse(pid(42), b"42 (short) Z 1"), None);
        assert_eq!(parse(pid(42), b""), None);
    }

    #[test]
    fn the_dead_are_still_known_as_leaders_of_their_session() {
        for (leads, program) in [(true, &["setsid", "true"][..]), (false, &["true"])] {
            // setsid(1) executes in place unless it leads a process group, which a child of this test does not.
            let mut child = std::process::Command::new(program[0])
                .args(&program[1..])
                .spawn()
                .expect("started");
            let pid = Pid::from_child(&child);
            let options =
                rustix::process::WaitIdOptions::EXITED | rustix::process::WaitIdOptions::NOWAIT;
            rustix::process::waitid(rustix::process::WaitId::Pid(pid), options).expect("ended");
            assert_eq!(stat(pid).led_session, leads, "{program:?}");
            assert_ne!(stat(pid).start_time, 0);
            child.wait().expect("reaped");
        }
    }

    #[test]
    fn knows_its_own_start_time() {
        let pid = rustix::process::getpid();
        let text = std::fs::read_to_string("/proc/self/stat").expect("readable");
        let expected = text
            .rsplit(") ")
            .next()
            .and_then(|rest| rest.split(' ').nth(19));
        assert_eq!(Some(stat(pid).start_time.to_string().as_str()), expected);
        assert_ne!(stat(pid).start_time, 0);
    }

    #[test]
    fn tells_services_from_others_on_hosts_with_both_hierarchies() {
        assert!(is_of_service(b"9:name=systemd:/\n0::/services/etcd\n"));
        assert!(is_of_service(b"0::/services/etcd (deleted)\n"));
        assert!(!is_of_service(b"0::/supervisor\n"));
        assert!(!is_of_service(b"8:pids:/services/etcd\n0::/\n"));
    }
}
