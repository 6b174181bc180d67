//! Socket activation: sockets that the service manager opened (sd_listen_fds(3), systemd.socket(5)).

use std::io;
use std::net::TcpListener;
use std::os::fd::AsFd;
use std::os::unix::net::UnixListener;

use listenfd::ListenFd;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::sockopt::socket_acceptconn;

/// The names of the API's sockets, `FileDescriptorName=` of their units. Two, as all sockets of a unit share one name; the kind of a
/// socket is read from the socket itself.
pub const NAMES: [&str; 2] = ["api", "api-unix"];

/// A listening socket of the service manager.
#[derive(Debug)]
pub enum Activated {
    /// A TCP socket.
    Tcp(TcpListener),
    /// A Unix stream socket.
    Unix(UnixListener),
}

impl Activated {
    /// Duplicates the descriptor.
    pub fn try_clone(&self) -> io::Result<Self> {
        match self {
            Self::Tcp(socket) => socket.try_clone().map(Self::Tcp),
            Self::Unix(socket) => socket.try_clone().map(Self::Unix),
        }
    }

    /// Whether a connection waits to be accepted.
    pub fn is_called(&self) -> bool {
        let socket = match self {
            Self::Tcp(socket) => socket.as_fd(),
            Self::Unix(socket) => socket.as_fd(),
        };
        let mut polled = [PollFd::from_borrowed_fd(socket, PollFlags::IN)];
        // On an error callers wait, as they do without this check.
        poll(&mut polled, Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
    }
}

/// The service manager handed over a descriptor that cannot be served. Ignoring it would leave its callers without an answer.
#[derive(Debug, thiserror::Error)]
pub enum ActivationError {
    /// None of [`NAMES`].
    #[error(
        "the service manager hands over a socket with the name {0:?}; for the API set FileDescriptorName=api, or \
         api-unix, in its unit"
    )]
    Name(String),
    /// It is not a listening stream socket.
    #[error(
        "the socket {0:?} that the service manager hands over is no TCP or Unix stream socket that listens"
    )]
    Kind(String),
    /// The system refuses to use it.
    #[error("the socket {name:?} that the service manager hands over can't be used")]
    Io {
        /// Its name.
        name: String,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Takes the sockets that were handed over, usually none. To be called once, before there are threads: it changes the environment.
pub fn take() -> Result<Vec<Activated>, ActivationError> {
    let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
    let mut names = names.split(':');
    let mut handed_over = ListenFd::from_env();
    (0..handed_over.len())
        .map(|at| {
            let name = names.next().unwrap_or_default().to_owned();
            if !NAMES.contains(&name.as_str()) {
                return Err(ActivationError::Name(name));
            }
            listener(&mut handed_over, at, name)
        })
        .collect()
}

fn listener(handed_over: &mut ListenFd, at: usize, name: String) -> Result<Activated, ActivationError> {
    // A descriptor of another kind is left open.
    let socket = if let Ok(Some(socket)) = handed_over.take_tcp_listener(at) {
        Activated::Tcp(socket)
    } else if let Ok(Some(socket)) = handed_over.take_unix_listener(at) {
        Activated::Unix(socket)
    } else {
        return Err(ActivationError::Kind(name));
    };
    // tokio takes over non-blocking sockets only, and systemd need not hand them over so.
    let (listens, nonblocking) = match &socket {
        Activated::Tcp(socket) => (socket_acceptconn(socket.as_fd()), socket.set_nonblocking(true)),
        Activated::Unix(socket) => (socket_acceptconn(socket.as_fd()), socket.set_nonblocking(true)),
    };
    match (listens, nonblocking) {
        (Ok(true), Ok(())) => Ok(socket),
        (_, Err(source)) => Err(ActivationError::Io { name, source }),
        // A unit with Accept=yes hands over a connection.
        _ => Err(ActivationError::Kind(name)),
    }
}
