//! Compares the corpus with the output of a distribution's `multipath`.
//!
//! `cargo xtask test` fetches Debian's package and passes its directory in
//! `UMPATH_MULTIPATH_TOOLS`; without that nothing is compared here, and `corpus.rs` compares with
//! the output of 0.14.3. `multipath -t` reads only `/etc/multipath.conf`, so it runs in a mount
//! namespace with an `/etc` of its own.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use umpath_import::Understood;

/// Keywords whose meaning or output changed between the versions in distributions (0.9.4 in Debian
/// 12, 0.11 in Debian 13) and 0.14, which the importer follows; with the reason.
const CHANGED: &[(&str, &str)] = &[
    (
        "flush_on_last_del",
        "yes and no before 0.10, always and unused since",
    ),
    ("detect_pgpolicy", "new in 0.9.6"),
    ("detect_pgpolicy_use_tpg", "new in 0.9.6"),
    ("auto_resize", "new in 0.10"),
    ("purge_disconnected", "new in 0.14"),
    ("max_retries", "printed since 0.9.5"),
    (
        "retrigger_tries",
        "0.9.4 of Debian prints 0, whatever is set",
    ),
    ("disable_changed_wwids", "printed as ignored before 0.10"),
];

/// Files affected by such a change: group_by_tpg is new in 0.9.6, fpin depends on the build, and an
/// unreadable interval causes a wrong number, a crash or a hang, depending on the version.
const SKIPPED: &[&str] = &[
    "group-by-tpg",
    "marginal-fpin",
    "polling-unreadable",
    "polling-zero",
];

#[test]
fn import_agrees_with_multipath_tools() {
    let Some(folder) = std::env::var_os("UMPATH_MULTIPATH_TOOLS").map(PathBuf::from) else {
        eprintln!("UMPATH_MULTIPATH_TOOLS is not set: compared with the captured output only");
        return;
    };
    let outputs = std::env::temp_dir().join(format!("umpath-multipath-{}", std::process::id()));
    fs::create_dir_all(&outputs).unwrap();
    run_all(&folder, &outputs);
    let keys: Vec<&str> = CHANGED.iter().map(|(keyword, _)| *keyword).collect();
    let read = |name: &str| {
        let bytes = fs::read(outputs.join(name)).unwrap();
        String::from_utf8_lossy(&bytes).into_owned()
    };
    let builtin = Understood::from_output(&read("BASE.t"));
    let mut wrong = Vec::new();
    let mut compared = 0;
    for path in corpus() {
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        if SKIPPED.contains(&name.as_str()) {
            continue;
        }
        compared += 1;
        let refused = read(&format!("{name}.rc")).trim() != "0";
        let ours = Understood::from_file(&fs::read(&path).unwrap(), &builtin);
        match ours {
            None if refused => {}
            Some(ours) if !refused => {
                let theirs = Understood::from_output(&read(&format!("{name}.t"))).without(&keys);
                let differences = ours.without(&keys).differences(&theirs);
                if !differences.is_empty() {
                    wrong.push(format!("{name}:\n{}", differences.join("\n")));
                }
            }
            ours => wrong.push(format!(
                "{name}: multipath {}, we {}",
                if refused { "refuses it" } else { "accepts it" },
                if ours.is_none() {
                    "refuse it"
                } else {
                    "take it"
                }
            )),
        }
    }
    fs::remove_dir_all(&outputs).unwrap();
    assert!(compared >= 60, "{compared} files were compared");
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
    println!("{compared} files are understood in the same way");
}

fn corpus() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
    let entries = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    entries
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "conf")
        })
        .collect()
}

/// Once without a file, then with each.
fn run_all(folder: &Path, outputs: &Path) {
    const SCRIPT: &str = "set -e
mount -t tmpfs none /mnt
mkdir /mnt/etc
cp /etc/passwd /etc/group /mnt/etc/
mount --bind /mnt/etc /etc
\"$PROGRAM\" -t > \"$OUT/BASE.t\" 2> /dev/null
for file in \"$@\"; do
    name=$(basename \"$file\" .conf)
    cp \"$file\" /etc/multipath.conf
    status=0
    timeout 20 \"$PROGRAM\" -t > \"$OUT/$name.t\" 2> /dev/null || status=$?
    echo $status > \"$OUT/$name.rc\"
done";
    let program = ["sbin/multipath", "usr/sbin/multipath"]
        .map(|path| folder.join(path))
        .into_iter()
        .find(|path| path.exists())
        .unwrap();
    let mut unshare = Command::new("unshare");
    let root =
        fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0);
    if !root {
        unshare.arg("--map-root-user");
    }
    let output = unshare
        .args(["--mount", "sh", "-c", SCRIPT, "sh"])
        .args(corpus())
        .env("PROGRAM", program)
        .env("OUT", outputs)
        .env("LD_LIBRARY_PATH", libraries(folder))
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
}

/// Directories that may contain the unpacked libraries.
fn libraries(folder: &Path) -> OsString {
    let multiarch = format!("{}-linux-gnu", std::env::consts::ARCH);
    let places = [
        "lib".to_owned(),
        "usr/lib".to_owned(),
        format!("lib/{multiarch}"),
        format!("usr/lib/{multiarch}"),
    ];
    std::env::join_paths(places.map(|place| folder.join(place))).unwrap()
}
