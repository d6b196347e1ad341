//! What listings are drawn from.

use umpath_protocol::{Association, DaemonView, Snapshot};

use super::Hub;
use super::paths::PathRecord;
use crate::clock;
use crate::links::device_names;
use crate::volume::PathFacts;

impl Hub {
    pub(super) fn snapshot(&self) -> Snapshot {
        let context = &self.context;
        let mut volumes: Vec<_> = self
            .volumes
            .values()
            .filter(|volume| volume.is_started())
            .map(|volume| {
                volume.view(&|path| {
                    let record = self.paths.get(&path)?;
                    Some(PathFacts {
                        address: record.spec.traddr.to_string(),
                        cntlid: record.known.cntlid,
                        suspect: record
                            .live
                            .as_ref()
                            .is_some_and(|live| live.suspect.is_some()),
                    })
                })
            })
            .collect();
        volumes.sort_by(|a, b| a.name.cmp(&b.name));
        Snapshot {
            daemon: DaemonView {
                version: env!("CARGO_PKG_VERSION").to_owned(),
                pid: std::process::id(),
                uptime_ms: clock::now().as_millis() as u64,
                hostnqn: context.host.nqn.to_string(),
                hostid: context.host.id.to_string(),
                rdma_devices: device_names(),
                detection: crate::detection::explain(&context.config.defaults),
            },
            volumes,
            associations: self
                .paths
                .iter()
                .map(|(path, record)| self.association(*path, record))
                .collect(),
        }
    }

    fn association(&self, path: u32, record: &PathRecord) -> Association {
        let served = self.volumes.values().filter(|volume| volume.has_path(path));
        let state = match &record.live {
            _ if record.ending => "deleting",
            None => "connecting",
            Some(live) if live.suspect.is_some() => "suspect",
            Some(_) => "live",
        };
        Association {
            path,
            transport: "rdma".to_owned(),
            address: record.spec.traddr.to_string(),
            host_address: record
                .spec
                .host_traddr
                .map(|a| a.to_string())
                .unwrap_or_default(),
            rdma_device: record
                .live
                .as_ref()
                .map(|live| live.domain.device().to_owned())
                .unwrap_or_default(),
            nqn: record.spec.nqn.to_string(),
            serial: record.known.serial.clone(),
            model: record.known.model.clone(),
            cntlid: record.known.cntlid,
            state: state.to_owned(),
            kato_ms: record.known.kato.map_or(0, |kato| kato.as_millis() as u32),
            volumes: served.map(|volume| volume.name().to_owned()).collect(),
            io_queues: record
                .live
                .as_ref()
                .map_or(0, |live| live.ready.io_queues.into()),
            connects: record.connects,
            last_error: record.last_error.clone(),
        }
    }
}
