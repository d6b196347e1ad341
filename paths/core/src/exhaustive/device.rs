//! The shipped [`Device`] as a part of the model.

use core::time::Duration;

use super::NOW;
use super::machine::Machine;
use super::vocabulary::{
    Association, LANES, Mail, PATHS, SHIFT, Tables, Writes, each, ghost, ghosts_of, owner,
};
use crate::association::Conviction;
use crate::event::{LaneEvent, LaneId};
use crate::policies::{DampingConfig, Failback, Grouping, Ranking, SelectorConfig, SelectorKind};
use crate::{
    AssociationId, CommandLimits, Device, DeviceConfig, DeviceOutput, NoPath, PathConfig, PathId,
    Ready,
};

/// Chooses by what all lanes have in flight, which can be anything.
pub(super) const SELECTOR: SelectorConfig = SelectorConfig {
    kind: SelectorKind::QueueLength,
    rr_min_io: 1,
    rr_weight_priorities: false,
};

/// Inputs of the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum DeviceInput {
    Ready {
        path: u8,
        association: Association,
    },
    Convict(Association),
    Drained {
        association: Association,
        lane: u8,
        ghosts: Writes,
    },
    /// See `Report::Guarded`.
    Guarded {
        lane: u8,
        age: u8,
    },
    OrderFenced(Association),
    Inherit(Association),
}

pub(super) struct DeviceMachine(Device);

impl Machine for DeviceMachine {
    type Input = DeviceInput;
    /// For every lane, in this order.
    type Output = Vec<Mail>;
    type Context = Tables;

    fn start(_: u8) -> Self {
        let config = DeviceConfig {
            lba_shift: SHIFT,
            lanes: LANES as u16,
            selector: SELECTOR,
            grouping: Grouping::Multibus,
            ranking: Ranking::default(),
            failback: Failback::Immediate,
            no_path: NoPath::Queue,
            damping: DampingConfig {
                hold_max: Duration::ZERO,
                ..DampingConfig::default()
            },
            fast_io_fail: Duration::ZERO,
            shared_with_other_hosts: false,
            flush_on_last_del: false,
        };
        let mut device = Device::new(config, NOW);
        for path in 0..PATHS as u8 {
            device
                .add_path(PathId(path), PathConfig::default(), NOW)
                .expect("a path of its own");
        }
        while device.poll_output().is_some() {}
        Self(device)
    }

    fn apply(&mut self, input: &DeviceInput, tables: &mut Tables) -> Vec<Mail> {
        match *input {
            DeviceInput::Ready { path, association } => {
                self.0.path_ready(PathId(path), ready(association), NOW);
            }
            DeviceInput::Convict(association) => {
                self.0
                    .convict(id(association), Conviction::QueueFailed, NOW);
            }
            DeviceInput::Drained {
                association,
                lane,
                ghosts,
            } => {
                let lost = each(ghosts).map(|write| ghost(write, association, owner(write)));
                let lane = LaneId(lane.into());
                self.0
                    .lane_drained(id(association), lane, lost.collect(), NOW);
            }
            DeviceInput::Guarded { lane, age } => {
                // One so old that this device never had it confirms nothing.
                let newest = self.0.ghosts().generation();
                let generation = newest.saturating_sub(age.into());
                let event = LaneEvent::Guarded { generation };
                self.0.lane_event(LaneId(lane.into()), event, NOW);
            }
            DeviceInput::OrderFenced(association) => self.0.order_fenced(id(association), NOW),
            DeviceInput::Inherit(association) => self.0.inherit(id(association), NOW),
        }
        self.mail(tables)
    }

    fn projection(&self) -> String {
        self.0.projection()
    }
}

impl DeviceMachine {
    fn mail(&mut self, tables: &mut Tables) -> Vec<Mail> {
        let mut mail = Vec::new();
        while let Some(output) = self.0.poll_output() {
            mail.push(match output {
                DeviceOutput::Publish(table) => Mail::Paths(tables.note_paths(&table)),
                DeviceOutput::Convict(association) => Mail::Convict(number(association)),
                DeviceOutput::Guard(table) => Mail::Guard(tables.note_ghosts(ghosts_of(&table))),
                DeviceOutput::Locked(association) => Mail::Locked(number(association)),
                DeviceOutput::Fenced(association) => Mail::Fenced(number(association)),
                DeviceOutput::FailQueued => unreachable!("requests wait for a path for ever"),
                DeviceOutput::Event(_) => continue,
            });
        }
        mail
    }
}

fn ready(association: Association) -> Ready {
    Ready {
        association: id(association),
        nsid: 1,
        limits: CommandLimits::default(),
        ana: None,
        ana_group: 0,
        controller: None,
        node: None,
    }
}

fn id(association: Association) -> AssociationId {
    AssociationId(u64::from(association))
}

fn number(association: AssociationId) -> Association {
    association.0 as Association
}
