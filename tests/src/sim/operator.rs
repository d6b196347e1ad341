//! People: what they ask of the host at the wrong moment, and that all is put right in the end.

use std::collections::{BTreeMap, BTreeSet};

use umpath_core::policies::SelectorKind;
use umpath_host::policy::NoPathRetry;
use umpath_host::record::Asked;
use umpath_host::{Answer, CallId, Verb, Wanted};
use umpath_protocol::{DisconnectTarget, Reply, Steer};

use super::array::NQN;
use super::checker::Violation;
use super::clock::{MILLI, Nanos, SECOND};
use super::host::{Inside, asked_for};
use super::mutant::Mutant;
use super::plan::Nuisance;
use super::store::StoreId;
use super::world::World;

/// A call is answered within this time: a removal waits for what is in flight, a path is drained, its
/// controller shut down, and a fence may have to be waited for.
const ANSWER: Nanos = 40 * SECOND;

/// What people have done to the present process, and not undone.
#[derive(Debug, Default)]
pub(crate) struct People {
    /// Requests without a path fail.
    lets_fail: bool,
    /// Something is disconnected.
    removed: bool,
    /// Something was disconnected at some time.
    ever_removed: bool,
    /// Something was disconnected in an earlier life of the host.
    removed_before: bool,
    /// Something was disconnected by force, in this life of the host.
    forced: bool,
    /// Paths are failed by hand.
    failed: bool,
    /// The process is to end.
    stops: bool,
    /// It is being asked to, and carries out what follows at once.
    asks_to_stop: bool,
    /// They have undone it.
    put_right: bool,
    /// Namespaces whose block device somebody has removed, and nobody has asked for a path since.
    taken_away: BTreeSet<StoreId>,
    asked_at: Nanos,
}

impl People {
    pub(crate) fn lets_fail(&self) -> bool {
        self.lets_fail
    }

    pub(crate) fn removes(&self) -> bool {
        self.ever_removed
    }

    /// Somebody insisted on a removal, whoever uses what goes.
    pub(crate) fn insist(&self) -> bool {
        self.forced
    }

    /// Something was disconnected in this life of the host or in an earlier one.
    pub(crate) fn has_removed(&self) -> bool {
        self.ever_removed || self.removed_before
    }

    /// The same people when the host lives again.
    pub(crate) fn in_another_life(&self) -> Self {
        Self {
            removed_before: self.has_removed(),
            ..Self::default()
        }
    }

    pub(crate) fn asks_to_stop(&self) -> bool {
        self.asks_to_stop
    }

    /// Somebody asks for something that nobody else expects.
    pub(crate) fn interfere(&mut self) {
        self.put_right = false;
    }

    /// What is listed is what people wanted, whatever that is.
    pub(crate) fn meddled(&self) -> bool {
        self.removed || self.failed
    }
}

impl World {
    /// Somebody's time has come.
    pub(crate) fn nuisance(&mut self, at: usize) {
        let (_, nuisance) = self.plan.verbs[at];
        self.note(|| format!("somebody wants {nuisance:?}"));
        self.trouble_all();
        if let Nuisance::Close { volume, lasts } = nuisance {
            if let Some(device) = self.device_for(volume) {
                self.devices[device].closed_until = self.now + lasts;
            }
            return;
        }
        let life = self.host.life;
        self.inside(self.now, life, Inside::Verb(nuisance));
    }

    fn call(&mut self) -> CallId {
        let call = self.host.new_call(self.now);
        self.note(|| format!("call {}", call.0));
        call
    }

    /// The host is asked something.
    pub(crate) fn ask(&mut self, nuisance: Nuisance) {
        let number = |path: usize| format!("10.0.{path}.1");
        let name = |world: &Self, volume: usize| world.stores[volume].id.to_string();
        let steer = match nuisance {
            Nuisance::Stats => Verb::Stats,
            Nuisance::FailPath { path } => {
                self.people.failed = true;
                let (path, volume) = (number(path), None);
                Verb::Steer(Steer::FailPath { path, volume })
            }
            Nuisance::ReinstatePath { path } => {
                let (path, volume) = (number(path), None);
                Verb::Steer(Steer::ReinstatePath { path, volume })
            }
            Nuisance::Prefer { path, on } => {
                let (path, volume) = (number(path), None);
                Verb::Steer(Steer::Prefer { path, volume, on })
            }
            Nuisance::SwitchGroup { volume, group } => {
                let volume = name(self, volume);
                Verb::Steer(Steer::SwitchGroup { volume, group })
            }
            Nuisance::Selector { volume } => {
                let kind = self.host_chance.pick(SelectorKind::ALL);
                let policies = [("path_selector".to_owned(), format!("{} 0", kind.word()))];
                let (volume, policies) = (Some(name(self, volume)), BTreeMap::from(policies));
                Verb::Steer(Steer::Set { volume, policies })
            }
            Nuisance::Queueing { on } => {
                self.people.lets_fail |= !on;
                for device in self.host.served.values() {
                    // Whichever it is, it counts more than the wait for a first path.
                    self.devices[*device].adopted_at = None;
                }
                Verb::Queueing { volume: None, on }
            }
            Nuisance::Connect { path } => return self.ask_for_path(path),
            Nuisance::DisconnectPath { path, force } => {
                self.disconnect(DisconnectTarget::Path(number(path)), force)
            }
            Nuisance::DisconnectDevice { volume, force } => {
                self.disconnect(DisconnectTarget::Device(name(self, volume)), force)
            }
            Nuisance::DisconnectAll { force } => {
                self.disconnect(DisconnectTarget::Nqn(NQN.to_owned()), force)
            }
            Nuisance::Stop { times } => {
                self.people.removed = true;
                self.people.ever_removed = true;
                self.people.stops = true;
                self.people.asks_to_stop = true;
                for _ in 0..times {
                    self.tell_host(umpath_host::Host::handle_stop);
                }
                self.people.asks_to_stop = false;
                return;
            }
            Nuisance::Close { .. } => return,
        };
        let call = self.call();
        self.tell_host(|host, now| host.handle_verb(call, steer, now));
    }

    fn disconnect(&mut self, target: DisconnectTarget, force: bool) -> Verb {
        self.people.removed = true;
        self.people.ever_removed = true;
        self.people.forced |= force;
        Verb::Disconnect { target, force }
    }

    fn ask_for_path(&mut self, path: usize) {
        self.people.taken_away.clear();
        self.people.asked_at = self.now;
        self.ask_again(path);
    }

    /// A path is asked for as an operator does.
    pub(crate) fn ask_again(&mut self, path: usize) {
        let asked = asked_for(path);
        let call = self.call();
        let wanted = Wanted {
            spec: self.spec_of(&asked),
            asked,
            standing: self.plan.routes[path].configured,
            rediscovered: false,
            call: Some(call),
        };
        self.tell_host(|host, now| host.handle_connect(wanted, now));
    }

    /// A block device was removed as somebody wanted, since then.
    pub(crate) fn taken_away(&mut self, store: StoreId, since: Nanos) {
        if self.people.asked_at < since {
            self.people.taken_away.insert(store);
        }
        if self.is(Mutant::RemovedReturns) {
            let path = self.array_chance.below(self.plan.paths() as u64) as usize;
            let at = self.now + 100 * MILLI;
            self.inside(at, self.host.life, Inside::AskedAgain(path));
        }
    }

    /// A namespace gets a block device: nobody has taken it away.
    pub(crate) fn judge_return(&mut self, store: StoreId) {
        if self.people.taken_away.contains(&store) {
            let what = format!("(25) namespace {store} gets the block device that was removed");
            self.fail(Violation(what));
        }
    }

    /// A path of the configuration gets its number: the one it had.
    pub(crate) fn judge_number(&mut self, asked: &Asked, number: u32) {
        if !self.plan.verbs.is_empty() {
            // One that was removed and asked for again has another number.
            return;
        }
        let address = format!(",{},", asked.portal.traddr);
        let mut promised = self.disk.promised.iter();
        let had = promised.find(|(key, _)| key.contains(&address));
        if let Some((_, had)) = had.filter(|(_, had)| *had != number) {
            let what = format!(
                "(24) path {had} to {} is path {number} after a restart",
                asked.portal.traddr
            );
            self.fail(Violation(what));
        }
    }

    /// Paths that the configuration does not want are asked for.
    pub(crate) fn ask_by_hand(&mut self) {
        for path in 0..self.plan.paths() {
            if !self.plan.routes[path].configured {
                self.ask_for_path(path);
            }
        }
    }

    /// The host answers.
    pub(crate) fn answer_call(&mut self, call: CallId, answer: &Answer) {
        self.note(|| match answer {
            Answer::Reply(Reply::Stats(_)) => format!("call {} is answered: counters", call.0),
            other => format!("call {} is answered: {other:?}", call.0),
        });
        if self.is(Mutant::AnswerLost) && self.array_chance.percent(20) {
            return;
        }
        if self.host.calls.remove(&call).is_none() {
            let what = format!("(20) call {} is answered, which nobody waits for", call.0);
            self.fail(Violation(what));
        }
    }

    /// All faults are over: what people have undone is done again, once it can be.
    pub(crate) fn put_right(&mut self) {
        if !self.host.alive || self.host.stalled_until > self.now {
            return;
        }
        if self.people.put_right || self.plan.verbs.is_empty() {
            if !std::mem::replace(&mut self.people.put_right, true) {
                self.ask_by_hand();
            }
            return;
        }
        if self.people.stops {
            // Whoever still uses it shall not keep it from ending.
            return self.tell_host(umpath_host::Host::handle_stop);
        }
        // A removal under way would take away what is asked for now.
        if !self.host.calls.is_empty() {
            return;
        }
        self.people = People {
            put_right: true,
            ever_removed: self.people.ever_removed,
            forced: self.people.forced,
            removed_before: self.people.removed_before,
            ..People::default()
        };
        for path in 0..self.plan.paths() {
            self.ask_for_path(path);
            self.ask(Nuisance::ReinstatePath { path });
        }
        for store in 0..self.stores.len() {
            let policy = self.plan.volumes[store].policy;
            let retry = match policy.no_path_retry {
                NoPathRetry::For(time) => format!("{}ms", time.as_millis()),
                other => other.to_string(),
            };
            let policies = BTreeMap::from([("no_path_retry".to_owned(), retry)]);
            let volume = Some(self.stores[store].id.to_string());
            let call = self.call();
            let steer = Verb::Steer(Steer::Set { volume, policies });
            self.tell_host(|host, now| host.handle_verb(call, steer, now));
        }
        self.trouble_all();
    }

    /// Every namespace has its block device again, and everybody has had an answer.
    pub(crate) fn is_put_right(&mut self) -> bool {
        self.put_right();
        self.judge_calls();
        let there = |store: usize| !self.stores[store].exists || self.device_for(store).is_some();
        self.host.alive
            && self.people.put_right
            && self.host.calls.is_empty()
            && (self.is_crowded() || (0..self.stores.len()).all(there))
    }

    /// Nobody waits too long.
    fn judge_calls(&mut self) {
        let late = self
            .host
            .calls
            .iter()
            .find(|(_, since)| **since + ANSWER < self.now);
        if let Some((call, _)) = late {
            let what = format!("(20) call {} is not answered", call.0);
            self.fail(Violation(what));
        }
    }

    /// Controllers have too few queues for all volumes.
    pub(crate) fn is_crowded(&self) -> bool {
        usize::from(self.plan.io_queues) < self.plan.lanes * self.plan.volumes.len()
    }
}
