//! User-space NVMe-oF multipath daemon.

fn main() {}
