//! Fabrics commands (NVMe Base 2.1 §6): Connect, Property Get, Property Set.

use zerocopy::little_endian::U32;

use crate::cqe::Cqe;
use crate::opcode;
use crate::sqe::Sqe;
use crate::status::Status;

/// The controller identifier with which a host requests a new controller of the dynamic model.
pub const CNTLID_DYNAMIC: u16 = 0xffff;

/// Connect attributes.
pub mod cattr {
    /// Bit 2: the host does not use submission queue flow control.
    pub const DISABLE_SQ_FLOW_CONTROL: u8 = 1 << 2;
}

fn command(fctype: u8) -> Sqe {
    Sqe::new(opcode::FABRICS, u32::from(fctype))
}

/// The fields of a Connect command (NVMe Base 2.1 §6.3); its 1,024 bytes of data are
/// [`ConnectData`](crate::connect::ConnectData).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connect {
    /// Record format, 0.
    pub recfmt: u16,
    /// Queue to create: 0 for the admin queue.
    pub qid: u16,
    /// Queue depth counted from zero.
    pub sqsize: u16,
    /// Connect attributes, see [`cattr`].
    pub cattr: u8,
    /// Keep alive timeout in milliseconds; admin queue only, 0 disables.
    pub kato_ms: u32,
}

impl Connect {
    /// Reads the fields of a Connect command.
    pub const fn parse(sqe: &Sqe) -> Self {
        let (cdw10, cdw11) = (sqe.cdw10.get(), sqe.cdw11.get());
        Self {
            recfmt: cdw10 as u16,
            qid: (cdw10 >> 16) as u16,
            sqsize: cdw11 as u16,
            cattr: (cdw11 >> 16) as u8,
            kato_ms: sqe.cdw12.get(),
        }
    }

    /// The command.
    pub fn build(&self) -> Sqe {
        let mut sqe = command(opcode::fabrics::CONNECT);
        sqe.cdw10 = U32::new(u32::from(self.recfmt) | (u32::from(self.qid) << 16));
        sqe.cdw11 = U32::new(u32::from(self.sqsize) | (u32::from(self.cattr) << 16));
        sqe.cdw12 = U32::new(self.kato_ms);
        sqe
    }
}

/// Connects queue `qid` with `depth` entries; `kato_ms` applies to the admin queue only.
pub fn connect(qid: u16, depth: u16, cattr: u8, kato_ms: u32) -> Sqe {
    let kato_ms = if qid == 0 { kato_ms } else { 0 };
    Connect {
        recfmt: 0,
        qid,
        sqsize: depth.saturating_sub(1),
        cattr,
        kato_ms,
    }
    .build()
}

/// Result of a Connect command (NVMe Base 2.1 §6.3, figures "Connect Response").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectResponse {
    /// Connected.
    Accepted {
        /// Controller the queue belongs to.
        cntlid: u16,
        /// AUTHREQ: non-zero when the host must authenticate first.
        authreq: u16,
    },
    /// Status [`Status::CONNECT_INVALID_PARAMETERS`]: names the invalid parameter.
    InvalidParameter {
        /// IPO: byte offset of the invalid field.
        offset: u16,
        /// IATTR bit 0: the offset is in the data, not in the command.
        in_data: bool,
    },
    /// Any other status.
    Refused(Status),
}

impl ConnectResponse {
    /// Decodes a completion.
    pub const fn parse(cqe: &Cqe) -> Self {
        let (dw0, status) = (cqe.dw0(), cqe.status());
        if status.is_success() {
            Self::Accepted {
                cntlid: dw0 as u16,
                authreq: (dw0 >> 16) as u16,
            }
        } else if status.is(Status::CONNECT_INVALID_PARAMETERS) {
            Self::InvalidParameter {
                offset: dw0 as u16,
                in_data: dw0 & (1 << 16) != 0,
            }
        } else {
            Self::Refused(status)
        }
    }

    /// Status and result of the corresponding completion.
    pub const fn to_result(self) -> (Status, u64) {
        match self {
            Self::Accepted { cntlid, authreq } => {
                (Status::SUCCESS, cntlid as u64 | ((authreq as u64) << 16))
            }
            Self::InvalidParameter { offset, in_data } => (
                Status::CONNECT_INVALID_PARAMETERS.with_dnr(),
                offset as u64 | ((in_data as u64) << 16),
            ),
            Self::Refused(status) => (status, 0),
        }
    }
}

const ATTRIB_8_BYTES: u32 = 1;

/// Property Get (NVMe Base 2.1 §6.4); the value is the completion's result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PropertyGet {
    /// Property offset, see [`crate::property`].
    pub offset: u32,
    /// 8 bytes rather than 4.
    pub wide: bool,
}

impl PropertyGet {
    /// Reads the fields; `None` for a size the spec does not define.
    pub const fn parse(sqe: &Sqe) -> Option<Self> {
        match sqe.cdw10.get() & 7 {
            0 => Some(Self {
                offset: sqe.cdw11.get(),
                wide: false,
            }),
            ATTRIB_8_BYTES => Some(Self {
                offset: sqe.cdw11.get(),
                wide: true,
            }),
            _ => None,
        }
    }
}

/// Reads the property at `offset`; `wide` for the 8-byte ones (CAP).
pub fn property_get(offset: u32, wide: bool) -> Sqe {
    let mut sqe = command(opcode::fabrics::PROPERTY_GET);
    sqe.cdw10 = U32::new(u32::from(wide));
    sqe.cdw11 = U32::new(offset);
    sqe
}

/// Property Set (NVMe Base 2.1 §6.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PropertySet {
    /// Property offset, see [`crate::property`].
    pub offset: u32,
    /// 8 bytes rather than 4.
    pub wide: bool,
    /// The value; the high half counts only when `wide`.
    pub value: u64,
}

impl PropertySet {
    /// Reads the fields; `None` for a size the spec does not define.
    pub const fn parse(sqe: &Sqe) -> Option<Self> {
        let (offset, value) = (sqe.cdw11.get(), sqe.cdw12_13());
        match sqe.cdw10.get() & 7 {
            0 => Some(Self {
                offset,
                wide: false,
                value: value & 0xffff_ffff,
            }),
            ATTRIB_8_BYTES => Some(Self {
                offset,
                wide: true,
                value,
            }),
            _ => None,
        }
    }
}

/// Sets the 4-byte property at `offset` (CC).
pub fn property_set(offset: u32, value: u32) -> Sqe {
    let mut sqe = command(opcode::fabrics::PROPERTY_SET);
    sqe.cdw11 = U32::new(offset);
    sqe.cdw12 = U32::new(value);
    sqe
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::IntoBytes as _;

    #[test]
    fn connect_layout() {
        let sqe = connect(1, 128, cattr::DISABLE_SQ_FLOW_CONTROL, 5000);
        let bytes = sqe.as_bytes();
        assert_eq!(bytes[..5], [0x7f, 0x40, 0, 0, 1]);
        assert_eq!(bytes[40..52], [0, 0, 1, 0, 127, 0, 4, 0, 0, 0, 0, 0]);
        let admin = Connect::parse(&connect(0, 32, 0, 5000));
        assert_eq!((admin.qid, admin.sqsize, admin.kato_ms), (0, 31, 5000));
    }

    #[test]
    fn connect_answers() {
        for answer in [
            ConnectResponse::Accepted {
                cntlid: 7,
                authreq: 0,
            },
            ConnectResponse::InvalidParameter {
                offset: 256,
                in_data: true,
            },
            ConnectResponse::Refused(Status::CONNECT_INVALID_HOST.with_dnr()),
        ] {
            let (status, result) = answer.to_result();
            assert_eq!(
                ConnectResponse::parse(&Cqe::new(0, 0, status, result)),
                answer
            );
        }
    }

    #[test]
    fn property_layout() {
        let get = property_get(0, true);
        assert_eq!(get.as_bytes()[4], 4);
        assert_eq!(get.as_bytes()[40], 1);
        let set = property_set(0x14, 0x0046_0001);
        assert_eq!(set.as_bytes()[44..52], [0x14, 0, 0, 0, 0x01, 0, 0x46, 0]);
        assert_eq!(
            PropertySet::parse(&set),
            Some(PropertySet {
                offset: 0x14,
                wide: false,
                value: 0x0046_0001
            })
        );
        let mut bad = get;
        bad.cdw10 = U32::new(2);
        assert_eq!(PropertyGet::parse(&bad), None);
    }
}
