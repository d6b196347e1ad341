//! The life of one path: connect, monitor, lose, reconnect.
//!
//! Decided here: when an attempt begins and ends, what session reports and the link state mean for
//! the health of the association, which command to abort, how long the path pauses before it
//! retries, and when it gives up. Not decided here: what a lost association means for its volumes
//! (the [`Host`](crate::Host) does), and how anything is sent.
//!
//! A path has one association at a time, from its first packet on. Late inputs for an earlier one
//! are ignored: inputs name their association, and the shell releases everything it holds of one on
//! [`PathOrder::Release`].

mod attempt;
mod failure;
mod request;
mod spec;
mod watch;

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
use watch::{News, Watch, is_back};

/// State of the link an association runs over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Link {
    /// Carrier present.
    Up,
    /// No carrier since then.
    Down(Duration),
    /// The device has failed.
    Fatal,
    /// The link is no longer monitored.
    Unwatched,
}

/// A path's orders to its shell.
#[derive(Debug)]
pub enum PathOrder {
    /// Open a transport queue of an association, then call [`Path::handle_queue_connected`] or
    /// [`Path::handle_queue_failed`].
    OpenQueue {
        /// The association it belongs to.
        association: AssociationId,
        /// 0 is the admin queue, which comes first.
        qid: u16,
        /// Controller identifier, once known.
        cntlid: u16,
        /// Entries of the submission queue.
        depth: u16,
        /// In-capsule data size in bytes; 0 until the controller has reported it.
        in_capsule_bytes: u32,
    },
    /// Send a command.
    Send {
        /// The association to send it on.
        association: AssociationId,
        /// The queue to send it on.
        qid: u16,
        /// The command, its data pointer left zero.
        sqe: Sqe,
        /// Its data, sent or received.
        data: AdminData,
    },
    /// Destroy a transport queue that is not used and pass in nothing of it any more; its identifier may
    /// be in the next [`Self::OpenQueue`]. Nothing was sent on it, or its only command was answered.
    CloseQueue {
        /// The association it belongs to.
        association: AssociationId,
        /// The queue.
        qid: u16,
    },
    /// Monitor the link of this association's device, and no other: [`Path::handle_link`].
    WatchLink(AssociationId),
    /// Drain the queues the shell still holds of an association, within the path's deadline, and
    /// destroy them. With `report`, the host waits for their silence ([`Report::AdminSilent`]).
    Release {
        /// The association to release.
        association: AssociationId,
        /// Set if it was ever ready.
        report: bool,
    },
    /// Pass this to the host. [`Report::Up`] hands over the I/O queues as well.
    Report(Report),
}

/// Source of association numbers, each used once per process.
#[derive(Debug, Clone, Default)]
pub struct AssociationNumbers(Arc<AtomicU64>);

impl AssociationNumbers {
    fn next(&self) -> AssociationId {
        AssociationId(self.0.fetch_add(1, Ordering::Relaxed) + 1)
    }
}

#[derive(Debug)]
enum Stage {
    /// Has an association, ready or not.
    Attempt(Box<Attempt>),
    /// Waits for the next attempt.
    Pause { until: Duration },
    /// Has ended.
    Over,
}

#[derive(Debug)]
enum End {
    /// As ordered.
    Shutdown,
    /// It was lost, or the attempt failed.
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
    /// State of the jitter generator.
    random: u64,
    /// What the last association learned about late commands.
    patience: Patience,
    /// The link of the last association that was ready.
    watch: Watch,
    /// Whether [`Report::GivenUp`] was sent for this loss.
    given_up: bool,
    orders: VecDeque<PathOrder>,
}

impl Path {
    /// A path that starts connecting at once. `random` seeds the jitter of its pauses.
    #[must_use]
    pub fn new(spec: PathSpec, numbers: AssociationNumbers, random: u64, now: Duration) -> Self {
        let mut path = Self {
            reconnect: Reconnect::new(spec.reconnect),
            spec,
            numbers,
            stage: Stage::Over,
            random,
            patience: Patience::default(),
            watch: Watch::default(),
            given_up: false,
            orders: VecDeque::new(),
        };
        path.begin(now);
        path
    }

    /// The description it runs with.
    pub fn spec(&self) -> &PathSpec {
        &self.spec
    }

    /// The next order to carry out, oldest first.
    pub fn poll_order(&mut self) -> Option<PathOrder> {
        self.orders.pop_front()
    }

    /// Whether it has ended: [`Report::Ended`] was its last report.
    pub fn is_over(&self) -> bool {
        matches!(self.stage, Stage::Over)
    }

    /// Its association, ready or not.
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

    /// Handles everything due at `now`.
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

    /// Handles a request of the host.
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

    /// A command completed; `data` is what its buffer holds.
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

    /// The monitored link of this association changed, or its state when monitoring starts.
    pub fn handle_link(&mut self, association: AssociationId, link: Link, now: Duration) {
        let news = self.watch.heard(association);
        let back = is_back(news, link);
        match &mut self.stage {
            _ if news == News::Stale => {}
            Stage::Attempt(attempt) if attempt.association() == association => {
                attempt.handle_link(link, now);
                self.settle(now);
            }
            Stage::Attempt(attempt) if back && !attempt.is_stopping() => {
                // Packets sent while the link was down are lost, and the connection manager
                // resends only after seconds: start the connection over.
                self.reconnect.encourage();
                let (refused, error) = (false, None);
                self.over(End::Lost { refused, error }, now);
            }
            Stage::Pause { .. } if back => {
                self.reconnect.encourage();
                self.begin(now);
            }
            Stage::Attempt(_) | Stage::Pause { .. } | Stage::Over => {}
        }
    }

    fn attempt(&mut self, association: AssociationId) -> Option<&mut Attempt> {
        match &mut self.stage {
            Stage::Attempt(attempt) if attempt.association() == association => Some(attempt),
            // Left over from an earlier association.
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
                // No attempt can succeed with this configuration: make no more.
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

    /// Proceeds until nothing more follows from the current state.
    fn settle(&mut self, now: Duration) {
        let Stage::Attempt(attempt) = &mut self.stage else {
            return;
        };
        let end = attempt.settle(&self.spec, &mut self.reconnect, &mut self.orders, now);
        if attempt.was_ready() {
            self.watch.begin(attempt.association());
        }
        if let Some(end) = end {
            self.over(end, now);
        }
    }

    /// The association is over.
    fn over(&mut self, end: End, now: Duration) {
        if let Stage::Attempt(attempt) = std::mem::replace(&mut self.stage, Stage::Over) {
            self.patience = attempt.patience();
            // Even after an end in good order, commands that were lost wait for this report.
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
                // I/O stops waiting for the path, which keeps trying; only the host may end it.
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

/// The next state of a generator good enough for jitter (splitmix64).
fn next_random(state: u64) -> u64 {
    let mut mixed = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}
