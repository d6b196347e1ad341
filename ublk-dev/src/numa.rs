//! Which NUMA node a queue's CPUs belong to.

use std::fs;
use std::path::Path;

use rustix::thread::CpuSet;

/// The node all of these CPUs belong to; `None` where they belong to several, or nobody knows.
pub(crate) fn node_of(cpus: &CpuSet) -> Option<u16> {
    let mut nodes = (0..CpuSet::MAX_CPU)
        .filter(|cpu| cpus.is_set(*cpu))
        .map(node_of_cpu);
    let first = nodes.next()??;
    nodes.all(|node| node == Some(first)).then_some(first)
}

/// A CPU's folder in sysfs has a link named `nodeN`.
fn node_of_cpu(cpu: usize) -> Option<u16> {
    let folder = Path::new("/sys/devices/system/cpu").join(format!("cpu{cpu}"));
    let entries = fs::read_dir(folder).ok()?;
    entries.flatten().find_map(|entry| {
        let name = entry.file_name();
        name.to_str()?.strip_prefix("node")?.parse().ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_cpu_is_on_no_node() {
        assert_eq!(node_of(&CpuSet::new()), None);
    }

    #[test]
    fn a_cpu_is_where_sysfs_says() {
        let mut cpus = CpuSet::new();
        cpus.set(0);
        let known = Path::new("/sys/devices/system/cpu/cpu0/node0").exists();
        if known {
            assert_eq!(node_of(&cpus), Some(0));
        }
        cpus.set(CpuSet::MAX_CPU - 1);
        assert_eq!(node_of(&cpus), None, "no such CPU here");
    }
}
