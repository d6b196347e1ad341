//! Command line of umpathd.

fn main() {}
