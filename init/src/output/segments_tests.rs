use super::*;

const BOUNDS: Bounds = Bounds {
    segment: 10,
    disk: 30,
    memory: 1 << 20,
    window: 0,
    retry: std::time::Duration::ZERO,
    stall: std::time::Duration::ZERO,
    patience: std::time::Duration::ZERO,
};

fn writer(folder: &Path) -> Writer {
    Writer::open(&folder.join("log/etcd"), &folder.join("boot"), BOUNDS).unwrap()
}

fn append(writer: &mut Writer, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        let written = writer.append(bytes).unwrap();
        bytes = &bytes[written..];
    }
}

fn contents(folder: &Path) -> Vec<(String, String)> {
    let directory = folder.join("log/etcd");
    let segments = list(&directory).unwrap().into_iter().map(|segment| {
        let name = segment.file_name();
        let text = fs::read_to_string(directory.join(&name)).unwrap();
        let short = name
            .trim_end_matches(".log")
            .replace("0000000000000000", "~");
        (short, text)
    });
    segments.collect()
}

fn expect(folder: &Path, expected: &[(&str, &str)]) {
    let expected: Vec<_> = expected
        .iter()
        .map(|&(name, text)| (name.to_owned(), text.to_owned()))
        .collect();
    assert_eq!(contents(folder), expected);
}

#[test]
fn names_are_read_back_and_sort_like_the_stream() {
    let segment = |boot, offset, content| Segment {
        boot,
        offset,
        content,
    };
    let sorted = [
        segment(9, 5, Content::Bytes(0)),
        segment(9, 5, Content::Lost(95)),
        segment(9, 100, Content::Bytes(7)),
        segment(10, 0, Content::Bytes(3)),
        segment(10, 11_000, Content::Bytes(3)),
    ];
    assert!(sorted.is_sorted());
    let mut names = sorted.map(|segment| segment.file_name());
    for (name, segment) in names.iter().zip(sorted) {
        let length = segment.size();
        assert_eq!(Segment::parse(name, length), Some(segment), "{name}");
    }
    // A line about loss comes before what follows it also in the order of names.
    names.swap(0, 1);
    assert!(names.is_sorted(), "{names:?}");
    for odd in [
        "",
        "1-2",
        "1-2-3.log",
        "1-2-lost.log",
        "1-2-lost-3-4.log",
        "x-2.log",
        "-1-2.log",
    ] {
        assert_eq!(Segment::parse(odd, 1), None, "{odd}");
    }
}

#[test]
fn segments_end_with_lines_and_stay_within_their_bounds() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = writer(folder.path());
    append(&mut writer, b"one\ntwo\nthree\nfour\n");
    expect(
        folder.path(),
        &[
            ("000001-~0000", "one\ntwo\n"),
            ("000001-~0008", "three\n"),
            ("000001-~0014", "four\n"),
        ],
    );
    append(&mut writer, b"a line of more than a segment\n");
    // Room for a whole new segment was made each time.
    expect(
        folder.path(),
        &[
            ("000001-~0024", "e of more "),
            ("000001-~0034", "than a seg"),
            ("000001-~0044", "ment\n"),
        ],
    );
    assert_eq!(writer.position(), 49);
}

#[test]
fn what_is_on_disk_tells_how_far_the_copy_got() {
    let folder = tempfile::tempdir().unwrap();
    let mut first = writer(folder.path());
    append(&mut first, b"one\ntw");
    drop(first);
    let mut second = writer(folder.path());
    assert_eq!(second.position(), 6);
    append(&mut second, b"o\n");
    expect(folder.path(), &[("000001-~0000", "one\ntwo\n")]);
    second.skip(60).unwrap();
    second.skip(40).unwrap();
    assert_eq!((second.position(), second.lost()), (108, 100));
    drop(second);
    let mut third = writer(folder.path());
    assert_eq!((third.position(), third.lost()), (108, 100));
    append(&mut third, b"new\n");
    expect(
        folder.path(),
        &[
            ("000001-~0000", "one\ntwo\n"),
            (
                "000001-~0008-lost-100",
                "masthead: 100 bytes of output were lost here\n",
            ),
            ("000001-~0108", "new\n"),
        ],
    );
    // The next boot begins anew.
    fs::remove_file(folder.path().join("boot")).unwrap();
    let fourth = writer(folder.path());
    assert_eq!((fourth.position(), fourth.lost()), (0, 0));
    assert_eq!(read_boot_number(&folder.path().join("boot")), Some(2));
}

#[test]
fn all_services_have_the_same_boot_number() {
    let folder = tempfile::tempdir().unwrap();
    let old = folder.path().join("log/kube-apiserver");
    fs::create_dir_all(&old).unwrap();
    fs::write(old.join("000041-00000000000000000000.log"), "old\n").unwrap();
    fs::write(folder.path().join("log/odd"), "no directory").unwrap();
    let record = folder.path().join("boot");
    for service in ["etcd", "kube-apiserver"] {
        assert_eq!(
            boot_number(&record, &folder.path().join("log").join(service)).unwrap(),
            42
        );
    }
    assert_eq!(
        fs::read_dir(folder.path()).unwrap().count(),
        2,
        "no temporary file is left"
    );
}

#[test]
fn odd_files_are_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("log/etcd");
    fs::create_dir_all(&directory).unwrap();
    fs::write(directory.join("notes.txt"), "odd").unwrap();
    fs::write(folder.path().join("boot"), "7\n").unwrap();
    // Longer than a segment may be, as with the bounds of another release.
    fs::write(
        directory.join("000007-00000000000000000000.log"),
        "x".repeat(100),
    )
    .unwrap();
    let mut writer = writer(folder.path());
    assert_eq!(writer.position(), 100);
    append(&mut writer, b"more\nmuch\n");
    append(&mut writer, b"again\n");
    // It is the first to go, but not before it is no longer the record of how far the copy got.
    expect(
        folder.path(),
        &[
            ("000007-~0100", "more\nmuch\n"),
            ("000007-~0110", "again\n"),
        ],
    );
    assert!(directory.join("notes.txt").exists());
}

#[test]
fn a_missing_disk_is_told_from_a_failing_one() {
    let folder = tempfile::tempdir().unwrap();
    let absent = folder.path().join("absent/log/etcd");
    let failure = Writer::open(&absent, &folder.path().join("boot"), BOUNDS).unwrap_err();
    assert_eq!(failure.cause, Cause::DiskAbsent);
    assert!(
        failure.detail.contains("absent/log`: "),
        "{}",
        failure.detail
    );
    fs::write(folder.path().join("file"), "").unwrap();
    let file = folder.path().join("file/etcd");
    let failure = Writer::open(&file, &folder.path().join("boot"), BOUNDS).unwrap_err();
    assert_eq!(failure.cause, Cause::DiskFailing);
}
