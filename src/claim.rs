//! [`PathClaim`]: the exclusive right to a path. It lasts as long as the process that holds it, also when the file is removed.
//!
//! A lock on a file goes with the file: a process that creates the file again gets a lock of its own. An abstract Unix socket
//! named after the path cannot be removed. But it belongs to the network namespace, which processes with other file systems can
//! share, and every user can bind its name. So a holder counts only if it sees the same folder and may use it.

use std::fs;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::{Path, PathBuf};

use ring::digest::{SHA256, digest};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with, sockopt};

/// The exclusive right to a path.
#[derive(Debug)]
pub struct PathClaim {
    /// None if the name is held by a process that does not count.
    _name: Option<UnixListener>,
}

/// Why a path can't be claimed.
#[derive(Debug, thiserror::Error)]
pub enum ClaimError {
    /// Another process has claimed it.
    #[error("another process has it")]
    Held {
        /// The pid of that process, where it is known.
        pid: Option<u32>,
    },
    /// The system refused.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl PathClaim {
    /// Claims the file at `path`. Its folder must exist; the file itself need not.
    ///
    /// # Errors
    /// Another process has claimed it, or the folder can't be looked up.
    pub fn take(path: &Path) -> Result<Self, ClaimError> {
        // Without links, so that two names of the same folder are one claim.
        let folder = fs::canonicalize(path.parent().unwrap_or(Path::new("/")))?;
        let name = name_of(&folder.join(path.file_name().unwrap_or_default()));
        let address = SocketAddr::from_abstract_name(&name)?;
        // Twice, because the holder may have ended between the two steps.
        for _ in 0..2 {
            match UnixListener::bind_addr(&address) {
                Ok(listener) => return Ok(Self { _name: Some(listener) }),
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
                Err(error) => return Err(error.into()),
            }
            if let Some(claim) = Self::beside(&holder(&name)?, &folder)? {
                return Ok(claim);
            }
        }
        // The name is bound, but its socket does not listen. Any user could lock the controller out that way, so it does not count.
        Ok(Self { _name: None })
    }

    /// The claim of a path whose name `holder` has; None where the name is free by now. An unknown holder does not count: every user
    /// of the machine can bind a name and fill its backlog, and the lock on the file itself still excludes a second process.
    fn beside(holder: &Holder, folder: &Path) -> Result<Option<Self>, ClaimError> {
        match *holder {
            Holder::Gone => Ok(None),
            Holder::Process { pid, user } if counts(pid, user, folder)? => {
                Err(ClaimError::Held { pid: Some(pid) })
            }
            Holder::Process { .. } | Holder::Elsewhere | Holder::Unknown => Ok(Some(Self { _name: None })),
        }
    }
}

fn name_of(path: &Path) -> Vec<u8> {
    // A digest, because a socket's name has at most 108 bytes (unix(7)) and a path can be longer.
    let digest = digest(&SHA256, path.as_os_str().as_bytes());
    let digits: String = digest.as_ref()[..16].iter().map(|byte| format!("{byte:02x}")).collect();
    format!("wqcontroller/{digits}").into_bytes()
}

/// The process that has bound a name.
enum Holder {
    /// None: it has ended.
    Gone,
    Process {
        pid: u32,
        user: u32,
    },
    /// A process in another pid namespace.
    Elsewhere,
    /// A process that cannot be identified, for example because its backlog is full.
    Unknown,
}

fn holder(name: &[u8]) -> io::Result<Holder> {
    // No holder ever accepts, so its backlog can be full, and a blocking connect(2) would wait for ever.
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    match connect(&socket, &SocketAddrUnix::new_abstract_name(name)?) {
        Ok(()) => {}
        Err(Errno::CONNREFUSED) => return Ok(Holder::Gone),
        // A full backlog, or a security module forbids it.
        Err(_) => return Ok(Holder::Unknown),
    }
    // The kernel gives the pid 0 for a process in another namespace.
    match sockopt::socket_peercred(&socket) {
        Ok(peer) if peer.pid.as_raw_nonzero().get() > 0 => Ok(Holder::Process {
            pid: peer.pid.as_raw_nonzero().get().unsigned_abs(),
            user: peer.uid.as_raw(),
        }),
        _ => Ok(Holder::Elsewhere),
    }
}

/// Whether a process of this user that has bound the name of a path in `folder` can use the path itself.
fn counts(pid: u32, user: u32, folder: &Path) -> io::Result<bool> {
    let here = fs::metadata(folder)?;
    // Root, our user and the owner can use the folder anyway. If every user counted, any of them could keep the controller from
    // starting.
    if ![0, rustix::process::geteuid().as_raw(), here.uid()].contains(&user) {
        return Ok(false);
    }
    // Through the root of that process: its root and its mounts may differ from ours.
    let mut there = PathBuf::from(format!("/proc/{pid}/root"));
    there.push(folder.strip_prefix("/").unwrap_or(folder));
    Ok(match fs::metadata(there) {
        Ok(there) => (there.dev(), there.ino()) == (here.dev(), here.ino()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => false,
        // A process of this user or root that may not be inspected.
        Err(_) => true,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claim_survives_recreated_folder() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("folder");
        let path = folder.join("registry");
        fs::create_dir(&folder).unwrap();
        let claim = PathClaim::take(&path).unwrap();
        fs::remove_dir_all(&folder).unwrap();
        assert!(matches!(PathClaim::take(&path), Err(ClaimError::Io(_))), "there is no folder");
        fs::create_dir(&folder).unwrap();
        let link = root.path().join("link");
        std::os::unix::fs::symlink(&folder, &link).unwrap();
        for path in [&path, &link.join("registry")] {
            let refused = PathClaim::take(path).unwrap_err();
            assert!(matches!(refused, ClaimError::Held { pid: Some(pid) } if pid == std::process::id()));
        }
        drop(PathClaim::take(&folder.join("other")).unwrap());
        drop(claim);
        PathClaim::take(&path).unwrap();
    }

    #[test]
    fn claim_ignores_holder_with_full_backlog() {
        let folder = tempfile::tempdir().unwrap();
        let here = fs::canonicalize(folder.path()).unwrap();
        let path = here.join("registry");
        let claim = PathClaim::take(&path).unwrap();
        let name = name_of(&path);
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let mut waiting = Vec::new();
        loop {
            let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).unwrap();
            match connect(&socket, &SocketAddrUnix::new_abstract_name(&name).unwrap()) {
                Ok(()) => waiting.push(socket),
                Err(Errno::AGAIN) => break,
                Err(error) => panic!("{error}"),
            }
        }
        let full = holder(&name).unwrap();
        assert!(matches!(full, Holder::Unknown));
        assert!(PathClaim::beside(&full, &here).unwrap().is_some_and(|claim| claim._name.is_none()));
        assert!(PathClaim::take(&path).is_ok(), "the lock of the file decides");
        drop(claim);
    }

    #[test]
    fn claim_ignores_socket_that_does_not_listen() {
        let folder = tempfile::tempdir().unwrap();
        let path = fs::canonicalize(folder.path()).unwrap().join("registry");
        let socket =
            socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None).unwrap();
        rustix::net::bind(&socket, &SocketAddrUnix::new_abstract_name(&name_of(&path)).unwrap()).unwrap();
        assert!(PathClaim::take(&path).is_ok_and(|claim| claim._name.is_none()));
    }

    #[test]
    fn claim_ignores_holder_without_access_to_path() {
        let folder = tempfile::tempdir().unwrap();
        let stranger = rustix::process::geteuid().as_raw() + 1;
        let here = fs::canonicalize(folder.path()).unwrap();
        let pid = std::process::id();
        assert!(!counts(pid, stranger, &here).unwrap(), "of another user");
        assert!(counts(pid, rustix::process::geteuid().as_raw(), &here).unwrap());
        assert!(counts(pid, 0, &here).unwrap());
    }
}
