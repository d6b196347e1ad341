//! Manual pages generated from existing sources: a program's clap grammar, and a documented TOML
//! file.
//!
//! Decided here: the layout of a page and which pages exist. The text about flags, commands and
//! keys comes from the sources, so it cannot become stale. `cargo xtask man` runs each program to
//! get its pages; a program answers with [`answer`].

#![forbid(unsafe_code)]

mod file;
mod program;

pub use file::{Block, Kind, Line, blocks, of_file};
pub use program::{Program, of_program};

use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::process::ExitCode;
use std::{fs, io};

/// The flag, followed by a directory, with which `cargo xtask man` runs programs. It is not part of
/// their grammars, because administrators do not need it.
pub const FLAG: &str = "--man-pages";

/// The manual's name in the heading.
const MANUAL: &str = "umpath manual";

/// Replaces the date, so that the same sources give the same pages. It is not empty, because roff
/// would skip an empty argument.
const NO_DATE: &str = " ";

/// One manual page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// File name: `umpath-connect.8`.
    pub name: String,
    /// The page in roff.
    pub roff: Vec<u8>,
}

/// Writes the pages and returns the exit status, if the command line is exactly a request for them.
pub fn answer(pages: impl FnOnce() -> io::Result<Vec<Page>>) -> Option<ExitCode> {
    let words: Vec<OsString> = std::env::args_os().skip(1).collect();
    let folder = match words.as_slice() {
        [flag, folder] if flag == OsStr::new(FLAG) => Path::new(folder),
        _ => return None,
    };
    let written = pages().and_then(|pages| write(folder, &pages));
    Some(match written {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cannot write pages to {}: {error}", folder.display());
            ExitCode::FAILURE
        }
    })
}

fn write(folder: &Path, pages: &[Page]) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    pages
        .iter()
        .try_for_each(|page| fs::write(folder.join(&page.name), &page.roff))
}
