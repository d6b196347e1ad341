//! Volume names: aliases from the configuration, otherwise `vol1`, `vol2`, … assigned for good.
//!
//! A name once given to an identity is never given to another.

use std::collections::{BTreeMap, BTreeSet};

/// Bindings of identities to names.
#[derive(Debug, Default)]
pub(crate) struct Names {
    /// Identity to name.
    bound: BTreeMap<String, String>,
    /// Every name that is bound.
    taken: BTreeSet<String>,
    /// No `volN` below this N is free.
    next: u64,
}

impl Names {
    /// From saved pairs of name and identity.
    pub(crate) fn new(pairs: impl IntoIterator<Item = (String, String)>) -> Self {
        let bound: BTreeMap<String, String> =
            pairs.into_iter().map(|(name, id)| (id, name)).collect();
        let taken = bound.values().cloned().collect();
        Self {
            bound,
            taken,
            next: 1,
        }
    }

    /// The name of an identity: its alias, its bound name, or a new one that is not `in_use` by
    /// another volume. `true` if the bindings have changed.
    pub(crate) fn name(
        &mut self,
        id: &str,
        alias: Option<&str>,
        in_use: &dyn Fn(&str) -> bool,
    ) -> (String, bool) {
        if let Some(alias) = alias
            && !in_use(alias)
        {
            return (alias.to_owned(), false);
        }
        if let Some(name) = self.bound.get(id)
            && !in_use(name)
        {
            return (name.clone(), false);
        }
        let name = loop {
            let name = format!("vol{}", self.next);
            if !in_use(&name) && !self.taken.contains(&name) {
                break name;
            }
            self.next += 1;
        };
        self.bound.insert(id.to_owned(), name.clone());
        self.taken.insert(name.clone());
        (name, true)
    }

    /// Pairs of name and identity, to be saved.
    pub(crate) fn pairs(&self) -> Vec<(String, String)> {
        let pairs = self.bound.iter();
        pairs.map(|(id, name)| (name.clone(), id.clone())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_stays_with_its_identity() {
        let free = |_: &str| false;
        let mut names = Names::new([]);
        assert_eq!(names.name("uuid.b", None, &free), ("vol1".into(), true));
        assert_eq!(names.name("uuid.a", None, &free), ("vol2".into(), true));
        assert_eq!(
            names.name("uuid.c", Some("db"), &free),
            ("db".into(), false)
        );
        let mut again = Names::new(names.pairs());
        assert_eq!(again.name("uuid.a", None, &free), ("vol2".into(), false));
        assert_eq!(again.name("uuid.d", None, &free), ("vol3".into(), true));
        let db_used = |name: &str| name == "db";
        assert_eq!(
            again.name("uuid.e", Some("db"), &db_used),
            ("vol4".into(), true)
        );
    }
}
