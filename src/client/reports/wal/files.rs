//! The names of the log's files, and how they are opened: links are not followed, and nothing blocks.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, Mode, OFlags, flock};

use super::WalError;
use crate::files::private_folder;

const EXTENSION: &str = "reports";

/// Creates the folder if necessary, and locks it for the lifetime of the result.
pub(crate) fn lock(folder: &Path) -> Result<File, WalError> {
    let failed = |error: io::Error| WalError::Io(folder.to_owned(), error);
    private_folder(folder).map_err(WalError::Folder)?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let lock = rustix::fs::open(folder, flags, Mode::empty()).map_err(|errno| failed(errno.into()))?;
    let lock = File::from(lock);
    // The kernel drops the lock with the descriptor (flock(2)), so a killed client keeps no other out.
    match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(lock),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(WalError::Locked(folder.to_owned())),
        Err(errno) => Err(failed(errno.into())),
    }
}

/// Whether `path` still leads to `file`.
pub(crate) fn is_at(file: &File, path: &Path) -> bool {
    let Ok((ours, there)) = file.metadata().and_then(|ours| Ok((ours, fs::symlink_metadata(path)?))) else {
        return false;
    };
    (ours.dev(), ours.ino()) == (there.dev(), there.ino())
}

/// Whether the open file was removed: its content is lost once it is closed.
pub(crate) fn is_removed(file: &File) -> bool {
    file.metadata().is_ok_and(|metadata| metadata.nlink() == 0)
}

/// Opens an existing file for reading.
pub(crate) fn open_to_read(path: &Path) -> io::Result<File> {
    open(path, &mut OpenOptions::new())
}

/// Opens an existing file for reading and writing.
pub(crate) fn open_to_write(path: &Path) -> io::Result<File> {
    open(path, OpenOptions::new().write(true))
}

/// Creates a new private file.
pub(crate) fn create(path: &Path) -> io::Result<File> {
    open(path, OpenOptions::new().write(true).create_new(true).mode(0o600))
}

fn open(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    // Without O_NONBLOCK, opening a pipe for reading waits for its writer (open(2), fifo(7)).
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = options.read(true).custom_flags(flags.bits().cast_signed()).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it is no regular file"));
    }
    Ok(file)
}

/// The path of the segment with this number.
pub(crate) fn segment_path(folder: &Path, number: u64) -> PathBuf {
    folder.join(format!("{number:016}.{EXTENSION}"))
}

/// The numbers of the segments in `folder`, in order.
pub(crate) fn segment_numbers(folder: &Path) -> io::Result<Vec<u64>> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = PathBuf::from(entry?.file_name());
        if path.extension().is_some_and(|extension| extension == EXTENSION)
            && let Some(number) = path.file_stem().and_then(|stem| stem.to_str()?.parse().ok())
        {
            numbers.push(number);
        }
    }
    // readdir(3) has no order, and records have to come oldest first.
    numbers.sort_unstable();
    Ok(numbers)
}
