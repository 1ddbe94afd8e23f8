//! How a service is to be treated.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use masthead_machine::Scale;

/// The name of a service, which is also the name of its control group leaf; cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceName(Arc<str>);

impl ServiceName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for ServiceName {
    fn from(name: &str) -> Self {
        Self(name.into())
    }
}

impl From<String> for ServiceName {
    fn from(name: String) -> Self {
        Self(name.into())
    }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(&self.0)
    }
}

/// How one service is started, watched, restarted and stopped.
///
/// The durations are those of a real machine until [`Policy::scaled`] adapts them.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// The services that must have been ready once before this one is started for the first time.
    pub after: Vec<ServiceName>,
    /// The services that this one needs while it runs: they are stopped after it. Those in
    /// `after` are needed too and need not be repeated here.
    pub needs: Vec<ServiceName>,
    /// Asked until it answers, and then to see whether the service serves. Without one the
    /// service is ready as soon as it runs.
    pub readiness: Option<ProbePolicy>,
    /// Asked to see whether the service hangs. Without one only an exit leads to a restart.
    pub liveness: Option<ProbePolicy>,
    /// How long the liveness probe may fail after a start, as long as it has not succeeded yet.
    pub startup: Duration,
    /// How often, and how fast, it is restarted.
    pub back_off: BackOff,
    /// Exits that belong to the service's normal life and are no failures.
    pub forgiveness: Option<Forgiveness>,
    /// From TERM to `cgroup.kill` when the service is stopped on purpose.
    pub stop_grace: Duration,
    /// From TERM to `cgroup.kill` when it hangs: one that does not answer hardly closes in order.
    pub hung_grace: Duration,
    /// How long children may outlive the service before `cgroup.kill`.
    pub straggler_grace: Duration,
    /// How long the examination of the leaf, a kill or the report of an exit may take before it is
    /// repeated or given up; a start that takes longer is killed.
    pub patience: Duration,
    /// How often `cgroup.kill` is repeated in a stop before the stop goes on without the service
    /// (a process in uninterruptible sleep on a dead disk does not die).
    pub kill_attempts: u32,
}

impl Default for Policy {
    /// Sensible for every service of a node; without probes.
    fn default() -> Self {
        Self {
            after: Vec::new(),
            needs: Vec::new(),
            readiness: None,
            liveness: None,
            startup: Duration::from_secs(300),
            back_off: BackOff::default(),
            forgiveness: None,
            stop_grace: Duration::from_secs(30),
            hung_grace: Duration::from_secs(5),
            straggler_grace: Duration::from_secs(2),
            patience: Duration::from_secs(5),
            kill_attempts: 3,
        }
    }
}

impl Policy {
    /// The same policy for a machine of another speed: every duration times `scale`.
    #[must_use]
    pub fn scaled(mut self, scale: Scale) -> Self {
        let probes = self
            .readiness
            .iter_mut()
            .chain(&mut self.liveness)
            .flat_map(|probe| {
                [
                    &mut probe.interval,
                    &mut probe.startup_interval,
                    &mut probe.timeout,
                ]
            });
        let back_off = &mut self.back_off;
        let own = [
            &mut self.startup,
            &mut self.stop_grace,
            &mut self.hung_grace,
            &mut self.straggler_grace,
            &mut self.patience,
            &mut back_off.first,
            &mut back_off.ceiling,
            &mut back_off.reset_after,
        ];
        for duration in probes.chain(own) {
            *duration = scale * *duration;
        }
        self
    }
}

/// How often a service is asked, and how many answers count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProbePolicy {
    /// From one answer to the next question.
    pub interval: Duration,
    /// The same, until the first success after a start: shorter, because time in which nobody
    /// notices that a service is ready is time without it.
    pub startup_interval: Duration,
    /// How long an answer may take.
    pub timeout: Duration,
    /// This many failures in a row count; at least 1.
    pub failures: u32,
}

impl ProbePolicy {
    /// The default for readiness: noticed within 100 ms, lost after three failures.
    pub const READINESS: Self = Self {
        interval: Duration::from_secs(5),
        startup_interval: Duration::from_millis(100),
        timeout: Duration::from_secs(5),
        failures: 3,
    };

    /// The default for liveness: a hung service is noticed within 60 s.
    pub const LIVENESS: Self = Self {
        interval: Duration::from_secs(5),
        startup_interval: Duration::from_secs(1),
        timeout: Duration::from_secs(15),
        failures: 3,
    };
}

/// How fast a service that keeps dying is restarted.
///
/// The first restart is immediate, the second waits `first`, each further one twice as long as
/// the one before, up to `ceiling`. Jitter only shortens, so that the ceiling holds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BackOff {
    /// The wait before the second restart.
    pub first: Duration,
    /// The longest wait.
    pub ceiling: Duration,
    /// By how many per mille of it a wait is shortened at most, at random; at most 500, so that
    /// waits still grow.
    pub jitter_per_mille: u16,
    /// A service that was ready for this long is forgiven all its deaths.
    pub reset_after: Duration,
    /// From this many deaths without a reset on, the service is shown as crash-looping.
    pub crash_loop_after: u32,
}

impl Default for BackOff {
    fn default() -> Self {
        Self {
            first: Duration::from_secs(1),
            ceiling: Duration::from_secs(60),
            jitter_per_mille: 250,
            reset_after: Duration::from_secs(60),
            crash_loop_after: 3,
        }
    }
}

/// Exits that are not counted as failures, such as the controller-manager's when it loses its
/// leader election because the apiserver is new too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forgiveness {
    /// The exit codes that are forgiven.
    pub codes: Vec<i32>,
    /// At most this many between two resets: forgiving must not become a restart loop without
    /// back-off.
    pub at_most: u32,
}
