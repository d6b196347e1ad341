//! `umpath-target show` for people.

use umpath_target::array::Report;

/// Prints a report.
pub(super) fn report(report: &Report) {
    println!("Ports");
    for port in &report.ports {
        println!(
            "  {:<5} {} {}:{}",
            port.id, port.trtype, port.traddr, port.trsvcid
        );
        if let Some(trouble) = &port.trouble {
            println!("        {trouble}");
        }
        match port.device_replaced {
            0 => {}
            1 => println!("        its dead soft-RoCE device was deleted and added again once"),
            times => {
                println!(
                    "        its dead soft-RoCE device was deleted and added again {times} times"
                );
            }
        }
    }
    for subsystem in &report.subsystems {
        println!("\nSubsystem {}", subsystem.nqn);
        println!("  serial {}, model {}", subsystem.serial, subsystem.model);
        match (subsystem.allow_any_host, subsystem.hosts.as_slice()) {
            (true, _) => println!("  any host may connect"),
            (false, []) => println!("  no host may connect"),
            (false, hosts) => hosts.iter().for_each(|host| println!("  host {host}")),
        }
        for namespace in &subsystem.namespaces {
            let bytes = namespace.blocks * u64::from(namespace.block_bytes);
            println!(
                "  namespace {} {} blocks of {} ({} MiB), ANA group {}, uuid {}, {}",
                namespace.nsid,
                namespace.blocks,
                namespace.block_bytes,
                bytes >> 20,
                namespace.ana_group,
                namespace.uuid,
                namespace.backend,
            );
        }
        for ana in &subsystem.ana {
            println!("  port {} ANA group {} {}", ana.port, ana.group, ana.state);
        }
    }
    println!("\nControllers");
    for controller in &report.controllers {
        println!(
            "  {:<5} port {} {} <- {} ({} I/O queues, KATO {} ms, {} on media)",
            controller.cntlid,
            controller.port,
            controller.nqn.as_deref().unwrap_or("discovery"),
            controller.host,
            controller.io_queues,
            controller.kato_ms,
            controller.on_media,
        );
    }
}
