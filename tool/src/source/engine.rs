//! Images of the docker engine on this machine.
//!
//! Source: [Docker Engine API, "Export an
//! image"](https://docs.docker.com/reference/api/engine/version/v1.50/#tag/Image/operation/ImageGet).

use std::env;
use std::io::{self, Read};
use std::path::PathBuf;

use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::net::UnixStream;
use tokio::runtime::Handle;

use super::files::Files;
use super::start;
use crate::error::Error;
use crate::reference::EngineImage;

/// Where the engine listens if `DOCKER_HOST` does not say.
const SOCKET: &str = "/var/run/docker.sock";

/// The most bytes that are read of what the engine says of a failure.
const LONGEST_MESSAGE: u64 = 64 * 1024;

/// What the engine says of a failure.
#[derive(Deserialize)]
struct Failure {
    message: String,
}

/// Copies an image out of the engine into a temporary file, as `docker save` does. To be called
/// where blocking is allowed, within a runtime.
pub fn save(image: &EngineImage) -> Result<Files, Error> {
    let socket = socket()?;
    let name = format!("docker-daemon:{image}");
    let failed = |error: io::Error| {
        Error::Local(format!(
            "cannot get the image from the docker engine at {}: {error}; check that it runs, and that you may use it",
            socket.display()
        ))
    };
    let response = Handle::current().block_on(ask(&socket, image)).map_err(failed)?;
    let status = response.status();
    let mut body = Body { response: response.into_body(), frame: Bytes::new() };
    match status {
        StatusCode::OK => Files::of_stream(name, body),
        StatusCode::NOT_FOUND => Err(Error::Source(format!(
            "the docker engine at {} has no image '{image}'; 'docker images' lists those that it has",
            socket.display()
        ))),
        status => {
            let mut text = Vec::new();
            let _ = body.by_ref().take(LONGEST_MESSAGE).read_to_end(&mut text); // the status says enough
            let message = serde_json::from_slice(&text).map(|Failure { message }| message);
            Err(Error::Local(format!(
                "the docker engine at {} answered {} for '{image}': {}",
                socket.display(),
                status.as_u16(),
                start(message.unwrap_or_else(|_| "it gave no reason".to_owned()))
            )))
        }
    }
}

/// Where the engine listens.
fn socket() -> Result<PathBuf, Error> {
    let host = env::var("DOCKER_HOST").unwrap_or_default();
    match host.strip_prefix("unix://") {
        _ if host.is_empty() => Ok(SOCKET.into()),
        Some(path) => Ok(path.into()),
        None => Err(Error::Source(
            "DOCKER_HOST is not a socket of this machine (unix://PATH); use a pipe: 'docker save IMAGE | layergate \
             publish - REPOSITORY:TAG'"
                .to_owned(),
        )),
    }
}

async fn ask(socket: &PathBuf, image: &EngineImage) -> io::Result<Response<Incoming>> {
    let stream = TokioIo::new(UnixStream::connect(socket).await?);
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(stream).await.map_err(io::Error::other)?;
    tokio::spawn(connection); // ends with the answer
    let request = Request::get(format!("/images/{image}/get")).header("Host", "docker");
    let request = request.body(Empty::<Bytes>::new()).map_err(io::Error::other)?;
    sender.send_request(request).await.map_err(io::Error::other)
}

/// Reads an answer's body.
struct Body {
    response: Incoming,
    /// What was received and not read yet.
    frame: Bytes,
}

impl Read for Body {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.frame.is_empty() {
            match Handle::current().block_on(self.response.frame()) {
                None => return Ok(0),
                Some(frame) => {
                    self.frame = frame.map_err(io::Error::other)?.into_data().unwrap_or_default();
                }
            }
        }
        let count = self.frame.len().min(buffer.len());
        buffer[..count].copy_from_slice(&self.frame.split_to(count));
        Ok(count)
    }
}
