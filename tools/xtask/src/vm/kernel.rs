//! Stock Debian kernels, fetched into the cache without touching this machine's apt.
//!
//! Decided here: which package is the newest of a series, resolved from Debian's own index at run
//! time (the index is fetched again after a day). Nothing is installed: packages are unpacked
//! below `<cache>/kernels/<version>`. Signatures are checked by apt against Debian's keyring.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, bail};

use crate::host;

const SUITES: [&str; 2] = ["trixie", "trixie-backports"];
const MIRROR: &str = "http://deb.debian.org/debian/";
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
const INDEX_LIFETIME: Duration = Duration::from_secs(24 * 3600);
const SPACE_BYTES: u64 = 1200 << 20;

/// An unpacked kernel.
#[derive(Clone, Debug)]
pub(crate) struct Kernel {
    /// What `uname -r` says under it.
    pub(crate) release: String,
    /// The bootable image; its modules lie beside it or in `usr/lib/modules`.
    pub(crate) image: PathBuf,
}

/// Finds the newest kernel of `series` (or of all), fetching it unless the cache holds it.
pub(crate) fn ensure(cache: &Path, series: Option<&str>) -> Result<Kernel> {
    fs::create_dir_all(cache.join("kernels"))?;
    let lock = File::create(cache.join("lock")).context("cannot write to the cache")?;
    lock.lock().context("cannot lock the cache")?;
    let apt = PrivateApt::new(cache)?;
    let release = match apt.newest(series) {
        Ok(release) => release,
        Err(error) => {
            let Some(release) = newest_of(cached_releases(cache), series) else {
                return Err(error);
            };
            eprintln!(
                "xtask: using the cached kernel {release}, Debian's index is out of reach: {error:#}"
            );
            release
        }
    };
    if let Some(kernel) = cached(cache, &release) {
        return Ok(kernel);
    }
    host::require_space(cache, SPACE_BYTES, "a kernel")?;
    apt.fetch(cache, &release)?;
    cached(cache, &release).with_context(|| format!("package of kernel {release} holds no vmlinuz"))
}

fn cached(cache: &Path, release: &str) -> Option<Kernel> {
    let root = cache.join("kernels").join(release);
    [
        root.join("usr/lib/modules").join(release).join("vmlinuz"),
        root.join(format!("boot/vmlinuz-{release}")),
    ]
    .into_iter()
    .find(|image| image.is_file())
    .map(|image| Kernel {
        release: release.to_owned(),
        image,
    })
}

fn cached_releases(cache: &Path) -> Vec<String> {
    let entries = fs::read_dir(cache.join("kernels"))
        .into_iter()
        .flatten()
        .flatten();
    entries
        .map(|e| e.file_name().to_string_lossy().into_owned())
        .filter(|n| !n.starts_with('.'))
        .collect()
}

/// Version numbers of a release such as `7.2.12+deb13-amd64`.
fn numbers(release: &str) -> Vec<u32> {
    let upstream = release.split(['+', '-']).next().unwrap_or_default();
    upstream
        .split('.')
        .map_while(|part| part.parse().ok())
        .collect()
}

fn newest_of(releases: Vec<String>, series: Option<&str>) -> Option<String> {
    let in_series = |release: &String| {
        series.is_none_or(|series| numbers(release).starts_with(&numbers(series)))
    };
    releases
        .into_iter()
        .filter(in_series)
        .max_by_key(|release| numbers(release))
}

/// apt with its own sources, lists and caches.
struct PrivateApt {
    dir: PathBuf,
    options: Vec<String>,
    architecture: String,
}

impl PrivateApt {
    fn new(cache: &Path) -> Result<Self> {
        let dir = cache.join("apt");
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
            options,
            architecture,
        })
    }

    fn command(&self, name: &str) -> Command {
        let mut command = Command::new(name);
        command
            .args(&self.options)
            .current_dir(&self.dir)
            .env("LC_ALL", "C");
        command
    }

    fn newest(&self, series: Option<&str>) -> Result<String> {
        self.update()?;
        let flavour = format!("-{}", self.architecture);
        let listing = host::capture(self.command("apt-cache").args(["pkgnames", "linux-image-"]))?;
        let releases: Vec<String> = listing
            .lines()
            .filter_map(|line| line.trim().strip_prefix("linux-image-"))
            .filter(|release| release.ends_with(&flavour) && numbers(release).len() >= 2)
            .filter(|release| is_plain_flavour(release, &flavour))
            .map(str::to_owned)
            .collect();
        let mut known: Vec<_> = releases.iter().map(|release| numbers(release)).collect();
        newest_of(releases, series).with_context(|| {
            known.sort();
            for numbers in &mut known {
                numbers.truncate(2);
            }
            known.dedup();
            let known: Vec<_> = known
                .iter()
                .map(|n| n.iter().map(u32::to_string).collect::<Vec<_>>().join("."))
                .collect();
            format!(
                "Debian has no kernel {}; it has {}",
                series.unwrap_or("at all"),
                known.join(", ")
            )
        })
    }

    fn update(&self) -> Result<()> {
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
        let sources = SUITES
            .map(|suite| {
                format!(
                    "deb [signed-by={KEYRING}] {mirror} {suite} main
"
                )
            })
            .concat();
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

    fn fetch(&self, cache: &Path, release: &str) -> Result<()> {
        let split = ["base", "binary", "modules"].map(|part| format!("linux-{part}-{release}"));
        let listing = host::capture(self.command("apt-cache").args(["pkgnames", &split[1]]))?;
        let packages = if listing.lines().any(|line| line.trim() == split[1]) {
            split.to_vec()
        } else {
            vec![format!("linux-image-{release}")]
        };
        eprintln!("xtask: fetching {}", packages.join(" "));
        let scratch = cache.join("kernels").join(format!(".new-{release}"));
        let downloads = scratch.join("downloads");
        let root = scratch.join("root");
        drop(fs::remove_dir_all(&scratch));
        fs::create_dir_all(&downloads)?;
        fs::create_dir_all(&root)?;
        host::capture(
            self.command("apt-get")
                .current_dir(&downloads)
                .arg("download")
                .args(&packages),
        )
        .context("cannot download the kernel")?;
        for entry in fs::read_dir(&downloads)? {
            host::succeed(Command::new("dpkg").arg("-x").arg(entry?.path()).arg(&root))?;
        }
        index_modules(&root, release)?;
        fs::rename(&root, cache.join("kernels").join(release))
            .context("cannot move the kernel into the cache")?;
        fs::remove_dir_all(&scratch)?;
        Ok(())
    }
}

/// `linux-image-7.2.12+deb13-amd64`, not `...-rt-amd64` or `...-cloud-amd64`.
fn is_plain_flavour(release: &str, flavour: &str) -> bool {
    release
        .strip_suffix(flavour)
        .is_some_and(|rest| !rest.contains('-'))
}

fn index_modules(root: &Path, release: &str) -> Result<()> {
    let depmod =
        host::find_program("depmod").context("depmod is missing; it is in package kmod")?;
    let base = root.join("usr");
    if !base.join("lib/modules").join(release).is_dir() {
        bail!("package of kernel {release} holds no modules in usr/lib/modules");
    }
    host::capture(Command::new(depmod).arg("-b").arg(&base).arg(release))
        .context("cannot index the modules")?;
    Ok(())
}

/// The mirror this machine uses already when it is a Debian, otherwise Debian's own.
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

#[cfg(test)]
mod tests {
    use super::*;

    fn releases() -> Vec<String> {
        [
            "7.2.9+deb13-amd64",
            "7.2.12+deb13-amd64",
            "6.12.94+deb13-amd64",
            "6.12.107+deb13-amd64",
        ]
        .map(str::to_owned)
        .to_vec()
    }

    #[test]
    fn newest_compares_numbers_not_text() {
        assert_eq!(
            newest_of(releases(), None).as_deref(),
            Some("7.2.12+deb13-amd64")
        );
        assert_eq!(
            newest_of(releases(), Some("6.12")).as_deref(),
            Some("6.12.107+deb13-amd64")
        );
        assert_eq!(newest_of(releases(), Some("6.1")), None);
        assert_eq!(
            newest_of(releases(), Some("7.2.9")).as_deref(),
            Some("7.2.9+deb13-amd64")
        );
    }

    #[test]
    fn only_the_plain_flavour_counts() {
        assert!(is_plain_flavour("7.2.12+deb13-amd64", "-amd64"));
        assert!(!is_plain_flavour("7.2.12+deb13-rt-amd64", "-amd64"));
        assert!(!is_plain_flavour("7.2.12+deb13-cloud-amd64", "-amd64"));
    }
}
