//! User-space NVMe-oF multipath daemon.
//!
//! `umpathd` connects to every controller of its volumes, shows each volume as `/dev/ublkbN`, and
//! moves I/O between the paths. Its decisions are made in `umpath_host` and the crates below
//! it, which do no I/O; this crate gives them sockets, clocks, files and threads.
//!
//! Threads: two control workers (every association, every timer, the control socket), one thread for
//! each queue of each volume (`umpath_ublk`), one that writes the log, and short-lived ones for calls
//! that block.

mod args;
mod association;
mod build;
mod clock;
mod config;
mod connect_all;
mod context;
mod detection;
mod discovery;
mod durable;
mod identity;
mod keeper;
mod links;
mod lock;
mod man;
mod message;
mod netif;
mod notify;
mod readiness;
mod records;
mod runtime;
mod server;
mod settings;
mod shell;
mod spec;
mod usage;

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use clap::Parser as _;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tracing_appender::non_blocking::WorkerGuard;
use tracing_subscriber::EnvFilter;

use args::Args;
use context::Context;
use identity::Identity;
use keeper::{Keeper, Kept};
use links::Links;
use lock::Lock;
use message::Message;
use records::Records;
use shell::Shell;

/// Requests waiting for the hub.
const CALLS_WAITING: usize = 64;

fn main() -> ExitCode {
    if let Some(status) = umpath_man::answer(man::pages) {
        return status;
    }
    let args = Args::parse();
    if args.print_defaults {
        print!("{}", config::DOCUMENTED);
        return ExitCode::SUCCESS;
    }
    end_with_any_panic();
    if args.check {
        return check(&args.config);
    }
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("umpathd: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Ends the process when any of its threads or tasks panics, once that is reported.
///
/// Whatever panicked will not say what it had in flight, nor give its association up: everything
/// that waits for it would wait for ever. A restart puts it right (see `umpath_host`).
fn end_with_any_panic() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        report(panic);
        std::process::exit(shell::EXIT_SOFTWARE);
    }));
}

/// Reads the configuration as the daemon would. Mistakes are the answer, and so go to standard output.
fn check(main: &Path) -> ExitCode {
    // A daemon without a file runs on defaults, but whoever names one means one that exists.
    if !main.exists() && main != Path::new(args::CONFIG) {
        println!("{}: there is no such file", main.display());
        return ExitCode::FAILURE;
    }
    match config::load(main) {
        Ok(_) => {
            println!("ok");
            ExitCode::SUCCESS
        }
        Err(wrong) => {
            println!("{wrong}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> anyhow::Result<()> {
    // Before the mount table loses what lies on volumes.
    refuse_state_on_a_volume(&args.state_dir)?;
    // Before any thread exists, and the log has one.
    let unshared = umpath_ublk::process::unshare_mounts();
    let _log = init_log(&args.log)?;
    if let Err(error) = unshared {
        tracing::warn!("no mount table of its own ({error}): run umpathd as root");
    }
    let config = config::load(&args.config).context("the configuration has mistakes")?;
    make_dir(&args.state_dir, 0o700)?;
    make_dir(&args.run_dir, 0o755)?;
    let _locks = Lock::take_both(&args.run_dir, &args.state_dir)?;
    if args.unsafe_no_fence {
        tracing::error!(
            "--unsafe-no-fence: writes are sent again without proof that the lost controller has \
             stopped. THIS CORRUPTS DATA; it exists to show a drill what fences are for"
        );
    }
    let identity = Identity::load(&args.nvme_dir, &args.state_dir)?;
    let keeper = Keeper::open(&args.state_dir)?;
    let kept = keeper.kept()?;
    let records = Records::open(&args.state_dir)?;
    fit_process();
    let runtime = runtime::build().context("cannot start the control runtime")?;
    let socket = args.socket();
    let context = Arc::new(Context {
        config,
        identity,
        discovery_conf: args.nvme_dir.join("discovery.conf"),
        links: Links::default(),
        keeper,
        records,
        unfenced: args.unsafe_no_fence,
    });
    let outcome = runtime.block_on(serve(context, kept, &socket));
    let _ = std::fs::remove_file(&socket);
    runtime.shutdown_timeout(Duration::from_secs(5));
    outcome
}

async fn serve(context: Arc<Context>, kept: Kept, socket: &Path) -> anyhow::Result<()> {
    let listener = server::bind(socket, context.config.control.group.as_deref())?;
    let (calls, inbox) = mpsc::channel(CALLS_WAITING);
    let (shell, messages) = Shell::new(context.clone(), kept, inbox);
    tokio::spawn(server::serve(listener, calls));
    for kind in [SignalKind::terminate(), SignalKind::interrupt()] {
        let mut signals = signal(kind)?;
        let messages = messages.clone();
        tokio::spawn(async move {
            while signals.recv().await.is_some() {
                notify::systemd("STOPPING=1");
                let _ = messages.send(Message::Stop);
            }
        });
    }
    tracing::info!(
        "umpathd {} as {} on {}",
        env!("CARGO_PKG_VERSION"),
        context.identity.nqn,
        socket.display()
    );
    notify::systemd("READY=1");
    // On a worker, not on this thread: workers have the priority keep-alives need.
    tokio::spawn(shell.run())
        .await
        .context("the shell of the host failed")?;
    Ok(())
}

/// A daemon whose state lies on a volume could not come back after a crash: it would wait for the
/// volume, and the volume for it.
fn refuse_state_on_a_volume(state_dir: &Path) -> anyhow::Result<()> {
    let lies_on = umpath_ublk::on_ublk(state_dir);
    match lies_on.context("cannot find out what the state directory lies on")? {
        Some(layers) => anyhow::bail!(
            "the state directory {} lies on {layers}, which umpathd may serve itself: after a crash \
             each would wait for the other. Put it on a disk of this machine (--state-dir)",
            state_dir.display()
        ),
        None => Ok(()),
    }
}

/// Starts the log. A thread of its own writes it: a slow disk or journal must not hold up the ones
/// that owe keep-alives. What is still unwritten is written when the guard goes.
fn init_log(directives: &str) -> anyhow::Result<WorkerGuard> {
    let filter = EnvFilter::try_new(directives).context("--log")?;
    let (writer, guard) = tracing_appender::non_blocking(std::io::stderr());
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(writer);
    // journald stamps and colours by itself.
    if std::env::var_os("JOURNAL_STREAM").is_some() {
        log.without_time().with_ansi(false).init();
    } else {
        log.with_ansi(false).init();
    }
    Ok(guard)
}

fn make_dir(path: &Path, mode: u32) -> anyhow::Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(path)
        .with_context(|| format!("cannot make {}", path.display()))
}

/// Makes the process fit to serve a disk that it may depend on itself. What cannot be had is said,
/// not fatal: a development machine is served as well as it can be.
fn fit_process() {
    for resource in [Resource::Memlock, Resource::Nofile] {
        let now = getrlimit(resource);
        let wish = match resource {
            Resource::Memlock => Rlimit {
                current: None,
                maximum: None,
            },
            _ => Rlimit {
                current: now.maximum,
                ..now
            },
        };
        if setrlimit(resource, wish).is_err() {
            let most = Rlimit {
                current: now.maximum,
                ..now
            };
            let _ = setrlimit(resource, most);
        }
    }
    if let Some(limit) = getrlimit(Resource::Memlock).current {
        tracing::warn!(
            "at most {limit} bytes of memory may be locked, RDMA and ublk may need more: \
             LimitMEMLOCK=infinity in umpathd.service, or ulimit -l unlimited"
        );
    }
    if let Err(error) = umpath_ublk::process::become_io_flusher() {
        tracing::warn!("not an I/O flusher ({error}): memory pressure may hang; run as root");
    }
    if let Err(error) = umpath_ublk::process::lock_memory() {
        tracing::warn!(
            "memory is not locked ({error}): swapping may hang; raise the memlock limit"
        );
    }
}
