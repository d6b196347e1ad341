//! Get Log Page (NVMe Base 2.1 §5.1.12).
//!
//! A page is produced whole and then cut to what was asked for; reading past its end gives zeroes,
//! starting past it is an error where the page's length is fixed.

use std::collections::VecDeque;
use std::sync::atomic::Ordering::Relaxed;

use umpath_nvme::command::admin::GetLogPage;
use umpath_nvme::identify::NsList;
use umpath_nvme::log::reset::LSP_REMOVE_COMPLETED;
use umpath_nvme::log::{
    AnaLogWriter, CHANGED_NAMESPACES_OVERFLOW, CommandEffects, EffectsLog, ErrorEntry,
    FirmwareSlotLog, SmartLog, SupportedLogPages, ana, lid,
};
use umpath_nvme::opcode::{admin, nvm};
use umpath_nvme::{IntoBytes, Sqe, Status, U16, U32, U64};

use super::identify::{ERRORS_MAX, FIRMWARE, put};
use super::{Controller, Surroundings, features};
use crate::model::PortId;
use crate::subsystem::Subsystem;

const LID_FEATURE_EFFECTS: u8 = 0x12;
/// FSUPP and, in bits 31:20, the scope "controller" of a feature.
const FEATURE_SUPPORTED: u32 = 1 | 1 << 21;

const IO_LOGS: &[u8] = &[
    lid::SUPPORTED,
    lid::ERROR,
    lid::SMART,
    lid::FIRMWARE_SLOT,
    lid::CHANGED_NAMESPACES,
    lid::COMMAND_EFFECTS,
    lid::ANA,
    LID_FEATURE_EFFECTS,
];
/// The logs of cross-controller reset, where it is offered.
const RESET_LOGS: &[u8] = &[lid::CROSS_CONTROLLER_RESET, lid::LOST_HOST_COMMUNICATION];
const DISCOVERY_LOGS: &[u8] = &[lid::SUPPORTED, lid::DISCOVERY];

/// The newest admin errors of one controller.
#[derive(Debug, Default)]
pub(super) struct ErrorLog {
    count: u64,
    newest_first: VecDeque<ErrorEntry>,
}

impl ErrorLog {
    pub(super) fn record(&mut self, sqe: &Sqe, status: Status) {
        self.count += 1;
        self.newest_first.truncate(ERRORS_MAX - 1);
        self.newest_first.push_front(ErrorEntry {
            error_count: U64::new(self.count),
            cid: sqe.cid,
            status: U16::new(status.to_wire()),
            // No particular parameter.
            parameter_location: U16::new(0xffff),
            nsid: sqe.nsid,
            opcode: sqe.opcode,
            version: 1,
            ..ErrorEntry::default()
        });
    }
}

impl<M> Controller<M> {
    pub(super) fn get_log(
        &mut self,
        sqe: &Sqe,
        data: &mut [u8],
        surroundings: &Surroundings<'_, M>,
    ) -> Result<(), Status> {
        let command = GetLogPage::parse(sqe);
        if command.index_offset || !command.offset.is_multiple_of(4) {
            return Err(Status::INVALID_FIELD.with_dnr());
        }
        let page = match surroundings.subsystem {
            Some(subsystem) => self.io_log(&command, subsystem)?,
            None => match command.lid {
                lid::SUPPORTED => supported_pages(DISCOVERY_LOGS),
                lid::DISCOVERY => surroundings.discovery.log(self.port, &self.host),
                _ => return Err(Status::INVALID_LOG_PAGE.with_dnr()),
            },
        };
        let offset = usize::try_from(command.offset).unwrap_or(usize::MAX);
        match page.get(offset..) {
            Some(wanted) => put(data, wanted),
            // Hosts size these by their bounds and read on after the last entry.
            None if matches!(
                command.lid,
                lid::ANA
                    | lid::DISCOVERY
                    | lid::CROSS_CONTROLLER_RESET
                    | lid::LOST_HOST_COMMUNICATION
            ) => {}
            None => return Err(Status::INVALID_FIELD.with_dnr()),
        }
        if command.lid == lid::CROSS_CONTROLLER_RESET && command.lsp & LSP_REMOVE_COMPLETED != 0 {
            self.forget_completed_resets();
        }
        if !command.rae {
            self.events.log_read(command.lid);
            if command.lid == lid::CHANGED_NAMESPACES {
                self.changed_namespaces.clear();
            }
        }
        Ok(())
    }

    fn io_log(&self, command: &GetLogPage, subsystem: &Subsystem<M>) -> Result<Vec<u8>, Status> {
        Ok(match command.lid {
            lid::SUPPORTED if subsystem.ccr => supported_pages(&[IO_LOGS, RESET_LOGS].concat()),
            lid::SUPPORTED => supported_pages(IO_LOGS),
            lid::ERROR => self.error_log(),
            // The page is the controller's: there is none for each namespace.
            lid::SMART if matches!(command.nsid, 0 | u32::MAX) => self.smart_log(),
            lid::FIRMWARE_SLOT => FirmwareSlotLog::single(FIRMWARE).as_bytes().to_vec(),
            lid::CHANGED_NAMESPACES => self.changed_namespaces_log(),
            lid::COMMAND_EFFECTS if command.csi == 0 => effects_log(subsystem.ccr),
            lid::SMART | lid::COMMAND_EFFECTS => return Err(Status::INVALID_FIELD.with_dnr()),
            lid::ANA => ana_log(
                subsystem,
                self.port,
                command.lsp & ana::LSP_GROUPS_ONLY != 0,
            ),
            LID_FEATURE_EFFECTS => feature_effects_log(),
            lid::CROSS_CONTROLLER_RESET if subsystem.ccr => self.resets_log(),
            lid::LOST_HOST_COMMUNICATION if subsystem.ccr => self.lost_hosts_log(),
            _ => return Err(Status::INVALID_LOG_PAGE.with_dnr()),
        })
    }

    fn error_log(&self) -> Vec<u8> {
        let mut page = vec![0; ERRORS_MAX * ErrorEntry::SIZE];
        for (to, entry) in page
            .chunks_exact_mut(ErrorEntry::SIZE)
            .zip(&self.errors.newest_first)
        {
            put(to, entry.as_bytes());
        }
        page
    }

    fn smart_log(&self) -> Vec<u8> {
        let counters = &self.shared.counters;
        let units = |bytes: u64| u128::from(bytes.div_ceil(512 * 1000));
        let log = SmartLog {
            available_spare: 100,
            data_units_read: units(counters.read_bytes.load(Relaxed)).into(),
            data_units_written: units(counters.written_bytes.load(Relaxed)).into(),
            host_reads: u128::from(counters.reads.load(Relaxed)).into(),
            host_writes: u128::from(counters.writes.load(Relaxed)).into(),
            error_log_entries: u128::from(self.errors.count).into(),
            ..SmartLog::default()
        };
        log.as_bytes().to_vec()
    }

    fn changed_namespaces_log(&self) -> Vec<u8> {
        let list = if self.changed_namespaces.len() > NsList::COUNT_MAX {
            NsList::new([CHANGED_NAMESPACES_OVERFLOW])
        } else {
            NsList::new(self.changed_namespaces.iter().copied())
        };
        list.as_bytes().to_vec()
    }
}

fn supported_pages(pages: &[u8]) -> Vec<u8> {
    let mut log = SupportedLogPages::default();
    for page in pages {
        log.add(*page);
    }
    log.as_bytes().to_vec()
}

fn effects_log(ccr: bool) -> Vec<u8> {
    let mut log = EffectsLog::default();
    if ccr {
        log.set_admin(admin::CROSS_CONTROLLER_RESET, CommandEffects::SUPPORTED);
    }
    for opcode in [
        admin::GET_LOG_PAGE,
        admin::IDENTIFY,
        admin::ABORT,
        admin::SET_FEATURES,
        admin::GET_FEATURES,
        admin::ASYNC_EVENT_REQUEST,
        admin::KEEP_ALIVE,
    ] {
        log.set_admin(opcode, CommandEffects::SUPPORTED);
    }
    for opcode in [nvm::READ, nvm::FLUSH] {
        log.set_io(opcode, CommandEffects::SUPPORTED);
    }
    for opcode in [nvm::WRITE, nvm::WRITE_ZEROES, nvm::DATASET_MANAGEMENT] {
        log.set_io(opcode, CommandEffects::CHANGES_BLOCKS);
    }
    log.as_bytes().to_vec()
}

fn feature_effects_log() -> Vec<u8> {
    let words = (0..=u8::MAX).map(|fid| {
        U32::new(if features::supported(fid, true) {
            FEATURE_SUPPORTED
        } else {
            0
        })
    });
    words.flat_map(U32::to_bytes).collect()
}

fn ana_log<M>(subsystem: &Subsystem<M>, port: PortId, groups_only: bool) -> Vec<u8> {
    let groups = subsystem.ana_groups();
    let members = |group: u32| {
        let all = subsystem.namespaces.values();
        all.filter(move |namespace| namespace.ana_group == group && !groups_only)
            .map(|namespace| namespace.nsid)
    };
    let mut page = vec![0; 16 + groups.len() * 32 + subsystem.namespaces.len() * 4];
    let Some(mut writer) = AnaLogWriter::new(&mut page, subsystem.ana.change_count(port)) else {
        return page;
    };
    for group in groups {
        let state = subsystem.ana.state(port, group).to_wire();
        let changed = subsystem.ana.group_change_count(port, group);
        if writer.group(group, state, changed, members(group)).is_err() {
            break;
        }
    }
    let used = writer.finish();
    page.truncate(used);
    page
}
