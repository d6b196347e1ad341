//! From an open admin queue to an enabled, identified controller.
//!
//! Connect, capabilities, version, CC.EN, CSTS.RDY, Identify Controller: the part that NVM and
//! discovery controllers share (NVMe Base 2.x §3.5.2, in the order a Linux host keeps).

use std::time::Duration;

use umpath_nvme::command::{identify, property_get, property_set};
use umpath_nvme::identify::{IDENTIFY_BYTES, cns};
use umpath_nvme::property::{Cap, Cc, Csts, Version, offset};

use crate::answer::Answer;
use crate::ask::{Ask, Next};
use crate::connect::Connector;
use crate::error::{PeerError, SessionError};
use crate::facts::{ControllerFacts, Origin, Role};
use crate::step::Step;

/// This host's memory page.
const PAGE_BYTES: u64 = 4096;
/// Pause between two looks at CSTS.
pub(crate) const POLL_PAUSE: Duration = Duration::from_millis(10);
/// Least time a controller is given to become ready, whatever CAP.TO says.
const READY_MIN: Duration = Duration::from_secs(1);

/// CC of an enabled controller: every supported command set where the choice exists, else NVM.
pub(crate) fn enabled(cap: Cap) -> Cc {
    let cc = Cc::enabled(0);
    if cap.has_iocs() { cc.with_iocs() } else { cc }
}

/// The shared first part of every session.
#[derive(Debug)]
pub(crate) struct Handshake {
    connector: Connector,
    role: Role,
    origin: Origin,
    enabled_at: Duration,
}

impl Handshake {
    pub(crate) fn new(connector: Connector, role: Role) -> Self {
        Self {
            connector,
            role,
            origin: Origin::default(),
            enabled_at: Duration::ZERO,
        }
    }

    pub(crate) fn begin(&self) -> Ask {
        self.connector.ask(0)
    }

    pub(crate) fn answer(
        &mut self,
        answer: &Answer<'_>,
        now: Duration,
    ) -> Result<Next<ControllerFacts>, SessionError> {
        let next = match answer.step {
            Step::Connect { .. } => {
                self.origin.cntlid = self.connector.answer(0, answer)?;
                Ask::bare(Step::ReadCapabilities, property_get(offset::CAP, true))
            }
            Step::ReadCapabilities => {
                self.origin.cap = Cap(answer.success()?.cqe.result.get());
                let bytes = self.origin.cap.page_bytes_min();
                if bytes > PAGE_BYTES {
                    return Err(PeerError::PageSize { bytes }.into());
                }
                Ask::bare(Step::ReadVersion, property_get(offset::VS, false))
            }
            Step::ReadVersion => {
                self.origin.version = Version(answer.success()?.cqe.dw0());
                Ask::bare(
                    Step::Enable,
                    property_set(offset::CC, enabled(self.origin.cap).0),
                )
            }
            Step::Enable => {
                answer.success()?;
                self.enabled_at = now;
                Self::look()
            }
            Step::AwaitReady => {
                let status = Csts(answer.success()?.cqe.dw0());
                if status.is_fatal() {
                    return Err(PeerError::Fatal.into());
                }
                if !status.is_ready() {
                    return self.look_again(now);
                }
                let sqe = identify(cns::CONTROLLER, 0);
                Ask::read(Step::IdentifyController, sqe, IDENTIFY_BYTES as u32)
            }
            _ => {
                let (answer, config) = (answer.success()?, self.connector.config());
                return Ok(Next::Done(self.origin.facts(&answer, self.role, config)?));
            }
        };
        Ok(Next::Ask(next))
    }

    fn look() -> Ask {
        Ask::bare(Step::AwaitReady, property_get(offset::CSTS, false))
    }

    fn look_again(&self, now: Duration) -> Result<Next<ControllerFacts>, SessionError> {
        let announced = Duration::from_millis(self.origin.cap.ready_timeout_ms().into());
        let after = announced.max(READY_MIN);
        if now.saturating_sub(self.enabled_at) >= after {
            return Err(PeerError::NotReady { after }.into());
        }
        Ok(Next::AskAt(now + POLL_PAUSE, Self::look()))
    }
}
