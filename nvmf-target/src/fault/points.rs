//! Where in a command's life a fault acts: at two points, at which the engine asks.

use std::time::Duration;

use umpath_nvme::Status;

use super::Action;

/// What becomes of a command that could be executed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AtExecution {
    /// It is executed.
    Execute,
    /// The same after a wait; `past_gate`: the gate is asked before it and not after it.
    Park {
        /// How long.
        wait: Duration,
        /// Whether a gate closed meanwhile is passed.
        past_gate: bool,
    },
    /// It is not executed and answered with this.
    Answer(Status),
    /// It is neither executed nor answered.
    Ignore,
}

/// What becomes of a command whose answer is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AtResponse {
    /// It is answered.
    Send,
    /// The same after a wait.
    Delay(Duration),
    /// It is not answered.
    Drop,
}

impl Action {
    /// What it does to a command about to be executed.
    pub fn at_execution(self) -> AtExecution {
        match self {
            Self::Park { ms, beyond_gate } => AtExecution::Park {
                wait: Duration::from_millis(ms.into()),
                past_gate: beyond_gate,
            },
            Self::Error { status } => AtExecution::Answer(Status::from_raw(status)),
            Self::Hang => AtExecution::Ignore,
            Self::Delay { .. } | Self::Drop => AtExecution::Execute,
        }
    }

    /// What it does to the answer of a command it was drawn for.
    pub fn at_response(self) -> AtResponse {
        match self {
            Self::Delay { ms } => AtResponse::Delay(Duration::from_millis(ms.into())),
            Self::Drop => AtResponse::Drop,
            Self::Park { .. } | Self::Error { .. } | Self::Hang => AtResponse::Send,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_action_acts_at_one_point() {
        let (ms, status) = (7, 0x300);
        let wait = Duration::from_millis(7);
        let before = [
            (Action::Hang, AtExecution::Ignore),
            (
                Action::Error { status },
                AtExecution::Answer(Status::from_raw(status)),
            ),
        ];
        let parked = [false, true].map(|past_gate| {
            let beyond_gate = past_gate;
            let park = Action::Park { ms, beyond_gate };
            (park, AtExecution::Park { wait, past_gate })
        });
        for (action, effect) in before.into_iter().chain(parked) {
            assert_eq!(action.at_execution(), effect);
            assert_eq!(action.at_response(), AtResponse::Send);
        }
        for (action, effect) in [
            (Action::Delay { ms }, AtResponse::Delay(wait)),
            (Action::Drop, AtResponse::Drop),
        ] {
            assert_eq!(action.at_execution(), AtExecution::Execute);
            assert_eq!(action.at_response(), effect);
        }
    }
}
