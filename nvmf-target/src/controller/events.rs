//! Asynchronous events of one controller: which are wanted, which wait, which are masked.
//!
//! A notice is sent once and then masked until the host reads the log page that explains it. A
//! further change in between needs no second notice: the page is produced when it is read and
//! shows everything until then.

use umpath_nvme::Status;
use umpath_nvme::aen::AsyncEvent;

/// Requests a controller keeps (AERL + 1).
pub const REQUESTS_MAX: usize = 4;

/// What a notice is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notice {
    /// A namespace came, went or changed.
    Namespaces,
    /// An ANA group changed its state.
    Ana,
    /// The discovery log changed.
    Discovery,
    /// Cross-controller resets were completed.
    Resets,
    /// Another controller lost this host.
    LostHost,
}

impl Notice {
    const ALL: [Self; 5] = [
        Self::Namespaces,
        Self::Ana,
        Self::Discovery,
        Self::Resets,
        Self::LostHost,
    ];

    const fn event(self) -> AsyncEvent {
        match self {
            Self::Namespaces => AsyncEvent::NAMESPACE_ATTRIBUTE,
            Self::Ana => AsyncEvent::ANA_CHANGE,
            Self::Discovery => AsyncEvent::DISCOVERY_CHANGE,
            Self::Resets => AsyncEvent::CCR_COMPLETED,
            Self::LostHost => AsyncEvent::LOST_HOST,
        }
    }

    /// The bit in OAES and in the Asynchronous Event Configuration feature.
    pub const fn config_bit(self) -> u32 {
        match self.event().config_bit() {
            Some(bit) => bit,
            None => 0,
        }
    }

    /// The log page that explains it and clears it.
    pub const fn log_page(self) -> u8 {
        self.event().lid
    }

    const fn flag(self) -> u8 {
        1 << self as u8
    }
}

/// The event state of one controller.
#[derive(Debug, Default)]
pub struct Events {
    config: u32,
    requests: Vec<u16>,
    /// Notices raised that no request was there to carry.
    waiting: u8,
    /// Notices sent whose log page was not read yet.
    masked: u8,
}

/// A completion of an Asynchronous Event Request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Completion {
    /// Command identifier of the request.
    pub cid: u16,
    /// Completion dword 0.
    pub dword: u32,
}

impl Events {
    /// The Asynchronous Event Configuration feature.
    pub fn config(&self) -> u32 {
        self.config
    }

    /// Sets the feature; events switched off no longer wait.
    pub fn configure(&mut self, config: u32) {
        self.config = config;
        for notice in Notice::ALL {
            if config & notice.config_bit() == 0 {
                self.waiting &= !notice.flag();
            }
        }
    }

    /// Takes a request; it may be answered at once.
    pub fn request(&mut self, cid: u16) -> Result<Option<Completion>, Status> {
        if self.requests.len() >= REQUESTS_MAX {
            return Err(Status::AER_LIMIT_EXCEEDED.with_dnr());
        }
        self.requests.push(cid);
        Ok(self.match_up())
    }

    /// Something happened.
    pub fn raise(&mut self, notice: Notice) -> Option<Completion> {
        if self.config & notice.config_bit() != 0 && self.masked & notice.flag() == 0 {
            self.waiting |= notice.flag();
        }
        self.match_up()
    }

    /// The host read a log page without asking to retain the event.
    pub fn log_read(&mut self, log_page: u8) {
        for notice in Notice::ALL
            .into_iter()
            .filter(|notice| notice.log_page() == log_page)
        {
            self.masked &= !notice.flag();
            self.waiting &= !notice.flag();
        }
    }

    /// Takes a request back; true when it was there.
    pub fn abort(&mut self, cid: u16) -> bool {
        let before = self.requests.len();
        self.requests.retain(|request| *request != cid);
        self.requests.len() < before
    }

    /// Forgets everything, as a controller reset does.
    pub fn reset(&mut self) {
        *self = Self::default();
    }

    fn match_up(&mut self) -> Option<Completion> {
        let notice = Notice::ALL
            .into_iter()
            .find(|notice| self.waiting & notice.flag() != 0)?;
        if self.requests.is_empty() {
            return None;
        }
        let cid = self.requests.remove(0);
        self.waiting &= !notice.flag();
        self.masked |= notice.flag();
        Some(Completion {
            cid,
            dword: notice.event().to_dw0(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> Events {
        let mut events = Events::default();
        events.configure(u32::MAX);
        events
    }

    #[test]
    fn masked_until_the_log_is_read() {
        let mut events = all();
        assert_eq!(events.request(7), Ok(None));
        let sent = Completion {
            cid: 7,
            dword: 0x000c_0302,
        };
        assert_eq!(events.raise(Notice::Ana), Some(sent));
        assert_eq!(events.request(8), Ok(None));
        assert_eq!(events.raise(Notice::Ana), None, "masked");
        events.log_read(0x0c);
        assert_eq!(events.raise(Notice::Ana).map(|event| event.cid), Some(8));
    }

    #[test]
    fn waits_for_a_request_and_respects_the_configuration() {
        let mut events = all();
        assert_eq!(events.raise(Notice::Namespaces), None);
        assert_eq!(events.raise(Notice::Discovery), None);
        assert_eq!(
            events.request(1).map(|e| e.map(|e| e.dword)),
            Ok(Some(0x0004_0002))
        );
        assert_eq!(
            events.request(2).map(|e| e.map(|e| e.dword)),
            Ok(Some(0x0070_f002))
        );
        let mut events = Events::default();
        assert_eq!(events.request(1), Ok(None));
        assert_eq!(events.raise(Notice::Ana), None, "not asked for");
    }

    #[test]
    fn limit_and_abort() {
        let mut events = all();
        for cid in 0..REQUESTS_MAX as u16 {
            assert_eq!(events.request(cid), Ok(None));
        }
        assert!(events.request(9).is_err());
        assert!(events.abort(2));
        assert!(!events.abort(2));
        assert_eq!(events.request(9), Ok(None));
    }
}
