//! What of a lane decides about its future, for the exhaustive check (`crate::exhaustive`).
//!
//! Two lanes with the same projection answer every input alike. Left out are counters, times (the
//! check's clock stands still) and the numbers by which commands are known: a command is named by its
//! place, because the check gives every write a tag of its own. A field that is added to the lane
//! does not compile here until somebody has decided whether it belongs; whether that was right is
//! tested by the check itself, which compares lanes of the same projection.

use std::fmt::Write as _;

use super::Guard;
use crate::ghost::Ghost;
use crate::lane::Lane;
use crate::lane::command::{Command, State, tag_of};
use crate::lane::queue_pair::QueuePairState;
use crate::lane::store::{ByEffect, Queues};

impl Lane {
    pub(crate) fn projection(&self) -> String {
        let Self {
            config,
            table,
            shared: _,
            // Asked with different loads only, so it breaks no ties.
            selector: _,
            node: _,
            requests,
            commands,
            pairs: _,
            queues,
            offers,
            actions,
            events,
            guard,
            convicted: _,
            starving,
            // Of no effect while there are only mutations.
            mutations_first: _,
            sequence: _,
            check_due: _,
            stats: _,
        } = self;
        assert!(actions.is_empty() && events.is_empty(), "all is taken");
        let mut text = String::new();
        let mut put = |part: &dyn core::fmt::Debug| {
            let _ = write!(text, "{part:?};");
        };
        put(&config.id);
        put(&(&table.paths, &table.groups, table.active, table.on_no_path));
        for request in requests.iter().filter(|request| request.active) {
            put(request);
        }
        let mut used: Vec<(u64, u16)> = (0..)
            .zip(commands.iter())
            .filter(|(_, command)| command.state != State::Free)
            .map(|(number, command)| (command.sequence, number))
            .collect();
        used.sort_unstable();
        for (_, number) in used {
            put(&(number, nameless(commands[number])));
        }
        self.put_links(&mut put);
        let Queues {
            released,
            retry,
            fresh,
            ghosts,
            failing,
            parked,
            delayed,
        } = queues;
        for ByEffect { plain, mutation } in [retry, fresh] {
            put(&(plain, mutation));
        }
        put(&(released, ghosts, failing, parked, delayed));
        put(&(offers.count, offers.reachable, starving));
        self.put_guard(guard, &mut put);
        text
    }

    fn put_links(&self, put: &mut dyn FnMut(&dyn core::fmt::Debug)) {
        let mut pairs: Vec<_> = self
            .pairs
            .iter()
            .filter(|pair| pair.state != QueuePairState::Free)
            .collect();
        pairs.sort_unstable_by_key(|pair| pair.association);
        for pair in pairs {
            let mut in_flight: Vec<u16> = pair.commands().collect();
            in_flight.sort_unstable();
            put(&(pair.association, pair.path, pair.state, in_flight));
            put(&(pair.nsid, pair.limits, pair.ana_refused, pair.blocked_until));
        }
    }

    fn put_guard(&self, guard: &Guard, put: &mut dyn FnMut(&dyn core::fmt::Debug)) {
        let Guard {
            table,
            closed,
            in_flight,
            locked,
            closing,
        } = guard;
        put(&(closed, in_flight, locked, closing));
        // Tables come in order, so no generation matters but that it is the last.
        put(&table.resend());
        let mut ghosts: Vec<_> = table.ghosts().map(|ghost| self.named(ghost)).collect();
        ghosts.sort_unstable();
        put(&ghosts);
    }

    /// A ghost, and the tag of its owner where that is a command of this lane.
    fn named(&self, ghost: &Ghost) -> (u64, u64, u64, Option<u16>) {
        let own = (0..)
            .zip(self.commands.iter())
            .filter(|(_, command)| command.state != State::Free)
            .find(|(number, _)| ghost.owner == Some(self.owner(*number)));
        let tag = own.map(|(number, _)| tag_of(number));
        (ghost.association.0, ghost.lba, ghost.blocks, tag)
    }
}

/// A command without the numbers by which it is known.
fn nameless(command: Command) -> Command {
    Command {
        birth: 0,
        sequence: 0,
        cid: 0,
        ..command
    }
}
