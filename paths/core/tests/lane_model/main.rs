//! Lanes against a model: random histories of requests, answers, convictions and fences on several
//! lanes and paths, with every promise of the lane's module head checked after every step.
//!
//! The model plays the host and the controllers, ghosts included: a command that was never answered
//! may be executed at any time until its association's order fence. Ghosts are kept by the real
//! device, whose messages reach the lanes one by one.

mod checks;
mod world;

use proptest::prelude::*;
use world::{Answer, Kind, World};

/// One step of a history. Numbers are reduced to what exists at that moment.
#[derive(Debug, Clone)]
enum Step {
    Submit {
        lane: u8,
        kind: Kind,
        lba: u8,
        blocks: u8,
    },
    /// The same, with convictions heard of before anything of it was sent.
    SubmitAndHear {
        lane: u8,
        kind: Kind,
        lba: u8,
        blocks: u8,
    },
    /// A controller executes a command without answering yet.
    Execute {
        pick: u16,
    },
    Answer {
        pick: u16,
        answer: Answer,
    },
    /// An answer that was given before comes once more.
    Repeat {
        pick: u16,
    },
    Suspect {
        path: u8,
        suspect: bool,
    },
    /// The control side gives an association up; lanes hear of it one by one.
    Convict {
        path: u8,
    },
    /// One lane reads a message of the control side.
    Hear {
        pick: u8,
    },
    /// One lane passes the buffer fence of a conviction it has heard of.
    Drain {
        pick: u8,
    },
    /// An association that was given up executes nothing more, whether or not lanes have drained.
    Fence {
        pick: u8,
    },
    Reconnect {
        path: u8,
    },
    /// Another host writes, where others do.
    WriteElsewhere {
        lba: u8,
        blocks: u8,
    },
    /// The control side reads the ANA log of a path.
    ReadAna {
        path: u8,
    },
    /// The host takes no command for a path of a lane until told otherwise.
    Block {
        lane: u8,
        path: u8,
        block: bool,
    },
    Pass {
        ms: u16,
    },
    FailQueued {
        lane: u8,
    },
    QueueIfNoPath {
        queue: bool,
    },
}

fn kind() -> impl Strategy<Value = Kind> {
    prop_oneof![
        3 => Just(Kind::Read),
        5 => Just(Kind::Write),
        1 => Just(Kind::Flush),
        1 => Just(Kind::Discard),
        1 => Just(Kind::WriteZeroes),
    ]
}

fn answer() -> impl Strategy<Value = Answer> {
    prop_oneof![
        20 => Just(Answer::Success),
        2 => Just(Answer::PathError),
        1 => Just(Answer::Ana),
        1 => Just(Answer::NotReady),
        1 => Just(Answer::Final),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        30 => (any::<u8>(), kind(), any::<u8>(), any::<u8>())
            .prop_map(|(lane, kind, lba, blocks)| Step::Submit { lane, kind, lba, blocks }),
        3 => (any::<u8>(), kind(), any::<u8>(), any::<u8>())
            .prop_map(|(lane, kind, lba, blocks)| Step::SubmitAndHear { lane, kind, lba, blocks }),
        15 => any::<u16>().prop_map(|pick| Step::Execute { pick }),
        40 => (any::<u16>(), answer()).prop_map(|(pick, answer)| Step::Answer { pick, answer }),
        2 => any::<u16>().prop_map(|pick| Step::Repeat { pick }),
        2 => (any::<u8>(), any::<bool>())
            .prop_map(|(path, suspect)| Step::Suspect { path, suspect }),
        4 => any::<u8>().prop_map(|path| Step::Convict { path }),
        25 => any::<u8>().prop_map(|pick| Step::Hear { pick }),
        10 => any::<u8>().prop_map(|pick| Step::Drain { pick }),
        6 => any::<u8>().prop_map(|pick| Step::Fence { pick }),
        8 => any::<u8>().prop_map(|path| Step::Reconnect { path }),
        2 => (any::<u8>(), any::<u8>())
            .prop_map(|(lba, blocks)| Step::WriteElsewhere { lba, blocks }),
        3 => any::<u8>().prop_map(|path| Step::ReadAna { path }),
        2 => (any::<u8>(), any::<u8>(), any::<bool>())
            .prop_map(|(lane, path, block)| Step::Block { lane, path, block }),
        5 => any::<u16>().prop_map(|ms| Step::Pass { ms }),
        1 => any::<u8>().prop_map(|lane| Step::FailQueued { lane }),
        1 => any::<bool>().prop_map(|queue| Step::QueueIfNoPath { queue }),
    ]
}

fn play(world: &mut World, step: &Step) {
    match *step {
        Step::Submit {
            lane,
            kind,
            lba,
            blocks,
        } => world.submit(lane, kind, lba, blocks),
        Step::SubmitAndHear {
            lane,
            kind,
            lba,
            blocks,
        } => world.submit_and_hear(lane, kind, lba, blocks),
        Step::Execute { pick } => world.execute(pick),
        Step::Answer { pick, answer } => world.answer(pick, answer),
        Step::Repeat { pick } => world.repeat(pick),
        Step::Suspect { path, suspect } => world.suspect(path, suspect),
        Step::Convict { path } => world.convict(path),
        Step::Hear { pick } => world.hear(pick),
        Step::Drain { pick } => world.drain(pick),
        Step::Fence { pick } => world.fence(pick),
        Step::Reconnect { path } => world.reconnect(path),
        Step::WriteElsewhere { lba, blocks } => world.write_elsewhere(lba, blocks),
        Step::ReadAna { path } => world.read_ana(path),
        Step::Block { lane, path, block } => world.block(lane, path, block),
        Step::Pass { ms } => world.pass(ms),
        Step::FailQueued { lane } => world.fail_queued(lane),
        Step::QueueIfNoPath { queue } => world.queue_if_no_path(queue),
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 250,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn every_promise_holds_in_every_history(
        sharing in prop::bool::weighted(0.2),
        inherited in prop_oneof![4 => Just(0_u8), 1 => Just(1), 1 => Just(2)],
        steps in prop::collection::vec(step(), 1..400),
    ) {
        // A write that others could overwrite was not acknowledged by the earlier run either, so its
        // ghost proves nothing.
        let mut world = World::new(sharing, if sharing { 0 } else { inherited });
        for step in &steps {
            play(&mut world, step);
            world.check();
        }
        world.settle();
    }
}
