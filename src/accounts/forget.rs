//! What an account kept on disk, and how it is removed.
//!
//! The files go first, and the account leaves the list after them. A controller that is killed in between leaves an account that
//! is stopped, in the list and without files: the list still says which files it has, so the same call again ends it well. The other
//! way round the names of files that its parameters chose would be gone with the account, and those files would stay for ever.

mod files;

pub(super) use files::is_there;

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tracing::info;

use super::Accounts;
use crate::client_dirs::ClientDirs;
use crate::config::Settings;
use crate::model::client::{ClientFiles, ClientRecord, ClientSpec, Phase};
use crate::model::error_chain::ErrorChain;
use crate::model::fleet::{RequestOutcome, StopMode};
use crate::model::name::{ClientName, UnitId};
use crate::registry::{CallError, Registry, token_file};
use crate::supervisor::systemd::CleanError;

/// Where the files of accounts are that the controller keeps itself.
#[derive(Clone, Debug)]
pub struct KeptFolders {
    /// The parent of the runtime folders of implementations.
    pub implementations_runtime: Arc<Path>,
    /// The folder of the tokens of implementations, and of the homes of those that are child processes.
    pub implementation_state: Arc<Path>,
    /// The controller's own files. None is an account's, whatever its parameters say.
    pub own: Arc<[PathBuf]>,
}

/// Why an account is not forgotten.
#[derive(Debug, thiserror::Error)]
pub enum ForgetError {
    /// It is not in the list, and nothing of it is on disk.
    #[error("there is no such account")]
    Unknown,
    /// One of its processes runs, or is about to.
    #[error("it runs")]
    Running,
    /// The controller can't do it just now.
    #[error("the controller is busy")]
    Busy,
    /// systemd can't be reached.
    #[error("systemd can't be reached")]
    Outage,
    /// A file can't be removed.
    #[error("can't remove {}", .0.display())]
    File(PathBuf, #[source] io::Error),
    /// systemd could not do it.
    #[error(transparent)]
    Unit(CleanError),
    /// It could not be taken out of the list.
    #[error("{0}")]
    Failed(String),
}

impl From<CleanError> for ForgetError {
    fn from(error: CleanError) -> Self {
        match error {
            CleanError::Busy(_) => Self::Running,
            error if error.is_lost() => Self::Outage,
            error => Self::Unit(error),
        }
    }
}

impl From<CallError> for ForgetError {
    fn from(error: CallError) -> Self {
        match error {
            CallError::RegistryGone(_) => Self::Busy,
            CallError::Outage => Self::Outage,
        }
    }
}

/// Whether a process is there, or is coming without a further call.
fn runs(record: &ClientRecord) -> bool {
    let waits = record.history.next_start.is_some() || !(record.history.held || record.history.stopped);
    !matches!(record.phase, Phase::Gone(_)) || waits
}

impl Accounts {
    /// Removes an account that is stopped from the list and all that it kept on disk. Also what an account left that is in the list
    /// no more. Returns when all is gone; the same call again does no harm.
    ///
    /// # Errors
    /// See [`ForgetError`].
    pub async fn forget(&self, name: &ClientName, settings: &Settings) -> Result<(), ForgetError> {
        let known = self.clients.client(name);
        if self.is_running(name) {
            return Err(ForgetError::Running);
        }
        let spec = known.as_ref().map(|view| view.record.spec.clone());
        let was_there = self.remove_files(name, spec.clone()).await?;
        let Some(known) = known else {
            return if was_there { Ok(()) } else { Err(ForgetError::Unknown) };
        };
        let before = self.clients.client(name);
        match self.stop(name.clone(), StopMode::Wait, settings).await? {
            // Another call has done the same.
            RequestOutcome::Stopped(_) | RequestOutcome::NotExists => {}
            RequestOutcome::Failed(_, why) => return Err(ForgetError::Failed(why)),
            other => return Err(ForgetError::Failed(format!("{other:?}"))),
        }
        // A call may have started it while its files were removed. That ended with the stop, and what it wrote goes as well.
        let was_started = before.is_some_and(|view| !Arc::ptr_eq(&view, &known));
        if was_started && self.clients.client(name).is_none() {
            self.remove_files(name, spec).await?;
        }
        info!(client = %name, "forgotten: what it kept on disk is removed");
        Ok(())
    }

    /// Whether one of its processes is there, or is coming without a further call.
    pub(super) fn is_running(&self, name: &ClientName) -> bool {
        self.clients.client(name).is_some_and(|view| runs(&view.record))
            // That of a stopped account is being stopped, and leaves its list then.
            || self
                .implementations
                .client(name)
                .is_some_and(|view| !view.record.history.held || view.record.has_process())
    }

    /// Removes what an account kept on disk. Returns whether there was something.
    async fn remove_files(
        &self,
        name: &ClientName,
        spec: Option<Arc<ClientSpec>>,
    ) -> Result<bool, ForgetError> {
        let ids = self.ids_of(name, spec.as_deref());
        let mut was_there = false;
        if let ClientDirs::Units { runtime, lasting, .. } = &*self.client_dirs {
            let folders = |of: &str| -> Vec<PathBuf> {
                lasting.iter().filter_map(|folder| Some(folder.parent()?.join(of))).collect()
            };
            let of_implementations = self.kept.implementations_runtime.to_path_buf();
            let kinds = [
                (&self.clients, [vec![runtime.clone()], folders("wqclient")].concat()),
                (&self.implementations, [vec![of_implementations], folders("wqimpl")].concat()),
            ];
            for id in &ids {
                for (registry, parents) in &kinds {
                    was_there |= self.clean(registry, id, parents).await?;
                }
            }
        }
        let (name, ids, this) = (name.clone(), ids.clone(), self.clone());
        // The disk may be slow, and a login of some programs is thousands of files.
        let removed = self.blocking.run(move || this.remove_own_files(&name, spec.as_deref(), &ids));
        Ok(removed.await.map_err(|_| ForgetError::Busy)?? || was_there)
    }

    /// The IDs that its folders may have, and no other account of the list.
    fn ids_of(&self, name: &ClientName, spec: Option<&ClientSpec>) -> BTreeSet<UnitId> {
        let mut ids = BTreeSet::from([UnitId::of(name), UnitId::of_version_0_1(name)]);
        ids.extend(spec.map(|spec| spec.id.clone()));
        for registry in [&self.clients, &self.implementations] {
            for view in registry.snapshot().iter().filter(|view| view.record.spec.name != *name) {
                ids.remove(&view.record.spec.id);
            }
        }
        ids
    }

    /// Has systemd remove the folders of a unit, if there is one below `parents`. Returns whether there was.
    async fn clean(
        &self,
        registry: &Registry,
        id: &UnitId,
        parents: &[PathBuf],
    ) -> Result<bool, ForgetError> {
        let folders: Vec<PathBuf> = parents.iter().map(|parent| parent.join(id.as_str())).collect();
        let look = move || folders.into_iter().find(|folder| files::is_there(folder));
        let Ok(found) = self.blocking.run(look.clone()).await else { return Err(ForgetError::Busy) };
        if found.is_none() {
            return Ok(false);
        }
        registry.clean_unit(id).await?;
        match self.blocking.run(look).await {
            Ok(None) => Ok(true),
            // A unit file without the folder that an earlier one had, for example.
            Ok(Some(folder)) => Err(ForgetError::File(
                folder,
                io::Error::other("systemd has cleaned the unit, and the folder is still there"),
            )),
            Err(_) => Err(ForgetError::Busy),
        }
    }

    /// Removes the files that belong to the controller's user. Blocks on the file system.
    fn remove_own_files(
        &self,
        name: &ClientName,
        spec: Option<&ClientSpec>,
        ids: &BTreeSet<UnitId>,
    ) -> Result<bool, ForgetError> {
        let KeptFolders { implementations_runtime, implementation_state, own } = &self.kept;
        let mut was_there = false;
        let mut remove = |path: &Path, removed: io::Result<bool>| -> Result<(), ForgetError> {
            was_there |= removed.map_err(|error| ForgetError::File(path.to_owned(), error))?;
            Ok(())
        };
        for id in ids {
            // The controller's own also where implementations are units.
            let token = token_file(implementation_state, id);
            remove(&token, files::remove_below(implementation_state, &token))?;
        }
        let ClientDirs::Shared { tmpdir, lasting } = &*self.client_dirs else { return Ok(was_there) };
        for id in ids {
            for parent in [lasting.as_path(), implementation_state, implementations_runtime] {
                let folder = parent.join(id.as_str());
                remove(&folder, files::remove_tree(&folder))?;
            }
        }
        let usual = ClientFiles::in_folder(tmpdir.clone(), name);
        let usual =
            ClientSpec { name: name.clone(), id: UnitId::of(name), params: Default::default(), files: usual };
        let others = self.files_of_others(name);
        for path in [Some(&usual), spec].into_iter().flatten().flat_map(files::named) {
            if !others.contains(&path) && !own.contains(&path) {
                remove(&path, files::remove_below(tmpdir, &path))?;
            }
        }
        Ok(was_there)
    }

    /// The files of all other accounts.
    fn files_of_others(&self, name: &ClientName) -> BTreeSet<PathBuf> {
        let snapshot = self.clients.snapshot();
        let others = snapshot.iter().filter(|view| view.record.spec.name != *name);
        others.flat_map(|view| files::named(&view.record.spec)).collect()
    }
}

impl ForgetError {
    /// What it was, with its cause.
    pub fn explain(&self) -> String {
        ErrorChain(self).to_string()
    }
}
