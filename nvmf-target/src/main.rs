//! `umpath-target`: the target as a program.

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    if let Some(status) = umpath_man::answer(cli::man::pages) {
        return status;
    }
    match cli::run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("umpath-target: {}", in_words(&error));
            ExitCode::FAILURE
        }
    }
}

/// The error and its causes, without those whose words an outer one has used already.
fn in_words(error: &anyhow::Error) -> String {
    error
        .chain()
        .map(ToString::to_string)
        .fold(String::new(), |mut words, cause| {
            if !words.contains(&cause) {
                if !words.is_empty() {
                    words.push_str(": ");
                }
                words.push_str(&cause);
            }
            words
        })
}
