//! Both ends of the transport against each other, over whatever RDMA devices the machine has.
//!
//! `pingpong serve ADDR` is a passive end that stores and returns blocks; `pingpong check ADDR
//! [SERVER_PID]` drives it through data, refusals, drains and its death, checks every byte, and ends
//! with `PASS` or the first failure. `run.sh` beside this file lays the cables (soft-RoCE over a
//! veth pair) and runs all of it; it needs root and a kernel with rdma_rxe. `run-nvmet.sh` does the
//! same with the kernel's own target as the passive end.

mod active;
mod nvmet;
mod passive;

use std::error::Error;
use std::net::SocketAddr;
use std::process::ExitCode;

use umpath_rdma::{ConnectParams, rdma_devices};

/// Any failure.
pub(crate) type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// A vendor command: no answer ever comes.
pub(crate) const OPCODE_PARK: u8 = 0xc0;
/// Store data.
pub(crate) const OPCODE_WRITE: u8 = 0x01;
/// Return stored data.
pub(crate) const OPCODE_READ: u8 = 0x02;
/// The queue identifier the passive end refuses.
pub(crate) const REFUSED_QID: u16 = 99;
/// Blocks of 512 bytes the passive end stores.
pub(crate) const BLOCKS: u32 = 1 << 16;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match run(&words) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("FAIL: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(words: &[&str]) -> Result<()> {
    match words {
        ["devices"] => {
            for device in rdma_devices() {
                println!("{device}");
            }
            Ok(())
        }
        ["serve", address] => passive::serve(address.parse()?),
        ["check", address] => active::check(address.parse()?),
        ["kill", address, pid] => active::kill_peer(address.parse()?, pid.parse()?),
        ["silence", address, command] => active::silence(address.parse()?, command),
        ["memlock", address] => active::memlock(address.parse()?),
        ["nvmet", address, name] => nvmet::check(address.parse()?, name),
        ["churn", address] => active::churn(address.parse()?),
        ["events", device, command] => active::events(device, command),
        ["connect", address] => {
            explain(address.parse()?);
            Ok(())
        }
        _ => Err(
            "pingpong devices | serve ADDR | check ADDR | kill ADDR PID | silence ADDR CMD | \
                  memlock ADDR | events DEVICE CMD | connect ADDR"
                .into(),
        ),
    }
}

/// Says what connecting there gives, in the words users see.
fn explain(address: SocketAddr) {
    match active::connect(ConnectParams::admin(address), None) {
        Ok(queue) => println!("connected through {}", queue.device()),
        Err(error) => println!("error: {error}"),
    }
}
