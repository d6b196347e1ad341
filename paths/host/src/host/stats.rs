//! Counters of all volumes: requested from the queue threads, reported once all have answered.

use std::time::Duration;

use umpath_protocol::{Reply, StatsListing};

use super::Host;
use crate::order::CallId;
use crate::spec::VolumeKey;

/// Queue threads answer at once. One that has not after `CHECKS_MAX` checks hangs.
const CHECK_EVERY: Duration = Duration::from_millis(10);
const CHECKS_MAX: u32 = 100;

/// A request for counters.
#[derive(Debug)]
pub(super) struct Question {
    call: CallId,
    /// Volumes asked, each with the ticket of the request.
    tickets: Vec<(VolumeKey, u64)>,
    checks: u32,
    check_at: Duration,
}

impl Question {
    pub(super) fn poll_timeout(&self) -> Duration {
        self.check_at
    }
}

impl Host {
    pub(super) fn ask_counters(&mut self, call: CallId) {
        let mut tickets = Vec::new();
        let asked = self.volumes.values_mut().filter(|it| !it.is_unseen());
        for volume in asked {
            tickets.push((volume.key(), volume.ask_counters(&mut self.fx)));
        }
        self.questions.push(Question {
            call,
            tickets,
            checks: 0,
            check_at: self.fx.now,
        });
        self.questions_due();
    }

    /// Answers requests that are complete and schedules a check of the others.
    pub(super) fn questions_due(&mut self) {
        let now = self.fx.now;
        let mut open = std::mem::take(&mut self.questions);
        open.retain_mut(|question| {
            if question.check_at > now {
                return true;
            }
            let known = |(key, ticket): &(VolumeKey, u64)| {
                let volume = self.volumes.get(&key.id);
                Some((volume.filter(|volume| volume.key() == *key)?, *ticket))
            };
            let asked = || question.tickets.iter().filter_map(known);
            let complete = asked().all(|(volume, ticket)| volume.silent(ticket) == 0);
            if !complete && question.checks < CHECKS_MAX {
                question.checks += 1;
                question.check_at = now + CHECK_EVERY;
                return true;
            }
            let mut volumes: Vec<_> = asked()
                .map(|(volume, ticket)| volume.counters(ticket))
                .collect();
            // ublkb2 before ublkb10.
            volumes.sort_by_key(|volume| (volume.device.len(), volume.device.clone()));
            self.reply(question.call, Reply::Stats(StatsListing { volumes }));
            false
        });
        self.questions = open;
    }
}
