//! `umpath import`: translates multipath.conf into umpath.toml, without a daemon.
//!
//! Decided here: where files come from and go to. The result replaces the old file atomically: it
//! is written beside it, synced to disk and renamed. `umpath_import` decides what the file means.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, Read, Write as _};
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use serde_json::json;
use umpath_import::{BYTES_MAX, Finding, Import, Severity};
use umpath_protocol::{Failure, VERSION};

use crate::format::Format;

/// Arguments of `umpath import`.
#[derive(Debug, Args)]
pub(crate) struct ImportArgs {
    /// The file to read; `-` reads standard input.
    #[arg(default_value = "/etc/multipath.conf")]
    file: PathBuf,
    /// Translate what multipathd does with the file, or what its author evidently meant.
    #[arg(long, value_enum, default_value = "literal")]
    mode: Mode,
    /// Only report findings about the file, notes included; write nothing.
    #[arg(long, conflicts_with = "output")]
    lint: bool,
    /// Volume names: multipathd's bindings file, usually /etc/multipath/bindings.
    #[arg(long, value_name = "FILE")]
    bindings: Option<PathBuf>,
    /// Write the result here instead of to standard output, replacing an existing file.
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Mode {
    /// What multipathd does with the file.
    Literal,
    /// What its author evidently meant.
    Intended,
}

impl From<Mode> for umpath_import::Mode {
    fn from(mode: Mode) -> Self {
        match mode {
            Mode::Literal => Self::Literal,
            Mode::Intended => Self::Intended,
        }
    }
}

/// Text for standard output and standard error, and whether everything succeeded.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) out: String,
    pub(crate) err: String,
    pub(crate) complete: bool,
}

/// Reads, translates and writes.
pub(crate) fn run(args: &ImportArgs, format: Format) -> Result<Outcome, Failure> {
    let text = read(&args.file)?;
    let bindings = args.bindings.as_deref().map(read).transpose()?;
    let import = umpath_import::import(&text, bindings.as_deref(), args.mode.into());
    if let (Some(path), Some(toml)) = (&args.output, &import.toml) {
        write_whole(path, toml).map_err(|error| {
            Failure::new(
                format!("cannot write {}", path.display()),
                error.to_string(),
                "check the directory; the old file is unchanged",
            )
        })?;
    }
    Ok(match format {
        Format::Json => as_json(args, &import),
        Format::Normal => as_text(args, &import),
    })
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    let mut text = Vec::new();
    let most = BYTES_MAX as u64 + 1;
    let outcome = if path == Path::new("-") {
        io::stdin().lock().take(most).read_to_end(&mut text)
    } else {
        File::open(path).and_then(|file| file.take(most).read_to_end(&mut text))
    };
    outcome.map_err(|error| {
        Failure::new(
            format!("cannot read {}", path.display()),
            error.to_string(),
            "name the file to read, or - for standard input",
        )
    })?;
    Ok(text)
}

/// Replaces the file atomically.
fn write_whole(path: &Path, text: &str) -> io::Result<()> {
    let name = path
        .file_name()
        .ok_or_else(|| io::Error::other("this is not a file name"))?;
    let mut beside = std::ffi::OsString::from(".");
    beside.push(name);
    beside.push(format!(".{}", std::process::id()));
    let beside = path.with_file_name(beside);
    let write = || {
        let mut file = File::create_new(&beside)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&beside, path)
    };
    write().inspect_err(|_| {
        let _ = fs::remove_file(&beside);
    })
}

fn as_json(args: &ImportArgs, import: &Import) -> Outcome {
    let written = args.output.as_deref().filter(|_| import.toml.is_some());
    let mode = match args.mode {
        Mode::Literal => "literal",
        Mode::Intended => "intended",
    };
    let toml = import.toml.as_ref().filter(|_| !args.lint);
    let answer = json!({
        "version": VERSION,
        "mode": mode,
        "toml": toml,
        "written": written,
        "findings": import.findings,
    });
    Outcome {
        out: format!("{answer:#}\n"),
        err: String::new(),
        complete: complete(args, import),
    }
}

fn as_text(args: &ImportArgs, import: &Import) -> Outcome {
    let list = |findings: &[&Finding]| {
        let lines = findings.iter().map(|finding| format!("{finding}\n"));
        lines.collect::<String>()
    };
    let all: Vec<&Finding> = import.findings.iter().collect();
    if args.lint {
        return Outcome {
            out: list(&all),
            err: summary(&all),
            complete: complete(args, import),
        };
    }
    let serious: Vec<&Finding> = all
        .iter()
        .copied()
        .filter(|finding| finding.severity > Severity::Note)
        .collect();
    let notes = all.len() - serious.len();
    let mut err = list(&serious);
    if notes > 0 {
        let _ = writeln!(err, "{notes} more notes: umpath import --lint");
    }
    let mut out = String::new();
    match (&import.toml, &args.output) {
        (None, _) => err.push_str("nothing was written\n"),
        (Some(toml), None) => out.clone_from(toml),
        (Some(_), Some(path)) => out = format!("{} was written\n", path.display()),
    }
    Outcome {
        out,
        err,
        complete: complete(args, import),
    }
}

/// Fails with `--lint` if the file has an error, otherwise if nothing could be written.
fn complete(args: &ImportArgs, import: &Import) -> bool {
    if args.lint {
        let worst = import.findings.iter().map(|finding| finding.severity).max();
        worst < Some(Severity::Error)
    } else {
        import.toml.is_some()
    }
}

fn summary(findings: &[&Finding]) -> String {
    let count = |severity| findings.iter().filter(|f| f.severity == severity).count();
    format!(
        "{} errors, {} warnings, {} notes\n",
        count(Severity::Error),
        count(Severity::Warning),
        count(Severity::Note)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(name: &str) -> PathBuf {
        let path =
            std::env::temp_dir().join(format!("umpath-import-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        path
    }

    fn args(file: &Path, output: Option<PathBuf>) -> ImportArgs {
        ImportArgs {
            file: file.to_owned(),
            mode: Mode::Literal,
            lint: false,
            bindings: None,
            output,
        }
    }

    #[test]
    fn a_refused_file_leaves_what_was_there_and_nothing_else() {
        let folder = folder("refused");
        let (conf, toml) = (folder.join("multipath.conf"), folder.join("umpath.toml"));
        fs::write(&conf, "blacklist {\n wwid \"*\"\n}\n").unwrap();
        fs::write(&toml, "old").unwrap();
        let outcome = run(&args(&conf, Some(toml.clone())), Format::Normal).unwrap();
        assert!(!outcome.complete);
        assert!(outcome.err.contains("bad-pattern"), "{}", outcome.err);
        assert_eq!(fs::read_to_string(&toml).unwrap(), "old");
        fs::write(&conf, "defaults {\n no_path_retry queue\n").unwrap();
        let outcome = run(&args(&conf, Some(toml.clone())), Format::Normal).unwrap();
        assert!(outcome.complete);
        assert!(fs::read_to_string(&toml).unwrap().contains("\"queue\""));
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 2);
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_place_that_cannot_be_written_is_an_error_with_a_cause() {
        let folder = folder("unwritable");
        let conf = folder.join("multipath.conf");
        fs::write(&conf, "").unwrap();
        // A folder cannot be replaced by a file.
        let target = folder.join("taken");
        fs::create_dir(&target).unwrap();
        let failure = run(&args(&conf, Some(target)), Format::Normal).unwrap_err();
        assert!(failure.to_string().contains("cannot write"), "{failure}");
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 2);
        let failure = run(&args(&folder.join("none"), None), Format::Normal).unwrap_err();
        assert!(failure.to_string().contains("cannot read"), "{failure}");
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn json_has_the_text_and_the_findings() {
        let folder = folder("json");
        let conf = folder.join("multipath.conf");
        fs::write(&conf, "overrides {\n prio alua\n}\n").unwrap();
        let outcome = run(&args(&conf, None), Format::Json).unwrap();
        let answer: serde_json::Value = serde_json::from_str(&outcome.out).unwrap();
        assert_eq!(answer["version"], VERSION);
        assert!(answer["toml"].as_str().unwrap().contains("[defaults]"));
        let rules: Vec<_> = answer["findings"].as_array().unwrap().iter().collect();
        let alua = rules
            .iter()
            .find(|finding| finding["rule"] == "alua-on-nvme")
            .unwrap();
        assert_eq!(
            (&alua["line"], &alua["severity"]),
            (&json!(2), &json!("warning"))
        );
        fs::remove_dir_all(&folder).unwrap();
    }
}
