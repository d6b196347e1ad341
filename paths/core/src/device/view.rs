//! Paths as an operator wants to see them.

use umpath_policies::{AnaState, PathId, Standing};

use super::Device;
use crate::table::AssociationId;

/// One path, with or without an association.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PathView {
    /// Its number.
    pub path: PathId,
    /// Its association, if it has one.
    pub association: Option<AssociationId>,
    /// It may carry new I/O.
    pub usable: bool,
    /// There is evidence against it.
    pub suspect: bool,
    /// ANA state of the namespace, if known.
    pub ana: Option<AnaState>,
    /// Preferred by configuration.
    pub preferred: bool,
    /// Failed by an operator.
    pub failed: bool,
    /// How damping sees it.
    pub standing: Standing,
}

impl Device {
    /// All configured paths.
    pub fn paths(&self) -> impl Iterator<Item = PathView> + '_ {
        self.paths.iter().map(|path| PathView {
            path: path.id,
            association: path.association(),
            usable: path.is_usable(),
            suspect: path
                .live
                .as_ref()
                .is_some_and(|live| live.suspicion.is_some()),
            ana: path.live.as_ref().and_then(|live| live.ana),
            preferred: path.config.preferred,
            failed: path.failed,
            standing: path.damping.standing(),
        })
    }

    /// Associations that were given up and whose order fence is awaited.
    pub fn unfenced(&self) -> impl Iterator<Item = AssociationId> + '_ {
        self.dying.iter().map(|dying| dying.association)
    }
}
