//! One queue pair of a live association is cut off: it is replaced alone, or costs the association.

use umpath_core::{AssociationId, LaneCommand, LaneEvent, PathId};
use umpath_host::order::Remains;
use umpath_host::{LaneNews, Report, Request};

use super::rig::{Rig, ms};
use super::sample::{id, namespace};
use super::trouble::two_paths;

const QUEUE: u16 = 1;

/// A volume over two paths, and the association of the first.
fn scene() -> (Rig, AssociationId) {
    let mut rig = two_paths();
    rig.told.clear();
    rig.requests.clear();
    let association = rig.host_association();
    (rig, association)
}

impl Rig {
    fn host_association(&self) -> AssociationId {
        let table = &self.tables[&id(1)];
        let path = table.paths.iter().find(|entry| entry.path == PathId(0));
        path.unwrap().association
    }

    fn cut_off(&mut self, association: AssociationId, mutations: bool) {
        let event = LaneEvent::QueueSilent {
            path: PathId(0),
            association,
            since: self.now,
            cid: 1,
            mutations,
        };
        let at = self.now;
        self.news(id(1), QUEUE, LaneNews::Event { event, at });
    }

    fn drained(&mut self, association: AssociationId, quiet: bool) {
        let drained = LaneNews::Drained {
            association,
            silent_at: quiet.then_some(self.now),
            handed_back: true,
            quiet,
        };
        self.news(id(1), QUEUE, drained);
    }

    fn fenced(&mut self, association: AssociationId) {
        let fenced = LaneNews::BufferFenced {
            association,
            ghosts: Vec::new(),
            at: self.now,
        };
        self.news(id(1), QUEUE, fenced);
    }

    /// The first path's association is given up by this.
    fn is_given_up(&self, association: AssociationId) -> bool {
        let given_up = |(_, request): &(u32, Request)| matches!(request, Request::CutOff(known) if *known == association);
        self.requests.iter().any(given_up)
    }

    fn queues_asked(&mut self) -> Vec<u16> {
        let asked = self
            .requests
            .drain(..)
            .filter_map(|(_, request)| match request {
                Request::OpenQueues(_, count) => Some(count),
                _ => None,
            });
        asked.collect()
    }

    fn attached(&mut self) -> Vec<(u16, u16)> {
        let attached = self
            .told
            .drain(..)
            .filter_map(|(queue, command)| match command {
                LaneCommand::Attach { transport, .. } => Some((queue, transport)),
                _ => None,
            });
        attached.collect()
    }

    fn replaced(&mut self, association: AssociationId, qid: u16) {
        self.cut_off(association, false);
        self.drained(association, true);
        self.fenced(association);
        self.report(1, Report::Queues(association, vec![qid]));
        assert_eq!(self.attached(), [(QUEUE, qid)]);
    }
}

#[test]
fn a_queue_pair_that_is_cut_off_is_replaced_and_the_association_lives() {
    let (mut rig, association) = scene();
    rig.late.destructions = true;
    rig.cut_off(association, false);
    assert!(matches!(
        rig.told[..],
        [(QUEUE, LaneCommand::GiveUpQueue(known))] if known == association
    ));
    // Twice a second, until the thread has done it; then again of the old one.
    rig.cut_off(association, false);
    rig.drained(association, true);
    rig.cut_off(association, true);
    rig.fenced(association);
    assert_eq!(rig.queues_asked(), [0; 0], "the old one is not gone");
    rig.finish_late();
    assert_eq!(rig.queues_asked(), [1]);
    let lane = Remains::Lane(rig.key(id(1)), QUEUE);
    assert_eq!(rig.destroyed, [(association, lane)]);
    rig.report(1, Report::Queues(association, vec![3]));
    assert_eq!(rig.attached(), [(QUEUE, 3)]);
    assert!(!rig.is_given_up(association));
    assert_eq!(rig.usable(id(1)), 2, "all the time");
    let replaced = |(kind, _): &&(String, String)| kind == "queue_replaced";
    assert_eq!(rig.events().iter().filter(replaced).count(), 1);
}

#[test]
fn memory_is_used_again_only_when_an_undrained_queue_pair_is_destroyed() {
    let (mut rig, association) = scene();
    rig.cut_off(association, false);
    rig.told.clear();
    rig.drained(association, false);
    assert!(matches!(
        rig.told[..],
        [(QUEUE, LaneCommand::Destroyed(known))] if known == association
    ));
    assert_eq!(rig.queues_asked(), [0; 0]);
    rig.fenced(association);
    assert_eq!(rig.queues_asked(), [1]);
}

#[test]
fn a_queue_pair_with_writes_in_flight_costs_the_association() {
    let (mut rig, association) = scene();
    rig.cut_off(association, true);
    assert!(rig.is_given_up(association));
    assert!(rig.told.is_empty(), "its fence covers the writes");
}

#[test]
fn a_write_that_came_in_between_costs_the_association() {
    let (mut rig, association) = scene();
    rig.cut_off(association, false);
    // The thread had sent a write by then, and kept the queue pair.
    rig.cut_off(association, true);
    assert!(rig.is_given_up(association));
}

#[test]
fn a_replacement_that_is_cut_off_too_costs_the_association() {
    let (mut rig, association) = scene();
    rig.replaced(association, 3);
    rig.advance(ms(31_000));
    rig.replaced(association, 4);
    rig.advance(ms(5_000));
    rig.cut_off(association, false);
    assert!(rig.is_given_up(association), "this does not help");
}

#[test]
fn without_another_queue_pair_the_association_is_given_up() {
    let (mut rig, association) = scene();
    rig.cut_off(association, false);
    rig.drained(association, true);
    rig.fenced(association);
    rig.report(1, Report::Queues(association, Vec::new()));
    assert!(rig.is_given_up(association));
    rig.lose(1, association);
    rig.advance(ms(20_000));
    let left = rig.disk.associations.len();
    assert_eq!(left, 1, "the lost one is fenced");
}

/// It may send until it is destroyed, whoever had it.
#[test]
fn the_fence_waits_for_a_queue_pair_whose_thread_has_ended() {
    for alone in [true, false] {
        let (mut rig, association) = scene();
        rig.late.destructions = true;
        rig.mute = true;
        if alone {
            rig.cut_off(association, false);
            rig.drained(association, false);
            rig.lose(1, association);
        } else {
            rig.lose(1, association);
            rig.drained(association, false);
        }
        for queue in 0..2 {
            let (had, failure) = (Vec::new(), None);
            rig.news(id(1), queue, LaneNews::Ended { had, failure });
        }
        rig.advance(ms(20_000));
        assert_eq!(rig.disk.associations.len(), 2, "it may still send");
        rig.finish_late();
        rig.advance(ms(20_000));
        assert_eq!(rig.disk.associations.len(), 1);
    }
}

/// It was given up alone and is being destroyed when the association is convicted: the thread has no queue
/// pair any more, which proves nothing.
#[test]
fn the_fence_waits_for_a_queue_pair_that_was_given_up_alone() {
    let (mut rig, association) = scene();
    rig.late.destructions = true;
    rig.mute = true;
    rig.cut_off(association, false);
    rig.drained(association, true);
    rig.fenced(association);
    rig.lose(1, association);
    for queue in 0..2 {
        let drained = LaneNews::Drained {
            association,
            silent_at: Some(rig.now),
            handed_back: queue != QUEUE,
            quiet: true,
        };
        rig.news(id(1), queue, drained);
        let at = rig.now;
        let ghosts = Vec::new();
        rig.news(
            id(1),
            queue,
            LaneNews::BufferFenced {
                association,
                ghosts,
                at,
            },
        );
    }
    rig.advance(ms(20_000));
    assert_eq!(rig.disk.associations.len(), 2, "it may still send");
    rig.finish_late();
    rig.advance(ms(20_000));
    assert_eq!(rig.disk.associations.len(), 1);
}

/// The array had queue pairs left, but not as many as the other volume needs: that was taken for none.
#[test]
fn a_replacement_asks_for_one_queue_pair_whatever_others_were_refused() {
    let (mut rig, association) = scene();
    let list = vec![namespace(1, 1, 1_000), namespace(2, 2, 1_000)];
    rig.report(1, Report::Namespaces(association, list));
    assert_eq!(rig.queues_asked(), [2], "for the second volume");
    rig.cut_off(association, false);
    rig.drained(association, true);
    rig.fenced(association);
    assert_eq!(rig.queues_asked(), [0; 0], "one after the other");
    rig.report(1, Report::Queues(association, Vec::new()));
    assert!(!rig.is_given_up(association));
    assert_eq!(rig.queues_asked(), [1]);
    rig.told.clear();
    rig.report(1, Report::Queues(association, vec![3]));
    assert_eq!(rig.attached(), [(QUEUE, 3)]);
    assert_eq!((rig.usable(id(1)), rig.usable(id(2))), (2, 0));
}
