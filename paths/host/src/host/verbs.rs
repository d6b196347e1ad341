//! Requests of the control socket.

use umpath_protocol::{Reply, Request};

use super::{Hub, connect_all};
use crate::server::Call;

impl Hub {
    pub(super) fn call(&mut self, call: Call) {
        let Call { request, reply } = call;
        let context = self.context.clone();
        match request {
            Request::Snapshot => {
                let _ = reply.send(Reply::Snapshot(Box::new(self.snapshot())));
            }
            Request::Events => {
                let _ = reply.send(Reply::Events(context.events.listing()));
            }
            Request::Stats => self.ask_counters(reply),
            Request::Config => {
                let _ = reply.send(Reply::Config(context.config.to_toml()));
            }
            Request::Queueing { volume, on } => {
                let _ = reply.send(self.queueing(volume.as_deref(), on));
            }
            Request::Discover { portal, hostnqn } => {
                tokio::spawn(async move {
                    let _ = reply.send(connect_all::discover_verb(context, portal, hostnqn).await);
                });
            }
            Request::Connect {
                portal,
                nqn,
                options,
            } => {
                let hub = self.outbox.clone();
                tokio::spawn(async move {
                    let answer = connect_all::connect(hub, portal, nqn, options, false).await;
                    let _ = reply.send(match answer {
                        // Who names a subsystem wants to know why nothing came of it.
                        Ok(mut path) if path.volumes.is_empty() && !path.ignored.is_empty() => {
                            Reply::Failed(path.ignored.swap_remove(0))
                        }
                        Ok(path) => Reply::Connected {
                            paths: vec![path],
                            failures: Vec::new(),
                            ignored: Vec::new(),
                        },
                        Err(failure) => Reply::Failed(failure),
                    });
                });
            }
            Request::ConnectAll { portal, options } => {
                let hub = self.outbox.clone();
                tokio::spawn(async move {
                    let answer = connect_all::connect_all_verb(context, hub, portal, options);
                    let _ = reply.send(answer.await);
                });
            }
            Request::Steer(steer) => {
                let _ = reply.send(self.steer(steer));
            }
            Request::Disconnect { target, force } => self.disconnect(&target, force, reply),
        }
        self.settle();
    }

    fn queueing(&mut self, wanted: Option<&str>, on: bool) -> Reply {
        let ids = match self.named_or_any(wanted, "queueing was not changed") {
            Ok(ids) => ids,
            Err(failure) => return Reply::Failed(failure),
        };
        let mut changed = Vec::new();
        for id in ids {
            if let Some(volume) = self.volumes.get_mut(&id) {
                volume.set_queueing(on);
                changed.push(volume.name().to_owned());
            }
        }
        let words = if on { "waits" } else { "fails" };
        Reply::Done(format!(
            "I/O without a path {words}: {}\n",
            changed.join(" ")
        ))
    }
}
