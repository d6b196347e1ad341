//! Finding and identifying the active namespaces of a controller.
//!
//! The first scan looks at all of them. A later one, after a change was announced, reads the list of
//! changed namespaces (which also re-arms the event), lists again, and identifies only what changed,
//! is new, or was unusable before.

use std::collections::BTreeSet;

use umpath_nvme::command::{get_log, identify};
use umpath_nvme::identify::{IDENTIFY_BYTES, IdentifyNamespace, NsList, cns};
use umpath_nvme::log::{CHANGED_NAMESPACES_OVERFLOW, lid};
use umpath_nvme::{FromBytes, Status};

use crate::answer::Answer;
use crate::ask::{Ask, Next};
use crate::error::{Fault, PeerError, SessionError};
use crate::facts::ControllerFacts;
use crate::namespace::{Identifiers, Namespace, NamespaceFacts, NamespaceProblem};
use crate::step::Step;

/// What has to be identified.
#[derive(Debug)]
enum Changed {
    Everything,
    Some(BTreeSet<u32>),
}

/// One look at the namespaces of a controller.
#[derive(Debug)]
pub(crate) struct Scan {
    first: Step,
    has_descriptors: bool,
    nsid_max: u32,
    limit: usize,
    changed: Changed,
    /// The list of changed namespaces was refused this time: the controller announces no change until
    /// it is read.
    unread: bool,
    /// What the previous scan found.
    known: Vec<Namespace>,
    /// Active identifiers, ascending, at most `limit`.
    active: Vec<u32>,
    /// How many of `active` are dealt with.
    done: usize,
    /// Identify Namespace of the one whose descriptors are being read.
    page: Option<Box<[u8]>>,
    found: Vec<Namespace>,
}

impl Scan {
    /// Looks at every namespace, at most `limit`.
    pub(crate) fn everything(facts: &ControllerFacts, limit: u32) -> Self {
        Self {
            first: Step::ListNamespaces,
            has_descriptors: facts.has_descriptors(),
            nsid_max: facts.namespaces_max,
            limit: limit as usize,
            changed: Changed::Everything,
            unread: false,
            known: Vec::new(),
            active: Vec::new(),
            done: 0,
            page: None,
            found: Vec::new(),
        }
    }

    /// Looks at what the controller says has changed since `known` was found.
    pub(crate) fn changes(facts: &ControllerFacts, limit: u32, known: Vec<Namespace>) -> Self {
        let first = Step::ReadChangedNamespaces;
        Self {
            first,
            known,
            ..Self::everything(facts, limit)
        }
    }

    /// It has to be repeated, or later changes go unnoticed.
    pub(crate) fn is_unread(&self) -> bool {
        self.unread
    }

    pub(crate) fn begin(&self) -> Ask {
        match self.first {
            Step::ReadChangedNamespaces => {
                let sqe = get_log(lid::CHANGED_NAMESPACES, NsList::SIZE as u32, 0);
                Ask::read(self.first, sqe, NsList::SIZE as u32)
            }
            _ => Self::list_after(0),
        }
    }

    fn list_after(nsid: u32) -> Ask {
        let sqe = identify(cns::ACTIVE_NAMESPACES, nsid);
        Ask::read(Step::ListNamespaces, sqe, NsList::SIZE as u32)
    }

    pub(crate) fn answer(
        &mut self,
        answer: &Answer<'_>,
    ) -> Result<Next<Vec<Namespace>>, SessionError> {
        match answer.step {
            Step::ReadChangedNamespaces => {
                // Optional: without this log everything counts as changed.
                let status = answer.status();
                if status.is_success() {
                    self.changed = Self::changed(answer)?;
                }
                let no_log = [
                    Status::INVALID_LOG_PAGE,
                    Status::INVALID_FIELD,
                    Status::INVALID_OPCODE,
                ];
                let never = status.dnr() || no_log.iter().any(|known| status.is(*known));
                self.unread = !status.is_success() && !never;
                Ok(Next::Ask(Self::list_after(0)))
            }
            Step::ListNamespaces => {
                let more = self.list(answer)?;
                Ok(more.map_or_else(|| self.next(), |nsid| Next::Ask(Self::list_after(nsid))))
            }
            Step::IdentifyNamespace { nsid } => Ok(self.identified(nsid, answer)),
            _ => Ok(self.described(answer)),
        }
    }

    fn changed(answer: &Answer<'_>) -> Result<Changed, SessionError> {
        let nsids: BTreeSet<u32> = ns_list(answer)?.iter().collect();
        let overflow = nsids.contains(&CHANGED_NAMESPACES_OVERFLOW);
        Ok(if overflow {
            Changed::Everything
        } else {
            Changed::Some(nsids)
        })
    }

    /// Takes one page of the active list; returns where the next one continues.
    fn list(&mut self, answer: &Answer<'_>) -> Result<Option<u32>, SessionError> {
        let page = ns_list(&answer.success()?)?;
        for nsid in page.iter() {
            let last = self.active.last().copied().unwrap_or(0);
            if nsid <= last || nsid > self.nsid_max {
                let fault = Fault::NamespaceOrder { nsid };
                return Err(PeerError::Garbage {
                    step: answer.step,
                    fault,
                }
                .into());
            }
            if self.active.len() == self.limit {
                return Ok(None);
            }
            self.active.push(nsid);
        }
        // Only a full page continues, so that every page brings the end nearer.
        let full = page.iter().count() == NsList::COUNT_MAX;
        Ok(page
            .continuation()
            .filter(|nsid| full && *nsid < self.nsid_max))
    }

    /// Takes over what need not be identified again, then asks for the next that does.
    fn next(&mut self) -> Next<Vec<Namespace>> {
        while let Some(nsid) = self.active.get(self.done).copied() {
            let Some(namespace) = self.unchanged(nsid) else {
                let sqe = identify(cns::NAMESPACE, nsid);
                let step = Step::IdentifyNamespace { nsid };
                return Next::Ask(Ask::read(step, sqe, IDENTIFY_BYTES as u32));
            };
            self.record(namespace.nsid, namespace.facts);
        }
        Next::Done(std::mem::take(&mut self.found))
    }

    fn unchanged(&self, nsid: u32) -> Option<Namespace> {
        match &self.changed {
            Changed::Everything => return None,
            Changed::Some(nsids) if nsids.contains(&nsid) => return None,
            Changed::Some(_) => {}
        }
        let at = self
            .known
            .binary_search_by_key(&nsid, |known| known.nsid)
            .ok()?;
        self.known
            .get(at)
            .filter(|known| known.facts.is_ok())
            .cloned()
    }

    fn record(&mut self, nsid: u32, facts: Result<NamespaceFacts, NamespaceProblem>) {
        self.found.push(Namespace { nsid, facts });
        self.done += 1;
        self.page = None;
    }

    fn identified(&mut self, nsid: u32, answer: &Answer<'_>) -> Next<Vec<Namespace>> {
        let status = answer.status();
        if !status.is_success() {
            self.record(nsid, Err(NamespaceProblem::Refused(status)));
            return self.next();
        }
        match answer.data(IDENTIFY_BYTES) {
            Ok(page) if self.has_descriptors => {
                self.page = Some(page.into());
                let sqe = identify(cns::NAMESPACE_DESCRIPTORS, nsid);
                let step = Step::IdentifyDescriptors { nsid };
                Next::Ask(Ask::read(step, sqe, IDENTIFY_BYTES as u32))
            }
            Ok(page) => {
                self.record(nsid, judge(page, &[]));
                self.next()
            }
            Err(_) => {
                let (got, needed) = (answer.data_up_to(IDENTIFY_BYTES).len(), IDENTIFY_BYTES);
                let problem = NamespaceProblem::Garbage(Fault::Short { got, needed });
                self.record(nsid, Err(problem));
                self.next()
            }
        }
    }

    /// The descriptors came; a controller that has none may refuse the command.
    fn described(&mut self, answer: &Answer<'_>) -> Next<Vec<Namespace>> {
        let (Some(page), Some(nsid)) = (self.page.take(), self.active.get(self.done).copied())
        else {
            return self.next();
        };
        let status = answer.status();
        let has_none = [Status::INVALID_FIELD, Status::INVALID_OPCODE];
        let facts = if status.is_success() {
            judge(&page, answer.data_up_to(IDENTIFY_BYTES))
        } else if status.dnr() || has_none.iter().any(|known| status.is(*known)) {
            judge(&page, &[])
        } else {
            // With fewer identifiers than it has it would pass for another namespace.
            Err(NamespaceProblem::Refused(status))
        };
        self.record(nsid, facts);
        self.next()
    }
}

fn ns_list<'a>(answer: &Answer<'a>) -> Result<&'a NsList, SessionError> {
    let page = answer.data(NsList::SIZE)?;
    NsList::ref_from_bytes(page).map_err(|_| answer.short(NsList::SIZE))
}

/// Judges one namespace by its page and its descriptors (none if empty).
fn judge(page: &[u8], descriptors: &[u8]) -> Result<NamespaceFacts, NamespaceProblem> {
    let short = Fault::Short {
        got: page.len(),
        needed: IDENTIFY_BYTES,
    };
    let id =
        IdentifyNamespace::ref_from_bytes(page).map_err(|_| NamespaceProblem::Garbage(short))?;
    let mut identifiers = Identifiers::of_page(id);
    identifiers.add_descriptors(descriptors)?;
    NamespaceFacts::judge(id, &identifiers)
}
