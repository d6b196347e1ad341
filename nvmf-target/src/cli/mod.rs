//! The command line.

mod fault;
pub(crate) mod man;
mod nvmf;
mod print;

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use clap::{Parser, Subcommand, ValueEnum};
use tracing::info;
use tracing_appender::non_blocking::WorkerGuard;
use umpath_target::config::Config;
use umpath_target::control::{Operator, Reply, SOCKET, Server, Verb, call};
use umpath_target::engine::{Conductor, EndSignals};

/// An NVMe-oF target that plays a small HA array.
#[derive(Debug, Parser)]
#[command(name = "umpath-target", version)]
pub(crate) struct Cli {
    /// Socket of the running target
    #[arg(long, global = true, default_value = SOCKET)]
    socket: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a target until SIGTERM
    Serve {
        /// Configuration file; without one the target starts empty
        #[arg(long)]
        config: Option<PathBuf>,
        /// Check the configuration file and stop
        #[arg(long, requires = "config")]
        check: bool,
    },
    /// Change the running target
    #[command(subcommand)]
    Nvmf(nvmf::Nvmf),
    /// Make commands of the running target misbehave, for drills and tests
    #[command(subcommand)]
    Fault(fault::FaultVerb),
    /// Show what the running target serves, and to whom
    Show {
        /// Output format
        #[arg(short, long, value_enum, default_value_t)]
        output: Format,
    },
}

#[derive(Debug, Clone, Copy, Default, ValueEnum)]
enum Format {
    /// For people
    #[default]
    Normal,
    /// For programs
    Json,
}

const ANOTHER: &str = "the running target answered another question";

/// Runs the command line.
pub(crate) fn run() -> Result<ExitCode> {
    let cli = Cli::parse();
    match cli.command {
        Command::Serve { config, check } => serve(config.as_deref(), check, &cli.socket)?,
        Command::Nvmf(verb) => {
            let verb = verb.into_verb()?;
            match ask(&cli.socket, &verb)? {
                Reply::Done(done) => println!("{done}"),
                Reply::Failed(why) => bail!("{why}"),
                Reply::Report(_) | Reply::Faults(_) => bail!(ANOTHER),
            }
        }
        Command::Fault(verb) => match ask(&cli.socket, &verb.into_verb()?)? {
            Reply::Done(done) => println!("{done}"),
            Reply::Faults(rules) => rules.iter().for_each(|rule| println!("{rule}")),
            Reply::Failed(why) => bail!("{why}"),
            Reply::Report(_) => bail!(ANOTHER),
        },
        Command::Show { output } => match ask(&cli.socket, &Verb::Show)? {
            Reply::Report(report) => match output {
                Format::Normal => print::report(&report),
                Format::Json => println!("{}", serde_json::to_string_pretty(&report)?),
            },
            Reply::Done(_) | Reply::Faults(_) => bail!(ANOTHER),
            Reply::Failed(why) => bail!("{why}"),
        },
    }
    Ok(ExitCode::SUCCESS)
}

fn ask(socket: &Path, verb: &Verb) -> Result<Reply> {
    Ok(call(socket, verb)?)
}

fn serve(file: Option<&Path>, check: bool, socket: &Path) -> Result<()> {
    let config = match file {
        None => Config::default(),
        Some(file) => {
            let text = std::fs::read_to_string(file)
                .with_context(|| format!("cannot read {}", file.display()))?;
            Config::parse(&text).with_context(|| file.display().to_string())?
        }
    };
    if check {
        println!("the configuration is valid");
        return Ok(());
    }
    // Before the first thread is there, which is the log's.
    let signals = EndSignals::take().context("cannot take over signals")?;
    let _log = start_log();
    let conductor = Conductor::start(&config, signals)?;
    let server = Server::bind(socket)?;
    let operator = Arc::new(Operator::new(
        Arc::clone(conductor.hub()),
        conductor.listener_orders(),
    ));
    operator.configure(&config)?;
    server.spawn(operator).context("cannot start a thread")?;
    info!(socket = %socket.display(), "ready");
    conductor.run()?;
    Ok(())
}

/// Starts the log, with a thread of its own to write it: reactors log, and must not wait for a disk.
/// What is still unwritten is written when the guard goes.
fn start_log() -> WorkerGuard {
    let filter = tracing_subscriber::EnvFilter::try_from_env("UMPATH_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    let (writer, guard) = tracing_appender::non_blocking(std::io::stderr());
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(writer)
        .init();
    guard
}
