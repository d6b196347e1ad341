//! Path tasks: carrying out a path's orders, and what happens to its queue pairs.

use umpath_core::AssociationId;
use umpath_host::path::Link;
use umpath_host::{PathOrder, Remains, Report};
use umpath_session::AdminData;

use super::{Brought, Inside, PathActor, words};
use crate::sim::checker::Violation;
use crate::sim::clock::{MICRO, Nanos, duration, nanos};
use crate::sim::mutant::Mutant;
use crate::sim::qp::{HostEnd, Packet, QpId, Way};
use crate::sim::world::World;

impl World {
    pub(super) fn path(&mut self, path: u32) -> Option<&mut PathActor> {
        self.host.paths.get_mut(&path)
    }

    /// Something is handled by a path, and everything it orders is carried out.
    pub(crate) fn tell_path(
        &mut self,
        path: u32,
        handle: impl FnOnce(&mut umpath_host::Path, std::time::Duration),
    ) {
        let now = duration(self.now);
        if let Some(actor) = self.path(path) {
            handle(&mut actor.core, now);
            self.pump_path(path);
        }
    }

    /// Carries out everything a path wants done, and sets its timer.
    pub(super) fn pump_path(&mut self, path: u32) {
        while let Some(order) = self.path(path).and_then(|actor| actor.core.poll_order()) {
            match order {
                PathOrder::OpenQueue {
                    association,
                    qid,
                    depth,
                    ..
                } => self.open_queue(path, association, qid, depth),
                PathOrder::Send {
                    association,
                    qid,
                    sqe,
                    data,
                } => {
                    let data = match data {
                        AdminData::ToController(bytes) => bytes,
                        AdminData::None | AdminData::FromController(_) => Vec::new(),
                    };
                    if let Some(qp) = self.session_qp(path, association, qid) {
                        self.transmit(qp, Way::ToTarget, Packet::Admin { sqe, data });
                    }
                }
                PathOrder::CloseQueue { qid, .. } => self.close_queue(path, qid),
                PathOrder::WatchLink(association) => self.watch_link(path, association),
                PathOrder::Release {
                    association,
                    report,
                } => self.release(path, association, report),
                PathOrder::Report(report) => self.path_reports(path, report),
            }
        }
        self.set_path_timer(path);
    }

    fn set_path_timer(&mut self, path: u32) {
        let (now, life) = (self.now, self.host.life);
        let never = self.is(Mutant::NeverReconnects);
        let Some(actor) = self.path(path) else { return };
        let Some(due) = actor.core.poll_timeout().map(nanos) else {
            return;
        };
        if never && actor.core.association().is_none() {
            return;
        }
        if actor.timer.is_none_or(|timer| due < timer) {
            let at = due.max(now);
            actor.timer = Some(at);
            self.inside(at, life, Inside::PathTimer(path, at));
        }
    }

    pub(crate) fn path_timer(&mut self, path: u32, at: Nanos) {
        let early = self.is(Mutant::TimerEarly) && self.array_chance.percent(2);
        let now = duration(self.now);
        let Some(actor) = self.path(path) else { return };
        if actor.timer != Some(at) {
            return;
        }
        actor.timer = None;
        if !early {
            actor.core.handle_timeout(now);
        }
        let due = actor.core.poll_timeout();
        self.pump_path(path);
        if due.is_some_and(|due| due <= now) {
            let what = format!("(13) path {path} waits for {due:?}, which is over");
            self.fail(Violation(what));
        }
    }

    fn watch_link(&mut self, path: u32, association: AssociationId) {
        let Some(actor) = self.path(path) else { return };
        actor.watches = Some(association);
        let route = actor.route;
        let link = self.link_of(route);
        let (at, life) = (self.now + self.a_moment(), self.host.life);
        self.inside(at, life, Inside::Link(path, association, link));
    }

    fn link_of(&self, route: usize) -> Link {
        if self.routes[route].no_adapter > 0 {
            Link::Fatal
        } else if self.routes[route].no_carrier > 0 {
            Link::Down(duration(self.now))
        } else {
            Link::Up
        }
    }

    /// The condition of a link is known to a path, or has changed.
    pub(crate) fn link(&mut self, path: u32, association: AssociationId, link: Link) {
        let Some(actor) = self.path(path) else { return };
        if actor.watches != Some(association) {
            return;
        }
        actor.watches = Some(association).filter(|_| link != Link::Fatal);
        self.note(|| format!("path {path}: link {link:?}"));
        self.tell_path(path, |core, now| core.handle_link(association, link, now));
    }

    /// The link of a route has changed.
    pub(crate) fn link_changed(&mut self, route: usize) {
        if !self.host.alive {
            return;
        }
        let link = self.link_of(route);
        let watching = self.host.paths.iter();
        let watching = watching.filter(|(_, actor)| actor.route == route);
        let watching = watching.filter_map(|(path, actor)| Some((*path, actor.watches?)));
        let watching: Vec<(u32, AssociationId)> = watching.collect();
        for (path, association) in watching {
            let at = self.now + self.fabric_chance.tail(MICRO, 100 * MICRO);
            self.inside(at, self.host.life, Inside::Link(path, association, link));
        }
    }

    /// Lets go of what a path still has of an association: drained or not, it is destroyed in time.
    fn release(&mut self, path: u32, association: AssociationId, report: bool) {
        let Some(actor) = self.path(path) else { return };
        let qps: Vec<QpId> = actor.qps.drain(..).map(|(_, qp)| qp).collect();
        for qp in &qps {
            self.silence(*qp);
        }
        let takes = self
            .fabric_chance
            .tail(10 * MICRO, self.plan.drain_deadline);
        let (at, life) = (self.now + takes, self.host.life);
        let released = Inside::Released {
            path,
            association,
            report,
            qps,
        };
        self.inside(at, life, released);
    }

    /// What a path let go of is silent, and its end is told.
    pub(crate) fn released(
        &mut self,
        path: u32,
        association: AssociationId,
        report: bool,
        qps: &[QpId],
    ) {
        for qp in qps {
            self.qps[*qp].host = HostEnd::Drained;
        }
        if report {
            let silent = qps.iter().map(|qp| self.qps[*qp].silent_at).max();
            let at = duration(silent.unwrap_or(self.now));
            let report = Report::AdminSilent { association, at };
            for report in self.seam_from_path(path, report) {
                self.send_report(path, report, Brought::new());
            }
        }
    }

    /// A path's report is on its way to the host, with what it brings.
    fn path_reports(&mut self, path: u32, report: Report) {
        let brought = match &report {
            Report::Up(up) => self.take_queues(path, up.association, &up.ready.io_queues),
            Report::Queues(association, qids) => self.take_queues(path, *association, qids),
            _ => Brought::new(),
        };
        self.judge_report(path, &report);
        let mut brought = Some(brought);
        for report in self.seam_from_path(path, report) {
            self.send_report(path, report, brought.take().unwrap_or_default());
        }
    }

    fn take_queues(&mut self, path: u32, association: AssociationId, qids: &[u16]) -> Brought {
        let Some(actor) = self.path(path) else {
            return Brought::new();
        };
        let (taken, kept) = actor.qps.iter().partition(|(qid, _)| qids.contains(qid));
        actor.qps = kept;
        let taken: Vec<(u16, QpId)> = taken;
        taken
            .into_iter()
            .map(|(qid, qp)| (association, qid, qp))
            .collect()
    }

    pub(crate) fn send_report(&mut self, path: u32, report: Report, brought: Brought) {
        let delay = self.fabric_chance.tail(MICRO, self.plan.message_delay);
        let (now, life) = (self.now, self.host.life);
        let Some(actor) = self.path(path) else { return };
        actor.outbox_at = actor.outbox_at.max(now + delay);
        let at = actor.outbox_at;
        self.inside(at, life, Inside::FromPath(path, Box::new(report), brought));
    }

    /// A path's report reaches the host.
    pub(crate) fn report_arrives(&mut self, path: u32, report: Report, brought: Brought) {
        self.note(|| format!("path {path} reports {}", words::of_report(&report)));
        match &report {
            Report::Up(up) => {
                self.host.held.insert(up.association, Vec::new());
                self.hears_of(up.association, &up.ready.namespaces);
            }
            Report::Namespaces(association, list) => self.hears_of(*association, list),
            _ => {}
        }
        for (association, qid, qp) in brought {
            match self.host.held.get_mut(&association) {
                Some(spare) => spare.push((qid, qp)),
                // It was given up meanwhile.
                None => self.destroy_qp(qp),
            }
        }
        self.hear_of_resets(&report);
        let judged = self.begin_judging(&report);
        self.host.reported_at = match &report {
            Report::Suspect { at, .. } | Report::Convict { at, .. } => Some(nanos(*at)),
            _ => None,
        };
        self.host
            .core
            .handle_report(path, report, duration(self.now));
        self.pump_host();
        self.host.reported_at = None;
        self.end_judging(judged);
        self.judge_numbers();
    }

    /// What was left of an association has been destroyed.
    pub(super) fn destroyed(
        &mut self,
        association: AssociationId,
        remains: Remains,
        report: bool,
        qps: &[QpId],
    ) {
        for qp in qps {
            self.destroy_qp(*qp);
        }
        if report {
            let now = duration(self.now);
            let at = self.seam_silent_at(association, now);
            self.host
                .core
                .handle_destroyed(association, remains, at, now);
        }
    }
}
