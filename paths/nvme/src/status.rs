//! Completion status of a command.
//!
//! A [`Status`] keeps the whole 15-bit field (type, code, retry delay, More, Do Not Retry), so a
//! log shows exactly what the controller sent. `umpath-core` decides whether a status makes a path
//! suspect or an I/O retryable; the methods here only name the spec's classes.
//!
//! NVMe Base 2.1 §4.2.3.

use core::fmt;

/// Status code types (NVMe Base 2.1 §4.2.3.1).
pub mod sct {
    /// Generic command status.
    pub const GENERIC: u8 = 0;
    /// Command specific status.
    pub const COMMAND_SPECIFIC: u8 = 1;
    /// Media and data integrity errors.
    pub const MEDIA: u8 = 2;
    /// Path related status.
    pub const PATH: u8 = 3;
    /// Vendor specific.
    pub const VENDOR: u8 = 7;
}

const DNR: u16 = 1 << 14;
const MORE: u16 = 1 << 13;
const CODE_MASK: u16 = 0x7ff;

/// The status field of a completion without the phase tag:
/// SC 7:0, SCT 10:8, CRD 12:11, More 13, DNR 14.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, PartialOrd, Ord)]
pub struct Status(u16);

impl Status {
    /// A status from its type and code, with no retry delay, More and DNR clear.
    #[must_use]
    pub const fn new(sct: u8, sc: u8) -> Self {
        Self((((sct & 7) as u16) << 8) | sc as u16)
    }

    /// From the 16-bit field of a completion; the phase tag is dropped.
    #[must_use]
    pub const fn from_wire(field: u16) -> Self {
        Self(field >> 1)
    }

    /// The 16-bit field of a completion with phase tag 0.
    pub const fn to_wire(self) -> u16 {
        self.0 << 1
    }

    /// From the 15-bit number that Linux and nvme-cli print.
    #[must_use]
    pub const fn from_raw(raw: u16) -> Self {
        Self(raw & 0x7fff)
    }

    /// The 15-bit number that Linux and nvme-cli print.
    pub const fn raw(self) -> u16 {
        self.0
    }

    /// Status code type.
    pub const fn sct(self) -> u8 {
        ((self.0 >> 8) & 7) as u8
    }

    /// Status code within its type.
    pub const fn sc(self) -> u8 {
        self.0 as u8
    }

    /// Command retry delay index: 0 none, 1 to 3 name CRDT1 to CRDT3 of Identify Controller.
    pub const fn crd(self) -> u8 {
        ((self.0 >> 11) & 3) as u8
    }

    /// More information is in the Error Information log.
    pub const fn more(self) -> bool {
        self.0 & MORE != 0
    }

    /// Do Not Retry: the same command would fail again *on any controller of the subsystem*.
    pub const fn dnr(self) -> bool {
        self.0 & DNR != 0
    }

    /// The same status with Do Not Retry set.
    #[must_use]
    pub const fn with_dnr(self) -> Self {
        Self(self.0 | DNR)
    }

    /// The same status with a retry delay index (0 to 3).
    #[must_use]
    pub const fn with_crd(self, crd: u8) -> Self {
        Self((self.0 & !0x1800) | (((crd & 3) as u16) << 11))
    }

    /// Type and code only, to compare statuses without their flags.
    #[must_use]
    pub const fn code(self) -> Self {
        Self(self.0 & CODE_MASK)
    }

    /// Whether type and code equal those of `other`, whatever the flags.
    pub const fn is(self, other: Self) -> bool {
        self.0 & CODE_MASK == other.0 & CODE_MASK
    }

    /// Successful completion.
    pub const fn is_success(self) -> bool {
        self.0 & CODE_MASK == 0
    }

    /// Status code type 3h: the command may work on another path.
    pub const fn is_path_related(self) -> bool {
        self.sct() == sct::PATH
    }

    /// One of the three ANA statuses (path related 01h to 03h).
    pub const fn is_ana(self) -> bool {
        self.sct() == sct::PATH && matches!(self.sc(), 0x01..=0x03)
    }
}

/// Declares each known code once: constant and description.
macro_rules! codes {
    ($($(#[$meta:meta])* $name:ident = ($sct:expr, $sc:literal), $words:literal;)*) => {
        impl Status {
            $(
                #[doc = concat!("`", stringify!($sc), "`: ", $words, ".")]
                pub const $name: Self = Self::new($sct, $sc);
            )*

            /// The spec's description of the code; `None` for one not listed here.
            pub const fn words(self) -> Option<&'static str> {
                $(
                    if self.is(Self::$name) {
                        return Some($words);
                    }
                )*
                None
            }
        }

        #[cfg(test)]
        const ALL: &[(Status, &str)] = &[$((Status::$name, $words),)*];
    };
}

codes! {
    // Generic, NVMe Base 2.1 figure "Generic Command Status Values".
    SUCCESS = (sct::GENERIC, 0x00), "successful completion";
    INVALID_OPCODE = (sct::GENERIC, 0x01), "invalid command opcode";
    INVALID_FIELD = (sct::GENERIC, 0x02), "invalid field in command";
    COMMAND_ID_CONFLICT = (sct::GENERIC, 0x03), "command id conflict";
    DATA_TRANSFER_ERROR = (sct::GENERIC, 0x04), "data transfer error";
    ABORTED_POWER_LOSS = (sct::GENERIC, 0x05), "aborted due to power loss notification";
    INTERNAL_ERROR = (sct::GENERIC, 0x06), "internal error";
    ABORT_REQUESTED = (sct::GENERIC, 0x07), "command abort requested";
    ABORTED_SQ_DELETION = (sct::GENERIC, 0x08), "aborted due to submission queue deletion";
    ABORTED_FAILED_FUSED = (sct::GENERIC, 0x09), "aborted due to failed fused command";
    ABORTED_MISSING_FUSED = (sct::GENERIC, 0x0a), "aborted due to missing fused command";
    INVALID_NAMESPACE = (sct::GENERIC, 0x0b), "invalid namespace or format";
    COMMAND_SEQUENCE_ERROR = (sct::GENERIC, 0x0c), "command sequence error";
    INVALID_SGL_SEGMENT = (sct::GENERIC, 0x0d), "invalid SGL segment descriptor";
    INVALID_SGL_COUNT = (sct::GENERIC, 0x0e), "invalid number of SGL descriptors";
    DATA_SGL_LENGTH_INVALID = (sct::GENERIC, 0x0f), "data SGL length invalid";
    METADATA_SGL_LENGTH_INVALID = (sct::GENERIC, 0x10), "metadata SGL length invalid";
    SGL_DESCRIPTOR_TYPE_INVALID = (sct::GENERIC, 0x11), "SGL descriptor type invalid";
    INVALID_CMB_USE = (sct::GENERIC, 0x12), "invalid use of controller memory buffer";
    PRP_OFFSET_INVALID = (sct::GENERIC, 0x13), "PRP offset invalid";
    ATOMIC_WRITE_UNIT_EXCEEDED = (sct::GENERIC, 0x14), "atomic write unit exceeded";
    OPERATION_DENIED = (sct::GENERIC, 0x15), "operation denied";
    SGL_OFFSET_INVALID = (sct::GENERIC, 0x16), "SGL offset invalid";
    HOST_ID_FORMAT_INCONSISTENT = (sct::GENERIC, 0x18), "host identifier inconsistent format";
    KEEP_ALIVE_EXPIRED = (sct::GENERIC, 0x19), "keep alive timer expired";
    KEEP_ALIVE_INVALID = (sct::GENERIC, 0x1a), "keep alive timeout invalid";
    ABORTED_PREEMPT = (sct::GENERIC, 0x1b), "aborted due to preempt and abort";
    SANITIZE_FAILED = (sct::GENERIC, 0x1c), "sanitize failed";
    SANITIZE_IN_PROGRESS = (sct::GENERIC, 0x1d), "sanitize in progress";
    SGL_BLOCK_GRANULARITY_INVALID = (sct::GENERIC, 0x1e), "SGL data block granularity invalid";
    COMMAND_NOT_SUPPORTED_FOR_QUEUE = (sct::GENERIC, 0x1f), "command not supported for queue in CMB";
    NAMESPACE_WRITE_PROTECTED = (sct::GENERIC, 0x20), "namespace is write protected";
    COMMAND_INTERRUPTED = (sct::GENERIC, 0x21), "command interrupted";
    TRANSIENT_TRANSPORT_ERROR = (sct::GENERIC, 0x22), "transient transport error";
    ADMIN_MEDIA_NOT_READY = (sct::GENERIC, 0x24), "admin command media not ready";
    LBA_OUT_OF_RANGE = (sct::GENERIC, 0x80), "LBA out of range";
    CAPACITY_EXCEEDED = (sct::GENERIC, 0x81), "capacity exceeded";
    NAMESPACE_NOT_READY = (sct::GENERIC, 0x82), "namespace not ready";
    RESERVATION_CONFLICT = (sct::GENERIC, 0x83), "reservation conflict";
    FORMAT_IN_PROGRESS = (sct::GENERIC, 0x84), "format in progress";

    // Command specific, NVMe Base 2.1 figure "Command Specific Status Values".
    CQ_INVALID = (sct::COMMAND_SPECIFIC, 0x00), "completion queue invalid";
    INVALID_QUEUE_ID = (sct::COMMAND_SPECIFIC, 0x01), "invalid queue identifier";
    INVALID_QUEUE_SIZE = (sct::COMMAND_SPECIFIC, 0x02), "invalid queue size";
    ABORT_LIMIT_EXCEEDED = (sct::COMMAND_SPECIFIC, 0x03), "abort command limit exceeded";
    AER_LIMIT_EXCEEDED = (sct::COMMAND_SPECIFIC, 0x05), "asynchronous event request limit exceeded";
    INVALID_LOG_PAGE = (sct::COMMAND_SPECIFIC, 0x09), "invalid log page";
    FEATURE_NOT_SAVEABLE = (sct::COMMAND_SPECIFIC, 0x0d), "feature identifier not saveable";
    FEATURE_NOT_CHANGEABLE = (sct::COMMAND_SPECIFIC, 0x0e), "feature not changeable";
    FEATURE_NOT_NAMESPACE_SPECIFIC = (sct::COMMAND_SPECIFIC, 0x0f), "feature not namespace specific";
    NAMESPACE_NOT_ATTACHED = (sct::COMMAND_SPECIFIC, 0x1a), "namespace not attached";
    INVALID_CONTROLLER_LIST = (sct::COMMAND_SPECIFIC, 0x1c), "controller list invalid";
    ANA_GROUP_INVALID = (sct::COMMAND_SPECIFIC, 0x24), "ANA group identifier invalid";
    // Cross-Controller Reset, TP8028.
    CCR_IN_PROGRESS = (sct::COMMAND_SPECIFIC, 0x3f), "cross-controller reset in progress";
    CCR_LOG_FULL = (sct::COMMAND_SPECIFIC, 0x40), "cross-controller reset log page full";
    CCR_LIMIT_EXCEEDED = (sct::COMMAND_SPECIFIC, 0x41), "cross-controller reset limit exceeded";
    // Fabrics, NVMe Base 2.1 figure "Fabrics Command Specific Status Values".
    CONNECT_INCOMPATIBLE_FORMAT = (sct::COMMAND_SPECIFIC, 0x80), "connect: incompatible format";
    CONNECT_CONTROLLER_BUSY = (sct::COMMAND_SPECIFIC, 0x81), "connect: controller busy";
    CONNECT_INVALID_PARAMETERS = (sct::COMMAND_SPECIFIC, 0x82), "connect: invalid parameters";
    CONNECT_RESTART_DISCOVERY = (sct::COMMAND_SPECIFIC, 0x83), "connect: restart discovery";
    CONNECT_INVALID_HOST = (sct::COMMAND_SPECIFIC, 0x84), "connect: host not allowed";
    DISCONNECT_INVALID_QUEUE_TYPE = (sct::COMMAND_SPECIFIC, 0x85), "disconnect: invalid queue type";
    DISCOVER_RESTART = (sct::COMMAND_SPECIFIC, 0x90), "discovery log changed, read it again";
    AUTHENTICATION_REQUIRED = (sct::COMMAND_SPECIFIC, 0x91), "authentication required";

    // Media, NVM Command Set 1.1 figure "Media and Data Integrity Error Values".
    WRITE_FAULT = (sct::MEDIA, 0x80), "write fault";
    UNRECOVERED_READ_ERROR = (sct::MEDIA, 0x81), "unrecovered read error";
    GUARD_CHECK_ERROR = (sct::MEDIA, 0x82), "end-to-end guard check error";
    APPLICATION_TAG_CHECK_ERROR = (sct::MEDIA, 0x83), "end-to-end application tag check error";
    REFERENCE_TAG_CHECK_ERROR = (sct::MEDIA, 0x84), "end-to-end reference tag check error";
    COMPARE_FAILURE = (sct::MEDIA, 0x85), "compare failure";
    ACCESS_DENIED = (sct::MEDIA, 0x86), "access denied";
    DEALLOCATED_BLOCK = (sct::MEDIA, 0x87), "deallocated or unwritten logical block";

    // Path related, NVMe Base 2.1 figure "Path Related Status Values".
    PATH_INTERNAL_ERROR = (sct::PATH, 0x00), "internal path error";
    ANA_PERSISTENT_LOSS = (sct::PATH, 0x01), "asymmetric access persistent loss";
    ANA_INACCESSIBLE = (sct::PATH, 0x02), "asymmetric access inaccessible";
    ANA_TRANSITION = (sct::PATH, 0x03), "asymmetric access transition";
    CONTROLLER_PATHING_ERROR = (sct::PATH, 0x60), "controller pathing error";
    HOST_PATHING_ERROR = (sct::PATH, 0x70), "host pathing error";
    ABORTED_BY_HOST = (sct::PATH, 0x71), "command aborted by host";
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.words() {
            Some(words) => f.write_str(words)?,
            None => f.write_str(match self.sct() {
                sct::GENERIC => "unknown generic status",
                sct::COMMAND_SPECIFIC => "unknown command specific status",
                sct::MEDIA => "unknown media error",
                sct::PATH => "unknown path error",
                sct::VENDOR => "vendor specific status",
                _ => "reserved status type",
            })?,
        }
        write!(f, " (sct {:x}h sc {:02x}h", self.sct(), self.sc())?;
        if self.dnr() {
            f.write_str(", do not retry")?;
        }
        f.write_str(")")
    }
}

impl fmt::Debug for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Status({:#06x}: {self})", self.0)
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::string::ToString;

    use super::*;

    #[test]
    fn every_code_is_unique() {
        for (i, (a, _)) in ALL.iter().enumerate() {
            for (b, _) in ALL.iter().skip(i + 1) {
                assert_ne!(a, b);
            }
        }
    }

    #[test]
    fn words_and_classes() {
        let status = Status::ANA_TRANSITION.with_dnr();
        assert_eq!(
            status.to_string(),
            "asymmetric access transition (sct 3h sc 03h, do not retry)"
        );
        assert!(status.is_ana() && status.is_path_related() && status.dnr());
        assert!(status.is(Status::ANA_TRANSITION));
        assert!(!Status::HOST_PATHING_ERROR.is_ana());
        assert_eq!(Status::ANA_TRANSITION.raw(), 0x303);
    }

    #[test]
    fn wire_round_trip() {
        for field in 0..=u16::MAX {
            assert_eq!(Status::from_wire(field).to_wire(), field & !1);
        }
    }
}
