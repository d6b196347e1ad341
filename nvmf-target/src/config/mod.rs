//! The configuration file: one type, parsed once, unknown keys refused.
//!
//! Decided here: the shape and the defaults of `array.toml`, and everything that can be judged
//! without opening a device (duplicate identifiers, references to ports that do not exist). Not
//! decided here: whether an address has an RDMA device or a backing file exists; that is found out
//! when the target starts. The verbs of the run-time socket build the same types, so a file and a
//! sequence of commands cannot mean different things.

mod size;
mod validate;

use std::net::IpAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::model::{AnaState, Eui64, Nguid};

pub use size::ByteSize;
pub use validate::ConfigError;
pub(crate) use validate::{check_group, check_namespace, check_subsystem};

/// A whole `array.toml`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Settings of the process itself.
    pub process: Process,
    /// Settings of the RDMA transport. Present from the start when a port is configured.
    pub rdma: Rdma,
    /// Addresses to listen on.
    #[serde(rename = "port")]
    pub ports: Vec<Port>,
    /// Subsystems to serve.
    #[serde(rename = "subsystem")]
    pub subsystems: Vec<Subsystem>,
}

/// Settings of the process itself.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Process {
    /// Controller identifiers this process may hand out. Processes that serve the same subsystem
    /// must use ranges that do not overlap.
    pub cntlid: CntlidRange,
    /// Threads that serve queues.
    pub reactors: u16,
    /// How long, in microseconds, a reactor keeps polling after its last event before it sleeps.
    /// 0 sleeps at once.
    pub poll_us: u32,
}

impl Default for Process {
    fn default() -> Self {
        Self {
            cntlid: CntlidRange::default(),
            reactors: 1,
            poll_us: 50,
        }
    }
}

/// An inclusive range of controller identifiers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CntlidRange {
    /// Lowest identifier, at least 1.
    pub first: u16,
    /// Highest identifier, at most 0xffef.
    pub last: u16,
}

impl Default for CntlidRange {
    fn default() -> Self {
        Self {
            first: 1,
            last: 0xffef,
        }
    }
}

/// Settings of the RDMA transport.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Rdma {
    /// Largest queue depth accepted, in entries.
    pub depth_max: u16,
    /// I/O queues one controller may have.
    pub io_queues_max: u16,
    /// In-capsule data a command may carry on an I/O queue, in bytes; a multiple of 16.
    pub in_capsule_bytes: u32,
    /// Registered data memory of each reactor.
    pub buffer: ByteSize,
    /// Deletes a soft-RoCE device of a port that makes no connections any more, and adds it again.
    pub replace_dead_devices: bool,
}

impl Default for Rdma {
    fn default() -> Self {
        Self {
            depth_max: 128,
            io_queues_max: 64,
            in_capsule_bytes: 4096,
            buffer: ByteSize(64 << 20),
            replace_dead_devices: true,
        }
    }
}

/// One address to listen on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Port {
    /// Port identifier as it appears in the discovery log.
    pub id: u16,
    /// Address of an interface that has an RDMA device.
    pub traddr: IpAddr,
    /// Service number.
    #[serde(default = "default_trsvcid")]
    pub trsvcid: u16,
}

/// The service number NVMe/RDMA is registered under.
pub const fn default_trsvcid() -> u16 {
    4420
}

/// One subsystem.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Subsystem {
    /// NVMe qualified name.
    pub nqn: String,
    /// Serial number, at most 20 printable characters; derived from the name when absent.
    #[serde(default)]
    pub serial: Option<String>,
    /// Model number, at most 40 printable characters.
    #[serde(default = "default_model")]
    pub model: String,
    /// Any host may connect. Off unless stated: then only `hosts`.
    #[serde(default)]
    pub allow_any_host: bool,
    /// Names of the hosts that may connect.
    #[serde(default)]
    pub hosts: Vec<String>,
    /// Ports (by identifier) the subsystem is reachable through.
    #[serde(default)]
    pub ports: Vec<u16>,
    /// Command quiesce time reported to hosts, in milliseconds: how long after the keep-alive
    /// timer ran out a backend I/O already started may still take. See the example file.
    #[serde(default = "default_cqt_ms")]
    pub cqt_ms: u16,
    /// Offers cross-controller reset (TP8028).
    #[serde(default = "default_ccr")]
    pub ccr: bool,
    /// The file shared with the other processes that serve this subsystem, through which they reset
    /// each other's controllers; found by itself from the first file or device when absent.
    #[serde(default)]
    pub fence: Option<PathBuf>,
    /// Namespaces.
    #[serde(default, rename = "namespace")]
    pub namespaces: Vec<Namespace>,
    /// States other than optimized, per port and group.
    #[serde(default)]
    pub ana: Vec<Ana>,
}

/// The model number of a subsystem that names none.
pub fn default_model() -> String {
    "umpath-array".to_owned()
}

/// The command quiesce time of a subsystem that states none.
pub const fn default_cqt_ms() -> u16 {
    100
}

/// Whether a subsystem that says nothing offers cross-controller reset.
pub const fn default_ccr() -> bool {
    true
}

/// One namespace.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Namespace {
    /// Namespace identifier.
    pub nsid: u32,
    /// Where the blocks are kept.
    pub backend: Backend,
    /// Logical block size in bytes: 512 or 4096.
    #[serde(default = "default_block_size")]
    pub block_size: u32,
    /// ANA group.
    #[serde(default = "default_ana_group")]
    pub ana_group: u32,
    /// UUID; derived from the subsystem's name and the namespace identifier when absent.
    #[serde(default)]
    pub uuid: Option<uuid::Uuid>,
    /// NGUID, 32 hexadecimal digits; derived likewise when absent.
    #[serde(default)]
    pub nguid: Option<Nguid>,
    /// EUI-64, 16 hexadecimal digits; none when absent.
    #[serde(default)]
    pub eui64: Option<Eui64>,
}

/// The block size of a namespace that states none.
pub const fn default_block_size() -> u32 {
    4096
}

/// The ANA group of a namespace that states none.
pub const fn default_ana_group() -> u32 {
    1
}

/// Where a namespace keeps its blocks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase", deny_unknown_fields)]
pub enum Backend {
    /// Anonymous memory; contents end with the process.
    Memory {
        /// Capacity.
        size: ByteSize,
    },
    /// Reads zeroes, forgets writes.
    Null {
        /// Capacity.
        size: ByteSize,
    },
    /// A regular file. Several processes may share it.
    File {
        /// The file; created when `size` is given and it does not exist.
        path: PathBuf,
        /// Capacity; the file's length when absent.
        #[serde(default)]
        size: Option<ByteSize>,
        /// Whether to bypass the page cache.
        #[serde(default)]
        direct: Direct,
    },
    /// A block device.
    Block {
        /// The device node.
        path: PathBuf,
        /// Whether to bypass the page cache.
        #[serde(default)]
        direct: Direct,
    },
}

/// Whether a file or device is opened with `O_DIRECT`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direct {
    /// When the file supports it at the namespace's block size.
    #[default]
    Auto,
    /// Or refuse to start.
    Always,
    /// Through the page cache.
    Never,
}

/// The state of one ANA group as seen through one port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ana {
    /// Port identifier.
    pub port: u16,
    /// ANA group.
    #[serde(default = "default_ana_group")]
    pub group: u32,
    /// The state.
    pub state: AnaState,
}

impl Config {
    /// Parses and checks a configuration file's text.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let config: Self = toml::from_str(text).map_err(ConfigError::Syntax)?;
        config.check()?;
        Ok(config)
    }

    /// Checks what can be judged without opening a device.
    pub fn check(&self) -> Result<(), ConfigError> {
        validate::check(self)
    }
}
