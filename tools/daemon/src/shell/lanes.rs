//! Reports of queue threads: queue pairs that come with them stay here, the rest is the host's.

use umpath_engine::LaneReport;
use umpath_host::order::Remains;
use umpath_host::{LaneNews, VolumeKey};
use umpath_rdma::HostQueue;

use super::Shell;
use crate::clock;

impl Shell {
    pub(super) fn lane(&mut self, volume: VolumeKey, queue: u16, report: LaneReport<HostQueue>) {
        let (news, queue_pairs) = LaneNews::from_report(report);
        for (association, queue_pair) in queue_pairs {
            let key = (association, Remains::Lane(volume, queue));
            // The host orders its destruction at once.
            let before = self.resources.handed_back.insert(key, queue_pair);
            assert!(before.is_none(), "{key:?} was handed back twice");
        }
        self.host.handle_lane(volume, queue, news, clock::now());
    }
}
