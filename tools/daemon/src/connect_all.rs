//! Discovery, connect-all, and the connections the configuration keeps up.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use umpath_host::ignored_subsystem;
use umpath_host::record::Asked;
use umpath_protocol::{ConnectOptions, DiscoveryListing, Failure, PathOutcome, Portal, Reply};
use umpath_session::{Backoff, BackoffPolicy};

use crate::clock;
use crate::config::{DiscoveryLine, read_discovery_conf};
use crate::context::Context;
use crate::discovery::{discover, listing, offers, resolve};
use crate::message::{Message, Wanted};

/// The portals to ask: the given one, or every line of `discovery.conf`.
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
        Failure::new("no portal given", why, fix)
    })
}

/// `umpath discover`.
pub(crate) async fn discover_verb(
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
        match discover(
            &line.portal,
            &line.options,
            &context.config,
            &context.identity,
        )
        .await
        {
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
pub(crate) async fn connect_all_verb(
    context: Arc<Context>,
    shell: mpsc::UnboundedSender<Message>,
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
        let found = discover(
            &line.portal,
            &line.options,
            &context.config,
            &context.identity,
        )
        .await;
        match found {
            Ok(log) => {
                for (portal, nqn) in offers(&line.portal, &log) {
                    if let Some(failure) = ignored_subsystem(&context.settings(), &nqn) {
                        log_ignored(&shell, &mut ignored, failure);
                        continue;
                    }
                    let path = connect(shell.clone(), asked(portal, nqn, &line.options), By::Hand);
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

/// Logs each ignored subsystem once per list.
fn log_ignored(
    shell: &mpsc::UnboundedSender<Message>,
    logged: &mut Vec<Failure>,
    failure: Failure,
) {
    if !logged.contains(&failure) {
        let _ = shell.send(Message::Ignored(failure.clone()));
        logged.push(failure);
    }
}

/// The record of a path that was found or requested.
fn asked(portal: Portal, nqn: String, options: &ConnectOptions) -> Asked {
    Asked {
        portal,
        nqn,
        options: options.clone(),
        number: None,
    }
}

/// `umpath connect`.
pub(crate) async fn connect_verb(
    shell: mpsc::UnboundedSender<Message>,
    portal: Portal,
    nqn: String,
    options: ConnectOptions,
) -> Reply {
    match connect(shell, asked(portal, nqn, &options), By::Hand).await {
        // A user who names an ignored subsystem is told why nothing was connected.
        Ok(mut path) if path.volumes.is_empty() && !path.ignored.is_empty() => {
            Reply::Failed(path.ignored.swap_remove(0))
        }
        Ok(path) => Reply::Connected {
            paths: vec![path],
            failures: Vec::new(),
            ignored: Vec::new(),
        },
        Err(failure) => Reply::Failed(failure),
    }
}

/// Who requests a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum By {
    /// An operator.
    Hand,
    /// The configuration names it.
    Configuration,
    /// A portal of the configuration offers it, now or again.
    Discovery,
}

/// Requests a path and waits for the outcome.
async fn connect(
    shell: mpsc::UnboundedSender<Message>,
    asked: Asked,
    by: By,
) -> Result<PathOutcome, Failure> {
    let portal = resolve(&asked.portal).await.map_err(|why| {
        let fix = "umpath connect -t rdma -a ADDRESS [-s PORT] -n NQN";
        Failure::new(
            format!(
                "cannot connect to {:?} at {}",
                asked.nqn, asked.portal.traddr
            ),
            why,
            fix,
        )
    })?;
    let (reply, answer) = oneshot::channel();
    let wanted = Wanted {
        asked: Asked { portal, ..asked },
        standing: by != By::Hand,
        rediscovered: by == By::Discovery,
        reply: Some(reply),
    };
    // If the shell is gone, the message is dropped and with it the reply channel.
    let _ = shell.send(Message::Connect(Box::new(wanted)));
    answer
        .await
        .unwrap_or_else(|_| Err(Failure::new("umpathd is stopping", "", "")))
}

/// Keeps every subsystem of a portal connected: retries until it answers, then asks periodically.
pub(crate) async fn keep_portal(
    context: Arc<Context>,
    shell: mpsc::UnboundedSender<Message>,
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
        let found = discover(
            &line.portal,
            &line.options,
            &context.config,
            &context.identity,
        )
        .await;
        let pause = match found {
            Ok(log) => {
                backoff.reset();
                known_failure.clear();
                for (portal, nqn) in offers(&line.portal, &log) {
                    if let Some(failure) = ignored_subsystem(&context.settings(), &nqn) {
                        log_ignored(&shell, &mut ignored, failure);
                        continue;
                    }
                    let asked = asked(portal, nqn, &line.options);
                    let path = connect(shell.clone(), asked, By::Discovery);
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
        if shell.is_closed() {
            return;
        }
        tokio::time::sleep(pause).await;
    }
}

/// Requests one path until its portal resolves; from then on the host keeps the path.
pub(crate) async fn keep_path(
    context: Arc<Context>,
    shell: mpsc::UnboundedSender<Message>,
    asked: Asked,
) {
    let pause = Duration::from_millis(context.config.defaults.reconnect_delay_max_ms);
    while let Err(why) = resolve(&asked.portal).await {
        tracing::warn!(
            "cannot connect to {} at {}: {why}; trying again",
            asked.nqn,
            asked.portal.traddr
        );
        tokio::time::sleep(pause).await;
    }
    // The event log reports what becomes of it.
    let _ = connect(shell, asked, By::Configuration).await;
}
