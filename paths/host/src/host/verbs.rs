//! Operator requests.

use std::time::Duration;

use umpath_protocol::{DisconnectTarget, EventKind, Reply};

use super::Host;
use crate::events::Subject;
use crate::order::{Answer, CallId, Order, Verb};

impl Host {
    /// Handles an operator's request; [`Answer::Reply`] follows.
    pub fn handle_verb(&mut self, call: CallId, verb: Verb, now: Duration) {
        self.begin(now);
        match verb {
            Verb::Stats => self.ask_counters(call),
            Verb::Steer(steer) => {
                let reply = self.steer(steer);
                self.reply(call, reply);
            }
            Verb::Queueing { volume, on } => {
                let reply = self.queueing(volume.as_deref(), on);
                self.reply(call, reply);
            }
            Verb::Disconnect {
                target: DisconnectTarget::Device(name),
                force,
            } if self.delete_orphan(&name, force, call) => {}
            Verb::Disconnect { target, force } => self.disconnect(&target, force, Some(call)),
        }
        self.settle();
    }

    pub(super) fn reply(&mut self, call: CallId, reply: Reply) {
        self.fx.order(Order::Answer(call, Answer::Reply(reply)));
    }

    fn queueing(&mut self, wanted: Option<&str>, on: bool) -> Reply {
        let ids = match self.named_or_any(wanted, "queueing was not changed") {
            Ok(ids) => ids,
            Err(failure) => return Reply::Failed(failure),
        };
        let mut changed = Vec::new();
        for id in ids {
            let volume = self.volumes.get_mut(&id).expect("a volume that was named");
            volume.set_queueing(on, &mut self.fx);
            let name = volume.name().to_owned();
            let words = if on { "queueing on" } else { "queueing off" };
            let subject = Subject::volume(&name);
            self.fx.event(EventKind::PolicyChanged, subject, words);
            changed.push(name);
        }
        let words = if on { "waits" } else { "fails" };
        Reply::Done(format!(
            "I/O without a path {words}: {}\n",
            changed.join(" ")
        ))
    }
}
