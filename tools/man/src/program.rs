//! Pages of a program in section 8: one for the program and one per command.

use std::io;

use clap::Command;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, roman};

use crate::{MANUAL, NO_DATE, Page};

/// The input for a program's pages.
#[derive(Debug)]
pub struct Program {
    /// Its clap grammar.
    pub command: Command,
    /// Sections that the grammar does not provide: heading and text, for the program's own page.
    pub sections: &'static [(&'static str, &'static str)],
    /// Related pages: `umpathd(8)`.
    pub see_also: &'static [&'static str],
}

/// All pages of a program. Hidden commands have none.
pub fn of_program(program: Program) -> io::Result<Vec<Page>> {
    let mut command = program.command.disable_help_subcommand(true);
    command.build();
    let version = command.get_version().unwrap_or_default().to_owned();
    let mut see_also: Vec<String> = program.see_also.iter().map(|&page| page.into()).collect();
    let mut own = page(&command, &version)?;
    for (heading, text) in program.sections {
        section(&mut own.roff, heading, text)?;
    }
    section(&mut own.roff, "SEE ALSO", &see_also.join(", "))?;
    let mut pages = vec![own];
    see_also.insert(0, format!("{}(8)", command.get_name()));
    of_verbs(&command, &version, &see_also.join(", "), &mut pages)?;
    Ok(pages)
}

fn of_verbs(
    command: &Command,
    version: &str,
    see_also: &str,
    pages: &mut Vec<Page>,
) -> io::Result<()> {
    for verb in command.get_subcommands().filter(|verb| !verb.is_hide_set()) {
        let mut page = page(verb, version)?;
        section(&mut page.roff, "SEE ALSO", see_also)?;
        pages.push(page);
        of_verbs(verb, version, see_also, pages)?;
    }
    Ok(())
}

fn page(command: &Command, version: &str) -> io::Result<Page> {
    let man = Man::new(command.clone())
        .section("8")
        .source(format!("umpath {version}"))
        .date(NO_DATE)
        .manual(MANUAL);
    let name = man.get_filename();
    let mut roff = Vec::new();
    man.render_title(&mut roff)?;
    man.render_name_section(&mut roff)?;
    man.render_synopsis_section(&mut roff)?;
    man.render_description_section(&mut roff)?;
    if command
        .get_arguments()
        .any(|argument| !argument.is_hide_set())
    {
        man.render_options_section(&mut roff)?;
    }
    if command.get_subcommands().any(|verb| !verb.is_hide_set()) {
        man.render_subcommands_section(&mut roff)?;
    }
    Ok(Page { name, roff })
}

fn section(into: &mut Vec<u8>, heading: &str, text: &str) -> io::Result<()> {
    let mut roff = Roff::new();
    roff.control("SH", [heading]);
    for (index, line) in text.lines().enumerate() {
        if index > 0 {
            roff.control("br", []);
        }
        roff.text([roman(line)]);
    }
    roff.to_writer(into)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Arg;

    #[test]
    fn every_verb_has_a_page_and_hidden_ones_have_none() {
        let inner = Command::new("inner")
            .about("Deepest.")
            .arg(Arg::new("x").long("deep"));
        let command = Command::new("prog")
            .version("1.2")
            .about("A program.")
            .subcommand(
                Command::new("outer")
                    .about("Holds another.")
                    .subcommand(inner),
            )
            .subcommand(Command::new("secret").hide(true));
        let pages = of_program(Program {
            command,
            sections: &[("EXIT STATUS", "0 done\n1 failed")],
            see_also: &["other(5)"],
        })
        .unwrap();
        let names: Vec<&str> = pages.iter().map(|page| page.name.as_str()).collect();
        assert_eq!(names, ["prog.8", "prog-outer.8", "prog-outer-inner.8"]);
        let text = |index: usize| String::from_utf8(pages[index].roff.clone()).unwrap();
        assert!(text(0).contains(".TH prog 8 \" \" \"umpath 1.2\" \"umpath manual\""));
        assert!(!text(0).contains("help(8)") && text(0).contains("EXIT STATUS"));
        assert!(!text(0).contains("secret"), "{}", text(0));
        assert!(
            text(2).contains("deep") && text(2).contains("prog outer inner"),
            "{}",
            text(2)
        );
        assert!(text(2).contains("prog(8), other(5)"), "{}", text(2));
    }
}
