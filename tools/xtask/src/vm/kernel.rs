//! Stock Debian kernels, fetched into the cache without touching this machine's apt.
//!
//! Decided here: which package is the newest of a series, determined from Debian's index at run
//! time. Nothing is installed: packages are unpacked below `<cache>/kernels/<version>`.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use super::apt::PrivateApt;
use crate::host;

const SUITES: [&str; 2] = ["trixie", "trixie-backports"];
const SPACE_BYTES: u64 = 1200 << 20;

/// An unpacked kernel.
#[derive(Clone, Debug)]
pub(crate) struct Kernel {
    /// The output of `uname -r` on it.
    pub(crate) release: String,
    /// The bootable image; its modules are beside it or in `usr/lib/modules`.
    pub(crate) image: PathBuf,
}

/// Finds the newest kernel of `series` (or of all), and fetches it unless it is cached.
pub(crate) fn ensure(cache: &Path, series: Option<&str>) -> Result<Kernel> {
    fs::create_dir_all(cache.join("kernels"))?;
    let lock = File::create(cache.join("lock")).context("cannot write to the cache")?;
    lock.lock().context("cannot lock the cache")?;
    let apt = PrivateApt::new(cache.join("apt"), &SUITES)?;
    let release = match newest(&apt, series) {
        Ok(release) => release,
        Err(error) => {
            let Some(release) = newest_of(cached_releases(cache), series) else {
                return Err(error);
            };
            eprintln!(
                "xtask: using the cached kernel {release}, Debian's index is not reachable: {error:#}"
            );
            release
        }
    };
    if let Some(kernel) = cached(cache, &release) {
        return Ok(kernel);
    }
    host::require_space(cache, SPACE_BYTES, "a kernel")?;
    fetch(&apt, cache, &release)?;
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

/// The newest release of `series` (or of all) in Debian.
fn newest(apt: &PrivateApt, series: Option<&str>) -> Result<String> {
    apt.update()?;
    let flavour = format!("-{}", apt.architecture());
    let releases: Vec<String> = apt
        .names("linux-image-")?
        .iter()
        .filter_map(|name| name.strip_prefix("linux-image-"))
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

fn fetch(apt: &PrivateApt, cache: &Path, release: &str) -> Result<()> {
    let split = ["base", "binary", "modules"].map(|part| format!("linux-{part}-{release}"));
    let packages = if apt.names(&split[1])?.contains(&split[1]) {
        split.to_vec()
    } else {
        vec![format!("linux-image-{release}")]
    };
    let root = cache.join("kernels").join(release);
    apt.unpack(&packages, &root, |new| index_modules(new, release))
}

/// Accepts `linux-image-7.2.12+deb13-amd64`, but not `...-rt-amd64` or `...-cloud-amd64`.
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
