//! `layergate proxy`.

use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use layergate_core::catalog::Catalog;
use layergate_core::logging;
use layergate_core::role::Publisher;
use layergate_local::{Proxy, ProxyOptions};
use tokio_util::sync::CancellationToken;

use crate::error::Error;
use crate::session;

/// Push with docker, podman, skopeo and other clients, through a registry on this machine
///
/// The proxy takes pushes and pulls for the registry that the settings name. It uses your AWS
/// credentials. Example: docker push 127.0.0.1:5000/app:1.0
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The port; 0 for any free port
    #[arg(long, value_name = "N", default_value_t = 5000)]
    port: u16,
    /// The address to listen on. An address that other machines reach needs --login
    #[arg(long, value_name = "ADDRESS", default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    listen: IpAddr,
    /// Let clients log in with a password of 'layergate login', and nobody else in. Only the
    /// registry's own account may push
    #[arg(long)]
    login: bool,
    /// Create a repository when somebody pushes to it
    #[arg(long)]
    create_repositories: bool,
}

/// Runs the command until `interruption` is cancelled.
pub async fn run(arguments: Arguments, interruption: CancellationToken) -> Result<(), Error> {
    let Arguments { port, listen, login, create_repositories } = arguments;
    if !listen.is_loopback() && !login {
        return Err(Error::Usage(format!(
            "everybody who reaches {listen} could push; add --login, or leave out --listen"
        )));
    }
    logging::init(io::stderr, None);
    let (sdk, config) = session::settings().await?;
    let registry = config.default_registry_id.clone();
    Catalog::<Publisher>::new(&sdk, &config).check_layout(&registry).await?;
    let options = ProxyOptions {
        address: SocketAddr::new(listen, port),
        login,
        creates_repositories: create_repositories,
    };
    let proxy = Proxy::start(&sdk, config, options).await;
    let proxy = proxy.map_err(|error| Error::Local(error.to_string()))?;
    let address = proxy.address;
    let mut welcome = format!("registry {registry} takes pushes at {address}:\n\n");
    if login {
        welcome += &format!(
            "  layergate login | docker login --username AWS --password-stdin {address}\n"
        );
    }
    welcome += &format!("  docker push {address}/REPOSITORY:TAG\n");
    let _ = writeln!(io::stdout(), "{welcome}"); // nobody has to read it
    interruption.cancelled().await;
    proxy.stop().await;
    Ok(())
}
