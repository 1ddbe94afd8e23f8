//! Every reason in a status, each once.

use crate::{Reason, Status};

/// A reason with the part of the node that it is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Why<'a> {
    /// `node`, `network`, a disk's role or a service's name.
    pub part: &'a str,
    /// Whether the part waits for it; otherwise the node works, and this is what is wrong all the same.
    pub waits: bool,
    /// The reason.
    pub reason: &'a Reason,
}

impl Status {
    /// Why the node, or a part of it, waits or is degraded. The node repeats reasons of its parts: those are told of
    /// the part only.
    pub fn reasons(&self) -> Vec<Why<'_>> {
        let waits = |part, reason| Why {
            part,
            waits: true,
            reason,
        };
        let network = self.network.waiting.iter().map(|r| waits("network", r));
        let disks = self.disks.iter().filter_map(|disk| {
            let reason = disk.reason.as_ref()?;
            let known = |other: &Reason| same(other, reason);
            Some(Why {
                part: &disk.role,
                waits: !self.degraded.iter().any(known),
                reason,
            })
        });
        let services = self
            .services
            .iter()
            .filter_map(|service| Some(waits(&service.name, service.waiting.as_ref()?)));
        let parts: Vec<_> = network.chain(disks).chain(services).collect();
        let of_node = self.waiting.iter().map(|reason| waits("node", reason));
        let degraded = self.degraded.iter().map(|reason| Why {
            part: "node",
            waits: false,
            reason,
        });
        let mut all: Vec<_> = of_node
            .chain(degraded)
            .filter(|why| !parts.iter().any(|part| same(part.reason, why.reason)))
            .collect();
        all.extend(parts);
        all
    }
}

/// Whether two reasons say the same; the node and its part may have noticed it at other instants. The node may name the
/// part in front of its cause.
fn same(one: &Reason, other: &Reason) -> bool {
    one.code == other.code
        && (one.cause.ends_with(&other.cause) || other.cause.ends_with(&one.cause))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_reason_is_told_once_with_its_part() {
        let reason = |code: &str, cause: &str| json!({ "code": code, "cause": cause, "since": "2026-01-01T00:00:00Z" });
        let status: Status = serde_json::from_value(json!({
            "node": {
                "kind": "machine", "version": "0.1.0", "boot_time": "2026-01-01T00:00:00Z", "uptime": 1,
                "boot_id": "b", "timing_scale": 1.0, "supervisor": { "pid": 2, "restarts": 0 },
            },
            "disks": [
                { "role": "ETCD", "state": "read-only", "reason": reason("disk-read-only", "ETCD is read-only.") },
                { "role": "DATA", "state": "ready" },
            ],
            "services": [
                { "name": "etcd", "state": "waiting", "since": "2026-01-01T00:00:00Z",
                  "waiting": reason("service-dependency", "Starts later.") },
            ],
            "waiting": [reason("network-no-carrier", "No cable."), reason("service-dependency", "etcd: Starts later.")],
            "degraded": [reason("disk-read-only", "ETCD is read-only.")],
        }))
        .unwrap();
        let told: Vec<_> = status
            .reasons()
            .iter()
            .map(|why| (why.part, why.waits, why.reason.code.as_str()))
            .collect();
        assert_eq!(
            told,
            [
                ("node", true, "network-no-carrier"),
                ("ETCD", false, "disk-read-only"),
                ("etcd", true, "service-dependency"),
            ]
        );
    }
}
