//! The setup of every drill: two cables, two controllers, one volume with two paths.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use umpath_protocol::EventListing;

use crate::bed::{Network, Side, load as load_modules, within, within_value};
use crate::cases::rig::{Daemon, PATIENCE};

use super::array::{Array, Arrays, NQN, PRIMARY, STANDBY};

/// Variable parts of a scene.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan<'a> {
    pub(super) arrays: Arrays,
    /// Further lines for the `[[subsystem]]` of our targets.
    pub(super) subsystem: &'a str,
    /// The text of `umpath.toml`.
    pub(super) daemon: &'a str,
    /// Disables fencing; only for [`super::ghost`].
    pub(super) unfenced: bool,
}

/// The running scene; its parts are dropped in this order.
#[derive(Debug)]
pub(super) struct Scene {
    pub(super) daemon: Daemon,
    pub(super) array: Array,
    pub(super) network: Network,
    /// The volume's device.
    pub(super) volume: PathBuf,
    pub(super) primary: u32,
}

impl Scene {
    /// Builds the scene and waits until both paths are up.
    pub(super) fn build(work: &Path, plan: Plan<'_>) -> Result<Self> {
        load_modules(&["ublk_drv"])?;
        let network = match plan.arrays {
            Arrays::Umpath => Network::separate(2)?,
            Arrays::KernelPrimary { .. } => Network::kernel_array(2)?,
        };
        let array = Array::start(plan.arrays, &network, work, plan.subsystem)?;
        let wrapper: &[&str] = if plan.unfenced {
            &["sh", "-c", r#"exec "$0" "$@" --unsafe-no-fence"#]
        } else {
            &[]
        };
        let daemon = Daemon::start_within(&network, wrapper, plan.daemon)?;
        daemon.connect(&network, PRIMARY, NQN, &[])?;
        daemon.connect(&network, STANDBY, NQN, &[])?;
        let volume = daemon.device()?;
        let address = network.cable(PRIMARY).address(Side::Array).to_string();
        let primary = within_value(PATIENCE, "the primary's path", || {
            let paths = daemon.paths().ok()?;
            let path = paths
                .iter()
                .find(|path| text(path, "address").starts_with(&address))?;
            path.get("path")?.as_u64()?.try_into().ok()
        })?;
        let scene = Self {
            daemon,
            array,
            network,
            volume,
            primary,
        };
        scene.await_primary()?;
        Ok(scene)
    }

    pub(super) fn events(&self) -> Result<EventListing> {
        let text = self.daemon.ask(&["show", "events", "-o", "json"])?;
        serde_json::from_str(&text).with_context(|| format!("umpath show events: {text}"))
    }

    /// Waits until both paths are live and the primary's carries the I/O.
    pub(super) fn await_primary(&self) -> Result<()> {
        let as_it_should = |paths: Vec<Value>| {
            paths.len() == 2
                && paths.iter().all(|path| {
                    let members = path.get("members").and_then(Value::as_array);
                    let group = members.and_then(|members| members.first());
                    let active = group.is_some_and(|group| text(group, "group_st") == "active");
                    let primary = path.get("path").and_then(Value::as_u64);
                    text(path, "state") == "live"
                        && active == (primary == Some(self.primary.into()))
                })
        };
        within(PATIENCE, "I/O on the primary's path", || {
            self.daemon.paths().is_ok_and(as_it_should)
        })
        .with_context(|| self.daemon.ask(&["-ll"]).unwrap_or_default())
    }

    /// Fails if a program of the scene has ended by itself.
    pub(super) fn all_alive(&mut self) -> Result<()> {
        ensure!(self.daemon.running(), "umpathd ended");
        ensure!(self.array.running(), "a target ended by itself");
        Ok(())
    }
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}
