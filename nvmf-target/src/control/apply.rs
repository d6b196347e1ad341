//! Carrying out verbs: from configured values to open stores, listeners and a changed array.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use umpath_nvme::Nqn;
use umpath_rdma::rdma_devices;

use super::fences::Fences;
use super::{ApplyError, Place, Reply, Verb};
use crate::array::ChangeError;
use crate::config::{self, Config, check_group, check_namespace, check_subsystem};
use crate::engine::{Hub, ListenerOrders};
use crate::media::{Media, SharedMedia};
use crate::model::{AnaState, NSID_MAX, PortId, derive_nguid, derive_serial, derive_uuid};
use crate::subsystem::{Namespace, Subsystem};

/// Changes the running target.
#[derive(Debug)]
pub struct Operator {
    hub: Arc<Hub>,
    listeners: ListenerOrders,
    /// One change at a time: a change may open files and listeners between two accesses to the array.
    turn: Mutex<()>,
    fences: Fences,
}

impl Operator {
    /// Carries out verbs on the target behind `hub`.
    pub fn new(hub: Arc<Hub>, listeners: ListenerOrders) -> Self {
        Self {
            hub,
            listeners,
            turn: Mutex::new(()),
            fences: Fences::default(),
        }
    }

    /// Carries out a whole configuration on an empty target.
    pub fn configure(&self, config: &Config) -> Result<(), ApplyError> {
        config.check()?;
        let subsystems: Vec<_> = config
            .subsystems
            .iter()
            .map(|subsystem| self.build_subsystem(subsystem))
            .collect::<Result<_, _>>()?;
        for port in &config.ports {
            let address = SocketAddr::new(port.traddr, port.trsvcid);
            self.open(PortId(port.id), address)?;
        }
        for subsystem in subsystems {
            self.hub
                .with_array(|array| array.add_subsystem(subsystem))?;
        }
        Ok(())
    }

    /// Carries out a verb.
    pub fn carry_out(&self, verb: Verb) -> Reply {
        if matches!(verb, Verb::Show) {
            let mut report = self.hub.with_array(|array| array.report());
            for port in &mut report.ports {
                port.trouble = self.hub.trouble(PortId(port.id));
                port.device_replaced = self.hub.devices_replaced(PortId(port.id));
            }
            return Reply::Report(Box::new(report));
        }
        if matches!(verb, Verb::FaultList) {
            return Reply::Faults(self.hub.with_faults(|table| table.rules().to_vec()));
        }
        let _turn = self.turn.lock();
        match self.change(verb) {
            Ok(done) => Reply::Done(done),
            Err(error) => Reply::Failed(error.to_string()),
        }
    }

    fn change(&self, verb: Verb) -> Result<String, ApplyError> {
        let (hub, now) = (&self.hub, self.hub.now());
        match verb {
            Verb::TransportCreate { trtype } => transport(&trtype),
            Verb::SubsystemCreate { subsystem } => {
                check_subsystem(&subsystem)?;
                if self.ports_of(&subsystem.nqn).is_ok() {
                    let what = format!("subsystem {}", subsystem.nqn);
                    return Err(ChangeError::Exists(what).into());
                }
                let built = self.build_subsystem(&subsystem)?;
                hub.with_array(|array| array.add_subsystem(built))?;
                Ok(format!("subsystem {} created", subsystem.nqn))
            }
            Verb::SubsystemDelete { nqn } => {
                let ports = self.ports_of(&nqn)?;
                hub.with_array(|array| array.remove_subsystem(&nqn, now))?;
                self.fences.forget(&nqn);
                for port in ports {
                    self.shut_if_unused(port);
                }
                Ok(format!("subsystem {nqn} deleted"))
            }
            Verb::ListenerAdd { nqn, address, port } => self.add_listener(&nqn, address, port),
            Verb::ListenerRemove { nqn, address } => {
                let port = self.port_at(address)?;
                hub.with_array(|array| array.detach(&nqn, port, now))?;
                self.shut_if_unused(port);
                Ok(format!("{nqn} is no longer reachable at {address}"))
            }
            Verb::NamespaceAdd { nqn, namespace } => self.add_namespace(&nqn, *namespace),
            Verb::NamespaceRemove { nqn, nsid } => {
                hub.with_array(|array| array.remove_namespace(&nqn, nsid))?;
                Ok(format!("namespace {nsid} of {nqn} removed"))
            }
            Verb::HostAdd { nqn, host } => {
                if let Some(host) = &host {
                    Nqn::new(host).map_err(|e| ApplyError::Refused(format!("host {host}: {e}")))?;
                }
                hub.with_array(|array| array.allow_host(&nqn, host.as_deref()))?;
                Ok(format!(
                    "{} may connect to {nqn}",
                    host.as_deref().unwrap_or("any host")
                ))
            }
            Verb::HostRemove { nqn, host } => {
                hub.with_array(|array| array.forbid_host(&nqn, host.as_deref(), now))?;
                Ok(match host {
                    Some(host) => format!("{host} may no longer connect to {nqn}"),
                    None => format!("only listed hosts may connect to {nqn}"),
                })
            }
            Verb::AnaSet {
                nqn,
                at,
                group,
                state,
            } => self.set_ana(&nqn, at, group, state),
            Verb::FaultAdd { fault } => {
                let id = hub.with_faults(|table| table.add(fault))?;
                Ok(format!("fault {id} is in force"))
            }
            Verb::FaultClear { id } => {
                let cleared = hub.with_faults(|table| table.clear(id));
                match id {
                    Some(id) if cleared == 0 => {
                        Err(ApplyError::Refused(format!("there is no fault {id}")))
                    }
                    _ => Ok(format!("{cleared} faults cleared")),
                }
            }
            Verb::Show | Verb::FaultList => Ok(String::new()),
        }
    }

    fn set_ana(
        &self,
        nqn: &str,
        at: Place,
        group: u32,
        state: AnaState,
    ) -> Result<String, ApplyError> {
        check_group(group).map_err(ApplyError::Refused)?;
        let port = match at {
            Place::Port(id) => PortId(id),
            Place::Listener(address) => self.port_at(address)?,
        };
        let changed = self
            .hub
            .with_array(|array| array.set_ana(nqn, port, group, state))?;
        let what = if changed { "is now" } else { "was already" };
        Ok(format!(
            "group {group} of {nqn} {what} {state} on port {}",
            port.0
        ))
    }

    fn add_listener(
        &self,
        nqn: &str,
        address: SocketAddr,
        port: Option<u16>,
    ) -> Result<String, ApplyError> {
        // Nothing is opened for a subsystem that is not there.
        self.ports_of(nqn)?;
        let port = match self.port_at(address) {
            Ok(known) if port.is_some_and(|wished| wished != known.0) => {
                let why = format!("{address} is port {} already; leave --port out", known.0);
                return Err(ApplyError::Refused(why));
            }
            Ok(known) => known,
            Err(_) => {
                let port = PortId(port.map_or_else(|| self.free_port(), Ok)?);
                self.open(port, address)?;
                port
            }
        };
        if let Err(error) = self.hub.with_array(|array| array.attach(nqn, port)) {
            self.shut_if_unused(port);
            return Err(error.into());
        }
        Ok(format!("{nqn} is reachable at {address} (port {})", port.0))
    }

    fn add_namespace(
        &self,
        nqn: &str,
        mut namespace: config::Namespace,
    ) -> Result<String, ApplyError> {
        let taken: BTreeSet<u32> = self.hub.with_array(|array| {
            let subsystem = array.subsystems().get(nqn).ok_or_else(|| missing(nqn))?;
            Ok::<_, ChangeError>(subsystem.namespaces.keys().copied().collect())
        })?;
        if namespace.nsid == 0 {
            let free = (1..=NSID_MAX).find(|nsid| !taken.contains(nsid));
            namespace.nsid = free.ok_or_else(|| ApplyError::Refused(format!("{nqn} is full")))?;
        }
        check_namespace(&namespace).map_err(ApplyError::Refused)?;
        if taken.contains(&namespace.nsid) {
            let what = format!("namespace {} of {nqn}", namespace.nsid);
            return Err(ChangeError::Exists(what).into());
        }
        let built = build_namespace(nqn, &namespace)?;
        self.fences.add_store(nqn, built.nsid, &built.media)?;
        let done = format!(
            "namespace {} of {nqn} added: {}",
            built.nsid, built.description
        );
        self.hub
            .with_array(|array| array.add_namespace(nqn, built))?;
        Ok(done)
    }

    fn build_subsystem(
        &self,
        config: &config::Subsystem,
    ) -> Result<Subsystem<SharedMedia>, ApplyError> {
        let serial = config
            .serial
            .clone()
            .unwrap_or_else(|| derive_serial(&config.nqn));
        let (nqn, model) = (config.nqn.clone(), config.model.clone());
        let mut subsystem = Subsystem::new(nqn, serial, model, config.cqt_ms);
        subsystem.ccr = config.ccr;
        subsystem.allow_any_host = config.allow_any_host;
        subsystem.hosts = config.hosts.iter().cloned().collect();
        subsystem.ports = config.ports.iter().map(|id| PortId(*id)).collect();
        for ana in &config.ana {
            subsystem.ana.set(PortId(ana.port), ana.group, ana.state);
        }
        for namespace in &config.namespaces {
            let built = build_namespace(&config.nqn, namespace)?;
            subsystem.namespaces.insert(built.nsid, built);
        }
        self.fences.attach(config, &mut subsystem)?;
        Ok(subsystem)
    }

    fn open(&self, port: PortId, address: SocketAddr) -> Result<(), ApplyError> {
        self.hub.with_array(|array| array.add_port(port, address))?;
        self.listeners.listen(port, address).map_err(|source| {
            // The port is new: nothing uses it yet.
            let _ = self.hub.with_array(|array| array.remove_port(port));
            ApplyError::Listen { address, source }
        })
    }

    fn shut_if_unused(&self, port: PortId) {
        if self.hub.with_array(|array| array.remove_port(port)).is_ok() {
            self.listeners.stop(port);
        }
    }

    fn ports_of(&self, nqn: &str) -> Result<BTreeSet<PortId>, ChangeError> {
        self.hub.with_array(|array| {
            let subsystem = array.subsystems().get(nqn).ok_or_else(|| missing(nqn))?;
            Ok(subsystem.ports.clone())
        })
    }

    fn port_at(&self, address: SocketAddr) -> Result<PortId, ApplyError> {
        let found = self.hub.with_array(|array| {
            array
                .ports()
                .iter()
                .find(|(_, at)| **at == address)
                .map(|(port, _)| *port)
        });
        found.ok_or_else(|| ChangeError::Missing(format!("listener at {address}")).into())
    }

    fn free_port(&self) -> Result<u16, ApplyError> {
        let free = self.hub.with_array(|array| {
            (1..=u16::MAX).find(|id| !array.ports().contains_key(&PortId(*id)))
        });
        free.ok_or_else(|| ApplyError::Refused("every port identifier is in use".to_owned()))
    }
}

fn missing(nqn: &str) -> ChangeError {
    ChangeError::Missing(format!("subsystem {nqn}"))
}

fn transport(trtype: &str) -> Result<String, ApplyError> {
    if !trtype.eq_ignore_ascii_case("rdma") {
        let why = format!("transport {trtype} is not supported; use rdma");
        return Err(ApplyError::Refused(why));
    }
    let devices = rdma_devices();
    if devices.is_empty() {
        let why = "this machine has no RDMA device; for soft-RoCE: `modprobe rdma_rxe` and `rdma \
                   link add rxe0 type rxe netdev <interface>`";
        return Err(ApplyError::Refused(why.to_owned()));
    }
    let devices: Vec<String> = devices.iter().map(ToString::to_string).collect();
    Ok(format!("RDMA is ready on {}", devices.join("; ")))
}

fn build_namespace(
    nqn: &str,
    config: &config::Namespace,
) -> Result<Namespace<SharedMedia>, ApplyError> {
    let nsid = config.nsid;
    let media = Media::open(&config.backend, config.block_size)
        .map_err(|source| ApplyError::Media { nsid, source })?;
    Ok(Namespace {
        nsid,
        ana_group: config.ana_group,
        uuid: config.uuid.unwrap_or_else(|| derive_uuid(nqn, nsid)),
        nguid: config.nguid.unwrap_or_else(|| derive_nguid(nqn, nsid)),
        eui64: config.eui64,
        geometry: media.geometry(),
        description: media.describe(),
        media: Arc::new(media),
    })
}
