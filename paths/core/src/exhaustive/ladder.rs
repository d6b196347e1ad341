//! The shipped [`Ladder`] as a part of the model. Its clock stands still but for its own timeouts.

use core::time::Duration;

use umpath_nvme::command::Instance;

use super::machine::Machine;
use super::vocabulary::Association;
use crate::AssociationId;
use crate::association::{FencedBy, Ladder, LadderOutput, ResetNews, ResetReply};

/// Inputs of the ladder of one association.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum LadderInput {
    Up(Association),
    Gone(Association),
    Reply(Association, Reply),
    News(Association, News),
    /// The time it waits for has come.
    Timeout,
    /// The fence by time stands.
    Time,
}

/// [`ResetReply`], to be a part of a state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Reply {
    Complete,
    Pending,
    Busy,
    Refused,
    Unanswered,
}

/// [`ResetNews`], likewise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum News {
    InProgress,
    Success,
    Failed,
    Nothing,
}

/// What the ladder wants done.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct LadderAnswer {
    /// Ask this survivor to reset that incarnation.
    pub(super) resets: Vec<(Association, Instance)>,
    pub(super) reads: Vec<Association>,
    pub(super) fenced: bool,
    /// It waits for a time.
    pub(super) waits: bool,
}

pub(super) struct LadderMachine {
    ladder: Ladder,
    now: Duration,
}

/// The incarnation behind an association of a path.
pub(super) fn instance(path: u8, association: Association) -> Instance {
    Instance {
        cntlid: u16::from(path) + 1,
        ciu: association + 1,
        cirn: u64::from(association) + 100,
    }
}

impl Machine for LadderMachine {
    type Input = LadderInput;
    type Output = LadderAnswer;
    type Context = ();

    /// `number`: path and association, see [`LadderMachine::number`].
    fn start(number: u8) -> Self {
        Self {
            ladder: Ladder::new(instance(number >> 7, number & 0x7f)),
            now: Duration::ZERO,
        }
    }

    fn apply(&mut self, input: &LadderInput, (): &mut ()) -> LadderAnswer {
        let now = self.now;
        match *input {
            LadderInput::Up(via) => self.ladder.survivor_up(id(via), now),
            LadderInput::Gone(via) => self.ladder.survivor_gone(id(via), now),
            LadderInput::Reply(via, reply) => self.ladder.reply(id(via), reply.into(), now),
            LadderInput::News(via, news) => self.ladder.news(id(via), news.into(), now),
            LadderInput::Timeout => {
                self.now = self.ladder.poll_timeout().expect("it waits");
                self.ladder.handle_timeout(self.now);
            }
            LadderInput::Time => self.ladder.time_reached(),
        }
        self.answer()
    }

    fn projection(&self) -> String {
        format!("{:?} {:?}", self.now, self.ladder)
    }
}

impl LadderMachine {
    pub(super) fn number(path: u8, association: Association) -> u8 {
        path << 7 | association
    }

    fn answer(&mut self) -> LadderAnswer {
        let mut answer = LadderAnswer {
            resets: Vec::new(),
            reads: Vec::new(),
            fenced: false,
            waits: false,
        };
        while let Some(output) = self.ladder.poll_output() {
            match output {
                LadderOutput::Reset { via, lost } => {
                    answer.resets.push((via.0 as Association, lost));
                }
                LadderOutput::ReadLog { via } => answer.reads.push(via.0 as Association),
                LadderOutput::Fenced(FencedBy::Reset { .. } | FencedBy::Time) => {
                    answer.fenced = true;
                }
            }
        }
        answer.waits = self.ladder.poll_timeout().is_some();
        answer
    }
}

impl From<Reply> for ResetReply {
    fn from(reply: Reply) -> Self {
        match reply {
            Reply::Complete => Self::Complete,
            Reply::Pending => Self::Pending,
            Reply::Busy => Self::Busy,
            Reply::Refused => Self::Refused,
            Reply::Unanswered => Self::Unanswered,
        }
    }
}

impl From<News> for ResetNews {
    fn from(news: News) -> Self {
        match news {
            News::InProgress => Self::InProgress,
            News::Success => Self::Success,
            News::Failed => Self::Failed,
            News::Nothing => Self::Nothing,
        }
    }
}

fn id(association: Association) -> AssociationId {
    AssociationId(u64::from(association))
}
