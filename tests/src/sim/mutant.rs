//! Mistakes planted on purpose: a simulator that does not see them proves nothing.

/// One mistake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutant {
    /// The target executes what its gate refuses.
    GateIgnored,
    /// The order fence does not wait: a convicted association counts as stopped.
    NoFence,
}

impl Mutant {
    /// All of them, with the names the command line knows.
    pub const ALL: &'static [(&'static str, Self)] = &[
        ("gate-ignored", Self::GateIgnored),
        ("no-fence", Self::NoFence),
    ];
}
