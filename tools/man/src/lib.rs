//! Manual pages, made of what exists anyway: a program's clap grammar, and a documented TOML file.
//!
//! Decided here: what a page looks like and which pages there are. Not decided here: any of their
//! words about flags, verbs and keys, so no second copy of those can go stale. `cargo xtask man` asks
//! each program for its pages; a program answers with [`answer`].

#![forbid(unsafe_code)]

mod file;
mod program;

pub use file::{Block, Kind, Line, blocks, of_file};
pub use program::{Program, of_program};

use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::process::ExitCode;
use std::{fs, io};

/// The flag that `cargo xtask man` gives to programs, a folder following it. It stands outside of
/// their grammars: it is none of an administrator's business.
pub const FLAG: &str = "--man-pages";

/// What the pages are a part of, as their head line says.
const MANUAL: &str = "umpath manual";

/// Where others have a date. None is given, so that the same sources make the same pages; it is not
/// empty, because roff takes the next argument for an empty one.
const NO_DATE: &str = " ";

/// One page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// Name of its file: `umpath-connect.8`.
    pub name: String,
    /// Its text in roff.
    pub roff: Vec<u8>,
}

/// Writes the pages and says how that went, if the command line asks for them and for nothing else.
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
