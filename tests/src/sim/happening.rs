//! What happens at a moment, and who has to be awake for it.

use umpath_core::AssociationId;

use super::clock::Nanos;
use super::host::{Inside, LaneAt};
use super::qp::{Packet, QpId, TargetEnd, Values, Way};
use super::world::World;

/// What happens at a moment.
#[derive(Debug)]
pub(crate) enum Happening {
    Client {
        at: LaneAt,
        tag: u16,
    },
    Fault {
        at: usize,
        begins: bool,
    },
    /// An operator asks, by position in the plan.
    Nuisance(usize),
    Phase,
    /// A queue thread's next round, as long as the host's process lives.
    Round {
        life: u32,
        at: LaneAt,
        due: Nanos,
    },
    /// In the host's process, as long as that lives. Rarer than rounds and packets, and larger: in a box, so
    /// that two of what the agenda keeps fit a cache line.
    Inside {
        life: u32,
        what: Box<Inside>,
    },
    /// A supervisor starts the host's process.
    Revive,
    /// The marker of a queue pair of the host comes.
    Flushed(QpId),
    OpenArrives {
        life: u32,
        opening: Box<Opening>,
    },
    /// `packet`: its place among those under way, which keeps what the agenda moves about small.
    Arrives {
        qp: QpId,
        way: Way,
        packet: usize,
    },
    PatienceEnds {
        qp: QpId,
        way: Way,
        since: Nanos,
    },
    Farewell {
        qp: QpId,
        way: Way,
        tries: u32,
    },
    Enter {
        command: usize,
    },
    EnterAgain {
        command: usize,
    },
    Medium {
        command: usize,
    },
    Executed {
        command: usize,
        values: Option<Box<Values>>,
    },
    ProcessTimer {
        process: usize,
        life: u32,
        at: Nanos,
    },
    /// A process that died takes its place again.
    Restart {
        process: usize,
    },
    /// An answer that a target kept back.
    LateAnswer {
        qp: QpId,
        packet: Box<Packet>,
    },
    /// The judges look at the host's listings.
    Inspection,
}

/// A connection that the host asks for.
#[derive(Debug)]
pub(crate) struct Opening {
    pub(crate) path: u32,
    pub(crate) route: usize,
    pub(crate) association: AssociationId,
    pub(crate) qid: u16,
    pub(crate) depth: u16,
}

/// Who has to be awake for something to happen.
pub(crate) enum Actor {
    Nobody,
    Control,
    Lane(LaneAt),
    Process(usize),
}

pub(crate) fn actor(happening: &Happening, world: &World) -> Actor {
    match happening {
        Happening::Round { at, .. } => Actor::Lane(*at),
        Happening::Inside { what, .. } => match &**what {
            Inside::Unlock(at, _) => Actor::Lane(*at),
            // A mailbox is there whether or not its owner is awake.
            Inside::ToLane(..) => Actor::Nobody,
            _ => Actor::Control,
        },
        Happening::OpenArrives { opening, .. } => Actor::Process(world.process_of(opening.route)),
        Happening::Arrives {
            qp,
            way: Way::ToHost,
            packet,
        } => match world.packets.get(*packet) {
            Some(Packet::AdminAnswer { .. }) => Actor::Control,
            Some(Packet::Goodbye { .. }) if world.qps[*qp].lane.is_none() => Actor::Control,
            _ => Actor::Nobody,
        },
        Happening::Arrives {
            qp,
            way: Way::ToTarget,
            ..
        } => match world.qps[*qp].target {
            TargetEnd::Closed => Actor::Nobody,
            _ => Actor::Process(world.qps[*qp].process),
        },
        Happening::Enter { command }
        | Happening::EnterAgain { command }
        | Happening::Executed { command, .. } => world
            .commands
            .get(*command)
            .map_or(Actor::Nobody, |known| Actor::Process(known.process)),
        Happening::ProcessTimer { process, .. } => Actor::Process(*process),
        _ => Actor::Nobody,
    }
}
