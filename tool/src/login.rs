//! `layergate login`.

use std::fmt;

use layergate_tool::authorization::{Api, Login, LoginError};
use serde::Serialize;

use crate::error::Error;
use crate::output::Format;

/// As text, the password alone: for `docker login --password-stdin`.
#[derive(Serialize)]
struct Password(Login);

impl fmt::Display for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.0.password)
    }
}

impl From<LoginError> for Error {
    fn from(error: LoginError) -> Self {
        Self::Local(error.to_string())
    }
}

/// Runs the command.
pub async fn run(format: Format) -> Result<(), Error> {
    let api = Api::from_env().ok_or_else(|| {
        Error::Usage(
            "the setting API_URL is not set; it must be the URL of ECR's API, as `make outputs` prints it"
                .to_owned(),
        )
    })?;
    format.print(&Password(api.log_in().await?))
}
