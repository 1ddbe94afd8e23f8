//! Every table of `configs/node/` parses, and says nothing that contradicts the architecture.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use masthead_policy::{FileSystems, KernelSettings, Modules, MountFlag, Mounts, Services, Where};

fn all_different<T: Ord>(items: impl IntoIterator<Item = T>) -> bool {
    let mut seen = BTreeSet::new();
    items.into_iter().all(|item| seen.insert(item))
}

#[test]
fn every_file_is_one_of_the_tables() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../configs/node");
    let files = fs::read_dir(directory).expect("the directory of the tables");
    let names: BTreeSet<_> = files
        .map(|file| {
            file.expect("an entry")
                .file_name()
                .into_string()
                .expect("text")
        })
        .collect();
    let expected = [
        "filesystems.toml",
        "kernel.toml",
        "modules.toml",
        "mounts.toml",
        "services.toml",
    ];
    assert_eq!(names, expected.map(str::to_owned).into());
}

#[test]
fn what_can_be_written_cannot_be_executed() {
    let tight = [MountFlag::Nosuid, MountFlag::Noexec];
    for mount in Mounts::embedded().expect("mounts.toml").mounts {
        assert!(
            tight.iter().all(|flag| mount.flags.contains(flag)),
            "{}",
            mount.target
        );
        let holds_devices = mount.target.starts_with("/dev");
        assert_eq!(
            mount.flags.contains(&MountFlag::Nodev),
            !holds_devices,
            "{}",
            mount.target
        );
    }
    for filesystem in FileSystems::embedded()
        .expect("filesystems.toml")
        .filesystems
    {
        for flag in [MountFlag::Nosuid, MountFlag::Nodev, MountFlag::Noexec] {
            assert!(filesystem.flags.contains(&flag), "{}", filesystem.name);
        }
        assert!(
            filesystem.data.contains("errors=remount-ro"),
            "{}",
            filesystem.name
        );
    }
}

#[test]
fn a_line_holds_on_its_kind_of_node_only() {
    let held = |line: Where| [true, false].map(|machine| line.holds_on(machine));
    assert_eq!(held(Where::Everywhere), [true, true]);
    assert_eq!(held(Where::Machine), [true, false]);
    assert_eq!(held(Where::Namespace), [false, true]);
}

#[test]
fn a_file_system_is_found_by_its_name() {
    let filesystems = FileSystems::embedded().expect("filesystems.toml");
    for filesystem in &filesystems.filesystems {
        assert_eq!(filesystems.get(&filesystem.name), Some(filesystem));
    }
    assert_eq!(filesystems.get("no-such-partition"), None);
}

#[test]
fn a_mount_comes_after_the_one_that_it_lies_on() {
    let mounts = Mounts::embedded().expect("mounts.toml").mounts;
    assert!(all_different(mounts.iter().map(|mount| &mount.target)));
    for (index, mount) in mounts.iter().enumerate() {
        let below = mounts[index + 1..].iter().find(|later| {
            mount
                .target
                .strip_prefix(&later.target)
                .is_some_and(|rest| rest.starts_with('/'))
        });
        assert!(
            below.is_none(),
            "{} is covered by a later mount",
            mount.target
        );
    }
}

#[test]
fn kernel_settings_are_said_once_with_a_reason() {
    let settings = KernelSettings::embedded().expect("kernel.toml").settings;
    assert!(all_different(settings.iter().map(|setting| &setting.name)));
    for setting in &settings {
        assert!(setting.why.len() > 10, "{}", setting.name);
        assert!(setting.path().components().count() >= 2, "{}", setting.name);
    }
    let of_namespaces: Vec<_> = KernelSettings::embedded().expect("kernel.toml").settings;
    for setting in of_namespaces
        .iter()
        .filter(|setting| setting.on.holds_on(false))
    {
        assert!(
            setting.name.starts_with("net."),
            "{} is the host's",
            setting.name
        );
    }
}

#[test]
fn a_module_is_either_loaded_or_refused_and_named_canonically() {
    let modules = Modules::embedded().expect("modules.toml");
    assert!(all_different(modules.listed()));
    let (first, last) = (&modules.lists[0], modules.lists.last().expect("a list"));
    assert_eq!(modules.listed().next(), Some(first.modules[0].as_str()));
    assert_eq!(
        modules.listed().last(),
        last.modules.last().map(String::as_str)
    );
    for name in modules.listed() {
        assert!(!name.contains(['-', '.', '/']), "{name}");
        assert!(!modules.refuses(name), "{name}");
    }
    assert!(modules.refuses("pcspkr") && !modules.refuses("ext4"));
}

#[test]
fn services_are_who_the_architecture_says() {
    let services = Services::embedded().expect("services.toml");
    let users: Vec<_> = services
        .services
        .iter()
        .map(|service| {
            (
                service.name.as_str(),
                service.user.as_str(),
                service.uid,
                service.gid,
            )
        })
        .collect();
    assert_eq!(
        users,
        [
            ("etcd", "etcd", 201, 201),
            ("kube-apiserver", "kube-apiserver", 202, 202),
            (
                "kube-controller-manager",
                "kube-controller-manager",
                203,
                203
            ),
            ("kube-scheduler", "kube-scheduler", 204, 204),
        ]
    );
    let etcd = services.get("etcd").expect("etcd");
    assert_eq!(etcd.directories[0].mode, 0o700);
    for other in services
        .services
        .iter()
        .filter(|service| service.name != "etcd")
    {
        assert!(
            etcd.oom_score_adj < other.oom_score_adj,
            "etcd is spared longest"
        );
        assert!((-999..0).contains(&other.oom_score_adj));
    }
    for service in &services.services {
        assert_eq!(
            service.limits.get("core"),
            Some(&0),
            "a core file holds keys"
        );
        assert!(
            service
                .capabilities
                .iter()
                .all(|name| name.starts_with("CAP_"))
        );
    }
    assert!(
        services
            .passwd()
            .contains("\netcd:x:201:201:etcd:/:/sbin/nologin\n")
    );
    assert!(services.group().contains("\nkube-scheduler:x:204:\n"));
}
