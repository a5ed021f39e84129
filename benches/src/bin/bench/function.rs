//! A function that is started as Lambda starts it.

use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use layergate_bench::process::Process;
use layergate_bench::{Result, paths};
use serde_json::Value;

use crate::runtime_api::RuntimeApi;

/// The system's certificates. A function on Lambda reads its own copy of them, too.
const ROOTS: &str = "/etc/ssl/certs/ca-certificates.crt";

/// Files in the folder of the runs: all certificate authorities that functions trust, and the one
/// that is not the system's.
const ROOTS_FILE: &str = "roots.pem";
const AUTHORITY_FILE: &str = "authority.pem";

/// A function that gets the same event again and again.
pub struct Function {
    pub program: PathBuf,
    pub arguments: Vec<OsString>,
    pub environment: &'static [(&'static str, &'static str)],
    pub api: RuntimeApi,
}

impl Function {
    /// `is_right` checks each answer.
    pub fn new(program: PathBuf, event: &Value, is_right: fn(&Value) -> bool) -> Result<Self> {
        let api = RuntimeApi::serve(event.to_string(), is_right)?;
        Ok(Self { program, arguments: Vec::new(), environment: &[], api })
    }

    /// This project's function, called for a layer of the sample image.
    pub fn ours(environment: &'static [(&'static str, &'static str)]) -> Result<Self> {
        Ok(Self {
            environment,
            ..Self::new(paths::program("bootstrap")?, &sample_event()?, is_url)?
        })
    }

    /// Starts it on CPU `cpu`, with DynamoDB at `endpoint`.
    pub fn spawn(&self, cpu: usize, endpoint: &str) -> Result<Process> {
        let folder = paths::folder()?;
        let mut command = Command::new(&self.program);
        command
            .args(&self.arguments)
            .env_clear()
            .envs([
                ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "256"),
                ("AWS_LAMBDA_FUNCTION_NAME", "layergate"),
                ("AWS_LAMBDA_FUNCTION_VERSION", "1"),
                ("AWS_LAMBDA_RUNTIME_API", &self.api.address.to_string()),
                ("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE"),
                ("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"),
                ("AWS_SESSION_TOKEN", "the-session-token"),
                ("AWS_REGION", "us-east-1"),
                ("AWS_DEFAULT_REGION", "us-east-1"),
                ("AWS_ENDPOINT_URL_DYNAMODB", endpoint),
                ("TABLE_NAME", "layergate"),
                ("BUCKET_NAME", "layergate"),
                ("DEFAULT_REGISTRY_ID", "000000000000"),
                (
                    "TOKEN_KEY_ID",
                    "arn:aws:kms:us-east-1:222222222222:key/5f1e1a0c-7d32-4b6e-9f55-0f6f5f2a8e11",
                ),
                ("NODE_NO_WARNINGS", "1"), // that a later SDK will not support this Node
            ])
            // Each SDK has its own variable for the certificate authorities.
            .env("SSL_CERT_FILE", folder.join(ROOTS_FILE))
            .env("AWS_CA_BUNDLE", folder.join(ROOTS_FILE))
            .env("NODE_EXTRA_CA_CERTS", folder.join(AUTHORITY_FILE))
            .env("PYTHONPATH", folder.join("python"))
            .envs(self.environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        Process::spawn_on(cpu, &mut command)
    }

    /// Starts a process while an event waits for it. Returns the time from the start to the first
    /// answer.
    pub fn first_answer(&self, cpu: usize, endpoint: &str) -> Result<(Duration, Process)> {
        self.api.expect_process(1);
        let process = self.spawn(cpu, endpoint)?;
        let (_, answered) = *self.api.finished()?.first().ok_or("no call was made")?;
        Ok((answered - process.started, process))
    }
}

/// Writes the certificate authorities that functions trust: the system's, and one more.
pub fn trust(authority: &str) -> Result<()> {
    let roots = fs::read_to_string(ROOTS).map_err(|error| format!("{ROOTS}: {error}"))?;
    let folder = paths::folder()?;
    fs::write(folder.join(ROOTS_FILE), roots + authority)?;
    Ok(fs::write(folder.join(AUTHORITY_FILE), authority)?)
}

/// The event of a call for a layer of the sample image.
pub fn sample_event() -> Result<Value> {
    Ok(serde_json::from_slice(&fs::read("events/rest/OK.json")?)?)
}

/// Whether an answer has a presigned URL.
pub fn is_url(answer: &Value) -> bool {
    let body = answer["body"].as_str().unwrap_or_default();
    answer["statusCode"] == 200 && body.contains("downloadUrl") && body.contains("X-Amz-Signature=")
}
