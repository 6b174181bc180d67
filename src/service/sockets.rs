//! The sockets that are listened on.

use std::collections::HashSet;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use tokio::net::{TcpListener, UnixListener, lookup_host};
use tracing::warn;

use super::activation::Activated;
use super::socket_file::{SocketFile, open};
use crate::config::{ListenAddress, OpenListener};

/// A socket that is listened on.
#[derive(Debug)]
pub enum Socket {
    /// A TCP socket.
    Tcp(TcpListener),
    /// A Unix stream socket.
    Unix {
        /// The listener.
        listener: UnixListener,
        /// Its path; none for a socket without a file, which has no permissions.
        path: Option<PathBuf>,
        /// Its file, if the controller made it.
        file: Option<SocketFile>,
        /// Whether its callers have to show a token.
        require_token: bool,
    },
}

/// The controller cannot listen on an address.
#[derive(Debug, thiserror::Error)]
#[error("can't listen on {address}")]
pub struct BindError {
    address: ListenAddress,
    #[source]
    source: io::Error,
}

/// Listens on all of `addresses`.
pub async fn bind(addresses: &[ListenAddress]) -> Result<Vec<Socket>, BindError> {
    let mut sockets = Vec::new();
    for address in addresses {
        let failed = |source| BindError { address: address.clone(), source };
        match address {
            ListenAddress::Tcp { host, port } => {
                let found = lookup_host((host.as_str(), *port)).await.map_err(failed)?;
                sockets.extend(tcp(host, found).await.map_err(failed)?);
            }
            ListenAddress::Unix(socket) => {
                let (listener, file) = open(socket).await.map_err(failed)?;
                let (path, require_token) = (Some(socket.path.clone()), socket.require_token);
                sockets.push(Socket::Unix { listener, path, file: Some(file), require_token });
            }
        }
    }
    Ok(sockets)
}

/// Takes the sockets of the service manager in place of the `configured` addresses. Of those only `require_token` still counts, for
/// the Unix socket of the same path. Must be called within a tokio runtime.
pub fn take_over(activated: Vec<Activated>, configured: &[ListenAddress]) -> io::Result<Vec<Socket>> {
    let serve = |socket| match socket {
        Activated::Tcp(listener) => TcpListener::from_std(listener).map(Socket::Tcp),
        Activated::Unix(listener) => {
            let path = listener.local_addr()?.as_pathname().map(Path::to_owned);
            let asks = |address: &ListenAddress| match address {
                ListenAddress::Unix(socket) => socket.require_token && Some(&socket.path) == path.as_ref(),
                ListenAddress::Tcp { .. } => false,
            };
            // Without a file every user of this machine can connect.
            let require_token = path.is_none() || configured.iter().any(asks);
            let listener = UnixListener::from_std(listener)?;
            Ok(Socket::Unix { listener, path, file: None, require_token })
        }
    };
    activated.into_iter().map(serve).collect()
}

/// A name such as localhost can have several addresses, and not all need to exist on this machine. But if another program listens
/// on one of them, callers of the name would reach either program by chance.
async fn tcp(host: &str, addresses: impl IntoIterator<Item = SocketAddr>) -> io::Result<Vec<Socket>> {
    let (mut sockets, mut missing, mut seen) = (Vec::new(), Vec::new(), HashSet::new());
    // A hosts file may list an address twice.
    for address in addresses.into_iter().filter(|address| seen.insert(*address)) {
        match TcpListener::bind(address).await {
            Ok(listener) => sockets.push(Socket::Tcp(listener)),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => return Err(error),
            // Such as ::1 on a machine without IPv6.
            Err(error) => missing.push((address, error)),
        }
    }
    if sockets.is_empty() {
        let nothing = io::Error::new(io::ErrorKind::NotFound, "the host name has no address");
        return Err(missing.pop().map_or(nothing, |(_, error)| error));
    }
    for (address, error) in missing {
        warn!(%address, %error, "can't listen on {address}, one of the addresses of {host}: {error}");
    }
    Ok(sockets)
}

impl Socket {
    /// Whether callers need a token although the file's permissions decide who may connect.
    pub fn requires_token(&self) -> bool {
        matches!(self, Self::Unix { require_token: true, .. })
    }

    /// The listener as the access rules see it: by the address that it really listens on, not as it was written.
    pub fn open_listener(&self) -> Option<OpenListener> {
        match self {
            Self::Tcp(listener) => {
                let address = listener.local_addr();
                // An IPv4-mapped address (::ffff:127.0.0.1) is loopback, too. One that can't be read counts as open to the
                // network.
                let loopback =
                    address.as_ref().is_ok_and(|address| address.ip().to_canonical().is_loopback());
                (!loopback).then(|| OpenListener::Network(self.to_string()))
            }
            Self::Unix { .. } => self.requires_token().then(|| OpenListener::TokenRequired(self.to_string())),
        }
    }
}

impl fmt::Display for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(listener) => match listener.local_addr() {
                Ok(address) => address.fmt(f),
                Err(_) => f.write_str("a TCP socket"),
            },
            Self::Unix { path: Some(path), .. } => write!(f, "unix:{}", path.display()),
            Self::Unix { path: None, .. } => f.write_str("a Unix socket without a file"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::UnixSocket;
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    use tokio::net::UnixStream;

    #[tokio::test]
    async fn a_dead_socket_is_replaced_and_a_living_one_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let address = [ListenAddress::unix(path.to_str().unwrap()).unwrap()];
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        let living = bind(&address).await.unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let error = bind(&address).await.unwrap_err();
        assert_eq!(error.source.kind(), io::ErrorKind::AddrInUse);
        drop(living);
        assert!(!path.exists());
        fs::write(&path, "somebody's file").unwrap();
        assert!(bind(&address).await.is_err());
        assert_eq!(fs::read_to_string(&path).unwrap(), "somebody's file");
    }

    fn socket(path: &Path, mode: u32, group: Option<&str>) -> [ListenAddress; 1] {
        let group = group.map(str::to_owned);
        [ListenAddress::Unix(UnixSocket { path: path.to_owned(), mode, group, require_token: false })]
    }

    #[tokio::test]
    async fn a_socket_has_the_mode_and_group_that_were_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let metadata = || fs::metadata(&path).unwrap();
        let mine = rustix::process::getegid().as_raw();
        let name = nix::unistd::Group::from_gid(mine.into()).unwrap().unwrap().name;
        for (mode, group) in [(0o660, Some(name.as_str())), (0o666, Some(&*mine.to_string())), (0o600, None)]
        {
            let bound = bind(&socket(&path, mode, group)).await.unwrap();
            assert_eq!(metadata().permissions().mode() & 0o7777, mode);
            assert_eq!(metadata().gid(), mine);
            drop(bound);
        }
        let error = bind(&socket(&path, 0o660, Some("no-such-group"))).await.unwrap_err();
        assert!(error.source.to_string().contains("there is no group \"no-such-group\""), "{error:?}");
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_socket_that_is_another_ones_by_now_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let first = bind(&socket(&path, 0o600, None)).await.unwrap();
        fs::rename(&path, folder.path().join("aside")).unwrap();
        let _second = bind(&socket(&path, 0o600, None)).await.unwrap();
        drop(first);
        assert!(path.exists());
    }

    #[tokio::test]
    async fn of_many_that_find_a_dead_socket_one_gets_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        for _ in 0..20 {
            drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
            let address = socket(&path, 0o600, None);
            let all: Vec<_> = (0..8)
                .map(|_| {
                    let address = address.clone();
                    tokio::spawn(async move { bind(&address).await })
                })
                .collect();
            let mut bound = Vec::new();
            for one in all {
                bound.extend(one.await.unwrap());
            }
            assert_eq!(bound.len(), 1);
            assert!(UnixStream::connect(&path).await.is_ok());
        }
    }

    #[tokio::test]
    async fn the_address_really_listened_on_counts() {
        for (address, open) in
            [("127.0.0.1:0", false), ("[::1]:0", false), ("localhost:0", false), ("0.0.0.0:0", true)]
        {
            let sockets = bind(&[address.parse().unwrap()]).await.unwrap();
            assert!(sockets.iter().all(|socket| socket.open_listener().is_some() == open), "{address}");
        }
    }

    #[tokio::test]
    async fn what_is_taken_over_keeps_its_file_and_the_rules_count_for_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let unix = || {
            let _ = fs::remove_file(&path);
            let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
            listener.set_nonblocking(true).unwrap();
            Activated::Unix(listener)
        };
        let [ListenAddress::Unix(address)] = socket(&path, 0o600, None) else { unreachable!() };
        for require_token in [false, true] {
            let configured = ListenAddress::Unix(UnixSocket { require_token, ..address.clone() });
            let taken = take_over(vec![unix()], &[configured]).unwrap();
            assert_eq!(taken[0].to_string(), format!("unix:{}", path.display()));
            assert_eq!(taken[0].requires_token(), require_token);
            drop(taken);
            assert!(path.exists(), "it is the service manager's");
        }
        let name = <std::os::unix::net::SocketAddr as std::os::linux::net::SocketAddrExt>::from_abstract_name(
            path.as_os_str().as_encoded_bytes(),
        );
        let nameless = std::os::unix::net::UnixListener::bind_addr(&name.unwrap()).unwrap();
        nameless.set_nonblocking(true).unwrap();
        let taken = take_over(vec![Activated::Unix(nameless)], &[]).unwrap();
        assert!(taken[0].requires_token(), "it has no permissions");
        let open = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
        open.set_nonblocking(true).unwrap();
        let taken = take_over(vec![Activated::Tcp(open)], &["127.0.0.1:0".parse().unwrap()]).unwrap();
        assert!(taken[0].open_listener().is_some(), "what is configured does not count");
    }

    #[tokio::test]
    async fn of_a_name_addresses_may_be_missing_but_not_taken() {
        let free: SocketAddr = "127.0.0.1:0".parse().unwrap();
        // An address for documentation, which no machine has.
        let missing: SocketAddr = "192.0.2.1:4000".parse().unwrap();
        let other = TcpListener::bind(free).await.unwrap();
        let taken = other.local_addr().unwrap();
        assert_eq!(tcp("h", [missing, free, free]).await.unwrap().len(), 1);
        for addresses in [[free, taken], [taken, free]] {
            let error = tcp("h", addresses).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        }
        assert_eq!(tcp("h", [missing]).await.unwrap_err().kind(), io::ErrorKind::AddrNotAvailable);
        assert_eq!(tcp("h", []).await.unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[tokio::test]
    async fn every_tcp_address_is_listened_on() {
        let addresses: Vec<ListenAddress> =
            vec!["127.0.0.1:0".parse().unwrap(), "127.0.0.2:0".parse().unwrap()];
        let sockets = bind(&addresses).await.unwrap();
        assert_eq!(sockets.len(), 2);
        assert!(sockets[1].to_string().starts_with("127.0.0.2:"));
    }
}
