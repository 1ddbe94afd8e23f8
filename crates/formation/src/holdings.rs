//! What a node's disks hold when the machine starts.

/// STATE, as it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StateHoldings {
    /// Absent, unreadable or damaged, and why: never the same as empty.
    Unknown(String),
    /// Read without error.
    Read {
        /// Every plan record.
        plans: Vec<Vec<u8>>,
        /// The go record.
        go: Option<Vec<u8>>,
        /// The record of etcd's first start.
        started: Option<Vec<u8>>,
    },
}

/// ETCD, as it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EtcdHoldings {
    /// Absent or unreadable, and why: never the same as empty.
    Unknown(String),
    /// Read without error.
    Read {
        /// The UUID of its file system.
        uuid: String,
        /// The marker.
        marker: Option<Vec<u8>>,
        /// Whether etcd's write-ahead log is there.
        has_wal: bool,
    },
}

/// One of the two file systems.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Volume {
    /// STATE: records, machine id, keys.
    State,
    /// ETCD: etcd's data and the marker.
    Etcd,
}

impl std::fmt::Display for Volume {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.pad(match self {
            Self::State => "STATE",
            Self::Etcd => "ETCD",
        })
    }
}
