//! How the order fence of one lost association is reached: whom to ask, when to ask again, and what
//! counts as proof.
//!
//! Two rungs. Cross-Controller Reset (TP8028): any surviving controller of the subsystem that offers it
//! is asked to reset the lost incarnation, which needs no silent queue pair of ours and is asked for
//! at conviction. Time: the moment [`OrderFence`](super::OrderFence) computes, which the host waits
//! for meanwhile. Whichever comes first is the fence; the other changes nothing any more. A third,
//! [`Aborts`](super::Aborts), is for single commands of associations that live.
//!
//! Proof is only what names the incarnation: a reset answered as complete, or a log entry of that
//! controller and uniquifier which *we* caused through that survivor. Everything else (refusals,
//! silence, failed resets, survivors that die) costs time, never safety: another survivor is asked,
//! or the same one later. They are asked one after the other, and none is waited for alone for long:
//! not one that is silent, nor one that has begun and does not come to an end.
//!
//! Pure: survivors, answers and the present time come in; requests and the verdict come out.

use core::time::Duration;
use std::collections::VecDeque;

use umpath_nvme::Status;
use umpath_nvme::command::Instance;
use umpath_nvme::log::reset::ResetOutcome;

use crate::table::AssociationId;

/// A survivor that has not answered for this long is not waited for alone.
const PATIENCE: Duration = Duration::from_millis(50);
/// Nor is one that has begun, and whose log has not reported the end for this long: its log is read
/// three times meanwhile. Another controller may see more, or be quicker.
const PENDING_PATIENCE: Duration = Duration::from_millis(200);
/// A log that was asked for and has not come for so long is asked for again.
const READ_PATIENCE: Duration = Duration::from_millis(500);
/// Pause before a log is read or a survivor asked again: at first, and at most.
const PAUSE: Duration = Duration::from_millis(10);
const PAUSE_MAX: Duration = Duration::from_millis(500);
/// Survivors kept; a subsystem has no more paths than a volume.
const SURVIVORS_MAX: usize = crate::table::PATHS_MAX;

/// What proves that a lost association executes nothing more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FencedBy {
    /// A cross-controller reset through this association.
    Reset {
        /// The survivor.
        via: AssociationId,
    },
    /// The time after which the controller has ended by itself.
    Time,
}

/// What a survivor made of being asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResetReply {
    /// The lost incarnation executes nothing any more.
    Complete,
    /// Under way: the log will tell.
    Pending,
    /// Not now: a reset of it is in progress already, or too many are.
    Busy,
    /// It will not do this, now or later.
    Refused,
    /// It did not answer, or could not be asked now.
    Unanswered,
}

impl ResetReply {
    /// What a refusal with this status means.
    pub fn refused(status: Status) -> Self {
        let busy = [
            Status::CCR_IN_PROGRESS,
            Status::CCR_LIMIT_EXCEEDED,
            Status::CCR_LOG_FULL,
        ];
        if busy.iter().any(|known| status.is(*known)) || !status.dnr() {
            Self::Busy
        } else {
            Self::Refused
        }
    }
}

/// What a survivor's log of resets says about the lost incarnation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResetNews {
    /// Still under way.
    InProgress,
    /// It executes nothing any more.
    Success,
    /// The reset failed.
    Failed,
    /// No entry, or the log could not be read.
    Nothing,
}

impl ResetNews {
    /// What a log says about `lost`: its entries name an identifier, a uniquifier and an outcome.
    /// Where entries disagree, the least hopeful counts.
    pub fn of(lost: Instance, entries: impl Iterator<Item = (u16, u8, ResetOutcome)>) -> Self {
        let mut news = Self::Nothing;
        for (cntlid, ciu, outcome) in entries {
            if (cntlid, ciu) != (lost.cntlid, lost.ciu) {
                continue;
            }
            news = match (news, outcome) {
                (Self::InProgress, _) | (_, ResetOutcome::InProgress) => Self::InProgress,
                (Self::Failed, _) | (_, ResetOutcome::Failed) => Self::Failed,
                _ => Self::Success,
            };
        }
        news
    }
}

/// Something to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LadderOutput {
    /// Ask this survivor to reset the lost incarnation; report [`Ladder::reply`].
    Reset {
        /// Whom to ask.
        via: AssociationId,
        /// What to reset.
        lost: Instance,
    },
    /// Read this survivor's log of resets; report [`Ladder::news`].
    ReadLog {
        /// Whose log.
        via: AssociationId,
    },
    /// The order fence stands. Said once, and nothing follows.
    Fenced(FencedBy),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// To be asked when its turn comes.
    Idle,
    /// Asked, not answered.
    Asked { since: Duration },
    /// It has begun; its log is to be read at this time.
    Watched { since: Duration, read_at: Duration },
    /// It has begun; its log is being read, until it is asked for again.
    Reading { since: Duration, again_at: Duration },
    /// To be asked again at this time.
    Resting { until: Duration },
    /// Not to be asked again.
    Useless,
}

impl Stage {
    /// Until when nobody else is asked because of this survivor.
    fn awaited_until(self) -> Option<Duration> {
        match self {
            Self::Asked { since } => Some(since + PATIENCE),
            Self::Watched { since, .. } | Self::Reading { since, .. } => {
                Some(since + PENDING_PATIENCE)
            }
            Self::Idle | Self::Resting { .. } | Self::Useless => None,
        }
    }

    /// When it changes by itself.
    fn due(self) -> Option<Duration> {
        match self {
            Self::Watched { read_at, .. } => Some(read_at),
            Self::Reading { again_at, .. } => Some(again_at),
            Self::Resting { until } => Some(until),
            Self::Idle | Self::Asked { .. } | Self::Useless => None,
        }
    }
}

#[derive(Debug)]
struct Survivor {
    association: AssociationId,
    stage: Stage,
    /// Pause before its next step.
    pause: Duration,
}

/// The way to the order fence of one association; begins at its conviction.
#[derive(Debug)]
pub struct Ladder {
    /// `None` where the controller has no instance to name: then only time remains.
    lost: Option<Instance>,
    survivors: Vec<Survivor>,
    fenced: Option<FencedBy>,
    outputs: VecDeque<LadderOutput>,
}

impl Ladder {
    /// A way to fence `lost`, an incarnation as its own Identify Controller named it.
    pub fn new(lost: Instance) -> Self {
        // Zero is what a controller without instances reports: it would name its successors too.
        let named = lost.ciu != 0 || lost.cirn != 0;
        Self {
            lost: named.then_some(lost),
            survivors: Vec::new(),
            fenced: None,
            outputs: VecDeque::new(),
        }
    }

    /// What proves it, once the fence stands.
    pub fn fenced(&self) -> Option<FencedBy> {
        self.fenced
    }

    /// The next thing to do, oldest first.
    pub fn poll_output(&mut self) -> Option<LadderOutput> {
        self.outputs.pop_front()
    }

    /// An association of the same subsystem and host that offers resets is up. Call in order of
    /// preference.
    pub fn survivor_up(&mut self, association: AssociationId, now: Duration) {
        let known = self.survivors.iter().any(|s| s.association == association);
        if !known && self.survivors.len() < SURVIVORS_MAX {
            self.survivors.push(Survivor {
                association,
                stage: Stage::Idle,
                pause: PAUSE,
            });
        }
        self.advance(now);
    }

    /// An association is gone; answers of it prove nothing any more.
    pub fn survivor_gone(&mut self, association: AssociationId, now: Duration) {
        self.survivors.retain(|s| s.association != association);
        self.advance(now);
    }

    /// What a survivor made of being asked.
    pub fn reply(&mut self, via: AssociationId, reply: ResetReply, now: Duration) {
        let Some(survivor) = self.survivor(via) else {
            return;
        };
        if !matches!(survivor.stage, Stage::Asked { .. }) {
            return;
        }
        match reply {
            ResetReply::Complete => self.stand(FencedBy::Reset { via }),
            ResetReply::Pending => survivor.watch(now, now),
            ResetReply::Busy | ResetReply::Unanswered => survivor.rest(now),
            ResetReply::Refused => survivor.stage = Stage::Useless,
        }
        self.advance(now);
    }

    /// What a survivor's log says. Also to be reported when the log was read for another reason.
    pub fn news(&mut self, via: AssociationId, news: ResetNews, now: Duration) {
        let Some(survivor) = self.survivor(via) else {
            return;
        };
        // Only what we asked this survivor for is ours: its log names no random number.
        let (Stage::Watched { since, .. } | Stage::Reading { since, .. }) = survivor.stage else {
            return;
        };
        match news {
            ResetNews::Success => self.stand(FencedBy::Reset { via }),
            ResetNews::InProgress => survivor.watch(since, now),
            ResetNews::Failed | ResetNews::Nothing => survivor.rest(now),
        }
        self.advance(now);
    }

    /// The fence by time stands.
    pub fn time_reached(&mut self) {
        self.stand(FencedBy::Time);
    }

    /// When [`Self::handle_timeout`] is due; may move after any call. Right after that call it lies
    /// in the future.
    pub fn poll_timeout(&self) -> Option<Duration> {
        if self.lost.is_none() || self.fenced.is_some() {
            return None;
        }
        let steps = self.stages().filter_map(Stage::due);
        // Whose turn it is waits until everybody else has had their time.
        let turn = self.has_idle().then(|| self.awaited_until()).flatten();
        steps.chain(turn).min()
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Duration) {
        self.advance(now);
    }

    fn survivor(&mut self, association: AssociationId) -> Option<&mut Survivor> {
        self.survivors
            .iter_mut()
            .find(|s| s.association == association)
    }

    fn stages(&self) -> impl Iterator<Item = Stage> {
        self.survivors.iter().map(|survivor| survivor.stage)
    }

    fn has_idle(&self) -> bool {
        self.stages().any(|stage| stage == Stage::Idle)
    }

    /// Until when nobody else is asked.
    fn awaited_until(&self) -> Option<Duration> {
        self.stages().filter_map(Stage::awaited_until).max()
    }

    fn stand(&mut self, by: FencedBy) {
        if self.fenced.is_none() {
            self.fenced = Some(by);
            self.outputs.clear();
            self.outputs.push_back(LadderOutput::Fenced(by));
        }
    }

    fn advance(&mut self, now: Duration) {
        let Some(lost) = self.lost.filter(|_| self.fenced.is_none()) else {
            return;
        };
        for survivor in &mut self.survivors {
            let via = survivor.association;
            match survivor.stage {
                Stage::Watched { since, read_at: at }
                | Stage::Reading {
                    since,
                    again_at: at,
                } if at <= now => {
                    let again_at = now + READ_PATIENCE;
                    survivor.stage = Stage::Reading { since, again_at };
                    self.outputs.push_back(LadderOutput::ReadLog { via });
                }
                Stage::Resting { until } if until <= now => survivor.stage = Stage::Idle,
                _ => {}
            }
        }
        if self.awaited_until().is_some_and(|until| now < until) {
            return;
        }
        let next = self.survivors.iter_mut().find(|s| s.stage == Stage::Idle);
        if let Some(survivor) = next {
            survivor.stage = Stage::Asked { since: now };
            let via = survivor.association;
            self.outputs.push_back(LadderOutput::Reset { via, lost });
        }
    }
}

impl Survivor {
    fn pause(&mut self) -> Duration {
        let pause = self.pause;
        self.pause = (pause * 2).min(PAUSE_MAX);
        pause
    }

    /// It has begun at `since`; its log is read after a pause.
    fn watch(&mut self, since: Duration, now: Duration) {
        let read_at = now + self.pause();
        self.stage = Stage::Watched { since, read_at };
    }

    fn rest(&mut self, now: Duration) {
        self.stage = Stage::Resting {
            until: now + self.pause(),
        };
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LOST: Instance = Instance {
        cntlid: 7,
        ciu: 3,
        cirn: 42,
    };
    const A: AssociationId = AssociationId(1);
    const B: AssociationId = AssociationId(2);
    const C: AssociationId = AssociationId(3);

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn outputs(ladder: &mut Ladder) -> Vec<LadderOutput> {
        std::iter::from_fn(|| ladder.poll_output()).collect()
    }

    fn ask(via: AssociationId) -> LadderOutput {
        LadderOutput::Reset { via, lost: LOST }
    }

    fn by_reset(via: AssociationId) -> LadderOutput {
        LadderOutput::Fenced(FencedBy::Reset { via })
    }

    #[test]
    fn a_log_is_read_without_hope() {
        let news = |entries: &[_]| ResetNews::of(LOST, entries.iter().copied());
        let done = (7, 3, ResetOutcome::Success);
        assert_eq!(news(&[]), ResetNews::Nothing);
        let others = [(7, 4, ResetOutcome::Success), (8, 3, ResetOutcome::Success)];
        assert_eq!(news(&others), ResetNews::Nothing);
        assert_eq!(news(&[done]), ResetNews::Success);
        let failed = (7, 3, ResetOutcome::Failed);
        assert_eq!(news(&[done, failed]), ResetNews::Failed);
        assert_eq!(news(&[failed, done]), ResetNews::Failed);
        let busy = (7, 3, ResetOutcome::InProgress);
        assert_eq!(news(&[done, failed, busy]), ResetNews::InProgress);
        assert_eq!(news(&[busy, done]), ResetNews::InProgress);
    }

    #[test]
    fn a_refusal_for_good_is_told_from_one_for_now() {
        for status in [
            Status::CCR_IN_PROGRESS,
            Status::CCR_LIMIT_EXCEEDED,
            Status::CCR_LOG_FULL,
            Status::INTERNAL_ERROR,
        ] {
            assert_eq!(ResetReply::refused(status), ResetReply::Busy);
        }
        let unknown = Status::INVALID_FIELD.with_dnr();
        assert_eq!(ResetReply::refused(unknown), ResetReply::Refused);
    }

    #[test]
    fn the_first_survivor_is_asked_at_once_and_its_word_is_the_fence() {
        let mut ladder = Ladder::new(LOST);
        ladder.survivor_up(A, ms(0));
        ladder.survivor_up(B, ms(0));
        assert_eq!(outputs(&mut ladder), [ask(A)]);
        ladder.reply(A, ResetReply::Complete, ms(3));
        assert_eq!(outputs(&mut ladder), [by_reset(A)]);
        ladder.time_reached();
        ladder.reply(B, ResetReply::Complete, ms(4));
        assert_eq!(outputs(&mut ladder), [], "once");
        assert_eq!(ladder.poll_timeout(), None);
        assert_eq!(ladder.fenced(), Some(FencedBy::Reset { via: A }));
    }

    #[test]
    fn a_silent_survivor_is_not_waited_for_alone() {
        let mut ladder = Ladder::new(LOST);
        ladder.survivor_up(A, ms(0));
        ladder.survivor_up(B, ms(0));
        outputs(&mut ladder);
        assert_eq!(ladder.poll_timeout(), Some(PATIENCE));
        ladder.handle_timeout(ms(49));
        assert_eq!(outputs(&mut ladder), []);
        ladder.handle_timeout(ms(50));
        assert_eq!(outputs(&mut ladder), [ask(B)]);
        // Late, and still true.
        ladder.reply(A, ResetReply::Complete, ms(60));
        assert_eq!(outputs(&mut ladder), [by_reset(A)]);
    }

    #[test]
    fn what_is_pending_is_watched_until_its_log_tells() {
        let mut ladder = Ladder::new(LOST);
        ladder.survivor_up(A, ms(0));
        outputs(&mut ladder);
        ladder.reply(A, ResetReply::Pending, ms(20));
        assert_eq!(ladder.poll_timeout(), Some(ms(30)));
        ladder.handle_timeout(ms(30));
        assert_eq!(outputs(&mut ladder), [LadderOutput::ReadLog { via: A }]);
        ladder.news(A, ResetNews::InProgress, ms(31));
        assert_eq!(ladder.poll_timeout(), Some(ms(51)), "less and less often");
        // The controller's own event came first.
        ladder.news(A, ResetNews::Success, ms(40));
        assert_eq!(outputs(&mut ladder), [by_reset(A)]);
    }

    #[test]
    fn a_log_proves_nothing_about_what_was_not_asked_there() {
        let mut ladder = Ladder::new(LOST);
        ladder.survivor_up(A, ms(0));
        ladder.survivor_up(B, ms(0));
        outputs(&mut ladder);
        ladder.news(A, ResetNews::Success, ms(1));
        ladder.news(B, ResetNews::Success, ms(1));
        ladder.reply(B, ResetReply::Complete, ms(1));
        assert_eq!(outputs(&mut ladder), []);
        assert_eq!(ladder.fenced(), None);
    }

    #[test]
    fn refusals_failures_and_deaths_lead_to_the_next_survivor() {
        let mut ladder = Ladder::new(LOST);
        ladder.survivor_up(A, ms(0));
        outputs(&mut ladder);
        ladder.reply(A, ResetReply::Refused, ms(1));
        assert_eq!(ladder.poll_timeout(), None, "only time is left");
        ladder.survivor_up(B, ms(5));
        assert_eq!(outputs(&mut ladder), [ask(B)]);
        ladder.reply(B, ResetReply::Pending, ms(6));
        ladder.handle_timeout(ms(16));
        outputs(&mut ladder);
        ladder.news(B, ResetNews::Failed, ms(17));
        assert_eq!(outputs(&mut ladder), []);
        let again = ladder.poll_timeout().expect("later");
        ladder.handle_timeout(again);
        assert_eq!(outputs(&mut ladder), [ask(B)]);
        ladder.survivor_gone(B, again);
        ladder.reply(B, ResetReply::Complete, again);
        assert_eq!(outputs(&mut ladder), [], "the word of the dead");
        ladder.time_reached();
        assert_eq!(outputs(&mut ladder), [LadderOutput::Fenced(FencedBy::Time)]);
    }

    /// Of four paths one is lost. Of the survivors one is silent, one has begun, one waits for its turn.
    #[test]
    fn a_turn_that_waits_for_a_pending_reset_is_not_due_yet() {
        let mut ladder = Ladder::new(LOST);
        for survivor in [A, B, C] {
            ladder.survivor_up(survivor, ms(0));
        }
        assert_eq!(outputs(&mut ladder), [ask(A)]);
        ladder.handle_timeout(ms(50));
        assert_eq!(outputs(&mut ladder), [ask(B)]);
        ladder.reply(B, ResetReply::Pending, ms(52));
        ladder.handle_timeout(ms(62));
        assert_eq!(outputs(&mut ladder), [LadderOutput::ReadLog { via: B }]);
        assert_eq!(ladder.poll_timeout(), Some(ms(52) + PENDING_PATIENCE));
    }

    /// As `umpath-target` answers of a victim that is stopped: in progress, for as long as it takes.
    #[test]
    fn a_reset_in_progress_keeps_the_others_from_being_asked_only_for_a_while() {
        let mut ladder = Ladder::new(LOST);
        for survivor in [A, B] {
            ladder.survivor_up(survivor, ms(0));
        }
        assert_eq!(outputs(&mut ladder), [ask(A)]);
        ladder.reply(A, ResetReply::Pending, ms(2));
        let mut asked = None;
        while let Some(now) = ladder.poll_timeout().filter(|now| *now < ms(2_000)) {
            ladder.handle_timeout(now);
            for output in outputs(&mut ladder) {
                if let LadderOutput::ReadLog { via } = output {
                    ladder.news(via, ResetNews::InProgress, now);
                } else {
                    assert_eq!((asked, output), (None, ask(B)), "once");
                    asked = Some(now);
                }
            }
        }
        assert_eq!(asked, Some(ms(2) + PENDING_PATIENCE));
        // It may still be the first one that gets there.
        ladder.news(A, ResetNews::Success, ms(2_000));
        assert_eq!(outputs(&mut ladder), [by_reset(A)]);
    }

    #[test]
    fn a_log_that_never_comes_is_asked_for_again_and_blocks_nobody() {
        let mut ladder = Ladder::new(LOST);
        for survivor in [A, B] {
            ladder.survivor_up(survivor, ms(0));
        }
        outputs(&mut ladder);
        ladder.reply(A, ResetReply::Pending, ms(0));
        let mut orders = Vec::new();
        while let Some(now) = ladder.poll_timeout().filter(|now| *now < ms(1_100)) {
            ladder.handle_timeout(now);
            orders.extend(outputs(&mut ladder));
        }
        let read = LadderOutput::ReadLog { via: A };
        assert_eq!(orders, [read, ask(B), read, read]);
    }

    /// Whatever survivors answer, in whatever order, and however late the host is.
    #[derive(Debug, Clone)]
    enum Step {
        Up(u64),
        Gone(u64),
        Reply(u64, ResetReply),
        News(u64, ResetNews),
        Pass(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        use ResetNews::{Failed, InProgress, Nothing};
        use ResetReply::{Busy, Pending, Refused, Unanswered};
        let reply = prop::sample::select(vec![Pending, Pending, Busy, Refused, Unanswered]);
        let news = prop::sample::select(vec![InProgress, Failed, Nothing]);
        prop_oneof![
            2 => (0_u64..4).prop_map(Step::Up),
            1 => (0_u64..4).prop_map(Step::Gone),
            3 => (0_u64..4, reply).prop_map(|(via, reply)| Step::Reply(via, reply)),
            3 => (0_u64..4, news).prop_map(|(via, news)| Step::News(via, news)),
            6 => (0_u64..400).prop_map(Step::Pass),
        ]
    }

    proptest! {
        #[test]
        fn no_timeout_is_due_once_it_was_handled(steps in prop::collection::vec(step(), 0..60)) {
            let mut ladder = Ladder::new(LOST);
            let mut now = ms(0);
            for step in steps {
                match step {
                    Step::Up(via) => ladder.survivor_up(AssociationId(via), now),
                    Step::Gone(via) => ladder.survivor_gone(AssociationId(via), now),
                    Step::Reply(via, reply) => ladder.reply(AssociationId(via), reply, now),
                    Step::News(via, news) => ladder.news(AssociationId(via), news, now),
                    Step::Pass(time) => now += ms(time),
                }
                ladder.handle_timeout(now);
                let due = ladder.poll_timeout();
                prop_assert!(due.is_none_or(|due| due > now), "{due:?} at {now:?}");
                // Someone is always about to do something, unless nobody can.
                let idle = ladder.has_idle();
                prop_assert!(!idle || due.is_some(), "{ladder:?}");
            }
        }
    }

    #[test]
    fn busy_survivors_are_asked_again_less_and_less_often() {
        let mut ladder = Ladder::new(LOST);
        ladder.survivor_up(A, ms(0));
        let mut now = ms(0);
        let mut pauses = Vec::new();
        for _ in 0..10 {
            assert_eq!(outputs(&mut ladder), [ask(A)]);
            ladder.reply(A, ResetReply::Busy, now);
            let at = ladder.poll_timeout().expect("later");
            pauses.push(at.saturating_sub(now));
            now = at;
            ladder.handle_timeout(now);
        }
        assert!(pauses.is_sorted() && pauses[0] == PAUSE && pauses[9] == PAUSE_MAX);
    }

    #[test]
    fn a_controller_without_instances_is_left_to_time() {
        let mut ladder = Ladder::new(Instance {
            ciu: 0,
            cirn: 0,
            ..LOST
        });
        ladder.survivor_up(A, ms(0));
        assert_eq!(outputs(&mut ladder), []);
        ladder.time_reached();
        assert_eq!(outputs(&mut ladder), [LadderOutput::Fenced(FencedBy::Time)]);
    }
}
