//! How the order fence of one lost association is reached: which controller to ask, when to ask again,
//! and what counts as proof.
//!
//! There are two ways. Cross-Controller Reset (TP8028): at the conviction, a surviving controller of the
//! subsystem that offers it is asked to reset the lost incarnation; our own queue pairs need not be
//! silent for that. Time: meanwhile the host waits for the moment that
//! [`OrderFence`](super::OrderFence) computes. Whichever comes first is the fence; the other then
//! changes nothing. [`Aborts`](super::Aborts) is for single commands of associations that live.
//!
//! Only an answer that names the incarnation is proof: a reset answered as complete, or a log entry of that
//! controller and uniquifier which *we* caused through that survivor. Everything else (refusals,
//! silence, failed resets, survivors that die) costs time, never safety: another survivor is asked,
//! or the same one later.
//!
//! Pure: survivors, answers and the present time come in; requests and the verdict come out.

use core::time::Duration;
use std::collections::VecDeque;

use umpath_nvme::Status;
use umpath_nvme::command::Instance;
use umpath_nvme::log::reset::ResetOutcome;

use crate::table::AssociationId;

/// A survivor that has not answered for this long is not waited for alone.
const ANSWER_TIME: Duration = Duration::from_millis(50);
/// Nor is one that has begun a reset and not completed it for this long.
const RESET_TIME: Duration = Duration::from_millis(500);
/// Pause before a log is read or a survivor asked again: at first, and at most.
const PAUSE: Duration = Duration::from_millis(10);
const PAUSE_MAX: Duration = Duration::from_millis(500);
/// Survivors kept; a subsystem has no more paths than a volume.
const SURVIVORS_MAX: usize = crate::table::PATHS_MAX;

/// What proved that a lost association executes nothing more.
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
    /// Under way: the log will say.
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
    /// It has begun; its log is read at this time.
    Watched { since: Duration, read_at: Duration },
    /// Its log is being read.
    Reading { since: Duration },
    /// To be asked again at this time.
    Resting { until: Duration },
    /// Not to be asked again.
    Useless,
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

    /// What proved it, once the fence stands.
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
        let Stage::Asked { since } = survivor.stage else {
            return;
        };
        match reply {
            ResetReply::Complete => self.stand(FencedBy::Reset { via }),
            ResetReply::Pending => {
                survivor.stage = Stage::Watched {
                    since,
                    read_at: now + survivor.pause(),
                };
            }
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
        let (Stage::Watched { since, .. } | Stage::Reading { since }) = survivor.stage else {
            return;
        };
        match news {
            ResetNews::Success => self.stand(FencedBy::Reset { via }),
            ResetNews::InProgress => {
                survivor.stage = Stage::Watched {
                    since,
                    read_at: now + survivor.pause(),
                };
            }
            ResetNews::Failed | ResetNews::Nothing => survivor.rest(now),
        }
        self.advance(now);
    }

    /// The fence by time stands.
    pub fn time_reached(&mut self) {
        self.stand(FencedBy::Time);
    }

    /// When [`Self::handle_timeout`] is due; may move after any call.
    pub fn poll_timeout(&self) -> Option<Duration> {
        if self.fenced.is_some() {
            return None;
        }
        let due = self.survivors.iter().filter_map(|s| match s.stage {
            Stage::Watched { read_at, .. } => Some(read_at),
            Stage::Resting { until } => Some(until),
            _ => None,
        });
        // The next one is asked when nobody is waited for any more.
        let turn = self.survivors.iter().filter_map(Survivor::waited_for_until);
        due.chain(turn.max().filter(|_| self.has_idle())).min()
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

    fn has_idle(&self) -> bool {
        self.survivors.iter().any(|s| s.stage == Stage::Idle)
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
                Stage::Watched { since, read_at } if read_at <= now => {
                    survivor.stage = Stage::Reading { since };
                    self.outputs.push_back(LadderOutput::ReadLog { via });
                }
                Stage::Resting { until } if until <= now => survivor.stage = Stage::Idle,
                _ => {}
            }
        }
        let mut waits = self.survivors.iter().filter_map(Survivor::waited_for_until);
        if waits.any(|until| now < until) {
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
    /// How long the others wait for it.
    fn waited_for_until(&self) -> Option<Duration> {
        match self.stage {
            Stage::Asked { since } => Some(since + ANSWER_TIME),
            Stage::Watched { since, .. } | Stage::Reading { since } => Some(since + RESET_TIME),
            Stage::Idle | Stage::Resting { .. } | Stage::Useless => None,
        }
    }

    fn pause(&mut self) -> Duration {
        let pause = self.pause;
        self.pause = (pause * 2).min(PAUSE_MAX);
        pause
    }

    fn rest(&mut self, now: Duration) {
        self.stage = Stage::Resting {
            until: now + self.pause(),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOST: Instance = Instance {
        cntlid: 7,
        ciu: 3,
        cirn: 42,
    };
    const A: AssociationId = AssociationId(1);
    const B: AssociationId = AssociationId(2);

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
        assert_eq!(ladder.poll_timeout(), Some(ANSWER_TIME));
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

    /// Every millisecond for so long: what was put out, and whether it ever asked for a time that is
    /// over.
    fn play(ladder: &mut Ladder, times: core::ops::Range<u64>) -> Vec<LadderOutput> {
        let mut all = Vec::new();
        for now in times {
            ladder.handle_timeout(ms(now));
            let due = ladder.poll_timeout();
            assert!(
                due.is_none_or(|due| due > ms(now)),
                "at {now} ms it asks for {due:?}"
            );
            for output in outputs(ladder) {
                if let LadderOutput::ReadLog { via } = output {
                    // In progress for as long as one asks.
                    ladder.news(via, ResetNews::InProgress, ms(now));
                }
                all.push(output);
            }
        }
        all
    }

    #[test]
    fn one_silent_one_pending_and_one_idle_survivor_ask_for_no_time_that_is_over() {
        const C: AssociationId = AssociationId(3);
        let mut ladder = Ladder::new(LOST);
        for survivor in [A, B, C] {
            ladder.survivor_up(survivor, ms(0));
        }
        assert_eq!(outputs(&mut ladder), [ask(A)]);
        ladder.handle_timeout(ms(50));
        assert_eq!(outputs(&mut ladder), [ask(B)]);
        ladder.reply(B, ResetReply::Pending, ms(52));
        assert!(play(&mut ladder, 53..2_000).contains(&ask(C)));
    }

    #[test]
    fn a_survivor_that_never_completes_a_reset_holds_the_others_up_for_a_while_only() {
        let mut ladder = Ladder::new(LOST);
        for survivor in [A, B] {
            ladder.survivor_up(survivor, ms(0));
        }
        assert_eq!(outputs(&mut ladder), [ask(A)]);
        ladder.reply(A, ResetReply::Pending, ms(2));
        assert!(!play(&mut ladder, 3..500).contains(&ask(B)));
        assert!(play(&mut ladder, 500..502).contains(&ask(B)));
        // Its word still counts.
        ladder.news(A, ResetNews::Success, ms(600));
        let fenced = LadderOutput::Fenced(FencedBy::Reset { via: A });
        assert_eq!(outputs(&mut ladder), [fenced]);
    }

    #[test]
    fn a_log_that_is_never_read_holds_the_others_up_for_a_while_only() {
        let mut ladder = Ladder::new(LOST);
        for survivor in [A, B] {
            ladder.survivor_up(survivor, ms(0));
        }
        ladder.reply(A, ResetReply::Pending, ms(2));
        outputs(&mut ladder);
        let mut asked = false;
        for now in 3..1_000 {
            ladder.handle_timeout(ms(now));
            asked |= outputs(&mut ladder).contains(&ask(B));
        }
        assert!(asked);
    }
}
