//! The contenders, and the export they all use.

pub(crate) const NQN: &str = "nqn.2026-11.io.umpath:bench";
/// Its service (port number).
pub(crate) const SERVICE: u16 = 4420;
/// Number of cables, and so of paths.
pub(crate) const PATHS: u8 = 2;
/// I/O queues of every contender, per path.
pub(crate) const QUEUES: &str = "2";

/// A device under measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Contender {
    /// `umpathd`: two paths, defaults.
    Ours,
    /// The kernel's own multipath, queue-depth.
    Native,
    /// dm-multipath, queue-length, over the kernel's host.
    Dm,
    /// One path of the kernel's host without multipath.
    Raw,
    /// Our ublk front end over a backend that moves no data: the upper bound of any ublk device.
    UblkNull,
}

impl Contender {
    /// Stable name, used in the table and in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::Native => "native",
            Self::Dm => "dm",
            Self::Raw => "raw",
            Self::UblkNull => "ublk_null",
        }
    }
}

/// Whether the kernel's host merges paths itself. dm-multipath needs one that does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Half {
    /// `nvme_core.multipath=Y`.
    Native,
    /// `nvme_core.multipath=N`.
    Separate,
}

impl Half {
    /// The contenders of this half; the first is ours in both.
    pub fn contenders(self) -> &'static [Contender] {
        match self {
            Self::Native => &[Contender::Ours, Contender::Native, Contender::UblkNull],
            Self::Separate => &[Contender::Ours, Contender::Dm, Contender::Raw],
        }
    }

    /// The contender whose throughput is the divisor of the ratio.
    pub fn yardstick(self) -> Contender {
        match self {
            Self::Native => Contender::Native,
            Self::Separate => Contender::Dm,
        }
    }
}
