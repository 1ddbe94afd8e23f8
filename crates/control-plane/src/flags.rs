//! Putting a command line together.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::time::Duration;

use masthead_machine::Scale;

/// Flags whose value is a list to which a seed adds, while our own part of it stays.
const LISTS: [&str; 2] = ["enable-admission-plugins", "controllers"];

/// A command line in the making.
#[derive(Default)]
pub(crate) struct Flags(Vec<(String, String)>);

impl Flags {
    pub(crate) fn set(&mut self, name: &str, value: impl Display) -> &mut Self {
        self.0.push((name.to_owned(), value.to_string()));
        self
    }

    /// The command line with the seed's flags: those that are lists are added to ours, any other takes the place of
    /// ours, or comes last. (A seed that sets what is Masthead's own was refused when it was parsed.)
    pub(crate) fn with_extra(mut self, extra: Option<&BTreeMap<String, String>>) -> Vec<String> {
        for (name, value) in extra.into_iter().flatten() {
            match self.0.iter_mut().find(|(ours, _)| ours == name) {
                Some((_, ours)) if LISTS.contains(&name.as_str()) => {
                    *ours = format!("{ours},{value}");
                }
                Some((_, ours)) => ours.clone_from(value),
                None => self.0.push((name.clone(), value.clone())),
            }
        }
        self.0
            .into_iter()
            .map(|(name, value)| format!("--{name}={value}"))
            .collect()
    }
}

/// A duration as Go reads it, scaled; whole milliseconds.
pub(crate) fn scaled(scale: Scale, duration: Duration) -> String {
    let milliseconds = (scale * duration).as_millis();
    if milliseconds.is_multiple_of(1000) {
        format!("{}s", milliseconds / 1000)
    } else {
        format!("{milliseconds}ms")
    }
}

/// Leader election: Kubernetes' own values, scaled. The same on all masters.
pub(crate) struct LeaderElection;

impl LeaderElection {
    /// How long others wait before they take over.
    pub(crate) const LEASE: Duration = Duration::from_secs(15);
    /// How long the leader tries to renew before it gives up.
    pub(crate) const RENEW: Duration = Duration::from_secs(10);
    /// Between two tries.
    pub(crate) const RETRY: Duration = Duration::from_secs(2);
}
