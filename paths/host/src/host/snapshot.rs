//! The state that listings show.

use umpath_protocol::{Association, DaemonView, Failure, Snapshot};

use super::Host;
use super::paths::PathRecord;
use crate::volume::PathFacts;

impl Host {
    /// Volumes, groups and paths as they are now. `daemon` is the shell's own state.
    pub fn snapshot(&self, daemon: DaemonView) -> Snapshot {
        let facts = |path: u32| {
            let record = self.paths.get(&path)?;
            Some(PathFacts {
                address: record.spec.traddr.to_string(),
                cntlid: record.known.cntlid,
                suspect: record
                    .live
                    .as_ref()
                    .is_some_and(|live| live.suspect.is_some()),
            })
        };
        let mut volumes: Vec<_> = self
            .volumes
            .values()
            .filter(|volume| volume.is_started() || volume.is_adopted())
            .map(|volume| volume.view(&facts))
            .collect();
        volumes.sort_by(|a, b| a.name.cmp(&b.name));
        let name = |device: &u32| format!("ublkb{device}");
        let daemon = DaemonView {
            orphans: self.orphans.iter().map(name).collect(),
            ..daemon
        };
        Snapshot {
            daemon,
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
        let live = record.live.as_ref();
        let state = match live {
            _ if record.ending => "deleting",
            None => "connecting",
            Some(live) if live.suspect.is_some() => "suspect",
            Some(_) => "live",
        };
        let host_address = record.spec.host_traddr.map(|address| address.to_string());
        Association {
            path,
            transport: "rdma".to_owned(),
            address: record.spec.traddr.to_string(),
            host_address: host_address.unwrap_or_default(),
            rdma_device: live.map(|live| live.device.clone()).unwrap_or_default(),
            nqn: record.spec.nqn.to_string(),
            serial: record.known.serial.clone(),
            model: record.known.model.clone(),
            cntlid: record.known.cntlid,
            state: state.to_owned(),
            kato_ms: record.known.kato.map_or(0, |kato| kato.as_millis() as u32),
            volumes: served.map(|volume| volume.name().to_owned()).collect(),
            io_queues: live.map_or(0, |live| live.ready.io_queues.len() as u32),
            connects: record.connects,
            last_error: self.trouble_of(record),
        }
    }

    /// Why a path is not up, or what it cannot serve.
    fn trouble_of(&self, record: &PathRecord) -> String {
        let Some(live) = &record.live else {
            return record.last_error.clone();
        };
        let in_words = |failure: &Failure| format!("{}: {}", failure.what, failure.why);
        let refused = live.refusals.failures().next().map(in_words);
        let mut waiting = live.pending.iter();
        let troubled = || {
            waiting.find_map(|id| {
                let failure = self.volumes.get(id)?.not_served()?;
                Some(in_words(&failure))
            })
        };
        refused.or_else(troubled).unwrap_or_default()
    }
}
