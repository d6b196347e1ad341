//! User-space NVMe-oF multipath daemon.
#![allow(dead_code, unused_imports)]

mod args;
mod clock;
mod config;
mod events;
mod host;
mod lock;
mod names;
mod netif;
mod server;
mod usage;

fn main() {}
