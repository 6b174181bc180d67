//! Files that others may have touched: opened so that no link is followed, nothing blocks and nothing large is
//! read; and the checks of folders and programs that we trust.

use std::ffi::OsStr;
use std::fs::{self, File, Metadata, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{Mode, OFlags};

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

/// Checks that nobody but root and ourselves can change the file at `path`, or put another in its place. Where it is
/// a link that counts for the link and for the file.
pub fn check_trusted(path: &Path) -> Result<(), FileError> {
    let check = |path: &Path, is_folder: bool| {
        let metadata = fs::metadata(path).map_err(|source| FileError::io(path, source))?;
        let me = rustix::process::geteuid().as_raw();
        if metadata.uid() != 0 && metadata.uid() != me {
            return Err(FileError::Owner { path: path.to_owned(), owner: metadata.uid(), wanted: me });
        }
        let mode = metadata.mode();
        // Where everybody has a group of their own, the group's right to write is the owner's.
        let own_group = metadata.gid() == 0 || metadata.gid() == rustix::process::getegid().as_raw();
        let others_write = mode & 0o002 != 0 || (mode & 0o020 != 0 && !own_group);
        // In a sticky folder nobody can replace another one's file.
        let sticky = is_folder && mode & 0o1000 != 0;
        if others_write && !sticky {
            return Err(FileError::Writable { path: path.to_owned(), mode: mode & 0o7777 });
        }
        Ok(())
    };
    let file = fs::canonicalize(path).map_err(|source| FileError::io(path, source))?;
    check(path, false)?;
    [path, &file].into_iter().filter_map(Path::parent).try_for_each(|folder| check(folder, true))
}

/// Makes `path` a folder of mode 0700 that is ours alone, or checks that it is one.
pub fn private_folder(path: &Path) -> Result<(), FileError> {
    match fs::DirBuilder::new().recursive(true).mode(0o700).create(path) {
        Err(source) if source.kind() != io::ErrorKind::AlreadyExists => {
            return Err(FileError::io(path, source));
        }
        _ => {}
    }
    let metadata = fs::symlink_metadata(path).map_err(|source| FileError::io(path, source))?;
    let me = rustix::process::geteuid().as_raw();
    if !metadata.is_dir() {
        let source = io::Error::from(io::ErrorKind::NotADirectory);
        return Err(FileError::io(path, source));
    }
    if metadata.uid() != me {
        return Err(FileError::Owner { path: path.to_owned(), owner: metadata.uid(), wanted: me });
    }
    if metadata.permissions().mode() & 0o077 != 0 {
        return Err(FileError::NotPrivate { path: path.to_owned(), mode: metadata.mode() & 0o7777 });
    }
    Ok(())
}

/// Resolves links in `path` as far as it exists, and checks that it then lies in one of the `allowed` folders.
/// What is returned holds no link, so that nobody can bend it later by changing one of those it went through.
pub fn inside(path: &Path, allowed: &[PathBuf]) -> Result<PathBuf, FileError> {
    let plain = path.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
    if !path.is_absolute() || !plain {
        return Err(FileError::Relative { path: path.to_owned() });
    }
    let resolved = resolve(path)?;
    for folder in allowed {
        if resolve(folder).is_ok_and(|folder| resolved.starts_with(folder)) {
            return Ok(resolved);
        }
    }
    let allowed: Vec<String> = allowed.iter().map(|folder| folder.display().to_string()).collect();
    Err(FileError::Outside { path: path.to_owned(), allowed: allowed.join(", ") })
}

/// The real path of the longest part of `path` that exists, and the rest as it is. A link to nowhere is an error:
/// where it leads to is not known before something is written through it.
fn resolve(path: &Path) -> Result<PathBuf, FileError> {
    let mut missing: Vec<&OsStr> = Vec::new();
    let mut existing = path;
    loop {
        match fs::canonicalize(existing) {
            Ok(real) => return Ok(missing.into_iter().rev().fold(real, |path, part| path.join(part))),
            Err(source)
                if source.kind() == io::ErrorKind::NotFound && fs::symlink_metadata(existing).is_err() =>
            {
                let (Some(folder), Some(part)) = (existing.parent(), existing.file_name()) else {
                    return Err(FileError::io(path, source));
                };
                missing.push(part);
                existing = folder;
            }
            Err(source) => return Err(FileError::io(existing, source)),
        }
    }
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

    #[test]
    fn a_path_stays_inside_whatever_the_links() {
        let root = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(root.path()).unwrap();
        let (allowed, other) = (root.join("allowed"), root.join("other"));
        fs::create_dir(&allowed).unwrap();
        fs::create_dir(&other).unwrap();
        symlink(&other, allowed.join("out")).unwrap();
        symlink(&allowed, root.join("alias")).unwrap();
        symlink("/nowhere/at/all", allowed.join("dangling")).unwrap();
        let check = |path: PathBuf| inside(&path, std::slice::from_ref(&allowed));
        assert_eq!(check(allowed.join("a/b.json")).unwrap(), allowed.join("a/b.json"));
        assert_eq!(check(root.join("alias/b.json")).unwrap(), allowed.join("b.json"));
        assert_eq!(check(allowed.clone()).unwrap(), allowed);
        assert!(matches!(check(allowed.join("out/b.json")), Err(FileError::Outside { .. })));
        assert!(matches!(check(root.join("allowed2/b")), Err(FileError::Outside { .. })));
        assert!(matches!(check(allowed.join("../other/b")), Err(FileError::Relative { .. })));
        assert!(matches!(check(PathBuf::from("b.json")), Err(FileError::Relative { .. })));
        assert!(matches!(check(allowed.join("dangling")), Err(FileError::Io { .. })));
        assert!(matches!(check(allowed.join("dangling/b")), Err(FileError::Io { .. })));
    }

    #[test]
    fn a_private_folder_is_private() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("a/b");
        private_folder(&folder).unwrap();
        private_folder(&folder).unwrap();
        fs::set_permissions(&folder, Permissions::from_mode(0o770)).unwrap();
        assert!(matches!(private_folder(&folder), Err(FileError::NotPrivate { mode: 0o770, .. })));
        symlink(&folder, root.path().join("link")).unwrap();
        assert!(private_folder(&root.path().join("link")).is_err());
    }

    #[test]
    fn what_others_may_write_is_not_trusted() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("template");
        fs::write(&file, "").unwrap();
        check_trusted(&file).unwrap();
        fs::set_permissions(&file, Permissions::from_mode(0o666)).unwrap();
        assert!(matches!(check_trusted(&file), Err(FileError::Writable { .. })));
        fs::set_permissions(&file, Permissions::from_mode(0o644)).unwrap();
        fs::set_permissions(root.path(), Permissions::from_mode(0o777)).unwrap();
        assert!(matches!(check_trusted(&file), Err(FileError::Writable { .. })));
        let ours = tempfile::tempdir().unwrap();
        let link = ours.path().join("link");
        symlink(&file, &link).unwrap();
        assert!(matches!(check_trusted(&link), Err(FileError::Writable { .. })));
        fs::set_permissions(root.path(), Permissions::from_mode(0o1777)).unwrap();
        check_trusted(&file).unwrap();
        check_trusted(&link).unwrap();
    }
}
