//! What `firmware/grub-disk.cfg` does, for tests: which entry GRUB starts, and what it writes down before. That it does so is what the tests with
//! machines show.

use masthead_disk_layout::Storage;
use masthead_uki::{Parts, check};

use crate::bios::{Count, ENVIRONMENT};
use crate::upgrade::entries;
use crate::{Entry, Partition};

const BEGIN: &[u8] = b"# GRUB Environment Block\n";

/// An entry that GRUB starts, and the environment block that it writes before, if it writes one.
type Started = (Entry, Option<Vec<u8>>);

/// What GRUB starts; none if it starts nothing. An error where that would not be the whole of an image.
pub(crate) fn grub<S: Storage>(partition: &mut Partition<S>) -> Result<Option<Started>, String> {
    let wrong = |error: &dyn std::error::Error| error.to_string();
    let environment = partition.read(ENVIRONMENT).map_err(|error| wrong(&error))?;
    let environment = environment.filter(|content| content.starts_with(BEGIN));
    let all = entries(partition).map_err(|error| wrong(&error))?;
    let used = |entry: &Entry| {
        let count = environment.as_deref().and_then(Count::read);
        let its = count.filter(|count| count.generation == entry.generation);
        its.map_or(0, |count| count.used)
    };
    let has_tries = |entry: &&Entry| entry.tries.is_none_or(|tries| tries.left > used(entry));
    // What cannot be counted is not tried.
    let can_count = |entry: &&Entry| entry.tries.is_none() || environment.is_some();
    let highest = |those: &mut dyn Iterator<Item = &Entry>| {
        those.max_by_key(|entry| entry.generation).cloned()
    };
    let with_tries_left = highest(&mut all.iter().filter(has_tries).filter(can_count));
    let Some(entry) = with_tries_left.clone().or(highest(&mut all.iter())) else {
        return Ok(None);
    };
    leads_to_an_image(partition, &entry)?;
    let written = with_tries_left.and_then(|entry| {
        entry.tries?;
        let used = "x".repeat(used(&entry) as usize + 1);
        let generation = entry.generation;
        let mut text = format!("tried={generation}\nused={used}\n").into_bytes();
        text.splice(..0, BEGIN.iter().copied());
        text.resize(1024, b'#');
        Some(text)
    });
    Ok(Some((entry, written)))
}

/// Whether the parts of an entry are those of the whole image to which it leads.
fn leads_to_an_image<S: Storage>(
    partition: &mut Partition<S>,
    entry: &Entry,
) -> Result<(), String> {
    let path = format!("/masthead/{:06}.parts", entry.generation);
    let said = partition.read(&path).map_err(|error| error.to_string())?;
    let said = said.ok_or_else(|| format!("there is no {path}"))?;
    let image = partition.file(entry.slot.path());
    let image = image.map_err(|error| error.to_string())?;
    let mut image = image.ok_or_else(|| format!("{path} leads to nothing"))?;
    check(&mut image).map_err(|error| format!("{path}: {error}"))?;
    let is = Parts::find(&mut image).map_err(|error| format!("{path}: {error}"))?;
    if said != is.text(entry.slot.path()).into_bytes() {
        return Err(format!("{path} does not say where the parts are"));
    }
    Ok(())
}
