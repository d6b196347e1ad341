//! What a test lets fail, and what it lets come late.

/// What fails, and why.
#[derive(Debug, Default)]
pub(crate) struct Failing {
    pub(crate) record: bool,
    pub(crate) build: bool,
    /// The first queue thread has begun when `build` fails.
    pub(crate) half_way: bool,
    pub(crate) register: bool,
    pub(crate) remove: bool,
    pub(crate) start: bool,
    /// What is noted later is never written.
    pub(crate) rewrite: bool,
    /// The driver does not say which block devices there are.
    pub(crate) find: bool,
}

/// What takes until [`Rig::finish_late`].
#[derive(Debug, Default)]
pub(crate) struct Late {
    pub(crate) records: bool,
    pub(crate) removals: bool,
    pub(crate) builds: bool,
    pub(crate) registrations: bool,
    /// The end of queue threads of devices that nobody saw.
    pub(crate) ends: bool,
    pub(crate) destructions: bool,
}
