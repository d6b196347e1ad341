//! Changes made by the administrator while hosts are connected, and how hosts learn of them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use thiserror::Error;

use super::Array;
use crate::controller::events::Notice;
use crate::gate::board::Board;
use crate::model::{AnaMap, AnaState, PortId};
use crate::output::Gone;
use crate::subsystem::{Namespace, Subsystem};

/// Why a change was refused. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ChangeError {
    /// There is no such thing.
    #[error("there is no {0}")]
    Missing(String),
    /// There is one already.
    #[error("{0} exists already")]
    Exists(String),
    /// Another thing depends on it.
    #[error("{0}")]
    Refused(String),
}

impl<M: Clone> Array<M> {
    /// Adds a port.
    pub fn add_port(&mut self, port: PortId, address: SocketAddr) -> Result<(), ChangeError> {
        if self.ports.contains_key(&port) {
            return Err(ChangeError::Exists(format!("port {}", port.0)));
        }
        if let Some((other, _)) = self.ports.iter().find(|(_, taken)| **taken == address) {
            return Err(ChangeError::Exists(format!(
                "a port at {address} (port {})",
                other.0
            )));
        }
        self.ports.insert(port, address);
        Ok(())
    }

    /// Removes a port nothing is reachable through.
    pub fn remove_port(&mut self, port: PortId) -> Result<(), ChangeError> {
        if let Some(user) = self.subsystems.values().find(|s| s.ports.contains(&port)) {
            let why = format!("port {} still serves {}", port.0, user.nqn);
            return Err(ChangeError::Refused(why));
        }
        let found = self.ports.remove(&port).map(|_| ());
        found.ok_or_else(|| ChangeError::Missing(format!("port {}", port.0)))
    }

    /// Where each port listens.
    pub fn ports(&self) -> &BTreeMap<PortId, SocketAddr> {
        &self.ports
    }

    /// Subsystems by name.
    pub fn subsystems(&self) -> &BTreeMap<String, Subsystem<M>> {
        &self.subsystems
    }

    /// Adds a subsystem; its ports must exist.
    pub fn add_subsystem(&mut self, subsystem: Subsystem<M>) -> Result<(), ChangeError> {
        if self.subsystems.contains_key(&subsystem.nqn) {
            return Err(ChangeError::Exists(format!("subsystem {}", subsystem.nqn)));
        }
        if let Some(port) = subsystem
            .ports
            .iter()
            .find(|port| !self.ports.contains_key(port))
        {
            return Err(ChangeError::Missing(format!("port {}", port.0)));
        }
        let ports = subsystem.ports.clone();
        self.subsystems.insert(subsystem.nqn.clone(), subsystem);
        self.discovery_changed(&ports);
        Ok(())
    }

    /// Removes a subsystem and ends its controllers.
    pub fn remove_subsystem(&mut self, nqn: &str, now: Duration) -> Result<(), ChangeError> {
        let ports = self.subsystem(nqn)?.ports.clone();
        self.end_controllers(now, |subsystem, _, _| subsystem == nqn);
        self.subsystems.remove(nqn);
        self.watch.forget(nqn);
        self.discovery_changed(&ports);
        Ok(())
    }

    /// Makes a subsystem reachable through a port.
    pub fn attach(&mut self, nqn: &str, port: PortId) -> Result<(), ChangeError> {
        if !self.ports.contains_key(&port) {
            return Err(ChangeError::Missing(format!("port {}", port.0)));
        }
        if !self.subsystem_mut(nqn)?.ports.insert(port) {
            return Err(ChangeError::Exists(format!("port {} of {nqn}", port.0)));
        }
        self.discovery_changed(&BTreeSet::from([port]));
        Ok(())
    }

    /// Takes a subsystem off a port and ends the controllers that came through it.
    pub fn detach(&mut self, nqn: &str, port: PortId, now: Duration) -> Result<(), ChangeError> {
        if !self.subsystem_mut(nqn)?.ports.remove(&port) {
            return Err(ChangeError::Missing(format!("port {} of {nqn}", port.0)));
        }
        self.end_controllers(now, |subsystem, from, _| subsystem == nqn && from == port);
        self.discovery_changed(&BTreeSet::from([port]));
        Ok(())
    }

    /// Adds a namespace.
    pub fn add_namespace(&mut self, nqn: &str, namespace: Namespace<M>) -> Result<(), ChangeError> {
        let nsid = namespace.nsid;
        let subsystem = self.subsystem_mut(nqn)?;
        if subsystem.namespaces.contains_key(&nsid) {
            return Err(ChangeError::Exists(format!("namespace {nsid} of {nqn}")));
        }
        subsystem
            .ana
            .membership_changed(&subsystem.ports.clone(), namespace.ana_group);
        subsystem.namespaces.insert(nsid, namespace);
        self.namespace_changed(nqn, nsid);
        Ok(())
    }

    /// Removes a namespace.
    pub fn remove_namespace(&mut self, nqn: &str, nsid: u32) -> Result<(), ChangeError> {
        let subsystem = self.subsystem_mut(nqn)?;
        let Some(namespace) = subsystem.namespaces.remove(&nsid) else {
            return Err(ChangeError::Missing(format!("namespace {nsid} of {nqn}")));
        };
        subsystem
            .ana
            .membership_changed(&subsystem.ports.clone(), namespace.ana_group);
        self.namespace_changed(nqn, nsid);
        Ok(())
    }

    /// Lets a host, or with `None` any host, connect.
    pub fn allow_host(&mut self, nqn: &str, host: Option<&str>) -> Result<(), ChangeError> {
        let subsystem = self.subsystem_mut(nqn)?;
        match host {
            None => subsystem.allow_any_host = true,
            Some(host) => {
                if !subsystem.hosts.insert(host.to_owned()) {
                    return Err(ChangeError::Exists(format!("host {host} of {nqn}")));
                }
            }
        }
        let ports = subsystem.ports.clone();
        self.discovery_changed(&ports);
        Ok(())
    }

    /// Takes a host's permission away and ends its controllers.
    pub fn forbid_host(
        &mut self,
        nqn: &str,
        host: Option<&str>,
        now: Duration,
    ) -> Result<(), ChangeError> {
        let subsystem = self.subsystem_mut(nqn)?;
        match host {
            None => subsystem.allow_any_host = false,
            Some(host) => {
                if !subsystem.hosts.remove(host) {
                    return Err(ChangeError::Missing(format!("host {host} of {nqn}")));
                }
            }
        }
        let (ports, subsystem) = (subsystem.ports.clone(), subsystem.clone());
        self.end_controllers(now, |name, _, host| name == nqn && !subsystem.allows(host));
        self.discovery_changed(&ports);
        Ok(())
    }

    /// Sets the state of an ANA group on a port; says whether it changed.
    pub fn set_ana(
        &mut self,
        nqn: &str,
        port: PortId,
        group: u32,
        state: AnaState,
    ) -> Result<bool, ChangeError> {
        if !self.ports.contains_key(&port) {
            return Err(ChangeError::Missing(format!("port {}", port.0)));
        }
        let changed = self.subsystem_mut(nqn)?.ana.set(port, group, state);
        if changed {
            self.republish(nqn);
            self.notify(Notice::Ana, |subsystem, from| {
                subsystem == Some(nqn) && from == port
            });
        }
        Ok(changed)
    }

    /// Closes every controller's queues, for an orderly end of the process.
    pub fn shut_down(&mut self, now: Duration) {
        for cntlid in self.controllers.keys().copied().collect::<Vec<_>>() {
            self.remove_controller(cntlid, Gone::Removed, now);
        }
    }

    fn subsystem(&self, nqn: &str) -> Result<&Subsystem<M>, ChangeError> {
        self.subsystems
            .get(nqn)
            .ok_or_else(|| ChangeError::Missing(format!("subsystem {nqn}")))
    }

    fn subsystem_mut(&mut self, nqn: &str) -> Result<&mut Subsystem<M>, ChangeError> {
        let found = self.subsystems.get_mut(nqn);
        found.ok_or_else(|| ChangeError::Missing(format!("subsystem {nqn}")))
    }

    fn end_controllers(&mut self, now: Duration, which: impl Fn(&str, PortId, &str) -> bool) {
        let ending: Vec<u16> = self
            .controllers
            .iter()
            .filter(|(_, c)| {
                c.subsystem
                    .as_deref()
                    .is_some_and(|nqn| which(nqn, c.port, &c.host))
            })
            .map(|(cntlid, _)| *cntlid)
            .collect();
        for cntlid in ending {
            self.remove_controller(cntlid, Gone::Removed, now);
        }
    }

    /// Gives the I/O queues of a subsystem's controllers their new view.
    fn republish(&mut self, nqn: &str) {
        let Some(subsystem) = self.subsystems.get(nqn) else {
            return;
        };
        let members = self
            .controllers
            .values()
            .filter(|c| c.subsystem.as_deref() == Some(nqn));
        for controller in members {
            controller.shared().publish(subsystem.view(controller.port));
        }
    }

    fn namespace_changed(&mut self, nqn: &str, nsid: u32) {
        self.republish(nqn);
        for controller in self.controllers.values_mut() {
            if controller.subsystem.as_deref() == Some(nqn) {
                controller.note_changed_namespace(nsid);
            }
        }
        self.notify(Notice::Namespaces, |subsystem, _| subsystem == Some(nqn));
    }

    fn discovery_changed(&mut self, ports: &BTreeSet<PortId>) {
        self.discovery_generation += 1;
        self.notify(Notice::Discovery, |subsystem, port| {
            subsystem.is_none() && ports.contains(&port)
        });
    }

    fn notify(&mut self, notice: Notice, whom: impl Fn(Option<&str>, PortId) -> bool) {
        for controller in self.controllers.values_mut() {
            if whom(controller.subsystem.as_deref(), controller.port) {
                controller.raise(notice);
                self.outputs.extend(controller.take_outputs());
            }
        }
    }
}

impl<M> Subsystem<M> {
    /// A subsystem without namespaces, hosts and ports, on a board of its own.
    pub fn new(nqn: String, serial: String, model: String, cqt_ms: u16) -> Self {
        Self {
            nqn,
            serial,
            model,
            allow_any_host: false,
            hosts: BTreeSet::new(),
            ports: BTreeSet::new(),
            ana: AnaMap::default(),
            cqt_ms,
            ccr: true,
            board: Board::private(),
            namespaces: BTreeMap::new(),
        }
    }
}
