//! Listens again on Unix sockets whose files are removed.

use std::time::Duration;

use tokio::net::UnixListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::http::server::Listener;
use crate::service::socket_file::SocketFile;
use crate::service::sockets::Socket;

/// How often the files are looked for.
const INTERVAL: Duration = Duration::from_secs(1);

/// A socket's file, and the server that listens on it.
struct WatchedSocket {
    file: SocketFile,
    listener: mpsc::Sender<UnixListener>,
    /// Whether the last attempt failed, which is logged once.
    failing: bool,
}

/// Keeps the files of Unix sockets in place. [`end`](Self::end) removes them.
pub(super) struct UnixSockets {
    over: CancellationToken,
    task: JoinHandle<()>,
}

/// Turns sockets into listeners, and begins to watch the files of Unix sockets.
pub(super) fn open(sockets: Vec<Socket>) -> (Vec<Listener>, UnixSockets) {
    let (mut listeners, mut watched) = (Vec::new(), Vec::new());
    for socket in sockets {
        info!("listening on {socket}");
        listeners.push(match socket {
            Socket::Tcp(listener) => Listener::Tcp(listener),
            // systemd made the file, and it is systemd's to make it again.
            Socket::Unix { listener, file: None, .. } => listener.into(),
            Socket::Unix { listener, file: Some(file), .. } => {
                let (sender, replaced) = mpsc::channel(1);
                watched.push(WatchedSocket { file, listener: sender, failing: false });
                Listener::Unix { listener, replaced: Some(replaced), previous: None }
            }
        });
    }
    let over = CancellationToken::new();
    let task = tokio::spawn(watch(watched, over.clone()));
    (listeners, UnixSockets { over, task })
}

impl UnixSockets {
    /// Removes the files; returns when they are gone.
    pub(super) async fn end(self) {
        self.over.cancel();
        if let Err(error) = self.task.await {
            error!(%error, "the watch on Unix sockets failed: {error}");
        }
    }
}

async fn watch(mut watched: Vec<WatchedSocket>, over: CancellationToken) {
    let mut ticks = interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            // Drops the files of the sockets, which removes them.
            () = over.cancelled() => return,
            _ = ticks.tick(), if !watched.is_empty() => {}
        }
        for socket in watched.iter_mut().filter(|socket| socket.file.is_removed()) {
            socket.remake().await;
        }
    }
}

impl WatchedSocket {
    async fn remake(&mut self) {
        let remade = self.file.remake().await;
        let path = self.file.path().display();
        match remade {
            Ok(listener) => {
                warn!(%path, "the Unix socket {path} was removed; listening on a new one");
                self.failing = false;
                // The server is gone only at the end of the controller.
                let _ = self.listener.send(listener).await;
            }
            Err(error) if !self.failing => {
                self.failing = true;
                error!(
                    %path, %error,
                    "the Unix socket {path} was removed and can't be made again ({error}), so it takes no connections; trying every second"
                );
            }
            Err(_) => {}
        }
    }
}
