//! Which QEMU emulates the guest.
//!
//! Before 8.1, QEMU reads the code it translates without locking its page. A kernel that patches
//! its own code (every switch of a static key or tracepoint) while another CPU translates it leaves
//! a stale breakpoint instruction behind, and the guest dies with `Oops: int3`, after seconds or
//! twenty minutes. QEMU's commit "accel/tcg: Always lock pages before translation" (July 2023) made
//! that rare: with 10.0 it occurred once in some hours. `boot` and `suite` handle a lost guest.
//!
//! Decided here: an old QEMU of a Debian release is replaced by the one in that release's
//! backports, unpacked into the cache and not installed. If there is none, the guest's CPUs share
//! one thread: slow, but without the race. With KVM nothing is translated and any QEMU works.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use super::apt::PrivateApt;
use crate::host::{self, QEMU};

/// The first version that locks pages before translating them.
const SOUND: (u32, u32) = (8, 1);
const SPACE_BYTES: u64 = 200 << 20;
/// Where packages put firmware; an unpacked QEMU only searches the root file system.
const FIRMWARE: [&str; 2] = ["usr/share/qemu", "usr/share/seabios"];

/// A QEMU and its mandatory arguments.
pub(super) struct Emulator {
    pub(super) program: PathBuf,
    /// Come before all other arguments.
    pub(super) arguments: Vec<String>,
}

/// This machine's QEMU, or a newer one.
pub(super) fn ensure(cache: &Path, kvm: bool) -> Result<Emulator> {
    let own = host::find_program(QEMU).with_context(|| format!("{QEMU} is missing"))?;
    if kvm || is_sound(&own) {
        return Ok(Emulator {
            program: own,
            arguments: Vec::new(),
        });
    }
    backport(cache).or_else(|error| {
        eprintln!(
            "xtask: QEMU is older than 8.1 and no newer one is available ({error:#}); the guest's \
             CPUs take turns, which is slow"
        );
        Ok(Emulator {
            program: own,
            arguments: vec!["-accel tcg,thread=single".to_owned()],
        })
    })
}

fn backport(cache: &Path) -> Result<Emulator> {
    let os_release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let codename = codename(&os_release).context("this is not a Debian release")?;
    let root = cache.join(format!("qemu-{codename}-backports"));
    if !root.is_dir() {
        host::require_space(cache, SPACE_BYTES, "a newer QEMU")?;
        let suite = format!("{codename}-backports");
        let apt = PrivateApt::new(cache.join("apt-qemu"), &[&suite])?;
        apt.update()?;
        let system = if cfg!(target_arch = "aarch64") {
            "arm"
        } else {
            "x86"
        };
        let packages = [
            format!("qemu-system-{system}"),
            "qemu-system-common".to_owned(),
            "qemu-system-data".to_owned(),
            "seabios".to_owned(),
        ];
        apt.unpack(&packages, &root, |new| {
            let program = program(new);
            anyhow::ensure!(is_sound(&program), "{} does not run", program.display());
            Ok(())
        })?;
    }
    let firmware = FIRMWARE.map(|dir| format!("-L {}", root.join(dir).display()));
    Ok(Emulator {
        program: program(&root),
        arguments: firmware.to_vec(),
    })
}

fn program(root: &Path) -> PathBuf {
    root.join("usr/bin").join(QEMU)
}

fn is_sound(program: &Path) -> bool {
    host::capture(Command::new(program).arg("--version"))
        .is_ok_and(|text| version(&text).is_some_and(|version| version >= SOUND))
}

/// Parses `QEMU emulator version 7.2.22 (Debian ...)`.
fn version(text: &str) -> Option<(u32, u32)> {
    let rest = text.strip_prefix("QEMU emulator version ")?;
    let mut numbers = rest.split(['.', ' ']).map_while(|part| part.parse().ok());
    Some((numbers.next()?, numbers.next()?))
}

/// The code name of a Debian release, from `/etc/os-release`.
fn codename(os_release: &str) -> Option<&str> {
    let value = |key| os_release.lines().find_map(|line| line.strip_prefix(key));
    value("ID=").filter(|&id| id == "debian")?;
    value("VERSION_CODENAME=")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_numbers() {
        let old = "QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18+b3)\nCopyright";
        let new = "QEMU emulator version 10.0.2 (Debian 1:10.0.2+ds-2+deb13u1~bpo12+1)";
        assert_eq!(version(old), Some((7, 2)));
        assert!(version(old) < Some(SOUND));
        assert!(version(new) >= Some(SOUND));
        assert_eq!(version("QEMU"), None);
    }

    #[test]
    fn only_debian_has_backports() {
        let debian = "NAME=\"Debian GNU/Linux\"\nVERSION_CODENAME=bookworm\nID=debian\n";
        assert_eq!(codename(debian), Some("bookworm"));
        let other = "VERSION_CODENAME=noble\nID=ubuntu\nID_LIKE=debian\n";
        assert_eq!(codename(other), None);
    }
}
