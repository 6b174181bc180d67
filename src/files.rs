//! Files that other users can change: reading them follows no link, never blocks, and is limited in size. `trust` checks folders
//! and programs that the controller trusts.

mod trust;

use std::fs::{self, File, Metadata, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use tempfile::NamedTempFile;

pub use trust::{check_trusted, inside, private_folder};

/// Why a file or folder is not used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The system call failed.
    #[error("{}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Not a regular file: a link, a pipe, a device, a folder.
    #[error("{}: not a regular file", path.display())]
    NotRegular {
        /// The file.
        path: PathBuf,
    },
    /// It belongs to another user.
    #[error("{}: owned by user {owner}, not by user {wanted}", path.display())]
    WrongOwner {
        /// The file or folder.
        path: PathBuf,
        /// Its owner.
        owner: u32,
        /// The expected owner.
        wanted: u32,
    },
    /// It is larger than the limit.
    #[error("{}: larger than {limit} bytes", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The limit in bytes.
        limit: u64,
    },
    /// Other users can change a trusted file or folder.
    #[error("{}: others may write it (mode {mode:04o}); run chmod go-w on it", path.display())]
    Writable {
        /// The file or folder.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// Other users can read or change a private file or folder.
    #[error("{}: not private (mode {mode:04o}); run chmod go= on it", path.display())]
    NotPrivate {
        /// The file or folder.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// It lies outside of the allowed folders.
    #[error("{}: outside of {allowed}", path.display())]
    Outside {
        /// The path.
        path: PathBuf,
        /// The allowed folders.
        allowed: String,
    },
    /// The path is relative or contains `..`.
    #[error("{path:?}: must be an absolute path without `..`")]
    Relative {
        /// The path.
        path: PathBuf,
    },
}

impl FileError {
    fn io(path: &Path, source: impl Into<io::Error>) -> Self {
        Self::Io { path: path.to_owned(), source: source.into() }
    }

    /// Whether the file does not exist.
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }
}

/// The metadata that changes with the content of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fingerprint {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Fingerprint {
    fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            // The owner can set mtime, but not ctime (inode(7)).
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    /// When the content was written last, in Unix seconds.
    pub fn written(&self) -> u64 {
        u64::try_from(self.modified.0).unwrap_or(0)
    }

    /// The fingerprint of the file at `path`, if there is one. A link is not followed.
    pub fn at(path: &Path) -> Option<Self> {
        fs::symlink_metadata(path).ok().map(|metadata| Self::of(&metadata))
    }

    /// The fingerprint of the file to which `path` leads, if there is one. Links are followed.
    pub fn behind(path: &Path) -> Option<Self> {
        fs::metadata(path).ok().map(|metadata| Self::of(&metadata))
    }
}

/// Who must own a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FileOwner {
    /// This user.
    User(u32),
    /// The owner of this folder. For the folders of units, which systemd gives to the user of the unit.
    SameAsFolder(PathBuf),
    /// Any user: the content is only shown, never trusted.
    Any,
}

impl FileOwner {
    /// The user of this process.
    pub fn me() -> Self {
        Self::User(rustix::process::geteuid().as_raw())
    }

    fn uid(&self) -> Result<Option<u32>, FileError> {
        match self {
            Self::User(uid) => Ok(Some(*uid)),
            Self::Any => Ok(None),
            // Asked each time: with `DynamicUser=` a unit may have another user at its next start (systemd.exec(5)).
            Self::SameAsFolder(folder) => fs::symlink_metadata(folder)
                .map(|found| Some(found.uid()))
                .map_err(|source| FileError::io(folder, source)),
        }
    }
}

/// Reads a file that a client wrote: a regular file of its `owner`, at most `limit` bytes. Follows no link in the last component,
/// and does not block, whatever the client puts there.
pub fn read_untrusted(
    path: &Path,
    owner: &FileOwner,
    limit: u64,
) -> Result<(Vec<u8>, Fingerprint), FileError> {
    // NONBLOCK: opening a pipe waits for its writer otherwise. NOCTTY: a terminal must not become ours (open(2)).
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    let fd = rustix::fs::open(path, flags, Mode::empty()).map_err(|errno| match errno {
        // The errors for a link with O_NOFOLLOW, and for a socket.
        rustix::io::Errno::LOOP | rustix::io::Errno::NXIO => FileError::NotRegular { path: path.to_owned() },
        other => FileError::io(path, other),
    })?;
    let file = File::from(fd);
    // Of the open file and not of the path, which may lead to another file by now.
    let metadata = file.metadata().map_err(|source| FileError::io(path, source))?;
    if !metadata.is_file() {
        return Err(FileError::NotRegular { path: path.to_owned() });
    }
    if let Some(wanted) = owner.uid()?
        && metadata.uid() != wanted
    {
        return Err(FileError::WrongOwner { path: path.to_owned(), owner: metadata.uid(), wanted });
    }
    // The size is only a hint, as the client may be writing. One byte more than the limit shows that there is more.
    let mut content = Vec::with_capacity(usize::try_from(metadata.size().min(limit)).unwrap_or(0) + 1);
    (&file).take(limit + 1).read_to_end(&mut content).map_err(|source| FileError::io(path, source))?;
    if content.len() as u64 > limit {
        return Err(FileError::TooLarge { path: path.to_owned(), limit });
    }
    Ok((content, Fingerprint::of(&metadata)))
}

/// Opens a regular file to read it. Follows links, and does not block on a pipe.
pub fn open_regular(path: &Path) -> Result<(File, Metadata), FileError> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file =
        File::from(rustix::fs::open(path, flags, Mode::empty()).map_err(|errno| FileError::io(path, errno))?);
    let metadata = file.metadata().map_err(|source| FileError::io(path, source))?;
    match metadata.is_file() {
        true => Ok((file, metadata)),
        false => Err(FileError::NotRegular { path: path.to_owned() }),
    }
}

/// Reads a secret of at most `limit` bytes from a regular file of this user or root. With `private`, no other user may have access to
/// it. Links are followed, because the operator has chosen the path.
pub fn read_secret(path: &Path, private: bool, limit: u64) -> Result<Vec<u8>, FileError> {
    let (file, metadata) = open_regular(path)?;
    let me = rustix::process::geteuid().as_raw();
    // The owner can change its content and its mode at any time.
    if metadata.uid() != 0 && metadata.uid() != me {
        return Err(FileError::WrongOwner { path: path.to_owned(), owner: metadata.uid(), wanted: me });
    }
    if private && metadata.mode() & 0o077 != 0 {
        return Err(FileError::NotPrivate { path: path.to_owned(), mode: metadata.mode() & 0o7777 });
    }
    let mut content = Vec::new();
    file.take(limit + 1).read_to_end(&mut content).map_err(|source| FileError::io(path, source))?;
    if content.len() as u64 > limit {
        return Err(FileError::TooLarge { path: path.to_owned(), limit });
    }
    Ok(content)
}

/// Makes the parent folder of `path`, with mode 0700, if it does not exist.
pub fn make_parent(path: &Path) -> Result<(), FileError> {
    let Some(folder) = path.parent() else { return Ok(()) };
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.map_err(|source| FileError::io(folder, source))
}

/// Whether the file at `path` is still the open one. A link is not followed.
pub fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    let ours = file.metadata()?;
    match fs::symlink_metadata(path) {
        // An inode number is unique within its file system only.
        Ok(found) => Ok((found.dev(), found.ino()) == (ours.dev(), ours.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Replaces the file at `path` atomically, with this mode: a reader sees the old content or the new. Does not sync to disk.
pub fn replace(path: &Path, content: &[u8], mode: u32) -> Result<(), FileError> {
    let write = || {
        // In the same folder, since rename(2) works within one file system. A path without a folder has an empty parent.
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let file = temporary_in(folder)?;
        file.as_file().write_all(content)?;
        // Not at creation, because the umask would apply.
        file.as_file().set_permissions(Permissions::from_mode(mode))?;
        file.persist(path)?;
        Ok::<_, io::Error>(())
    };
    write().map_err(|source| FileError::io(path, source))
}

/// A new file, to be given its name once it is written. Its errors are the system's: those of the library name the temporary
/// path, which says nothing and is another one each time.
pub fn temporary_in(folder: &Path) -> io::Result<NamedTempFile> {
    // 0600 from the beginning: the content may be secret before the file has its final mode.
    let create = |path: &Path| File::options().write(true).create_new(true).mode(0o600).open(path);
    tempfile::Builder::new().prefix(".wqcontroller-").make_in(folder, create)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::error_chain::ErrorChain;
    use std::os::unix::fs::symlink;

    #[test]
    fn error_of_replace_names_no_temporary_file() {
        let folder = tempfile::tempdir().unwrap();
        let error = replace(&folder.path().join("missing/file"), b"", 0o600).unwrap_err();
        assert!(!ErrorChain(&error).to_string().contains(".wqcontroller-"), "{error:?}");
    }

    fn me() -> u32 {
        rustix::process::geteuid().as_raw()
    }

    #[test]
    fn untrusted_read_takes_only_regular_file_of_owner() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::write(path("good"), "content").unwrap();
        let owner = FileOwner::me();
        assert_eq!(read_untrusted(&path("good"), &owner, 7).unwrap().0, b"content");
        assert!(matches!(read_untrusted(&path("good"), &owner, 6), Err(FileError::TooLarge { .. })));
        assert!(matches!(
            read_untrusted(&path("good"), &FileOwner::User(me() + 1), 7),
            Err(FileError::WrongOwner { .. })
        ));
        symlink(path("good"), path("link")).unwrap();
        assert!(matches!(read_untrusted(&path("link"), &owner, 7), Err(FileError::NotRegular { .. })));
        rustix::fs::mkfifoat(rustix::fs::CWD, path("pipe"), Mode::RUSR | Mode::WUSR).unwrap();
        assert!(matches!(read_untrusted(&path("pipe"), &owner, 7), Err(FileError::NotRegular { .. })));
        let _socket = std::os::unix::net::UnixListener::bind(path("socket")).unwrap();
        assert!(matches!(read_untrusted(&path("socket"), &owner, 7), Err(FileError::NotRegular { .. })));
        assert!(matches!(read_untrusted(folder.path(), &owner, 7), Err(FileError::NotRegular { .. })));
        assert!(read_untrusted(&path("none"), &owner, 7).unwrap_err().is_missing());
    }

    #[test]
    fn secret_must_be_private() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        fs::write(&path, "secret").unwrap();
        let read = |mode, private| {
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            read_secret(&path, private, 6)
        };
        assert_eq!(read(0o600, true).unwrap(), b"secret");
        assert_eq!(read(0o440, false).unwrap(), b"secret");
        assert!(matches!(read(0o640, true), Err(FileError::NotPrivate { mode: 0o640, .. })));
        assert!(matches!(read(0o604, true), Err(FileError::NotPrivate { .. })));
        assert!(matches!(read_secret(&path, false, 5), Err(FileError::TooLarge { .. })));
        symlink(&path, folder.path().join("link")).unwrap();
        assert!(matches!(
            read_secret(&folder.path().join("link"), true, 6),
            Err(FileError::NotPrivate { .. })
        ));
        rustix::fs::mkfifoat(rustix::fs::CWD, folder.path().join("pipe"), Mode::RUSR).unwrap();
        assert!(matches!(
            read_secret(&folder.path().join("pipe"), true, 6),
            Err(FileError::NotRegular { .. })
        ));
        if me() == 0 {
            std::os::unix::fs::chown(&path, Some(1), None).unwrap();
            assert!(matches!(read(0o600, true), Err(FileError::WrongOwner { owner: 1, .. })));
        }
    }

    #[test]
    fn replace_is_atomic_and_leaves_no_temporary_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        replace(&path, b"one", 0o600).unwrap();
        replace(&path, b"two", 0o664).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o664);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        let said = replace(&folder.path().join("no/file"), b"", 0o600).unwrap_err().to_string();
        assert!(said.contains("no/file"), "{said}");
    }
}
