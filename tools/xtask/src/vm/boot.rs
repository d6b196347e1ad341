//! Boots the VM, streams the command's output, finds out how it ended.
//!
//! Decided here: the machine (memory, CPUs, kernel command line) and how every ending is told
//! apart: the status file appears (the command ended), QEMU ends without one (panic, failed boot),
//! the time limit passes. The console of each run is kept in the cache and shown when the VM
//! failed; the newest runs are kept.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, bail};
use rustix::fs::{Mode, OFlags};

use super::kernel::{self, Kernel};
use super::{STATUS_TIMEOUT, STATUS_VM_FAILED, accel, guest, vng};
use crate::host;

const RUNS_KEPT: usize = 12;
const CONSOLE_LINES_SHOWN: usize = 40;
/// How long QEMU may take to end after the command has.
const POWER_OFF_TIME: Duration = Duration::from_secs(15);
/// Emulation boots in 12 to 25 s on two idle cores; a busy machine needs more.
const BOOT_TIME: Duration = Duration::from_secs(240);

/// Devices of QEMU's machine that udev would load modules for and nobody here uses: seconds of
/// every emulated boot.
const SKIPPED_MODULES: &str = "module_blacklist=ahci,libahci,i2c_i801,lpc_ich,pcspkr,psmouse,\
    iTCO_wdt,i6300esb,kvm_amd,kvm_intel,kvm,sr_mod,cdrom,sg,qemu_fw_cfg,joydev,evdev,button";

/// A VM that can be booted, once for each command.
pub(crate) struct Machine {
    kernel: Kernel,
    vng: PathBuf,
    kvm: bool,
    virtiofs: bool,
    cache: PathBuf,
    /// QEMU's notation, such as `4G`.
    pub(crate) memory: String,
    /// Virtual CPUs.
    pub(crate) cpus: u32,
    /// Further words of the kernel command line.
    pub(crate) append: Vec<String>,
    /// Directories the guest writes to for real; all else it writes is lost.
    pub(crate) writable: Vec<PathBuf>,
    /// Further QEMU arguments.
    pub(crate) qemu_opts: Vec<String>,
    /// Time the command has, without the boot.
    pub(crate) timeout: Duration,
}

impl Machine {
    /// Installs what is missing, fetches the kernel of `series` (the newest without one).
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
            virtiofs: has_virtiofsd(),
            writable: vec![repository.to_path_buf()],
            cache,
            memory: "4G".to_owned(),
            cpus: 2,
            append: Vec::new(),
            qemu_opts: Vec::new(),
            timeout: Duration::from_secs(900),
        })
    }

    /// One line that says what will run.
    pub(crate) fn describe(&self) -> String {
        let accel = if self.kvm { "KVM" } else { "emulated" };
        format!(
            "VM: Linux {}, {} CPUs, {} ({accel})",
            self.kernel.release, self.cpus, self.memory
        )
    }

    /// Boots, runs the command, returns its status (see the module `vm` for the special ones).
    pub(crate) fn run(&self, words: &[OsString]) -> Result<u8> {
        let run = RunDir::new(&self.cache)?;
        let cwd = std::env::current_dir().context("no current directory")?;
        fs::write(
            run.file("job.sh"),
            guest::script(&run.0, &cwd, words, self.timeout.as_secs()),
        )?;
        let (out, out_writer) = run.pipe("out")?;
        let (err, err_writer) = run.pipe("err")?;
        let mut child = self.start(&run)?;
        let console = File::create(run.file("console.log"))?;
        let pumps = [
            pump(Box::new(out), Box::new(std::io::stdout())),
            pump(Box::new(err), Box::new(std::io::stderr())),
        ];
        let mut logs = Vec::new();
        for source in [
            child.stdout.take().map(boxed),
            child.stderr.take().map(boxed),
        ]
        .into_iter()
        .flatten()
        {
            logs.push(pump(source, Box::new(console.try_clone()?)));
        }
        let ending = self.watch(&mut child, &run);
        run.end_qemu();
        drop(child.wait());
        drop((out_writer, err_writer));
        for thread in pumps.into_iter().chain(logs) {
            drop(thread.join());
        }
        Ok(run.report(ending, self.timeout))
    }

    fn start(&self, run: &RunDir) -> Result<Child> {
        let mut command = Command::new(&self.vng);
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
        command.args(["--disable-microvm", "--overlay-rwdir", "/root"]);
        command.args(["--append", "mitigations=off", "--append", SKIPPED_MODULES]);
        for words in &self.append {
            command.args(["--append", words]);
        }
        let mut writable = self.writable.clone();
        writable.push(run.0.clone());
        for dir in outermost(writable) {
            command.arg("--rwdir").arg(dir);
        }
        let mut qemu = vec![
            format!("-pidfile {}", run.file("qemu.pid").display()),
            "-device virtio-serial-pci,id=umpath".to_owned(),
        ];
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
            match deadline {
                Some(deadline) if now >= deadline => return Ending::Timeout,
                None if now >= boot_deadline => return Ending::NoBoot,
                _ => std::thread::sleep(Duration::from_millis(30)),
            }
        }
    }
}

/// How a run ended.
#[derive(Clone, Copy)]
enum Ending {
    Command(u8),
    Timeout,
    NoBoot,
    Died,
}

/// The directory that holds one run's script, pipes, status and console.
struct RunDir(PathBuf);

impl RunDir {
    fn new(cache: &Path) -> Result<Self> {
        let runs = cache.join("runs");
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let dir = runs.join(format!("{:013}-{}", now.as_millis(), std::process::id()));
        fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
        let mut old: Vec<_> = fs::read_dir(&runs)?.flatten().map(|e| e.path()).collect();
        old.sort();
        for dir in old.iter().rev().skip(RUNS_KEPT) {
            drop(fs::remove_dir_all(dir));
        }
        Ok(Self(dir))
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Makes a named pipe. The reader sees its end when QEMU and the returned writer are gone.
    fn pipe(&self, name: &str) -> Result<(File, File)> {
        let path = self.file(name);
        rustix::fs::mkfifoat(rustix::fs::CWD, &path, 0o600.into())
            .with_context(|| format!("cannot make a pipe {}", path.display()))?;
        // Without NONBLOCK, opening either end would wait for the other.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let reader = File::from(rustix::fs::open(&path, flags, Mode::empty())?);
        let writer = File::options().write(true).open(&path)?;
        rustix::fs::fcntl_setfl(&reader, OFlags::empty())?;
        Ok((reader, writer))
    }

    fn status(&self) -> Option<u8> {
        fs::read_to_string(self.file("status"))
            .ok()?
            .trim()
            .parse()
            .ok()
    }

    /// Ends a QEMU that is still there; its own pid file names it.
    fn end_qemu(&self) {
        let pid = fs::read_to_string(self.file("qemu.pid"))
            .ok()
            .and_then(|text| text.trim().parse::<i32>().ok());
        let Some(pid) = pid.and_then(rustix::process::Pid::from_raw) else {
            return;
        };
        let command =
            fs::read(format!("/proc/{}/cmdline", pid.as_raw_nonzero())).unwrap_or_default();
        let run = self.0.as_os_str().as_encoded_bytes();
        if command.windows(run.len()).any(|window| window == run) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
    }

    fn report(&self, ending: Ending, timeout: Duration) -> u8 {
        let console =
            String::from_utf8_lossy(&fs::read(self.file("console.log")).unwrap_or_default())
                .into_owned();
        let path = self.file("console.log");
        let failure = match ending {
            Ending::Command(status) => {
                if let Some(line) = console.lines().find(|line| is_kernel_trouble(line)) {
                    eprintln!(
                        "xtask: the guest's kernel complained: {line}\nxtask: console: {}",
                        path.display()
                    );
                }
                return status;
            }
            Ending::Timeout => {
                format!(
                    "the command did not end within {} s (see --timeout)",
                    timeout.as_secs()
                )
            }
            Ending::NoBoot => format!(
                "the VM did not start the command within {} s",
                BOOT_TIME.as_secs()
            ),
            Ending::Died if console.contains("Kernel panic") => {
                "the guest's kernel panicked".to_owned()
            }
            Ending::Died => "the VM ended before the command did".to_owned(),
        };
        let lines: Vec<_> = console.lines().collect();
        eprintln!("xtask: the end of the console:");
        for line in lines
            .iter()
            .skip(lines.len().saturating_sub(CONSOLE_LINES_SHOWN))
        {
            eprintln!("  | {line}");
        }
        eprintln!(
            "xtask: {failure}\nxtask: all of the console: {}",
            path.display()
        );
        if matches!(ending, Ending::Timeout) {
            STATUS_TIMEOUT
        } else {
            STATUS_VM_FAILED
        }
    }
}

fn is_kernel_trouble(line: &str) -> bool {
    [
        "BUG: ",
        "Oops: ",
        "WARNING: CPU",
        "general protection fault",
        "blocked for more than",
    ]
    .iter()
    .any(|words| line.contains(words))
}

fn boxed<R: Read + Send + 'static>(source: R) -> Box<dyn Read + Send> {
    Box::new(source)
}

fn pump(
    mut from: Box<dyn Read + Send>,
    mut to: Box<dyn Write + Send>,
) -> std::thread::JoinHandle<()> {
    std::thread::spawn(move || {
        let mut buffer = vec![0; 64 << 10];
        loop {
            let count = match from.read(&mut buffer) {
                Ok(count) if count > 0 => count,
                _ => return,
            };
            // A reader that went away must not stall the guest: go on emptying the pipe.
            let _ = to.write_all(buffer.get(..count).unwrap_or_default());
            let _ = to.flush();
        }
    })
}

/// Refuses what neither virtme-ng nor QEMU's option syntax can carry.
fn plain_path(path: &Path) -> Result<()> {
    let text = path.to_string_lossy();
    if text.contains([' ', ',', '\'', '"', '\\', '\n', '\t', ':']) {
        bail!("{text}: QEMU cannot mount a path with spaces, commas, colons or quotes; move it");
    }
    Ok(())
}

/// Drops directories that lie inside another one of the list.
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

/// virtme-ng accepts only the newer virtiofsd (written in Rust), and wants it where Debian has it.
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

    #[test]
    fn kernel_trouble_is_seen() {
        assert!(is_kernel_trouble(
            "[    3.1] BUG: kernel NULL pointer dereference"
        ));
        assert!(!is_kernel_trouble("[    3.1] rdma_rxe: loaded"));
    }
}
