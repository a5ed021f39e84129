//! Standard output.

use std::fmt::Display;
use std::io::{self, Write};

use clap::ValueEnum;
use serde::Serialize;

use crate::error::Error;

/// The form of the output.
#[derive(Debug, Clone, Copy, Default, ValueEnum)]
pub enum Format {
    /// Text for a person
    #[default]
    Text,
    /// One JSON object, with ECR's names, for a script
    Json,
}

impl Format {
    /// Prints a result.
    pub fn print(self, result: &(impl Serialize + Display)) -> Result<(), Error> {
        match self {
            Self::Text => write(&result.to_string()).map(|_| ()),
            Self::Json => print_json(result),
        }
    }

    /// Starts a result that is a list. In JSON, it is the object `head` with one more member,
    /// `name`, which has the elements.
    pub fn begin_list(self, head: &impl Serialize, name: &str) -> Result<List, Error> {
        let mut list = List { format: self, is_read: true, is_empty: true };
        if let Self::Json = self {
            let head = json(head)?;
            let members = head.trim_start_matches('{').trim_end_matches('}');
            let comma = if members.is_empty() { "" } else { "," };
            list.write(&format!("{{{members}{comma}\"{name}\":["))?;
        }
        Ok(list)
    }
}

/// The head of a list without other members.
#[derive(Debug, Serialize)]
pub struct Nothing {}

/// A list that is printed element by element.
#[derive(Debug)]
pub struct List {
    format: Format,
    /// Whether somebody still reads standard output.
    is_read: bool,
    is_empty: bool,
}

impl List {
    /// Prints an element. `false` if nobody reads the list any more.
    pub fn print(&mut self, element: &(impl Serialize + Display)) -> Result<bool, Error> {
        match self.format {
            Format::Text => self.write(&element.to_string())?,
            Format::Json => {
                let comma = if self.is_empty { "" } else { "," };
                self.write(&format!("{comma}{}", json(element)?))?;
            }
        }
        self.is_empty = false;
        Ok(self.is_read)
    }

    /// Ends the list. If it is empty, `if_empty` on standard error says so, and names the setting
    /// that may be wrong.
    pub fn end(mut self, if_empty: &str) -> Result<(), Error> {
        if self.is_empty {
            let note =
                format!("layergate: {if_empty}; if that is wrong, check DEFAULT_REGISTRY_ID");
            let _ = writeln!(io::stderr(), "{note}"); // nobody has to read it
        }
        match self.format {
            Format::Text => Ok(()),
            Format::Json => self.write("]}\n"),
        }
    }

    fn write(&mut self, text: &str) -> Result<(), Error> {
        self.is_read = self.is_read && write(text)?;
        Ok(())
    }
}

/// Prints a line of JSON.
pub fn print_json(value: &impl Serialize) -> Result<(), Error> {
    write(&format!("{}\n", json(value)?)).map(|_| ())
}

fn json(value: &impl Serialize) -> Result<String, Error> {
    serde_json::to_string(value).map_err(|error| failed(&error))
}

/// Writes to standard output. `false` if nobody reads it any more, as after `| head`.
fn write(text: &str) -> Result<bool, Error> {
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(failed(&error)),
        Ok(()) => Ok(true),
    }
}

fn failed(error: &dyn Display) -> Error {
    Error::Local(format!("cannot write to standard output: {error}"))
}
