//! What goes to standard output.

use std::fmt::Display;
use std::io::{self, Write};

use clap::ValueEnum;
use serde::Serialize;

use crate::error::Error;

/// For whom to print.
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
        let written = match self {
            Self::Text => write!(io::stdout(), "{result}"),
            Self::Json => serde_json::to_string(result)
                .map_err(io::Error::other)
                .and_then(|json| writeln!(io::stdout(), "{json}")),
        };
        match written {
            // Whoever reads has read enough, as `head` does.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            Err(error) => Err(Error::Local(format!("cannot write to standard output: {error}"))),
            Ok(()) => Ok(()),
        }
    }
}
