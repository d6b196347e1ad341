//! What runs on a real kernel: the test bed and the cases on it.
//!
//! These programs are built on the host and run as root inside a VM (`cargo xtask vm-suite`), or on
//! a machine of their own: they make network namespaces, load modules and configure the kernel's
//! own NVMe target. [`bed`] builds and tears down; [`cases`] lists what is checked; [`suite`] runs
//! the cases and counts. [`demo`] is the product's main job from end to end (`cargo xtask demo`);
//! [`drill`] measures single failovers (`cargo xtask drill`).

pub mod bed;
pub mod cases;
pub mod demo;
pub mod drill;
pub mod sim;
pub mod suite;
