//! Admin commands (NVMe Base 2.1 §5).

use zerocopy::little_endian::U32;

use crate::opcode::admin;
use crate::sqe::Sqe;

/// Identify (NVMe Base 2.1 §5.1.13).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Identify {
    /// Controller or namespace structure, see [`crate::identify::cns`].
    pub cns: u8,
    /// Namespace, or the one to list after; zero where unused.
    pub nsid: u32,
    /// Controller identifier for the controller lists.
    pub cntid: u16,
    /// CNS specific identifier (NVM set, endurance group, ...).
    pub cnssid: u16,
    /// Command set identifier for the command set specific structures.
    pub csi: u8,
}

impl Identify {
    /// Reads the fields of an Identify command.
    pub const fn parse(sqe: &Sqe) -> Self {
        let (cdw10, cdw11) = (sqe.cdw10.get(), sqe.cdw11.get());
        Self {
            cns: cdw10 as u8,
            nsid: sqe.nsid.get(),
            cntid: (cdw10 >> 16) as u16,
            cnssid: cdw11 as u16,
            csi: (cdw11 >> 24) as u8,
        }
    }

    /// The command; its data is always 4,096 bytes from the controller.
    pub fn build(&self) -> Sqe {
        let mut sqe = Sqe::new(admin::IDENTIFY, self.nsid);
        sqe.cdw10 = U32::new(u32::from(self.cns) | (u32::from(self.cntid) << 16));
        sqe.cdw11 = U32::new(u32::from(self.cnssid) | (u32::from(self.csi) << 24));
        sqe
    }
}

/// Identify structure `cns` of `nsid`.
pub fn identify(cns: u8, nsid: u32) -> Sqe {
    Identify {
        cns,
        nsid,
        ..Identify::default()
    }
    .build()
}

/// Get Log Page (NVMe Base 2.1 §5.1.12).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct GetLogPage {
    /// Log page identifier, see [`crate::log::lid`].
    pub lid: u8,
    /// Namespace, or `0xffff_ffff` for controller scope.
    pub nsid: u32,
    /// Bytes to read: a multiple of 4, at least 4; other values are rounded up.
    pub length: u64,
    /// First byte to read, a multiple of 4.
    pub offset: u64,
    /// Log specific field, 7 bits.
    pub lsp: u8,
    /// Log specific identifier.
    pub lsi: u16,
    /// Retain Asynchronous Event: do not re-arm the event this log clears.
    pub rae: bool,
    /// Command set identifier.
    pub csi: u8,
    /// `offset` is an index into entries, not a byte offset.
    pub index_offset: bool,
}

impl GetLogPage {
    /// Reads the fields of a Get Log Page command.
    pub const fn parse(sqe: &Sqe) -> Self {
        let (cdw10, cdw11, cdw14) = (sqe.cdw10.get(), sqe.cdw11.get(), sqe.cdw14.get());
        let numd = ((cdw10 >> 16) | (cdw11 << 16)) as u64 + 1;
        Self {
            lid: cdw10 as u8,
            nsid: sqe.nsid.get(),
            length: numd * 4,
            offset: sqe.cdw12_13(),
            lsp: ((cdw10 >> 8) & 0x7f) as u8,
            lsi: (cdw11 >> 16) as u16,
            rae: cdw10 & (1 << 15) != 0,
            csi: (cdw14 >> 24) as u8,
            index_offset: cdw14 & (1 << 23) != 0,
        }
    }

    /// The command.
    pub fn build(&self) -> Sqe {
        let mut sqe = Sqe::new(admin::GET_LOG_PAGE, self.nsid);
        let numd = u32::try_from(self.length.div_ceil(4).saturating_sub(1)).unwrap_or(u32::MAX);
        sqe.cdw10 = U32::new(
            u32::from(self.lid)
                | (u32::from(self.lsp & 0x7f) << 8)
                | (u32::from(self.rae) << 15)
                | (numd << 16),
        );
        sqe.cdw11 = U32::new((numd >> 16) | (u32::from(self.lsi) << 16));
        sqe.set_cdw12_13(self.offset);
        sqe.cdw14 = U32::new((u32::from(self.csi) << 24) | (u32::from(self.index_offset) << 23));
        sqe
    }
}

/// Reads `length` bytes of log `lid` of controller scope from `offset`.
pub fn get_log(lid: u8, length: u32, offset: u64) -> Sqe {
    GetLogPage {
        lid,
        nsid: u32::MAX,
        length: u64::from(length),
        offset,
        ..GetLogPage::default()
    }
    .build()
}

/// Get Features and Set Features (NVMe Base 2.1 §5.1.11 and §5.1.25).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Features {
    /// Feature identifier, see [`crate::feature`].
    pub fid: u8,
    /// Namespace; zero for controller scope.
    pub nsid: u32,
    /// CDW11: the value to set.
    pub value: u32,
    /// Get: which value to return (0 current, 1 default, 2 saved, 3 capabilities).
    pub select: u8,
    /// Set: save across resets.
    pub save: bool,
}

impl Features {
    /// Reads the fields of either command.
    pub const fn parse(sqe: &Sqe) -> Self {
        let cdw10 = sqe.cdw10.get();
        Self {
            fid: cdw10 as u8,
            nsid: sqe.nsid.get(),
            value: sqe.cdw11.get(),
            select: ((cdw10 >> 8) & 7) as u8,
            save: cdw10 & (1 << 31) != 0,
        }
    }

    /// The command with `opcode` ([`admin::GET_FEATURES`] or [`admin::SET_FEATURES`]).
    pub fn build(&self, opcode: u8) -> Sqe {
        let mut sqe = Sqe::new(opcode, self.nsid);
        sqe.cdw10 = U32::new(
            u32::from(self.fid) | (u32::from(self.select & 7) << 8) | (u32::from(self.save) << 31),
        );
        sqe.cdw11 = U32::new(self.value);
        sqe
    }
}

/// Sets feature `fid` of controller scope to `value` (CDW11).
pub fn set_features(fid: u8, value: u32) -> Sqe {
    Features {
        fid,
        value,
        ..Features::default()
    }
    .build(admin::SET_FEATURES)
}

/// Gets the current value of feature `fid`.
pub fn get_features(fid: u8) -> Sqe {
    Features {
        fid,
        ..Features::default()
    }
    .build(admin::GET_FEATURES)
}

/// Keep Alive.
pub fn keep_alive() -> Sqe {
    Sqe::new(admin::KEEP_ALIVE, 0)
}

/// Asynchronous Event Request; completes when an event happens, see [`crate::aen`].
pub fn async_event() -> Sqe {
    Sqe::new(admin::ASYNC_EVENT_REQUEST, 0)
}

/// Abort (NVMe Base 2.1 §5.1.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Abort {
    /// Queue of the command to abort.
    pub sqid: u16,
    /// Its command identifier.
    pub cid: u16,
}

impl Abort {
    /// Reads the fields of an Abort command.
    pub const fn parse(sqe: &Sqe) -> Self {
        let cdw10 = sqe.cdw10.get();
        Self {
            sqid: cdw10 as u16,
            cid: (cdw10 >> 16) as u16,
        }
    }

    /// CQE dword 0: IANP, bit 0, is set if the abort was *not* performed immediately.
    pub const fn performed_immediately(dw0: u32) -> bool {
        dw0 & 1 == 0
    }
}

/// Aborts command `cid` of queue `sqid`.
pub fn abort(sqid: u16, cid: u16) -> Sqe {
    let mut sqe = Sqe::new(admin::ABORT, 0);
    sqe.cdw10 = U32::new(u32::from(sqid) | (u32::from(cid) << 16));
    sqe
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::IntoBytes as _;

    #[test]
    fn dwords() {
        let sqe = Identify {
            cns: 0x06,
            nsid: 1,
            cntid: 0x1234,
            cnssid: 0x5678,
            csi: 2,
        }
        .build();
        assert_eq!(sqe.as_bytes()[40..48], [6, 0, 0x34, 0x12, 0x78, 0x56, 0, 2]);

        let sqe = get_log(0x0c, 8208, 0x1_0000_0004);
        assert_eq!(
            sqe.as_bytes()[40..56],
            [0x0c, 0, 3, 8, 0, 0, 0, 0, 4, 0, 0, 0, 1, 0, 0, 0]
        );
        let sqe = GetLogPage {
            length: 4 << 17,
            rae: true,
            lsp: 1,
            ..GetLogPage::parse(&sqe)
        };
        assert_eq!(
            sqe.build().as_bytes()[40..46],
            [0x0c, 0x81, 0xff, 0xff, 1, 0]
        );

        assert_eq!(abort(3, 0x0102).as_bytes()[40..44], [3, 0, 2, 1]);
        assert!(Abort::performed_immediately(0) && !Abort::performed_immediately(1));
        assert_eq!(
            set_features(0x0b, 0x900).as_bytes()[40..46],
            [0x0b, 0, 0, 0, 0, 9]
        );
    }

    #[test]
    fn log_length_is_rounded_up_and_bounded() {
        let dwords = |length| {
            GetLogPage {
                length,
                ..GetLogPage::default()
            }
            .build()
        };
        assert_eq!(GetLogPage::parse(&dwords(0)).length, 4);
        assert_eq!(GetLogPage::parse(&dwords(5)).length, 8);
        assert_eq!(GetLogPage::parse(&dwords(u64::MAX)).length, 4 << 32);
    }
}
