//! Path numbers as operators use them: assigned once and kept across restarts.
//!
//! A number belongs to a path's addresses and subsystem, not to a connection. So the numbers of
//! configured paths are reserved in configuration order before any of them connects.

use std::collections::{BTreeMap, BTreeSet};

use umpath_protocol::Portal;

/// Bindings of path keys to numbers.
#[derive(Debug, Default)]
pub(super) struct Numbers {
    known: BTreeMap<String, u32>,
    last: u32,
}

impl Numbers {
    /// From saved pairs of key and number.
    pub(super) fn new(pairs: impl IntoIterator<Item = (String, u32)>) -> Self {
        let known: BTreeMap<String, u32> = pairs.into_iter().collect();
        let last = known.values().copied().max().unwrap_or(0);
        Self { known, last }
    }

    /// The number of a path; `true` if it was assigned just now.
    pub(super) fn number(&mut self, key: &str) -> (u32, bool) {
        if let Some(number) = self.known.get(key) {
            return (*number, false);
        }
        // A saved number may be the highest there is.
        let number = self.last.checked_add(1).unwrap_or_else(|| self.unused());
        self.bind(key, number);
        (number, true)
    }

    fn unused(&self) -> u32 {
        let taken: BTreeSet<u32> = self.known.values().copied().collect();
        let mut all = 1..=u32::MAX;
        let unused = all.find(|number| !taken.contains(number));
        unused.expect("fewer paths than numbers")
    }

    /// Binds a number to a path, by reservation or record; `true` if the binding is new.
    pub(super) fn bind(&mut self, key: &str, number: u32) -> bool {
        self.last = self.last.max(number);
        self.known.insert(key.to_owned(), number) != Some(number)
    }

    /// Drops the binding of a removed path; `true` if there was one.
    pub(super) fn forget(&mut self, number: u32) -> bool {
        let known = self.known.len();
        self.known.retain(|_, other| *other != number);
        self.known.len() != known
    }

    /// Pairs of key and number, to be saved.
    pub(super) fn pairs(&self) -> Vec<(String, u32)> {
        let pairs = self.known.iter();
        pairs.map(|(key, number)| (key.clone(), *number)).collect()
    }
}

/// The identity of a path, the same at every connection.
pub(super) fn key(portal: &Portal, nqn: &str) -> String {
    let service = portal.trsvcid.as_deref().unwrap_or("4420");
    let from = portal.host_traddr.as_deref().unwrap_or("");
    let interface = portal.host_iface.as_deref().unwrap_or("");
    let Portal {
        transport, traddr, ..
    } = portal;
    format!("{transport},{traddr},{service},{from},{interface} {nqn}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_number_there_is_is_not_exceeded() {
        let mut numbers = Numbers::new([("a".to_owned(), u32::MAX), ("b".to_owned(), 1)]);
        assert_eq!(numbers.number("c"), (2, true));
        assert_eq!(numbers.number("d"), (3, true));
    }

    #[test]
    fn a_path_has_its_number_again_after_a_restart() {
        let mut numbers = Numbers::new([]);
        assert_eq!(numbers.number("a"), (1, true));
        assert_eq!(numbers.number("b"), (2, true));
        assert_eq!(numbers.number("a"), (1, false));
        let mut next = Numbers::new(numbers.pairs());
        assert_eq!(next.number("b"), (2, false));
        assert_eq!(next.number("c"), (3, true));
        assert!(next.forget(3));
        assert_eq!(next.number("d"), (4, true), "no number means two paths");
    }
}
