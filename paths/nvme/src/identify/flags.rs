//! Bits of the capability fields of the Identify structures.

/// CMIC of Identify Controller.
pub mod cmic {
    /// The subsystem has more than one port.
    pub const MULTI_PORT: u8 = 1;
    /// The subsystem has more than one controller.
    pub const MULTI_CONTROLLER: u8 = 1 << 1;
    /// The controller reports ANA.
    pub const ANA: u8 = 1 << 3;
}

/// CTRATT of Identify Controller.
pub mod ctratt {
    /// 128-bit host identifiers.
    pub const HOST_ID_128: u32 = 1;
    /// Traffic based keep alive.
    pub const TRAFFIC_KEEP_ALIVE: u32 = 1 << 6;
}

/// CNTRLTYPE of Identify Controller.
pub mod cntrltype {
    /// I/O controller.
    pub const IO: u8 = 1;
    /// Discovery controller.
    pub const DISCOVERY: u8 = 2;
    /// Administrative controller.
    pub const ADMINISTRATIVE: u8 = 3;
}

/// LPA of Identify Controller: attributes of Get Log Page.
pub mod lpa {
    /// Commands Supported and Effects log.
    pub const EFFECTS: u8 = 1 << 1;
    /// Extended data: 32-bit length and 64-bit offset.
    pub const EXTENDED: u8 = 1 << 2;
    /// Supported Log Pages and feature effects logs.
    pub const SUPPORTED_PAGES: u8 = 1 << 5;
}

/// ANACAP of Identify Controller.
pub mod anacap {
    /// Can report optimized.
    pub const OPTIMIZED: u8 = 1;
    /// Can report non-optimized.
    pub const NON_OPTIMIZED: u8 = 1 << 1;
    /// Can report inaccessible.
    pub const INACCESSIBLE: u8 = 1 << 2;
    /// Can report persistent loss.
    pub const PERSISTENT_LOSS: u8 = 1 << 3;
    /// Can report change.
    pub const CHANGE: u8 = 1 << 4;
    /// A namespace's group never changes while it is attached.
    pub const GROUP_ID_FIXED: u8 = 1 << 6;
}

/// ONCS of Identify Controller: optional I/O commands.
pub mod oncs {
    /// Compare.
    pub const COMPARE: u16 = 1;
    /// Write Uncorrectable.
    pub const WRITE_UNCORRECTABLE: u16 = 1 << 1;
    /// Dataset Management.
    pub const DATASET_MANAGEMENT: u16 = 1 << 2;
    /// Write Zeroes.
    pub const WRITE_ZEROES: u16 = 1 << 3;
    /// Save and select fields of features.
    pub const FEATURE_SAVE_SELECT: u16 = 1 << 4;
    /// Reservations.
    pub const RESERVATIONS: u16 = 1 << 5;
    /// Timestamp feature.
    pub const TIMESTAMP: u16 = 1 << 6;
    /// Verify.
    pub const VERIFY: u16 = 1 << 7;
    /// Copy.
    pub const COPY: u16 = 1 << 8;
}

/// VWC of Identify Controller.
pub mod vwc {
    /// A volatile write cache is present.
    pub const PRESENT: u8 = 1;
    /// Flush with NSID FFFFFFFFh, bits 2:1: not supported.
    pub const FLUSH_ALL_UNSUPPORTED: u8 = 2 << 1;
}

/// SGLS of Identify Controller.
pub mod sgls {
    /// SGLs for the NVM command set, bits 1:0: supported, any alignment.
    pub const SUPPORTED: u32 = 1;
    /// Keyed data block descriptors; mandatory over RDMA.
    pub const KEYED: u32 = 1 << 2;
    /// The address field may be an offset: in-capsule data.
    pub const OFFSET: u32 = 1 << 20;
}

/// NMIC of Identify Namespace.
pub mod nmic {
    /// May be attached to two controllers at once.
    pub const SHARED: u8 = 1;
}

/// NSFEAT of Identify Namespace.
pub mod nsfeat {
    /// NAWUN, NAWUPF and NACWU are valid.
    pub const NAMESPACE_ATOMICITY: u8 = 1 << 1;
    /// NGUID and EUI64 are never reused.
    pub const UID_NOT_REUSED: u8 = 1 << 3;
    /// OPTPERF: NPWG, NPWA, NPDG, NPDA and NOWS are valid.
    pub const OPTIMAL_SIZES: u8 = 1 << 4;
    /// OPTPERF since NVM Command Set 1.1: NPWG, NPWA and NOWS are valid, and NPDGL and NPDAL of
    /// the command set specific structure.
    pub const OPTIMAL_SIZES_LARGE: u8 = 1 << 5;
}

/// NSFEAT of the command set independent Identify Namespace, which differs in its upper bits.
pub mod independent_nsfeat {
    /// NGUID and EUI64 are never reused.
    pub const UID_NOT_REUSED: u8 = 1 << 3;
    /// The namespace has no volatile write cache, whatever the controller reports.
    pub const NO_VOLATILE_CACHE: u8 = 1 << 5;
}

/// DLFEAT of Identify Namespace.
pub mod dlfeat {
    /// What deallocated blocks read as, bits 2:0.
    pub const READ_MASK: u8 = 7;
    /// They read as zeroes.
    pub const READ_ZEROES: u8 = 1;
    /// Write Zeroes honours the DEAC bit.
    pub const WRITE_ZEROES_DEALLOCATES: u8 = 1 << 3;
}

/// NSATTR of Identify Namespace.
pub mod nsattr {
    /// The namespace is write protected.
    pub const WRITE_PROTECTED: u8 = 1;
}

/// RESCAP of Identify Namespace.
pub mod rescap {}

/// NSTAT of the command set independent Identify Namespace.
pub mod nstat {
    /// The namespace is ready.
    pub const READY: u8 = 1;
}
