//! The identity this host presents to controllers: `hostnqn` and `hostid`.
//!
//! The files in `/etc/nvme` take precedence, so that the array sees the same host whether the
//! kernel or this daemon connects. A missing value is generated once and kept in the state
//! directory. A controller ties reservations and access lists to the pair, so it must never change
//! by itself.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use umpath_nvme::nqn::Nqn;
use uuid::Uuid;

const UUID_NQN: &str = "nqn.2014-08.org.nvmexpress:uuid:";

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    /// Host NQN.
    pub(crate) nqn: Nqn,
    /// Host identifier.
    pub(crate) id: Uuid,
}

impl Identity {
    /// Reads the pair and generates what is missing.
    pub(crate) fn load(nvme_dir: &Path, state_dir: &Path) -> anyhow::Result<Self> {
        let id_text = find(nvme_dir, state_dir, "hostid")?;
        let nqn_text = find(nvme_dir, state_dir, "hostnqn")?;
        let id = match (&id_text, &nqn_text) {
            (Some((path, text)), _) => parse_id(text).with_context(|| {
                format!(
                    "{} holds no UUID: write the output of `uuidgen` there",
                    path.display()
                )
            })?,
            // The two belong together: a UUID-based NQN contains the identifier.
            (None, Some((_, nqn))) => uuid_of(nqn).unwrap_or_else(Uuid::new_v4),
            (None, None) => Uuid::new_v4(),
        };
        let nqn = match &nqn_text {
            Some((path, text)) => Nqn::new(text).map_err(|error| {
                anyhow::anyhow!("{} holds no valid NQN: {error}", path.display())
            })?,
            None => Nqn::new(&format!("{UUID_NQN}{id}"))
                .map_err(|error| anyhow::anyhow!("cannot create a host NQN: {error}"))?,
        };
        if id_text.is_none() {
            keep(nvme_dir, state_dir, "hostid", &id.to_string())?;
        }
        if nqn_text.is_none() {
            keep(nvme_dir, state_dir, "hostnqn", nqn.as_str())?;
        }
        Ok(Self { nqn, id })
    }
}

/// Parses an identifier; all zeros is invalid (NVMe Base 2.x, Host Identifier).
pub(crate) fn parse_id(text: &str) -> anyhow::Result<Uuid> {
    let id = Uuid::parse_str(text.trim())?;
    if id.is_nil() {
        bail!("the host identifier must not be zero");
    }
    Ok(id)
}

fn uuid_of(nqn: &str) -> Option<Uuid> {
    parse_id(nqn.strip_prefix(UUID_NQN)?).ok()
}

fn find(
    nvme_dir: &Path,
    state_dir: &Path,
    name: &str,
) -> anyhow::Result<Option<(PathBuf, String)>> {
    for folder in [nvme_dir, state_dir] {
        let path = folder.join(name);
        match std::fs::read_to_string(&path) {
            Ok(text) if text.trim().is_empty() => {}
            Ok(text) => return Ok(Some((path, text.trim().to_owned()))),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => {
                return Err(error).with_context(|| format!("cannot read {}", path.display()));
            }
        }
    }
    Ok(None)
}

fn keep(nvme_dir: &Path, state_dir: &Path, name: &str, text: &str) -> anyhow::Result<()> {
    let path = state_dir.join(name);
    std::fs::write(&path, format!("{text}\n"))
        .with_context(|| format!("cannot write {}", path.display()))?;
    tracing::info!(
        "{} does not exist: generated {text} and saved it in {}; add it to the array's access list",
        nvme_dir.join(name).display(),
        path.display()
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_made_once() {
        let root = std::env::temp_dir().join(format!("umpathd-host-{}", std::process::id()));
        let (nvme, state) = (root.join("nvme"), root.join("state"));
        std::fs::create_dir_all(&nvme).unwrap();
        std::fs::create_dir_all(&state).unwrap();
        let first = Identity::load(&nvme, &state).unwrap();
        assert_eq!(first.nqn.as_str(), format!("{UUID_NQN}{}", first.id));
        assert_eq!(Identity::load(&nvme, &state).unwrap(), first);

        let id = Uuid::new_v4();
        std::fs::write(nvme.join("hostid"), format!("{id}\n")).unwrap();
        std::fs::write(nvme.join("hostnqn"), "nqn.2026-11.example:me\n").unwrap();
        let kernels = Identity::load(&nvme, &state).unwrap();
        assert_eq!(
            (kernels.id, kernels.nqn.as_str()),
            (id, "nqn.2026-11.example:me")
        );

        std::fs::write(nvme.join("hostid"), "not a uuid").unwrap();
        let error = format!("{:#}", Identity::load(&nvme, &state).unwrap_err());
        assert!(error.contains("hostid holds no UUID"), "{error}");
        std::fs::remove_dir_all(&root).unwrap();
    }
}
