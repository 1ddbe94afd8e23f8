//! Output reaches the disk exactly once, whatever happens to the follower and to the disk: on a real
//! tmpfs, with small file systems of the test's own, as root.
#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use std::{env, thread};

use masthead_init::output::{Bounds, Cause, Config, From, Handle, State, spawn};
use masthead_machine::{Random, Scale};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::stat::Mode;
use rustix::fs::{FlockOperation, flock};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(30);

/// Memory and disk of a node, in a folder on tmpfs.
struct Node {
    folder: TempDir,
    bounds: Bounds,
}

impl Node {
    fn new() -> Self {
        let folder = tempfile::tempdir_in("/dev/shm").unwrap();
        fs::create_dir(folder.path().join("data")).unwrap();
        let millis = Duration::from_millis;
        let real = Bounds::new(Scale::REAL);
        let bounds = Bounds {
            retry: millis(20),
            stall: millis(50),
            patience: millis(500),
            ..real
        };
        Self { folder, bounds }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn config(&self) -> Config {
        Config {
            service: "talker".to_owned(),
            source: self.path("talker"),
            segments: self.path("data/log/talker"),
            boot_number: self.path("boot-number"),
            bounds: self.bounds,
        }
    }

    fn write(&self, text: &str) {
        let mut options = File::options();
        let mut file = options
            .append(true)
            .create(true)
            .open(self.path("talker"))
            .unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }

    fn written(&self) -> String {
        fs::read_to_string(self.path("talker")).unwrap()
    }

    /// Names and contents of all files on disk, in order.
    fn segments(&self) -> Vec<(String, String)> {
        let mut files: Vec<_> = fs::read_dir(self.path("data/log/talker"))
            .unwrap()
            .map(|entry| entry.unwrap())
            .map(|entry| {
                let text = fs::read_to_string(entry.path()).unwrap();
                (entry.file_name().into_string().unwrap(), text)
            })
            .collect();
        files.sort();
        files
    }

    fn stored(&self) -> String {
        self.segments().into_iter().map(|(_, text)| text).collect()
    }
}

/// A small file system on a directory, until it is dropped.
struct Disk(PathBuf);

impl Disk {
    fn mount(path: PathBuf, flags: MsFlags, options: &str) -> Self {
        mount(Some("tmpfs"), &path, Some("tmpfs"), flags, Some(options)).unwrap();
        Self(path)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        umount2(&self.0, MntFlags::MNT_DETACH).unwrap();
    }
}

/// Numbered lines of various lengths, from one number to before another.
fn lines(range: std::ops::Range<usize>) -> String {
    let lines = range.map(|number| format!("line {number} {}", "x".repeat(number % 50)));
    lines.flat_map(|line| [line, "\n".to_owned()]).collect()
}

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async { timeout(PATIENCE, test).await.expect("in time") });
    runtime.shutdown_background();
}

async fn until(handle: &Handle, what: impl FnMut(&State) -> bool) -> State {
    handle.watch().wait_for(what).await.unwrap().clone()
}

async fn until_stored(handle: &Handle, bytes: u64) -> State {
    until(handle, |state| {
        state.stored == bytes && state.written == bytes
    })
    .await
}

#[test]
fn a_follower_killed_a_hundred_times_loses_and_doubles_no_line() {
    let mut node = Node::new();
    // Many segments.
    node.bounds.segment = 512 << 10;
    node.bounds.disk = 1 << 30;
    let mut writer = Role::spawn("writer", &node);
    let seed = u64::from(std::process::id());
    let mut random = Random::new(seed);
    for _ in 0..100 {
        let mut follower = Role::spawn("follower", &node);
        follower.line();
        // The fault's instant: nothing is waited for.
        thread::sleep(random.up_to(Duration::from_millis(20)));
        follower.kill();
    }
    fs::write(node.path("stop"), "").unwrap();
    let count: usize = writer.line().parse().unwrap();
    let all = lines(0..count);
    run(async {
        let handle = spawn(node.config());
        let state = until_stored(&handle, all.len() as u64).await;
        assert_eq!((state.lost, state.trouble), (0, None));
    });
    assert!(node.segments().len() > 5, "{count} lines are too few");
    assert!(
        node.stored() == all,
        "seed {seed}: not what was written, of {count} lines"
    );
}

#[test]
fn a_stopped_follower_stalls_nobody() {
    let node = Node::new();
    let mut follower = Role::spawn("follower", &node);
    follower.line();
    let pid = Pid::from_child(&follower.child);
    kill_process(pid, Signal::STOP).unwrap();
    let text = lines(0..1_000);
    let (mut written, mut slowest) = (0, Duration::ZERO);
    while written < 10 << 20 {
        let begin = Instant::now();
        node.write(&text);
        slowest = slowest.max(begin.elapsed());
        written += text.len();
    }
    assert!(slowest < Duration::from_secs(1), "a write took {slowest:?}");
    let all = node.written();
    assert_eq!(all.len(), written);
    kill_process(pid, Signal::CONT).unwrap();
    // It goes on where it was, and a second one takes over when it ends.
    while fs::read_dir(node.path("data")).unwrap().next().is_none() {
        thread::yield_now();
    }
    follower.kill();
    run(async {
        let handle = spawn(node.config());
        assert_eq!(until_stored(&handle, written as u64).await.lost, 0);
    });
    assert!(node.stored() == all);
    let memory =
        std::os::unix::fs::MetadataExt::blocks(&fs::metadata(node.path("talker")).unwrap());
    assert!(
        memory * 512 <= node.bounds.window + 8192,
        "{memory} blocks are still in memory"
    );
}

#[test]
fn on_a_small_file_system_a_service_keeps_its_newest_output_and_leaves_room_for_others() {
    let node = Node::new();
    let _disk = Disk::mount(node.path("data"), MsFlags::empty(), "size=4m");
    let all = lines(0..100_000);
    assert!(all.len() > 3 << 20);
    node.write(&all);
    run(async {
        let handle = spawn(node.config());
        let state = until_stored(&handle, all.len() as u64).await;
        assert_eq!((state.lost, state.trouble), (0, None));
    });
    let stored = node.stored();
    assert!(all.ends_with(&stored));
    assert!(
        (256 << 10..=512 << 10).contains(&stored.len()),
        "{} bytes are stored",
        stored.len()
    );
}

#[test]
fn a_full_disk_loses_the_oldest_and_says_how_much() {
    let mut node = Node::new();
    node.bounds.memory = 1 << 20;
    node.bounds.window = 64 << 10;
    let _disk = Disk::mount(node.path("data"), MsFlags::empty(), "size=64m");
    let ballast = node.path("data/ballast");
    fs::write(&ballast, vec![0; (64 << 20) - (300 << 10)]).unwrap();
    run(async {
        let handle = spawn(node.config());
        let mut all = String::new();
        while all.len() < 3 << 20 {
            let part = lines(all.len()..all.len() + 1_000);
            node.write(&part);
            all += &part;
            until(&handle, |state| state.written == all.len() as u64).await;
        }
        let state = until(&handle, |state| state.trouble.is_some()).await;
        let trouble = state.trouble.clone().unwrap();
        assert_eq!(trouble.cause, Cause::DiskFull);
        assert!(
            trouble.detail.contains("data/log/talker/000001-"),
            "{}",
            trouble.detail
        );
        assert!(state.lost > 1 << 20, "{state:?}");
        let held = state.written - state.stored - state.lost;
        assert!(
            (700 << 10..=1 << 20).contains(&held),
            "{held} bytes are held"
        );

        fs::remove_file(&ballast).unwrap();
        let state = until_stored(&handle, all.len() as u64).await;
        assert_eq!(state.trouble, None);
        let segments = node.segments();
        let (marker, text) = segments
            .iter()
            .find(|(name, _)| name.contains("-lost-"))
            .unwrap();
        assert!(
            marker.ends_with(&format!("-lost-{}.log", state.lost)),
            "{marker}"
        );
        assert_eq!(
            *text,
            format!("masthead: {} bytes of output were lost here\n", state.lost)
        );
        let (before, after) = node
            .stored()
            .split_once(text)
            .map(|(a, b)| (a.to_owned(), b.to_owned()))
            .unwrap();
        assert!(all.starts_with(&before) && all.ends_with(&after));
        assert_eq!(
            before.len() as u64 + state.lost + after.len() as u64,
            all.len() as u64
        );
        // And all is well again.
        node.write("well\n");
        until_stored(&handle, all.len() as u64 + 5).await;
        assert!(node.stored().ends_with("well\n"));
    });
}

#[test]
fn a_disk_that_comes_later_is_picked_up() {
    let node = Node::new();
    fs::remove_dir(node.path("data")).unwrap();
    run(async {
        let handle = spawn(node.config());
        node.write(&lines(0..100));
        let state = until(&handle, |state| {
            state.trouble.is_some() && state.written > 0
        })
        .await;
        assert_eq!(state.trouble.unwrap().cause, Cause::DiskAbsent);
        assert_eq!(
            handle.tail(2).await,
            lines(98..100).lines().collect::<Vec<_>>()
        );

        fs::create_dir(node.path("data")).unwrap();
        let state = until_stored(&handle, lines(0..100).len() as u64).await;
        assert_eq!((state.lost, state.trouble), (0, None));
        assert_eq!(node.stored(), lines(0..100));
    });
}

#[test]
fn waiting_for_the_last_words_ends_when_they_are_stored_or_cannot_be() {
    let node = Node::new();
    node.write(&lines(0..5000));
    run(async {
        let handle = spawn(node.config());
        handle.stored().await;
        assert_eq!(node.stored(), lines(0..5000));
    });

    let node = Node::new();
    fs::remove_dir(node.path("data")).unwrap();
    node.write("last words\n");
    run(async {
        let handle = spawn(node.config());
        // That it returns is what is tested.
        handle.stored().await;
        assert!(handle.watch().borrow().trouble.is_some());
    });
}

#[test]
fn a_read_only_disk_is_named_and_picked_up_when_it_is_writable_again() {
    let node = Node::new();
    let disk = Disk::mount(node.path("data"), MsFlags::empty(), "size=8m");
    fs::create_dir_all(node.path("data/log/talker")).unwrap();
    let none = None::<&str>;
    mount(
        none,
        &disk.0,
        none,
        MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY,
        none,
    )
    .unwrap();
    run(async {
        let handle = spawn(node.config());
        node.write(&lines(0..100));
        let state = until(&handle, |state| state.trouble.is_some()).await;
        assert_eq!(state.trouble.unwrap().cause, Cause::DiskReadOnly);
        mount(none, &disk.0, none, MsFlags::MS_REMOUNT, none).unwrap();
        until_stored(&handle, lines(0..100).len() as u64).await;
        assert_eq!(node.stored(), lines(0..100));
    });
}

/// A write of a dead supervisor that a stalled disk holds up may still reach the disk: until it has, nobody can say how
/// far the copy got. Memory is kept within its bounds meanwhile.
#[test]
fn a_successor_copies_only_when_its_predecessor_has_no_write_under_way() {
    let mut node = Node::new();
    node.bounds.memory = 64 << 10;
    run(async {
        node.write(&lines(0..10));
        let predecessor = File::open(node.path("talker")).unwrap();
        flock(&predecessor, FlockOperation::LockExclusive).unwrap();
        let handle = spawn(node.config());
        let stalled = |state: &State| {
            let trouble = state.trouble.as_ref();
            trouble.is_some_and(|trouble| trouble.cause == Cause::DiskStalled)
        };
        until(&handle, stalled).await;
        for number in 0..40 {
            node.write(&lines(number * 1000..(number + 1) * 1000));
        }
        let bounded = until(&handle, |state| state.lost > 0).await;
        assert_eq!(bounded.stored, 0);
        drop(predecessor);
        let whole = fs::metadata(node.path("talker")).unwrap().len();
        until_stored(&handle, whole).await;
        let stored = node.stored();
        assert!(stored.starts_with("masthead: "), "{stored:.100}");
        assert!(stored.ends_with(&lines(39_990..40_000)));
    });
}

/// A FIFO in the place of the segment blocks whoever opens it: a disk that does not come back.
#[test]
fn a_stalled_disk_stalls_neither_the_executor_nor_readers() {
    let mut node = Node::new();
    node.bounds.memory = 64 << 10;
    node.bounds.window = 0;
    fs::write(node.path("boot-number"), "1\n").unwrap();
    fs::create_dir_all(node.path("data/log/talker")).unwrap();
    let fifo = node.path("data/log/talker/000001-00000000000000000000.log");
    nix::unistd::mkfifo(&fifo, Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
    run(async {
        let handle = spawn(node.config());
        let mut follow = handle.follow(From::Start);
        node.write("early\n");
        assert_eq!(follow.next().await.unwrap(), "early\n");
        let state = until(&handle, |state| state.trouble.is_some()).await;
        assert_eq!(state.trouble.unwrap().cause, Cause::DiskStalled);
        node.write(&lines(0..4_000));
        let state = until(&handle, |state| state.lost > 0).await;
        let kept = state.written - state.lost;
        assert!(kept <= 64 << 10, "{kept} bytes are kept");
        assert_eq!(
            handle.tail(2).await,
            lines(3_998..4_000).lines().collect::<Vec<_>>()
        );
        // The disk comes back.
        let reader = tokio::task::spawn_blocking(move || File::open(fifo).unwrap())
            .await
            .unwrap();
        until(&handle, |state| state.trouble.is_none()).await;
        drop(reader);
    });
}

#[test]
fn rotation_keeps_the_bounds() {
    let mut node = Node::new();
    node.bounds.segment = 64 << 10;
    node.bounds.disk = 256 << 10;
    run(async {
        let handle = spawn(node.config());
        let mut all = String::new();
        while all.len() < 2 << 20 {
            let part = lines(all.len()..all.len() + 3_000);
            node.write(&part);
            all += &part;
            until_stored(&handle, all.len() as u64).await;
            let segments = node.segments();
            let sizes: Vec<_> = segments.iter().map(|(_, text)| text.len() as u64).collect();
            assert!(sizes.iter().all(|&size| size <= 64 << 10), "{sizes:?}");
            assert!(sizes.iter().sum::<u64>() <= 256 << 10, "{sizes:?}");
            // Segments end with lines.
            assert!(segments.iter().all(|(_, text)| text.ends_with('\n')));
        }
        let stored = node.stored();
        assert!(stored.len() > 128 << 10);
        assert!(all.ends_with(&stored));
    });
}

#[test]
fn readers_see_memory_and_disk_as_one() {
    let mut node = Node::new();
    node.bounds.segment = 32 << 10;
    node.bounds.window = 8 << 10;
    run(async {
        let handle = spawn(node.config());
        let earlier = node.path("data/log/talker/000004-00000000000000000000.log");
        fs::create_dir_all(earlier.parent().unwrap()).unwrap();
        fs::write(&earlier, "earlier boot\ncut\0\0").unwrap();
        let all = lines(0..3_000);
        node.write(&all);
        until_stored(&handle, all.len() as u64).await;
        for count in [0, 1, 10, 2_000, 3_000] {
            let expected = lines(3_000 - count..3_000);
            assert_eq!(
                handle.tail(count).await,
                expected.lines().collect::<Vec<_>>()
            );
        }
        let with_earlier = handle.tail(5_000).await;
        assert_eq!(with_earlier[..3], ["earlier boot", "cut", "line 0 "]);
        assert_eq!(with_earlier.len(), 3_002);

        let mut follow = handle.follow(From::Start);
        let mut followed = Vec::new();
        while followed.len() < all.len() {
            followed.extend_from_slice(&follow.next().await.unwrap());
        }
        assert!(followed == all.as_bytes());
        let mut last = handle.follow(From::Last(2));
        assert_eq!(last.next().await.unwrap(), lines(2_998..3_000));
        let mut end = handle.follow(From::End);
        let (next, ()) = tokio::join!(end.next(), async { node.write("new\n") });
        assert_eq!(next.unwrap(), "new\n");
        for mut follow in [follow, last] {
            assert_eq!(follow.next().await.unwrap(), "new\n");
        }

        // Without the disk, what is in memory is still there, and what is missing is named.
        until_stored(&handle, all.len() as u64 + 4).await;
        fs::rename(node.path("data"), node.path("gone")).unwrap();
        assert_eq!(handle.tail(1).await, ["new"]);
        let mut follow = handle.follow(From::Start);
        let missing = follow.next().await.unwrap();
        assert!(
            missing.ends_with(b" bytes of output are not here\n"),
            "{missing:?}"
        );
        assert!(follow.next().await.unwrap().ends_with(b"new\n"));
        drop(handle);
        assert_eq!(follow.next().await, None);
    });
}

#[test]
fn a_service_that_truncates_its_output_harms_only_itself() {
    let node = Node::new();
    run(async {
        let handle = spawn(node.config());
        node.write("one\ntwo\n");
        until_stored(&handle, 8).await;
        File::options()
            .write(true)
            .open(node.path("talker"))
            .unwrap()
            .set_len(0)
            .unwrap();
        // The follower moves the end back to where it was.
        while fs::metadata(node.path("talker")).unwrap().len() != 8 {
            tokio::task::yield_now().await;
        }
        node.write("three\n");
        until_stored(&handle, 14).await;
        assert_eq!(node.stored(), "one\ntwo\nthree\n");
    });
}

/// Another process of this test: [`role`].
struct Role {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Role {
    fn spawn(role: &str, node: &Node) -> Self {
        let mut child = Command::new(env::current_exe().unwrap())
            .args(["role", "--exact", "--nocapture", "--test-threads=1"])
            .env("TEST_ROLE", role)
            .env("TEST_FOLDER", node.folder.path())
            .env("TEST_SEGMENT", node.bounds.segment.to_string())
            .env("TEST_DISK", node.bounds.disk.to_string())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    /// The next line that it says to us, without its mark.
    fn line(&mut self) -> String {
        self.lines
            .find_map(|line| Some(line.unwrap().split_once("says: ")?.1.to_owned()))
            .expect("the process ended")
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Role {
    fn drop(&mut self) {
        self.kill();
    }
}

/// No test: what [`Role`] runs.
#[test]
fn role() {
    let (Some(folder), Ok(role)) = (env::var_os("TEST_FOLDER"), env::var("TEST_ROLE")) else {
        return;
    };
    let folder = Path::new(&folder);
    if role == "writer" {
        let mut options = File::options();
        let mut file = options
            .append(true)
            .create(true)
            .open(folder.join("talker"))
            .unwrap();
        let mut number = 0;
        while !folder.join("stop").exists() {
            for _ in 0..100 {
                file.write_all(lines(number..number + 1).as_bytes())
                    .unwrap();
                number += 1;
            }
            // Paced, so that many kills fit into a stream of a bearable length.
            thread::sleep(Duration::from_millis(1));
        }
        println!("says: {number}");
        return;
    }
    let number = |name| env::var(name).unwrap().parse().unwrap();
    let bounds = Bounds {
        segment: number("TEST_SEGMENT"),
        disk: number("TEST_DISK"),
        ..Bounds::new(Scale::REAL)
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let handle = spawn(Config {
            service: "talker".to_owned(),
            source: folder.join("talker"),
            segments: folder.join("data/log/talker"),
            boot_number: folder.join("boot-number"),
            bounds,
        });
        println!("says: ready");
        handle.watch().wait_for(|_| false).await.unwrap();
    });
}
