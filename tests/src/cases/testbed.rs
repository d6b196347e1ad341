//! The test bed itself: what every other case relies on.

use std::fs::File;
use std::net::IpAddr;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};

use crate::bed::{
    AnaState, ConnectOptions, Fio, KernelHost, Network, NullDisk, Nvmet, Process, Pull, Side,
    attempt, within,
};
use crate::suite::{Case, Topology};

/// The cases of this module.
pub(super) const CASES: &[Case] = &[
    Case {
        name: "bed-kernel-nvme-over-rxe",
        topology: Topology::Loopback(2),
        limit_seconds: 180,
        run: kernel_nvme_over_rxe,
    },
    Case {
        name: "bed-rping-over-a-cable",
        topology: Topology::Separate(1),
        limit_seconds: 90,
        run: rping_over_a_cable,
    },
    Case {
        name: "bed-pulled-cables",
        topology: Topology::Separate(2),
        limit_seconds: 90,
        run: pulled_cables,
    },
    Case {
        name: "bed-fio-finds-stale-blocks",
        topology: Topology::Loopback(0),
        limit_seconds: 90,
        run: fio_finds_stale_blocks,
    },
];

const NQN: &str = "nqn.2026-11.io.umpath:bed";
const SERVICE: u16 = 4420;

/// Kernel target and kernel host over soft-RoCE: data, and an ANA change that the host notices.
fn kernel_nvme_over_rxe(network: &Network) -> Result<()> {
    let disk = NullDisk::make("umpath0", 128)?;
    let address = |number| IpAddr::V4(network.cable(number).address(Side::Array));
    let states = [AnaState::Optimized, AnaState::NonOptimized];
    let target = Nvmet::start(network, NQN, disk.device(), &states)?;
    let host = KernelHost::new("rdma", NQN)?;
    for number in [1, 2] {
        host.connect(address(number), SERVICE, &ConnectOptions::default())?;
    }
    let device = host.device()?;
    let result = Fio::on(&device).write_and_verify("4k", "8m", 16).run()?;
    ensure!(
        result.read.total_ios == 2048,
        "fio compared {} blocks",
        result.read.total_ios
    );
    target.set_ana(1, AnaState::Inaccessible)?;
    target.set_ana(2, AnaState::Optimized)?;
    within(
        Duration::from_secs(10),
        "the host noticing the new ANA states",
        || {
            host.ana_states().is_ok_and(|states| {
                let count = |wanted| states.iter().filter(|(_, state)| state == wanted).count();
                count("inaccessible") == 1 && count("optimized") == 1
            })
        },
    )?;
    Fio::on(&device).write_and_verify("64k", "4m", 4).run()?;
    Ok(())
}

/// User-space verbs and the connection manager work across a cable between namespaces.
fn rping_over_a_cable(network: &Network) -> Result<()> {
    let address = network.cable(1).address(Side::Array).to_string();
    let args = ["-s", "-v", "-a", &address, "-C", "5"];
    let mut server = Process::start(network.array(), "rping-server", "rping", args)?;
    let answered = || {
        let client = attempt(
            network
                .host()
                .command("rping")
                .args(["-c", "-a", &address, "-C", "5"]),
        );
        client.is_ok_and(|client| client.status.success())
    };
    within(Duration::from_secs(30), "rping's answers", answered)?;
    server.wait(Duration::from_secs(10))?;
    Ok(())
}

/// A pulled plug takes the carrier of one side, which then returns; packet loss leaves both
/// carriers up.
fn pulled_cables(network: &Network) -> Result<()> {
    let short = Duration::from_secs(5);
    let (first, second) = (network.cable(1), network.cable(2));
    let reaches = |number| {
        let address = network.cable(number).address(Side::Array).to_string();
        let ping = attempt(
            network
                .host()
                .command("ping")
                .args(["-c", "1", "-W", "1", &address]),
        );
        ping.is_ok_and(|ping| ping.status.success())
    };
    within(short, "both cables carrying", || reaches(1) && reaches(2))?;
    first.pull(Pull::CarrierOf(Side::Host))?;
    within(short, "the host losing its carrier", || {
        !first.carrier(Side::Host)
    })?;
    ensure!(
        second.carrier(Side::Host) && reaches(2),
        "the other cable was affected"
    );
    first.restore()?;
    within(short, "the first cable carrying again", || {
        first.carrier(Side::Host) && reaches(1)
    })?;
    second.pull(Pull::Silent)?;
    within(short, "packet loss", || !reaches(2))?;
    ensure!(
        second.carrier(Side::Host) && second.carrier(Side::Array),
        "packet loss took a carrier"
    );
    second.restore()?;
    within(short, "the second cable carrying again", || reaches(2))
}

/// fio's verification, on which every case relies, detects a stale block and a misplaced one.
fn fio_finds_stale_blocks(_: &Network) -> Result<()> {
    let disk = NullDisk::make("umpath0", 16)?;
    let job = || Fio::on(disk.device()).write_and_verify("4k", "2m", 8);
    let earlier = job();
    earlier.run()?;
    let old = block(disk.device(), 7)?;
    let later = job();
    later.run()?;
    let (new, neighbour) = (block(disk.device(), 7)?, block(disk.device(), 8)?);
    let compare = || later.clone().with(["--verify_only=1"]).run();
    compare()?;
    for (what, bytes) in [
        ("a stale block", &old),
        ("a misplaced block", &neighbour),
        ("a missing block", &vec![0; BLOCK]),
    ] {
        put_block(disk.device(), 7, bytes)?;
        ensure!(compare().is_err(), "fio accepts {what}");
    }
    put_block(disk.device(), 7, &new)?;
    compare().map(drop)
}

const BLOCK: usize = 4096;

fn block(disk: &Path, number: u64) -> Result<Vec<u8>> {
    let mut bytes = vec![0; BLOCK];
    File::open(disk)?.read_exact_at(&mut bytes, number * BLOCK as u64)?;
    Ok(bytes)
}

fn put_block(disk: &Path, number: u64, bytes: &[u8]) -> Result<()> {
    let file = File::options().write(true).open(disk)?;
    file.write_all_at(bytes, number * BLOCK as u64)?;
    Ok(file.sync_all()?)
}
