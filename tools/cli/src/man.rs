//! The manual pages of `umpath`, one per command.

use std::io;

use clap::CommandFactory as _;
use umpath_man::{Page, Program, of_program};

use crate::args::Cli;

/// Sections that the grammar does not provide.
const SECTIONS: &[(&str, &str)] = &[(
    "EXIT STATUS",
    "0: done.\n1: refused, failed or done in part; standard error says what, why and what to do.\n\
     2: the command line was not understood.",
)];

pub(crate) fn pages() -> io::Result<Vec<Page>> {
    of_program(Program {
        command: Cli::command(),
        sections: SECTIONS,
        see_also: &["umpathd(8)", "umpath.toml(5)"],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_verb_has_a_page_that_says_what_it_does() {
        let pages = pages().unwrap();
        let text = |name: &str| {
            let page = pages.iter().find(|page| page.name == name);
            let roff = page.unwrap_or_else(|| panic!("no {name}")).roff.clone();
            String::from_utf8(roff).unwrap()
        };
        let command = Cli::command();
        for verb in command.get_subcommands() {
            let name = verb.get_name();
            let about = verb.get_about().unwrap().to_string();
            let first = about.split([' ', '`', '-']).next().unwrap();
            assert!(text(&format!("umpath-{name}.8")).contains(first), "{name}");
        }
        assert!(text("umpath-config-check.8").contains("file and line"));
        assert!(text("umpath-connect.8").contains("traddr"));
        assert!(text("umpath.8").contains("EXIT STATUS"));
    }
}
