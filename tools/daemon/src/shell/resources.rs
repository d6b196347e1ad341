//! What the shell holds for the host, by the names the host has for it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use tokio::task::JoinHandle;
use umpath_core::AssociationId;
use umpath_host::order::Remains;
use umpath_host::record::VolumeRecord;
use umpath_host::{DeviceFacts, VolumeKey};
use umpath_rdma::{Domain, HostQueue};
use umpath_transport::Arena;
use umpath_ublk::LaneHandle;

use crate::message::{BlockDevice, Brought, Built};

/// An association's resources, as far as no queue thread has them.
#[derive(Debug)]
pub(super) struct Association {
    pub(super) domain: Arc<Domain>,
    pub(super) queues: BTreeMap<u16, HostQueue>,
    /// The last change ordered of the memory registered there.
    memory: Option<JoinHandle<()>>,
}

impl Association {
    /// Changes what memory is registered, elsewhere and in the order of the calls: memory that is
    /// deregistered while it is being registered would stay registered.
    pub(super) fn change_memory(&mut self, change: impl FnOnce(&Domain) + Send + 'static) {
        let domain = Arc::clone(&self.domain);
        let before = self.memory.take();
        self.memory = Some(tokio::spawn(async move {
            if let Some(before) = before {
                // A change that panicked ends the process.
                let _ = before.await;
            }
            let _ = tokio::task::spawn_blocking(move || change(&domain)).await;
        }));
    }
}

/// A volume's block device and queue threads.
pub(super) struct Served {
    /// Absent while it is being removed, and from then on.
    pub(super) device: Option<Box<BlockDevice>>,
    pub(super) lanes: Vec<LaneHandle<HostQueue>>,
    pub(super) arenas: Vec<Arc<Arena>>,
    pub(super) record: VolumeRecord,
}

/// Everything.
#[derive(Default)]
pub(super) struct Resources {
    pub(super) associations: HashMap<AssociationId, Association>,
    pub(super) volumes: HashMap<VolumeKey, Served>,
    /// Queue pairs that queue threads handed back.
    pub(super) handed_back: HashMap<(AssociationId, Remains), HostQueue>,
}

impl Resources {
    /// A path brought queue pairs of an association.
    pub(super) fn bring(&mut self, brought: Brought) {
        let queues = brought.queues.into_iter().map(|queue| (queue.qid(), queue));
        match brought.domain {
            Some(domain) => {
                let queues = queues.collect();
                let memory = None;
                let new = Association {
                    domain,
                    queues,
                    memory,
                };
                let before = self.associations.insert(brought.association, new);
                assert!(before.is_none(), "an association is brought once");
            }
            None => {
                if let Some(association) = self.associations.get_mut(&brought.association) {
                    association.queues.extend(queues);
                } else {
                    // It was given up meanwhile.
                    let queues: Vec<HostQueue> = queues.map(|(_, queue)| queue).collect();
                    tokio::task::spawn_blocking(move || drop(queues));
                }
            }
        }
    }

    /// A block device was made or taken over.
    pub(super) fn built(&mut self, volume: VolumeKey, built: Built) -> DeviceFacts {
        let info = *built.device.info();
        let facts = DeviceFacts {
            device: info.id,
            queues: info.queues,
            cookie: built.record.cookie,
        };
        let served = Served {
            lanes: built.device.lanes().cloned().collect(),
            arenas: built.arenas,
            record: built.record,
            device: Some(Box::new(built.device)),
        };
        let before = self.volumes.insert(volume, served);
        assert!(before.is_none(), "a volume has one block device");
        facts
    }

    /// A block device was removed; or was not, and comes back.
    pub(super) fn removed(&mut self, volume: VolumeKey, device: Option<Box<BlockDevice>>) {
        // Its memory stays known until the host has it unregistered.
        if device.is_some() {
            self.served(volume).device = device;
        }
    }

    pub(super) fn served(&mut self, volume: VolumeKey) -> &mut Served {
        let served = self.volumes.get_mut(&volume);
        served.expect("the host orders for volumes that are there")
    }

    /// Takes a block device to remove it.
    pub(super) fn take_device(&mut self, volume: VolumeKey) -> Box<BlockDevice> {
        let device = self.served(volume).device.take();
        device.expect("the host does one thing at a time with a block device")
    }
}
