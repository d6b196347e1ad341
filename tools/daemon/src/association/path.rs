//! The task of one path: connect, watch, lose, connect again.
//!
//! The task owns the association's admin queue and its health. I/O queues go to the hub with
//! [`Report::Up`]. After a loss the old association's admin queue is drained by a task of its own,
//! so that a slow teardown never delays the next attempt.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use umpath_core::association::{Aborts, Health, HealthConfig, Patience, Verdict as Judgement};
use umpath_core::{AssociationId, PathId, VolumeShared};
use umpath_nvme::Nqn;
use umpath_nvme::command::Instance;
use umpath_protocol::Failure;
use umpath_rdma::{ConnectParams, VerbsError};
use umpath_session::{
    Controller, Event, IoCommand, Ready, Reconnect, ReconnectPolicy, ResetAnswer, ResetRecord,
    SessionConfig, SessionError, Verdict,
};

use super::driver::Driver;
use super::report::{Order, Report, Reporter, Up};
use super::{explain, teardown};
use crate::clock;
use crate::hub::Message;
use crate::links::{Link, Links};

/// Everything that stays the same over a path's life.
#[derive(Debug, Clone)]
pub(crate) struct PathSpec {
    /// Number of the path.
    pub(crate) id: u32,
    /// The controller's address.
    pub(crate) traddr: SocketAddr,
    /// Local address, when one was chosen.
    pub(crate) host_traddr: Option<IpAddr>,
    /// The subsystem.
    pub(crate) nqn: Nqn,
    /// What to ask of the controller.
    pub(crate) session: SessionConfig,
    /// How to connect.
    pub(crate) connect: ConnectParams,
    /// When to try again.
    pub(crate) reconnect: ReconnectPolicy,
    /// When evidence becomes a verdict.
    pub(crate) health: HealthConfig,
    /// Longest wait for a queue pair that is torn down.
    pub(crate) drain_deadline: Duration,
    /// Preferred by configuration.
    pub(crate) preferred: bool,
    /// Priority for the `weighted` prioritizer.
    pub(crate) weight: i32,
    /// Throughput relative to other paths, 0 to 100.
    pub(crate) throughput: u8,
}

impl PathSpec {
    /// `rdma,192.168.10.14:4420`
    pub(crate) fn address(&self) -> String {
        format!("rdma,{}", self.traddr)
    }
}

/// How an association ended.
enum End {
    /// As ordered.
    Shutdown,
    /// It was lost, or an attempt failed.
    Lost {
        refused: bool,
        error: Option<SessionError>,
    },
}

/// Runs a path until it is shut down or given up.
pub(crate) async fn run(
    spec: PathSpec,
    links: Links,
    mut orders: mpsc::UnboundedReceiver<Order>,
    hub: mpsc::UnboundedSender<Message>,
) {
    let reporter = Reporter { path: spec.id, hub };
    let mut reconnect = Reconnect::new(spec.reconnect);
    // The link of the device the last association was on: its return ends a pause.
    let mut link = None;
    let mut patience = Patience::default();
    loop {
        let mut task = match Attempt::begin(&spec, &links, &reporter, link, patience) {
            Ok(task) => task,
            Err(failure) => {
                reporter.send(Report::Failed {
                    failure,
                    retry_at: None,
                });
                return;
            }
        };
        let end = task.run(&mut orders, &mut reconnect).await;
        link = task.link.take();
        patience = task.patience();
        task.finish();
        let (refused, error) = match end {
            End::Shutdown => break,
            End::Lost { refused, error } => (refused, error),
        };
        let verdict = reconnect.failed(clock::now(), refused, clock::random());
        let retry_at = match verdict {
            Verdict::RetryAt(at) => Some(at),
            Verdict::GiveUp { .. } => None,
        };
        if let Some(error) = error {
            let failure = explain(&format!("connect to {}", spec.nqn), &spec.address(), &error);
            reporter.send(Report::Failed { failure, retry_at });
        }
        let Some(retry_at) = retry_at else { break };
        if pause(retry_at, &mut orders, &mut link, &mut reconnect).await {
            break;
        }
    }
    reporter.send(Report::Ended);
}

/// Waits for the next attempt; `true` when the path is to end instead.
async fn pause(
    until: Duration,
    orders: &mut mpsc::UnboundedReceiver<Order>,
    link: &mut Option<watch::Receiver<Link>>,
    reconnect: &mut Reconnect,
) -> bool {
    loop {
        tokio::select! {
            change = link_change(link) => match change {
                Some(Link::Up) => {
                    reconnect.encourage();
                    return false;
                }
                Some(Link::Down(_)) => {}
                Some(Link::Fatal) | None => *link = None,
            },
            () = tokio::time::sleep_until(clock::instant(until)) => return false,
            order = orders.recv() => match order {
                None | Some(Order::Shutdown) => return true,
                Some(Order::Retry) => {
                    reconnect.encourage();
                    return false;
                }
                // For an association that is gone.
                Some(
                    Order::Serves(..)
                    | Order::Broken(..)
                    | Order::Overdue(..)
                    | Order::RefreshAna(_)
                    | Order::ResetOther(..)
                    | Order::ReadResets(_)
                    | Order::HostLost(_),
                ) => {}
            },
        }
    }
}

/// A link's watcher in the making; an error names the device.
type Watcher = JoinHandle<Result<watch::Receiver<Link>, (String, VerbsError)>>;

/// One association from its first packet to its end.
struct Attempt<'a> {
    spec: &'a PathSpec,
    links: &'a Links,
    reporter: &'a Reporter,
    association: AssociationId,
    driver: Driver<Controller>,
    /// Set once the association is ready.
    health: Option<Health>,
    /// What the association before this one has learnt.
    patience: Patience,
    link: Option<watch::Receiver<Link>>,
    /// The link's watcher while it is being made.
    watcher: Option<Watcher>,
    /// Commands the controller was asked to give back.
    aborts: Aborts,
    /// Volumes served, whose load is evidence.
    serves: Vec<(PathId, Arc<VolumeShared>)>,
    convicted: bool,
    stopping: bool,
}

impl<'a> Attempt<'a> {
    fn begin(
        spec: &'a PathSpec,
        links: &'a Links,
        reporter: &'a Reporter,
        link: Option<watch::Receiver<Link>>,
        patience: Patience,
    ) -> Result<Self, Failure> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let failed = |why: String, fix: &str| {
            let what = format!("cannot connect to {} at {}", spec.nqn, spec.address());
            Failure::new(what, why, fix)
        };
        let controller = Controller::new(spec.session.clone(), clock::now())
            .map_err(|error| failed(error.to_string(), "correct the option and connect again"))?;
        let driver = Driver::new(controller, spec.connect.clone())
            .map_err(|error| failed(error.to_string(), "free memory"))?;
        Ok(Self {
            spec,
            links,
            reporter,
            association: AssociationId(NEXT.fetch_add(1, Ordering::Relaxed)),
            driver,
            health: None,
            patience,
            link,
            watcher: None,
            aborts: Aborts::new(spec.health.io_slow),
            serves: Vec::new(),
            convicted: false,
            stopping: false,
        })
    }

    async fn run(
        &mut self,
        orders: &mut mpsc::UnboundedReceiver<Order>,
        reconnect: &mut Reconnect,
    ) -> End {
        loop {
            for event in self.driver.pump() {
                if let Some(end) = self.event(event, reconnect) {
                    return end;
                }
            }
            self.judge();
            if self.convicted {
                return End::Lost {
                    refused: false,
                    error: None,
                };
            }
            // A path that is being shut down is not judged any more.
            let judged = self.health.as_ref().filter(|_| !self.stopping);
            let health_due = judged.and_then(Health::poll_timeout);
            tokio::select! {
                biased;
                change = link_change(&mut self.link) => {
                    if self.link_changed(change) {
                        reconnect.encourage();
                        return End::Lost {
                            refused: false,
                            error: None,
                        };
                    }
                }
                made = watcher_made(&mut self.watcher) => self.watch_link(made),
                order = orders.recv() => match order {
                    None | Some(Order::Shutdown) => self.shut_down(),
                    Some(order) => self.order(order),
                },
                () = self.driver.step() => {}
                () = due(health_due) => {}
            }
        }
    }

    /// Handles a report of the session; `Some` when the association is over.
    fn event(&mut self, event: Event, reconnect: &mut Reconnect) -> Option<End> {
        let association = self.association;
        match event {
            Event::Ready(ready) => {
                reconnect.established(clock::now());
                self.ready(*ready);
            }
            Event::AnaChanged(table) => self.reporter.send(Report::Ana(association, table)),
            Event::NamespacesChanged(namespaces) => {
                self.reporter
                    .send(Report::Namespaces(association, namespaces));
            }
            Event::AnaStale(error) | Event::NamespacesStale(error) => {
                tracing::warn!(
                    path = self.spec.id,
                    "{error}; what was known stays in force"
                );
            }
            Event::KeepAlive {
                sent_at,
                answered_at,
            } => {
                if let Some(health) = &mut self.health {
                    health.keep_alive_answered(sent_at, answered_at);
                }
            }
            Event::KeepAliveMissed { count } => {
                if let Some(health) = &mut self.health {
                    health.keep_alive_missed(count, clock::now());
                }
            }
            Event::Reset { impacted, answer } => self.reporter.send(Report::Reset {
                association,
                impacted,
                answer,
            }),
            Event::Abort { command, answer } => {
                let (qid, cid) = (command.qid, command.cid);
                let asked = self.aborts.last_asked(qid, cid);
                if let Some(stuck) = asked {
                    self.reporter.send(Report::Abort { stuck, answer });
                }
            }
            Event::Resets(records) => self.reset_log(Some(records)),
            Event::ResetsUnknown(error) => {
                tracing::warn!(path = self.spec.id, "{error}");
                self.reset_log(None);
            }
            Event::LostHosts(lost) => self.reporter.send(Report::LostHosts(lost)),
            Event::Notice(notice) => {
                tracing::info!(path = self.spec.id, "asynchronous event: {notice:?}");
            }
            Event::Identified(_) | Event::Discovered(_) => {}
            Event::Closed { orderly } => {
                if !orderly {
                    tracing::info!(
                        path = self.spec.id,
                        "the controller did not confirm shutdown"
                    );
                }
                return Some(End::Shutdown);
            }
            Event::Failed(error) => return Some(self.failed(error)),
        }
        None
    }

    /// The session is over. A ready association is convicted; an attempt has just failed.
    fn failed(&mut self, error: SessionError) -> End {
        if self.stopping {
            return End::Shutdown;
        }
        let refused = error.is_refusal();
        if self.health.is_none() {
            return End::Lost {
                refused,
                error: Some(error),
            };
        }
        tracing::warn!(path = self.spec.id, "{error}");
        if let Some(health) = &mut self.health {
            health.session_failed(clock::now());
        }
        self.judge();
        End::Lost {
            refused,
            error: None,
        }
    }

    fn ready(&mut self, ready: Ready) {
        let now = clock::now();
        let (Some(domain), Some(port)) = (self.driver.domain().cloned(), self.driver.port()) else {
            return;
        };
        self.health = Some(Health::new(self.spec.health, self.patience, now));
        let (links, device) = (self.links.clone(), domain.device().to_owned());
        // The last association's may have been another port's: it says nothing of this one.
        self.link = None;
        // Elsewhere: opening a device takes a look at all of them.
        self.watcher = Some(tokio::task::spawn_blocking(move || {
            links.of(&device, port).map_err(|error| (device, error))
        }));
        let queues = self.driver.take_io_queues();
        let up = Up {
            association: self.association,
            ready,
            queues,
            domain,
        };
        self.reporter.send(Report::Up(Box::new(up)));
    }

    fn watch_link(&mut self, made: Result<watch::Receiver<Link>, (String, VerbsError)>) {
        match made {
            Ok(mut link) => {
                let known = *link.borrow_and_update();
                self.link = Some(link);
                self.link_changed(Some(known));
            }
            Err((device, error)) => tracing::warn!(
                path = self.spec.id,
                "cannot watch the link of {device}: {error}; keep-alives must tell",
            ),
        }
    }

    fn order(&mut self, order: Order) {
        let now = clock::now();
        match order {
            Order::Serves(association, path, shared) if association == self.association => {
                self.serves.push((path, shared));
            }
            Order::Broken(association, why) if association == self.association => {
                tracing::warn!(path = self.spec.id, "an I/O queue broke: {why}");
                if let Some(health) = &mut self.health {
                    health.queue_failed(now);
                }
            }
            Order::Overdue(association, since, stuck) if association == self.association => {
                if let Some(health) = &mut self.health {
                    health.io_overdue(since, now);
                }
                if let Some(stuck) = stuck {
                    let (qid, cid) = (stuck.qid, stuck.cid);
                    let session = self.driver.session();
                    self.aborts
                        .ask(stuck, now, || session.abort(IoCommand { qid, cid }, now));
                }
            }
            Order::RefreshAna(association) if association == self.association => {
                self.driver.session().refresh_ana(now);
            }
            Order::ResetOther(association, impacted) if association == self.association => {
                self.reset_other(impacted, now);
            }
            Order::ReadResets(association) if association == self.association => {
                self.driver.session().read_resets(now);
            }
            Order::HostLost(association) if association == self.association => {
                if let Some(health) = &mut self.health {
                    health.host_lost(now);
                }
            }
            // For an association that is gone, or nothing to hurry.
            _ => {}
        }
    }

    fn reset_other(&mut self, impacted: Instance, now: Duration) {
        if !self.driver.session().reset_other(impacted, now) {
            self.reporter.send(Report::Reset {
                association: self.association,
                impacted,
                answer: ResetAnswer::Unanswered,
            });
        }
    }

    fn reset_log(&self, records: Option<Vec<ResetRecord>>) {
        self.reporter.send(Report::ResetLog {
            association: self.association,
            records,
        });
    }

    fn shut_down(&mut self) {
        self.stopping = true;
        self.driver.session().shutdown(clock::now());
    }

    /// What has become of the link. True when a connection in the making should begin anew: what it
    /// sent while the link was down is lost, and the connection manager repeats it after seconds.
    fn link_changed(&mut self, change: Option<Link>) -> bool {
        // The watcher of a broken device ends with it; keep-alives must tell from now on.
        if matches!(change, None | Some(Link::Fatal)) {
            self.link = None;
        }
        let Some(health) = &mut self.health else {
            return change == Some(Link::Up);
        };
        match change {
            Some(Link::Up) => health.link_up(clock::now()),
            Some(Link::Down(at)) => health.link_down(at),
            Some(Link::Fatal) => health.device_fatal(clock::now()),
            None => {}
        }
        false
    }

    /// Lets health look at what is known and reports its verdicts.
    fn judge(&mut self) {
        let Some(health) = &mut self.health else {
            return;
        };
        if self.convicted || self.stopping {
            return;
        }
        let now = clock::now();
        let association = self.association;
        for (path, shared) in &self.serves {
            health.pulse(shared.pulse(*path), now);
        }
        match health.verdict(now) {
            None => {}
            Some(Judgement::Suspect(why)) => {
                self.reporter.send(Report::Suspect {
                    association,
                    at: now,
                    why,
                });
            }
            Some(Judgement::Clear) => self.reporter.send(Report::Clear {
                association,
                at: now,
            }),
            Some(Judgement::Convict(why)) => {
                self.convicted = true;
                self.reporter.send(Report::Convict {
                    association,
                    at: now,
                    why,
                });
            }
        }
    }

    /// For the next association.
    fn patience(&self) -> Patience {
        self.health.as_ref().map_or(self.patience, Health::patience)
    }

    /// Lets go of the admin queue, in the background.
    fn finish(self) {
        let halt = self.driver.halt();
        // After an end in good order as well: what was lost all the same waits for this moment.
        let ready = self.health.is_some();
        let silence = ready.then(|| (self.reporter.clone(), self.association));
        tokio::spawn(teardown::admin(halt, self.spec.drain_deadline, silence));
    }
}

async fn due(at: Option<Duration>) {
    match at {
        Some(at) => tokio::time::sleep_until(clock::instant(at)).await,
        None => std::future::pending().await,
    }
}

/// The link's watcher, once it is made.
async fn watcher_made(
    watcher: &mut Option<Watcher>,
) -> Result<watch::Receiver<Link>, (String, VerbsError)> {
    if let Some(making) = watcher {
        let made = making.await;
        *watcher = None;
        if let Ok(made) = made {
            return made;
        }
    }
    std::future::pending().await
}

/// The next change of the link; `None` when nobody watches it any more.
async fn link_change(link: &mut Option<watch::Receiver<Link>>) -> Option<Link> {
    match link {
        Some(receiver) => match receiver.changed().await {
            Ok(()) => Some(*receiver.borrow_and_update()),
            Err(_) => None,
        },
        None => std::future::pending().await,
    }
}
