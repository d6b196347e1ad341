//! Which queue pairs a lane offers to the selector.
//!
//! Whether a path may be used is the table's decision; here the queue pairs of the group in use are found
//! that this lane has and that have room. A path on probation is offered a request now and then.

use umpath_policies::{Ask, Candidates, PathId, Priority};

use super::Lane;
use super::queue_pair::QueuePairState;
use crate::shared::VolumeShared;
use crate::table::PATHS_MAX;

/// A path on probation gets one request in so many: below 1 % of the I/O.
const TRIAL_EVERY: u32 = 128;

/// A queue pair that may take a command.
#[derive(Debug, Clone, Copy)]
pub(super) struct Offer {
    pub(super) pair: u16,
    pub(super) path: PathId,
    priority: Priority,
    throughput: u8,
    /// Its device sits on this lane's NUMA node.
    near: bool,
    /// It is being tried after it was kept out.
    probation: bool,
}

/// The queue pairs of the group in use that have room. Rebuilt when something about them changes, not
/// for every request.
#[derive(Debug)]
pub(super) struct Offers {
    list: [Offer; PATHS_MAX],
    pub(super) count: usize,
    /// A queue pair that is only being tried, if there is one worth it.
    trial: Option<u16>,
    /// Requests until it gets the next one.
    trial_in: u32,
    /// Some queue pair is usable, with or without room.
    pub(super) reachable: bool,
}

impl Offers {
    pub(super) fn none() -> Self {
        let nobody = Offer {
            pair: 0,
            path: PathId(0),
            priority: 0,
            throughput: 0,
            near: false,
            probation: false,
        };
        Self {
            list: [nobody; PATHS_MAX],
            count: 0,
            trial: None,
            trial_in: TRIAL_EVERY,
            reachable: false,
        }
    }

    fn push(&mut self, offer: Offer) {
        if let Some(place) = self.list.get_mut(self.count) {
            *place = offer;
            self.count += 1;
        }
    }

    fn at(&self, at: usize) -> Option<Offer> {
        self.list.get(..self.count)?.get(at).copied()
    }
}

/// Offers as selectors see them.
struct Ranked<'a> {
    offers: &'a Offers,
    shared: &'a VolumeShared,
}

impl Candidates for Ranked<'_> {
    fn count(&self) -> usize {
        self.offers.count
    }

    fn path(&self, at: usize) -> PathId {
        self.offers.at(at).map_or(PathId(0), |offer| offer.path)
    }

    fn in_flight(&self, at: usize) -> u32 {
        self.offers
            .at(at)
            .map_or(u32::MAX, |offer| self.shared.in_flight(offer.path))
    }

    fn in_flight_bytes(&self, at: usize) -> u64 {
        self.offers
            .at(at)
            .map_or(u64::MAX, |offer| self.shared.in_flight_bytes(offer.path))
    }

    fn priority(&self, at: usize) -> Priority {
        self.offers.at(at).map_or(0, |offer| offer.priority)
    }

    fn throughput(&self, at: usize) -> u8 {
        self.offers.at(at).map_or(0, |offer| offer.throughput)
    }

    fn is_near(&self, at: usize) -> bool {
        self.offers.at(at).is_some_and(|offer| offer.near)
    }
}

impl Lane {
    /// Finds the group in use: the active one, or the best one this lane can reach where the
    /// table does not yet say what the lane has just learnt.
    pub(super) fn rebuild_offers(&mut self) {
        let mut offers = Offers {
            trial_in: self.offers.trial_in,
            ..Offers::none()
        };
        // Paths on probation carry everything only where there is no other.
        for tried_too in [false, true] {
            for position in self.group_order() {
                for offer in self.reachable(position) {
                    if offer.probation && !tried_too {
                        continue;
                    }
                    offers.reachable = true;
                    if self.pairs[offer.pair].has_room() {
                        offers.push(offer);
                    }
                }
                if offers.reachable {
                    break;
                }
            }
            if offers.reachable {
                break;
            }
        }
        offers.trial = self.trial(&offers);
        self.offers = offers;
    }

    /// A queue pair on probation, of at least the priority of those in use.
    fn trial(&self, offers: &Offers) -> Option<u16> {
        let priority = offers.at(0)?.priority;
        self.group_order()
            .flat_map(|group| self.reachable(group))
            .find(|offer| {
                offer.probation
                    && offer.priority >= priority
                    && self.pairs[offer.pair].has_room()
                    && offers
                        .list
                        .iter()
                        .take(offers.count)
                        .all(|used| used.pair != offer.pair)
            })
            .map(|offer| offer.pair)
    }

    /// Positions of the groups, the active one first.
    pub(super) fn group_order(&self) -> impl Iterator<Item = usize> + use<> {
        let (active, count) = (self.table.active, self.table.groups.len());
        active
            .into_iter()
            .chain((0..count).filter(move |at| Some(*at) != active))
    }

    /// Links of a group that this lane may use, full or not.
    pub(super) fn reachable(&self, group: usize) -> impl Iterator<Item = Offer> + '_ {
        let members = self
            .table
            .groups
            .get(group)
            .map_or(&[][..], |group| &group.paths[..]);
        members.iter().filter_map(|at| {
            let entry = self
                .table
                .paths
                .get(usize::from(*at))
                .filter(|entry| entry.usable)?;
            let pair = self.pair_of(entry.association)?;
            let open = &self.pairs[pair];
            (open.state == QueuePairState::Open && open.ana_refused.is_none()).then_some(Offer {
                pair,
                path: entry.path,
                priority: entry.priority,
                throughput: entry.steering.throughput,
                probation: entry.steering.probation,
                near: entry.steering.node.is_some() && entry.steering.node == self.node,
            })
        })
    }

    /// A queue pair with room, by the table's selector.
    pub(super) fn select(&mut self, ask: &Ask) -> Option<u16> {
        if self.offers.count == 0 {
            return None;
        }
        if let Some(pair) = self.offers.trial {
            self.offers.trial_in = self.offers.trial_in.saturating_sub(1);
            if self.offers.trial_in == 0 {
                self.offers.trial_in = TRIAL_EVERY;
                return Some(pair);
            }
        }
        let ranked = Ranked {
            offers: &self.offers,
            shared: &self.shared,
        };
        let at = self.selector.select(&ranked, ask);
        self.offers.at(at).map(|offer| offer.pair)
    }

    /// Links this lane could use now, in any group.
    pub(super) fn reachable_count(&self) -> usize {
        self.group_order()
            .map(|group| self.reachable(group).count())
            .sum()
    }
}
