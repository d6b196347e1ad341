//! The 1,024 bytes of data of a Connect command (NVMe Base 2.1 §6.3, figure "Connect Data").

use core::mem::offset_of;

use zerocopy::little_endian::U16;
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::nqn::{Nqn, NqnError};

/// Connect data.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct ConnectData {
    /// Host identifier, a UUID in RFC 4122 order.
    pub hostid: [u8; 16],
    /// Controller: FFFFh requests a new one, an I/O queue names its own.
    pub cntlid: U16,
    /// Reserved.
    pub reserved0: [u8; 238],
    /// NUL-terminated name of the subsystem.
    pub subnqn: [u8; 256],
    /// NUL-terminated name of the host.
    pub hostnqn: [u8; 256],
    /// Reserved.
    pub reserved1: [u8; 256],
}

impl ConnectData {
    /// Bytes on the wire.
    pub const SIZE: usize = 1024;
    /// Offset of `cntlid`, for the IPO of a refusal.
    pub const CNTLID_OFFSET: u16 = offset_of!(Self, cntlid) as u16;
    /// Offset of `subnqn`, for the IPO of a refusal.
    pub const SUBNQN_OFFSET: u16 = offset_of!(Self, subnqn) as u16;
    /// Offset of `hostnqn`, for the IPO of a refusal.
    pub const HOSTNQN_OFFSET: u16 = offset_of!(Self, hostnqn) as u16;

    /// Data of one Connect.
    #[must_use]
    pub fn new(hostid: [u8; 16], cntlid: u16, subnqn: &Nqn, hostnqn: &Nqn) -> Self {
        Self {
            hostid,
            cntlid: U16::new(cntlid),
            subnqn: subnqn.to_field(),
            hostnqn: hostnqn.to_field(),
            ..Self::new_zeroed()
        }
    }

    /// The subsystem's name, validated.
    pub fn subsystem(&self) -> Result<Nqn, NqnError> {
        Nqn::from_field(&self.subnqn)
    }

    /// The host's name, validated.
    pub fn host(&self) -> Result<Nqn, NqnError> {
        Nqn::from_field(&self.hostnqn)
    }
}

#[cfg(test)]
mod tests {
    use core::mem::size_of;

    use super::*;

    #[test]
    fn layout() {
        assert_eq!(size_of::<ConnectData>(), ConnectData::SIZE);
        assert_eq!(ConnectData::CNTLID_OFFSET, 16);
        assert_eq!(ConnectData::SUBNQN_OFFSET, 256);
        assert_eq!(ConnectData::HOSTNQN_OFFSET, 512);
    }

    #[test]
    fn names_round_trip() {
        let subsystem = Nqn::new("nqn.2018-09.io.xinnor:node1").unwrap();
        let host = Nqn::new("nqn.2014-08.org.nvmexpress:uuid:1").unwrap();
        let data = ConnectData::new([7; 16], 0xffff, &subsystem, &host);
        let back = ConnectData::read_from_bytes(data.as_bytes()).unwrap();
        assert_eq!((back.subsystem(), back.host()), (Ok(subsystem), Ok(host)));
    }
}
