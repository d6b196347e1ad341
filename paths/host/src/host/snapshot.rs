//! The state that listings show.

use umpath_protocol::{Association, DaemonView, Failure, Snapshot};

use super::attach::Live;
use super::paths::PathRecord;
use super::{Host, inherited::Recorded};
use crate::volume::{PathFacts, Volume};

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
            io_queues: live.map_or(0, |live| live.ready.io_queues.into()),
            connects: record.connects,
            last_error: trouble_of(record),
        }
    }

    /// Answers callers who wait for a path once all its volumes are attached or refused.
    pub(super) fn settle_connects(&mut self) {
        let settled: Vec<u32> = self
            .paths
            .iter()
            // The end of a path that is being removed answers its callers.
            .filter(|(_, record)| record.is_awaited() && !record.ending)
            .filter(|(path, record)| {
                let live = record.live.as_ref();
                live.is_some_and(|live| self.is_settled(**path, live))
            })
            .map(|(path, _)| *path)
            .collect();
        for path in settled {
            self.settle_connect(path);
        }
    }

    fn is_settled(&self, path: u32, live: &Live) -> bool {
        let troubled = |id: &_| {
            let volume = self.volumes.get(id);
            volume.is_some_and(|volume| volume.trouble().is_some())
        };
        let started = |volume: &Volume| volume.is_started() || volume.trouble().is_some();
        let mut served = self.volumes.values().filter(|volume| volume.has_path(path));
        match live.recorded {
            Recorded::Pending => false,
            Recorded::Failed { .. } => true,
            Recorded::Durable => live.pending.iter().all(troubled) && served.all(started),
        }
    }

    fn settle_connect(&mut self, path: u32) {
        let live = self.live(path).expect("an association that is settled");
        let mut refused: Vec<Failure> = live.refusals.failures().cloned().collect();
        for id in &live.pending {
            let volume = self.volumes.get(id).expect("a volume that is waited for");
            refused.push(Failure::new(
                format!("volume {} cannot be served yet", volume.name()),
                volume.trouble().unwrap_or_default(),
                "it is tried again by itself; umpath show events tells more",
            ));
        }
        let ignored = live.ignored.clone();
        let mut outcome = self.outcome(path);
        let none = outcome.volumes.is_empty();
        // A volume that waits to be taken over, or for its last block device to be deleted, will need
        // it.
        let waits = !live.pending.is_empty() || self.awaits_sweep(&live.ready.namespaces);
        let hopeless = none && !waits;
        let useless = hopeless && !(refused.is_empty() && ignored.is_empty());
        let first = refused.first().filter(|_| none).cloned();
        outcome.refused = refused;
        outcome.ignored = ignored;
        let answer = first.map_or(Ok(outcome), Err);
        self.answer_waiting(path, &answer);
        if useless && !self.path(path).standing {
            self.end_path(path);
        }
    }
}

/// Why a path is not up, or what it cannot serve.
fn trouble_of(record: &PathRecord) -> String {
    let Some(live) = &record.live else {
        return record.last_error.clone();
    };
    let refusal = live.refusals.failures().next();
    let in_words = |failure: &Failure| format!("{}: {}", failure.what, failure.why);
    refusal.map(in_words).unwrap_or_default()
}
