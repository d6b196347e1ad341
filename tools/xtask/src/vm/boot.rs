//! Boots the VM, streams the command's output and determines how the run ended.
//!
//! Decided here: the machine (memory, CPUs, kernel command line) and how to tell the endings apart:
//! the status file appears (the command ended), QEMU ends without one (panic, failed boot), the
//! guest hangs, the time limit passes. `run_dir` defines what a run leaves on disk.

use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use super::emulator::{self, Emulator};
use super::kernel::{self, Kernel};
use super::life::{self, Life};
use super::priority::First;
use super::run_dir::{Ending, RunDir};
use super::stream::{End, Tee, pump};
use super::{STATUS_VM_FAILED, accel, guest, vng};
use crate::host;

/// Time QEMU may take to end after the command has ended.
const POWER_OFF_TIME: Duration = Duration::from_secs(15);
/// Emulation boots in 12 to 25 s on two idle cores; a busy machine needs more.
const BOOT_TIME: Duration = Duration::from_secs(240);

/// Number of boot attempts if the guest dies or hangs before the command begins.
const BOOTS_MAX: u32 = 5;

/// Devices of QEMU's machine that nobody uses here: udev would spend seconds of every emulated boot
/// on loading their modules.
const SKIPPED_MODULES: &str = "module_blacklist=ahci,libahci,i2c_i801,lpc_ich,pcspkr,psmouse,\
    iTCO_wdt,i6300esb,kvm_amd,kvm_intel,kvm,sr_mod,cdrom,sg,qemu_fw_cfg,joydev,evdev,button";

/// A VM that can be booted, once per command.
pub(crate) struct Machine {
    kernel: Kernel,
    vng: PathBuf,
    kvm: bool,
    emulator: Emulator,
    virtiofs: bool,
    cache: PathBuf,
    repository: PathBuf,
    /// In QEMU's notation, such as `4G`.
    pub(crate) memory: String,
    /// Virtual CPUs.
    pub(crate) cpus: u32,
    /// Further words of the kernel command line.
    pub(crate) append: Vec<String>,
    /// Directories the guest can write to; all its other writes are lost.
    pub(crate) writable: Vec<PathBuf>,
    /// Further QEMU arguments.
    pub(crate) qemu_opts: Vec<String>,
    /// Time limit of the command, not counting the boot.
    pub(crate) timeout: Duration,
}

impl Machine {
    /// Installs what is missing and fetches the kernel of `series` (default: the newest).
    pub(crate) fn prepare(repository: &Path, series: Option<&str>) -> Result<Self> {
        let cache = host::cache(repository)?;
        for dir in [repository, &cache] {
            plain_path(dir)?;
        }
        host::install(&[host::VM_NEEDS, host::GUEST_NEEDS])?;
        let kernel = kernel::ensure(&cache, series)?;
        let vng = vng::ensure(&cache)?;
        let kvm = accel::kvm_works(&cache, &kernel);
        Ok(Self {
            kernel,
            vng,
            kvm,
            emulator: emulator::ensure(&cache, kvm)?,
            virtiofs: has_virtiofsd(),
            writable: vec![repository.to_path_buf()],
            cache,
            repository: repository.to_path_buf(),
            memory: "4G".to_owned(),
            cpus: 2,
            append: Vec::new(),
            qemu_opts: Vec::new(),
            timeout: Duration::from_secs(900),
        })
    }

    /// A one-line description of the VM.
    pub(crate) fn describe(&self) -> String {
        let accel = if self.kvm { "KVM" } else { "emulated" };
        format!(
            "VM: Linux {}, {} CPUs, {} ({accel})",
            self.kernel.release, self.cpus, self.memory
        )
    }

    /// Boots, runs the command and returns its status (see the module `vm` for special values).
    pub(crate) fn run(&self, words: &[OsString]) -> Result<u8> {
        self.run_observed(words, |_| ())
    }

    /// Like [`Machine::run`], and passes every line of the command's standard output to `see`.
    ///
    /// A guest that dies or hangs before the command begins is booted again. A later loss is never
    /// retried here: only the caller knows what may be repeated.
    pub(crate) fn run_observed(&self, words: &[OsString], mut see: impl FnMut(&str)) -> Result<u8> {
        for boot in 1.. {
            let (ending, run) = self.boot(words, &mut see)?;
            let begun = run.file("started").exists();
            let lost = match ending {
                Ending::Died => "died".to_owned(),
                Ending::NoBoot(after) => format!("did not boot within {} s", after.as_secs()),
                Ending::Still(silence) => format!("hung for {} s", silence.as_secs()),
                Ending::Command(_) | Ending::Timeout => String::new(),
            };
            if begun || boot >= BOOTS_MAX || lost.is_empty() {
                return Ok(run.report(ending, self.timeout));
            }
            eprintln!(
                "xtask: the VM {lost} while it booted; booting again. Console: {}",
                run.file("console.log").display()
            );
        }
        Ok(STATUS_VM_FAILED)
    }

    /// Boots once and runs the command.
    fn boot(&self, words: &[OsString], see: &mut impl FnMut(&str)) -> Result<(Ending, RunDir)> {
        let run = RunDir::new(&self.cache)?;
        let cwd = std::env::current_dir().context("no current directory")?;
        fs::write(
            run.file("job.sh"),
            guest::script(
                run.path(),
                &self.repository,
                &cwd,
                words,
                self.timeout.as_secs(),
            ),
        )?;
        let (out, out_writer) = run.pipe("out")?;
        let (err, err_writer) = run.pipe("err")?;
        let _first = First::take();
        let mut child = self.start(&run)?;
        let console = File::create(run.file("console.log"))?;
        let (sender, lines) = mpsc::channel();
        let ends = Ends::of(&run);
        let mut pumps = vec![
            pump(out, Tee::new(sender), Some(ends.end())),
            pump(err, std::io::stderr(), Some(ends.end())),
        ];
        if let Some(own) = child.stdout.take() {
            pumps.push(pump(own, console.try_clone()?, None));
        }
        if let Some(own) = child.stderr.take() {
            pumps.push(pump(own, console, None));
        }
        let ending = self.watch(&mut child, &run);
        if matches!(ending, Ending::NoBoot(_) | Ending::Still(_)) {
            let words = life::post_mortem(&run.file("monitor"), &run.file("registers"));
            eprintln!("xtask: the VM hangs: {words}");
        }
        run.end_qemu();
        drop(child.wait());
        drop((out_writer, err_writer));
        for thread in pumps {
            drop(thread.join());
        }
        for line in lines {
            see(&line);
        }
        if matches!(ending, Ending::Command(_)) && !ends.are_seen() {
            eprintln!("xtask: the end of the command's output was lost in the VM");
        }
        Ok((ending, run))
    }

    fn start(&self, run: &RunDir) -> Result<Child> {
        let mut command = Command::new(&self.vng);
        command.env("PATH", path_with(&self.vng));
        command.args(["--user", "root", "--verbose", "--memory", &self.memory]);
        command
            .args(["--cpus", &self.cpus.to_string(), "--run"])
            .arg(&self.kernel.image);
        if !self.kvm {
            command.arg("--disable-kvm");
        }
        if !self.virtiofs {
            command.arg("--force-9p");
        }
        command.arg("--qemu").arg(&self.emulator.program);
        command.args(["--disable-microvm", "--overlay-rwdir", "/root"]);
        command.args(["--append", "mitigations=off", "--append", SKIPPED_MODULES]);
        for words in &self.append {
            command.args(["--append", words]);
        }
        let mut writable = self.writable.clone();
        writable.push(run.path().to_path_buf());
        for dir in outermost(writable) {
            command.arg("--rwdir").arg(dir);
        }
        let mut qemu = self.emulator.arguments.clone();
        qemu.push(format!("-pidfile {}", run.file("qemu.pid").display()));
        qemu.extend(life::monitor(&run.file("monitor")));
        qemu.push("-device virtio-serial-pci,id=umpath".to_owned());
        for name in ["out", "err"] {
            let path = run.file(name);
            qemu.push(format!("-chardev file,id=um{name},path={}", path.display()));
            qemu.push(format!(
                "-device virtserialport,bus=umpath.0,name=umpath.{name},chardev=um{name}"
            ));
        }
        qemu.extend(self.qemu_opts.iter().cloned());
        command.arg(format!("--qemu-opts={}", qemu.join(" ")));
        command
            .arg("--exec")
            .arg(format!("sh {}", run.file("job.sh").display()));
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .current_dir("/");
        command
            .spawn()
            .with_context(|| format!("cannot start {}", self.vng.display()))
    }

    fn watch(&self, child: &mut Child, run: &RunDir) -> Ending {
        let boot_deadline = Instant::now() + BOOT_TIME;
        let mut life = Life::new(run.file("console.log"), run.file("beat"));
        let mut deadline = None;
        loop {
            if let Some(status) = run.status() {
                let deadline = Instant::now() + POWER_OFF_TIME;
                while Instant::now() < deadline && matches!(child.try_wait(), Ok(None)) {
                    std::thread::sleep(Duration::from_millis(20));
                }
                return Ending::Command(status);
            }
            if !matches!(child.try_wait(), Ok(None)) {
                return run.status().map_or(Ending::Died, Ending::Command);
            }
            if deadline.is_none() && run.file("started").exists() {
                deadline = Some(Instant::now() + self.timeout);
            }
            let now = Instant::now();
            if let Some(silence) = life.missed(deadline.is_some(), now) {
                return Ending::Still(silence);
            }
            match deadline {
                Some(deadline) if now >= deadline => return Ending::Timeout,
                None if now >= boot_deadline => return Ending::NoBoot(BOOT_TIME),
                _ => std::thread::sleep(Duration::from_millis(30)),
            }
        }
    }
}

/// The end marks of the command's two streams. The guest waits for both before it powers off: data
/// still queued in a port would be lost.
struct Ends {
    mark: Vec<u8>,
    drained: PathBuf,
    missing: Arc<AtomicUsize>,
}

impl Ends {
    fn of(run: &RunDir) -> Self {
        Self {
            mark: guest::end_mark(run.path()).into_bytes(),
            drained: run.file("drained"),
            missing: Arc::new(AtomicUsize::new(2)),
        }
    }

    fn end(&self) -> End {
        let (missing, drained) = (Arc::clone(&self.missing), self.drained.clone());
        End {
            mark: self.mark.clone(),
            seen: Box::new(move || {
                if missing.fetch_sub(1, Ordering::Relaxed) == 1 {
                    drop(File::create(drained));
                }
            }),
        }
    }

    fn are_seen(&self) -> bool {
        self.missing.load(Ordering::Relaxed) == 0
    }
}

/// `PATH` with the program's own directory first: vng starts its companion programs by name.
fn path_with(program: &Path) -> OsString {
    let own = program.parent().map(Path::to_path_buf);
    let old = std::env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"].map(PathBuf::from);
    let dirs = own
        .into_iter()
        .chain(std::env::split_paths(&old))
        .chain(system);
    std::env::join_paths(dirs).unwrap_or(old)
}

/// Rejects paths that virtme-ng or QEMU's option syntax cannot handle.
fn plain_path(path: &Path) -> Result<()> {
    let text = path.to_string_lossy();
    if text.contains([' ', ',', '\'', '"', '\\', '\n', '\t', ':']) {
        bail!("{text}: QEMU cannot mount a path with spaces, commas, colons or quotes; move it");
    }
    Ok(())
}

/// Drops directories that lie inside another one in the list.
fn outermost(dirs: Vec<PathBuf>) -> Vec<PathBuf> {
    let mut kept: Vec<PathBuf> = Vec::new();
    let mut sorted = dirs;
    sorted.sort();
    for dir in sorted {
        if !kept.iter().any(|outer| dir.starts_with(outer)) {
            kept.push(dir);
        }
    }
    kept
}

/// virtme-ng accepts only the newer virtiofsd (written in Rust), at Debian's path.
fn has_virtiofsd() -> bool {
    let candidates = host::find_program("virtiofsd")
        .into_iter()
        .chain([PathBuf::from("/usr/libexec/virtiofsd")]);
    candidates.filter(|path| path.is_file()).any(|path| {
        host::capture(Command::new(path).arg("--version"))
            .is_ok_and(|text| text.starts_with("virtiofsd 1"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nested_directories_are_mounted_once() {
        let dirs = ["/a/b", "/a", "/ab", "/c/d"].map(PathBuf::from).to_vec();
        assert_eq!(outermost(dirs), ["/a", "/ab", "/c/d"].map(PathBuf::from));
    }
}
