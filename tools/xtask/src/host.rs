//! The machine xtask runs on: locations of the repository and the cache, missing packages, and
//! running child processes.
//!
//! Decided here: which Debian package provides each program. Missing ones are installed through apt
//! (as root or with sudo); `UMPATH_NO_INSTALL=1` turns that into an error that names them.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

/// A prerequisite on this machine, and the Debian package that provides it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Need {
    probe: Probe,
    package: &'static str,
}

/// How to detect that a [`Need`] is present.
#[derive(Clone, Copy, Debug)]
enum Probe {
    /// A program found in `PATH` or an `sbin` directory.
    Program(&'static str),
    /// A statically linked program, for an initramfs.
    StaticProgram(&'static str),
    /// Any of these paths exists.
    AnyFile(&'static [&'static str]),
    /// The dynamic linker or a build finds this library's file name.
    Library(&'static str),
    /// `python3 -c "import <module>"` works.
    PythonModule(&'static str),
}

const fn program(name: &'static str, package: &'static str) -> Need {
    Need {
        probe: Probe::Program(name),
        package,
    }
}

/// Needed to fetch a kernel and boot it.
pub(crate) const VM_NEEDS: &[Need] = &[
    program(QEMU, "qemu-system-x86"),
    program("python3", "python3"),
    Need {
        probe: Probe::PythonModule("ensurepip"),
        package: "python3-venv",
    },
    program("dpkg", "dpkg"),
    program("depmod", "kmod"),
    program("file", "file"),
    Need {
        probe: Probe::StaticProgram("busybox"),
        package: "busybox-static",
    },
    program("ip", "iproute2"),
    Need {
        probe: Probe::AnyFile(&[
            "/usr/lib/systemd/systemd-udevd",
            "/lib/systemd/systemd-udevd",
        ]),
        package: "udev",
    },
    Need {
        probe: Probe::AnyFile(&["/usr/share/keyrings/debian-archive-keyring.gpg"]),
        package: "debian-archive-keyring",
    },
    Need {
        probe: Probe::AnyFile(&["/etc/ssl/certs/ca-certificates.crt"]),
        package: "ca-certificates",
    },
];

/// Needed by the guest's tests and the demo, in addition to [`VM_NEEDS`].
pub(crate) const GUEST_NEEDS: &[Need] = &[
    program("fio", "fio"),
    program("ping", "iputils-ping"),
    program("nvme", "nvme-cli"),
    program("rdma", "iproute2"),
    program("tc", "iproute2"),
    program("rping", "rdmacm-utils"),
    program("mkfs.ext4", "e2fsprogs"),
    program("mkfs.xfs", "xfsprogs"),
    program("mkfs.btrfs", "btrfs-progs"),
    program("dmsetup", "dmsetup"),
    program("blockdev", "util-linux"),
    program("mount", "mount"),
    Need {
        probe: Probe::Library("libibverbs.so.1"),
        package: "libibverbs1",
    },
    Need {
        probe: Probe::Library("librdmacm.so.1"),
        package: "librdmacm1",
    },
    Need {
        probe: Probe::AnyFile(&["/etc/libibverbs.d/rxe.driver"]),
        package: "ibverbs-providers",
    },
];

/// Needed to build the workspace, besides the Rust toolchain.
pub(crate) const BUILD_NEEDS: &[Need] = &[
    program("cc", "gcc"),
    // Only recommended by gcc, but nothing links without it.
    Need {
        probe: Probe::AnyFile(&["/usr/include/stdio.h"]),
        package: "libc6-dev",
    },
    program("make", "make"),
    program("cmake", "cmake"),
    program("pkg-config", "pkg-config"),
    Need {
        probe: Probe::AnyFile(&["/usr/include/infiniband/verbs.h"]),
        package: "libibverbs-dev",
    },
    Need {
        probe: Probe::AnyFile(&["/usr/include/rdma/rdma_cma.h"]),
        package: "librdmacm-dev",
    },
    Need {
        probe: Probe::Library("libclang"),
        package: "libclang-dev",
    },
];

/// The QEMU system emulator for this machine's architecture.
pub(crate) const QEMU: &str = if cfg!(target_arch = "aarch64") {
    "qemu-system-aarch64"
} else {
    "qemu-system-x86_64"
};

/// The repository's root directory.
pub(crate) fn repository() -> Result<PathBuf> {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    let from_cargo = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
    let start = from_cargo.unwrap_or_else(|| manifest.to_path_buf());
    let root = start
        .ancestors()
        .find(|dir| dir.join("policies").is_dir() && dir.join(".cargo").is_dir());
    root.map(Path::to_path_buf).with_context(|| {
        format!(
            "{} is not inside the umpath repository; run `cargo xtask` from it",
            start.display()
        )
    })
}

/// Directory for kernels, virtme-ng and logs of VM runs: `.vm` in the repository, or
/// `UMPATH_VM_CACHE`.
pub(crate) fn cache(repository: &Path) -> Result<PathBuf> {
    let dir = match std::env::var_os("UMPATH_VM_CACHE") {
        Some(dir) if !dir.is_empty() => std::path::absolute(PathBuf::from(dir))?,
        _ => repository.join(".vm"),
    };
    std::fs::create_dir_all(&dir)
        .with_context(|| format!("cannot create the cache {}", dir.display()))?;
    Ok(dir)
}

/// Fails unless `dir`'s file system has `needed_bytes` free.
pub(crate) fn require_space(dir: &Path, needed_bytes: u64, what_for: &str) -> Result<()> {
    let stat = rustix::fs::statvfs(dir)
        .with_context(|| format!("cannot read the free space of {}", dir.display()))?;
    let free_bytes = stat.f_bavail * stat.f_frsize;
    if free_bytes < needed_bytes {
        bail!(
            "{what_for} needs {} MiB in {}, which has {} MiB left; free some space, or set \
             UMPATH_VM_CACHE to a folder on a larger file system",
            needed_bytes >> 20,
            dir.display(),
            free_bytes >> 20
        );
    }
    Ok(())
}

/// Installs what is missing of `needs`; prints nothing if nothing is.
pub(crate) fn install(needs: &[&[Need]]) -> Result<()> {
    let missing = missing(needs);
    if missing.is_empty() {
        return Ok(());
    }
    let list = missing.join(" ");
    if std::env::var_os("UMPATH_NO_INSTALL").is_some_and(|v| v != "0") {
        bail!("missing Debian packages: {list}; install them with `apt-get install {list}`");
    }
    if find_program("apt-get").is_none() {
        bail!("this machine has no apt-get; install the contents of these Debian packages: {list}");
    }
    eprintln!("xtask: installing {list}");
    as_root("apt-get", ["update", "-q"]).with_context(|| format!("cannot install {list}"))?;
    let args = ["install", "-y", "-q", "--no-install-recommends"];
    as_root("apt-get", args.into_iter().chain(missing.iter().copied()))
        .with_context(|| format!("apt-get could not install {list}"))?;
    let still = self::missing(needs);
    if !still.is_empty() {
        bail!("still missing after apt-get install: {}", still.join(" "));
    }
    Ok(())
}

fn missing(needs: &[&[Need]]) -> Vec<&'static str> {
    let mut packages: Vec<_> = needs
        .iter()
        .flat_map(|list| list.iter())
        .filter(|need| !present(need.probe))
        .map(|n| n.package)
        .collect();
    packages.sort_unstable();
    packages.dedup();
    packages
}

fn present(probe: Probe) -> bool {
    match probe {
        Probe::Program(name) => find_program(name).is_some(),
        Probe::StaticProgram(name) => find_program(name).is_some_and(|path| {
            let bytes = std::fs::read(path).unwrap_or_default();
            !bytes.windows(9).any(|window| window == b"/ld-linux")
        }),
        Probe::AnyFile(paths) => paths.iter().any(|path| Path::new(path).exists()),
        Probe::Library(name) => library_dirs().any(|dir| holds_library(&dir, name)),
        Probe::PythonModule(module) => Command::new("python3")
            .args(["-c", &format!("import {module}")])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success()),
    }
}

fn library_dirs() -> impl Iterator<Item = PathBuf> {
    let multiarch = format!("/usr/lib/{}-linux-gnu", std::env::consts::ARCH);
    let mut dirs = vec![
        PathBuf::from(multiarch),
        "/usr/lib64".into(),
        "/usr/lib".into(),
    ];
    if let Ok(entries) = std::fs::read_dir("/usr/lib") {
        let llvm = entries
            .flatten()
            .filter(|e| e.file_name().to_string_lossy().starts_with("llvm-"));
        dirs.extend(llvm.map(|e| e.path().join("lib")));
    }
    dirs.into_iter()
}

fn holds_library(dir: &Path, library: &str) -> bool {
    std::fs::read_dir(dir).is_ok_and(|entries| {
        entries.flatten().any(|e| {
            let name = e.file_name();
            is_library(&name.to_string_lossy(), library)
        })
    })
}

/// Whether a file is some version of a library: `libclang-14.so.1` is one of `libclang`,
/// `libclang-cpp.so.14` is not.
fn is_library(file: &str, library: &str) -> bool {
    file.strip_prefix(library).is_some_and(|rest| {
        let version = rest.strip_prefix('-').unwrap_or_default();
        let version_of_digits = version.starts_with(|first: char| first.is_ascii_digit());
        rest.is_empty() || rest.starts_with('.') || version_of_digits && rest.contains(".so")
    })
}

/// Finds a program in `PATH`, then in Debian's sbin directories.
pub(crate) fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|dir| dir.join(name))
        .find(|file| file.is_file())
}

pub(crate) fn as_root<I, S>(name: &str, args: I) -> Result<()>
where
    I: IntoIterator<Item = S>,
    S: AsRef<OsStr>,
{
    let mut command = if rustix::process::geteuid().is_root() {
        let mut command = Command::new(name);
        command.env("DEBIAN_FRONTEND", "noninteractive");
        command
    } else {
        let sudo = find_program("sudo")
            .with_context(|| format!("`{name}` needs root: run this as root, or install sudo"))?;
        let mut command = Command::new(sudo);
        command.args(["env", "DEBIAN_FRONTEND=noninteractive", name]);
        command
    };
    command.args(args).stdout(std::io::stderr());
    succeed(&mut command)
}

/// Runs a command; an error that quotes it unless it exits with 0.
pub(crate) fn succeed(command: &mut Command) -> Result<()> {
    let shown = show(command);
    let status = command
        .status()
        .with_context(|| format!("cannot start `{shown}`"))?;
    if !status.success() {
        bail!("`{shown}` failed: {status}");
    }
    Ok(())
}

/// Runs a command and returns its standard output.
pub(crate) fn capture(command: &mut Command) -> Result<String> {
    let shown = show(command);
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .output()
        .with_context(|| format!("cannot start `{shown}`"))?;
    if !output.status.success() {
        bail!(
            "`{shown}` failed: {}\n{}",
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn show(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words
        .map(|word| word.to_string_lossy().into_owned())
        .collect::<Vec<_>>()
        .join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_neighbour_in_name_is_not_the_library() {
        for file in ["libclang.so", "libclang.so.1", "libclang-14.so.14.0.6"] {
            assert!(is_library(file, "libclang"), "{file}");
        }
        assert!(!is_library("libclang-cpp.so.14", "libclang"));
        assert!(is_library("libibverbs.so.1.14.44.0", "libibverbs.so.1"));
        assert!(!is_library("libibverbs.so.10", "libibverbs.so.1"));
    }
}
