//! Files that others may have touched: opened so that no link is followed, nothing blocks and nothing large is
//! read; in `trust` the checks of folders and programs that we trust.

mod trust;

use std::fs::{self, File, Metadata, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

pub use trust::{check_trusted, inside, private_folder};

/// Why a file or folder is not used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The system said no.
    #[error("{}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Not a plain file: a link, a pipe, a device, a folder.
    #[error("{}: not a regular file", path.display())]
    NotRegular {
        /// The file.
        path: PathBuf,
    },
    /// Somebody else's.
    #[error("{}: owned by user {owner}, not by user {wanted}", path.display())]
    Owner {
        /// The file or folder.
        path: PathBuf,
        /// Whose it is.
        owner: u32,
        /// Whose it should be.
        wanted: u32,
    },
    /// Larger than is read.
    #[error("{}: larger than {limit} bytes", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The most that is read.
        limit: u64,
    },
    /// Others could change what we trust.
    #[error("{}: others may write it (mode {mode:04o}); take the right away with chmod go-w", path.display())]
    Writable {
        /// The file or folder.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// Others could look into what is ours alone, or change it.
    #[error("{}: not private (mode {mode:04o}); take the rights of others away with chmod go=", path.display())]
    NotPrivate {
        /// The folder.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// Outside the folders that the operator named.
    #[error("{}: outside of {allowed}", path.display())]
    Outside {
        /// The path.
        path: PathBuf,
        /// The allowed folders.
        allowed: String,
    },
    /// Not a path that can be judged.
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

    /// Whether it is just not there.
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }
}

/// What tells one content of a file from another without reading it.
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
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    /// The fingerprint of the file at `path`, if there is one. A link is not followed.
    pub fn at(path: &Path) -> Option<Self> {
        fs::symlink_metadata(path).ok().map(|metadata| Self::of(&metadata))
    }
}

/// Whose a file has to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Owner {
    /// This user's.
    User(u32),
    /// Whoever's this folder is. For folders that nobody but systemd gives away: that of a unit is its user's.
    OfFolder(PathBuf),
    /// It does not matter: what is in the file is shown, and believed by nobody.
    Anybody,
}

impl Owner {
    /// Us.
    pub fn me() -> Self {
        Self::User(rustix::process::geteuid().as_raw())
    }

    fn uid(&self) -> Result<Option<u32>, FileError> {
        match self {
            Self::User(uid) => Ok(Some(*uid)),
            Self::Anybody => Ok(None),
            Self::OfFolder(folder) => fs::symlink_metadata(folder)
                .map(|found| Some(found.uid()))
                .map_err(|source| FileError::io(folder, source)),
        }
    }
}

/// Reads a file that a client wrote: a regular file of its `owner`, at most `limit` bytes. No link is
/// followed in its last component and nothing blocks, whatever the client put there.
pub fn read_untrusted(path: &Path, owner: &Owner, limit: u64) -> Result<(Vec<u8>, Fingerprint), FileError> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    let fd = rustix::fs::open(path, flags, Mode::empty()).map_err(|errno| match errno {
        // What O_NOFOLLOW says of a link, and what opening a socket says.
        rustix::io::Errno::LOOP | rustix::io::Errno::NXIO => FileError::NotRegular { path: path.to_owned() },
        other => FileError::io(path, other),
    })?;
    let file = File::from(fd);
    let metadata = file.metadata().map_err(|source| FileError::io(path, source))?;
    if !metadata.is_file() {
        return Err(FileError::NotRegular { path: path.to_owned() });
    }
    if let Some(wanted) = owner.uid()?
        && metadata.uid() != wanted
    {
        return Err(FileError::Owner { path: path.to_owned(), owner: metadata.uid(), wanted });
    }
    let mut content = Vec::with_capacity(usize::try_from(metadata.size().min(limit)).unwrap_or(0) + 1);
    (&file).take(limit + 1).read_to_end(&mut content).map_err(|source| FileError::io(path, source))?;
    if content.len() as u64 > limit {
        return Err(FileError::TooLarge { path: path.to_owned(), limit });
    }
    Ok((content, Fingerprint::of(&metadata)))
}

/// Reads a secret of at most `limit` bytes: from a regular file that is ours or root's and, if it is to be `private`, that
/// nobody else may read. Links are followed, for the path is the operator's word.
pub fn read_secret(path: &Path, private: bool, limit: u64) -> Result<Vec<u8>, FileError> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file =
        File::from(rustix::fs::open(path, flags, Mode::empty()).map_err(|errno| FileError::io(path, errno))?);
    let metadata = file.metadata().map_err(|source| FileError::io(path, source))?;
    if !metadata.is_file() {
        return Err(FileError::NotRegular { path: path.to_owned() });
    }
    let me = rustix::process::geteuid().as_raw();
    if metadata.uid() != 0 && metadata.uid() != me {
        return Err(FileError::Owner { path: path.to_owned(), owner: metadata.uid(), wanted: me });
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

/// Puts `content` in the place of `path`, with this mode: a reader sees the old content or the new, never half of one.
/// It is not waited for the disk.
pub fn replace(path: &Path, content: &[u8], mode: u32) -> Result<(), FileError> {
    let write = || {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let mut file = tempfile::Builder::new().prefix(".wqcontroller-").tempfile_in(folder)?;
        file.write_all(content)?;
        // Set on the file, not asked for at creation, where the umask would take rights away.
        file.as_file().set_permissions(Permissions::from_mode(mode))?;
        file.persist(path)?;
        Ok::<_, io::Error>(())
    };
    write().map_err(|source| FileError::io(path, source))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn me() -> u32 {
        rustix::process::geteuid().as_raw()
    }

    #[test]
    fn reads_only_plain_files_of_the_owner() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::write(path("good"), "content").unwrap();
        let owner = Owner::me();
        assert_eq!(read_untrusted(&path("good"), &owner, 7).unwrap().0, b"content");
        assert!(matches!(read_untrusted(&path("good"), &owner, 6), Err(FileError::TooLarge { .. })));
        assert!(matches!(
            read_untrusted(&path("good"), &Owner::User(me() + 1), 7),
            Err(FileError::Owner { .. })
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
    fn a_secret_is_nobody_elses() {
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
            assert!(matches!(read(0o600, true), Err(FileError::Owner { owner: 1, .. })));
        }
    }

    #[test]
    fn replaces_and_leaves_nothing_behind() {
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
