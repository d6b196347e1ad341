//! Cross-Controller Reset, admin opcode 38h (NVMe Base 2.3 §5.4.3, TP8028).
//!
//! The command goes to one controller and names another of the same subsystem: identifier, instance
//! uniquifier and instance random number together name one incarnation, so a controller created
//! later with the same identifier is never reset by mistake.
//!
//! Bit positions are libnvme's (linux-nvme/nvme-cli 9822e556, `nvme-types-base.h`): ICID in CDW10
//! 15:0, CIU in CDW10 23:16, CIRN in CDW12 and CDW13. An early Linux patch has CDW10 the other way
//! round (CIU 15:8, ICID 31:16); if a kernel ever ships that, only this module has to change.

use zerocopy::little_endian::U32;

use crate::opcode::admin;
use crate::sqe::Sqe;

/// One incarnation of a controller. CIU and CIRN of Identify Controller distinguish it from earlier
/// and later ones with the same identifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Instance {
    /// Controller identifier.
    pub cntlid: u16,
    /// Controller instance uniquifier; 0 if the controller reports none.
    pub ciu: u8,
    /// Controller instance random number; 0 if the controller reports none.
    pub cirn: u64,
}

/// Cross-Controller Reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CrossControllerReset {
    /// The impacted controller: the one to reset.
    pub impacted: Instance,
}

impl CrossControllerReset {
    /// Reads the fields of a Cross-Controller Reset command.
    pub const fn parse(sqe: &Sqe) -> Self {
        let cdw10 = sqe.cdw10.get();
        Self {
            impacted: Instance {
                cntlid: cdw10 as u16,
                ciu: (cdw10 >> 16) as u8,
                cirn: sqe.cdw12_13(),
            },
        }
    }

    /// The command; it moves no data.
    pub fn build(&self) -> Sqe {
        let Instance { cntlid, ciu, cirn } = self.impacted;
        let mut sqe = Sqe::new(admin::CROSS_CONTROLLER_RESET, 0);
        sqe.cdw10 = U32::new(u32::from(cntlid) | (u32::from(ciu) << 16));
        sqe.set_cdw12_13(cirn);
        sqe
    }
}

/// Dword 0 of a successful completion of Cross-Controller Reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct ResetResult(pub u32);

impl ResetResult {
    /// The reset is complete: the impacted incarnation executes nothing from now on.
    pub const IMMEDIATE: u32 = 1;
    /// The impacted controller was found under the given identity. Meaningless without
    /// [`ResetResult::IMMEDIATE`].
    pub const VALIDATED: u32 = 1 << 1;
    /// A controller level reset was initiated. Meaningless without [`ResetResult::IMMEDIATE`].
    pub const INITIATED: u32 = 1 << 2;

    /// IRS: whether the completion itself proves the reset. Otherwise read the Cross-Controller
    /// Reset log.
    pub const fn is_immediate(self) -> bool {
        self.0 & Self::IMMEDIATE != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::IntoBytes as _;

    #[test]
    fn dwords_as_libnvme_lays_them_out() {
        let reset = CrossControllerReset {
            impacted: Instance {
                cntlid: 0x0201,
                ciu: 3,
                cirn: 0x0807_0605_0403_0201,
            },
        };
        let sqe = reset.build();
        assert_eq!(sqe.as_bytes()[0], 0x38);
        assert_eq!(
            sqe.as_bytes()[40..56],
            [1, 2, 3, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8]
        );
        assert_eq!(CrossControllerReset::parse(&sqe), reset);
    }

    #[test]
    fn only_irs_is_a_proof() {
        let claims = ResetResult::VALIDATED | ResetResult::INITIATED;
        assert!(!ResetResult(claims).is_immediate());
        assert!(ResetResult(1).is_immediate());
    }
}
