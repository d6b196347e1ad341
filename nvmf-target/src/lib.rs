//! NVMe-oF target for drills, tests and demos.
