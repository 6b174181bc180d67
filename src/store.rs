//! The registry file: read once, replaced as a whole at each change, and locked against a second controller.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, OFlags, fcntl_lock};
use rustix::io::Errno;

use crate::files::{FileError, check_trusted};
use crate::model::saved::{Saved, SavedError};

/// The largest registry file that is read, in bytes: 10,000 clients with long parameters.
const MAX_BYTES: u64 = 256 * 1024 * 1024;

/// The registry file, ours alone as long as this lives.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    folder: PathBuf,
    _lock: File,
}

/// Why the registry file cannot be used. It is as it was.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another controller has it.
    #[error("another wqcontroller{} uses the registry file {}; stop it, or give this one a backend_path of its own", of(*pid), path.display())]
    Locked {
        /// The registry file.
        path: PathBuf,
        /// The other one's pid, where it says.
        pid: Option<u32>,
    },
    /// It may have been written by anybody.
    #[error("the registry file is refused")]
    Refused(#[source] FileError),
    /// It cannot be read, or not be locked.
    #[error("can't use the registry file {}", path.display())]
    Io {
        /// The registry file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Its content is no registry.
    #[error("can't read the registry file {}; repair it, or move it away to begin without any client", path.display())]
    Content {
        /// The registry file.
        path: PathBuf,
        /// Why.
        #[source]
        source: SavedError,
    },
}

fn of(pid: Option<u32>) -> String {
    pid.map(|pid| format!(" (process {pid})")).unwrap_or_default()
}

impl Store {
    /// Locks the registry file at `path` and reads it. None is there before the first start.
    pub fn open(path: &Path) -> Result<(Self, Saved), StoreError> {
        let failed = |source: io::Error| StoreError::Io { path: path.to_owned(), source };
        let folder = path.parent().unwrap_or(Path::new("/")).to_owned();
        let lock = lock(path)?;
        let content = match File::open(path) {
            Ok(file) => {
                check_trusted(path).map_err(StoreError::Refused)?;
                let mut content = Vec::new();
                file.take(MAX_BYTES).read_to_end(&mut content).map_err(failed)?;
                content
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok((Self { path: path.to_owned(), folder, _lock: lock }, Saved::default()));
            }
            Err(error) => return Err(failed(error)),
        };
        let saved =
            Saved::parse(&content).map_err(|source| StoreError::Content { path: path.to_owned(), source })?;
        Ok((Self { path: path.to_owned(), folder, _lock: lock }, saved))
    }

    /// Replaces the content; returns when it is on the disk. Whatever happens in between, the file holds the old content
    /// or the new.
    pub fn write(&self, saved: &Saved) -> io::Result<()> {
        let content = serde_json::to_vec(saved)?;
        let mut file = tempfile::Builder::new().prefix(".wqcontroller-").tempfile_in(&self.folder)?;
        file.as_file().set_permissions(Permissions::from_mode(0o600))?;
        file.write_all(&content)?;
        file.as_file().sync_all()?;
        file.persist(&self.path)?;
        // The new name is on the disk when its folder is.
        File::open(&self.folder)?.sync_all()
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Takes the lock. It is a file of its own, for the registry file is a new one after each change.
fn lock(path: &Path) -> Result<File, StoreError> {
    let failed = |source: io::Error| StoreError::Io { path: path.to_owned(), source };
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let no_link = OFlags::NOFOLLOW.bits().cast_signed();
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600).custom_flags(no_link);
    let mut file = options.open(name).map_err(failed)?;
    // Not flock(2): that lock is inherited, so a child that was just being forked when we were killed would hold it on.
    match fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(Errno::AGAIN | Errno::ACCESS) => {
            let mut text = String::new();
            // Who it is helps to find it; that it is there is enough.
            let _ = (&file).take(20).read_to_string(&mut text);
            return Err(StoreError::Locked { path: path.to_owned(), pid: text.trim().parse().ok() });
        }
        Err(error) => return Err(failed(error.into())),
    }
    // Only a word for whoever is refused; on a full disk it is not said.
    let _ = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::client::{ClientFiles, ClientSpec, Generation, Handle, History, ParamValue};
    use crate::model::name::ClientName;
    use crate::model::saved::{Desired, SavedClient, VERSION};
    use std::fs;
    use std::sync::Arc;

    fn saved() -> Saved {
        let name = ClientName::new("小明").unwrap();
        let files = ClientFiles::in_folder("/tmp".into(), &name);
        let pwd = ParamValue { text: "geheim".into(), secret: true, path: None };
        let spec = ClientSpec { name, params: [("pwd".to_owned(), pwd)].into(), files };
        let client = SavedClient {
            spec: Arc::new(spec),
            port: 5000,
            generation: Generation(7),
            desired: Desired::Running,
            handle: Some(Handle::Direct { pid: 77, start_ticks: 1, boot_id: "b".into() }),
            history: History::default(),
        };
        Saved {
            version: VERSION,
            last_generation: Generation(9),
            boot_id: None,
            manager: None,
            clients: vec![client],
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("registry");
        let (store, before) = Store::open(&path).unwrap();
        assert_eq!(before, Saved::default());
        store.write(&saved()).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600, "it holds secrets");
        drop(store);
        assert_eq!(Store::open(&path).unwrap().1, saved());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2, "the file and its lock");
    }

    #[test]
    fn what_is_no_registry_stays_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("registry");
        for content in ["{\"version\":1,", "", "{\"version\":99}", "pst0"] {
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
    fn a_write_that_fails_leaves_the_old_content() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("gone/registry");
        fs::create_dir(path.parent().unwrap()).unwrap();
        let (store, _) = Store::open(&path).unwrap();
        fs::remove_dir_all(path.parent().unwrap()).unwrap();
        assert!(store.write(&saved()).is_err());
    }
}
