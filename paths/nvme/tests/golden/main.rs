//! Bytes recorded from a Linux 7.2 kernel's own NVMe-oF host and target decode to what was
//! configured there, and encode back to the same bytes.
//!
//! `capture.sh` beside this file records them; `linux-7.2/kernel.txt` names the exact kernel. What
//! is expected here comes from that script's configuration and from Linux's own log messages, not
//! from our codecs.

mod capsules;
mod cm;
mod pages;
