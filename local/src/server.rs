//! The HTTP server of the gateway and of most engines.

use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// How long the server waits after a connection could not be accepted, for example because the
/// process has too many open files.
const PAUSE: Duration = Duration::from_secs(1);

/// Serves until `stop` is cancelled. Then it ends the requests that it has begun to answer.
///
/// It closes a connection if a client takes longer than `patience` to send the head of a request,
/// or to begin its next request.
pub(super) async fn serve(
    listener: TcpListener,
    router: Router,
    patience: Duration,
    stop: CancellationToken,
) {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(patience);
    let connections = GracefulShutdown::new();
    while let Some(accepted) = stop.run_until_cancelled(listener.accept()).await {
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        // With Nagle's algorithm, an answer in two writes waits for the client's delayed
        // acknowledgement.
        let _ = stream.set_nodelay(true);
        let service = TowerToHyperService::new(router.clone());
        let connection = connections.watch(http.serve_connection(TokioIo::new(stream), service));
        tokio::spawn(async move {
            let _ = connection.await; // a client that went away, or one that was too slow
        });
    }
    drop(listener);
    connections.shutdown().await;
}
