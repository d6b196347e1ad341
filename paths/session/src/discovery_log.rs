//! Reading a discovery log consistently.
//!
//! The header says how many records there are and which generation of the log they belong to. It is
//! read first, then the records, then the header again: only if the generation is still the same do
//! header and records belong together. Otherwise it starts over, a bounded number of times.

use umpath_nvme::command::get_log;
use umpath_nvme::log::{DiscoveryEntry, DiscoveryHeader, lid};
use umpath_nvme::{FromBytes, Nqn, text};

use crate::answer::Answer;
use crate::ask::{Ask, Next};
use crate::error::{Fault, PeerError, SessionError};
use crate::step::Step;

/// Records read at most.
pub(crate) const RECORDS_MAX: u64 = 4096;
/// Times the log may change under the reader.
const ATTEMPTS_MAX: u32 = 10;

/// A consistent copy of the discovery log.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DiscoveryLog {
    /// The controller's generation of the log.
    pub generation: u64,
    /// Its records, in the controller's order.
    pub records: Vec<DiscoveryRecord>,
    /// Records left out because their subsystem NQN is not a valid name.
    pub unusable: u32,
}

/// One record. Numbers the specification does not define are kept as they came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiscoveryRecord {
    /// TRTYPE: 1 RDMA, 2 FC, 3 TCP, 254 loop.
    pub trtype: u8,
    /// ADRFAM: 1 IPv4, 2 IPv6.
    pub adrfam: u8,
    /// SUBTYPE: 1 referral to another discovery subsystem, 2 NVM subsystem, 3 this one.
    pub subtype: u8,
    /// TREQ field.
    pub treq: u8,
    /// PORTID.
    pub portid: u16,
    /// CNTLID; FFFFh means dynamic.
    pub cntlid: u16,
    /// ASQSZ: admin queue entries.
    pub admin_entries: u16,
    /// EFLAGS field.
    pub eflags: u16,
    /// TRSVCID, printable.
    pub trsvcid: String,
    /// Subsystem NQN.
    pub subnqn: Nqn,
    /// TRADDR, printable.
    pub traddr: String,
    /// TSAS, first bytes: for RDMA QP type, provider type, connection management.
    pub tsas: [u8; 8],
}

impl DiscoveryRecord {
    fn of(entry: &DiscoveryEntry) -> Option<Self> {
        let mut tsas = [0; 8];
        for (to, from) in tsas.iter_mut().zip(&entry.tsas) {
            *to = *from;
        }
        Some(Self {
            trtype: entry.trtype,
            adrfam: entry.adrfam,
            subtype: entry.subtype,
            treq: entry.treq,
            portid: entry.portid.get(),
            cntlid: entry.cntlid.get(),
            admin_entries: entry.asqsz.get(),
            eflags: entry.eflags.get(),
            trsvcid: text::trimmed(&entry.trsvcid).to_owned(),
            subnqn: entry.subsystem().ok()?,
            traddr: text::trimmed(&entry.traddr).to_owned(),
            tsas,
        })
    }
}

/// Which part of the log is being read.
#[derive(Debug, Clone, Copy)]
enum Part {
    Header,
    Records,
    HeaderAgain,
}

/// Reads one discovery controller's log.
#[derive(Debug)]
pub(crate) struct LogRead {
    /// Bytes of one command, a multiple of a record.
    piece: u32,
    part: Part,
    /// Records announced.
    count: u64,
    log: DiscoveryLog,
    attempts: u32,
}

impl LogRead {
    /// `transfer` is the longest transfer of one command, at least 4 KiB.
    pub(crate) fn new(transfer: u32) -> Self {
        let record = DiscoveryEntry::SIZE as u32;
        let piece = (transfer / record).max(1) * record;
        let log = DiscoveryLog::default();
        Self {
            piece,
            part: Part::Header,
            count: 0,
            log,
            attempts: 0,
        }
    }

    pub(crate) fn begin() -> Ask {
        Self::ask(DiscoveryHeader::SIZE as u32, 0)
    }

    fn ask(length: u32, offset: u64) -> Ask {
        Ask::read(
            Step::ReadDiscovery,
            get_log(lid::DISCOVERY, length, offset),
            length,
        )
    }

    /// Records read so far, usable or not.
    fn have(&self) -> u64 {
        self.log.records.len() as u64 + u64::from(self.log.unusable)
    }

    fn next_records(&self) -> u64 {
        let room = u64::from(self.piece) / DiscoveryEntry::SIZE as u64;
        (self.count - self.have().min(self.count)).min(room)
    }

    fn ask_records(&self) -> Ask {
        let offset = DiscoveryHeader::SIZE as u64 + self.have() * DiscoveryEntry::SIZE as u64;
        Self::ask(
            self.next_records() as u32 * DiscoveryEntry::SIZE as u32,
            offset,
        )
    }

    pub(crate) fn answer(
        &mut self,
        answer: &Answer<'_>,
    ) -> Result<Next<DiscoveryLog>, SessionError> {
        answer.success()?;
        match self.part {
            Part::Header => {
                self.start(Self::header(answer)?, answer)?;
                if self.count == 0 {
                    return Ok(Next::Done(std::mem::take(&mut self.log)));
                }
                self.part = Part::Records;
                Ok(Next::Ask(self.ask_records()))
            }
            Part::Records => {
                let expected = self.next_records() as usize;
                let page = answer.data(expected * DiscoveryEntry::SIZE)?;
                for entry in page.chunks_exact(DiscoveryEntry::SIZE) {
                    let record = DiscoveryEntry::ref_from_bytes(entry).ok();
                    match record.and_then(DiscoveryRecord::of) {
                        Some(record) => self.log.records.push(record),
                        None => self.log.unusable += 1,
                    }
                }
                if self.have() < self.count {
                    return Ok(Next::Ask(self.ask_records()));
                }
                self.part = Part::HeaderAgain;
                Ok(Next::Ask(Self::begin()))
            }
            Part::HeaderAgain => self.confirm(answer),
        }
    }

    fn confirm(&mut self, answer: &Answer<'_>) -> Result<Next<DiscoveryLog>, SessionError> {
        let again = Self::header(answer)?;
        let same = again.generation.get() == self.log.generation;
        if same && again.records.get() == self.count {
            return Ok(Next::Done(std::mem::take(&mut self.log)));
        }
        self.attempts += 1;
        if self.attempts >= ATTEMPTS_MAX {
            return Err(PeerError::DiscoveryUnstable {
                attempts: self.attempts,
            }
            .into());
        }
        // The header just read begins the next attempt.
        self.part = Part::Header;
        self.answer(answer)
    }

    fn header<'a>(answer: &Answer<'a>) -> Result<&'a DiscoveryHeader, SessionError> {
        let page = answer.data(DiscoveryHeader::SIZE)?;
        DiscoveryHeader::ref_from_bytes(page).map_err(|_| answer.short(DiscoveryHeader::SIZE))
    }

    fn start(&mut self, header: &DiscoveryHeader, answer: &Answer<'_>) -> Result<(), SessionError> {
        let (records, recfmt) = (header.records.get(), header.recfmt.get());
        if recfmt != 0 {
            return Err(answer.garbage(Fault::DiscoveryFormat(recfmt)));
        }
        if records > RECORDS_MAX {
            let limit = RECORDS_MAX;
            return Err(answer.garbage(Fault::DiscoveryTooLong { records, limit }));
        }
        self.count = records;
        let generation = header.generation.get();
        self.log = DiscoveryLog {
            generation,
            ..DiscoveryLog::default()
        };
        Ok(())
    }
}
