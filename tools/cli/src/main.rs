//! `umpath`: the command line of `umpathd`.
//!
//! It sends requests over the control socket and prints the answers; it decides nothing about
//! volumes or paths. Flags are nvme-cli's, layouts those of `multipath` and `nvme`, and every
//! command prints JSON with `-o json`. Exit status: 0 done, 1 refused or failed, 2 invalid command
//! line (clap).

mod args;
mod client;
mod config;
mod format;
mod import;
mod man;
mod text;
mod view;

use std::io::Write as _;
use std::process::ExitCode;

use args::{Cli, Local};
use clap::Parser as _;
use format::Format;
use umpath_protocol::{Failure, Reply};

fn main() -> ExitCode {
    if let Some(status) = umpath_man::answer(man::pages) {
        return status;
    }
    let cli = Cli::parse();
    let format = cli.output_format;
    let outcome = match cli.local() {
        Some(Local::Config(args)) => config::run(args, format),
        Some(Local::Import(args)) => import::run(args, format).map(|outcome| {
            eprint!("{}", outcome.err);
            (outcome.out, outcome.complete)
        }),
        None => run(cli),
    };
    match outcome {
        Ok((text, complete)) => {
            print(&text);
            if complete {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            }
        }
        Err(failure) => {
            match format {
                Format::Json => print(&view::json::failed(&failure)),
                Format::Normal => eprintln!("umpath: {failure}"),
            }
            ExitCode::FAILURE
        }
    }
}

/// Sends the request and renders the answer. The flag is `false` if only part of it could be done.
fn run(cli: Cli) -> Result<(String, bool), Failure> {
    let format = cli.output_format;
    let socket = cli.socket.clone();
    let (request, view) = cli.into_request()?;
    let reply = client::ask(&socket, request)?;
    let complete = match &reply {
        Reply::Failed(failure) => return Err(failure.clone()),
        Reply::Connected { failures, .. } => failures.is_empty(),
        _ => true,
    };
    Ok((view::draw(view, &reply, format)?, complete))
}

/// Writes to standard output; a closed pipe (`umpath … | head`) must not cause a panic.
fn print(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes());
    if !text.is_empty() && !text.ends_with('\n') {
        let _ = out.write_all(b"\n");
    }
    let _ = out.flush();
}
