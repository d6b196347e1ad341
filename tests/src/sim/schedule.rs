//! Which faults a plan has, and when.
//!
//! Some at random, and some that belong together: what a mistake needs to show is often a chain of
//! misfortunes that chance alone would make once in a million runs.

mod kinds;

use super::chance::Chance;
use super::clock::{MILLI, Nanos};
use super::plan::{Fault, FaultKind, NamespaceChange, Plan};
use super::resets::OddReset;
pub(crate) use kinds::verbs;
use kinds::{one, other_number};

/// The faults of a plan that is complete but for them.
pub(crate) fn faults(chance: &mut Chance, plan: &Plan) -> Vec<Fault> {
    if plan.plain {
        return vec![plain(chance, plan)];
    }
    if plan.one_queue {
        return one_queue(chance, plan);
    }
    let mut faults = Vec::new();
    for (volume, planned) in plan.volumes.iter().enumerate() {
        if !planned.from_start {
            let kind = FaultKind::Namespace(NamespaceChange::Add { volume });
            let at = chance.below(plan.active);
            faults.push(Fault { at, lasts: 0, kind });
        }
    }
    for _ in 0..chance.within(0, plan.swarm.most) {
        let at = chance.below(plan.active);
        let lasts = chance.tail(MILLI, 3 * plan.kato);
        let kind = one(chance, plan);
        faults.push(Fault { at, lasts, kind });
    }
    if plan.for_ever {
        return faults
            .into_iter()
            .filter(|fault| spares_a_path(plan, fault.kind))
            .collect();
    }
    if plan.is_patient() {
        let process = chance.below(plan.processes as u64) as usize;
        let (at, lasts) = (chance.below(plan.active), plan.kato / 2);
        let kind = FaultKind::Forget { process };
        faults.push(Fault { at, lasts, kind });
    }
    if plan.swarm.machine > 1 && chance.percent(50) {
        successions(chance, plan, &mut faults);
    }
    if plan.swarm.array > 1 && chance.percent(20) {
        unreadable(chance, plan, &mut faults);
    }
    if plan.swarm.array > 1 && chance.percent(30) {
        unseen_numbers(chance, plan, &mut faults);
    }
    if chance.percent(60) {
        ghosts(chance, plan, &mut faults);
    }
    if plan.traffic_based && !plan.ccr && chance.percent(20) {
        late_conviction(chance, plan, &mut faults);
    }
    if plan.processes > 1 && !plan.ccr {
        if plan.slowest && plan.traffic_based && plan.ends_count && chance.percent(50) {
            late_ends(chance, plan, &mut faults);
            return faults;
        }
        let more = if plan.slowest { 30 } else { 0 };
        if chance.percent(40 + more) {
            asleep(chance, plan, false, &mut faults);
        }
        if chance.percent(30 + more) {
            asleep(chance, plan, true, &mut faults);
        }
    }
    faults
}

fn plain(chance: &mut Chance, plan: &Plan) -> Fault {
    let path = chance.below(plan.paths() as u64) as usize;
    let (to_target, to_host) = (true, true);
    let kind = chance.pick(&[
        FaultKind::LinkDown { path },
        FaultKind::Partition {
            path,
            to_target,
            to_host,
        },
    ]);
    Fault {
        at: chance.below(plan.active / 2),
        lasts: plan.active,
        kind,
    }
}

/// Queue pairs that are cut off while their siblings live, the last one for long.
fn one_queue(chance: &mut Chance, plan: &Plan) -> Vec<Fault> {
    let mut at = plan.kato + chance.below(plan.active / 4);
    let mut faults = Vec::new();
    for _ in 0..chance.within(1, 2) {
        let path = chance.below(plan.paths() as u64) as usize;
        let queue = kinds::queue(chance, plan);
        faults.push(Fault {
            at,
            lasts: plan.active,
            kind: FaultKind::QueueSilent { path, queue },
        });
        at += chance.below(plan.active / 4);
    }
    faults
}

/// A namespace changes and cannot be read for a while, and the path's ANA state changes meanwhile.
fn unreadable(chance: &mut Chance, plan: &Plan, faults: &mut Vec<Fault>) {
    let path = chance.below(plan.paths() as u64) as usize;
    let process = path % plan.processes;
    let at = chance.below(plan.active / 2);
    let mut push = |at, lasts, kind| faults.push(Fault { at, lasts, kind });
    let inaccessible = chance.percent(60);
    let lasts = chance.within(20, 200) * MILLI;
    push(at, lasts, FaultKind::Ana { path, inaccessible });
    let at = at + chance.below(lasts);
    push(
        at,
        chance.tail(50 * MILLI, plan.kato),
        FaultKind::Unreadable { process },
    );
    let volume = chance.below(plan.volumes.len() as u64) as usize;
    let kind = FaultKind::Namespace(NamespaceChange::Grow { volume });
    push(at + MILLI, 0, kind);
}

/// What makes ghosts: commands wait in a controller while its path is lost.
fn ghosts(chance: &mut Chance, plan: &Plan, faults: &mut Vec<Fault>) {
    let path = chance.below(plan.paths() as u64) as usize;
    let at = chance.below(plan.active);
    let longest = plan.kato * chance.pick(&[1, 1, 2, 10]);
    let process = path % plan.processes;
    let lasts = chance.within(20, 200) * MILLI;
    let mut push = |at, lasts, kind| faults.push(Fault { at, lasts, kind });
    push(at, lasts, FaultKind::Park { process, longest });
    if plan.ccr && chance.percent(40) {
        // And what makes their reset a long story.
        let odd = chance.pick(&OddReset::ALL);
        for process in 0..plan.processes {
            push(at, 4 * plan.kato, FaultKind::Resets { process, odd });
        }
    }
    if !plan.ccr && chance.percent(50) {
        push(at, 6 * plan.kato, FaultKind::Lingers { process });
    }
    let kind = FaultKind::Partition {
        path,
        to_target: chance.percent(70),
        to_host: true,
    };
    let cut_at = at + chance.below(lasts);
    push(cut_at, chance.tail(10 * MILLI, 4 * plan.kato), kind);
    if chance.percent(15) {
        // It wakes up with old commands when the host has long gone on.
        let lasts = plan.kato + chance.below(4 * plan.kato);
        push(cut_at, lasts, FaultKind::Stop { process });
    }
    if plan.cache && chance.percent(25) {
        let at = cut_at + chance.tail(MILLI, 2 * plan.kato);
        push(
            at,
            chance.tail(10 * MILLI, plan.kato),
            FaultKind::PowerFails,
        );
    }
}

/// What makes a conviction late: keep-alives are not answered, and the control side stands still
/// for longer than their timeout, while I/O goes on and restarts a traffic-based timer.
fn late_conviction(chance: &mut Chance, plan: &Plan, faults: &mut Vec<Fault>) {
    let path = chance.below(plan.paths() as u64) as usize;
    let process = path % plan.processes;
    let at = chance.below(plan.active / 3);
    let stalls = plan.kato + chance.below(2 * plan.kato);
    let mut push = |at, lasts, kind| faults.push(Fault { at, lasts, kind });
    push(at, stalls + plan.kato, FaultKind::AdminDead { path });
    push(at, stalls, FaultKind::ControlStall);
    push(at, 6 * plan.kato, FaultKind::Lingers { process });
    let longest = 3 * plan.kato;
    let park_at = at + stalls - stalls / 4;
    push(park_at, stalls, FaultKind::Park { process, longest });
}

/// What lets a controller live longest: its answers get lost (`unheard`) or the link goes, it falls asleep
/// with commands waiting, and on waking it finds them. Those it had accepted before are executed as
/// late as its timer allows.
fn asleep(chance: &mut Chance, plan: &Plan, unheard: bool, faults: &mut Vec<Fault>) {
    let path = chance.below(plan.paths() as u64) as usize;
    let process = path % plan.processes;
    let (at, sleeps) = sleep(chance, plan);
    let mut push = |at, lasts, kind| faults.push(Fault { at, lasts, kind });
    let longest = 3 * plan.kato;
    let park = FaultKind::Park { process, longest };
    push(at - plan.kato / 4, plan.kato / 2, park);
    if unheard {
        let unheard_at = at - chance.below(plan.kato / 2);
        let kind = FaultKind::Partition {
            path,
            to_target: false,
            to_host: true,
        };
        push(unheard_at, 4 * plan.kato, kind);
    } else {
        let lost_at = at + chance.tail(MILLI, plan.kato / 2);
        push(lost_at, 4 * plan.kato, FaultKind::LinkDown { path });
    }
    push(at, sleeps, FaultKind::Stop { process });
    push(at, 6 * plan.kato, FaultKind::Lingers { process });
}

/// What lets a controller live longest that takes the end of queue pairs for traffic: the link is down
/// until most of a KATO has passed, the disconnects come when its timer has just been started again, and
/// it falls asleep among them.
fn late_ends(chance: &mut Chance, plan: &Plan, faults: &mut Vec<Fault>) {
    let path = chance.below(plan.paths() as u64) as usize;
    let process = path % plan.processes;
    let kato = plan.kato_at_most();
    let starts = 2 * kato;
    let down_at = starts - plan.kato * chance.within(45, 95) / 100;
    let up_at = starts + chance.within(5, 30) * MILLI;
    let mut push = |at, lasts, kind| faults.push(Fault { at, lasts, kind });
    let longest = 3 * plan.kato;
    let park = FaultKind::Park { process, longest };
    push(down_at - plan.kato / 4, plan.kato / 2, park);
    push(down_at, up_at - down_at, FaultKind::LinkDown { path });
    let stops = up_at + chance.below(100 * MILLI);
    let wakes = starts + 2 * kato - chance.tail(MILLI, plan.kato / 8);
    push(stops, wakes - stops, FaultKind::Stop { process });
    push(down_at, 6 * plan.kato, FaultKind::Lingers { process });
}

/// When a process falls asleep, and for how long: until some time before its timer has expired for
/// good, whatever waits. With the slowest clocks it is as bad as it can be: asleep just after the timer
/// of the first controllers was started, awake just before it expires.
fn sleep(chance: &mut Chance, plan: &Plan) -> (Nanos, Nanos) {
    let periods = if plan.traffic_based { 2 } else { 1 };
    if !plan.slowest {
        let at = plan.kato / 2 + chance.below(plan.active / 2);
        let sleeps = plan.kato / 2 + chance.below(periods * plan.kato - plan.kato / 2);
        return (at, sleeps);
    }
    let kato = plan.kato_at_most();
    let awake = chance.tail(10 * MILLI, plan.kato / 8);
    let at = chance.within(1, 2) * kato + awake;
    let short = chance.tail(MILLI, plan.kato / 8);
    (at, periods * kato - awake - short)
}

/// One process after another, with what makes that hard.
fn successions(chance: &mut Chance, plan: &Plan, faults: &mut Vec<Fault>) {
    let mut at = chance.below(plan.active / 2);
    let mut push = |at, lasts, kind| faults.push(Fault { at, lasts, kind });
    let path = chance.below(plan.paths() as u64) as usize;
    if chance.percent(50) {
        // A path is down all the while.
        push(at, plan.active, FaultKind::LinkDown { path });
    }
    if chance.percent(30) {
        let volume = chance.below(plan.volumes.len() as u64) as usize;
        let kind = FaultKind::Namespace(NamespaceChange::Grow { volume });
        push(at + chance.below(plan.kato), 0, kind);
    }
    for _ in 0..chance.within(1, 3) {
        let orders = chance.pick(&[0, 0, 1, 5, 20, 60]);
        let lasts = chance.tail(MILLI, plan.kato);
        push(at, lasts, FaultKind::Kill { orders });
        if chance.percent(30) {
            let trouble = chance.pick(&[FaultKind::DriverBusy, FaultKind::DiskSlow]);
            push(at, lasts + chance.below(plan.kato), trouble);
        }
        at += lasts + chance.tail(10 * MILLI, plan.kato);
    }
}

/// Numbers change while a path is down, and sometimes the host too: both come back to what they did
/// not see.
fn unseen_numbers(chance: &mut Chance, plan: &Plan, faults: &mut Vec<Fault>) {
    let path = chance.below(plan.paths() as u64) as usize;
    let at = chance.below(plan.active / 2);
    let lasts = chance.within(100, 500) * MILLI;
    let mut push = |at, lasts, kind| faults.push(Fault { at, lasts, kind });
    push(at, lasts, FaultKind::LinkDown { path });
    let change_at = at + chance.below(lasts);
    let change = FaultKind::Namespace(other_number(chance, plan));
    push(change_at, chance.tail(MILLI, plan.kato), change);
    if chance.percent(40) {
        let kill_at = at + chance.below(lasts);
        push(
            kill_at,
            chance.tail(MILLI, lasts),
            FaultKind::Kill { orders: 0 },
        );
    }
}

/// Process 0 and the paths to it stay healthy.
fn spares_a_path(plan: &Plan, kind: FaultKind) -> bool {
    !kind.may_last() || !plan.concerned(kind).contains(&0)
}

impl FaultKind {
    /// It may go on for ever while another path carries everything.
    pub(crate) fn may_last(self) -> bool {
        matches!(
            self,
            Self::Partition { .. }
                | Self::QueueSilent { .. }
                | Self::LinkDown { .. }
                | Self::AdapterFails { .. }
                | Self::AdminDead { .. }
                | Self::Crash { .. }
                | Self::Stop { .. }
                | Self::Ana { .. }
        )
    }
}
