//! The sockets that are listened on.

use std::collections::HashSet;
use std::fmt;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{AtFlags, FlockOperation, Gid, Mode, OFlags};
use rustix::process::umask;
use tokio::net::{TcpListener, UnixListener, UnixStream, lookup_host};
use tokio::time::timeout;
use tracing::warn;

use super::activation::Activated;
use crate::config::{ListenAddress, OpenListener, UnixSocket};

/// A socket that is listened on.
#[derive(Debug)]
pub enum Socket {
    /// A TCP socket.
    Tcp(TcpListener),
    /// A Unix stream socket.
    Unix {
        /// It.
        listener: UnixListener,
        /// Where it is; none where it has no file, and so no permissions.
        path: Option<PathBuf>,
        /// Its file, if that is ours to remove.
        file: Option<SocketFile>,
        /// Whether its callers have to show a token.
        require_token: bool,
    },
}

/// The file of a Unix socket; removed when dropped, if it is still ours.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    /// Device and inode.
    identity: (u64, u64),
}

/// How long we wait for others who change sockets in the same folder.
const TURN: Duration = Duration::from_secs(10);

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
            ListenAddress::Unix(socket) => sockets.push(unix(socket).await.map_err(failed)?),
        }
    }
    Ok(sockets)
}

/// What the service manager listens on already, to be served in the place of `configured` addresses. Of these only
/// `require_token` still counts, for the Unix socket of the same path. Must be called within a tokio runtime.
pub fn take_over(activated: Vec<Activated>, configured: &[ListenAddress]) -> io::Result<Vec<Socket>> {
    let serve = |socket| match socket {
        Activated::Tcp(listener) => TcpListener::from_std(listener).map(Socket::Tcp),
        Activated::Unix(listener) => {
            let path = listener.local_addr()?.as_pathname().map(Path::to_owned);
            let asks = |address: &ListenAddress| match address {
                ListenAddress::Unix(socket) => socket.require_token && Some(&socket.path) == path.as_ref(),
                ListenAddress::Tcp { .. } => false,
            };
            // Without a file everybody on this machine reaches it.
            let require_token = path.is_none() || configured.iter().any(asks);
            let listener = UnixListener::from_std(listener)?;
            Ok(Socket::Unix { listener, path, file: None, require_token })
        }
    };
    activated.into_iter().map(serve).collect()
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

/// Opens a Unix socket. In the moment between its making and its permissions nobody but our user can connect.
async fn unix(address: &UnixSocket) -> io::Result<Socket> {
    let path = &address.path;
    let group = address.group.as_deref().map(group_id).transpose()?;
    // Only one at a time: who finds a dead socket removes it, which by then could be the new one of another.
    let _turn = turn(path).await?;
    let is_socket = fs::symlink_metadata(path).is_ok_and(|metadata| metadata.file_type().is_socket());
    if is_socket {
        // One that nobody answers on is left from a process that was killed.
        match UnixStream::connect(path).await {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path)?,
            _ => return Err(io::ErrorKind::AddrInUse.into()),
        }
    }
    // For the whole process, but it only ever takes rights away, and only those of others.
    let usual = umask(Mode::RWXG | Mode::RWXO);
    let bound = UnixListener::bind(path);
    umask(usual);
    let listener = bound?;
    let file = SocketFile::new(path)?;
    file.open_to(address.mode, group)?;
    let require_token = address.require_token;
    Ok(Socket::Unix { listener, path: Some(path.clone()), file: Some(file), require_token })
}

/// Waits for the right to change sockets in the folder of `path`; it lasts as long as what is returned.
async fn turn(path: &Path) -> io::Result<fs::File> {
    let folder = fs::File::open(path.parent().unwrap_or(Path::new("/")))?;
    let lock = tokio::task::spawn_blocking(move || {
        rustix::fs::flock(&folder, FlockOperation::LockExclusive).map(|()| folder)
    });
    match timeout(TURN, lock).await {
        Ok(Ok(locked)) => Ok(locked?),
        Ok(Err(error)) => Err(io::Error::other(error)),
        Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "another program keeps its folder locked")),
    }
}

/// The number of a group, which may be given as such.
fn group_id(group: &str) -> io::Result<Gid> {
    if let Ok(number) = group.parse() {
        return Ok(Gid::from_raw(number));
    }
    match nix::unistd::Group::from_name(group)? {
        Some(found) => Ok(Gid::from_raw(found.gid.as_raw())),
        None => Err(io::Error::new(io::ErrorKind::NotFound, format!("there is no group {group:?}"))),
    }
}

impl SocketFile {
    fn new(path: &Path) -> io::Result<Self> {
        let metadata = fs::symlink_metadata(path)?;
        Ok(Self { path: path.to_owned(), identity: (metadata.dev(), metadata.ino()) })
    }

    /// Gives the file its group and permissions. By a descriptor, so that nothing else put in its place gets them.
    fn open_to(&self, mode: u32, group: Option<Gid>) -> io::Result<()> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::open(&self.path, flags, Mode::empty())?;
        if let Some(group) = group {
            rustix::fs::chownat(&file, "", None, Some(group), AtFlags::EMPTY_PATH)?;
        }
        // A descriptor with O_PATH has no fchmod(2), but its name in /proc has (open(2), "O_PATH").
        let name = format!("/proc/self/fd/{}", file.as_raw_fd());
        fs::set_permissions(name, fs::Permissions::from_mode(mode))
    }
}

impl Socket {
    /// Whether its callers have to show a token where its file would decide.
    pub fn requires_token(&self) -> bool {
        matches!(self, Self::Unix { require_token: true, .. })
    }

    /// What must be so before it may be served: the address really listened on counts, not how it was written.
    pub fn open_listener(&self) -> Option<OpenListener> {
        match self {
            Self::Tcp(listener) => {
                let address = listener.local_addr();
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

impl Drop for SocketFile {
    fn drop(&mut self) {
        let ours = fs::symlink_metadata(&self.path)
            .is_ok_and(|metadata| (metadata.dev(), metadata.ino()) == self.identity);
        if ours {
            // Left behind it is found to be dead at the next start.
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
