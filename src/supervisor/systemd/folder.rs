//! The state folder of a unit, as a connection to a program that runs in a unit with the same user: `wqmove-client@.service` or
//! `wqmove-impl@.service`. That folder is open to its own user alone.

use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{UnixListener, UnixStream};
use tokio::time::{Instant, timeout};

use super::error::BusError;
use super::manager::UNIT;
use super::{UnitKind, Units};
use crate::config::ManagerKind;
use crate::model::name::UnitId;

/// How long the start of the unit may take. Its state folder may have to change its owner, which takes a while for many files.
const PATIENCE: Duration = Duration::from_secs(120);
/// The time between two looks at whether it has failed.
const LOOK: Duration = Duration::from_millis(500);

/// Why there is no connection to a state folder.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// Only for template units of the machine's systemd there are units that could do it.
    #[error("it runs as {0}, whose files only template units of the machine's systemd can carry")]
    Kind(&'static str),
    /// systemd can't be reached, or refuses. That may be because the unit is not installed.
    #[error("{0}")]
    Bus(Arc<str>, #[source] BusError),
    /// The socket can't be made.
    #[error("can't make the socket {}", .0.display())]
    Socket(PathBuf, #[source] std::io::Error),
    /// It has failed, or does not come.
    #[error("{0} has not connected; journalctl -u {0} says why")]
    Unit(Arc<str>),
}

impl FolderError {
    /// Whether the connection to systemd was lost.
    pub fn is_lost(&self) -> bool {
        matches!(self, Self::Bus(_, error) if error.is_lost())
    }
}

/// A socket that is gone from the file system with this.
struct Socket {
    path: PathBuf,
    listener: UnixListener,
}

impl Socket {
    fn make(path: PathBuf) -> Result<Self, FolderError> {
        let make = |path: &Path| {
            if let Some(folder) = path.parent() {
                // Only root, which is systemd, comes there.
                std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
            }
            match std::fs::remove_file(path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
                // Of a controller that was killed.
                _ => {}
            }
            UnixListener::bind(path)
        };
        match make(&path) {
            Ok(listener) => Ok(Self { path, listener }),
            Err(error) => Err(FolderError::Socket(path, error)),
        }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // The next one is made in its place anyway.
        let _ = std::fs::remove_file(&self.path);
    }
}

impl Units {
    /// A connection to the state folder of the unit with this ID, which must not run. The other end does one errand.
    ///
    /// # Errors
    /// See [`FolderError`].
    pub async fn open_folder(&self, id: &UnitId) -> Result<UnixStream, FolderError> {
        let (settings, bus) = (&self.shared.settings, &self.shared.bus);
        if (settings.unit, settings.manager) != (UnitKind::Template, ManagerKind::System) {
            return Err(FolderError::Kind(self.describe()));
        }
        let unit: Arc<str> = format!("{}@{id}.service", bus.role.mover()).into();
        let failed = |error| FolderError::Bus(unit.clone(), error);
        // The name in its unit file. systemd connects to it as root, before the program has its user.
        let socket = Socket::make(bus.launches.with_file_name(bus.role.moves()).join(id.as_str()))?;
        // What has failed before can be started, but its state would be taken for that of this start.
        self.shared.reset(&unit).await.map_err(failed)?;
        let start = || bus.call("StartUnit", async |link| link.manager.start_unit(&unit, "fail").await);
        bus.retry(start).await.map_err(failed)?;
        let give_up = Instant::now() + PATIENCE;
        while Instant::now() < give_up {
            if let Ok(accepted) = timeout(LOOK, socket.listener.accept()).await {
                let (stream, _) =
                    accepted.map_err(|error| FolderError::Socket(socket.path.clone(), error))?;
                return Ok(stream);
            }
            let state = bus.property(&unit, UNIT, "ActiveState").await.map_err(failed)?;
            if <&str>::try_from(&state) == Ok("failed") {
                break;
            }
        }
        Err(FolderError::Unit(unit))
    }
}
