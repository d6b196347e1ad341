//! How a path becomes a member of a volume.

use umpath_core::{
    AssociationId, CommandLimits, LaneCommand, PATHS_MAX, PathConfig, PathId, policies,
};
use umpath_protocol::Failure;

use super::{Member, Volume};
use crate::effects::Effects;

/// A new path as the host describes it.
#[derive(Debug)]
pub(crate) struct Attachment {
    /// Host-wide path number.
    pub(crate) path: u32,
    pub(crate) association: AssociationId,
    pub(crate) nsid: u32,
    pub(crate) limits: CommandLimits,
    /// `None`: the controller reports no ANA.
    pub(crate) ana: Option<policies::AnaState>,
    pub(crate) ana_group: u32,
    pub(crate) serial: String,
    pub(crate) cntlid: u16,
    pub(crate) address: String,
    pub(crate) steering: PathConfig,
    /// NUMA node of its RDMA device, if known.
    pub(crate) node: Option<u16>,
    /// One queue identifier for each queue thread.
    pub(crate) qids: Vec<u16>,
}

impl Volume {
    /// Gives the queue threads their queue pairs of a new association. Returns the core's path
    /// number; on failure the queue identifiers are returned with the reason.
    pub(crate) fn attach(
        &mut self,
        new: Attachment,
        fx: &mut Effects,
    ) -> Result<PathId, (Failure, Vec<u16>)> {
        assert_eq!(
            new.qids.len(),
            usize::from(self.lanes),
            "a queue pair for each queue thread"
        );
        let number = match self.member_for(&new, fx) {
            Ok(number) => number,
            Err(failure) => return Err((failure, new.qids)),
        };
        for (queue, qid) in (0..).zip(&new.qids) {
            let attach = LaneCommand::Attach {
                path: number,
                association: new.association,
                transport: *qid,
            };
            fx.lane(self.key(), queue, attach);
        }
        let ready = umpath_core::Ready {
            association: new.association,
            nsid: new.nsid,
            limits: new.limits,
            ana: new.ana,
            ana_group: new.ana_group,
            controller: Some(policies::ControllerKey {
                serial: padded(&new.serial),
                cntlid: new.cntlid,
            }),
            node: new.node,
        };
        self.core.path_ready(number, ready, fx.now);
        self.pump(fx);
        Ok(number)
    }

    fn member_for(&mut self, new: &Attachment, fx: &mut Effects) -> Result<PathId, Failure> {
        if let Some(member) = self
            .members
            .iter_mut()
            .find(|member| member.path == new.path)
        {
            member.lost = Some(std::mem::replace(&mut member.association, new.association));
            member.nsid = new.nsid;
            member.qids.clone_from(&new.qids);
            member.ana_group = new.ana_group;
            return Ok(member.number);
        }
        let failed = |name: &str, why: String, fix: &str| {
            Failure::new(
                format!("volume {name} cannot use {}", new.address),
                why,
                fix,
            )
        };
        let Some(number) = self.free_number(new.path) else {
            let why = format!("a volume has at most {PATHS_MAX} paths");
            return Err(failed(
                self.name(),
                why,
                "disconnect a path that is not needed",
            ));
        };
        self.core
            .add_path(number, new.steering, fx.now)
            .map_err(|error| failed(&self.spec.name, error.to_string(), ""))?;
        self.members.push(Member {
            path: new.path,
            number,
            association: new.association,
            lost: None,
            nsid: new.nsid,
            qids: new.qids.clone(),
            ana_group: new.ana_group,
            preferred: new.steering.preferred,
            failover: None,
        });
        Ok(number)
    }

    /// Assigns a core path number. The core breaks ties between groups by number, so a path gets
    /// its own number where that is free: configuration order.
    fn free_number(&self, path: u32) -> Option<PathId> {
        let free = |number: &PathId| self.members.iter().all(|member| member.number != *number);
        let own = path.checked_sub(1).and_then(|at| u8::try_from(at).ok());
        let own = own.map(PathId).filter(|own| own.index() < PATHS_MAX);
        // Otherwise assign from the end: low numbers belong to paths that may still come.
        let mut others = (0..PATHS_MAX as u8).rev().map(PathId);
        own.filter(free).or_else(|| others.find(free))
    }
}

/// A serial number padded as in Identify Controller.
fn padded(serial: &str) -> [u8; 20] {
    let mut bytes = [b' '; 20];
    for (to, from) in bytes.iter_mut().zip(serial.bytes()) {
        *to = from;
    }
    bytes
}
