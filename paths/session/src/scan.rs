//! Finding and identifying the active namespaces of a controller.
//!
//! The first scan looks at all of them. A later one, after a change was announced, reads the list of
//! changed namespaces (which also re-arms the event), lists again, and identifies only what changed,
//! is new, or was unusable before.
//!
//! The controller lists a change once. So what a scan could not read of it is carried over to the next
//! one ([`Scan::into_unread`], [`Found::unread`]), and a namespace that could not be read this time stays
//! what it was.

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
pub(crate) enum Changed {
    Everything,
    Some(BTreeSet<u32>),
}

impl Default for Changed {
    fn default() -> Self {
        Self::Some(BTreeSet::new())
    }
}

/// What a scan found.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) namespaces: Vec<Namespace>,
    /// Those that could not be read, and may be later.
    pub(crate) unread: BTreeSet<u32>,
    /// Why, for one of them.
    pub(crate) error: Option<SessionError>,
}

/// One look at the namespaces of a controller.
#[derive(Debug)]
pub(crate) struct Scan {
    first: Step,
    has_descriptors: bool,
    nsid_max: u32,
    limit: usize,
    changed: Changed,
    /// What the previous scan found.
    known: Vec<Namespace>,
    /// Active identifiers, ascending, at most `limit`.
    active: Vec<u32>,
    /// How many of `active` are dealt with.
    done: usize,
    /// Identify Namespace of the one whose descriptors are being read.
    page: Option<Box<[u8]>>,
    found: Vec<Namespace>,
    unread: BTreeSet<u32>,
    error: Option<SessionError>,
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
            known: Vec::new(),
            active: Vec::new(),
            done: 0,
            page: None,
            found: Vec::new(),
            unread: BTreeSet::new(),
            error: None,
        }
    }

    /// Looks at what the controller says has changed since `known` was found, and at what was left
    /// `unread` then.
    pub(crate) fn changes(
        facts: &ControllerFacts,
        limit: u32,
        known: Vec<Namespace>,
        unread: Changed,
    ) -> Self {
        Self {
            first: Step::ReadChangedNamespaces,
            known,
            changed: unread,
            ..Self::everything(facts, limit)
        }
    }

    /// What has to be identified all the same when this scan has failed.
    pub(crate) fn into_unread(self) -> Changed {
        self.changed
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

    pub(crate) fn answer(&mut self, answer: &Answer<'_>) -> Result<Next<Found>, SessionError> {
        match answer.step {
            Step::ReadChangedNamespaces => {
                self.add_changed(answer)?;
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

    /// Takes the list of changed namespaces. The controller has forgotten it when it answers, so an
    /// answer that cannot be read stands for everything, and so does a controller without this log.
    /// Where there is one, the controller announces no change until it has been read: it is read again.
    fn add_changed(&mut self, answer: &Answer<'_>) -> Result<(), SessionError> {
        let before = std::mem::replace(&mut self.changed, Changed::Everything);
        let status = answer.status();
        if !status.is_success() {
            let no_log = [
                Status::INVALID_LOG_PAGE,
                Status::INVALID_FIELD,
                Status::INVALID_OPCODE,
            ];
            let never = status.dnr() || no_log.iter().any(|known| status.is(*known));
            self.error = answer.success().err().filter(|_| !never);
            return Ok(());
        }
        let nsids: BTreeSet<u32> = ns_list(answer)?.iter().collect();
        if let Changed::Some(mut known) = before
            && !nsids.contains(&CHANGED_NAMESPACES_OVERFLOW)
        {
            known.extend(nsids);
            self.changed = Changed::Some(known);
        }
        Ok(())
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
    fn next(&mut self) -> Next<Found> {
        while let Some(nsid) = self.active.get(self.done).copied() {
            let Some(namespace) = self.unchanged(nsid) else {
                let sqe = identify(cns::NAMESPACE, nsid);
                let step = Step::IdentifyNamespace { nsid };
                return Next::Ask(Ask::read(step, sqe, IDENTIFY_BYTES as u32));
            };
            self.record(namespace.nsid, namespace.facts);
        }
        Next::Done(Found {
            namespaces: std::mem::take(&mut self.found),
            unread: std::mem::take(&mut self.unread),
            error: self.error.take(),
        })
    }

    fn unchanged(&self, nsid: u32) -> Option<Namespace> {
        match &self.changed {
            Changed::Everything => return None,
            Changed::Some(nsids) if nsids.contains(&nsid) => return None,
            Changed::Some(_) => {}
        }
        self.known(nsid)
    }

    /// What was known of a usable namespace before.
    fn known(&self, nsid: u32) -> Option<Namespace> {
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

    /// A namespace could not be read, and may be later: it stays what it was, where that is known.
    fn put_off(&mut self, nsid: u32, problem: NamespaceProblem, error: SessionError) {
        let known = self.known(nsid).map(|known| known.facts);
        self.record(nsid, known.unwrap_or(Err(problem)));
        self.ask_again(nsid, error);
    }

    /// A namespace has to be identified again later.
    fn ask_again(&mut self, nsid: u32, error: SessionError) {
        self.unread.insert(nsid);
        self.error.get_or_insert(error);
    }

    fn identified(&mut self, nsid: u32, answer: &Answer<'_>) -> Next<Found> {
        if let Err(error) = answer.success() {
            self.refused(nsid, answer.status(), error);
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
            Err(error) => {
                let (got, needed) = (answer.data_up_to(IDENTIFY_BYTES).len(), IDENTIFY_BYTES);
                let problem = NamespaceProblem::Garbage(Fault::Short { got, needed });
                self.put_off(nsid, problem, error);
                self.next()
            }
        }
    }

    /// A command about a namespace was refused.
    fn refused(&mut self, nsid: u32, status: Status, error: SessionError) {
        let problem = NamespaceProblem::Refused(status);
        if status.is(Status::INVALID_NAMESPACE) {
            // It is listed, so it went or came in this moment: not what it was, but not for good.
            self.record(nsid, Err(problem));
            self.ask_again(nsid, error);
        } else if status.dnr() {
            self.record(nsid, Err(problem));
        } else {
            self.put_off(nsid, problem, error);
        }
    }

    /// The descriptors came; a controller that has none may refuse the command. Without them a
    /// namespace may seem to be another one, so a refusal for now is not taken for that.
    fn described(&mut self, answer: &Answer<'_>) -> Next<Found> {
        let (Some(page), Some(nsid)) = (self.page.take(), self.active.get(self.done).copied())
        else {
            unreachable!("descriptors are asked for of the namespace that was identified last")
        };
        let status = answer.status();
        // The controller means that it has none.
        let has_none = [Status::INVALID_FIELD, Status::INVALID_OPCODE];
        let has_none = status.dnr() || has_none.iter().any(|known| status.is(*known));
        match answer.success() {
            // With fewer identifiers than it has it would pass for another namespace.
            Err(error) if !has_none => self.refused(nsid, status, error),
            Err(_) => self.record(nsid, judge(&page, &[])),
            Ok(answer) => {
                self.record(nsid, judge(&page, answer.data_up_to(IDENTIFY_BYTES)));
            }
        }
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
