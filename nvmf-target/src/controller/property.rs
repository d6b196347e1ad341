//! Controller properties: CAP, VS, CC, CSTS, CRTO (NVMe Base 2.1 §3.1.4).
//!
//! CSTS.RDY falls and CSTS.SHST completes only when nothing of the controller is on the media any
//! more: a host that waits for either may rely on it.

use std::time::Duration;

use umpath_nvme::command::fabrics::{PropertyGet, PropertySet};
use umpath_nvme::opcode::fabrics;
use umpath_nvme::property::{Cap, Cc, Csts, Shutdown, Version, offset};
use umpath_nvme::{Sqe, Status};

use super::{Answer, Controller, Surroundings};
use crate::controller::TargetLimits;

pub(super) const VERSION: Version = Version::new(2, 0, 0);
/// How long RDY may take to follow EN.
pub(super) const READY_TIMEOUT_MS: u32 = 7500;

/// The registers with state.
#[derive(Debug, Default)]
pub(super) struct Registers {
    cc: Cc,
    /// The host enabled the controller with settings it does not support.
    failed: bool,
}

impl Registers {
    /// Enabled, working and not shut down.
    pub(super) fn enabled(&self) -> bool {
        self.cc.is_enabled() && !self.failed && !self.shutting_down()
    }

    fn shutting_down(&self) -> bool {
        self.cc.shutdown() != Shutdown::None
    }

    fn csts(&self, on_media: bool) -> u32 {
        let shutting_down = self.shutting_down();
        let mut csts = if self.failed { Csts::FATAL } else { 0 };
        if !self.failed && (self.cc.is_enabled() || (on_media && !shutting_down)) {
            csts |= Csts::READY;
        }
        csts | match (shutting_down, on_media) {
            (false, _) => 0,
            (true, true) => Csts::SHUTDOWN_OCCURRING,
            (true, false) => Csts::SHUTDOWN_COMPLETE,
        }
    }
}

/// Whether CC selects the NVM command set, 4 KiB pages, round robin and the entry sizes of fabrics.
/// A discovery controller has no I/O queues and ignores the entry sizes.
fn settings_supported(cc: Cc, discovery: bool) -> bool {
    let entries = matches!((cc.iosqes(), cc.iocqes()), (6, 4) | (0, 0));
    cc.mps() == 0 && cc.ams() == 0 && cc.css() == 0 && (discovery || entries)
}

fn capabilities(limits: &TargetLimits) -> u64 {
    Cap::fabrics(limits.depth_max, READY_TIMEOUT_MS).0 | Cap::CRWMS
}

impl<M> Controller<M> {
    pub(super) fn fabrics(&mut self, sqe: &Sqe, surroundings: &Surroundings<'_, M>) -> Answer {
        let result = match sqe.fabrics_type() {
            fabrics::PROPERTY_GET => self.property(sqe, surroundings),
            fabrics::PROPERTY_SET => self.set_property(sqe, surroundings.now),
            // The queue has a controller already.
            fabrics::CONNECT => Err(Status::COMMAND_SEQUENCE_ERROR),
            _ => Err(Status::INVALID_OPCODE),
        };
        result.unwrap_or_else(|status| Answer::failed(status.with_dnr()))
    }

    fn property(&self, sqe: &Sqe, surroundings: &Surroundings<'_, M>) -> Result<Answer, Status> {
        let property = PropertyGet::parse(sqe).ok_or(Status::INVALID_FIELD)?;
        let value = match (property.offset, property.wide) {
            (offset::CAP, true) => capabilities(surroundings.limits),
            (offset::VS, false) => u64::from(VERSION.0),
            (offset::CC, false) => u64::from(self.registers.cc.0),
            (offset::CSTS, false) => {
                u64::from(self.registers.csts(self.shared.gate.in_flight() > 0))
            }
            (offset::CRTO, false) => {
                let units = u64::from(READY_TIMEOUT_MS / 500);
                units | units << 16
            }
            _ => return Err(Status::INVALID_FIELD),
        };
        Ok(Answer::value(value))
    }

    fn set_property(&mut self, sqe: &Sqe, now: Duration) -> Result<Answer, Status> {
        let property = PropertySet::parse(sqe).ok_or(Status::INVALID_FIELD)?;
        if (property.offset, property.wide) != (offset::CC, false) {
            return Err(Status::INVALID_FIELD);
        }
        self.write_cc(Cc(property.value as u32), now);
        Ok(Answer::OK)
    }

    fn write_cc(&mut self, cc: Cc, now: Duration) {
        let before = std::mem::replace(&mut self.registers.cc, cc);
        let disabling = before.is_enabled() && !cc.is_enabled();
        if !before.is_enabled() && cc.is_enabled() {
            self.registers.failed = !settings_supported(cc, self.subsystem.is_none());
            self.restart_keep_alive(now);
        }
        if disabling {
            self.registers.failed = false;
            self.events.reset();
            self.resets.forget_commands();
        }
        let shutting_down = before.shutdown() == Shutdown::None && self.registers.shutting_down();
        if disabling || shutting_down {
            self.quiesce();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_falls_only_off_the_media() {
        let mut registers = Registers {
            cc: Cc(0x0046_0001),
            failed: false,
        };
        assert_eq!(registers.csts(true), Csts::READY);
        registers.cc = Cc(0x0046_0000);
        assert_eq!(registers.csts(true), Csts::READY);
        assert_eq!(registers.csts(false), 0);
        registers.cc = Cc(0x0046_4001);
        assert_eq!(registers.csts(true), Csts::READY | Csts::SHUTDOWN_OCCURRING);
        assert_eq!(registers.csts(false), Csts::READY | Csts::SHUTDOWN_COMPLETE);
        assert!(!registers.enabled());
    }

    #[test]
    fn settings() {
        assert!(settings_supported(Cc(0x0046_0001), false));
        assert!(
            !settings_supported(Cc(0x0046_0011), false),
            "another command set"
        );
        assert!(
            !settings_supported(Cc(0x0046_0081), false),
            "another page size"
        );
        assert!(
            !settings_supported(Cc(0x0047_0001), false),
            "another entry size"
        );
    }
}
