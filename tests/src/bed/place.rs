//! A network namespace in which programs run.

use std::ffi::OsStr;
use std::process::Command;

use anyhow::Result;

use super::run::run;

/// The initial namespace, or a named one that this value owns.
#[derive(Debug)]
pub struct Place {
    name: Option<&'static str>,
}

impl Place {
    /// The initial namespace.
    pub const INITIAL: Self = Self { name: None };

    /// Creates a namespace with its loopback up; dropping removes it and all devices in it.
    pub fn make(name: &'static str) -> Result<Self> {
        run(Command::new("ip").args(["netns", "add", name]))?;
        let place = Self { name: Some(name) };
        run(place.command("ip").args(["link", "set", "lo", "up"]))?;
        Ok(place)
    }

    /// The namespace's name; `None` for the initial one.
    pub fn name(&self) -> Option<&'static str> {
        self.name
    }

    /// A command that runs here. Its process ID is the program's own.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        match self.name {
            None => Command::new(program),
            Some(name) => {
                let mut command = Command::new("ip");
                command.args(["netns", "exec", name]).arg(program);
                command
            }
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(name) = self.name
            && let Err(error) = run(Command::new("ip").args(["netns", "delete", name]))
        {
            eprintln!("bed: {error:#}");
        }
    }
}
