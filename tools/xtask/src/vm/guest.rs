//! The script that runs the command inside the guest.
//!
//! Decided here: the command's environment: root, no limit on locked memory, writable and private
//! `/mnt`, `/run`, `/tmp`, `/etc`, `/var`, `/usr`, `/home`; the caller's `PATH` and the variables
//! of [`PASSED_ON`]. Output goes through two dedicated serial ports, separate from kernel messages
//! and virtme-ng's output, and ends with a mark that the guest waits for before it powers off. The
//! status is written to a file in the run's directory after the streams: no file means the guest
//! died.

use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::path::Path;

/// Prefixes of the environment variables passed to the command.
const PASSED_ON: [&str; 8] = [
    "UMPATH_",
    "RUST_",
    "CARGO_TARGET_DIR",
    "CARGO_HOME",
    "RUSTUP_HOME",
    "NO_COLOR",
    "PROPTEST_",
    "TERM",
];

/// Interval at which the guest touches a file to show that it is alive.
pub(super) const BEAT_SECONDS: u64 = 5;

/// Seconds after its time limit when the guest powers off by itself, in case the host is gone.
const GRACE_SECONDS: u64 = 60;

/// Quotes a word for `sh`.
fn quote(word: &OsStr) -> String {
    format!("'{}'", word.to_string_lossy().replace('\'', r"'\''"))
}

/// The mark at the end of each of the command's two streams.
pub(crate) fn end_mark(run: &Path) -> String {
    let name = run.file_name().unwrap_or_default().to_string_lossy();
    format!("\x04end of {name}\x04")
}

/// Builds the script.
pub(crate) fn script(
    run: &Path,
    repository: &Path,
    cwd: &Path,
    words: &[OsString],
    timeout_seconds: u64,
) -> String {
    let mut exports = String::new();
    let mut variables: Vec<_> = std::env::vars_os().collect();
    variables.sort();
    for (key, value) in variables {
        let Some(name) = key.to_str() else { continue };
        if name == "PATH" || PASSED_ON.iter().any(|prefix| name.starts_with(prefix)) {
            let _ = writeln!(exports, "export {name}={}", quote(&value));
        }
    }
    let command = words
        .iter()
        .map(|word| quote(word))
        .collect::<Vec<_>>()
        .join(" ");
    let mark = quote(OsStr::new(&end_mark(run)));
    let run = quote(run.as_os_str());
    let cwd = quote(cwd.as_os_str());
    let repository = quote(repository.as_os_str());
    let life = timeout_seconds + GRACE_SECONDS;
    format!(
        r#"#!/bin/sh
run={run}
port() {{
    for p in /sys/class/virtio-ports/*; do
        if [ "$(cat "$p/name")" = "$1" ]; then echo "/dev/${{p##*/}}"; fi
    done
}}
off() {{ echo o >/proc/sysrq-trigger; sleep 60; }}
(sleep {life}; off) </dev/null >/dev/null 2>&1 &
{exports}export PATH="$PATH:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
export HOME=/root UMPATH_IN_VM=1 UMPATH_REPOSITORY={repository}
ulimit -l unlimited
ulimit -n 1048576 2>/dev/null
ulimit -c 0
mount -t tmpfs -o mode=0755 tmpfs /mnt
modprobe -q configfs
mountpoint -q /sys/kernel/config || mount -t configfs none /sys/kernel/config
mkdir -p /run/umpath-vm /run/netns
mkfifo /run/umpath-vm/out /run/umpath-vm/err
cat </run/umpath-vm/out >"$(port umpath.out)" & out=$!
cat </run/umpath-vm/err >"$(port umpath.err)" & err=$!
echo "started $(cut -d' ' -f1 /proc/uptime)" >"$run/started"
(while sleep {BEAT_SECONDS}; do echo >"$run/beat"; done) </dev/null >/dev/null 2>&1 &
cd {cwd}
(
    rm -f /dev/stdout /dev/stderr
    ln -s /proc/self/fd/1 /dev/stdout
    ln -s /proc/self/fd/2 /dev/stderr
    exec </dev/null >/run/umpath-vm/out 2>/run/umpath-vm/err
    {command}
)
status=$?
# A busy machine copies slowly; a program that was left behind may hold on to the pipes for ever.
i=0
while [ $i -lt 100 ] && {{ kill -0 $out || kill -0 $err; }} 2>/dev/null; do
    sleep 0.1
    i=$((i + 1))
done
kill $out $err 2>/dev/null
wait $out $err 2>/dev/null
for name in out err; do printf '%s' {mark} >"$(port umpath.$name)"; done
echo $status >"$run/status.new"
mv "$run/status.new" "$run/status"
i=0
while [ $i -lt 100 ] && [ ! -e "$run/drained" ]; do
    sleep 0.1
    i=$((i + 1))
done
off
"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_survive_the_shell() {
        assert_eq!(quote(OsStr::new("it's")), r"'it'\''s'");
        let words = ["sh", "-c", "exit 7"].map(OsString::from);
        let text = script(
            Path::new("/r"),
            Path::new("/repo"),
            Path::new("/c"),
            &words,
            10,
        );
        assert!(text.contains("\n    'sh' '-c' 'exit 7'\n"));
        assert!(text.contains("(sleep 70; off)"));
    }
}
