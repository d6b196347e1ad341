//! Which subsystem has which fence, and what happens when one cannot be had.
//!
//! A fence the administrator named must work. One found by itself may not (no store yet, no place
//! to write): then the subsystem gets a board of its own, controllers of other processes cannot be
//! reset through it, and a warning says so. Nothing becomes unsafe by that.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tracing::{info, warn};

use crate::config;
use crate::fence::{Fence, FenceError, default_path};
use crate::gate::board::Board;
use crate::media::Media;
use crate::media::SharedMedia;
use crate::subsystem::Subsystem;

/// The fences in use, by subsystem.
#[derive(Debug, Default)]
pub(super) struct Fences(Mutex<BTreeMap<String, (Arc<Fence>, Board)>>);

impl Fences {
    /// Puts a subsystem that is being built on its board.
    pub(super) fn attach(
        &self,
        config: &config::Subsystem,
        subsystem: &mut Subsystem<SharedMedia>,
    ) -> Result<(), FenceError> {
        let stores: Vec<(u32, Arc<Media>)> = subsystem
            .namespaces
            .values()
            .filter(|namespace| namespace.media.file().is_some())
            .map(|namespace| (namespace.nsid, Arc::clone(&namespace.media)))
            .collect();
        let found = stores.first().and_then(|(_, media)| media.identity());
        let fence = if let Some(path) = &config.fence {
            Fence::open(path, stores)?
        } else if let Some(store) = found {
            match Fence::open(&default_path(&config.nqn, store), stores) {
                Ok(fence) => fence,
                Err(error) => {
                    warn!(nqn = config.nqn, %error, "no fence is shared with other processes");
                    return Ok(());
                }
            }
        } else {
            return Ok(());
        };
        info!(nqn = config.nqn, fence = %fence.path().display(), "sharing a fence");
        let fence = Arc::new(fence);
        subsystem.board = fence.board();
        let mut fences = self.0.lock();
        fences.insert(config.nqn.clone(), (fence, subsystem.board.clone()));
        Ok(())
    }

    /// A namespace is about to be added.
    pub(super) fn add_store(
        &self,
        nqn: &str,
        nsid: u32,
        media: &SharedMedia,
    ) -> Result<(), FenceError> {
        match self.0.lock().get(nqn) {
            Some((fence, board)) => fence.add_store(board, nsid, media),
            None => Ok(()),
        }
    }

    /// A subsystem is gone.
    pub(super) fn forget(&self, nqn: &str) {
        self.0.lock().remove(nqn);
    }
}
