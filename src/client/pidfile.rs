//! [`PidFile`]: our pid for others to read, and by its lock the proof that no second client runs this account.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, OFlags, flock};
use rustix::io::Errno;
use tracing::warn;

/// Why this account cannot be ours.
#[derive(Debug, thiserror::Error)]
pub(super) enum PidFileError {
    /// A process holds the lock: its pid, if the file has one.
    #[error("another client runs this account already (the pid file {path:?} is locked{})", by(.pid))]
    Held {
        /// The pid file.
        path: PathBuf,
        /// What stands in it.
        pid: Option<u32>,
    },
    /// The file cannot be opened, locked or written.
    #[error("the pid file {0:?} cannot be used")]
    Io(PathBuf, #[source] io::Error),
    /// The place is taken by something that is no file.
    #[error("the pid file {0:?} is not a regular file")]
    NotAFile(PathBuf),
}

fn by(pid: &Option<u32>) -> String {
    pid.map_or_else(String::new, |pid| format!(" by process {pid}"))
}

/// The pid file, locked. Dropped, it is removed.
#[derive(Debug)]
pub(super) struct PidFile {
    path: PathBuf,
    // Holds the lock. The kernel releases it however we end, so a file that was left behind locks nobody out.
    _file: File,
}

impl PidFile {
    /// Locks `path` and writes our pid to it.
    ///
    /// # Errors
    /// The lock is held, or the file cannot be used.
    pub(super) fn take(path: &Path) -> Result<Self, PidFileError> {
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
            // A client that ended between our opening and our locking has removed the file: the lock we have
            // is then on a file that nobody else will find.
            if !is_at(&file, path).map_err(failed)? {
                continue;
            }
            file.set_len(0).map_err(failed)?;
            writeln!(file, "{}", std::process::id()).map_err(failed)?;
            return Ok(Self { path: path.to_owned(), _file: file });
        }
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        // Before the lock goes with the descriptor: afterwards it could be a successor's file.
        if let Err(error) = std::fs::remove_file(&self.path) {
            warn!(path = %self.path.display(), %error, "The pid file cannot be removed.");
        }
    }
}

fn open(path: &Path) -> Result<File, PidFileError> {
    // The folder may be one where everybody writes: no link is followed, no pipe waited for.
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

fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    let ours = file.metadata()?;
    match std::fs::symlink_metadata(path) {
        Ok(found) => Ok((found.dev(), found.ino()) == (ours.dev(), ours.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

fn read_pid(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.take(16).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.pid");
        std::fs::write(&path, "a pid file that a killed client left behind, longer than ours\n").unwrap();
        let first = PidFile::take(&path).unwrap();
        let own_pid = std::process::id();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), format!("{own_pid}\n"));
        let refused = PidFile::take(&path).unwrap_err();
        assert!(matches!(&refused, PidFileError::Held { pid: Some(pid), .. } if *pid == own_pid));
        assert!(refused.to_string().ends_with(&format!("is locked by process {own_pid})")), "{refused}");
        drop(first);
        assert!(!path.exists());
        drop(PidFile::take(&path).unwrap());
    }

    #[test]
    fn neither_links_nor_pipes() {
        let folder = tempfile::tempdir().unwrap();
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(folder.path().join("target"), &link).unwrap();
        assert!(matches!(PidFile::take(&link), Err(PidFileError::Io(..))));
        assert!(!folder.path().join("target").exists());
        let pipe = folder.path().join("pipe");
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RWXU).unwrap();
        assert!(matches!(PidFile::take(&pipe), Err(PidFileError::NotAFile(_))));
    }
}
