//! The registry server of a user's own process, for the registry that the settings name: the
//! function's handler answers what reads, and a [`Pusher`] what writes, both with the user's AWS
//! credentials.

use std::net::SocketAddr;

use aws_config::SdkConfig;
use layergate::access::token::Tokens;
use layergate::lambda::Handler;
use layergate::service::Service;
use layergate_core::config::{Config, ManifestHead};
use layergate_push::Pusher;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::gateway::Gateway;
use super::{GRACE, LocalError, PATIENCE, listen, serve};

/// How a proxy is run.
#[derive(Debug)]
pub struct ProxyOptions {
    /// Where it listens.
    pub address: SocketAddr,
    /// Whether clients have to log in with tokens of the registry. Without a login, only requests
    /// to a loopback address are answered.
    pub login: bool,
    /// Whether a push into a repository that is missing creates it.
    pub creates_repositories: bool,
}

/// A running proxy.
#[derive(Debug)]
pub struct Proxy {
    /// Where it listens.
    pub address: SocketAddr,
    gateway: JoinHandle<()>,
    stop: CancellationToken,
}

impl Proxy {
    /// Starts a proxy for the registry that `config` names. `sdk` has the region, the credentials
    /// and the time-outs.
    pub async fn start(
        sdk: &SdkConfig,
        mut config: Config,
        options: ProxyOptions,
    ) -> Result<Self, LocalError> {
        config.manifest_head = ManifestHead::Answer; // nothing here changes the answer's length
        let login = match options.login {
            false => None,
            true => Some(Tokens::new(sdk, &config).ok_or_else(|| {
                LocalError("the setting TOKEN_KEY_ID is not set; --login needs it".to_owned())
            })?),
        };
        let listener = listen(options.address).await?;
        let address = listener.local_addr().map_err(|error| LocalError(error.to_string()))?;
        let gateway = Gateway {
            url: format!("http://{address}"),
            patience: PATIENCE,
            handler: Handler::new(Service::new(sdk, &config), config.authorization),
            pusher: Pusher::new(sdk, &config, options.creates_repositories),
            caller: config.default_registry_id.clone(),
            login,
            registry: config.default_registry_id,
            answers_ecr: false,
        };
        let stop = CancellationToken::new();
        let gateway = tokio::spawn(serve(listener, gateway.router(), PATIENCE, stop.clone()));
        Ok(Self { address, gateway, stop })
    }

    /// Stops it: requests that are being answered end first, if they end soon.
    pub async fn stop(self) {
        self.stop.cancel();
        let mut gateway = self.gateway;
        if tokio::time::timeout(GRACE, &mut gateway).await.is_err() {
            gateway.abort();
        }
    }
}
