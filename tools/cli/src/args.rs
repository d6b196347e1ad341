//! The command line's grammar and its translation into requests.
//!
//! Decided here: names of commands and flags (nvme-cli's where it has them) and the request each
//! stands for. Not decided here: defaults of connections, which come from the daemon's
//! configuration.

use std::path::PathBuf;

use clap::{ArgAction, ArgGroup, Args, Parser, Subcommand, ValueEnum};
use umpath_protocol::{
    ConnectOptions, DEFAULT_SOCKET, DisconnectTarget, Failure, Portal, Request, Steer,
};

use crate::config::ConfigArgs;
use crate::format::Format;
use crate::import::ImportArgs;
use crate::text::duration_ms;
use crate::view::View;

/// Command line of umpathd, the user-space NVMe-oF multipath daemon.
#[derive(Debug, Parser)]
#[command(name = "umpath", version, arg_required_else_help = true)]
pub(crate) struct Cli {
    /// Control socket of the daemon.
    #[arg(long, global = true, default_value = DEFAULT_SOCKET)]
    pub(crate) socket: PathBuf,
    /// Output format.
    #[arg(short = 'o', long, global = true, value_enum, default_value = "normal")]
    pub(crate) output_format: Format,
    /// Show volumes, groups and paths; -ll prints the same.
    #[arg(short = 'l', action = ArgAction::Count)]
    list: u8,
    /// Remove a volume and its paths, as `multipath -f` does.
    #[arg(short = 'f', value_name = "VOLUME", conflicts_with = "list")]
    flush: Option<String>,
    /// Only this volume, by name, identity or device (with -l).
    volume: Option<String>,
    #[command(subcommand)]
    verb: Option<Verb>,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Show the discovery log of a portal.
    Discover(PortalArgs),
    /// Add a path to a subsystem; the first path of a namespace creates its device.
    Connect(ConnectArgs),
    /// Add a path to every subsystem in a portal's discovery log; without arguments, of
    /// /etc/nvme/discovery.conf.
    ConnectAll(ConnectAllArgs),
    /// Remove a subsystem's paths, a volume, or one path.
    Disconnect(DisconnectArgs),
    /// List volumes as `nvme list` does.
    List,
    /// List subsystems and their paths as `nvme list-subsys` does.
    ListSubsys,
    /// Show volumes, groups and paths.
    Topology {
        /// Only this volume, by name, identity or device.
        volume: Option<String>,
    },
    /// Show paths, maps, status, the configuration, events or counters.
    Show {
        /// What to show.
        #[arg(value_enum)]
        what: Show,
    },
    /// Choose whether I/O waits (on) or fails (off) while a volume has no path.
    Queueing {
        /// Wait or fail.
        #[arg(value_enum)]
        state: Switch,
        /// A volume, by name, identity or device; absent: all.
        volume: Option<String>,
    },
    /// Check the configuration file, or show the configuration or its defaults.
    Config(ConfigArgs),
    /// Translate a multipath.conf into umpath.toml; needs no daemon.
    Import(ImportArgs),
    /// Send nothing new on a path until it is reinstated.
    FailPath(PathArgs),
    /// Use a path again that was failed by hand or is held back because it kept failing.
    ReinstatePath(PathArgs),
    /// Prefer a path over others of its class.
    Prefer {
        #[command(flatten)]
        target: PathArgs,
        /// Stop preferring it.
        #[arg(long)]
        off: bool,
    },
    /// Move I/O to a priority group, until it has no path left or group 1 is chosen.
    SwitchGroup {
        /// The volume, by name, identity or device.
        volume: String,
        /// Group number as shown by -ll, from 1.
        group: u32,
    },
    /// Change policies until umpathd exits: path_selector=latency failback=10 ...
    Set {
        /// Keys of [[volume]] in umpath.toml and their values.
        #[arg(required = true, value_name = "KEY=VALUE", value_parser = key_value)]
        policies: Vec<(String, String)>,
        /// Only this volume, by name, identity or device.
        #[arg(long)]
        volume: Option<String>,
    },
}

/// A path, in every volume it serves or in one.
#[derive(Debug, Args)]
struct PathArgs {
    /// The path, by the number or the address that `show paths` prints.
    path: String,
    /// Only for this volume, by name, identity or device.
    volume: Option<String>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Show {
    Paths,
    Maps,
    Status,
    Config,
    Events,
    Stats,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Switch {
    On,
    Off,
}

/// The portal, with nvme-cli's flags.
#[derive(Debug, Args)]
struct PortalArgs {
    /// Transport: rdma.
    #[arg(short = 't', long, requires = "traddr")]
    transport: Option<String>,
    /// Address of the controller's port.
    #[arg(short = 'a', long)]
    traddr: Option<String>,
    /// Service (port number) of the controller's port [default: 4420].
    #[arg(short = 's', long, requires = "traddr")]
    trsvcid: Option<String>,
    /// Local address to connect from.
    #[arg(short = 'w', long, requires = "traddr")]
    host_traddr: Option<String>,
    /// Local interface to connect from.
    #[arg(short = 'f', long, requires = "traddr")]
    host_iface: Option<String>,
    /// Host NQN to present [default: /etc/nvme/hostnqn].
    #[arg(short = 'q', long)]
    hostnqn: Option<String>,
}

impl PortalArgs {
    /// The portal; `None` if no address was given.
    fn portal(self) -> Option<Portal> {
        let traddr = self.traddr?;
        Some(Portal {
            transport: self.transport.unwrap_or_else(|| "rdma".to_owned()),
            traddr,
            trsvcid: self.trsvcid,
            host_traddr: self.host_traddr,
            host_iface: self.host_iface,
        })
    }
}

/// Connection options, with nvme-cli's flags.
#[derive(Debug, Args)]
struct HowArgs {
    /// Host identifier to present [default: /etc/nvme/hostid].
    #[arg(short = 'I', long)]
    hostid: Option<String>,
    /// I/O queues per volume.
    #[arg(short = 'i', long)]
    nr_io_queues: Option<u16>,
    /// Entries per I/O queue.
    #[arg(short = 'Q', long)]
    queue_size: Option<u16>,
    /// Keep-alive timeout: seconds, or a number with a unit (500ms).
    #[arg(short = 'k', long, value_name = "TIME", value_parser = duration_ms)]
    keep_alive_tmo: Option<u64>,
    /// Delay before the first reconnect: seconds, or a number with a unit.
    #[arg(short = 'c', long, value_name = "TIME", value_parser = duration_ms)]
    reconnect_delay: Option<u64>,
    /// Give a lost path up after this time: seconds, or a number with a unit; -1 or absent: never.
    #[arg(short = 'l', long, value_name = "TIME", allow_hyphen_values = true)]
    ctrl_loss_tmo: Option<String>,
    /// Name for a volume this path creates.
    #[arg(long)]
    alias: Option<String>,
    /// Prefer this path over others of its class.
    #[arg(long)]
    preferred: bool,
    /// Priority of this path if the volume's prioritizer is `weighted` [default: 1].
    #[arg(long, allow_hyphen_values = true)]
    weight: Option<i32>,
    /// Throughput relative to other paths for `service-time`; 0: last resort [default: 1].
    #[arg(long, value_parser = clap::value_parser!(u8).range(0..=100))]
    throughput: Option<u8>,
}

impl HowArgs {
    fn options(self, hostnqn: Option<String>) -> Result<ConnectOptions, Failure> {
        let ctrl_loss_tmo_ms = match self.ctrl_loss_tmo.as_deref() {
            None | Some("-1") => None,
            Some(text) => Some(duration_ms(text).map_err(|why| {
                Failure::new(
                    format!("--ctrl-loss-tmo {text}"),
                    why,
                    "give seconds, or -1 for never",
                )
            })?),
        };
        let kato_ms = match self.keep_alive_tmo {
            None => None,
            Some(ms) => Some(u32::try_from(ms).map_err(|_| {
                Failure::new(
                    "--keep-alive-tmo",
                    "longer than 49 days",
                    "give a few seconds",
                )
            })?),
        };
        Ok(ConnectOptions {
            hostnqn,
            hostid: self.hostid,
            nr_io_queues: self.nr_io_queues,
            queue_size: self.queue_size,
            kato_ms,
            reconnect_delay_ms: self.reconnect_delay,
            ctrl_loss_tmo_ms,
            alias: self.alias,
            preferred: self.preferred,
            weight: self.weight,
            throughput: self.throughput,
        })
    }
}

#[derive(Debug, Args)]
struct ConnectArgs {
    #[command(flatten)]
    portal: PortalArgs,
    /// Subsystem NQN.
    #[arg(short = 'n', long, alias = "subsysnqn")]
    nqn: String,
    #[command(flatten)]
    how: HowArgs,
}

#[derive(Debug, Args)]
struct ConnectAllArgs {
    #[command(flatten)]
    portal: PortalArgs,
    #[command(flatten)]
    how: HowArgs,
}

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("target").required(true))]
struct DisconnectArgs {
    /// Every path to this subsystem.
    #[arg(short = 'n', long, group = "target")]
    nqn: Option<String>,
    /// A volume with all its paths, by device (ublkb0) or name.
    #[arg(short = 'd', long, group = "target")]
    device: Option<String>,
    /// One path, by the number or the address that `show paths` prints.
    #[arg(short = 'p', long, group = "target")]
    path: Option<String>,
    /// Also when a volume is mounted or otherwise in use: its users get I/O errors.
    #[arg(long)]
    force: bool,
}

/// A command that needs no running daemon.
#[derive(Debug)]
pub(crate) enum Local<'a> {
    Config(&'a ConfigArgs),
    Import(&'a ImportArgs),
}

impl Cli {
    /// The command that needs no running daemon, if that was given.
    pub(crate) fn local(&self) -> Option<Local<'_>> {
        match &self.verb {
            Some(Verb::Import(args)) => Some(Local::Import(args)),
            Some(Verb::Config(args)) if !args.asks_daemon() => Some(Local::Config(args)),
            _ => None,
        }
    }

    /// The request, and the view for its answer.
    pub(crate) fn into_request(self) -> Result<(Request, View), Failure> {
        if self.verb.is_some() && (self.list > 0 || self.flush.is_some()) {
            return Err(Failure::new(
                "two requests at once",
                "-l and -f are used alone, without a command",
                "umpath --help",
            ));
        }
        if let Some(volume) = self.flush {
            let target = DisconnectTarget::Device(device_name(&volume));
            return Ok((
                Request::Disconnect {
                    target,
                    force: false,
                },
                View::Outcome,
            ));
        }
        if self.list == 0
            && self.verb.is_none()
            && let Some(word) = &self.volume
        {
            // The first word is not a command; together with -l it names a volume.
            return Err(Failure::new(
                format!("{word} is not a command"),
                "the commands are discover, connect, connect-all, disconnect, list and more",
                format!("umpath --help; for the volume of that name: umpath -l {word}"),
            ));
        }
        let Some(verb) = self.verb else {
            return Ok((
                Request::Snapshot,
                View::Topology(self.volume.map(|v| device_name(&v))),
            ));
        };
        Ok(match verb {
            Verb::Discover(args) => {
                let hostnqn = args.hostnqn.clone();
                (
                    Request::Discover {
                        portal: args.portal(),
                        hostnqn,
                    },
                    View::Outcome,
                )
            }
            Verb::Connect(args) => {
                let hostnqn = args.portal.hostnqn.clone();
                let portal = args.portal.portal().ok_or_else(|| {
                    Failure::new(
                        "connect needs an address",
                        "no --traddr was given",
                        "umpath connect -t rdma -a ADDRESS -n NQN",
                    )
                })?;
                let options = args.how.options(hostnqn)?;
                (
                    Request::Connect {
                        portal,
                        nqn: args.nqn,
                        options,
                    },
                    View::Outcome,
                )
            }
            Verb::ConnectAll(args) => {
                let hostnqn = args.portal.hostnqn.clone();
                let options = args.how.options(hostnqn)?;
                (
                    Request::ConnectAll {
                        portal: args.portal.portal(),
                        options,
                    },
                    View::Outcome,
                )
            }
            Verb::Disconnect(args) => {
                let target = match (args.nqn, args.device, args.path) {
                    (Some(nqn), _, _) => DisconnectTarget::Nqn(nqn),
                    (_, Some(device), _) => DisconnectTarget::Device(device_name(&device)),
                    (_, _, path) => DisconnectTarget::Path(path.unwrap_or_default()),
                };
                (
                    Request::Disconnect {
                        target,
                        force: args.force,
                    },
                    View::Outcome,
                )
            }
            Verb::List => (Request::Snapshot, View::List),
            Verb::ListSubsys => (Request::Snapshot, View::Subsystems),
            Verb::Topology { volume } => (
                Request::Snapshot,
                View::Topology(volume.map(|v| device_name(&v))),
            ),
            Verb::Show { what } => match what {
                Show::Paths => (Request::Snapshot, View::Paths),
                Show::Maps => (Request::Snapshot, View::Maps),
                Show::Status => (Request::Snapshot, View::Status),
                Show::Config => (Request::Config, View::Outcome),
                Show::Events => (Request::Events, View::Outcome),
                Show::Stats => (Request::Stats, View::Outcome),
            },
            Verb::FailPath(PathArgs { path, volume }) => {
                let volume = volume.map(|v| device_name(&v));
                steer(Steer::FailPath { path, volume })
            }
            Verb::ReinstatePath(PathArgs { path, volume }) => {
                let volume = volume.map(|v| device_name(&v));
                steer(Steer::ReinstatePath { path, volume })
            }
            Verb::Prefer { target, off } => steer(Steer::Prefer {
                path: target.path,
                volume: target.volume.map(|v| device_name(&v)),
                on: !off,
            }),
            Verb::SwitchGroup { volume, group } => steer(Steer::SwitchGroup {
                volume: device_name(&volume),
                group,
            }),
            Verb::Set { policies, volume } => steer(Steer::Set {
                volume: volume.map(|v| device_name(&v)),
                policies: policies.into_iter().collect(),
            }),
            Verb::Config(args) if args.asks_daemon() => (Request::Config, View::Outcome),
            Verb::Config(_) | Verb::Import(_) => {
                return Err(Failure::new(
                    "this command does not contact the daemon",
                    "it was combined with another request",
                    "umpath --help",
                ));
            }
            Verb::Queueing { state, volume } => {
                let volume = volume.map(|v| device_name(&v));
                (
                    Request::Queueing {
                        volume,
                        on: state == Switch::On,
                    },
                    View::Outcome,
                )
            }
        })
    }
}

fn steer(steer: Steer) -> (Request, View) {
    (Request::Steer(steer), View::Outcome)
}

fn key_value(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("write KEY=VALUE")?;
    Ok((key.trim().to_owned(), value.trim().to_owned()))
}

/// Accepts `/dev/ublkb0` as well as `ublkb0`.
fn device_name(text: &str) -> String {
    text.strip_prefix("/dev/").unwrap_or(text).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(line: &str) -> Request {
        let words = std::iter::once("umpath").chain(line.split_whitespace());
        Cli::try_parse_from(words)
            .unwrap()
            .into_request()
            .unwrap()
            .0
    }

    fn refused(line: &str) -> bool {
        let words = std::iter::once("umpath").chain(line.split_whitespace());
        Cli::try_parse_from(words).is_err()
    }

    #[test]
    fn the_users_documents_parse() {
        let Request::Connect {
            portal,
            nqn,
            options,
        } = request("connect -t rdma -a 192.168.1.1 -s 4420 -n GB00051104bbf912 -i 8 -k 5 -l -1")
        else {
            panic!("not a connect");
        };
        assert_eq!(portal.traddr, "192.168.1.1");
        assert_eq!(portal.trsvcid.as_deref(), Some("4420"));
        assert_eq!(nqn, "GB00051104bbf912");
        assert_eq!(options.nr_io_queues, Some(8));
        assert_eq!(options.kato_ms, Some(5000));
        assert_eq!(options.ctrl_loss_tmo_ms, None);
        assert!(matches!(
            request("connect-all -t rdma -a 192.168.1.1"),
            Request::ConnectAll {
                portal: Some(_),
                ..
            }
        ));
        assert!(matches!(
            request("connect-all"),
            Request::ConnectAll { portal: None, .. }
        ));
        assert!(matches!(
            request("discover"),
            Request::Discover { portal: None, .. }
        ));
    }

    #[test]
    fn long_names_are_nvme_clis() {
        let Request::Connect {
            options, portal, ..
        } = request(
            "connect --transport rdma --traddr 10.0.0.1 --trsvcid 4421 --nqn n --host-traddr 10.0.0.2 \
             --host-iface eth1 --hostnqn h --nr-io-queues 2 --queue-size 64 --keep-alive-tmo 500ms \
             --reconnect-delay 2 --ctrl-loss-tmo 600",
        )
        else {
            panic!("not a connect");
        };
        assert_eq!(portal.host_iface.as_deref(), Some("eth1"));
        assert_eq!(options.hostnqn.as_deref(), Some("h"));
        assert_eq!(options.kato_ms, Some(500));
        assert_eq!(options.reconnect_delay_ms, Some(2000));
        assert_eq!(options.ctrl_loss_tmo_ms, Some(600_000));
    }

    #[test]
    fn multipaths_flags_work() {
        assert_eq!(request("-ll"), Request::Snapshot);
        assert_eq!(request("-l vol1"), Request::Snapshot);
        assert_eq!(
            request("-f vol1"),
            Request::Disconnect {
                target: DisconnectTarget::Device("vol1".into()),
                force: false
            }
        );
    }

    #[test]
    fn operators_actions_parse() {
        assert_eq!(
            request("fail-path 2 /dev/ublkb0"),
            Request::Steer(Steer::FailPath {
                path: "2".into(),
                volume: Some("ublkb0".into())
            })
        );
        assert_eq!(
            request("prefer 192.168.10.14 --off"),
            Request::Steer(Steer::Prefer {
                path: "192.168.10.14".into(),
                volume: None,
                on: false
            })
        );
        let Request::Steer(Steer::Set { volume, policies }) =
            request("set path_selector=latency failback=10 --volume vol1")
        else {
            panic!("not a set");
        };
        assert_eq!(volume.as_deref(), Some("vol1"));
        assert_eq!(policies["failback"], "10");
        assert!(refused("set latency"));
        assert!(refused("set"));
        assert!(refused("switch-group vol1"));
    }

    #[test]
    fn only_the_configuration_in_force_is_asked_for() {
        assert_eq!(request("config show"), Request::Config);
        for line in [
            "config check",
            "config check a.toml",
            "config show --defaults",
        ] {
            let words = std::iter::once("umpath").chain(line.split_whitespace());
            let cli = Cli::try_parse_from(words).unwrap();
            assert!(matches!(cli.local(), Some(Local::Config(_))), "{line}");
        }
        assert!(refused("config"));
    }

    #[test]
    fn global_flags_stand_before_or_after_the_verb() {
        for line in ["--socket /s -o json list", "list --socket /s -o json"] {
            let words = std::iter::once("umpath").chain(line.split_whitespace());
            let cli = Cli::try_parse_from(words).unwrap();
            assert_eq!(cli.socket, PathBuf::from("/s"));
            assert_eq!(cli.output_format, Format::Json);
            assert_eq!(cli.into_request().unwrap(), (Request::Snapshot, View::List));
        }
        let words = ["umpath", "-l", "list"];
        assert!(Cli::try_parse_from(words).unwrap().into_request().is_err());
    }

    #[test]
    fn disconnect_wants_exactly_one_target() {
        assert!(refused("disconnect"));
        assert!(refused("disconnect -n a -d b"));
        assert_eq!(
            request("disconnect -d /dev/ublkb0 --force"),
            Request::Disconnect {
                target: DisconnectTarget::Device("ublkb0".into()),
                force: true
            }
        );
    }

    #[test]
    fn a_transport_without_an_address_is_refused() {
        assert!(refused("discover -t rdma"));
    }

    #[test]
    fn a_mistyped_verb_is_named() {
        let cli = Cli::try_parse_from(["umpath", "conect"]).unwrap();
        let failure = cli.into_request().unwrap_err();
        assert!(failure.what.contains("conect"), "{failure}");
        assert!(refused("conect -t rdma"));
    }

    #[test]
    fn the_grammar_is_consistent() {
        use clap::CommandFactory as _;
        Cli::command().debug_assert();
    }
}
