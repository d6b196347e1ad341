//! Discovery, connect-all, and the connections the configuration wants to stand.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use umpath_protocol::{ConnectOptions, DiscoveryListing, Failure, PathOutcome, Portal, Reply};
use umpath_session::{Backoff, BackoffPolicy};

use super::{Context, Hub, Message, Wanted, ignore};
use crate::clock;
use crate::config::{DiscoveryLine, read_discovery_conf};
use crate::discovery::{discover, listing, offers, resolve};
use crate::events::Subject;

/// Who is asked: one portal, or every line of `discovery.conf`.
fn portals(
    context: &Context,
    portal: Option<Portal>,
    options: &ConnectOptions,
) -> Result<Vec<DiscoveryLine>, Failure> {
    if let Some(portal) = portal {
        return Ok(vec![DiscoveryLine {
            portal,
            options: options.clone(),
        }]);
    }
    read_discovery_conf(&context.discovery_conf).map_err(|why| {
        let fix = "name a portal (-t rdma -a ADDRESS), or list portals in discovery.conf, one line \
                   each: --transport rdma --traddr 1.1.1.1 --trsvcid 4420";
        Failure::new("no portal to ask", why, fix)
    })
}

/// `umpath discover`.
pub(super) async fn discover_verb(
    context: Arc<Context>,
    portal: Option<Portal>,
    hostnqn: Option<String>,
) -> Reply {
    let options = ConnectOptions {
        hostnqn,
        ..ConnectOptions::default()
    };
    let lines = match portals(&context, portal, &options) {
        Ok(lines) => lines,
        Err(failure) => return Reply::Failed(failure),
    };
    let several = lines.len() > 1;
    let mut listings: Vec<DiscoveryListing> = Vec::new();
    let mut last = None;
    for line in lines {
        match discover(&line.portal, &line.options, &context.config, &context.host).await {
            Ok(log) => listings.push(listing(&line.portal, &log)),
            Err(failure) if several => {
                tracing::warn!("{failure}");
                last = Some(failure);
            }
            Err(failure) => return Reply::Failed(failure),
        }
    }
    match last {
        Some(failure) if listings.is_empty() => Reply::Failed(failure),
        _ => Reply::Discovery(listings),
    }
}

/// `umpath connect-all`.
pub(super) async fn connect_all_verb(
    context: Arc<Context>,
    hub: mpsc::UnboundedSender<Message>,
    portal: Option<Portal>,
    options: ConnectOptions,
) -> Reply {
    let lines = match portals(&context, portal, &options) {
        Ok(lines) => lines,
        Err(failure) => return Reply::Failed(failure),
    };
    let (mut paths, mut failures, mut waiting) = (Vec::new(), Vec::new(), Vec::new());
    let mut ignored: Vec<Failure> = Vec::new();
    for line in lines {
        let found = discover(&line.portal, &line.options, &context.config, &context.host).await;
        match found {
            Ok(log) => {
                for (portal, nqn) in offers(&line.portal, &log) {
                    if let Some(failure) = ignore::subsystem(&context.config, &nqn) {
                        leave_alone(&context, &mut ignored, failure);
                        continue;
                    }
                    let path = connect(hub.clone(), portal, nqn, line.options.clone(), false);
                    waiting.push(tokio::spawn(path));
                }
            }
            Err(failure) => failures.push(failure),
        }
    }
    for answer in waiting {
        match answer.await {
            Ok(Ok(path)) if path.volumes.is_empty() && !path.ignored.is_empty() => {
                ignored.extend(path.ignored);
            }
            Ok(Ok(path)) => paths.push(path),
            Ok(Err(failure)) => failures.push(failure),
            Err(error) => failures.push(Failure::new("umpathd", error.to_string(), "")),
        }
    }
    match failures.pop() {
        Some(failure) if paths.is_empty() && failures.is_empty() => Reply::Failed(failure),
        last => {
            failures.extend(last);
            Reply::Connected {
                paths,
                failures,
                ignored,
            }
        }
    }
}

/// Tells the event log of a subsystem that is left alone, once for each list.
fn leave_alone(context: &Context, told: &mut Vec<Failure>, failure: Failure) {
    if !told.contains(&failure) {
        ignore::note(&context.events, Subject::default(), &failure);
        told.push(failure);
    }
}

/// Asks the hub for a path and waits for it.
pub(super) async fn connect(
    hub: mpsc::UnboundedSender<Message>,
    portal: Portal,
    nqn: String,
    options: ConnectOptions,
    standing: bool,
) -> Result<PathOutcome, Failure> {
    let portal = resolve(&portal).await.map_err(|why| {
        let fix = "umpath connect -t rdma -a ADDRESS [-s PORT] -n NQN";
        Failure::new(
            format!("cannot connect to {nqn:?} at {}", portal.traddr),
            why,
            fix,
        )
    })?;
    let (reply, answer) = oneshot::channel();
    let wanted = Wanted {
        portal,
        nqn,
        options,
        standing,
        reply: Some(reply),
    };
    // A hub that is gone drops the message, and with it the asker's hope.
    let _ = hub.send(Message::Connect(Box::new(wanted)));
    answer
        .await
        .unwrap_or_else(|_| Err(Failure::new("umpathd is stopping", "", "")))
}

/// Keeps every subsystem of a portal connected: asks until it answers, then now and again.
async fn keep_portal(
    context: Arc<Context>,
    hub: mpsc::UnboundedSender<Message>,
    line: DiscoveryLine,
) {
    let defaults = &context.config.defaults;
    let mut backoff = Backoff::new(BackoffPolicy {
        base: Duration::from_millis(defaults.reconnect_delay_ms),
        cap: Duration::from_millis(defaults.reconnect_delay_max_ms),
    });
    let mut known_failure = String::new();
    let mut ignored = Vec::new();
    loop {
        let found = discover(&line.portal, &line.options, &context.config, &context.host).await;
        let pause = match found {
            Ok(log) => {
                backoff.reset();
                known_failure.clear();
                for (portal, nqn) in offers(&line.portal, &log) {
                    if let Some(failure) = ignore::subsystem(&context.config, &nqn) {
                        leave_alone(&context, &mut ignored, failure);
                        continue;
                    }
                    let path = connect(hub.clone(), portal, nqn, line.options.clone(), true);
                    tokio::spawn(path);
                }
                Duration::from_millis(defaults.rediscover_ms)
            }
            Err(failure) => {
                if known_failure != failure.why {
                    tracing::warn!("{failure}; asking again");
                    known_failure = failure.why;
                }
                backoff.draw(clock::random())
            }
        };
        if hub.is_closed() {
            return;
        }
        tokio::time::sleep(pause).await;
    }
}

/// Keeps one path: asks until its portal is understood; from then on the path lasts by itself.
async fn keep_path(
    context: Arc<Context>,
    hub: mpsc::UnboundedSender<Message>,
    line: DiscoveryLine,
    nqn: String,
) {
    let pause = Duration::from_millis(context.config.defaults.reconnect_delay_max_ms);
    while let Err(why) = resolve(&line.portal).await {
        tracing::warn!(
            "cannot connect to {nqn} at {}: {why}; trying again",
            line.portal.traddr
        );
        tokio::time::sleep(pause).await;
    }
    // What becomes of it is in the event log.
    let _ = connect(hub, line.portal, nqn, line.options, true).await;
}

impl Hub {
    /// Begins what the configuration wants to stand.
    pub(super) fn start_standing(&self) {
        let context = &self.context;
        for entry in &context.config.connect {
            for portal in entry.portals() {
                let line = DiscoveryLine {
                    portal,
                    options: entry.options(),
                };
                for nqn in &entry.nqns {
                    let (context, hub) = (context.clone(), self.outbox.clone());
                    tokio::spawn(keep_path(context, hub, line.clone(), nqn.clone()));
                }
                if entry.nqns.is_empty() {
                    self.keep(line);
                }
            }
        }
        if context.config.control.discovery_conf {
            match read_discovery_conf(&context.discovery_conf) {
                Ok(lines) => lines.into_iter().for_each(|line| self.keep(line)),
                Err(why) => tracing::warn!("{why}"),
            }
        }
    }

    fn keep(&self, line: DiscoveryLine) {
        tokio::spawn(keep_portal(self.context.clone(), self.outbox.clone(), line));
    }
}
