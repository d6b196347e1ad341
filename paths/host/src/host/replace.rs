//! Replacing the queue pair of one queue thread while its association lives on.
//!
//! A fabric that spreads flows over several ways can lose one queue pair and leave its siblings alone.
//! The thread that has it notices: reads or writes have had no answer for a while, and the peer's
//! device has not even acknowledged them. Decided here: whether that costs the queue pair or the
//! association.
//!
//! Only a queue pair without mutations in flight is replaced. The controller lives and may execute what
//! it had received at any time later, and nothing but the order fence of the whole association tells
//! when that is over. The queue thread has the last word, because only it knows what is in flight.
//!
//! The thread gives its queue pair up and drains it, the shell destroys it, and only then the thread
//! gets another one: at any time a thread has at most one queue pair on an association, and the
//! order fence counts them by thread.

use std::collections::BTreeMap;
use std::time::Duration;

use umpath_core::AssociationId;
use umpath_protocol::EventKind;

use super::{Host, same};
use crate::events::Subject;
use crate::order::QueueKey;
use crate::path::Request;
use crate::spec::VolumeKey;

/// A queue pair that is cut off so soon after another one was replaced costs the association.
const AGAIN: Duration = Duration::from_secs(30);

/// A replacement in progress.
#[derive(Debug, Default)]
struct Replacement {
    /// The thread has handed the old queue pair back; whether it had let go of memory by then.
    drained: Option<bool>,
    /// The thread owns its memory again.
    fenced: bool,
    /// The old queue pair is destroyed.
    gone: bool,
}

/// Replacements on one association, by queue thread.
#[derive(Debug, Default)]
pub(super) struct Replacements {
    under_way: BTreeMap<(VolumeKey, u16), Replacement>,
    /// When the last one was completed.
    done: BTreeMap<(VolumeKey, u16), Duration>,
}

impl Replacements {
    /// A queue thread that waits for a new queue pair.
    fn waiting(&self) -> Option<(VolumeKey, u16)> {
        let ready = |it: &Replacement| it.fenced && it.gone;
        let mut under_way = self.under_way.iter();
        under_way.find(|(_, it)| ready(it)).map(|(key, _)| *key)
    }

    fn forget(&mut self, key: (VolumeKey, u16)) {
        self.under_way.remove(&key);
        self.done.remove(&key);
    }
}

impl Host {
    /// A queue thread reports that its queue pair is cut off.
    pub(super) fn queue_cut_off(
        &mut self,
        volume: VolumeKey,
        queue: u16,
        association: AssociationId,
        mutations: bool,
    ) {
        let now = self.fx.now;
        let Some((path, _)) = self.path_with(association) else {
            return;
        };
        if self.path(path).ending {
            // It is given up in good order anyway.
            return;
        }
        let live = self.live_mut(path).expect("it was just found");
        let key = (volume, queue);
        let replacements = &mut live.replacements;
        let known = replacements.under_way.get(&key);
        if known.is_some_and(|it| it.drained.is_some()) {
            // Said of the queue pair that is being replaced.
            return;
        }
        let last = replacements.done.get(&key);
        let again = last.is_some_and(|last| now < *last + AGAIN);
        if mutations || again {
            return self.tell(association, Request::CutOff(association));
        }
        replacements.under_way.entry(key).or_default();
        if let Some(volume) = same(&mut self.volumes, volume) {
            volume.give_up_queue(association, queue, &mut self.fx);
        }
    }

    fn replacement(
        &mut self,
        association: AssociationId,
        key: (VolumeKey, u16),
    ) -> Option<(u32, &mut Replacement)> {
        let (path, _) = self.path_with(association)?;
        let live = self.live_mut(path).expect("it was just found");
        let replacement = live.replacements.under_way.get_mut(&key)?;
        Some((path, replacement))
    }

    /// A queue pair was handed back. Whether its replacement waits for its end.
    pub(super) fn replacement_drained(
        &mut self,
        association: AssociationId,
        key: (VolumeKey, u16),
        quiet: bool,
    ) -> bool {
        let Some((path, replacement)) = self.replacement(association, key) else {
            return false;
        };
        replacement.drained = Some(quiet);
        let live = self.live_mut(path).expect("it has a replacement");
        // Whoever gives the association up meanwhile has to wait for it.
        live.leaving.insert(QueueKey::Lane(key.0, key.1));
        true
    }

    /// A queue thread owns its memory again. Whether this is about a queue pair given up alone.
    pub(super) fn replacement_fenced(
        &mut self,
        association: AssociationId,
        key: (VolumeKey, u16),
        ghosts: usize,
    ) -> bool {
        let Some((path, replacement)) = self.replacement(association, key) else {
            return false;
        };
        assert_eq!(ghosts, 0, "a queue pair with mutations was given up alone");
        replacement.fenced = true;
        self.replace_when_it_can(path);
        true
    }

    /// The queue pair that is to be replaced is destroyed.
    pub(super) fn replacement_destroyed(
        &mut self,
        association: AssociationId,
        key: (VolumeKey, u16),
    ) {
        let Some((path, replacement)) = self.replacement(association, key) else {
            return;
        };
        replacement.gone = true;
        let quiet = replacement.drained.expect("it was handed back before");
        if !quiet && let Some(volume) = same(&mut self.volumes, key.0) {
            volume.queue_destroyed(association, key.1, &mut self.fx);
        }
        self.replace_when_it_can(path);
    }

    /// Gives queue threads that wait for it a new queue pair, or orders one.
    pub(super) fn replace_when_it_can(&mut self, path: u32) {
        let now = self.fx.now;
        if self.path(path).ending {
            return;
        }
        while let Some(live) = self.live_mut(path)
            && let Some(key) = live.replacements.waiting()
        {
            let association = live.association;
            let Some(qid) = live.spare.first().copied() else {
                return self.open_queues(path, 1);
            };
            live.replacements.under_way.remove(&key);
            live.replacements.done.insert(key, now);
            let (volume, queue) = key;
            let Some(volume) = same(&mut self.volumes, volume) else {
                continue;
            };
            if volume.replace_queue(association, queue, qid, &mut self.fx) {
                let words = format!(
                    "queue {queue} of volume {} has another queue pair ({qid}): the last one was cut off",
                    volume.name()
                );
                let live = self.live_mut(path).expect("it has a replacement");
                live.spare.remove(&qid);
                self.fx
                    .event(EventKind::QueueReplaced, Subject::path(path), words);
            }
        }
    }

    /// No queue pair is to be had for a queue thread that waits for one: only a new association gives it
    /// one.
    pub(super) fn replacement_failed(&mut self, path: u32) {
        if let Some(live) = self.live(path)
            && !self.path(path).ending
            && live.spare.is_empty()
            && live.replacements.waiting().is_some()
        {
            let association = live.association;
            self.fx.ask_path(path, Request::CutOff(association));
        }
    }

    /// A queue thread has ended.
    pub(super) fn forget_replacements(&mut self, volume: VolumeKey, queue: u16) {
        let live = self
            .paths
            .values_mut()
            .filter_map(|path| path.live.as_mut());
        for live in live {
            live.replacements.forget((volume, queue));
        }
    }
}
