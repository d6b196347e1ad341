//! The program around the array: threads, queues, data and clocks. Linux only.
//!
//! | thread | owns | waits for |
//! |---|---|---|
//! | conductor (`main`) | listeners, timers, the end | connection requests, deadlines, signals |
//! | reactor, one or more | queues, a ring, data memory | completions, media, its mailbox |
//! | control | the Unix socket | verbs |
//! | admission, as many as needed up to a limit | a request to connect | what accepting takes |
//! | devices | nothing | the next check of the RDMA devices |
//!
//! The array sits behind one lock that admin commands and verbs take and I/O commands never do. An
//! I/O queue has its own access to the controller ([`crate::controller::view::IoAccess`]) and
//! touches only what its reactor owns.
//!
//! A request's life is drawn in `request`. `faults` is asked whether a request is to misbehave,
//! `execute` executes it, `flow` drives it with both, `upkeep` ends queues, and `reactor` is the loop
//! that calls them: each uses only those named before it.

mod admission;
mod buffers;
mod clock;
mod conductor;
mod devices;
mod execute;
mod faults;
mod flow;
mod hub;
mod line;
mod listeners;
mod mailbox;
mod pending_connects;
mod pool;
mod queue;
mod reactor;
mod request;
mod ring;
mod signals;
mod unacknowledged;
mod upkeep;
mod waiting;

pub use clock::Clock;
pub use conductor::{Conductor, ListenerOrders, StartError};
pub use hub::Hub;
pub use signals::EndSignals;
