//! Orderly shutdown: CC.SHN, then CSTS.SHST until the controller confirms (NVMe Base 2.x §3.6).

use std::time::Duration;

use umpath_nvme::command::{property_get, property_set};
use umpath_nvme::property::{Cap, Csts, offset};

use crate::answer::Answer;
use crate::ask::{Ask, Next};
use crate::error::SessionError;
use crate::facts::ControllerFacts;
use crate::handshake::{POLL_PAUSE, enabled};
use crate::step::Step;

/// Least time a controller is given, whatever RTD3E says.
const LATENCY_MIN: Duration = Duration::from_secs(1);

/// Shuts one controller down.
#[derive(Debug)]
pub(crate) struct Stop {
    cap: Cap,
    deadline: Duration,
    asked: bool,
}

impl Stop {
    /// `longest` bounds what RTD3E may ask for.
    pub(crate) fn new(facts: &ControllerFacts, longest: Duration, now: Duration) -> Self {
        let announced = facts
            .shutdown_latency
            .map_or(longest, |rtd3e| rtd3e.max(LATENCY_MIN));
        let deadline = now.saturating_add(announced.min(longest));
        Self {
            cap: facts.cap,
            deadline,
            asked: false,
        }
    }

    pub(crate) fn deadline(&self) -> Duration {
        self.deadline
    }

    pub(crate) fn begin(&self) -> Ask {
        let cc = enabled(self.cap).with_normal_shutdown();
        Ask::bare(Step::Shutdown, property_set(offset::CC, cc.0))
    }

    pub(crate) fn answer(
        &mut self,
        answer: &Answer<'_>,
        now: Duration,
    ) -> Result<Next<()>, SessionError> {
        let dword = answer.success()?.cqe.dw0();
        let look = Ask::bare(Step::Shutdown, property_get(offset::CSTS, false));
        if !self.asked {
            self.asked = true;
            return Ok(Next::Ask(look));
        }
        if Csts(dword).shutdown_complete() {
            return Ok(Next::Done(()));
        }
        Ok(Next::AskAt(now + POLL_PAUSE, look))
    }
}
