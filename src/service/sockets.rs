//! The sockets that are listened on.

use std::collections::HashSet;
use std::fmt;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tokio::net::{TcpListener, UnixListener, UnixStream, lookup_host};
use tracing::warn;

use crate::config::ListenAddress;

/// A socket that is listened on.
#[derive(Debug)]
pub enum Socket {
    /// A TCP socket.
    Tcp(TcpListener),
    /// A Unix stream socket, and its file.
    Unix(UnixListener, SocketFile),
}

/// The file of a Unix socket; removed when dropped.
#[derive(Debug)]
pub struct SocketFile(PathBuf);

/// An address cannot be listened on.
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
            ListenAddress::Unix(path) => sockets.push(unix(path).await.map_err(failed)?),
        }
    }
    Ok(sockets)
}

/// A name such as localhost can have several addresses, of which not all need to exist on this machine. But where one
/// is another program's, whoever calls the name would reach now us and now the other.
async fn tcp(host: &str, addresses: impl IntoIterator<Item = SocketAddr>) -> io::Result<Vec<Socket>> {
    let (mut sockets, mut missing, mut seen) = (Vec::new(), Vec::new(), HashSet::new());
    // A hosts file may give the same one twice.
    for address in addresses.into_iter().filter(|address| seen.insert(*address)) {
        match TcpListener::bind(address).await {
            Ok(listener) => sockets.push(Socket::Tcp(listener)),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => return Err(error),
            Err(error) => missing.push((address, error)),
        }
    }
    if sockets.is_empty() {
        let nothing = io::Error::new(io::ErrorKind::NotFound, "the host name has no address");
        return Err(missing.pop().map_or(nothing, |(_, error)| error));
    }
    for (address, error) in missing {
        warn!(%address, %error, "one of the addresses of {host} can't be listened on");
    }
    Ok(sockets)
}

async fn unix(path: &Path) -> io::Result<Socket> {
    let is_socket = fs::symlink_metadata(path).is_ok_and(|metadata| metadata.file_type().is_socket());
    if is_socket {
        // One that nobody answers on is left from a process that was killed.
        match UnixStream::connect(path).await {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path)?,
            _ => return Err(io::ErrorKind::AddrInUse.into()),
        }
    }
    let listener = UnixListener::bind(path)?;
    let file = SocketFile(path.to_owned());
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    Ok(Socket::Unix(listener, file))
}

impl fmt::Display for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(listener) => match listener.local_addr() {
                Ok(address) => address.fmt(f),
                Err(_) => f.write_str("a TCP socket"),
            },
            Self::Unix(_, file) => write!(f, "unix:{}", file.0.display()),
        }
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Left behind it is found to be dead at the next start.
        let _ = fs::remove_file(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_dead_socket_is_replaced_and_a_living_one_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let address = [ListenAddress::Unix(path.clone())];
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

    #[tokio::test]
    async fn of_a_name_addresses_may_be_missing_but_not_taken() {
        let free: SocketAddr = "127.0.0.1:0".parse().unwrap();
        // For documentation: no machine has it.
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
