//! `layergate local`, the tool's release build, with its data in a folder that goes with it.

use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{ChildStdout, Command, Output, Stdio};

use tempfile::TempDir;

use crate::process::Process;
use crate::{Error, Result, paths};

/// The header by which a request asks for a layer's URL.
pub const TARGET: &str = "AmazonEC2ContainerRegistry_V20150921.GetDownloadUrlForLayer";

/// A running stack.
#[derive(Debug)]
pub struct Stack {
    /// The process that all of it is in.
    pub process: Process,
    /// Where an ECR client asks.
    pub address: SocketAddr,
    /// What points the tool at it.
    pub environment: HashMap<String, String>,
    /// Whatever the run needs on disk.
    pub folder: TempDir,
    tool: PathBuf,
    /// Open as long as it may write to it.
    _output: BufReader<ChildStdout>,
}

impl Stack {
    /// Starts it on a port that the system picks, with more options of `layergate local`.
    pub fn start(options: &[&str]) -> Result<Self> {
        let tool = paths::program("layergate")?;
        let folder = tempfile::tempdir_in(paths::folder()?)?;
        let data = folder.path().join("data");
        let mut command = Command::new(&tool);
        command.args(["local", "--port", "0", "--data"]).arg(&data).args(options);
        let mut process = Process::spawn(command.stdout(Stdio::piped()).stderr(Stdio::null()))?;
        let output = process.child.stdout.take().ok_or("the stack has no output")?;
        let mut output = BufReader::new(output);
        output.read_line(&mut String::new())?; // it says nothing before it is up
        let text = std::fs::read_to_string(data.join("local.env"))
            .map_err(|error| format!("the stack did not start: {error}"))?;
        let exports = text.lines().filter_map(|line| line.strip_prefix("export ")?.split_once('='));
        let environment: HashMap<_, _> =
            exports.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        let address = address(&environment, "AWS_ENDPOINT_URL_ECR")?;
        Ok(Self { process, address, environment, folder, tool, _output: output })
    }

    /// The tool, about to run against this stack.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.tool);
        command
            .args(arguments)
            .envs(&self.environment)
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        command
    }

    /// Runs the tool, which must succeed.
    pub fn run(&self, arguments: &[&str]) -> Result<()> {
        let Output { status, stderr, .. } = self.command(arguments).output()?;
        match status.success() {
            true => Ok(()),
            false => {
                Err(format!("layergate {arguments:?}: {}", String::from_utf8_lossy(&stderr)).into())
            }
        }
    }
}

/// The address in a variable that is a URL.
pub fn address(environment: &HashMap<String, String>, variable: &str) -> Result<SocketAddr> {
    let url = environment.get(variable).and_then(|url| url.strip_prefix("http://"));
    url.ok_or_else(|| Error::from(format!("{variable} is not set")))?.parse().map_err(Error::from)
}
