//! Reports from queue threads.

use std::time::Duration;

use umpath_core::association::Stuck;
use umpath_core::{AssociationId, Ghost, LaneEvent, ThreadStats};
use umpath_engine::LaneReport;
use umpath_transport::Transport;

use super::{Host, same};
use crate::order::{Order, QueueKey, Remains};
use crate::path::Request;
use crate::spec::VolumeKey;
use crate::volume::Volume;

/// A report from a queue thread. Queue pairs that come with it stay with the shell as
/// [`Remains::Lane`].
#[derive(Debug)]
pub enum LaneNews {
    /// The queue pair of a convicted association has drained as far as it can.
    Drained {
        /// The convicted association.
        association: AssociationId,
        /// When it fell silent; `None`: only destroying the queue pair proves that it sends nothing
        /// more.
        silent_at: Option<Duration>,
        /// Whether the thread had a queue pair and handed it back.
        handed_back: bool,
        /// Whether the queue pair holds no memory of the thread any more.
        quiet: bool,
    },
    /// The lane has passed the buffer fence of a convicted association.
    BufferFenced {
        /// The convicted association.
        association: AssociationId,
        /// Commands of unknown fate that the lane had in flight on it.
        ghosts: Vec<Ghost>,
        /// When the lane passed the fence.
        at: Duration,
    },
    /// A queue pair can no longer be used.
    Broken {
        /// The association it belongs to.
        association: AssociationId,
        /// The cause, for the event log.
        why: String,
    },
    /// Something the lane observed.
    Event {
        /// The observation.
        event: LaneEvent,
        /// When the lane made it.
        at: Duration,
    },
    /// Counters, in answer to a request for them.
    Stats(Box<ThreadStats>),
    /// The thread has ended; its last report.
    Ended {
        /// Associations it still held queue pairs of.
        had: Vec<AssociationId>,
        /// The cause, if it ended without an order to.
        failure: Option<String>,
    },
}

impl LaneNews {
    /// What a report says, and the queue pairs that come with it.
    pub fn from_report<T: Transport>(report: LaneReport<T>) -> (Self, Vec<(AssociationId, T)>) {
        let mut queue_pairs = Vec::new();
        let news = match report {
            LaneReport::Drained {
                association,
                silent_at,
                transport,
                quiet,
                ..
            } => {
                queue_pairs.extend(transport.map(|transport| (association, transport)));
                Self::Drained {
                    association,
                    silent_at,
                    handed_back: !queue_pairs.is_empty(),
                    quiet,
                }
            }
            LaneReport::BufferFenced {
                association,
                ghosts,
                at,
            } => Self::BufferFenced {
                association,
                ghosts,
                at,
            },
            LaneReport::Broken {
                association, why, ..
            } => Self::Broken {
                association,
                why: why.to_string(),
            },
            LaneReport::Event { event, at } => Self::Event { event, at },
            LaneReport::Stats(stats) => Self::Stats(stats),
            LaneReport::Ended {
                transports,
                outcome,
            } => {
                let association = |(association, _): &(AssociationId, T)| *association;
                let had = transports.iter().map(association).collect();
                queue_pairs = transports;
                Self::Ended {
                    had,
                    failure: outcome.err().map(|error| error.to_string()),
                }
            }
        };
        (news, queue_pairs)
    }
}

impl Host {
    /// Handles a report from a queue thread.
    pub fn handle_lane(&mut self, key: VolumeKey, queue: u16, news: LaneNews, now: Duration) {
        self.begin(now);
        self.lane_news(key, queue, news);
        self.settle();
    }

    fn lane_news(&mut self, key: VolumeKey, queue: u16, news: LaneNews) {
        let volume = same(&mut self.volumes, key);
        let volume = volume.expect("a volume does not go before its queue threads have ended");
        // Threads of an attempt that fails half-way end before anything is asked of them, and one that
        // has taken a device over may have requests before all have.
        let early = matches!(news, LaneNews::Ended { .. } | LaneNews::Event { .. });
        let expected = volume.is_built() || early;
        assert!(
            expected,
            "thread {queue} of {key}, not built, reports {news:?}"
        );
        match news {
            LaneNews::Drained {
                association,
                silent_at,
                handed_back,
                quiet,
            } => {
                let replaced = self.replacement_drained(association, (key, queue), quiet);
                if handed_back {
                    // A queue pair that is not known to be silent is silent once destroyed.
                    let report = replaced || !quiet || silent_at.is_none();
                    if report {
                        self.destroying.insert((association, key, queue));
                    }
                    self.fx.order(Order::Destroy {
                        association,
                        remains: Remains::Lane(key, queue),
                        report,
                    });
                }
                // A thread that has no queue pair says so, and one it handed back may be on its way out.
                let leaving = self.destroying.contains(&(association, key, queue));
                if let Some(at) = silent_at.filter(|_| quiet && (handed_back || !leaving)) {
                    self.queue_silent(association, QueueKey::Lane(key, queue), at);
                }
            }
            LaneNews::BufferFenced {
                association,
                ghosts,
                at,
            } => {
                if self.replacement_fenced(association, (key, queue), ghosts.len()) {
                    return;
                }
                let volume = same(&mut self.volumes, key).expect("it was just there");
                volume.lane_drained(association, queue, ghosts, at, &mut self.fx);
                self.lane_drained(key, queue, association);
            }
            LaneNews::Broken { association, why } => {
                self.tell(association, Request::Broken(association, why));
            }
            LaneNews::Event { event, at } => self.lane_event(key, queue, event, at),
            LaneNews::Stats(stats) => volume.stats(queue, &stats, &mut self.fx),
            LaneNews::Ended { had, failure } => self.lane_ended(key, queue, &had, failure),
        }
    }

    fn lane_event(&mut self, key: VolumeKey, queue: u16, event: LaneEvent, at: Duration) {
        let volume = same(&mut self.volumes, key).expect("a volume whose thread reports");
        volume.lane_event(queue, event, at, &mut self.fx);
        match event {
            // The controller refused a command with an ANA status: read its ANA log.
            LaneEvent::AnaStatus { association, .. } => {
                self.tell(association, Request::RefreshAna(association));
            }
            LaneEvent::Overdue {
                association,
                since,
                cid,
                ..
            } => {
                let qid = volume.qid_on(association, queue);
                let stuck = qid.zip(cid).map(|(qid, cid)| Stuck { qid, cid, since });
                self.tell(association, Request::Overdue(association, since, stuck));
            }
            LaneEvent::QueueSilent {
                association,
                mutations,
                ..
            } => self.queue_cut_off(key, queue, association, mutations),
            _ => {}
        }
    }

    /// A queue thread has ended: destroys what it held; nothing waits for it any more.
    fn lane_ended(
        &mut self,
        key: VolumeKey,
        queue: u16,
        had: &[AssociationId],
        failure: Option<String>,
    ) {
        if let Some(why) = failure {
            // Nobody knows what the failed thread has in flight on associations that live on, and
            // its requests have no server. A restart corrects both: the next process fences every
            // association before it writes anything, and the driver hands it the requests again.
            let name = self.volumes.get(&key.id).map_or("", Volume::name);
            let words = format!("queue thread {queue} of {name} failed: {why}");
            return self.fx.order(Order::LeaveToSuccessor(words));
        }
        let now = self.fx.now;
        // One of an attempt that fails half-way was never a part of the volume.
        let volume = same(&mut self.volumes, key).filter(|volume| volume.is_built());
        if let Some(volume) = volume {
            volume.lane_gone(queue, &mut self.fx);
            if volume.is_discarded() {
                self.volumes.remove(&key.id);
                self.retry_those_waiting_for(key.id);
            }
        }
        self.forget_replacements(key, queue);
        for association in had {
            let found = self.path_with(*association).map(|(path, _)| path);
            if let Some(live) = found.and_then(|path| self.live_mut(path)) {
                // The queue pair falls silent only once it is destroyed.
                live.leaving.insert(QueueKey::Lane(key, queue));
            }
            self.destroying.insert((*association, key, queue));
            self.fx.order(Order::Destroy {
                association: *association,
                remains: Remains::Lane(key, queue),
                report: true,
            });
        }
        let waits = |teardown: &super::Teardown| teardown.lanes.contains(&(key, queue));
        let waiting: Vec<AssociationId> = self
            .teardowns
            .iter()
            .filter(|(_, teardown)| waits(teardown))
            .map(|(association, _)| *association)
            .collect();
        for association in waiting {
            // One that it still held, or had handed back undrained, is silent once destroyed, no sooner.
            if !self.destroying.contains(&(association, key, queue)) {
                self.queue_silent(association, QueueKey::Lane(key, queue), now);
            }
            self.lane_drained(key, queue, association);
        }
    }
}
