//! The two kinds of node, and what each does without.

/// Where a node runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NodeKind {
    /// A machine, real or virtual, whose kernel belongs to the node.
    Machine,
    /// New namespaces on somebody else's kernel, made by the lab.
    Namespace,
}
