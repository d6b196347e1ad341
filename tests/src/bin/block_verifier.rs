//! `block-verifier DEVICE BLOCK`: writes and reads one block on request, past the page cache.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use umpath_tests::drill::verifier;

#[derive(Parser)]
#[command(
    name = "block-verifier",
    about = "Takes `write VALUE` and `read` from standard input, reports the outcome of each"
)]
struct Arguments {
    /// The block device
    device: PathBuf,
    /// The block, in units of 4 KiB
    block: u64,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match verifier::serve(&arguments.device, arguments.block) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("block-verifier: {error:#}");
            ExitCode::FAILURE
        }
    }
}
