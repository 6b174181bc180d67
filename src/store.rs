//! [`Store`]: the registry file. It is read once, replaced as a whole at each change, and locked against a second controller.

mod perl;

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use rustix::fs::{FlockOperation, OFlags, fcntl_lock};
use rustix::io::Errno;

use crate::claim::{ClaimError, PathClaim};
use crate::files::{FileError, check_trusted, is_at, make_parent, open_regular, temporary_in};
use crate::locks::locked;
use crate::model::persisted::{PersistedState, PersistedStateError};

/// The largest registry file that is read, in bytes: 10,000 clients with long parameters.
const MAX_BYTES: u64 = 256 * 1024 * 1024;

/// The registry file, locked until this is dropped.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    folder: PathBuf,
    /// Keeps other controllers out even if the lock file is removed.
    _claim: PathClaim,
    locked_file: Mutex<LockedFile>,
}

/// What the disk should have.
#[derive(Debug)]
struct LockedFile {
    /// The lock file, locked.
    lock: File,
    /// The content of the registry file; none before the first write.
    content: Option<Vec<u8>>,
}

/// A file that was removed and made again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remade {
    /// The lock file.
    Lock,
    /// The registry file.
    Registry,
}

/// Why the registry file cannot be used. It is left unchanged.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another controller has it.
    #[error("another wqcontroller{} uses the registry file {}; stop it, or give this one a backend_path of its own", of(*pid), path.display())]
    Locked {
        /// The registry file.
        path: PathBuf,
        /// The pid of the other controller, if known.
        pid: Option<u32>,
    },
    /// Others may write it.
    #[error("the registry file is refused")]
    Refused(#[source] FileError),
    /// It cannot be read or locked.
    #[error("can't use the registry file {}", path.display())]
    Io {
        /// The registry file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It is the Perl controller's, and cannot be moved aside.
    #[error(
        "can't move the registry file {} of the Perl controller of Mojo::Webqq aside; move it away, or give this \
         controller a backend_path of its own",
        path.display()
    )]
    Aside {
        /// The registry file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Its content is not that of a registry.
    #[error("can't read the registry file {}; repair it, or move it away to begin without any client", path.display())]
    Content {
        /// The registry file.
        path: PathBuf,
        /// Why.
        #[source]
        source: PersistedStateError,
    },
}

fn of(pid: Option<u32>) -> String {
    pid.map(|pid| format!(" (process {pid})")).unwrap_or_default()
}

impl Store {
    /// Locks and reads the registry file at `path`, which may not exist yet. One of Mojo::Webqq's Perl controller is moved aside.
    pub fn open(path: &Path) -> Result<(Self, PersistedState), StoreError> {
        let failed = |source: io::Error| StoreError::Io { path: path.to_owned(), source };
        let folder = path.parent().unwrap_or(Path::new("/")).to_owned();
        let claim = PathClaim::take(path).map_err(|error| match error {
            ClaimError::Held { pid } => StoreError::Locked { path: path.to_owned(), pid },
            ClaimError::Io(source) => failed(source),
        })?;
        let lock = lock(path)?;
        let store = |lock, content| Self {
            path: path.to_owned(),
            folder,
            _claim: claim,
            locked_file: Mutex::new(LockedFile { lock, content }),
        };
        let content = match open_regular(path) {
            Ok((file, _)) => {
                check_trusted(path).map_err(StoreError::Refused)?;
                let mut content = Vec::new();
                file.take(MAX_BYTES).read_to_end(&mut content).map_err(failed)?;
                content
            }
            Err(error) if error.is_missing() => {
                return Ok((store(lock, None), PersistedState::default()));
            }
            Err(FileError::Io { source, .. }) => return Err(failed(source)),
            Err(error) => return Err(StoreError::Refused(error)),
        };
        match PersistedState::parse(&content) {
            Ok(saved) => Ok((store(lock, Some(content)), saved)),
            Err(PersistedStateError::Perl) => {
                if let Some(pid) = perl::running(path) {
                    return Err(StoreError::Locked { path: path.to_owned(), pid: Some(pid) });
                }
                perl::move_aside(path, &content)
                    .map_err(|source| StoreError::Aside { path: path.to_owned(), source })?;
                Ok((store(lock, None), PersistedState::default()))
            }
            Err(source) => Err(StoreError::Content { path: path.to_owned(), source }),
        }
    }

    /// Replaces the content atomically; returns when it is on the disk.
    pub fn write(&self, saved: &PersistedState) -> io::Result<()> {
        let content = serde_json::to_vec(saved)?;
        // Kept even if the write fails, since it is what the file should have.
        let mut locked_file = locked(&self.locked_file);
        let written = self.put(&content);
        locked_file.content = Some(content);
        written
    }

    /// Makes files again that were removed; returns which. Blocks on the file system.
    ///
    /// # Errors
    /// A file cannot be made, or another controller has the lock by now.
    pub fn remake(&self) -> Result<Vec<Remade>, StoreError> {
        let failed = |source: io::Error| StoreError::Io { path: self.path.clone(), source };
        let mut locked_file = locked(&self.locked_file);
        let mut remade = Vec::new();
        if !is_at(&locked_file.lock, &lock_path(&self.path)).map_err(failed)? {
            make_parent(&self.path).map_err(StoreError::Refused)?;
            // The lock went with its file, so another controller may have locked a new one.
            locked_file.lock = lock(&self.path)?;
            remade.push(Remade::Lock);
        }
        // Only where it is missing: a file that was put in its place is not ours to replace.
        if let Some(content) = &locked_file.content
            && fs::symlink_metadata(&self.path).is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
        {
            self.put(content).map_err(failed)?;
            remade.push(Remade::Registry);
        }
        Ok(remade)
    }

    fn put(&self, content: &[u8]) -> io::Result<()> {
        if !self.folder.is_dir() {
            make_parent(&self.path).map_err(io::Error::other)?;
        }
        let file = temporary_in(&self.folder)?;
        file.as_file().set_permissions(Permissions::from_mode(0o600))?;
        file.as_file().write_all(content)?;
        // Before the rename, or a power cut could leave an empty file under the name.
        file.as_file().sync_all()?;
        file.persist(&self.path)?;
        // The rename is on the disk when the folder is synced.
        File::open(&self.folder)?.sync_all()
    }

    /// The path of the registry file.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

fn lock_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    name.into()
}

/// Takes the lock. It is a file of its own, since each write replaces the registry file by a new one.
fn lock(path: &Path) -> Result<File, StoreError> {
    let failed = |source: io::Error| StoreError::Io { path: path.to_owned(), source };
    let no_link = OFlags::NOFOLLOW.bits().cast_signed();
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600).custom_flags(no_link);
    let mut file = options.open(lock_path(path)).map_err(failed)?;
    // Not flock(2): forks inherit that lock, so a child that was being forked when the controller was killed would keep it.
    match fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(Errno::AGAIN | Errno::ACCESS) => {
            let mut text = String::new();
            // The pid only helps to find the other controller.
            let _ = (&file).take(20).read_to_string(&mut text);
            return Err(StoreError::Locked { path: path.to_owned(), pid: text.trim().parse().ok() });
        }
        Err(error) => return Err(failed(error.into())),
    }
    // The pid is only a hint for other controllers, and is missing on a full disk.
    let _ = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::client::{ClientFiles, ClientSpec, Generation, Handle, ParamValue, RestartHistory};
    use crate::model::name::ClientName;
    use crate::model::persisted::{Desired, PersistedClient, VERSION};
    use std::sync::Arc;

    fn saved() -> PersistedState {
        let name = ClientName::new("小明").unwrap();
        let files = ClientFiles::in_folder("/tmp".into(), &name);
        let pwd = ParamValue { text: "geheim".into(), secret: true, path: None };
        let spec = ClientSpec {
            id: crate::model::name::UnitId::of(&name),
            name,
            params: [("pwd".to_owned(), pwd)].into(),
            files,
        };
        let client = PersistedClient {
            spec: Arc::new(spec),
            port: 5000,
            generation: Generation(7),
            desired: Desired::Running,
            handle: Some(Handle::Direct { pid: 77, start_ticks: 1, boot_id: "b".into() }),
            history: RestartHistory::default(),
        };
        PersistedState {
            version: VERSION,
            last_generation: Generation(9),
            boot_id: None,
            started: None,
            manager: None,
            clients: vec![client],
        }
    }

    #[test]
    fn store_reads_what_it_wrote() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("registry");
        let (store, before) = Store::open(&path).unwrap();
        assert_eq!(before, PersistedState::default());
        store.write(&saved()).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600, "it holds secrets");
        drop(store);
        assert_eq!(Store::open(&path).unwrap().1, saved());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2, "the file and its lock");
    }

    #[test]
    fn store_leaves_other_files_unchanged() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("registry");
        for content in ["{\"version\":1,", "", "{\"version\":99}"] {
            fs::write(&path, content).unwrap();
            let error = Store::open(&path).unwrap_err();
            assert!(matches!(error, StoreError::Content { .. }), "{content}: {error}");
            assert!(error.to_string().contains(path.to_str().unwrap()));
            assert_eq!(fs::read_to_string(&path).unwrap(), content);
        }
        fs::set_permissions(&path, Permissions::from_mode(0o666)).unwrap();
        assert!(matches!(Store::open(&path), Err(StoreError::Refused(_))));
    }

    #[test]
    fn pipe_in_place_of_the_registry_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("registry");
        rustix::fs::mkfifoat(rustix::fs::CWD, &path, rustix::fs::Mode::RUSR).unwrap();
        let refused = Store::open(&path).unwrap_err();
        assert!(matches!(refused, StoreError::Refused(FileError::NotRegular { .. })), "{refused}");
    }

    #[test]
    fn removed_registry_and_lock_are_made_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("gone/registry");
        let parent = path.parent().unwrap();
        fs::create_dir(parent).unwrap();
        let (store, _) = Store::open(&path).unwrap();
        assert_eq!(store.remake().unwrap(), []);
        fs::remove_dir_all(parent).unwrap();
        assert_eq!(store.remake().unwrap(), [Remade::Lock], "there is no registry yet");
        fs::remove_dir_all(parent).unwrap();
        store.write(&saved()).unwrap();
        assert!(matches!(Store::open(&path), Err(StoreError::Locked { .. })), "the folder is a new one");
        assert_eq!(store.remake().unwrap(), [Remade::Lock]);
        fs::remove_dir_all(parent).unwrap();
        assert_eq!(store.remake().unwrap(), [Remade::Lock, Remade::Registry]);
        fs::remove_file(&path).unwrap();
        assert_eq!(store.remake().unwrap(), [Remade::Registry]);
        assert_eq!(store.remake().unwrap(), []);
        drop(store);
        let (store, read) = Store::open(&path).unwrap();
        assert_eq!(read, saved());
        fs::remove_file(&path).unwrap();
        assert_eq!(store.remake().unwrap(), [Remade::Registry], "also what was only read");
        fs::remove_dir_all(parent).unwrap();
        fs::write(parent, "a file in its place").unwrap();
        assert!(store.write(&saved()).is_err() && store.remake().is_err());
    }
}
