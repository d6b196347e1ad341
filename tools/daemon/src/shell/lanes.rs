//! Reports of queue threads: queue pairs that come with them stay here, the rest is the host's.

use umpath_engine::LaneReport;
use umpath_host::LaneNews;
use umpath_host::order::Remains;
use umpath_rdma::{HostQueue, QueueError};
use umpath_session::StableId;
use umpath_transport::Loss;

use super::Shell;
use crate::clock;

impl Shell {
    pub(super) fn lane(&mut self, volume: StableId, queue: u16, report: LaneReport<HostQueue>) {
        let remains = Remains::Lane(volume, queue);
        let news = match report {
            LaneReport::Drained {
                association,
                silent_at,
                transport,
                quiet,
                ..
            } => {
                let handed_back = transport.is_some();
                if let Some(transport) = transport {
                    let key = (association, remains);
                    self.resources.handed_back.insert(key, transport);
                }
                LaneNews::Drained {
                    association,
                    silent_at,
                    handed_back,
                    quiet,
                }
            }
            LaneReport::BufferFenced {
                association,
                ghosts,
                at,
            } => LaneNews::BufferFenced {
                association,
                ghosts,
                at,
            },
            LaneReport::Broken {
                association, why, ..
            } => LaneNews::Broken {
                association,
                why: in_words(&why),
            },
            LaneReport::Event { event, at } => LaneNews::Event { event, at },
            LaneReport::Stats(stats) => LaneNews::Stats(stats),
            LaneReport::Ended {
                transports,
                outcome,
            } => {
                let had = transports
                    .iter()
                    .map(|(association, _)| *association)
                    .collect();
                for (association, transport) in transports {
                    let key = (association, remains);
                    self.resources.handed_back.insert(key, transport);
                }
                LaneNews::Ended {
                    had,
                    failure: outcome.err().map(|error| error.to_string()),
                }
            }
        };
        self.host.handle_lane(volume, queue, news, clock::now());
    }
}

/// Why a queue pair is of no further use.
fn in_words(why: &Loss<QueueError>) -> String {
    match why {
        Loss::Failed(error) => error.to_string(),
        Loss::Disconnected => "the controller closed the connection".to_owned(),
        Loss::DeviceRemoved => "the RDMA device is being removed".to_owned(),
        Loss::Unregistered(error) => format!("memory is not registered: {error}"),
    }
}
