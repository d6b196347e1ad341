//! What queue threads report.

use std::collections::BTreeSet;
use std::time::Duration;

use umpath_core::association::Stuck;
use umpath_core::{AssociationId, Ghost, LaneEvent, ThreadStats};
use umpath_session::StableId;

use super::Host;
use crate::order::{Order, QueueKey, Remains};
use crate::path::Request;
use crate::volume::Volume;

/// A report of a queue thread. Queue pairs that come with it stay in the shell's hands, as
/// [`Remains::Lane`].
#[derive(Debug)]
pub enum LaneNews {
    /// The queue pair of a convicted association is drained, as far as it would.
    Drained {
        /// The association.
        association: AssociationId,
        /// Since when nothing is sent on it; `None`: only its destruction proves that.
        silent_at: Option<Duration>,
        /// There was a queue pair.
        handed_back: bool,
        /// No memory is in its hands any more.
        quiet: bool,
    },
    /// The lane has passed the buffer fence of a convicted association.
    BufferFenced {
        /// The association.
        association: AssociationId,
        /// What the lane lost with it.
        ghosts: Vec<Ghost>,
        /// When.
        at: Duration,
    },
    /// A queue pair is of no further use.
    Broken {
        /// The association.
        association: AssociationId,
        /// Why, in words.
        why: String,
    },
    /// The lane noticed something.
    Event {
        /// What.
        event: LaneEvent,
        /// When.
        at: Duration,
    },
    /// Counters.
    Stats(Box<ThreadStats>),
    /// The thread has ended; the last report.
    Ended {
        /// Associations it still had queue pairs of.
        had: Vec<AssociationId>,
        /// Why, where it was not told to.
        failure: Option<String>,
    },
}

impl Host {
    /// A queue thread reports.
    pub fn handle_lane(&mut self, id: StableId, queue: u16, news: LaneNews, now: Duration) {
        self.begin(now);
        self.lane_news(id, queue, news);
        self.settle();
    }

    fn lane_news(&mut self, id: StableId, queue: u16, news: LaneNews) {
        match news {
            LaneNews::Drained {
                association,
                silent_at,
                handed_back,
                quiet,
            } => {
                if handed_back {
                    // What is not certainly over is over when it is destroyed.
                    self.fx.order(Order::Destroy {
                        association,
                        remains: Remains::Lane(id, queue),
                        report: !quiet || silent_at.is_none(),
                    });
                }
                if let Some(at) = silent_at.filter(|_| quiet) {
                    self.queue_silent(association, QueueKey::Lane(id, queue), at);
                }
            }
            LaneNews::BufferFenced {
                association,
                ghosts,
                at,
            } => {
                if let Some(volume) = self.volumes.get_mut(&id) {
                    volume.lane_drained(association, queue, ghosts, at, &mut self.fx);
                }
                self.lane_drained(id, queue, association);
            }
            LaneNews::Broken { association, why } => {
                self.tell(association, Request::Broken(association, why));
            }
            LaneNews::Event { event, at } => self.lane_event(id, queue, event, at),
            LaneNews::Stats(stats) => {
                if let Some(volume) = self.volumes.get_mut(&id) {
                    volume.stats(queue, &stats, &mut self.fx);
                }
            }
            LaneNews::Ended { had, failure } => self.lane_ended(id, queue, &had, failure),
        }
    }

    fn lane_event(&mut self, id: StableId, queue: u16, event: LaneEvent, at: Duration) {
        if let Some(volume) = self.volumes.get_mut(&id) {
            volume.lane_event(queue, event, at, &mut self.fx);
        }
        match event {
            // The controller refused with an ANA status: its log says more.
            LaneEvent::AnaStatus { association, .. } => {
                self.tell(association, Request::RefreshAna(association));
            }
            LaneEvent::Overdue {
                association,
                since,
                cid,
                ..
            } => {
                let volume = self.volumes.get(&id);
                let qid = volume.and_then(|volume| volume.qid_on(association, queue));
                let stuck = qid.zip(cid).map(|(qid, cid)| Stuck { qid, cid, since });
                self.tell(association, Request::Overdue(association, since, stuck));
            }
            _ => {}
        }
    }

    /// A queue thread has ended: what it still had is destroyed, and nothing waits for it.
    fn lane_ended(
        &mut self,
        id: StableId,
        queue: u16,
        had: &[AssociationId],
        failure: Option<String>,
    ) {
        if let Some(why) = failure {
            // Nobody knows any more what the failed thread has in flight on associations that live
            // on, and its requests have no server. A restart puts both right: the next process
            // fences every association before it writes anything, and gets the requests again.
            let name = self.volumes.get(&id).map_or("", Volume::name);
            let words = format!("queue thread {queue} of {name} failed: {why}");
            return self.fx.order(Order::LeaveToSuccessor(words));
        }
        let now = self.fx.now;
        if let Some(volume) = self.volumes.get_mut(&id) {
            volume.lane_gone(queue, &mut self.fx);
        }
        for association in had {
            let found = self.path_with(*association).map(|(path, _)| path);
            if let Some(live) = found.and_then(|path| self.live_mut(path)) {
                // Lost before that is done, it is not silent before that is done.
                live.leaving.insert(QueueKey::Lane(id, queue));
            }
            self.fx.order(Order::Destroy {
                association: *association,
                remains: Remains::Lane(id, queue),
                report: true,
            });
        }
        let had: BTreeSet<AssociationId> = had.iter().copied().collect();
        let waits = |teardown: &super::Teardown| teardown.lanes.contains(&(id, queue));
        let waiting: Vec<AssociationId> = self
            .teardowns
            .iter()
            .filter(|(_, teardown)| waits(teardown))
            .map(|(association, _)| *association)
            .collect();
        for association in waiting {
            if !had.contains(&association) {
                self.queue_silent(association, QueueKey::Lane(id, queue), now);
            }
            self.lane_drained(id, queue, association);
        }
    }
}
