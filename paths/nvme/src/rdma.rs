//! Private data exchanged by the RDMA connection manager before the first capsule.
//!
//! NVMe RDMA Transport 1.1 §3.4 (connect, accept and reject private data). The connection manager
//! may pad the peer's data, so decoding accepts any length from the structure's size upwards.

use core::fmt;

use zerocopy::little_endian::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// The only record format defined.
pub const RECORD_FORMAT: u16 = 0;

/// Private data of a connection request, 32 bytes.
#[derive(
    FromBytes,
    IntoBytes,
    KnownLayout,
    Immutable,
    Unaligned,
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Default,
)]
#[repr(C)]
pub struct CmRequest {
    /// Record format, [`RECORD_FORMAT`].
    pub recfmt: U16,
    /// Queue identifier: 0 for the admin queue.
    pub qid: U16,
    /// Host receive queue size: RECVs the host keeps posted. Linux sends a 1-based count.
    pub hrqsize: U16,
    /// Host send queue size, counted from zero: the Connect command's SQSIZE.
    pub hsqsize: U16,
    /// Controller of an I/O queue; zero for the admin queue.
    pub cntlid: U16,
    /// Reserved.
    pub reserved: [u8; 22],
}

impl CmRequest {
    /// Bytes on the wire.
    pub const SIZE: usize = 32;

    /// A request for queue `qid` with room for `depth` commands; `cntlid` applies to I/O queues
    /// only. Sizes are set as in Linux: receive queue `depth`, send queue `depth - 1`.
    #[must_use]
    pub fn new(qid: u16, depth: u16, cntlid: u16) -> Self {
        Self {
            recfmt: U16::new(RECORD_FORMAT),
            qid: U16::new(qid),
            hrqsize: U16::new(depth),
            hsqsize: U16::new(depth.saturating_sub(1)),
            cntlid: U16::new(if qid == 0 { 0 } else { cntlid }),
            reserved: [0; 22],
        }
    }

    /// Decodes a host's data, or returns the reason with which to reject it.
    pub fn decode(private_data: &[u8]) -> Result<Self, RejectReason> {
        let (request, _) =
            Self::read_from_prefix(private_data).map_err(|_| RejectReason::INVALID_LENGTH)?;
        if request.recfmt.get() != RECORD_FORMAT {
            return Err(RejectReason::INVALID_RECFMT);
        }
        Ok(request)
    }
}

/// Private data of an accepted connection, 32 bytes.
#[derive(
    FromBytes,
    IntoBytes,
    KnownLayout,
    Immutable,
    Unaligned,
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Default,
)]
#[repr(C)]
pub struct CmReply {
    /// Record format, [`RECORD_FORMAT`].
    pub recfmt: U16,
    /// Controller receive queue size: RECVs the controller keeps posted.
    pub crqsize: U16,
    /// Reserved.
    pub reserved: [u8; 28],
}

impl CmReply {
    /// Bytes on the wire.
    pub const SIZE: usize = 32;

    /// A reply of a controller that keeps `crqsize` RECVs posted.
    #[must_use]
    pub fn new(crqsize: u16) -> Self {
        Self {
            recfmt: U16::new(RECORD_FORMAT),
            crqsize: U16::new(crqsize),
            reserved: [0; 28],
        }
    }

    /// Decodes a controller's data; `None` if it is too short or has another format.
    ///
    /// Only the first four bytes are used, so a reply without the reserved tail is accepted.
    pub fn decode(private_data: &[u8]) -> Option<Self> {
        let (&[recfmt, crqsize], _) = <[U16; 2]>::ref_from_prefix(private_data).ok()?;
        (recfmt.get() == RECORD_FORMAT).then(|| Self::new(crqsize.get()))
    }
}

/// Private data of a rejected connection, 4 bytes.
#[derive(
    FromBytes,
    IntoBytes,
    KnownLayout,
    Immutable,
    Unaligned,
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Default,
)]
#[repr(C)]
pub struct CmReject {
    /// Record format, [`RECORD_FORMAT`].
    pub recfmt: U16,
    /// The reason, see [`RejectReason`].
    pub sts: U16,
}

impl CmReject {
    /// Bytes on the wire.
    pub const SIZE: usize = 4;

    /// A refusal for `reason`.
    #[must_use]
    pub const fn new(reason: RejectReason) -> Self {
        Self {
            recfmt: U16::new(RECORD_FORMAT),
            sts: U16::new(reason.0),
        }
    }

    /// Decodes a controller's data; `None` if it is too short or has another format.
    pub fn decode(private_data: &[u8]) -> Option<Self> {
        let (reject, _) = Self::read_from_prefix(private_data).ok()?;
        (reject.recfmt.get() == RECORD_FORMAT).then_some(reject)
    }

    /// Why the connection was rejected.
    pub const fn reason(&self) -> RejectReason {
        RejectReason(self.sts.get())
    }
}

/// Why a controller rejected a connection (NVMe RDMA Transport 1.1, figure "RDMA_CM_REJECT").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RejectReason(pub u16);

impl RejectReason {
    /// Private data of the wrong length.
    pub const INVALID_LENGTH: Self = Self(1);
    /// Unknown record format.
    pub const INVALID_RECFMT: Self = Self(2);
    /// The controller has no queue with this identifier.
    pub const INVALID_QID: Self = Self(3);
    /// Send queue size out of range.
    pub const INVALID_HSQSIZE: Self = Self(4);
    /// Receive queue size out of range.
    pub const INVALID_HRQSIZE: Self = Self(5);
    /// The controller has no resources for another queue.
    pub const NO_RESOURCES: Self = Self(6);
    /// RDMA read initiator depth out of range.
    pub const INVALID_IRD: Self = Self(7);
    /// RDMA read responder depth out of range.
    pub const INVALID_ORD: Self = Self(8);
    /// The subsystem has no controller with this identifier.
    pub const INVALID_CNTLID: Self = Self(9);
}

impl fmt::Display for RejectReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match *self {
            Self::INVALID_LENGTH => "invalid private data length",
            Self::INVALID_RECFMT => "invalid record format",
            Self::INVALID_QID => "invalid queue identifier",
            Self::INVALID_HSQSIZE => "invalid host send queue size",
            Self::INVALID_HRQSIZE => "invalid host receive queue size",
            Self::NO_RESOURCES => "no resources for another queue",
            Self::INVALID_IRD => "invalid RDMA read initiator depth",
            Self::INVALID_ORD => "invalid RDMA read responder depth",
            Self::INVALID_CNTLID => "invalid controller identifier",
            Self(code) => return write!(f, "unknown reject code {code}"),
        })
    }
}

#[cfg(test)]
mod tests {
    use core::mem::{offset_of, size_of};

    use super::*;

    #[test]
    fn layout() {
        assert_eq!(size_of::<CmRequest>(), CmRequest::SIZE);
        assert_eq!(size_of::<CmReply>(), CmReply::SIZE);
        assert_eq!(size_of::<CmReject>(), CmReject::SIZE);
        assert_eq!(offset_of!(CmRequest, cntlid), 8);
        assert_eq!(offset_of!(CmRequest, hsqsize), 6);
    }

    #[test]
    fn padded_and_short_private_data() {
        let mut padded = [0; 56];
        padded[..32].copy_from_slice(CmRequest::new(1, 128, 7).as_bytes());
        let request = CmRequest::decode(&padded).unwrap();
        assert_eq!(
            (
                request.hrqsize.get(),
                request.hsqsize.get(),
                request.cntlid.get()
            ),
            (128, 127, 7)
        );
        assert_eq!(
            CmRequest::decode(&padded[..31]),
            Err(RejectReason::INVALID_LENGTH)
        );
        padded[0] = 1;
        assert_eq!(
            CmRequest::decode(&padded),
            Err(RejectReason::INVALID_RECFMT)
        );
        assert_eq!(
            CmReply::decode(CmReply::new(128).as_bytes()),
            Some(CmReply::new(128))
        );
        assert_eq!(
            CmReject::decode(&[0, 0, 9, 0, 1]).unwrap().reason(),
            RejectReason::INVALID_CNTLID
        );
        assert_eq!(CmReject::decode(&[0, 0, 9]), None);
    }
}
