//! Features: get and set (NVMe Base 2.1 §5.1.25). Nothing is saved across resets.

use umpath_nvme::command::admin::Features as Command;
use umpath_nvme::feature::{self as fid, QueueCount};
use umpath_nvme::{Sqe, Status};

use super::identify::{has_volatile_cache, put};
use super::sgl::Transfer;
use super::{Answer, Controller, Surroundings};

const HOST_BEHAVIOR_BYTES: usize = 512;
/// No limit on the commands of one arbitration burst; the only value taken.
const ARBITRATION_VALUE: u32 = 7;

/// The features that have a value.
#[derive(Debug)]
pub(super) struct Features {
    pub(super) kato_ms: u32,
    /// I/O queues granted; those a host may connect.
    pub(super) io_queues: u16,
    write_atomicity_normal: u32,
    temperature_threshold: u32,
    error_recovery: u32,
    host_behavior: [u8; 8],
    hostid: [u8; 16],
}

impl Features {
    pub(super) fn new(hostid: [u8; 16]) -> Self {
        Self {
            kato_ms: 0,
            io_queues: u16::MAX,
            write_atomicity_normal: 0,
            temperature_threshold: 0xffff,
            error_recovery: 0,
            host_behavior: [0; 8],
            hostid,
        }
    }
}

/// The data a feature command moves.
pub(super) fn data(command: &Command, set: bool) -> Transfer {
    // Asking for capabilities moves no data.
    let bytes = match (command.fid, command.select) {
        (fid::HOST_BEHAVIOR, 0..=2) => HOST_BEHAVIOR_BYTES as u32,
        // The extended identifier, the only one fabrics has.
        (fid::HOST_IDENTIFIER, 0..=2) => 16,
        _ => return Transfer::None,
    };
    if set {
        Transfer::FromHost(bytes)
    } else {
        Transfer::ToHost(bytes)
    }
}

/// Whether an I/O (`true`) or discovery controller has a feature.
pub(super) fn supported(fid: u8, io: bool) -> bool {
    match fid {
        fid::ASYNC_EVENT_CONFIG | fid::KEEP_ALIVE_TIMER => true,
        fid::ARBITRATION
        | fid::POWER_MANAGEMENT
        | fid::TEMPERATURE_THRESHOLD
        | fid::ERROR_RECOVERY
        | fid::VOLATILE_WRITE_CACHE
        | fid::NUMBER_OF_QUEUES
        | fid::WRITE_ATOMICITY
        | fid::HOST_BEHAVIOR
        | fid::HOST_IDENTIFIER => io,
        _ => false,
    }
}

fn changeable(fid: u8) -> bool {
    !matches!(
        fid,
        fid::HOST_IDENTIFIER | fid::VOLATILE_WRITE_CACHE | fid::ARBITRATION
    )
}

impl<M> Controller<M> {
    pub(super) fn set_features(
        &mut self,
        sqe: &Sqe,
        data: &[u8],
        surroundings: &Surroundings<'_, M>,
    ) -> Result<Answer, Status> {
        let command = Command::parse(sqe);
        let has_cache = surroundings.subsystem.is_some_and(has_volatile_cache);
        if !supported(command.fid, surroundings.subsystem.is_some())
            || (command.fid == fid::VOLATILE_WRITE_CACHE && !has_cache)
        {
            return Err(Status::INVALID_FIELD.with_dnr());
        }
        if command.save {
            return Err(Status::FEATURE_NOT_SAVEABLE.with_dnr());
        }
        match command.fid {
            fid::NUMBER_OF_QUEUES => {
                return self.set_number_of_queues(command.value, surroundings.limits.io_queues_max);
            }
            fid::ASYNC_EVENT_CONFIG => self.events.configure(command.value),
            fid::KEEP_ALIVE_TIMER => self.set_kato(command.value, surroundings.now),
            fid::WRITE_ATOMICITY => self.features.write_atomicity_normal = command.value & 1,
            fid::TEMPERATURE_THRESHOLD => self.features.temperature_threshold = command.value,
            fid::ERROR_RECOVERY => self.features.error_recovery = command.value & 0xffff,
            fid::POWER_MANAGEMENT if command.value & 0x1f != 0 => {
                return Err(Status::INVALID_FIELD.with_dnr());
            }
            fid::POWER_MANAGEMENT => {}
            fid::HOST_BEHAVIOR => {
                let head = data
                    .first_chunk()
                    .ok_or(Status::DATA_SGL_LENGTH_INVALID.with_dnr())?;
                self.features.host_behavior = *head;
            }
            // The cache is the backing store's and cannot be switched off from here.
            fid::VOLATILE_WRITE_CACHE if command.value & 1 == 1 => {}
            fid::ARBITRATION if command.value & 7 == ARBITRATION_VALUE => {}
            _ => return Err(Status::FEATURE_NOT_CHANGEABLE.with_dnr()),
        }
        Ok(Answer::OK)
    }

    fn set_number_of_queues(&mut self, value: u32, most: u16) -> Result<Answer, Status> {
        let asked = QueueCount::from_wire(value);
        if asked.submission > 0xffff || asked.completion > 0xffff {
            return Err(Status::INVALID_FIELD.with_dnr());
        }
        if self.io_queues() > 0 {
            return Err(Status::COMMAND_SEQUENCE_ERROR.with_dnr());
        }
        self.features.io_queues = (asked.pairs_granted() as u16).min(most);
        Ok(Answer::value(number_of_queues(self.features.io_queues)))
    }

    pub(super) fn get_features(
        &mut self,
        sqe: &Sqe,
        data: &mut [u8],
        surroundings: &Surroundings<'_, M>,
    ) -> Result<Answer, Status> {
        const CAPABILITIES: u8 = 3;
        let command = Command::parse(sqe);
        let has_cache = surroundings.subsystem.is_some_and(has_volatile_cache);
        if !supported(command.fid, surroundings.subsystem.is_some())
            || (command.fid == fid::VOLATILE_WRITE_CACHE && !has_cache)
        {
            return Err(Status::INVALID_FIELD.with_dnr());
        }
        if command.select == CAPABILITIES {
            return Ok(Answer::value(u64::from(changeable(command.fid)) << 2));
        }
        let defaults = Features::new(self.features.hostid);
        // There are no saved values; then the default counts as saved.
        let features = match command.select {
            0 => &self.features,
            1 | 2 => &defaults,
            _ => return Err(Status::INVALID_FIELD.with_dnr()),
        };
        let value = match command.fid {
            fid::ARBITRATION => ARBITRATION_VALUE,
            fid::TEMPERATURE_THRESHOLD => features.temperature_threshold,
            fid::ERROR_RECOVERY => features.error_recovery,
            fid::VOLATILE_WRITE_CACHE => 1,
            fid::NUMBER_OF_QUEUES => {
                let most = surroundings.limits.io_queues_max;
                return Ok(Answer::value(number_of_queues(
                    features.io_queues.min(most),
                )));
            }
            fid::WRITE_ATOMICITY => features.write_atomicity_normal,
            fid::ASYNC_EVENT_CONFIG if command.select == 0 => self.events.config(),
            fid::KEEP_ALIVE_TIMER => features.kato_ms,
            fid::HOST_BEHAVIOR => {
                put(data, &features.host_behavior);
                0
            }
            fid::HOST_IDENTIFIER => {
                // EXHID: the host must ask for the extended identifier.
                if command.value & 1 == 0 {
                    return Err(Status::INVALID_FIELD.with_dnr());
                }
                put(data, &features.hostid);
                0
            }
            _ => 0,
        };
        Ok(Answer::value(u64::from(value)))
    }
}

fn number_of_queues(queues: u16) -> u64 {
    u64::from(QueueCount::pairs(queues).to_wire())
}
