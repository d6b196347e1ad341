//! A private apt with its own sources, lists and caches: packages of any Debian suite, unpacked
//! into the cache and never installed.
//!
//! Decided here: the mirror, and how long a fetched index is used. apt verifies signatures against
//! Debian's keyring.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result};

use crate::host;

const MIRROR: &str = "http://deb.debian.org/debian/";
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
const INDEX_LIFETIME: Duration = Duration::from_secs(24 * 3600);

/// A directory and the suites this apt uses.
pub(super) struct PrivateApt {
    dir: PathBuf,
    suites: Vec<String>,
    options: Vec<String>,
    architecture: String,
}

impl PrivateApt {
    /// Keeps its state in `dir`.
    pub(super) fn new(dir: PathBuf, suites: &[&str]) -> Result<Self> {
        for sub in ["parts", "lists/partial", "archives/partial"] {
            fs::create_dir_all(dir.join(sub))?;
        }
        let architecture = host::capture(Command::new("dpkg").arg("--print-architecture"))?
            .trim()
            .to_owned();
        let show = |sub: &str| dir.join(sub).display().to_string();
        let options = [
            ("Dir::Etc::SourceList", "/dev/null".to_owned()),
            ("Dir::Etc::SourceParts", show("parts")),
            // Ignore what this machine has installed and which packages it prefers.
            ("Dir::State::status", "/dev/null".to_owned()),
            ("Dir::Etc::Preferences", "/dev/null".to_owned()),
            ("Dir::Etc::PreferencesParts", "/dev/null".to_owned()),
            ("Dir::State::Lists", show("lists")),
            ("Dir::Cache::Archives", show("archives")),
            ("Dir::Cache::pkgcache", String::new()),
            ("Dir::Cache::srcpkgcache", String::new()),
            ("APT::Sandbox::User", "root".to_owned()),
            ("APT::Update::Post-Invoke-Success", String::new()),
            ("Acquire::Languages", "none".to_owned()),
            (
                "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled",
                "false".to_owned(),
            ),
            (
                "Acquire::IndexTargets::deb::Contents-deb::DefaultEnabled",
                "false".to_owned(),
            ),
            ("Acquire::Retries", "3".to_owned()),
        ];
        let options = options
            .map(|(key, value)| format!("-o{key}={value}"))
            .to_vec();
        Ok(Self {
            dir,
            suites: suites.iter().map(|&suite| suite.to_owned()).collect(),
            options,
            architecture,
        })
    }

    /// Debian's name of this machine's architecture.
    pub(super) fn architecture(&self) -> &str {
        &self.architecture
    }

    /// Fetches the index unless the cached one is recent.
    pub(super) fn update(&self) -> Result<()> {
        let stamp = self.dir.join("updated");
        let age = fs::metadata(&stamp)
            .and_then(|m| m.modified())
            .ok()
            .and_then(|t| SystemTime::now().duration_since(t).ok());
        if age.is_some_and(|age| age < INDEX_LIFETIME) {
            return Ok(());
        }
        let mirror = mirror();
        eprintln!("xtask: fetching Debian's package index from {mirror}");
        let source = |suite| format!("deb [signed-by={KEYRING}] {mirror} {suite} main\n");
        let sources: String = self.suites.iter().map(source).collect();
        fs::write(self.dir.join("parts/umpath.list"), sources)?;
        host::capture(
            self.command("apt-get")
                .arg("update")
                .args(["-q", "--error-on=any"]),
        )
        .context("cannot fetch Debian's package index")?;
        fs::write(&stamp, "")?;
        Ok(())
    }

    /// Names of packages with this prefix.
    pub(super) fn names(&self, prefix: &str) -> Result<Vec<String>> {
        let listing = host::capture(self.command("apt-cache").args(["pkgnames", prefix]))?;
        Ok(listing.lines().map(|line| line.trim().to_owned()).collect())
    }

    /// Downloads packages and unpacks them to `root`, which appears atomically after `finish`.
    pub(super) fn unpack(
        &self,
        packages: &[String],
        root: &Path,
        finish: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<()> {
        eprintln!("xtask: fetching {}", packages.join(" "));
        let name = root.file_name().unwrap_or_default().to_string_lossy();
        let scratch = root.with_file_name(format!(".new-{name}"));
        let (downloads, new) = (scratch.join("downloads"), scratch.join("root"));
        drop(fs::remove_dir_all(&scratch));
        fs::create_dir_all(&downloads)?;
        fs::create_dir_all(&new)?;
        host::capture(
            self.command("apt-get")
                .current_dir(&downloads)
                .arg("download")
                .args(packages),
        )
        .with_context(|| format!("cannot download {}", packages.join(" ")))?;
        for entry in fs::read_dir(&downloads)? {
            host::succeed(Command::new("dpkg").arg("-x").arg(entry?.path()).arg(&new))?;
        }
        finish(&new)?;
        fs::rename(&new, root)
            .with_context(|| format!("cannot move {} into place", root.display()))?;
        fs::remove_dir_all(&scratch)?;
        Ok(())
    }

    fn command(&self, name: &str) -> Command {
        let mut command = Command::new(name);
        command
            .args(&self.options)
            .current_dir(&self.dir)
            .env("LC_ALL", "C");
        command
    }
}

/// The mirror this machine uses if it runs Debian, otherwise Debian's default.
fn mirror() -> String {
    if let Ok(mirror) = std::env::var("UMPATH_DEBIAN_MIRROR") {
        return mirror;
    }
    let os = fs::read_to_string("/etc/os-release").unwrap_or_default();
    if !os.lines().any(|line| line == "ID=debian") {
        return MIRROR.to_owned();
    }
    let targets =
        host::capture(Command::new("apt-get").args(["indextargets", "--format", "$(REPO_URI)"]));
    let targets = targets.unwrap_or_default();
    let own = targets
        .lines()
        .find(|uri| uri.trim_end_matches('/').ends_with("/debian"));
    own.unwrap_or(MIRROR).to_owned()
}
