//! Between identification and namespaces: NVM limits, the keep-alive timer in force, the number of
//! I/O queues, and which events the controller shall report.

use std::time::Duration;

use umpath_nvme::command::{get_features, identify, set_features};
use umpath_nvme::feature::{self, QueueCount};
use umpath_nvme::identify::{IDENTIFY_BYTES, cns};

use crate::answer::Answer;
use crate::ask::{Ask, Next};
use crate::config::SessionConfig;
use crate::error::{PeerError, SessionError};
use crate::facts::{ControllerFacts, NvmLimits};
use crate::notice::WANTED;
use crate::step::Step;

/// Asynchronous event requests handed to a controller at most.
const EVENT_SLOTS_MAX: u16 = 4;

/// How many asynchronous event requests a controller gets.
pub(crate) fn event_slots(facts: &ControllerFacts) -> u16 {
    if facts.oaes & WANTED == 0 {
        0
    } else {
        facts.async_events_max.min(EVENT_SLOTS_MAX)
    }
}

/// The steps of the set-up still to do, each optional but the queue count.
#[derive(Debug)]
pub(crate) struct Setup {
    /// In reverse order of execution.
    todo: Vec<Step>,
    asked: u16,
    least: u16,
    granted: u16,
    events: u32,
}

impl Setup {
    pub(crate) fn new(facts: &ControllerFacts, config: &SessionConfig) -> Self {
        let events = facts.oaes & WANTED;
        let mut todo = Vec::with_capacity(4);
        if events != 0 {
            todo.push(Step::ConfigureEvents);
        }
        todo.push(Step::QueueCount);
        if facts.kato.is_some() {
            todo.push(Step::ReadKato);
        }
        if facts.has_command_sets() {
            todo.push(Step::IdentifyNvmLimits);
        }
        Self {
            todo,
            asked: config.io_queues,
            least: config.io_queues_min,
            granted: 0,
            events,
        }
    }

    pub(crate) fn begin(&self) -> Ask {
        self.ask(self.todo.last().copied().unwrap_or(Step::QueueCount))
    }

    fn ask(&self, step: Step) -> Ask {
        match step {
            Step::IdentifyNvmLimits => Ask::read(
                step,
                identify(cns::CSI_CONTROLLER, 0),
                IDENTIFY_BYTES as u32,
            ),
            Step::ReadKato => Ask::bare(step, get_features(feature::KEEP_ALIVE_TIMER)),
            Step::ConfigureEvents => {
                Ask::bare(step, set_features(feature::ASYNC_EVENT_CONFIG, self.events))
            }
            _ => {
                let count = QueueCount::pairs(self.asked).to_wire();
                Ask::bare(step, set_features(feature::NUMBER_OF_QUEUES, count))
            }
        }
    }

    /// Returns the number of I/O queues granted; what else it learns goes into `facts`.
    pub(crate) fn answer(
        &mut self,
        answer: &Answer<'_>,
        facts: &mut ControllerFacts,
    ) -> Result<Next<u16>, SessionError> {
        match answer.step {
            // Optional: a controller without these limits refuses the command.
            Step::IdentifyNvmLimits => {
                if answer.status().is_success() {
                    facts.nvm_limits = NvmLimits::parse(answer, facts)?;
                }
            }
            Step::ReadKato => {
                if answer.status().is_success() {
                    facts.kato_reported(Duration::from_millis(answer.cqe.dw0().into()));
                }
            }
            Step::ConfigureEvents => {
                answer.success()?;
            }
            _ => self.granted = self.judge_queues(answer)?,
        }
        self.todo.pop();
        Ok(self
            .todo
            .last()
            .map_or(Next::Done(self.granted), |step| Next::Ask(self.ask(*step))))
    }

    /// A controller may grant more than was asked.
    fn judge_queues(&self, answer: &Answer<'_>) -> Result<u16, SessionError> {
        let offered = QueueCount::from_wire(answer.success()?.cqe.dw0()).pairs_granted();
        let granted = offered.min(self.asked.into()) as u16;
        if granted < self.least {
            let (asked, needed) = (self.asked, self.least);
            return Err(PeerError::TooFewQueues {
                granted,
                asked,
                needed,
            }
            .into());
        }
        Ok(granted)
    }
}
