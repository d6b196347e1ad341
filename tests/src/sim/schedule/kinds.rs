//! Faults and verbs at random, by the weights of a seed.

use umpath_nvme::opcode::{self, admin};

use crate::sim::chance::Chance;
use crate::sim::clock::{MILLI, Nanos};
use crate::sim::plan::{FaultKind, NamespaceChange, Nuisance, Plan};
use crate::sim::resets::OddReset;

type Draw = fn(&mut Chance, &Plan) -> FaultKind;

pub(super) fn one(chance: &mut Chance, plan: &Plan) -> FaultKind {
    let swarm = plan.swarm;
    let kinds: [(u64, Draw); 6] = [
        (swarm.fabric, of_the_fabric),
        (swarm.target, of_the_target),
        (swarm.admin, of_admin_commands),
        (swarm.host, of_the_host),
        (swarm.machine, of_the_machine),
        (swarm.array, of_the_array),
    ];
    let mut drawn = chance.below(kinds.iter().map(|(weight, _)| weight).sum());
    for (weight, kind) in kinds {
        if drawn < weight {
            return kind(chance, plan);
        }
        drawn -= weight;
    }
    of_the_fabric(chance, plan)
}

fn path(chance: &mut Chance, plan: &Plan) -> usize {
    chance.below(plan.paths() as u64) as usize
}

fn process(chance: &mut Chance, plan: &Plan) -> usize {
    chance.below(plan.processes as u64) as usize
}

fn volume(chance: &mut Chance, plan: &Plan) -> usize {
    chance.below(plan.volumes.len() as u64) as usize
}

/// An I/O queue that a queue thread is likely to have.
pub(super) fn queue(chance: &mut Chance, plan: &Plan) -> u16 {
    1 + chance.below((plan.lanes * plan.volumes.len()) as u64) as u16
}

fn of_the_fabric(chance: &mut Chance, plan: &Plan) -> FaultKind {
    let path = path(chance, plan);
    let partition = |to_target, to_host| FaultKind::Partition {
        path,
        to_target,
        to_host,
    };
    match chance.below(11) {
        0 => partition(true, true),
        1 => partition(true, false),
        2 => partition(false, true),
        3 | 4 => FaultKind::LinkDown { path },
        5 => FaultKind::Slow {
            path,
            extra: chance.below(plan.cqt / 5),
        },
        6 => FaultKind::AdapterFails { path },
        7 | 8 => FaultKind::QueueSilent {
            path,
            queue: queue(chance, plan),
        },
        _ => FaultKind::QueueFails {
            path,
            queue: queue(chance, plan),
        },
    }
}

fn of_the_target(chance: &mut Chance, plan: &Plan) -> FaultKind {
    let process = process(chance, plan);
    match chance.below(8) {
        0 | 1 => FaultKind::Park {
            process,
            longest: chance.below(10 * plan.kato),
        },
        2 => FaultKind::Forget { process },
        3 => FaultKind::Crash { process },
        4 => FaultKind::PowerFails,
        5 if !plan.ccr => FaultKind::Lingers { process },
        _ => FaultKind::Stop { process },
    }
}

fn of_admin_commands(chance: &mut Chance, plan: &Plan) -> FaultKind {
    let process = process(chance, plan);
    match chance.below(4) {
        0 => FaultKind::AdminDead {
            path: path(chance, plan),
        },
        1 if chance.percent(30) => FaultKind::Unreadable { process },
        1 => FaultKind::RefusesOnce {
            process,
            opcode: chance.pick(&[
                opcode::FABRICS,
                admin::IDENTIFY,
                admin::GET_LOG_PAGE,
                admin::SET_FEATURES,
                admin::KEEP_ALIVE,
            ]),
        },
        _ => FaultKind::Resets {
            process,
            odd: chance.pick(&OddReset::ALL),
        },
    }
}

fn of_the_host(chance: &mut Chance, plan: &Plan) -> FaultKind {
    let volume = volume(chance, plan);
    let lane = chance.below(plan.lanes as u64) as usize;
    match chance.below(10) {
        0 | 1 => FaultKind::ControlStall,
        2 => FaultKind::HostStall,
        3 | 4 => FaultKind::LaneStall { volume, lane },
        5 => FaultKind::ThreadFails { volume, lane },
        6 => FaultKind::Reboot,
        _ => FaultKind::Kill {
            orders: chance.pick(&[0, 0, 1, 5, 20, 60]),
        },
    }
}

fn of_the_machine(chance: &mut Chance, _: &Plan) -> FaultKind {
    chance.pick(&[
        FaultKind::DiskFull,
        FaultKind::DiskFull,
        FaultKind::DiskSlow,
        FaultKind::DriverFails,
        FaultKind::DriverBusy,
    ])
}

fn of_the_array(chance: &mut Chance, plan: &Plan) -> FaultKind {
    let volume = volume(chance, plan);
    let inaccessible = chance.percent(60);
    match chance.below(8) {
        0 => FaultKind::Namespace(NamespaceChange::Grow { volume }),
        1 => FaultKind::Namespace(NamespaceChange::Detach {
            volume,
            process: process(chance, plan),
        }),
        2 | 3 => FaultKind::Namespace(other_number(chance, plan)),
        _ => FaultKind::Ana {
            path: path(chance, plan),
            inaccessible,
        },
    }
}

/// Another number for a namespace, and often another namespace for its number.
pub(super) fn other_number(chance: &mut Chance, plan: &Plan) -> NamespaceChange {
    let (volume, by) = (volume(chance, plan), volume(chance, plan));
    if volume == by {
        NamespaceChange::Renumber { volume }
    } else {
        NamespaceChange::Replace { volume, by }
    }
}

/// What operators ask while a plan's faults happen.
pub(crate) fn verbs(chance: &mut Chance, plan: &Plan) -> Vec<(Nanos, Nuisance)> {
    if plan.plain || plan.for_ever {
        return Vec::new();
    }
    let count = chance.within(0, plan.swarm.verbs);
    let mut verbs: Vec<_> = (0..count)
        .map(|_| (chance.below(plan.active), verb(chance, plan)))
        .collect();
    verbs.extend(unanswered_removal(chance, plan));
    verbs.sort_by_key(|(at, _)| *at);
    verbs
}

/// A path is removed in good order while its target forgets to answer: where that is waited for, ghosts
/// are left.
fn unanswered_removal(chance: &mut Chance, plan: &Plan) -> Option<(Nanos, Nuisance)> {
    let forgets = plan.faults.iter().find_map(|fault| match fault.kind {
        FaultKind::Forget { process } => Some((fault, process)),
        _ => None,
    });
    let (fault, process) = forgets.filter(|_| plan.is_patient() && chance.percent(50))?;
    let at = fault.at + chance.below(fault.lasts.max(1));
    let path = process;
    let removal = Nuisance::DisconnectPath { path, force: false };
    (at < plan.active).then_some((at, removal))
}

fn verb(chance: &mut Chance, plan: &Plan) -> Nuisance {
    let (path, volume) = (path(chance, plan), volume(chance, plan));
    let force = chance.percent(50);
    match chance.below(18) {
        0 => Nuisance::Stats,
        1 | 2 => Nuisance::FailPath { path },
        3 | 4 => Nuisance::ReinstatePath { path },
        5 => Nuisance::Prefer { path, on: force },
        6 => Nuisance::SwitchGroup {
            volume,
            group: chance.within(0, 3) as u32,
        },
        7 => Nuisance::Selector { volume },
        8 => Nuisance::Queueing { on: force },
        9 | 10 => Nuisance::Connect { path },
        11 | 12 => Nuisance::DisconnectPath { path, force },
        13 => Nuisance::DisconnectDevice { volume, force },
        14 => Nuisance::DisconnectAll { force },
        15 => Nuisance::Stop {
            times: chance.pick(&[1, 2]),
        },
        _ => Nuisance::Close {
            volume,
            lasts: chance.tail(10 * MILLI, plan.kato),
        },
    }
}
