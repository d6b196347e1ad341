//! The life of one path: connect, watch, lose, connect again.
//!
//! Decided here: when an attempt begins and ends, what a session's reports and the link's condition
//! mean for the health of the association, which command is asked back, how long the path pauses
//! before it tries again, and when it gives up. Not decided here: what a lost association costs the
//! volumes that used it (the [`Host`](crate::Host) does), nor how anything is sent.
//!
//! A path has one association at a time, from its first packet on. What belongs to an earlier one
//! and arrives late is ignored: inputs name their association, and everything the shell holds of it
//! leaves with [`PathOrder::Release`].

mod attempt;
mod failure;
mod request;
mod spec;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use umpath_core::AssociationId;
use umpath_core::association::Patience;
use umpath_nvme::{Cqe, Sqe};
use umpath_protocol::Failure;
use umpath_session::{AdminData, Reconnect, SessionError, TransportSource, Verdict};

use attempt::Attempt;
pub use failure::explain;
pub use request::{Report, Request, Up};
pub use spec::PathSpec;

/// The condition of the link an association runs over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Link {
    /// It has a carrier.
    Up,
    /// It has none since then.
    Down(Duration),
    /// The device is broken.
    Fatal,
    /// Nobody watches it any more.
    Unwatched,
}

/// What a path wants done.
#[derive(Debug)]
pub enum PathOrder {
    /// Open a transport queue of an association, then call [`Path::handle_queue_connected`] or
    /// [`Path::handle_queue_failed`].
    OpenQueue {
        /// The association.
        association: AssociationId,
        /// 0 is the admin queue, which comes first.
        qid: u16,
        /// The controller, once it is known.
        cntlid: u16,
        /// Entries of the submission queue.
        depth: u16,
        /// Data a capsule on it may carry; 0 before the controller has said so.
        in_capsule_bytes: u32,
    },
    /// Send a command.
    Send {
        /// The association.
        association: AssociationId,
        /// On this queue.
        qid: u16,
        /// The command, its data pointer left zero.
        sqe: Sqe,
        /// Its data.
        data: AdminData,
    },
    /// Watch the link of the association's device, and no other: [`Path::handle_link`].
    WatchLink(AssociationId),
    /// Drain the queues the shell still has of an association, within the path's deadline, and
    /// destroy them. `report`: somebody waits for their silence ([`Report::AdminSilent`]).
    Release {
        /// The association.
        association: AssociationId,
        /// It was ready once.
        report: bool,
    },
    /// Pass this to the host. [`Report::Up`] hands it the I/O queues as well.
    Report(Report),
}

/// Where association numbers come from: each is used once in a process.
#[derive(Debug, Clone, Default)]
pub struct AssociationNumbers(Arc<AtomicU64>);

impl AssociationNumbers {
    fn next(&self) -> AssociationId {
        AssociationId(self.0.fetch_add(1, Ordering::Relaxed) + 1)
    }
}

#[derive(Debug)]
enum Stage {
    /// It has an association, ready or not yet.
    Attempt(Box<Attempt>),
    /// It waits for the next attempt.
    Pause { until: Duration },
    /// It has ended.
    Over,
}

/// How an association ended.
#[derive(Debug)]
enum End {
    /// As ordered.
    Shutdown,
    /// It was lost, or an attempt failed.
    Lost {
        refused: bool,
        error: Option<SessionError>,
    },
}

/// One path. See the [module](self).
#[derive(Debug)]
pub struct Path {
    spec: PathSpec,
    numbers: AssociationNumbers,
    stage: Stage,
    reconnect: Reconnect,
    /// State of the jitter.
    random: u64,
    /// What the last association has learnt of late commands.
    patience: Patience,
    /// [`Report::GivenUp`] was said of this loss.
    given_up: bool,
    orders: VecDeque<PathOrder>,
}

impl Path {
    /// A path, which tries to connect at once. `random` seeds the jitter of its pauses.
    #[must_use]
    pub fn new(spec: PathSpec, numbers: AssociationNumbers, random: u64, now: Duration) -> Self {
        let mut path = Self {
            reconnect: Reconnect::new(spec.reconnect),
            spec,
            numbers,
            stage: Stage::Over,
            random,
            patience: Patience::default(),
            given_up: false,
            orders: VecDeque::new(),
        };
        path.begin(now);
        path
    }

    /// What it is.
    pub fn spec(&self) -> &PathSpec {
        &self.spec
    }

    /// The next thing to do, oldest first.
    pub fn poll_order(&mut self) -> Option<PathOrder> {
        self.orders.pop_front()
    }

    /// It has ended: [`Report::Ended`] was its last.
    pub fn is_over(&self) -> bool {
        matches!(self.stage, Stage::Over)
    }

    /// The association it has, ready or not yet.
    pub fn association(&self) -> Option<AssociationId> {
        match &self.stage {
            Stage::Attempt(attempt) => Some(attempt.association()),
            _ => None,
        }
    }

    /// When [`Self::handle_timeout`] is due.
    pub fn poll_timeout(&self) -> Option<Duration> {
        match &self.stage {
            Stage::Attempt(attempt) => attempt.poll_timeout(),
            Stage::Pause { until } => Some(*until),
            Stage::Over => None,
        }
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Duration) {
        match &mut self.stage {
            Stage::Attempt(attempt) => {
                attempt.handle_timeout(now);
                self.settle(now);
            }
            Stage::Pause { until } if *until <= now => self.begin(now),
            Stage::Pause { .. } | Stage::Over => {}
        }
    }

    /// The host asks for something.
    pub fn handle_request(&mut self, request: Request, now: Duration) {
        match (&mut self.stage, request) {
            (Stage::Attempt(attempt), Request::Shutdown) => attempt.shut_down(now),
            (Stage::Attempt(attempt), request) => {
                attempt.handle_request(request, now, &mut self.orders);
            }
            (Stage::Pause { .. }, Request::Shutdown) => return self.end(),
            (Stage::Pause { .. }, Request::Retry) => {
                self.reconnect.encourage();
                return self.begin(now);
            }
            // For an association that is gone.
            (Stage::Pause { .. } | Stage::Over, _) => return,
        }
        self.settle(now);
    }

    /// A transport queue is open.
    pub fn handle_queue_connected(&mut self, association: AssociationId, qid: u16, now: Duration) {
        if let Some(attempt) = self.attempt(association) {
            attempt.session().handle_queue_connected(qid, now);
            self.settle(now);
        }
    }

    /// A transport queue could not be opened, or was lost.
    pub fn handle_queue_failed(
        &mut self,
        association: AssociationId,
        qid: u16,
        source: TransportSource,
        now: Duration,
    ) {
        if let Some(attempt) = self.attempt(association) {
            attempt.session().handle_queue_failed(qid, source);
            self.settle(now);
        }
    }

    /// A command was answered, with the bytes its data buffer holds.
    pub fn handle_response(
        &mut self,
        association: AssociationId,
        qid: u16,
        cqe: &Cqe,
        data: &[u8],
        now: Duration,
    ) {
        if let Some(attempt) = self.attempt(association) {
            attempt.session().handle_response(qid, cqe, data, now);
            self.settle(now);
        }
    }

    /// What has become of the link that is watched, or what is known of it when watching begins.
    pub fn handle_link(&mut self, link: Link, now: Duration) {
        match &mut self.stage {
            Stage::Attempt(attempt) => {
                if attempt.handle_link(link, now) {
                    // What a connection in the making sent while the link was down is lost, and the
                    // connection manager repeats it after seconds: begin anew.
                    self.reconnect.encourage();
                    let (refused, error) = (false, None);
                    return self.over(End::Lost { refused, error }, now);
                }
                self.settle(now);
            }
            Stage::Pause { .. } if link == Link::Up => {
                self.reconnect.encourage();
                self.begin(now);
            }
            Stage::Pause { .. } | Stage::Over => {}
        }
    }

    fn attempt(&mut self, association: AssociationId) -> Option<&mut Attempt> {
        match &mut self.stage {
            Stage::Attempt(attempt) if attempt.association() == association => Some(attempt),
            // What an earlier one left is of no interest.
            _ => None,
        }
    }

    fn begin(&mut self, now: Duration) {
        let association = self.numbers.next();
        match Attempt::begin(&self.spec, association, self.patience, now) {
            Ok(attempt) => {
                self.stage = Stage::Attempt(Box::new(attempt));
                self.settle(now);
            }
            Err(error) => {
                // A configuration that no attempt can use: none is made any more.
                self.stage = Stage::Over;
                let failure = Failure::new(
                    format!(
                        "cannot connect to {} at {}",
                        self.spec.nqn,
                        self.spec.address()
                    ),
                    error.to_string(),
                    "correct the option and connect again",
                );
                let retry_at = None;
                self.report(Report::Failed { failure, retry_at });
                self.end();
            }
        }
    }

    /// Carries on until nothing more follows from what is known.
    fn settle(&mut self, now: Duration) {
        let Stage::Attempt(attempt) = &mut self.stage else {
            return;
        };
        let end = attempt.settle(&self.spec, &mut self.reconnect, &mut self.orders, now);
        if let Some(end) = end {
            self.over(end, now);
        }
    }

    /// The association is over.
    fn over(&mut self, end: End, now: Duration) {
        if let Stage::Attempt(attempt) = std::mem::replace(&mut self.stage, Stage::Over) {
            self.patience = attempt.patience();
            // After an end in good order as well: what was lost all the same waits for this moment.
            self.orders.push_back(PathOrder::Release {
                association: attempt.association(),
                report: attempt.was_ready(),
            });
        }
        let End::Lost { refused, error } = end else {
            return self.end();
        };
        self.random = next_random(self.random);
        let until = match self.reconnect.failed(now, refused, self.random) {
            Verdict::RetryAt(at) => {
                self.given_up = false;
                at
            }
            Verdict::GiveUp { .. } => {
                // That ends the waiting for the path, not the asking; who may end is the host's word.
                if !std::mem::replace(&mut self.given_up, true) {
                    self.report(Report::GivenUp);
                }
                now + self.spec.reconnect.backoff.cap
            }
        };
        if let Some(error) = error {
            let doing = format!("connect to {}", self.spec.nqn);
            let failure = explain(&doing, &self.spec.address(), &error);
            let retry_at = Some(until);
            self.report(Report::Failed { failure, retry_at });
        }
        self.stage = Stage::Pause { until };
    }

    fn end(&mut self) {
        self.stage = Stage::Over;
        self.report(Report::Ended);
    }

    fn report(&mut self, report: Report) {
        self.orders.push_back(PathOrder::Report(report));
    }
}

/// The next state of a generator that is good enough for jitter (splitmix64).
fn next_random(state: u64) -> u64 {
    let mut mixed = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}
