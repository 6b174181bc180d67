//! From a folder to the stream.

use std::fs::{self, File, Metadata};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use tar::{Builder, EntryType, Header};

use super::{Amount, ArchiveError, END};

/// Writes all that is in a folder: files, folders and links, which are not followed. Sockets and the like mean nothing elsewhere; a line
/// on standard error names each that is left out.
///
/// # Errors
/// A file can't be read, or the stream breaks. What was written then has no end.
pub fn pack(folder: &Path, output: impl Write) -> Result<Amount, ArchiveError> {
    let mut packer = Packer { builder: Builder::new(output), root: folder, amount: Amount::default() };
    packer.folder(Path::new(""))?;
    let Packer { mut builder, amount, .. } = packer;
    let said = amount.entries.to_string();
    let mut header = header_of(EntryType::Regular, 0o600, 0);
    header.set_size(said.len() as u64);
    builder.append_data(&mut header, END, said.as_bytes()).map_err(ArchiveError::Stream)?;
    let mut output = builder.into_inner().map_err(ArchiveError::Stream)?;
    output.flush().map_err(ArchiveError::Stream)?;
    Ok(amount)
}

struct Packer<'a, W: Write> {
    builder: Builder<W>,
    root: &'a Path,
    amount: Amount,
}

impl<W: Write> Packer<'_, W> {
    /// Writes what is in a folder below the root. Folders come before what is in them.
    fn folder(&mut self, top: &Path) -> Result<(), ArchiveError> {
        // A list and no recursion: the depth is the account's choice.
        let mut folders = vec![top.to_owned()];
        while let Some(folder) = folders.pop() {
            let path = self.root.join(&folder);
            let failed = |error| ArchiveError::File(path.clone(), error);
            for entry in fs::read_dir(&path).map_err(failed)? {
                let entry = entry.map_err(failed)?;
                let inside = folder.join(entry.file_name());
                if self.entry(&inside)? {
                    folders.push(inside);
                }
            }
        }
        Ok(())
    }

    /// Writes an entry. Returns whether it is a folder.
    fn entry(&mut self, inside: &Path) -> Result<bool, ArchiveError> {
        let path = self.root.join(inside);
        let failed = |error| ArchiveError::File(path.clone(), error);
        let there = path.symlink_metadata().map_err(failed)?;
        let kind = there.file_type();
        let written = if kind.is_dir() {
            // Its owner has to be able to unpack what is in it.
            let mut header = header_of(EntryType::Directory, there.mode() | 0o700, mtime(&there));
            self.builder.append_data(&mut header, inside, io::empty())
        } else if kind.is_symlink() {
            let target: PathBuf = fs::read_link(&path).map_err(failed)?;
            let mut header = header_of(EntryType::Symlink, 0o777, mtime(&there));
            self.builder.append_link(&mut header, inside, target)
        } else if kind.is_file() {
            return self.file(inside, &path).map(|()| false);
        } else {
            eprintln!("left out: {} is no file", inside.display());
            return Ok(false);
        };
        written.map_err(ArchiveError::Stream)?;
        self.amount.entries += 1;
        Ok(kind.is_dir())
    }

    fn file(&mut self, inside: &Path, path: &Path) -> Result<(), ArchiveError> {
        let failed = |error| ArchiveError::File(path.to_owned(), error);
        // The file may have been replaced by a link or a pipe since it was listed.
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let mut options = File::options();
        let flags = i32::try_from(flags.bits()).unwrap_or_default();
        let file = options.read(true).custom_flags(flags).open(path).map_err(failed)?;
        let there = file.metadata().map_err(failed)?;
        let mut header = header_of(EntryType::Regular, there.mode(), mtime(&there));
        header.set_size(there.len());
        let content = Whole { rest: there.len(), file };
        self.builder.append_data(&mut header, inside, content).map_err(failed)?;
        self.amount.entries += 1;
        self.amount.bytes += there.len();
        Ok(())
    }
}

fn header_of(kind: EntryType, mode: u32, mtime: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode & 0o777);
    header.set_mtime(mtime);
    header.set_size(0);
    header
}

fn mtime(there: &Metadata) -> u64 {
    // A time before 1970 is no time of these files.
    u64::try_from(there.mtime()).unwrap_or_default()
}

/// As much of a file as its header says. One that has become shorter is an error: the next header would be read as its content.
struct Whole {
    file: File,
    rest: u64,
}

impl Read for Whole {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.rest == 0 {
            return Ok(0);
        }
        let most = usize::try_from(self.rest).unwrap_or(usize::MAX).min(buffer.len());
        let read = self.file.read(buffer.get_mut(..most).unwrap_or_default())?;
        if read == 0 && most > 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it became shorter meanwhile"));
        }
        self.rest -= read as u64;
        Ok(read)
    }
}
