//! Running a program to completion, with errors that include its output.

use std::process::{Command, Output, Stdio};

use anyhow::{Context as _, Result, bail};

/// Runs a command that must succeed.
pub fn run(command: &mut Command) -> Result<()> {
    output(command).map(drop)
}

/// Runs a command that must succeed; returns its standard output.
pub fn output(command: &mut Command) -> Result<String> {
    let result = attempt(command)?;
    let text = String::from_utf8_lossy(&result.stdout).into_owned();
    if !result.status.success() {
        let error = String::from_utf8_lossy(&result.stderr).into_owned();
        bail!(
            "`{}` failed: {}\n{}{}",
            show(command),
            result.status,
            text,
            error.trim_end()
        );
    }
    Ok(text)
}

/// Runs a command that may fail.
pub fn attempt(command: &mut Command) -> Result<Output> {
    let shown = show(command);
    command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot start `{shown}`"))
}

pub(crate) fn show(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words
        .map(|word| word.to_string_lossy().into_owned())
        .collect::<Vec<_>>()
        .join(" ")
}
