//! [`SocketFile`]: the file of a Unix socket that the controller makes.

use std::fs;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::Path;
use std::time::Duration;

use rustix::fs::{AtFlags, FlockOperation, Gid, Mode, OFlags};
use rustix::process::umask;
use tokio::net::{UnixListener, UnixStream};
use tokio::time::timeout;

use crate::config::UnixSocket;

/// How long to wait for other processes that change sockets in the same folder.
const TURN: Duration = Duration::from_secs(10);

/// The file of a Unix socket. Dropping it removes the file, unless another process has replaced it.
#[derive(Debug)]
pub struct SocketFile {
    address: UnixSocket,
    /// Device and inode. None while the file is not there.
    identity: Option<(u64, u64)>,
}

impl SocketFile {
    fn new(address: &UnixSocket) -> io::Result<Self> {
        Ok(Self { identity: Some(identity(&address.path)?), address: address.clone() })
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.address.path
    }

    /// Whether the file was removed, so that no caller can connect.
    pub fn is_removed(&self) -> bool {
        fs::symlink_metadata(self.path()).is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
    }

    /// Listens again at the same path, with the same permissions.
    ///
    /// # Errors
    /// The socket cannot be made; the folder may be gone, too.
    pub async fn remake(&mut self) -> io::Result<UnixListener> {
        // The new file may get the inode of the old one.
        self.identity = None;
        let (listener, mut file) = open(&self.address).await?;
        // Taken, so that dropping `file` does not remove what was just made.
        self.identity = file.identity.take();
        Ok(listener)
    }

    /// Sets the group and the permissions of the file, by a descriptor, so that a file put in its place does not get them.
    fn open_to(&self, mode: u32, group: Option<Gid>) -> io::Result<()> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::open(self.path(), flags, Mode::empty())?;
        if let Some(group) = group {
            rustix::fs::chownat(&file, "", None, Some(group), AtFlags::EMPTY_PATH)?;
        }
        // A descriptor with O_PATH has no fchmod(2), but its name in /proc has (open(2), "O_PATH").
        let name = format!("/proc/self/fd/{}", file.as_raw_fd());
        fs::set_permissions(name, fs::Permissions::from_mode(mode))
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if self.identity.is_some() && identity(self.path()).ok() == self.identity {
            // A file that stays is found to be dead at the next start.
            let _ = fs::remove_file(self.path());
        }
    }
}

/// Opens a Unix socket. Until its permissions are set, only our own user can connect.
pub(super) async fn open(address: &UnixSocket) -> io::Result<(UnixListener, SocketFile)> {
    let path = &address.path;
    let group = address.group.as_deref().map(group_id).transpose()?;
    // Under a lock: a process that finds a dead socket removes it, which by then could be the new one of another process.
    let _turn = turn(path).await?;
    let is_socket = fs::symlink_metadata(path).is_ok_and(|metadata| metadata.file_type().is_socket());
    if is_socket {
        // A socket that refuses connections is left from a process that was killed.
        match UnixStream::connect(path).await {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path)?,
            _ => return Err(io::ErrorKind::AddrInUse.into()),
        }
    }
    // The umask is the whole process's, but this one only takes rights away, and only from other users.
    let usual = umask(Mode::RWXG | Mode::RWXO);
    let bound = UnixListener::bind(path);
    umask(usual);
    let listener = bound?;
    let file = SocketFile::new(address)?;
    file.open_to(address.mode, group)?;
    Ok((listener, file))
}

/// Locks the folder of `path` against other processes that change sockets there, until the result is dropped.
async fn turn(path: &Path) -> io::Result<fs::File> {
    let folder = fs::File::open(path.parent().unwrap_or(Path::new("/")))?;
    let lock = tokio::task::spawn_blocking(move || {
        rustix::fs::flock(&folder, FlockOperation::LockExclusive).map(|()| folder)
    });
    // The thread goes on waiting after that, and lets go of the lock as soon as it has it.
    match timeout(TURN, lock).await {
        Ok(Ok(locked)) => Ok(locked?),
        Ok(Err(error)) => Err(io::Error::other(error)),
        Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "another program keeps its folder locked")),
    }
}

/// The ID of a group that is given by name or number.
fn group_id(group: &str) -> io::Result<Gid> {
    if let Ok(number) = group.parse() {
        return Ok(Gid::from_raw(number));
    }
    match nix::unistd::Group::from_name(group)? {
        Some(found) => Ok(Gid::from_raw(found.gid.as_raw())),
        None => Err(io::Error::new(io::ErrorKind::NotFound, format!("there is no group {group:?}"))),
    }
}

/// The device and inode of a file.
fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let metadata = fs::symlink_metadata(path)?;
    Ok((metadata.dev(), metadata.ino()))
}
