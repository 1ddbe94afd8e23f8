//! What kind of world a history happens in.

use std::time::Duration;

use masthead_lifecycle::{BackOff, Forgiveness, Policy, ProbePolicy, ServiceName};
use masthead_machine::BootTime;
use proptest::prelude::*;

/// Until then things go wrong; afterwards all must come to rest.
pub(crate) const CALM_FROM: BootTime = BootTime::from_boot(Duration::from_secs(60));
/// Long enough after it for every back-off, grace and patience.
pub(crate) const END: BootTime = BootTime::from_boot(Duration::from_secs(150));

pub(crate) const ETCD: usize = 0;
pub(crate) const APISERVER: usize = 1;
pub(crate) const CONTROLLER_MANAGER: usize = 2;
pub(crate) const SCHEDULER: usize = 3;
pub(crate) const NAMES: [&str; 4] = [
    "etcd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
];

/// The code with which the controller-manager ends when it loses its lease.
pub(crate) const LEASE_LOST: i32 = 1;

/// What goes wrong how often, each in a thousand occasions, and what the services are like.
#[derive(Clone, Debug)]
pub(crate) struct Scenario {
    /// The apiserver waits for etcd, and the others for the apiserver.
    pub(crate) gated: bool,
    pub(crate) back_off: BackOff,
    pub(crate) start_fails: u16,
    pub(crate) start_slow: u16,
    pub(crate) dies: u16,
    pub(crate) dies_at_once: u16,
    pub(crate) hangs: u16,
    pub(crate) deaf: u16,
    pub(crate) slow_to_ready: u16,
    pub(crate) leaves_children: u16,
    pub(crate) unkillable: u16,
    pub(crate) report_lost: u16,
    pub(crate) notice_lost: u16,
    pub(crate) probe_fails: u16,
    pub(crate) supervisor_dies: u16,
    pub(crate) operator_acts: u16,
    pub(crate) node_stops: u16,
}

impl Default for Scenario {
    fn default() -> Self {
        Self {
            gated: true,
            back_off: BackOff {
                first: Duration::from_secs(1),
                ceiling: Duration::from_secs(6),
                jitter_per_mille: 250,
                reset_after: Duration::from_secs(8),
                crash_loop_after: 3,
            },
            start_fails: 30,
            start_slow: 30,
            dies: 300,
            dies_at_once: 150,
            hangs: 100,
            deaf: 100,
            slow_to_ready: 100,
            leaves_children: 100,
            unkillable: 30,
            report_lost: 20,
            notice_lost: 100,
            probe_fails: 20,
            supervisor_dies: 50,
            operator_acts: 50,
            node_stops: 10,
        }
    }
}

/// Any world.
pub(crate) fn scenarios() -> impl Strategy<Value = Scenario> {
    let rate = 0..200_u16;
    let starts = (rate.clone(), rate.clone(), 0..600_u16, 0..500_u16);
    let lives = (
        rate.clone(),
        rate.clone(),
        rate.clone(),
        rate.clone(),
        0..100_u16,
    );
    let losses = (0..100_u16, 0..300_u16, 0..100_u16);
    let others = (0..200_u16, 0..200_u16, 0..30_u16);
    let back_off = (
        1..2000_u64,
        1..8000_u64,
        0..=500_u16,
        1..15_000_u64,
        1..6_u32,
    );
    (any::<bool>(), back_off, starts, lives, losses, others).prop_map(
        |(gated, back_off, starts, lives, losses, others)| Scenario {
            gated,
            back_off: BackOff {
                first: Duration::from_millis(back_off.0),
                ceiling: Duration::from_millis(back_off.1),
                jitter_per_mille: back_off.2,
                reset_after: Duration::from_millis(back_off.3),
                crash_loop_after: back_off.4,
            },
            start_fails: starts.0,
            start_slow: starts.1,
            dies: starts.2,
            dies_at_once: starts.3,
            hangs: lives.0,
            deaf: lives.1,
            slow_to_ready: lives.2,
            leaves_children: lives.3,
            unkillable: lives.4,
            report_lost: losses.0,
            notice_lost: losses.1,
            probe_fails: losses.2,
            supervisor_dies: others.0,
            operator_acts: others.1,
            node_stops: others.2,
        },
    )
}

impl Scenario {
    /// How the services are to be treated, in the order of [`NAMES`].
    pub(crate) fn policies(&self) -> Vec<(ServiceName, Policy)> {
        let mut policies: Vec<(ServiceName, Policy)> = NAMES
            .into_iter()
            .map(|name| (name.into(), self.policy()))
            .collect();
        for (service, needed) in [
            (APISERVER, ETCD),
            (CONTROLLER_MANAGER, APISERVER),
            (SCHEDULER, APISERVER),
        ] {
            let policy = &mut policies[service].1;
            let relation = if self.gated {
                &mut policy.after
            } else {
                &mut policy.needs
            };
            relation.push(NAMES[needed].into());
        }
        policies[CONTROLLER_MANAGER].1.forgiveness = Some(Forgiveness {
            codes: vec![LEASE_LOST],
            at_most: 2,
        });
        policies
    }

    fn policy(&self) -> Policy {
        let probe = ProbePolicy {
            interval: Duration::from_secs(2),
            startup_interval: Duration::from_millis(500),
            timeout: Duration::from_secs(1),
            failures: 3,
        };
        Policy {
            readiness: Some(probe),
            liveness: Some(probe),
            startup: Duration::from_secs(15),
            back_off: self.back_off,
            stop_grace: Duration::from_secs(5),
            hung_grace: Duration::from_secs(2),
            straggler_grace: Duration::from_secs(1),
            patience: Duration::from_secs(2),
            kill_attempts: 3,
            ..Policy::default()
        }
    }
}
