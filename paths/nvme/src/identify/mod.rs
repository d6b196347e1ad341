//! Identify data structures (NVMe Base 2.1 §5.1.13, NVM Command Set 1.1 §4.1.5).

pub mod controller;
pub mod descriptors;
pub mod flags;
pub mod list;
pub mod namespace;
pub mod nvm;

pub use controller::{IdentifyController, PowerState};
pub use descriptors::{DescriptorError, NsDescriptors, NsIdentifier, write_descriptors};
pub use list::{ControllerList, NsList};
pub use namespace::{IdentifyNamespace, IndependentNamespace, LbaFormat};
pub use nvm::{NvmController, NvmNamespace};

/// Bytes of every Identify data structure.
pub const IDENTIFY_BYTES: usize = 4096;

/// Controller or Namespace Structure: selects the data an Identify command returns.
pub mod cns {
    /// Identify Namespace of the NVM command set.
    pub const NAMESPACE: u8 = 0x00;
    /// Identify Controller.
    pub const CONTROLLER: u8 = 0x01;
    /// Active namespace list: identifiers above NSID.
    pub const ACTIVE_NAMESPACES: u8 = 0x02;
    /// Namespace identification descriptors.
    pub const NAMESPACE_DESCRIPTORS: u8 = 0x03;
    /// Command set specific Identify Namespace.
    pub const CSI_NAMESPACE: u8 = 0x05;
    /// Command set specific Identify Controller.
    pub const CSI_CONTROLLER: u8 = 0x06;
    /// Command set independent Identify Namespace.
    pub const INDEPENDENT_NAMESPACE: u8 = 0x08;
    /// Allocated namespace list.
    pub const ALLOCATED_NAMESPACES: u8 = 0x10;
    /// Identify Namespace of an allocated namespace.
    pub const ALLOCATED_NAMESPACE: u8 = 0x11;
    /// Controllers of the subsystem.
    pub const CONTROLLERS: u8 = 0x13;
}

/// Command set identifiers.
pub mod csi {
    /// NVM command set.
    pub const NVM: u8 = 0;
}
