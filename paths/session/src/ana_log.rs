//! Reading the ANA log.
//!
//! One command reads the whole log wherever it fits, so what comes back is one moment of the
//! controller. A log too long for that is read without namespace lists (Identify Namespace names
//! the group instead), and if even that is too long, in pieces: then the header is read again at the
//! end, and a change count that moved starts over.

use umpath_nvme::command::GetLogPage;
use umpath_nvme::log::ana::LSP_GROUPS_ONLY;
use umpath_nvme::log::{AnaGroupHeader, AnaLog, AnaLogHeader, lid};

use crate::ana::AnaTable;
use crate::answer::Answer;
use crate::ask::{Ask, Next};
use crate::error::{Fault, PeerError, SessionError};
use crate::facts::{AnaFacts, ControllerFacts};
use crate::step::Step;

/// Longest log read in pieces, in bytes.
const LOG_MAX: u64 = 1024 * 1024;
/// Times a log read in pieces may change under the reader.
const ATTEMPTS_MAX: u32 = 8;

/// Reads one controller's ANA log.
#[derive(Debug)]
pub(crate) struct AnaRead {
    facts: AnaFacts,
    lsp: u8,
    length: u32,
    /// Bytes of one command; less than `length` where the log is read in pieces.
    piece: u32,
    bytes: Vec<u8>,
    attempts: u32,
}

impl AnaRead {
    /// `None` if the controller reports no ANA.
    pub(crate) fn new(facts: &ControllerFacts) -> Result<Option<Self>, SessionError> {
        let Some(ana) = facts.ana else {
            return Ok(None);
        };
        let limit = facts.transfer_limit();
        let groups_only = size_of::<AnaLogHeader>() as u64
            + u64::from(ana.groups) * size_of::<AnaGroupHeader>() as u64;
        let full = groups_only + u64::from(ana.namespaces) * 4;
        let (lsp, length) = if full <= u64::from(limit) {
            (0, full)
        } else if groups_only <= u64::from(limit)
            || (groups_only <= LOG_MAX && facts.has_log_offset())
        {
            (LSP_GROUPS_ONLY, groups_only)
        } else {
            let fault = Fault::AnaTooLarge {
                bytes: groups_only,
                limit,
            };
            return Err(PeerError::Garbage {
                step: Step::ReadAna,
                fault,
            }
            .into());
        };
        let length = length as u32;
        let (piece, bytes) = (length.min(limit), Vec::new());
        Ok(Some(Self {
            facts: ana,
            lsp,
            length,
            piece,
            bytes,
            attempts: 0,
        }))
    }

    pub(crate) fn begin(&self) -> Ask {
        self.ask(self.piece, 0)
    }

    fn ask(&self, length: u32, offset: u32) -> Ask {
        let command = GetLogPage {
            lid: lid::ANA,
            nsid: u32::MAX,
            length: length.into(),
            offset: offset.into(),
            lsp: self.lsp,
            ..GetLogPage::default()
        };
        Ask::read(Step::ReadAna, command.build(), length)
    }

    pub(crate) fn answer(&mut self, answer: &Answer<'_>) -> Result<Next<AnaTable>, SessionError> {
        answer.success()?;
        let have = self.bytes.len() as u32;
        if have >= self.length {
            return self.confirm(answer);
        }
        let asked = self.piece.min(self.length - have);
        if self.piece == self.length {
            // A controller may return less than the longest possible log.
            let bytes = answer.data_up_to(asked as usize);
            return self.parse(bytes, answer).map(Next::Done);
        }
        self.bytes.extend_from_slice(answer.data(asked as usize)?);
        let have = self.bytes.len() as u32;
        Ok(Next::Ask(match self.length - have {
            0 => self.ask(size_of::<AnaLogHeader>() as u32, 0),
            rest => self.ask(self.piece.min(rest), have),
        }))
    }

    /// The header again, after the last piece.
    fn confirm(&mut self, answer: &Answer<'_>) -> Result<Next<AnaTable>, SessionError> {
        let count = |bytes: &[u8]| AnaLog::parse(bytes).ok().map(|log| log.change_count());
        let again = answer.data(size_of::<AnaLogHeader>())?;
        if count(again) == count(&self.bytes) {
            let bytes = std::mem::take(&mut self.bytes);
            return self.parse(&bytes, answer).map(Next::Done);
        }
        self.attempts += 1;
        if self.attempts >= ATTEMPTS_MAX {
            return Err(answer.garbage(Fault::AnaUnstable {
                attempts: self.attempts,
            }));
        }
        self.bytes.clear();
        Ok(Next::Ask(self.begin()))
    }

    fn parse(&self, bytes: &[u8], answer: &Answer<'_>) -> Result<AnaTable, SessionError> {
        AnaTable::parse(bytes, &self.facts).map_err(|fault| answer.garbage(fault))
    }
}
