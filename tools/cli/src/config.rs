//! `umpath config`: the configuration file, without a running daemon.
//!
//! Decided here: how answers look. Only umpathd interprets a file, so this runs umpathd with the
//! matching flags: the program in the same directory, which has the same version, else the one in
//! the PATH.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use clap::{Args, Subcommand};
use serde_json::json;
use umpath_protocol::{Failure, VERSION};

use crate::format::Format;
use crate::view::json::{pretty, versioned};

/// Arguments of `umpath config`.
#[derive(Debug, Args)]
pub(crate) struct ConfigArgs {
    #[command(subcommand)]
    verb: ConfigVerb,
}

#[derive(Debug, Subcommand)]
enum ConfigVerb {
    /// Check a file as umpathd would: name every mistake with file and line, or print `ok`.
    Check {
        /// The file; `conf.d/*.toml` beside it is read too [default: /etc/umpath/umpath.toml].
        file: Option<PathBuf>,
    },
    /// Show the configuration in force, or every key with its default and its meaning.
    Show {
        /// Every key with its default and its meaning, as a starting point for a file; needs no
        /// daemon.
        #[arg(long)]
        defaults: bool,
    },
}

impl ConfigArgs {
    /// Whether this is about the running daemon, not a file.
    pub(crate) fn asks_daemon(&self) -> bool {
        matches!(self.verb, ConfigVerb::Show { defaults: false })
    }
}

/// The answer, and `false` if the file has mistakes.
pub(crate) fn run(args: &ConfigArgs, format: Format) -> Result<(String, bool), Failure> {
    match &args.verb {
        ConfigVerb::Check { file } => {
            let mut words = vec!["--check".as_ref()];
            if let Some(file) = file {
                words.extend(["--config".as_ref(), file.as_os_str()]);
            }
            let output = ask(Command::new(umpathd()).args(words))?;
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            let ok = output.status.success();
            Ok((
                if format == Format::Json {
                    checked(&text, ok)
                } else {
                    text
                },
                ok,
            ))
        }
        ConfigVerb::Show { .. } => {
            let output = ask(Command::new(umpathd()).arg("--print-defaults"))?;
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            let text = match format {
                Format::Json => versioned("config", &text),
                Format::Normal => text,
            };
            Ok((text, true))
        }
    }
}

fn checked(text: &str, ok: bool) -> String {
    let mistakes: Vec<&str> = text.lines().filter(|_| !ok).collect();
    pretty(&json!({ "version": VERSION, "ok": ok, "mistakes": mistakes }))
}

fn umpathd() -> PathBuf {
    let beside = |own: PathBuf| Some(own.parent()?.join("umpathd")).filter(|path| path.exists());
    let own = std::env::current_exe().ok();
    own.and_then(beside).unwrap_or_else(|| "umpathd".into())
}

/// Runs umpathd. Mistakes in a file are an answer; all other failures go to standard error.
fn ask(command: &mut Command) -> Result<Output, Failure> {
    let name = Path::new(command.get_program()).display().to_string();
    let output = command.output().map_err(|error| {
        let why = match error.kind() {
            io::ErrorKind::NotFound => "it is neither beside umpath nor in the PATH".to_owned(),
            _ => error.to_string(),
        };
        Failure::new(
            format!("cannot run {name}"),
            why,
            "install umpathd beside umpath: it reads the configuration",
        )
    })?;
    if output.stdout.is_empty() {
        return Err(Failure::new(
            format!("{name} did not answer"),
            String::from_utf8_lossy(&output.stderr).trim().to_owned(),
            "umpath and umpathd must be of the same version",
        ));
    }
    Ok(output)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checked_file_is_json_for_programs() {
        let parsed = |text: &str, ok| -> serde_json::Value {
            serde_json::from_str(&checked(text, ok)).unwrap()
        };
        assert_eq!(
            parsed("a:1: b\nc:2: d\n", false),
            json!({ "version": VERSION, "ok": false, "mistakes": ["a:1: b", "c:2: d"] })
        );
        assert_eq!(
            parsed("ok\n", true),
            json!({ "version": VERSION, "ok": true, "mistakes": [] })
        );
    }

    #[test]
    fn a_program_that_is_missing_or_silent_is_named() {
        let failure = ask(&mut Command::new("/nowhere/umpathd")).unwrap_err();
        assert!(failure.what.contains("/nowhere/umpathd"), "{failure}");
        let silent = ask(Command::new("sh").args(["-c", "echo broken >&2; exit 1"]));
        assert_eq!(silent.unwrap_err().why, "broken");
    }
}
