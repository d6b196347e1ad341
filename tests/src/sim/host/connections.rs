//! Queue pairs of sessions: how they come about, and how they fail.

use std::io;
use std::sync::Arc;

use umpath_core::AssociationId;
use umpath_nvme::Cqe;

use super::{Inside, PathActor};
use crate::sim::happening::{Happening, Opening};
use crate::sim::qp::{Assoc, HostEnd, QpId, Way};
use crate::sim::world::World;

impl World {
    pub(super) fn session_qp(
        &mut self,
        path: u32,
        association: AssociationId,
        qid: u16,
    ) -> Option<QpId> {
        let actor = self.host.paths.get(&path)?;
        let (_, qp) = actor.qps.iter().find(|(known, _)| *known == qid)?;
        let known = &self.qps[*qp];
        let own = known.association.id == association && known.host == HostEnd::Open;
        own.then_some(*qp)
    }

    pub(super) fn open_queue(
        &mut self,
        path: u32,
        association: AssociationId,
        qid: u16,
        depth: u16,
    ) {
        let Some(actor) = self.host.paths.get(&path) else {
            return;
        };
        let (route, life) = (actor.route, self.host.life);
        let at = self.now + self.travel(route);
        if !self.routes[route].is_cut(Way::ToTarget) {
            let opening = Box::new(Opening {
                path,
                route,
                association,
                qid,
                depth,
            });
            self.agenda
                .push(at, Happening::OpenArrives { life, opening });
        }
    }

    /// A connection request reaches the target.
    pub(crate) fn open_arrives(&mut self, opening: &Opening) {
        let Opening {
            path,
            route,
            association,
            qid,
            depth,
        } = *opening;
        if self.routes[route].is_cut(Way::ToHost) {
            return;
        }
        let life = self.host.life;
        let alive = self.processes[self.process_of(route)].alive;
        let association_of = Assoc {
            life,
            id: association,
        };
        let depth = depth.saturating_sub(1).max(1);
        let qp = alive.then(|| self.new_qp(route, association_of, qid, depth));
        let at = self.now + self.travel(route);
        let opened = Inside::Opened {
            path,
            association,
            qid,
            qp,
        };
        self.inside(at, life, opened);
    }

    /// The answer to a connection request reaches the host.
    pub(crate) fn opened(
        &mut self,
        path: u32,
        association: AssociationId,
        qid: u16,
        qp: Option<QpId>,
    ) {
        let actor = self.path(path);
        let current = actor.filter(|actor| actor.core.association() == Some(association));
        match (current, qp) {
            (Some(actor), Some(qp)) => {
                actor.qps.push((qid, qp));
                self.tell_path(path, |core, now| {
                    core.handle_queue_connected(association, qid, now);
                });
            }
            (Some(_), None) => {
                let refused = Arc::new(io::Error::from(io::ErrorKind::ConnectionRefused));
                self.tell_path(path, |core, now| {
                    core.handle_queue_failed(association, qid, refused, now);
                });
            }
            (None, Some(qp)) => self.destroy_qp(qp),
            (None, None) => {}
        }
    }

    /// A path gives up a queue pair that no queue thread had.
    pub(super) fn close_queue(&mut self, path: u32, qid: u16) {
        let Some(actor) = self.path(path) else { return };
        let at = actor.qps.iter().position(|(known, _)| *known == qid);
        let (_, qp) = actor.qps.remove(at.expect("a queue that is open"));
        self.destroy_qp(qp);
    }

    pub(super) fn destroy_qp(&mut self, qp: QpId) {
        self.silence(qp);
        self.qps[qp].host = HostEnd::Drained;
    }

    /// An answer to a session reaches the host.
    pub(super) fn admin_answer(&mut self, qp: QpId, cqe: &Cqe, data: &[u8]) {
        let known = &self.qps[qp];
        let (association, qid) = (known.association, known.qid);
        if known.host != HostEnd::Open || association.life != self.host.life {
            return;
        }
        let Some(path) = self.path_having(qp) else {
            return;
        };
        if qid == 0 {
            self.answered.insert(association, self.now);
        }
        self.tell_path(path, |core, now| {
            core.handle_response(association.id, qid, cqe, data, now);
        });
    }

    fn path_having(&self, qp: QpId) -> Option<u32> {
        let mut paths = self.host.paths.iter();
        let has = |actor: &PathActor| actor.qps.iter().any(|(_, known)| *known == qp);
        paths.find(|(_, actor)| has(actor)).map(|(path, _)| *path)
    }

    /// A queue pair failed that no queue thread has.
    pub(super) fn session_qp_failed(&mut self, qp: QpId) {
        let Some(path) = self.path_having(qp) else {
            return;
        };
        let (association, qid) = (self.qps[qp].association, self.qps[qp].qid);
        let lost = Arc::new(io::Error::from(io::ErrorKind::ConnectionReset));
        self.tell_path(path, |core, now| {
            core.handle_queue_failed(association.id, qid, lost, now);
        });
    }
}
