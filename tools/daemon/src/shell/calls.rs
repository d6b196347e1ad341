//! Requests of the control socket.

use umpath_host::order::Verb;
use umpath_protocol::{DaemonView, Reply, Request};

use super::{Asker, Shell, Wanted};
use crate::clock;
use crate::connect_all;
use crate::links::device_names;
use crate::server::Call;
use crate::spec::path_spec;

impl Shell {
    pub(super) fn call(&mut self, call: Call) {
        let Call { request, reply } = call;
        let now = clock::now();
        self.host.handle_wall_clock(clock::unix_ms(), now);
        let (context, outbox) = (self.context.clone(), self.outbox.clone());
        let verb = match request {
            Request::Snapshot => {
                let snapshot = self.host.snapshot(self.daemon_view());
                let _ = reply.send(Reply::Snapshot(Box::new(snapshot)));
                return;
            }
            Request::Events => {
                let _ = reply.send(Reply::Events(self.host.events()));
                return;
            }
            Request::Config => {
                let _ = reply.send(Reply::Config(context.config.to_toml()));
                return;
            }
            Request::Discover { portal, hostnqn } => {
                tokio::spawn(async move {
                    let _ = reply.send(connect_all::discover_verb(context, portal, hostnqn).await);
                });
                return;
            }
            Request::Connect {
                portal,
                nqn,
                options,
            } => {
                tokio::spawn(async move {
                    let answer = connect_all::connect_verb(outbox, portal, nqn, options);
                    let _ = reply.send(answer.await);
                });
                return;
            }
            Request::ConnectAll { portal, options } => {
                tokio::spawn(async move {
                    let answer = connect_all::connect_all_verb(context, outbox, portal, options);
                    let _ = reply.send(answer.await);
                });
                return;
            }
            Request::Stats => Verb::Stats,
            Request::Queueing { volume, on } => Verb::Queueing { volume, on },
            Request::Steer(steer) => Verb::Steer(steer),
            Request::Disconnect { target, force } => Verb::Disconnect { target, force },
        };
        let call = self.ask(Asker::Reply(reply));
        self.host.handle_verb(call, verb, now);
    }

    /// Makes a path.
    pub(super) fn connect(&mut self, wanted: Wanted) {
        let Wanted {
            asked,
            standing,
            rediscovered,
            reply,
        } = wanted;
        let now = clock::now();
        let context = &self.context;
        match path_spec(&asked, &context.config, &context.identity) {
            Ok(spec) => {
                let call = reply.map(|reply| self.ask(Asker::Path(reply)));
                let wanted = umpath_host::Wanted {
                    spec,
                    asked,
                    standing,
                    rediscovered,
                    call,
                };
                self.host.handle_connect(wanted, now);
            }
            Err(failure) => {
                self.host.note_refused(&failure, now);
                if let Some(reply) = reply {
                    let _ = reply.send(Err(failure));
                }
            }
        }
    }

    fn daemon_view(&self) -> DaemonView {
        let context = &self.context;
        DaemonView {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            uptime_ms: clock::now().as_millis() as u64,
            hostnqn: context.identity.nqn.to_string(),
            hostid: context.identity.id.to_string(),
            rdma_devices: device_names(),
            detection: crate::detection::explain(&context.config.defaults),
            // The host knows.
            orphans: Vec::new(),
        }
    }
}
