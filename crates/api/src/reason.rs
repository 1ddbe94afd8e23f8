//! Why something waits or is degraded: a stable code for programs, a cause and a remedy for
//! people.

use serde::{Deserialize, Serialize};

use crate::Timestamp;
use crate::open_enum::open_enum;

open_enum! {
    /// A stable code. Once released, its meaning never changes; see `docs/api.md`.
    pub enum ReasonCode {
        /// No source holds a seed.
        SeedMissing = "seed-missing",
        /// A seed was found and refused.
        SeedInvalid = "seed-invalid",
        /// A seed is to be fetched, and is not to be had.
        SeedUnreachable = "seed-unreachable",
        /// The seed's masters do not name this machine.
        SeedNoMatch = "seed-no-match",
        /// The seed in use differs in what cannot be changed after founding.
        SeedChanged = "seed-changed",
        /// No interface has the MAC address of the seed.
        NetworkInterfaceMissing = "network-interface-missing",
        /// The interface has no carrier.
        NetworkNoCarrier = "network-no-carrier",
        /// The kernel refused an address, a route or a link setting.
        NetworkSetupFailed = "network-setup-failed",
        /// No time server gives a usable answer.
        ClockUnsynchronized = "clock-unsynchronized",
        /// The time servers disagree.
        ClockServersDisagree = "clock-servers-disagree",
        /// A correction that nobody would believe.
        ClockJumpRefused = "clock-jump-refused",
        /// No disk matches the seed.
        DiskMissing = "disk-missing",
        /// Several disks match the seed.
        DiskAmbiguous = "disk-ambiguous",
        /// The matching disk holds something that is not ours.
        DiskForeign = "disk-foreign",
        /// The matching disk was a master's, and its partition table is damaged.
        DiskDamaged = "disk-damaged",
        /// The matching disk cannot be read.
        DiskUnreadable = "disk-unreadable",
        /// The matching disk is too small.
        DiskTooSmall = "disk-too-small",
        /// Partitioning, checking or mounting failed.
        DiskSetupFailed = "disk-setup-failed",
        /// The disk is being partitioned, checked or formatted.
        DiskPreparing = "disk-preparing",
        /// The disk was there and is gone, or fails.
        DiskLost = "disk-lost",
        /// The kernel made the file system read-only.
        DiskReadOnly = "disk-read-only",
        /// The file system is full.
        DiskFull = "disk-full",
        /// A file system cannot be used, and memory takes its place.
        DiskSetAside = "disk-set-aside",
        /// The node keeps everything in memory, as the seed says.
        DiskInMemory = "disk-in-memory",
        /// No medium holds the image that runs.
        ImageNotFound = "image-not-found",
        /// The running image was not put on the disk.
        InstallFailed = "install-failed",
        /// The image that runs has to show yet that it is good.
        ImageOnTrial = "image-on-trial",
        /// The last image that was tried was not good.
        ImageFailed = "image-failed",
        /// Listed masters do not answer.
        FormationPeersMissing = "formation-peers-missing",
        /// Masters hold different seeds.
        FormationSeedsDiffer = "formation-seeds-differ",
        /// Listed masters answer, and a disk of theirs is not usable.
        FormationPeersNotReady = "formation-peers-not-ready",
        /// The founding plan is made, acknowledged or started.
        FormationUnderWay = "formation-under-way",
        /// A cluster has begun without this node.
        FormationClusterExists = "formation-cluster-exists",
        /// A plan was refused, because some of those that it leaves out may have begun.
        FormationPlanRefused = "formation-plan-refused",
        /// Disks of different clusters meet.
        FormationForeignCluster = "formation-foreign-cluster",
        /// The seed lists several masters, and this one keeps everything in memory.
        FormationNoDisk = "formation-no-disk",
        /// STATE or ETCD is absent or unreadable, so that nobody knows what the node is.
        FormationVolumeUnknown = "formation-volume-unknown",
        /// A step of formation failed and is tried again.
        FormationRetrying = "formation-retrying",
        /// The number of masters is even.
        FormationEvenMasters = "formation-even-masters",
        /// A listed master does not answer.
        PeerUnreachable = "peer-unreachable",
        /// A peer holds another secret.
        PeerOtherSecret = "peer-other-secret",
        /// A peer belongs to a cluster of another name, or to another founded cluster.
        PeerOtherCluster = "peer-other-cluster",
        /// A peer's key is not the one that this node knows it by.
        PeerOtherKey = "peer-other-key",
        /// What answers there is no master.
        PeerUntrusted = "peer-untrusted",
        /// A peer speaks no version of the protocol that this node speaks.
        PeerNoCommonVersion = "peer-no-common-version",
        /// A peer belongs to a founded cluster, and this node to none.
        PeerIsMember = "peer-is-member",
        /// A peer belongs to no cluster, and this node to one.
        PeerNotMember = "peer-not-member",
        /// Identity or authorities on STATE are damaged.
        IdentityDamaged = "identity-damaged",
        /// etcd ran here before, and its data is gone or foreign.
        EtcdAmnesiac = "etcd-amnesiac",
        /// etcd's database has nearly reached its quota.
        EtcdSpaceLow = "etcd-space-low",
        /// etcd takes no writes: its database has reached its quota.
        EtcdNoSpace = "etcd-no-space",
        /// A service waits until another one is ready.
        ServiceDependency = "service-dependency",
        /// A service was started and is not ready yet.
        ServiceStarting = "service-starting",
        /// A service was ready and is no longer.
        ServiceUnready = "service-unready",
        /// A service ended and starts again after a pause.
        ServiceBackingOff = "service-backing-off",
        /// A service keeps dying.
        ServiceCrashLooping = "service-crash-looping",
        /// A service cannot be started at all.
        ServiceStartFailed = "service-start-failed",
        /// A service was told to stop and has not ended yet.
        ServiceStopping = "service-stopping",
        /// A service's output is not copied to disk.
        OutputNotStored = "output-not-stored",
        /// The kernel lacks a control group controller.
        ControllerMissing = "controller-missing",
        /// The kernel refused a setting.
        KernelSettingRefused = "kernel-setting-refused",
        /// A master holds the disruption lock.
        DisruptionUnderWay = "disruption-under-way",
        /// Who holds the disruption lock cannot be asked.
        DisruptionUnknown = "disruption-unknown",
        /// etcd has no quorum.
        QuorumLost = "quorum-lost",
        /// etcd would have no quorum.
        QuorumWouldBeLost = "quorum-would-be-lost",
        /// No other apiserver is ready.
        ApiserverWouldBeLost = "apiserver-would-be-lost",
        /// The kernel refuses the host's firewall.
        FirewallMissing = "firewall-missing",
        /// Nobody owns the virtual address.
        VipUnowned = "vip-unowned",
        /// The owner of the virtual address has no apiserver that is ready, and nobody else has.
        VipUnready = "vip-unready",
        /// Nobody can follow the owner of the virtual address until etcd has space.
        VipSpent = "vip-spent",
        /// A machine that is no master answers for the virtual address.
        VipStranger = "vip-stranger",
        /// A later release keeps the virtual address.
        VipUnknownFormat = "vip-unknown-format",
        /// The kernel refuses what keeps a virtual address from two owners.
        VipGateMissing = "vip-gate-missing",
        /// The node is stopping.
        ShuttingDown = "shutting-down",
    }
}

impl ReasonCode {
    /// The cause in general: one sentence, for people. Empty for a code of a newer release.
    pub fn cause(&self) -> &'static str {
        self.texts().0
    }

    /// What unblocks it in general. Empty for a code of a newer release.
    pub fn remedy(&self) -> &'static str {
        self.texts().1
    }

    fn texts(&self) -> (&'static str, &'static str) {
        match self {
            Self::SeedMissing => (
                "No source holds a seed.",
                "Hand in a seed: a volume labelled MASTHEAD or CIDATA, QEMU fw_cfg opt/masthead/seed, an SMBIOS string, or masthead.seed= on the kernel command line (docs/seed.md). The node looks again by itself.",
            ),
            Self::SeedInvalid => (
                "A seed was found and is wrong.",
                "Correct it as the messages say (`mastctl seed check FILE` gives the same ones) and hand it in again. No disk was touched.",
            ),
            Self::SeedUnreachable => (
                "The kernel command line says where the seed is to be fetched from, and it is not to be had there.",
                "Correct the server, the network, or what masthead.seed= and ip= say (docs/seed.md). The node tries again by itself, and takes no older seed meanwhile.",
            ),
            Self::SeedNoMatch => (
                "No master of the seed has a MAC address or serial number of this machine.",
                "Add this machine to [masters] with one of the MAC addresses or the serial number shown here.",
            ),
            Self::SeedChanged => (
                "The seed differs from the one that this cluster was founded with in something that cannot change afterwards.",
                "Put the old value back into the seed, or found a new cluster on blank disks.",
            ),
            Self::NetworkInterfaceMissing => (
                "No network interface has the MAC address that the seed names.",
                "Check the network card and its driver, or correct the address in the seed.",
            ),
            Self::NetworkNoCarrier => (
                "The network interface has no carrier.",
                "Check the cable and the switch port.",
            ),
            Self::NetworkSetupFailed => (
                "The kernel refused a link, an address or a route.",
                "Compare `network` and `address` in the seed with the network: the gateway must be inside the prefix.",
            ),
            Self::ClockUnsynchronized => (
                "The clock goes by itself: no time server gives a usable answer.",
                "Check `ntp` in the seed, and the way to these servers (UDP, port 123). Certificates depend on the clock.",
            ),
            Self::ClockServersDisagree => (
                "The time servers do not agree, so that none is believed.",
                "Name three or more in `ntp`: one that is wrong is then outvoted.",
            ),
            Self::ClockJumpRefused => (
                "A time server wants the clock to be set by more than can be true.",
                "Check the time servers. If it is the node's clock that is wrong, reboot it: the first answer after a boot is believed, unless it is earlier than the image.",
            ),
            Self::DiskMissing => (
                "No disk matches the seed.",
                "Attach a disk that matches `disk`, or change `disk` to match one of the candidates shown.",
            ),
            Self::DiskAmbiguous => (
                "Several blank disks match the seed, and a node chooses none by itself.",
                "Name one by its serial number: `disk = { serial = \"…\" }`.",
            ),
            Self::DiskForeign => (
                "The disk holds data that is not Masthead's.",
                "Choose another disk, or erase this one with `wipe = \"SERIAL\"` in the seed, which works once.",
            ),
            Self::DiskDamaged => (
                "The disk holds what is left of a Masthead: its partition table is damaged or was overwritten.",
                "Repair the table elsewhere, use another disk, or erase this one elsewhere. `wipe` does not erase what was a master's.",
            ),
            Self::DiskUnreadable => (
                "The disk cannot be read, so it is not known to be blank.",
                "Check cable and disk, replace it if it fails. An unreadable disk is never written.",
            ),
            Self::DiskTooSmall => (
                "The disk is smaller than the layout needs.",
                "Use a larger disk.",
            ),
            Self::DiskSetupFailed => (
                "Partitioning, checking, making or mounting a file system failed.",
                "Read the message; if the disk fails, replace it. The node tries again.",
            ),
            Self::DiskPreparing => (
                "The disk is being partitioned, checked or formatted.",
                "Wait: this ends by itself.",
            ),
            Self::DiskLost => (
                "A disk that was in use is gone or fails.",
                "Check cable and disk. The operating system and its API go on from memory; reboot when the disk is back. A master with a new STATE or ETCD cannot return to its cluster in this release.",
            ),
            Self::DiskReadOnly => (
                "The kernel made the file system read-only after an error.",
                "Look for input/output errors in the kernel's log, then reboot: the file system is checked at boot. A master with a new STATE or ETCD cannot return to its cluster in this release.",
            ),
            Self::DiskFull => (
                "The file system is full.",
                "Find out what grows (`mastctl status` shows the use of each file system); use a larger disk.",
            ),
            Self::DiskSetAside => (
                "DATA cannot be mended or mounted. Memory takes its place: logs and the audit log since the boot are lost at the next one.",
                "The file system was left as it is: save from it what is of worth and repair or erase it elsewhere, or replace the disk; then reboot.",
            ),
            Self::ImageNotFound => (
                "The disk does not start by itself, and no volume holds the image that runs: it came by the network, or its medium is gone.",
                "Boot this machine from a medium with the image once. One that always boots by the network needs nothing.",
            ),
            Self::InstallFailed => (
                "The running image was not put on the disk, which does not start by itself.",
                "Read the message; if the disk or the medium fails, replace it. The node tries again at its next boot: leave the medium in until then.",
            ),
            Self::ImageOnTrial => (
                "The image that runs is on trial: when this master has served for a minute without a break, it is good.",
                "Wait. If it does not serve in time, the master reboots into the last good image by itself, and says why.",
            ),
            Self::ImageFailed => (
                "An image was tried on this master, and was not good; the last good one runs again.",
                "See the cause. Nothing has to be done for this master to serve; correct the image before it is tried again.",
            ),
            Self::DiskInMemory => (
                "The node keeps everything in memory, as its seed says: a reboot loses the cluster.",
                "Give the seed a disk when the cluster shall outlive a reboot.",
            ),
            Self::FormationPeersMissing => (
                "Listed masters do not answer. The first cluster is founded when all of them do.",
                "Switch them on and check the network. If one is lost for good: `mastctl found --without NAME --cluster CLUSTER`.",
            ),
            Self::FormationSeedsDiffer => (
                "Masters hold different seeds.",
                "Give all of them the same file and reboot those that had another one.",
            ),
            Self::FormationPeersNotReady => (
                "Listed masters answer, but a disk of theirs is not usable.",
                "Look at the consoles of the masters named here.",
            ),
            Self::FormationUnderWay => (
                "The first cluster is being founded.",
                "Wait; if it lasts, look at the masters named here.",
            ),
            Self::FormationClusterExists => (
                "A cluster has begun without this node, which founds none of its own.",
                "This release cannot join it: that cluster goes on without this node. If it is to be given up, erase the disks of the masters named here, elsewhere and as a whole, and found anew.",
            ),
            Self::FormationPlanRefused => (
                "A plan for the first cluster was refused: masters that it leaves out may have begun.",
                "Switch the masters named here on, and leave their disks as they are.",
            ),
            Self::FormationForeignCluster => (
                "Masters of one list hold disks of different clusters.",
                "Take the disk that does not belong here away, or erase it elsewhere as a whole; its node then waits to be joined, which this release cannot do.",
            ),
            Self::FormationNoDisk => (
                "The seed lists several masters, and this one keeps everything in memory: a reboot would make it forget its part.",
                "Give this master a disk.",
            ),
            Self::FormationVolumeUnknown => (
                "STATE or ETCD is absent or cannot be read, so that it is not known what this node is.",
                "Check cable and disk. The node goes on when the disk can be read; with a new one it cannot return to its cluster in this release.",
            ),
            Self::FormationRetrying => (
                "A step of the founding failed and is tried again.",
                "Read the message; if the disk fails, replace it.",
            ),
            Self::FormationEvenMasters => (
                "An even number of masters survives no more failures than one master less.",
                "Use one, three or five masters.",
            ),
            Self::PeerUnreachable => (
                "A master that the seed lists does not answer.",
                "Power it on, and check its console, its cable and its address; the node tries again by itself.",
            ),
            Self::PeerOtherSecret => (
                "A peer has the same cluster name and another secret.",
                "Give both machines the same seed; one of them may still have the seed of an earlier cluster.",
            ),
            Self::PeerOtherCluster => (
                "A peer belongs to another cluster.",
                "Give both machines the same seed, or correct the address of one of them. A disk of a former cluster must be erased elsewhere, as a whole: `wipe` does not erase a master's disk.",
            ),
            Self::PeerOtherKey => (
                "A peer has another key than the one that this node knows it by.",
                "If its STATE was replaced or erased, put the old disk back: this release cannot replace a member. If not, somebody else answers at its address.",
            ),
            Self::PeerUntrusted => (
                "What answers at a peer's address shows no certificate of a master.",
                "Check that the address is the master's and that nothing between the machines ends TLS.",
            ),
            Self::PeerNoCommonVersion => (
                "A peer speaks no version of the peer protocol that this node speaks: a release speaks its own and the one before.",
                "Boot the older machine with a newer release: releases of one cluster may be one version apart.",
            ),
            Self::PeerIsMember => (
                "A peer belongs to a founded cluster, and this node to none.",
                "This release cannot join a founded cluster: put this machine's old disk back, or found anew on blank disks.",
            ),
            Self::PeerNotMember => (
                "A peer belongs to no cluster, and this node to one.",
                "Wait until it has read its state. If its disk was erased or replaced, put the old one back: this release cannot replace a member.",
            ),
            Self::IdentityDamaged => (
                "Identity or authorities on STATE are damaged or incomplete.",
                "Restore STATE from a backup of yours. Without one this master cannot return to its cluster in this release.",
            ),
            Self::EtcdAmnesiac => (
                "etcd ran on this node before, but its data is gone or belongs to another cluster. Starting it anew would lose acknowledged writes.",
                "If the old disk still exists, put it back and reboot. This release neither restores a snapshot nor replaces a member: the others go on while they are a majority; without one, found anew on erased disks.",
            ),
            Self::ServiceDependency => (
                "The service waits until the services that it needs are ready.",
                "Look at the services named here.",
            ),
            Self::ServiceStarting => (
                "The service was started and is not ready yet.",
                "Wait; if it lasts, read `mastctl logs SERVICE`.",
            ),
            Self::ServiceUnready => (
                "The service was ready, and its readiness probe fails now.",
                "Read the probe's detail and `mastctl logs SERVICE`. A failing liveness probe restarts it by itself.",
            ),
            Self::ServiceBackingOff => (
                "The service ended and is started again after a pause.",
                "Wait; read its last lines if it happens again.",
            ),
            Self::ServiceCrashLooping => (
                "The service keeps ending soon after its start. It is still retried.",
                "Read its last lines here or with `mastctl logs SERVICE`; extra flags in the seed are the usual cause.",
            ),
            Self::ServiceStartFailed => (
                "The service cannot be started.",
                "Read the message; it is retried.",
            ),
            Self::ServiceStopping => (
                "The service was told to stop and has not ended yet.",
                "Wait: what does not end by itself is killed.",
            ),
            Self::OutputNotStored => (
                "Output of services is not copied to disk and only its end is kept in memory.",
                "Look at the state of DATA.",
            ),
            Self::ControllerMissing => (
                "The kernel offers no such control group controller; limits of that kind are not enforced.",
                "Nothing to do in a lab; on a machine use the kernel of the image.",
            ),
            Self::KernelSettingRefused => (
                "The kernel refused a setting.",
                "Nothing to do in a lab; on a machine use the kernel of the image.",
            ),
            Self::DisruptionUnderWay => (
                "A master is out of service on purpose, and holds the disruption lock until it serves again.",
                "Wait until it is back. If it never comes back: `mastctl unlock NODE --id ID`.",
            ),
            Self::DisruptionUnknown => (
                "Whether another master is out of service on purpose cannot be asked of etcd.",
                "See `mastctl status` for how etcd is. `--accept-outage` goes without the disruption lock.",
            ),
            Self::QuorumLost => (
                "Too few voters of etcd are healthy: nothing can be written.",
                "Bring the missing masters back. `--accept-outage` reboots this one all the same.",
            ),
            Self::QuorumWouldBeLost => (
                "Too few voters of etcd would be left, and nothing could be written until the node is back.",
                "Bring missing masters back first. With one or two voters there is no other way: `--accept-outage`.",
            ),
            Self::ApiserverWouldBeLost => (
                "No other master's kube-apiserver is ready.",
                "Look at the others' with `mastctl status`. `--accept-outage` goes without.",
            ),
            Self::EtcdSpaceLow => (
                "etcd's database takes 80 % of its quota or more.",
                "Masthead compacts and defragments it by itself. If it stays as large, what is in use has to become less: delete objects, or raise `quota-backend-bytes` in the seed.",
            ),
            Self::EtcdNoSpace => (
                "etcd's database has reached its quota: Kubernetes takes no changes, and deletions still.",
                "Delete objects, with `kubectl delete`. Masthead then compacts and defragments the database, and has etcd take writes again, by itself.",
            ),
            Self::FirewallMissing => (
                "The kernel refuses the host's firewall: every port of this master can be reached by everybody.",
                "Use the kernel of the image: it needs nf_tables with the inet family. What listens asks for certificates all the same.",
            ),
            Self::VipUnowned => (
                "Nobody owns the virtual address.",
                "It is taken within seconds once etcd has a quorum and a master's kube-apiserver is ready: see `mastctl status` for which of them is missing.",
            ),
            Self::VipUnready => (
                "The owner's kube-apiserver is not ready, and no other master's is.",
                "See `mastctl logs kube-apiserver`. The address moves by itself as soon as another master's kube-apiserver is ready.",
            ),
            Self::VipSpent => (
                "While etcd has no space the virtual address has moved as often as it can: nobody can follow its last owner.",
                "Delete objects through a master's own address, with `kubectl --server=https://MASTER:6443 delete`. Masthead then makes space in etcd by itself, and the address is taken as soon as etcd takes writes.",
            ),
            Self::VipStranger => (
                "A machine that is none of the cluster's answers for the virtual address.",
                "Give that machine another address, or found the cluster with a free one. The masters ask again by themselves.",
            ),
            Self::VipUnknownFormat => (
                "A later release keeps the virtual address.",
                "Upgrade this master; until then it owns no virtual address.",
            ),
            Self::VipGateMissing => (
                "The kernel refuses the rules that keep a virtual address from having two owners.",
                "This master owns no virtual address until it takes them. Use the kernel of the image: it needs nf_tables with the netdev family and its egress hook.",
            ),
            Self::ShuttingDown => (
                "The node stops its services to reboot or to power off.",
                "Wait.",
            ),
            Self::Other(_) => ("", ""),
        }
    }
}

/// Why something waits or is degraded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reason {
    /// For programs.
    pub code: ReasonCode,
    /// What happened, as precisely as the node knows.
    pub cause: String,
    /// What to do.
    #[serde(default)]
    pub remedy: String,
    /// Since when.
    pub since: Timestamp,
}

impl Reason {
    /// A reason with the code's own texts.
    pub fn new(code: ReasonCode, since: Timestamp) -> Self {
        let (cause, remedy) = code.texts();
        Self {
            cause: cause.to_owned(),
            remedy: remedy.to_owned(),
            code,
            since,
        }
    }

    /// The same with a cause that names what is concerned.
    pub fn with_cause(mut self, cause: impl Into<String>) -> Self {
        self.cause = cause.into();
        self
    }

    /// Whether it tells the same as another one, since whenever.
    pub fn tells_the_same(&self, other: &Self) -> bool {
        self.code == other.code && self.cause == other.cause
    }

    /// With the beginning of the one before, where it tells the same.
    pub fn continuing(self, before: Option<&Self>) -> Self {
        match before {
            Some(before) if before.tells_the_same(&self) => Self {
                since: before.since,
                ..self
            },
            _ => self,
        }
    }

    /// The same with a more precise remedy.
    pub fn with_remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = remedy.into();
        self
    }
}
