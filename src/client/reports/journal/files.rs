//! The names of a journal's files, and how they are opened: whatever stands at a name, nothing is followed and nothing
//! blocks.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, Mode, OFlags, flock};

use super::JournalError;
use crate::files::private_folder;

const EXTENSION: &str = "reports";

/// Makes the folder if need be, and locks it for as long as the file lives.
pub(super) fn lock(folder: &Path) -> Result<File, JournalError> {
    let failed = |error: io::Error| JournalError::Io(folder.to_owned(), error);
    private_folder(folder).map_err(JournalError::Folder)?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let lock = rustix::fs::open(folder, flags, Mode::empty()).map_err(|errno| failed(errno.into()))?;
    let lock = File::from(lock);
    match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(lock),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(JournalError::Locked(folder.to_owned())),
        Err(errno) => Err(failed(errno.into())),
    }
}

/// Whether `file` is what `path` leads to.
pub(super) fn is_at(file: &File, path: &Path) -> bool {
    let Ok((ours, there)) = file.metadata().and_then(|ours| Ok((ours, fs::symlink_metadata(path)?))) else {
        return false;
    };
    (ours.dev(), ours.ino()) == (there.dev(), there.ino())
}

/// Whether somebody removed the file while it is open: what is written to it now is gone with its last descriptor.
pub(super) fn is_removed(file: &File) -> bool {
    file.metadata().is_ok_and(|metadata| metadata.nlink() == 0)
}

/// Opens a file that is there to read it.
pub(super) fn open_to_read(path: &Path) -> io::Result<File> {
    open(path, &mut OpenOptions::new())
}

/// Opens a file that is there to read and write it.
pub(super) fn open_to_write(path: &Path) -> io::Result<File> {
    open(path, OpenOptions::new().write(true))
}

/// Makes a file that is not there yet, for us alone.
pub(super) fn create(path: &Path) -> io::Result<File> {
    open(path, OpenOptions::new().write(true).create_new(true).mode(0o600))
}

fn open(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = options.read(true).custom_flags(flags.bits().cast_signed()).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it is no regular file"));
    }
    Ok(file)
}

/// The path of the segment with this number.
pub(super) fn segment_path(folder: &Path, number: u64) -> PathBuf {
    folder.join(format!("{number:016}.{EXTENSION}"))
}

/// The numbers of the segments in `folder`, in order.
pub(super) fn segment_numbers(folder: &Path) -> io::Result<Vec<u64>> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = PathBuf::from(entry?.file_name());
        if path.extension().is_some_and(|extension| extension == EXTENSION)
            && let Some(number) = path.file_stem().and_then(|stem| stem.to_str()?.parse().ok())
        {
            numbers.push(number);
        }
    }
    numbers.sort_unstable();
    Ok(numbers)
}
