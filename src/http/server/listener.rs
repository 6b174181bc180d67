//! Listening sockets, and the peers that connect to them.

use std::fmt;
use std::io;
use std::mem;
use std::net::SocketAddr;

use rustix::io::Errno;
use rustix::net::{SocketFlags, accept_with};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::mpsc;

/// A listening socket.
#[derive(Debug)]
pub enum Listener {
    /// TCP.
    Tcp(TcpListener),
    /// A Unix stream socket.
    Unix {
        /// The socket.
        listener: UnixListener,
        /// Sockets that replace it; none if that can't happen.
        replaced: Option<mpsc::Receiver<UnixListener>>,
        /// The socket that was replaced, until its queue is empty.
        previous: Option<UnixListener>,
    },
}

/// The other end of a connection.
#[derive(Clone, Copy, Debug)]
pub enum Peer {
    /// Over TCP.
    Tcp {
        /// Its address.
        remote: SocketAddr,
        /// Our address that it connected to.
        local: SocketAddr,
    },
    /// On this machine, through a Unix socket.
    Unix {
        /// Index of the socket in the list of those served.
        listener: usize,
    },
}

impl Peer {
    /// The address as it is passed on to clients.
    pub(in crate::http) fn address(&self) -> String {
        match self {
            Self::Tcp { remote, .. } => remote.ip().to_canonical().to_string(),
            // The word of RFC 7239, 6.2, where there is no address.
            Self::Unix { .. } => "unknown".to_owned(),
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { remote, .. } => write!(f, "{remote}"),
            Self::Unix { .. } => f.write_str("unix"),
        }
    }
}

/// An accepted connection.
pub(super) enum Accepted {
    /// With the peer's address, and ours that it connected to.
    Tcp(TcpStream, SocketAddr, SocketAddr),
    Unix(UnixStream),
}

impl Listener {
    /// Waits for the next connection.
    pub(super) async fn accept(&mut self) -> io::Result<Accepted> {
        match self {
            Self::Tcp(listener) => {
                let (stream, remote) = listener.accept().await?;
                let local = stream.local_addr()?;
                Ok(Accepted::Tcp(stream, remote, local))
            }
            Self::Unix { listener, replaced, previous } => loop {
                // The file is gone, so its queue gets no more connections. Those that wait in it would be lost with the socket.
                if let Some(socket) = previous {
                    // Not by tokio, whose `accept` would wait where this queue is empty.
                    match accept_with(&*socket, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) {
                        Ok(stream) => return UnixStream::from_std(stream.into()).map(Accepted::Unix),
                        Err(Errno::AGAIN) => *previous = None,
                        Err(error) => return Err(error.into()),
                    }
                }
                // Both futures may be dropped at any time: what they did not return stays in its queue.
                tokio::select! {
                    accepted = listener.accept() => return accepted.map(|(stream, _)| Accepted::Unix(stream)),
                    // Where no socket can follow, the pattern fails and this branch is off.
                    Some(new) = next(replaced) => *previous = Some(mem::replace(listener, new)),
                }
            },
        }
    }
}

impl From<UnixListener> for Listener {
    fn from(listener: UnixListener) -> Self {
        Self::Unix { listener, replaced: None, previous: None }
    }
}

async fn next(replaced: &mut Option<mpsc::Receiver<UnixListener>>) -> Option<UnixListener> {
    match replaced {
        Some(replaced) => replaced.recv().await,
        None => None,
    }
}

/// Errors of `accept(2)` about a connection that died in the queue.
pub(super) fn is_callers_fault(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn replaced_socket_is_accepted_from_until_its_queue_is_empty() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let first = UnixListener::bind(&path).unwrap();
        let (sender, replaced) = mpsc::channel(1);
        let mut waiting = Vec::new();
        for _ in 0..3 {
            waiting.push(std::os::unix::net::UnixStream::connect(&path).unwrap());
        }
        std::fs::remove_file(&path).unwrap();
        let second = UnixListener::bind(&path).unwrap();
        waiting.push(std::os::unix::net::UnixStream::connect(&path).unwrap());
        sender.send(second).await.unwrap();
        let mut listener = Listener::Unix { listener: first, replaced: Some(replaced), previous: None };
        for _ in 0..4 {
            assert!(matches!(listener.accept().await.unwrap(), Accepted::Unix(_)));
        }
    }
}
