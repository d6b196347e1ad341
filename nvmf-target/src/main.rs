//! `umpath-target`: the target as a program.

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    end_with_any_panic();
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

/// Ends the process when any of its threads panics, once that is reported: a reactor that has asserted
/// in vain would never say that its commands are off the media, and the others would wait for it.
fn end_with_any_panic() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        report(panic);
        std::process::exit(101);
    }));
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
