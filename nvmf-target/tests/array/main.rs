//! The array as hosts see it, driven without queues, threads or clocks.

mod commands;
mod garbage;
mod host;
mod reset;
