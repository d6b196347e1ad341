//! Counters of all volumes: asked of the queue threads, told when all have answered.

use std::time::Duration;

use tokio::sync::oneshot;
use umpath_protocol::{Reply, StatsListing};
use umpath_session::StableId;

use super::{Hub, Message};

/// Queue threads answer at once. One that does not within all these looks hangs.
const LOOK: Duration = Duration::from_millis(10);
const LOOKS_MAX: u32 = 100;

/// A question for counters.
#[derive(Debug)]
pub(crate) struct Question {
    reply: oneshot::Sender<Reply>,
    /// Volumes asked, and what each said to come back with.
    tickets: Vec<(StableId, u64)>,
    looks: u32,
}

impl Hub {
    pub(super) fn ask_counters(&mut self, reply: oneshot::Sender<Reply>) {
        let volumes = self.volumes.iter_mut();
        let tickets = volumes
            .map(|(id, volume)| (*id, volume.ask_counters()))
            .collect();
        self.look_at_counters(Question {
            reply,
            tickets,
            looks: 0,
        });
    }

    /// Answers, or looks again a moment later.
    pub(super) fn look_at_counters(&mut self, mut question: Question) {
        let known = |(id, ticket): &(StableId, u64)| Some((self.volumes.get(id)?, *ticket));
        let asked = || question.tickets.iter().filter_map(known);
        let complete = asked().all(|(volume, ticket)| volume.silent(ticket) == 0);
        if complete || question.looks >= LOOKS_MAX {
            let mut volumes: Vec<_> = asked()
                .map(|(volume, ticket)| volume.counters(ticket))
                .collect();
            // ublkb2 before ublkb10.
            volumes.sort_by_key(|volume| (volume.device.len(), volume.device.clone()));
            let _ = question.reply.send(Reply::Stats(StatsListing { volumes }));
            return;
        }
        question.looks += 1;
        let outbox = self.outbox.clone();
        tokio::spawn(async move {
            tokio::time::sleep(LOOK).await;
            let _ = outbox.send(Message::Counters(question));
        });
    }
}
