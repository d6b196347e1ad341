//! Runs the VM ahead of other programs.
//!
//! Programs in the VM measure time by its own clock: while another program has the CPU, a
//! keep-alive in the VM is late and a healthy association expires. So while a VM runs, this
//! process, and QEMU after it, has a better nice value. If sessions are scheduled as groups
//! (autogroup, see sched(7)), nice values count only within one, so the session's group gets a
//! better one as well, which is restored afterwards. Needs root; otherwise nothing changes.

use std::fs;

/// Far ahead of ordinary programs, behind what the system considers urgent.
const NICE: i32 = -10;

const GROUP: &str = "/proc/self/autogroup";

/// While this exists, the VM has priority.
pub(crate) struct First {
    group_before: Option<i32>,
}

impl First {
    /// Raises the priority.
    pub(crate) fn take() -> Self {
        let _ = rustix::process::setpriority_process(None, NICE);
        let before = fs::read_to_string(GROUP)
            .ok()
            .and_then(|text| group_nice(&text));
        let group_before = before.filter(|nice| *nice > NICE && set_group(NICE));
        Self { group_before }
    }
}

impl Drop for First {
    fn drop(&mut self) {
        if let Some(nice) = self.group_before {
            set_group(nice);
        }
        let _ = rustix::process::setpriority_process(None, 0);
    }
}

fn set_group(nice: i32) -> bool {
    fs::write(GROUP, nice.to_string()).is_ok()
}

/// Parses the nice value in `/autogroup-14 nice 0`.
fn group_nice(text: &str) -> Option<i32> {
    text.trim().rsplit_once(" nice ")?.1.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_groups_nice_value_is_read() {
        assert_eq!(group_nice("/autogroup-14 nice 0\n"), Some(0));
        assert_eq!(group_nice("/autogroup-3 nice -7\n"), Some(-7));
        assert_eq!(group_nice("/\n"), None);
    }
}
