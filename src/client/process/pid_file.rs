//! [`LockedPidFile`]: the pid for other programs, and by its lock the proof that no second client runs this
//! account.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, OFlags, flock};
use rustix::io::Errno;
use tracing::warn;

use crate::claim::{ClaimError, PathClaim};
use crate::files::{is_at, make_parent};

/// Why the account cannot be claimed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PidFileError {
    /// Another process holds the lock.
    #[error("another client runs this account already (the pid file {path:?} is locked{})", by(.pid))]
    Held {
        /// The pid file.
        path: PathBuf,
        /// The pid in the file, if there is one.
        pid: Option<u32>,
    },
    /// The file cannot be opened, locked or written.
    #[error("the pid file {0:?} cannot be used")]
    Io(PathBuf, #[source] io::Error),
    /// The path is not a regular file.
    #[error("the pid file {0:?} is not a regular file")]
    NotAFile(PathBuf),
}

fn by(pid: &Option<u32>) -> String {
    pid.map_or_else(String::new, |pid| format!(" by process {pid}"))
}

/// The locked pid file. Dropping it removes the file.
#[derive(Debug)]
pub(crate) struct LockedPidFile {
    path: PathBuf,
    // Holds the lock. The kernel releases it however the process ends, so a stale file locks no client out.
    file: File,
    // Keeps other clients out even while the file is removed.
    _claim: PathClaim,
}

impl LockedPidFile {
    /// Locks `path` and writes our pid to it.
    ///
    /// # Errors
    /// The lock is held, or the file cannot be used.
    pub(crate) fn acquire(path: &Path) -> Result<Self, PidFileError> {
        // Before the lock: if the file was removed, its lock would be free although another client runs.
        let claim = PathClaim::take(path).map_err(|error| match error {
            ClaimError::Held { pid } => PidFileError::Held { path: path.to_owned(), pid },
            ClaimError::Io(error) => PidFileError::Io(path.to_owned(), error),
        })?;
        Ok(Self { path: path.to_owned(), file: lock(path)?, _claim: claim })
    }

    /// Creates the file again if it was removed or replaced. Returns whether it was.
    ///
    /// # Errors
    /// It cannot be created, or another process has locked it.
    pub(crate) fn restore(&mut self) -> Result<bool, PidFileError> {
        let failed = |error| PidFileError::Io(self.path.clone(), error);
        if is_at(&self.file, &self.path).map_err(failed)? {
            return Ok(false);
        }
        // The folder may be gone with the file, as after a cleanup of /tmp.
        make_parent(&self.path).map_err(|error| failed(io::Error::other(error)))?;
        self.file = lock(&self.path)?;
        Ok(true)
    }
}

/// Opens the file, locks it and writes our pid to it.
fn lock(path: &Path) -> Result<File, PidFileError> {
    let failed = |error| PidFileError::Io(path.to_owned(), error);
    loop {
        let mut file = open(path)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => {
                let pid = read_pid(&mut file);
                return Err(PidFileError::Held { path: path.to_owned(), pid });
            }
            Err(errno) => return Err(failed(errno.into())),
        }
        // A client that ended between the open and the lock has removed the file. The lock is then on a file without
        // a name.
        if !is_at(&file, path).map_err(failed)? {
            continue;
        }
        // Truncated only under the lock: at the open it would erase the pid of a client that runs.
        file.set_len(0).map_err(failed)?;
        writeln!(file, "{}", std::process::id()).map_err(failed)?;
        return Ok(file);
    }
}

impl Drop for LockedPidFile {
    fn drop(&mut self) {
        if !is_at(&self.file, &self.path).unwrap_or(false) {
            // It was removed, and the path may belong to another process.
            return;
        }
        // Before the descriptor and its lock are closed: afterwards it might be the file of a successor.
        if let Err(error) = std::fs::remove_file(&self.path) {
            warn!("cannot remove the pid file {}: {error}", self.path.display());
        }
    }
}

fn open(path: &Path) -> Result<File, PidFileError> {
    // Other users may be able to write to the folder: no link is followed, and no pipe is waited for.
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o640).custom_flags(flags);
    let failed = |error| PidFileError::Io(path.to_owned(), error);
    let file = options.open(path).map_err(failed)?;
    if !file.metadata().map_err(failed)?.is_file() {
        return Err(PidFileError::NotAFile(path.to_owned()));
    }
    Ok(file)
}

fn read_pid(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    // Bounded, as the file may hold anything. A pid has at most 7 digits (pid_max in proc(5)).
    file.take(16).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pid_file_admits_one_client() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.pid");
        std::fs::write(&path, "a pid file that a killed client left behind, longer than ours\n").unwrap();
        let first = LockedPidFile::acquire(&path).unwrap();
        let own_pid = std::process::id();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), format!("{own_pid}\n"));
        let refused = LockedPidFile::acquire(&path).unwrap_err();
        assert!(matches!(&refused, PidFileError::Held { pid: Some(pid), .. } if *pid == own_pid));
        assert!(refused.to_string().ends_with(&format!("is locked by process {own_pid})")), "{refused}");
        drop(first);
        assert!(!path.exists());
        drop(LockedPidFile::acquire(&path).unwrap());
    }

    #[test]
    fn removed_pid_file_is_restored_and_stays_locked() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("folder/a.pid");
        std::fs::create_dir(path.parent().unwrap()).unwrap();
        let mut first = LockedPidFile::acquire(&path).unwrap();
        assert!(!first.restore().unwrap());
        std::fs::remove_file(&path).unwrap();
        assert!(matches!(LockedPidFile::acquire(&path), Err(PidFileError::Held { .. })));
        std::fs::remove_dir_all(path.parent().unwrap()).unwrap();
        assert!(first.restore().unwrap() && !first.restore().unwrap());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), format!("{}\n", std::process::id()));
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "another one's").unwrap();
        drop(first);
        assert!(path.exists());
    }

    #[test]
    fn pid_file_refuses_links_and_pipes() {
        let folder = tempfile::tempdir().unwrap();
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(folder.path().join("target"), &link).unwrap();
        assert!(matches!(LockedPidFile::acquire(&link), Err(PidFileError::Io(..))));
        assert!(!folder.path().join("target").exists());
        let pipe = folder.path().join("pipe");
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RWXU).unwrap();
        assert!(matches!(LockedPidFile::acquire(&pipe), Err(PidFileError::NotAFile(_))));
    }
}
