//! What an asynchronous event means to a session (NVMe Base 2.x §5.2.2).

use umpath_nvme::AsyncEvent;
use umpath_nvme::aen::config;

/// Every event a session asks for.
pub(crate) const WANTED: u32 = config::NAMESPACE_ATTRIBUTE
    | config::FIRMWARE_ACTIVATION
    | config::ANA_CHANGE
    | config::CCR_COMPLETED
    | config::LOST_HOST;

/// An asynchronous event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Notice {
    /// Namespaces appeared, vanished or changed.
    Namespaces,
    /// ANA states changed.
    Ana,
    /// Resets of other controllers were completed.
    Resets,
    /// Other controllers lost this host.
    LostHosts,
    /// Something a session does not act on.
    Other(AsyncEvent),
}

impl Notice {
    pub(crate) fn of(dword0: u32) -> Self {
        let event = AsyncEvent::from_dw0(dword0);
        if event.is(AsyncEvent::NAMESPACE_ATTRIBUTE) {
            Self::Namespaces
        } else if event.is(AsyncEvent::ANA_CHANGE) {
            Self::Ana
        } else if event.is(AsyncEvent::CCR_COMPLETED) {
            Self::Resets
        } else if event.is(AsyncEvent::LOST_HOST) {
            Self::LostHosts
        } else {
            Self::Other(event)
        }
    }
}
