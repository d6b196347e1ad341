//! Keeping queues: what their descriptors report, and how they end.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use tracing::{debug, info, warn};
use umpath_rdma::CmEvent;

use super::flow::Flow;
use super::queue::Retired;
use super::ring::Tag;

impl Flow {
    pub(super) fn watch_again(&mut self, tag: Tag) -> io::Result<()> {
        let (Tag::Completions(key) | Tag::Connection(key)) = tag else {
            return Ok(());
        };
        let Some(queue) = self.queues.get_mut(key as usize) else {
            return Ok(());
        };
        let Some(transport) = queue.live() else {
            return Ok(());
        };
        let fd = match tag {
            Tag::Completions(_) => transport.completion_fd(),
            _ => transport.cm_fd(),
        };
        self.ring.watch(fd, tag)
    }

    #[expect(clippy::unnecessary_wraps, reason = "one shape for all wake-ups")]
    pub(super) fn completions_woke(&mut self, key: u32) -> io::Result<()> {
        let Some(queue) = self.queues.get_mut(key as usize) else {
            return Ok(());
        };
        queue.armed = false;
        let Some(transport) = queue.live() else {
            return Ok(());
        };
        if let Err(error) = transport.take_completion_events() {
            self.fail(key, &error);
        }
        Ok(())
    }

    pub(super) fn connection_woke(&mut self, key: u32) {
        loop {
            let Some(queue) = self.queues.get_mut(key as usize) else {
                return;
            };
            let Some(transport) = queue.live() else {
                return;
            };
            match transport.cm_event() {
                Ok(Some(CmEvent::Disconnected | CmEvent::DeviceRemoved)) => {
                    debug!(id = queue.id.0, "the host closed a queue");
                    self.close(key);
                }
                Ok(Some(_)) => {}
                Ok(None) => return,
                Err(error) => self.fail(key, &error),
            }
        }
    }

    /// Lets go of queues that are drained and of requests no device works on any more.
    ///
    /// `polled`: a time after which all queues were polled. Of a process that was stopped in between
    /// a later one would say that hosts take no responses.
    pub(super) fn end_queues(&mut self, polled: Instant) -> io::Result<()> {
        for position in (0..self.keys.len()).rev() {
            let key = self.keys[position];
            let queue = &mut self.queues[key as usize];
            if queue.is_overdue() {
                info!(
                    id = queue.id.0,
                    "a host connected and sent no Connect command"
                );
                self.close(key);
                continue;
            }
            if queue.takes_nothing(polled) {
                let (cntlid, id) = (queue.cntlid(), queue.id.0);
                warn!(cntlid, id, "a host takes no responses, its queue is closed");
                self.close(key);
                continue;
            }
            if !queue.is_closing() {
                continue;
            }
            let (hub, id, fresh) = (Arc::clone(&self.hub), queue.id, queue.is_fresh());
            let retired = queue.try_retire(move || hub.destroyed(id, fresh));
            if retired != Retired::NotYet {
                self.ring.unwatch(Tag::Completions(key))?;
                self.ring.unwatch(Tag::Connection(key))?;
            }
            if retired == Retired::Drained {
                self.retire_all_of(key);
            }
            if self.queues[key as usize].is_over() {
                let queue = self.queues.remove(key as usize);
                if queue.refused > 0 {
                    let (cntlid, refused) = (queue.cntlid(), queue.refused);
                    warn!(
                        cntlid,
                        refused, "commands came too late and were not executed"
                    );
                }
                self.keys.swap_remove(position);
            }
        }
        Ok(())
    }

    /// A queue pair that was let go of is destroyed.
    pub(super) fn destroyed(&mut self, key: u32) {
        self.queues[key as usize].destroyed();
        self.retire_all_of(key);
    }
}
