//! `umpath-target nvmf ...`: verbs shaped like those of the arrays this target stands in for.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::{ArgGroup, Args, Subcommand, ValueEnum};
use umpath_target::config::{
    Backend, ByteSize, Direct, Namespace, Subsystem, default_cqt_ms, default_model,
};
use umpath_target::control::{Place, Verb};
use umpath_target::model::{AnaState, Eui64, Nguid};

#[derive(Debug, Subcommand)]
pub(super) enum Nvmf {
    /// Transports
    #[command(subcommand)]
    Transport(Transport),
    /// Subsystems
    #[command(subcommand)]
    Subsystem(SubsystemVerb),
    /// Addresses a subsystem is reachable at
    #[command(subcommand)]
    Listener(Listener),
    /// Namespaces
    #[command(subcommand)]
    Namespace(NamespaceVerb),
    /// Hosts that may connect
    #[command(subcommand)]
    Host(Host),
    /// Asymmetric namespace access
    #[command(subcommand)]
    Ana(Ana),
}

#[derive(Debug, Subcommand)]
pub(super) enum Transport {
    /// Check that a transport can be used here
    Create {
        /// Transport type
        #[arg(long)]
        trtype: String,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum SubsystemVerb {
    /// Add a subsystem
    Create {
        /// NVMe qualified name
        #[arg(long)]
        nqn: String,
        /// Serial number, at most 20 characters; derived from the name when absent
        #[arg(long)]
        serial_number: Option<String>,
        /// Model number, at most 40 characters
        #[arg(long)]
        model_number: Option<String>,
        /// Let any host connect
        #[arg(long)]
        allow_any_host: bool,
        /// Command quiesce time reported to hosts, in milliseconds
        #[arg(long, default_value_t = default_cqt_ms())]
        cqt_ms: u16,
        /// Do not offer cross-controller reset
        #[arg(long)]
        no_ccr: bool,
        /// The file shared with other processes that serve this subsystem, so that they can reset
        /// each other's controllers
        #[arg(long)]
        fence: Option<PathBuf>,
    },
    /// Remove a subsystem and disconnect its hosts
    Delete {
        /// NVMe qualified name
        #[arg(long)]
        nqn: String,
    },
}

#[derive(Debug, Args)]
pub(super) struct Address {
    /// Transport type
    #[arg(long, default_value = "rdma")]
    trtype: String,
    /// Address family; follows from the address
    #[arg(long, value_enum, ignore_case = true)]
    adrfam: Option<Family>,
    /// Address
    #[arg(long)]
    traddr: IpAddr,
    /// Service number
    #[arg(long, default_value_t = 4420)]
    trsvcid: u16,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Family {
    Ipv4,
    Ipv6,
}

impl Address {
    fn parse(&self) -> Result<SocketAddr> {
        if !self.trtype.eq_ignore_ascii_case("rdma") {
            bail!("transport {} is not supported; use rdma", self.trtype);
        }
        let family = if self.traddr.is_ipv4() {
            Family::Ipv4
        } else {
            Family::Ipv6
        };
        if self.adrfam.is_some_and(|wished| wished != family) {
            bail!(
                "{} is not an address of the family given with --adrfam",
                self.traddr
            );
        }
        Ok(SocketAddr::new(self.traddr, self.trsvcid))
    }
}

#[derive(Debug, Subcommand)]
pub(super) enum Listener {
    /// Make a subsystem reachable at an address
    Add {
        /// NVMe qualified name
        #[arg(long)]
        nqn: String,
        #[command(flatten)]
        address: Address,
        /// Port identifier when the address is new
        #[arg(long)]
        port: Option<u16>,
    },
    /// Take a subsystem off an address
    Remove {
        /// NVMe qualified name
        #[arg(long)]
        nqn: String,
        #[command(flatten)]
        address: Address,
    },
}

#[derive(Debug, Args)]
pub(super) struct NewNamespace {
    /// NVMe qualified name
    #[arg(long)]
    nqn: String,
    /// Backing store: a block device or file, memory:SIZE or null:SIZE
    #[arg(long)]
    bdev: String,
    /// Namespace identifier; the lowest free one when absent
    #[arg(long, default_value_t = 0)]
    nsid: u32,
    /// Size of a file to create, for example 10GiB
    #[arg(long)]
    size: Option<ByteSize>,
    /// Logical block size: 512 or 4096
    #[arg(long, default_value_t = 4096)]
    block_size: u32,
    /// ANA group
    #[arg(long, default_value_t = 1)]
    ana_group: u32,
    /// UUID; derived when absent
    #[arg(long)]
    uuid: Option<uuid::Uuid>,
    /// NGUID, 32 hexadecimal digits; derived when absent
    #[arg(long)]
    nguid: Option<Nguid>,
    /// EUI-64, 16 hexadecimal digits
    #[arg(long)]
    eui64: Option<Eui64>,
}

#[derive(Debug, Subcommand)]
pub(super) enum NamespaceVerb {
    /// Add a namespace
    Add(Box<NewNamespace>),
    /// Remove a namespace
    Remove {
        /// NVMe qualified name
        #[arg(long)]
        nqn: String,
        /// Namespace identifier
        #[arg(long)]
        nsid: u32,
    },
}

impl NewNamespace {
    fn backend(&self) -> Result<Backend> {
        let size = |text: &str| text.parse::<ByteSize>().map_err(anyhow::Error::msg);
        if let Some(text) = self.bdev.strip_prefix("memory:") {
            return Ok(Backend::Memory { size: size(text)? });
        }
        if let Some(text) = self.bdev.strip_prefix("null:") {
            return Ok(Backend::Null { size: size(text)? });
        }
        // The running target opens it, with its own working directory.
        let path = std::path::absolute(&self.bdev)?;
        let is_block = std::fs::metadata(&path)
            .is_ok_and(|data| std::os::unix::fs::FileTypeExt::is_block_device(&data.file_type()));
        Ok(if is_block {
            Backend::Block {
                path,
                direct: Direct::Auto,
            }
        } else {
            Backend::File {
                path,
                size: self.size,
                direct: Direct::Auto,
            }
        })
    }
}

#[derive(Debug, Subcommand)]
pub(super) enum Host {
    /// Let a host connect
    Add(WhichHost),
    /// Take a host's permission away and disconnect it
    Remove(WhichHost),
}

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("who").required(true))]
pub(super) struct WhichHost {
    /// NVMe qualified name of the subsystem
    #[arg(long)]
    nqn: String,
    /// NVMe qualified name of the host
    #[arg(long, group = "who")]
    host: Option<String>,
    /// Any host
    #[arg(long, group = "who")]
    any: bool,
}

#[derive(Debug, Subcommand)]
pub(super) enum Ana {
    /// Set the state of a group on one port
    #[command(group = ArgGroup::new("where").required(true))]
    Set {
        /// NVMe qualified name
        #[arg(long)]
        nqn: String,
        /// Port identifier
        #[arg(long, group = "where")]
        port: Option<u16>,
        /// Address and service number, for example 10.9.1.1:4420
        #[arg(long, group = "where")]
        listener: Option<SocketAddr>,
        /// ANA group
        #[arg(long, default_value_t = 1)]
        group: u32,
        /// optimized, non-optimized, inaccessible, persistent-loss or change
        #[arg(long)]
        state: AnaState,
    },
}

impl Nvmf {
    pub(super) fn into_verb(self) -> Result<Verb> {
        Ok(match self {
            Self::Transport(Transport::Create { trtype }) => Verb::TransportCreate { trtype },
            Self::Subsystem(verb) => subsystem(verb),
            Self::Listener(Listener::Add { nqn, address, port }) => Verb::ListenerAdd {
                nqn,
                address: address.parse()?,
                port,
            },
            Self::Listener(Listener::Remove { nqn, address }) => Verb::ListenerRemove {
                nqn,
                address: address.parse()?,
            },
            Self::Namespace(NamespaceVerb::Add(new)) => {
                let namespace = Namespace {
                    nsid: new.nsid,
                    backend: new.backend()?,
                    block_size: new.block_size,
                    ana_group: new.ana_group,
                    uuid: new.uuid,
                    nguid: new.nguid,
                    eui64: new.eui64,
                };
                Verb::NamespaceAdd {
                    nqn: new.nqn,
                    namespace: Box::new(namespace),
                }
            }
            Self::Namespace(NamespaceVerb::Remove { nqn, nsid }) => {
                Verb::NamespaceRemove { nqn, nsid }
            }
            Self::Host(Host::Add(WhichHost { nqn, host, .. })) => Verb::HostAdd { nqn, host },
            Self::Host(Host::Remove(WhichHost { nqn, host, .. })) => Verb::HostRemove { nqn, host },
            Self::Ana(Ana::Set {
                nqn,
                port,
                listener,
                group,
                state,
            }) => {
                let at = match (port, listener) {
                    (Some(port), _) => Place::Port(port),
                    (None, Some(listener)) => Place::Listener(listener),
                    (None, None) => bail!("give --port or --listener"),
                };
                Verb::AnaSet {
                    nqn,
                    at,
                    group,
                    state,
                }
            }
        })
    }
}

fn subsystem(verb: SubsystemVerb) -> Verb {
    match verb {
        SubsystemVerb::Create {
            nqn,
            serial_number,
            model_number,
            allow_any_host,
            cqt_ms,
            no_ccr,
            fence,
        } => {
            let subsystem = Subsystem {
                nqn,
                serial: serial_number,
                model: model_number.unwrap_or_else(default_model),
                allow_any_host,
                hosts: Vec::new(),
                ports: Vec::new(),
                cqt_ms,
                ccr: !no_ccr,
                fence,
                namespaces: Vec::new(),
                ana: Vec::new(),
            };
            Verb::SubsystemCreate {
                subsystem: Box::new(subsystem),
            }
        }
        SubsystemVerb::Delete { nqn } => Verb::SubsystemDelete { nqn },
    }
}
