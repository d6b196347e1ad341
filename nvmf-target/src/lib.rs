//! NVMe-oF target for drills, tests and demos: a small HA array in one or more processes.
//!
//! Two halves. The pure one decides everything a host can observe: [`model`] (names, identifiers,
//! states), [`gate`] (what may reach the media, and the board that processes share), [`subsystem`],
//! [`controller`] (commands, registers, features, logs, events), [`array`] (ports, connections,
//! changes), [`output`] (what the array wants done) and [`fault`] (who misbehaves on demand). It takes
//! commands and the present time and is driven by the program here and by simulators alike.
//! The other half does I/O: [`media`] (backing stores), [`fence`] (what processes on one store
//! share), [`engine`] (threads, queues, data) and [`control`] (the Unix socket and its verbs).
//! [`config`] is the file both start from.

pub mod array;
pub mod config;
pub mod control;
pub mod controller;
pub mod engine;
pub mod fault;
pub mod fence;
pub mod gate;
pub mod media;
pub mod model;
pub mod output;
pub mod subsystem;
mod sync;
