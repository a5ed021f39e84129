//! `layergate login`.

use std::fmt;

use layergate_core::config::ConfigError;
use layergate_tool::authorization::{Api, Login, LoginError};
use serde::Serialize;

use crate::error::Error;
use crate::output::Format;

/// As text, only the password: for `docker login --password-stdin`.
#[derive(Serialize)]
struct Password(Login);

impl fmt::Display for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.0.password)
    }
}

impl From<LoginError> for Error {
    fn from(error: LoginError) -> Self {
        match error {
            LoginError::NoUrl => Self::Usage(error.to_string()),
            LoginError::Refused { .. } => Self::Local(error.to_string()),
        }
    }
}

/// Runs the command.
pub async fn run(format: Format) -> Result<(), Error> {
    let api = Api::from_env()?.ok_or_else(|| ConfigError::Missing(vec!["API_URL"]))?;
    format.print(&Password(api.log_in().await?))
}
