//! A ublk device over a namespace in memory: everything of a volume but the fabric.
//!
//! The upper bound for benchmarks, and a way to look at the front end alone. The control side is
//! played by a thread that takes verbs on standard input, one a line:
//! `cut P`, `silence P`, `convict P`, `fence P`, `restore P`, `resize MIB`, `stats`, `seen`.
//! With a command after `--` the device lives as long as the command, otherwise until the input
//! ends or says `remove`, `remove unused` or `abandon`.

mod store;
mod volume;

use std::io::BufRead;
use std::process::{Command, ExitCode};
use std::time::Duration;

use umpath_ublk::process;

use volume::{Options, Volume};

fn main() -> ExitCode {
    match run() {
        Ok(code) => code,
        Err(error) => {
            eprint!("memory: {error}");
            let mut cause = error.source();
            while let Some(inner) = cause {
                eprint!(": {inner}");
                cause = inner.source();
            }
            eprintln!();
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<ExitCode, Box<dyn std::error::Error>> {
    let (options, command) = arguments()?;
    process::unshare_mounts()?;
    process::become_io_flusher()?;
    process::lock_memory()?;
    let mut volume = Volume::start(&options)?;
    if let Some((program, arguments)) = command.split_first() {
        let input = std::thread::spawn(|| std::io::stdin().lines().map_while(Result::ok).collect());
        let status = Command::new(program).args(arguments).status()?;
        let _unread: std::thread::JoinHandle<Vec<String>> = input;
        volume.stats();
        volume.seen();
        volume.remove(false)?;
        return Ok(ExitCode::from(status.code().unwrap_or(255) as u8));
    }
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            ["remove"] => break,
            ["remove", "unused"] => match volume.remove(true) {
                Ok(()) => return Ok(ExitCode::SUCCESS),
                Err(error) => eprintln!("{error}"),
            },
            ["abandon"] => {
                volume.abandon();
                return Ok(ExitCode::SUCCESS);
            }
            ["sleep", ms] => std::thread::sleep(Duration::from_millis(ms.parse()?)),
            ref words => {
                if let Err(error) = volume.obey(words) {
                    eprintln!("{error}");
                }
            }
        }
    }
    volume.remove(false)?;
    Ok(ExitCode::SUCCESS)
}

fn arguments() -> Result<(Options, Vec<String>), Box<dyn std::error::Error>> {
    let mut options = Options::default();
    let mut given = std::env::args().skip(1);
    while let Some(word) = given.next() {
        let mut number = || {
            let word = given.next().ok_or("a number is missing")?;
            word.parse::<u32>().map_err(|e| e.to_string())
        };
        match word.as_str() {
            "--mib" => options.mebibytes = number()?,
            "--queues" => options.queues = number()? as u16,
            "--depth" => options.depth = number()? as u16,
            "--paths" => options.paths = number()? as u8,
            "--poll-us" => options.poll_us = number()?,
            "--image" => options.image = Some(given.next().ok_or("a file is missing")?),
            "--recover" => options.recover = Some(number()?),
            "--null" => options.null = true,
            "--no-cache" => options.volatile_cache = false,
            "--" => break,
            _ => return Err(format!("what is {word}?").into()),
        }
    }
    Ok((options, given.collect()))
}
