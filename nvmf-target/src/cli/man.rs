//! The pages of `umpath-target`, one for each verb.

use std::io;

use clap::CommandFactory as _;
use umpath_man::{Page, Program, of_program};

use super::Cli;

/// What the grammar does not tell.
const SECTIONS: &[(&str, &str)] = &[(
    "ENVIRONMENT",
    "UMPATH_LOG: what to log, a level (info, debug) or tracing directives.",
)];

/// All of them.
pub(crate) fn pages() -> io::Result<Vec<Page>> {
    of_program(Program {
        command: Cli::command(),
        sections: SECTIONS,
        see_also: &["umpath(8)", "umpathd(8)"],
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Command;

    fn verbs(command: &Command, name: &str, found: &mut Vec<String>) {
        for verb in command.get_subcommands() {
            let name = format!("{name}-{}", verb.get_name());
            verbs(verb, &name, found);
            found.push(format!("{name}.8"));
        }
    }

    #[test]
    fn every_verb_has_a_page() {
        let names: Vec<String> = pages().unwrap().into_iter().map(|page| page.name).collect();
        let mut expected = vec!["umpath-target.8".to_owned()];
        verbs(&Cli::command(), "umpath-target", &mut expected);
        assert!(expected.contains(&"umpath-target-nvmf-subsystem-create.8".to_owned()));
        for name in expected {
            assert!(names.contains(&name), "{name}");
        }
    }
}
