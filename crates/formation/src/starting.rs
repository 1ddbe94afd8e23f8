//! From go to etcd.

use std::collections::BTreeMap;
use std::sync::Arc;

use masthead_machine::BootTime;

use crate::formation::{CONTRADICTION, Formation};
use crate::{Action, ClusterId, EtcdStart, Marker, Member, Plan, Record, Standing, Started};

impl Formation {
    /// Leaves the witnesses of etcd's first start, once enough members hold go. The marker goes first: alone it proves
    /// that nothing was started yet.
    pub(crate) fn start_first(&mut self, plan: &Arc<Plan>, actions: &mut Vec<Action>) {
        if !self.is_idle() || plan.members().len() - self.without_go(plan).len() < plan.starters() {
            return;
        }
        let Some(disks) = self.disks() else {
            return;
        };
        let record = if disks.marker.is_none() {
            Record::Marker(Marker {
                cluster_id: plan.cluster_id(),
                machine_id: self.own.machine_id,
            })
        } else {
            Record::Started(Started {
                cluster_id: plan.cluster_id(),
                etcd_filesystem: disks.etcd_filesystem.clone(),
                confirmed: false,
            })
        };
        self.write(record, actions);
    }

    /// The members that are not known to hold go, by name. A member whose disks are unknown now does not count: nobody
    /// knows whether it will be able to start.
    pub(crate) fn without_go(&self, plan: &Plan) -> Vec<String> {
        let holds_go = |member: &Member| {
            self.own.is(member)
                || (self.peers.holds_go(member, plan.hash())
                    && !matches!(
                        self.peers.standing_of(member),
                        Some(Standing::Unknown { .. })
                    ))
        };
        let members = plan.members().iter();
        members
            .filter(|member| !holds_go(member))
            .map(|member| member.name.clone())
            .collect()
    }

    pub(crate) fn start_etcd(&mut self, actions: &mut Vec<Action>) {
        let Some(disks) = self.disks() else {
            return;
        };
        let Some(plan) = disks.go.clone() else {
            return;
        };
        let start = if disks.has_wal {
            EtcdStart::Existing
        } else {
            EtcdStart::New
        };
        self.started_etcd = true;
        actions.push(Action::StartEtcd { plan, start });
    }

    /// The clusters of which listed peers hold data, other than this node's own, with their names.
    pub(crate) fn other_clusters(&self, own: ClusterId) -> BTreeMap<ClusterId, Vec<String>> {
        let mut clusters: BTreeMap<ClusterId, Vec<String>> = BTreeMap::new();
        for peer in self.peers.listed() {
            if let Some(cluster) = peer.standing().and_then(Standing::started_cluster)
                && cluster != own
            {
                let names = clusters.entry(cluster).or_default();
                names.push(peer.master.name.clone());
            }
        }
        clusters
    }

    /// Whether a majority of the list holds data of one other cluster: then this node's disk is the foreign one.
    pub(crate) fn is_outnumbered(&self, own: ClusterId) -> bool {
        let clusters = self.other_clusters(own);
        clusters
            .values()
            .any(|names| 2 * names.len() > self.own.masters.len())
    }

    /// Whether etcd has to stay off although its data is there: this disk is foreign here, or it may be. A cluster of one
    /// serves without anybody's consent, so under a longer list it first waits a moment for the others.
    pub(crate) fn is_contradicted(&self, now: BootTime) -> bool {
        let Some(plan) = self.disks().and_then(|disks| disks.go.as_ref()) else {
            return true;
        };
        let waits = plan.members().len() == 1
            && self
                .peers
                .listed()
                .any(|peer| !self.peers.answers(now, peer))
            && now < self.contradiction_ends();
        waits || self.is_outnumbered(plan.cluster_id())
    }

    pub(crate) fn contradiction_ends(&self) -> BootTime {
        self.began.unwrap_or_default() + self.own.scale * CONTRADICTION
    }
}
