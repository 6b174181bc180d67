//! What is listened on, and who calls there.

use std::fmt;
use std::io;
use std::net::SocketAddr;

use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

/// A socket that is being listened on.
#[derive(Debug)]
pub enum Listener {
    /// A TCP address.
    Tcp(TcpListener),
    /// A Unix stream socket.
    Unix(UnixListener),
}

/// Who is at the other end of a connection.
#[derive(Clone, Copy, Debug)]
pub enum Peer {
    /// Through TCP.
    Tcp {
        /// Its address.
        remote: SocketAddr,
        /// The address of ours that it called.
        local: SocketAddr,
    },
    /// Somebody on this machine, through a Unix socket.
    Unix {
        /// The place of the socket in the list of those that are served.
        listener: usize,
    },
}

impl Peer {
    /// Its address as others are told it.
    pub(super) fn address(&self) -> String {
        match self {
            Self::Tcp { remote, .. } => remote.ip().to_canonical().to_string(),
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

/// A connection that somebody made.
pub(super) enum Accepted {
    /// With the address of the caller, and that of ours that he called.
    Tcp(TcpStream, SocketAddr, SocketAddr),
    Unix(UnixStream),
}

impl Listener {
    /// Waits for the next connection.
    pub(super) async fn accept(&self) -> io::Result<Accepted> {
        match self {
            Self::Tcp(listener) => {
                let (stream, remote) = listener.accept().await?;
                let local = stream.local_addr()?;
                Ok(Accepted::Tcp(stream, remote, local))
            }
            Self::Unix(listener) => listener.accept().await.map(|(stream, _)| Accepted::Unix(stream)),
        }
    }
}

/// Errors that `accept(2)` passes on from a connection that died in the queue.
pub(super) fn is_callers_fault(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}
