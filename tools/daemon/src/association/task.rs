//! The task of one path.
//!
//! After a loss the old association's admin queue is drained by a task of its own, so that a slow
//! teardown never delays the next attempt.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use umpath_core::AssociationId;
use umpath_host::path::{AssociationNumbers, Link};
use umpath_host::{Path, PathOrder, PathSpec, Report, Request};
use umpath_rdma::{ConnectParams, VerbsError};

use super::driver::{Driver, Happened};
use super::teardown;
use crate::clock;
use crate::links::{self, Links};
use crate::message::{Brought, Message};

/// A timer that fires later than this says more about this machine than about the fabric.
const LATE: Duration = Duration::from_millis(100);

/// What every path's task is given.
#[derive(Debug, Clone)]
pub(crate) struct Around {
    pub(crate) links: Links,
    pub(crate) numbers: AssociationNumbers,
    pub(crate) shell: mpsc::UnboundedSender<Message>,
}

/// A link's watcher in the making; an error names the device.
type Watcher = JoinHandle<Result<watch::Receiver<Link>, (String, VerbsError)>>;

struct Task {
    path: Path,
    params: ConnectParams,
    around: Around,
    /// The association whose queues are here.
    current: Option<(AssociationId, Driver)>,
    link: Option<watch::Receiver<Link>>,
    /// The link's watcher while it is being made.
    watcher: Option<Watcher>,
    /// The association whose link is watched, and the device and port it has.
    watched: Option<(AssociationId, String, u8)>,
}

/// Runs a path until it ends.
pub(crate) async fn run(
    spec: PathSpec,
    params: ConnectParams,
    around: Around,
    mut requests: mpsc::UnboundedReceiver<Request>,
) {
    let numbers = around.numbers.clone();
    let mut task = Task {
        path: Path::new(spec, numbers, clock::random(), clock::now()),
        params,
        around,
        current: None,
        link: None,
        watcher: None,
        watched: None,
    };
    loop {
        while let Some(order) = task.path.poll_order() {
            task.carry_out(order);
        }
        if task.path.is_over() {
            return;
        }
        let due = task.path.poll_timeout();
        tokio::select! {
            biased;
            change = link_change(&mut task.link) => task.link_changed(change),
            made = watcher_made(&mut task.watcher) => task.watch_link(made),
            Some(request) = requests.recv() => task.path.handle_request(request, clock::now()),
            (association, happened) = next(&mut task.current) => {
                task.happened(association, happened);
            }
            () = clock::due(due) => {}
        }
        // Checked after every input: timers must not wait until nothing else happens.
        let due = task.path.poll_timeout();
        if due.is_some_and(|due| due <= clock::now()) {
            task.time_passed(due);
        }
    }
}

impl Task {
    fn carry_out(&mut self, order: PathOrder) {
        match order {
            PathOrder::OpenQueue {
                association,
                qid,
                cntlid,
                depth,
                in_capsule_bytes,
            } => match self.driver(association) {
                Ok(driver) => driver.open(qid, cntlid, depth, in_capsule_bytes),
                Err(error) => {
                    let (source, now) = (Arc::new(error), clock::now());
                    self.path.handle_queue_failed(association, qid, source, now);
                }
            },
            PathOrder::Send {
                association,
                qid,
                sqe,
                data,
            } => {
                let driver = self.at_hand(association);
                driver.send(qid, sqe, &data);
            }
            PathOrder::CloseQueue { association, qid } => self.at_hand(association).close(qid),
            PathOrder::WatchLink(association) => self.begin_to_watch(association),
            PathOrder::Release {
                association,
                report,
            } => self.release(association, report),
            PathOrder::Report(report) => self.report(report),
        }
    }

    /// The driver of an association, made with its first queue.
    fn driver(
        &mut self,
        association: AssociationId,
    ) -> Result<&mut Driver, umpath_rdma::ConnectError> {
        if self
            .current
            .as_ref()
            .is_none_or(|(known, _)| *known != association)
        {
            assert!(self.current.is_none(), "the last association was released");
            self.current = Some((association, Driver::new(self.params.clone())?));
        }
        let (_, driver) = self.current.as_mut().expect("it was just made");
        Ok(driver)
    }

    /// The driver of an association that has queues.
    fn at_hand(&mut self, association: AssociationId) -> &mut Driver {
        let (known, driver) = self.current.as_mut().expect("an association with queues");
        assert_eq!(*known, association, "only one association is at hand");
        driver
    }

    fn begin_to_watch(&mut self, association: AssociationId) {
        self.link = None;
        let driver = self.at_hand(association);
        let domain = driver.domain().expect("an association that is ready");
        let device = domain.device().to_owned();
        let port = driver.port().expect("an association that is ready");
        self.watched = Some((association, device.clone(), port));
        let links = self.around.links.clone();
        // Elsewhere: opening a device takes a look at all of them.
        self.watcher = Some(tokio::task::spawn_blocking(move || {
            links.of(&device, port).map_err(|error| (device, error))
        }));
    }

    fn watch_link(&mut self, made: Result<watch::Receiver<Link>, (String, VerbsError)>) {
        match made {
            Ok(mut link) => {
                let known = *link.borrow_and_update();
                self.link = Some(link);
                self.link_changed(known);
            }
            Err((device, error)) => tracing::warn!(
                path = self.path.spec().id,
                "cannot watch the link of {device}: {error}; keep-alives must tell",
            ),
        }
    }

    fn link_changed(&mut self, link: Link) {
        if matches!(link, Link::Fatal | Link::Unwatched) {
            self.link = None;
        }
        let (association, ..) = self.watched.as_ref().expect("a link that is watched");
        self.path.handle_link(*association, link, clock::now());
    }

    /// Lets go of what is left of an association, in the background.
    fn release(&mut self, association: AssociationId, report: bool) {
        let id = self.path.spec().id;
        let shell = self.around.shell.clone();
        let silent = move |at| {
            let report = Report::AdminSilent { association, at };
            // The shell outlives its paths; when it does not, the process is ending.
            let _ = shell.send(Message::Report(id, Box::new(report), None));
        };
        let Some((known, driver)) = self.current.take() else {
            // It never had a queue.
            assert!(!report, "an association that was ready has an admin queue");
            return;
        };
        assert_eq!(known, association, "the association at hand is released");
        let deadline = self.path.spec().drain_deadline;
        let silent = report.then_some(silent);
        tokio::spawn(teardown::admin(driver.halt(), deadline, silent));
    }

    /// Passes a report on, with what it brings.
    fn report(&mut self, mut report: Report) {
        let brought = match &mut report {
            Report::Up(up) => {
                let driver = self.at_hand(up.association);
                let domain = driver.domain().expect("an association that is ready");
                let domain = Arc::clone(domain);
                domain.device().clone_into(&mut up.device);
                up.node = links::node_of(domain.device());
                Some(Brought {
                    association: up.association,
                    queues: driver.take_queues(&up.ready.io_queues),
                    domain: Some(domain),
                })
            }
            Report::Queues(association, qids) => Some(Brought {
                association: *association,
                queues: self.at_hand(*association).take_queues(qids),
                domain: None,
            }),
            _ => None,
        };
        let id = self.path.spec().id;
        let message = Message::Report(id, Box::new(report), brought);
        // The shell outlives its paths; when it does not, the process is ending.
        let _ = self.around.shell.send(message);
    }

    fn happened(&mut self, association: AssociationId, happened: Happened) {
        let now = clock::now();
        if matches!(happened, Happened::Failed(..)) {
            self.look_at_link(association, now);
        }
        let path = &mut self.path;
        match happened {
            Happened::Connected(qid) => path.handle_queue_connected(association, qid, now),
            Happened::Failed(qid, source) => {
                path.handle_queue_failed(association, qid, source, now);
            }
            Happened::Response { qid, cqe, data } => {
                path.handle_response(association, qid, &cqe, &data, now);
            }
        }
    }

    /// A queue has failed: what the link says of it comes first, and its watcher may hear of it later.
    fn look_at_link(&mut self, association: AssociationId, now: Duration) {
        if let Some((watched, device, port)) = &self.watched
            && *watched == association
            && links::is_down(device, *port)
        {
            self.path.handle_link(association, Link::Down(now), now);
        }
    }

    fn time_passed(&mut self, due: Option<Duration>) {
        let now = clock::now();
        let late = due.map_or(Duration::ZERO, |due| now.saturating_sub(due));
        if late > LATE {
            // The controller counts this time against us: a loss that follows is this machine's.
            tracing::warn!(
                "a timer of {} fired {} ms late: this machine is overloaded",
                self.path.spec().address(),
                late.as_millis()
            );
        }
        self.path.handle_timeout(now);
    }
}

/// The next thing that happens to the association at hand.
async fn next(current: &mut Option<(AssociationId, Driver)>) -> (AssociationId, Happened) {
    match current {
        Some((association, driver)) => (*association, driver.next().await),
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

/// The next change of the link.
async fn link_change(link: &mut Option<watch::Receiver<Link>>) -> Link {
    match link {
        Some(receiver) => match receiver.changed().await {
            Ok(()) => *receiver.borrow_and_update(),
            Err(_) => Link::Unwatched,
        },
        None => std::future::pending().await,
    }
}
