//! How many masters, what no two share, and their disks.

use std::collections::BTreeMap;
use std::fmt::Display;

use super::Reporter;
use crate::DiskSelector;
use crate::read::At;
use crate::read::masters::Draft;

/// More voters make etcd slower, not safer.
const MOST_MASTERS: usize = 7;

pub(super) fn number_of_masters(reporter: &mut Reporter<'_, '_>, masters: &[Draft]) {
    let count = masters.len();
    let Some(last) = masters.last() else { return };
    if count > MOST_MASTERS {
        reporter.error(
            last.place,
            format!("{count} masters are more than the {MOST_MASTERS} that etcd serves well"),
            "list 3 or 5 masters",
        );
    } else if count.is_multiple_of(2) {
        let fewer = count - 1;
        let survives = (count - 1) / 2;
        let message = format!(
            "{count} masters survive the loss of {survives}, no more than {fewer} would, and lose their quorum more easily"
        );
        reporter.warning(
            last.place,
            message,
            if count == 2 {
                "list 3 masters, or 1"
            } else {
                "list an odd number of masters"
            },
        );
    }
    let memory = masters.iter().find_map(|master| {
        master
            .storage
            .disk
            .as_ref()
            .filter(|disk| disk.value == DiskSelector::Memory)
    });
    if let Some(disk) = memory.filter(|_| count > 1) {
        reporter.error(
            disk.place,
            format!("`disk` = \"memory\" is for a single master, and this seed has {count}: a member that forgets its data breaks the cluster"),
            "give each master a disk, disk = { type = \"nvme\", min = \"100GB\" }",
        );
    }
}

/// What no two masters can share.
pub(super) fn twins(reporter: &mut Reporter<'_, '_>, masters: &[Draft]) {
    unique(reporter, masters, "mac", "MAC address", |master| {
        master.mac.as_ref()
    });
    unique(reporter, masters, "serial", "serial number", |master| {
        master.serial.as_ref()
    });
    unique(reporter, masters, "address", "address", |master| {
        master.address.as_ref()
    });
    let mut disks: BTreeMap<&str, &Draft> = BTreeMap::new();
    for master in masters {
        let Some(At {
            value: DiskSelector::Match(disk),
            place,
        }) = &master.storage.disk
        else {
            continue;
        };
        let Some(serial) = disk.serial.as_deref() else {
            continue;
        };
        if let Some(first) = disks.insert(serial, master) {
            reporter.error(
                *place,
                format!(
                    "the disk {serial:?} cannot be in both {} and {}",
                    first.name, master.name
                ),
                "give each master the serial number of its own disk",
            );
        }
    }
}

fn unique<'m, T: Ord + Display + 'm>(
    reporter: &mut Reporter<'_, '_>,
    masters: &'m [Draft],
    key: &str,
    what: &str,
    of: impl Fn(&'m Draft) -> Option<&'m At<T>>,
) {
    let mut first: BTreeMap<&T, &Draft> = BTreeMap::new();
    let mut written: Vec<(&Draft, &At<T>)> = masters
        .iter()
        .filter_map(|master| Some((master, of(master)?)))
        .collect();
    // The one that is written later is the one to change.
    written.sort_by_key(|(_, at)| at.place.range().start);
    for (master, at) in written {
        if let Some(owner) = first.get(&at.value) {
            reporter.error(
                at.place,
                format!(
                    "`masters.{}.{key}`: {} is the {what} of {} already",
                    master.name, at.value, owner.name
                ),
                format!("give each master its own {what}"),
            );
        } else {
            first.insert(&at.value, master);
        }
    }
}

pub(super) fn disks_of(reporter: &mut Reporter<'_, '_>, master: &Draft, masters: &[Draft]) {
    let storage = &master.storage;
    let Some(disk) = &storage.disk else { return };
    let etcd_disk = storage.etcd_disk.as_ref();
    match &disk.value {
        DiskSelector::Memory => {
            for (key, place) in [
                ("etcd-disk", etcd_disk.map(|disk| disk.place)),
                ("wipe", storage.wipe.as_ref().map(|wipe| wipe.place)),
            ] {
                if let Some(place) = place {
                    reporter.error(
                        place,
                        format!(
                            "`{key}` means nothing for {}, which runs from memory",
                            master.name
                        ),
                        format!("leave `{key}` out, or give it a disk instead of \"memory\""),
                    );
                }
            }
        }
        DiskSelector::Match(wanted) => {
            if let Some(etcd_disk) = etcd_disk.filter(|etcd_disk| etcd_disk.value == *wanted) {
                reporter.error(
                    etcd_disk.place,
                    format!("`etcd-disk` of {} asks for the same disk as `disk`", master.name),
                    "tell the two apart, etcd-disk = { serial = \"S4EV123\" }, or leave `etcd-disk` out",
                );
            }
            // A common `wipe` names the disk of one master; only its own must be among its disks.
            let own = master.own_wipe || masters.len() == 1;
            let serials = [Some(wanted), etcd_disk.map(|disk| &disk.value)];
            let mut serials = serials
                .into_iter()
                .flatten()
                .map(|disk| disk.serial.as_deref());
            if let Some(wipe) = storage.wipe.as_ref().filter(|_| own)
                && serials.all(|serial| serial.is_some_and(|serial| serial != wipe.value))
            {
                reporter.error(
                    wipe.place,
                    format!(
                        "`wipe` of {} names {:?}, which is none of its disks",
                        master.name, wipe.value
                    ),
                    "one of the serial numbers is wrong: write the same in `wipe` and in `disk`",
                );
            }
        }
    }
}
