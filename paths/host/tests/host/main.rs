//! The host in hand-made situations: what it orders, and what an operator sees.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

mod adoption;
mod ending;
mod machine;
mod races;
mod replace;
mod rig;
mod sample;
mod timeline;
mod trouble;
