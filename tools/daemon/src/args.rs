//! Command line of `umpathd`.

use std::path::PathBuf;

use clap::Parser;

/// The configuration file where no other is named.
pub(crate) const CONFIG: &str = "/etc/umpath/umpath.toml";

/// User-space NVMe-oF multipath daemon.
#[derive(Debug, Clone, Parser)]
#[command(name = "umpathd", version)]
pub(crate) struct Args {
    /// Configuration file; `conf.d/*.toml` beside it is read too, in order of name.
    #[arg(long, default_value = CONFIG)]
    pub(crate) config: PathBuf,
    /// What must survive a restart: names of volumes, the host's identity.
    #[arg(long, default_value = "/var/lib/umpath")]
    pub(crate) state_dir: PathBuf,
    /// Lock file and control socket.
    #[arg(long, default_value = "/run/umpath")]
    pub(crate) run_dir: PathBuf,
    /// Control socket [default: umpathd.sock in the run directory].
    #[arg(long)]
    pub(crate) socket: Option<PathBuf>,
    /// Where hostnqn, hostid and discovery.conf are.
    #[arg(long, default_value = "/etc/nvme")]
    pub(crate) nvme_dir: PathBuf,
    /// What to log: a level (info, debug) or tracing directives.
    #[arg(long, default_value = "info")]
    pub(crate) log: String,
    /// For drills that show what fences are for: a lost controller counts as stopped at once. Corrupts.
    #[arg(long, hide = true)]
    pub(crate) unsafe_no_fence: bool,
    /// Print the configuration file with every key, its default and its meaning, and exit.
    #[arg(long)]
    pub(crate) print_defaults: bool,
    /// Read the configuration, name every mistake with file and line or say `ok`, and exit.
    #[arg(long, conflicts_with = "print_defaults")]
    pub(crate) check: bool,
}

impl Args {
    /// The control socket.
    pub(crate) fn socket(&self) -> PathBuf {
        self.socket
            .clone()
            .unwrap_or_else(|| self.run_dir.join("umpathd.sock"))
    }
}
