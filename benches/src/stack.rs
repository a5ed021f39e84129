//! `layergate local`, from the tool's release build, with its data in a temporary folder.

use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{ChildStdout, Command, Output, Stdio};

use tempfile::TempDir;

use crate::process::Process;
use crate::{Error, Result, paths};

/// The value of `X-Amz-Target` in a request for a layer's URL.
pub const TARGET: &str = "AmazonEC2ContainerRegistry_V20150921.GetDownloadUrlForLayer";

/// A running stack.
#[derive(Debug)]
pub struct Stack {
    /// The process of the whole stack.
    pub process: Process,
    /// The address of ECR's API and of the registry.
    pub address: SocketAddr,
    /// The variables that lead the tool to this stack.
    pub environment: HashMap<String, String>,
    /// The run's files.
    pub folder: TempDir,
    tool: PathBuf,
    /// Kept open, because the stack may write to it.
    _output: BufReader<ChildStdout>,
}

impl Stack {
    /// Starts it on a port that the system picks, with more options for `layergate local`.
    pub fn start(options: &[&str]) -> Result<Self> {
        let tool = paths::program("layergate")?;
        let folder = tempfile::tempdir_in(paths::folder()?)?;
        let data = folder.path().join("data");
        let mut command = Command::new(&tool);
        command.args(["local", "--port", "0", "--data"]).arg(&data).args(options);
        let mut process = Process::spawn(command.stdout(Stdio::piped()).stderr(Stdio::null()))?;
        let output = process.child.stdout.take().ok_or("the stack has no output")?;
        let mut output = BufReader::new(output);
        output.read_line(&mut String::new())?; // it prints nothing before it is ready
        let text = std::fs::read_to_string(data.join("local.env"))
            .map_err(|error| format!("the stack did not start: {error}"))?;
        let exports = text.lines().filter_map(|line| line.strip_prefix("export ")?.split_once('='));
        let environment: HashMap<_, _> =
            exports.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        let address = address(&environment, "AWS_ENDPOINT_URL_ECR")?;
        Ok(Self { process, address, environment, folder, tool, _output: output })
    }

    /// A command of the tool for this stack.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.tool);
        command
            .args(arguments)
            .envs(&self.environment)
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        command
    }

    /// Runs a command of the tool, which must succeed.
    pub fn run(&self, arguments: &[&str]) -> Result<()> {
        let Output { status, stderr, .. } = self.command(arguments).output()?;
        match status.success() {
            true => Ok(()),
            false => {
                let stderr = String::from_utf8_lossy(&stderr);
                Err(format!("layergate {arguments:?}: {stderr}").into())
            }
        }
    }
}

/// The address in a variable whose value is a URL.
pub fn address(environment: &HashMap<String, String>, variable: &str) -> Result<SocketAddr> {
    let url = environment.get(variable).and_then(|url| url.strip_prefix("http://"));
    url.ok_or_else(|| Error::from(format!("{variable} is not set")))?.parse().map_err(Error::from)
}
