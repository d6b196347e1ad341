//! Fabrics Connect: what is sent on each queue and what the answers mean.

use umpath_nvme::command::fabrics::CNTLID_DYNAMIC;
use umpath_nvme::command::{ConnectResponse, connect};
use umpath_nvme::{ConnectData, IntoBytes};

use crate::answer::Answer;
use crate::ask::Ask;
use crate::ask::{ADMIN_DEPTH, AdminData};
use crate::config::SessionConfig;
use crate::error::{Fault, PeerError, SessionError};
use crate::facts::ControllerFacts;
use crate::refusal::Refusal;
use crate::step::Step;

/// Highest controller identifier the specification leaves to controllers.
const CNTLID_MAX: u16 = 0xffef;
/// AUTHREQ: ATR (bit 1) and ASCR (bit 2).
const AUTHREQ_MASK: u16 = 0b110;

/// Makes and judges the Connect commands of one association.
#[derive(Debug, Clone)]
pub(crate) struct Connector {
    config: SessionConfig,
    kato_ms: u32,
    /// `FFFFh` until the admin queue is connected.
    cntlid: u16,
    io_depth: u16,
}

impl Connector {
    /// `keep_alive` false asks for an association without keep-alive timer.
    pub(crate) fn new(config: SessionConfig, keep_alive: bool) -> Self {
        let kato_ms = if keep_alive {
            config.kato.as_millis() as u32
        } else {
            0
        };
        let io_depth = config.io_depth;
        Self {
            config,
            kato_ms,
            cntlid: CNTLID_DYNAMIC,
            io_depth,
        }
    }

    pub(crate) fn config(&self) -> &SessionConfig {
        &self.config
    }

    pub(crate) fn cntlid(&self) -> u16 {
        self.cntlid
    }

    pub(crate) fn io_depth(&self) -> u16 {
        self.io_depth
    }

    /// The controller is identified: I/O queues become no deeper than it allows.
    pub(crate) fn joined(&mut self, facts: &ControllerFacts) {
        self.cntlid = facts.cntlid;
        let commands = facts.commands_max.map_or(u32::MAX, u32::from);
        let limit = facts.queue_entries_max.min(commands).max(2);
        self.io_depth = u32::from(self.io_depth).min(limit) as u16;
    }

    pub(crate) fn ask(&self, qid: u16) -> Ask {
        let depth = if qid == 0 { ADMIN_DEPTH } else { self.io_depth };
        let (config, cntlid) = (&self.config, self.cntlid);
        let data = ConnectData::new(
            config.host_id,
            cntlid,
            &config.subsystem_nqn,
            &config.host_nqn,
        );
        let data = AdminData::ToController(data.as_bytes().to_vec());
        Ask {
            step: Step::Connect { qid },
            sqe: connect(qid, depth, 0, self.kato_ms),
            data,
        }
    }

    /// Judges the answer on queue `qid`; returns the controller identifier.
    pub(crate) fn answer(&mut self, qid: u16, answer: &Answer<'_>) -> Result<u16, SessionError> {
        let ConnectResponse::Accepted { cntlid, authreq } = ConnectResponse::parse(answer.cqe)
        else {
            let (refusal, status) = (Refusal::of(answer.cqe), answer.status());
            return Err(match refusal {
                Refusal::AuthenticationRequired => PeerError::AuthenticationRequired { qid },
                refusal => PeerError::Refused {
                    qid,
                    refusal,
                    status,
                },
            }
            .into());
        };
        if authreq & AUTHREQ_MASK != 0 {
            return Err(PeerError::AuthenticationRequired { qid }.into());
        }
        // Only the admin queue's answer names the controller; on I/O queues targets differ.
        if qid == 0 {
            if cntlid > CNTLID_MAX {
                return Err(answer.garbage(Fault::ControllerId(cntlid)));
            }
            self.cntlid = cntlid;
        }
        Ok(self.cntlid)
    }
}
