//! What a wire that is cut between groups of nodes does not carry.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// One direction between two nodes that is cut.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cut {
    /// The node that is not heard.
    pub from: String,
    /// The node that does not hear it.
    pub to: String,
}

/// Which directions between the first group and the others are cut.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Direction {
    /// Both, as between all groups.
    #[default]
    Both,
    /// The others do not hear the first group, which hears them.
    Mute,
    /// The first group does not hear the others, which hear it.
    Deaf,
}

/// All that is cut between these groups of names. No groups cut nothing.
pub fn cuts(groups: &[BTreeSet<String>], direction: Direction) -> Result<BTreeSet<Cut>> {
    let mut seen = BTreeSet::new();
    if let Some(name) = groups.iter().flatten().find(|name| !seen.insert(*name)) {
        return Err(Error::Refused(format!("{name} is in two groups")));
    }
    if groups.len() == 1 {
        return Err(Error::Refused(
            "one group is not cut off from anything: name two, such as `m1 m2,m3`".to_owned(),
        ));
    }
    if direction != Direction::Both && groups.len() > 2 {
        return Err(Error::Refused(
            "one direction is cut between two groups only".to_owned(),
        ));
    }
    let mut cuts = BTreeSet::new();
    for (from, speakers) in groups.iter().enumerate() {
        for (to, listeners) in groups.iter().enumerate() {
            let is_cut = match direction {
                Direction::Both => from != to,
                Direction::Mute => from == 0 && to != 0,
                Direction::Deaf => from != 0 && to == 0,
            };
            if is_cut {
                cuts.extend(speakers.iter().flat_map(|from| {
                    listeners.iter().map(move |to| Cut {
                        from: from.clone(),
                        to: to.clone(),
                    })
                }));
            }
        }
    }
    Ok(cuts)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn between_one_and_two(direction: Direction) -> Vec<(String, String)> {
        let cuts = cuts(&[group(&["m1"]), group(&["m2", "m3"])], direction).expect("two groups");
        cuts.into_iter().map(|cut| (cut.from, cut.to)).collect()
    }

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        let owned = |(from, to): &(&str, &str)| ((*from).to_owned(), (*to).to_owned());
        pairs.iter().map(owned).collect()
    }

    #[test]
    fn a_partition_cuts_both_ways_and_nobody_else() {
        assert_eq!(
            between_one_and_two(Direction::Both),
            pairs(&[("m1", "m2"), ("m1", "m3"), ("m2", "m1"), ("m3", "m1")])
        );
    }

    #[test]
    fn one_direction_leaves_the_other() {
        assert_eq!(
            between_one_and_two(Direction::Mute),
            pairs(&[("m1", "m2"), ("m1", "m3")])
        );
        assert_eq!(
            between_one_and_two(Direction::Deaf),
            pairs(&[("m2", "m1"), ("m3", "m1")])
        );
    }

    #[test]
    fn groups_that_make_no_sense_are_refused() {
        let [one, two, three] = ["m1", "m2", "m3"].map(|name| group(&[name]));
        assert!(cuts(std::slice::from_ref(&one), Direction::Both).is_err());
        assert!(cuts(&[one.clone(), one.clone()], Direction::Both).is_err());
        assert!(cuts(&[one, two, three], Direction::Deaf).is_err());
        assert!(cuts(&[], Direction::Both).is_ok_and(|cuts| cuts.is_empty()));
    }
}
