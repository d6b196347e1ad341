//! The monitored link of a path's last association that was ready.
//!
//! It is monitored beyond the loss of that association, until the next one is ready: a link that
//! comes back is worth an attempt at once. The first report is only the state in which monitoring
//! began. It may come after the loss, and then says nothing about a change.

use umpath_core::AssociationId;

use super::Link;

/// What is known of the link.
#[derive(Debug, Default)]
pub(super) struct Watch {
    /// The association whose link is monitored, and whether its state was reported.
    monitored: Option<(AssociationId, bool)>,
}

/// What a report means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum News {
    /// The link of another association; nothing.
    Stale,
    /// The state in which monitoring began.
    First,
    /// The link has changed.
    Changed,
}

impl Watch {
    /// The link of this association is monitored from now on, and no other.
    pub(super) fn begin(&mut self, association: AssociationId) {
        if self.monitored.is_none_or(|(known, _)| known != association) {
            self.monitored = Some((association, false));
        }
    }

    /// A report about the link of an association.
    pub(super) fn heard(&mut self, association: AssociationId) -> News {
        match &mut self.monitored {
            Some((known, reported)) if *known == association => {
                if std::mem::replace(reported, true) {
                    News::Changed
                } else {
                    News::First
                }
            }
            _ => News::Stale,
        }
    }
}

/// Whether the link is back: an attempt may succeed now.
pub(super) fn is_back(news: News, link: Link) -> bool {
    news == News::Changed && link == Link::Up
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_change_of_the_link_monitored_now_brings_it_back() {
        let [first, second] = [AssociationId(1), AssociationId(2)];
        let mut watch = Watch::default();
        assert_eq!(watch.heard(first), News::Stale);
        watch.begin(first);
        // The watcher was ready only after the loss: the link was never away.
        let news = watch.heard(first);
        assert!(!is_back(news, Link::Up));
        let news = watch.heard(first);
        assert!(is_back(news, Link::Up) && !is_back(news, Link::Fatal));
        watch.begin(first);
        assert_eq!(watch.heard(first), News::Changed, "it is monitored already");
        watch.begin(second);
        assert_eq!(watch.heard(first), News::Stale);
        assert_eq!(watch.heard(second), News::First);
    }
}
