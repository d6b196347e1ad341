//! Fixed tables and queues of a lane: their memory is allocated once.

use std::collections::VecDeque;
use std::ops::{Index, IndexMut};

/// A table indexed by numbers the lane made itself.
#[derive(Debug)]
pub(super) struct Table<T>(Vec<T>);

impl<T: Clone> Table<T> {
    pub(super) fn new(count: usize, entry: T) -> Self {
        Self(vec![entry; count])
    }

    /// An empty table with room for `most` entries.
    pub(super) fn with_room(most: usize) -> Self {
        Self(Vec::with_capacity(most))
    }

    /// Adds an entry; `None`: there are `most` already.
    pub(super) fn add(&mut self, most: usize, entry: T) -> Option<u16> {
        let at = self.0.len();
        (at < most).then(|| {
            self.0.push(entry);
            at as u16
        })
    }

    pub(super) fn iter(&self) -> std::slice::Iter<'_, T> {
        self.0.iter()
    }

    pub(super) fn iter_mut(&mut self) -> std::slice::IterMut<'_, T> {
        self.0.iter_mut()
    }
}

#[expect(
    clippy::indexing_slicing,
    reason = "numbers of a lane's own making are in range"
)]
impl<T> Index<u16> for Table<T> {
    type Output = T;

    fn index(&self, at: u16) -> &T {
        &self.0[usize::from(at)]
    }
}

#[expect(
    clippy::indexing_slicing,
    reason = "numbers of a lane's own making are in range"
)]
impl<T> IndexMut<u16> for Table<T> {
    fn index_mut(&mut self, at: u16) -> &mut T {
        &mut self.0[usize::from(at)]
    }
}

/// One queue for what changes the medium and one for what does not, so that reads never wait for
/// writes.
#[derive(Debug)]
pub(super) struct ByEffect {
    pub(super) plain: VecDeque<u16>,
    pub(super) mutation: VecDeque<u16>,
}

impl ByEffect {
    fn new(capacity: usize) -> Self {
        Self {
            plain: VecDeque::with_capacity(capacity),
            mutation: VecDeque::with_capacity(capacity),
        }
    }

    pub(super) fn of(&mut self, mutation: bool) -> &mut VecDeque<u16> {
        if mutation {
            &mut self.mutation
        } else {
            &mut self.plain
        }
    }

    fn is_empty(&self) -> bool {
        self.plain.is_empty() && self.mutation.is_empty()
    }
}

/// Everything that waits. A command is in at most one queue, a tag in at most one of `fresh`.
#[derive(Debug)]
pub(super) struct Queues {
    /// Lost mutations that may be sent again: before anything else.
    pub(super) released: VecDeque<u16>,
    /// Commands to send again.
    pub(super) retry: ByEffect,
    /// Tags with blocks no command was made for yet.
    pub(super) fresh: ByEffect,
    /// Lost mutations that wait for their lock or order fence, in the order they were sent.
    pub(super) ghosts: VecDeque<u16>,
    /// The same of requests that fail as soon as it is safe to tell the caller.
    pub(super) failing: VecDeque<u16>,
    /// Mutations that overlap a ghost of another owner.
    pub(super) parked: VecDeque<u16>,
    /// Commands that wait for a time.
    pub(super) delayed: VecDeque<u16>,
}

impl Queues {
    pub(super) fn new(tags: usize, commands: usize) -> Self {
        Self {
            released: VecDeque::with_capacity(commands),
            retry: ByEffect::new(commands),
            fresh: ByEffect::new(tags),
            ghosts: VecDeque::with_capacity(commands),
            failing: VecDeque::with_capacity(commands),
            parked: VecDeque::with_capacity(commands),
            delayed: VecDeque::with_capacity(commands),
        }
    }

    /// Nothing could be sent if there were a path.
    pub(super) fn nothing_to_send(&self) -> bool {
        self.released.is_empty() && self.retry.is_empty() && self.fresh.is_empty()
    }

    /// Some tag that waits and has not failed, if any; `tag_of` tells the tag of a command.
    pub(super) fn some_tag(&self, tag_of: impl Fn(u16) -> u16) -> Option<u16> {
        let tag = self
            .fresh
            .plain
            .front()
            .or_else(|| self.fresh.mutation.front())
            .copied();
        tag.or_else(|| {
            let commands = [
                &self.released,
                &self.retry.plain,
                &self.retry.mutation,
                &self.ghosts,
                &self.parked,
                &self.delayed,
            ];
            commands
                .into_iter()
                .find_map(|queue| queue.front().map(|at| tag_of(*at)))
        })
    }

    /// Takes a tag and its commands out of every queue but `failing`.
    pub(super) fn forget(&mut self, tag: u16, tag_of: impl Fn(u16) -> u16) {
        self.fresh.plain.retain(|known| *known != tag);
        self.fresh.mutation.retain(|known| *known != tag);
        for queue in [
            &mut self.released,
            &mut self.retry.plain,
            &mut self.retry.mutation,
            &mut self.ghosts,
            &mut self.parked,
            &mut self.delayed,
        ] {
            queue.retain(|command| tag_of(*command) != tag);
        }
    }
}
