//! The launch files of clients: how they are written, restored and removed.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::task::JoinHandle;
use tracing::{debug, info};

use super::launch_file::{self, LaunchFile};
use super::launch_file_watch::LaunchFileWatch;
use super::{Units, UnitsInner, unit};
use crate::files::FileError;
use crate::locks::locked;
use crate::model::client::{Generation, Handle};
use crate::model::fleet::Launch;
use crate::model::name::UnitId;
use crate::supervisor::{LaunchPlan, Program, StartError};
use crate::tasks::on_blocking_thread;
use crate::template;

impl Units {
    /// Restores launch files that were removed, and returns their paths. Without its launch file a unit cannot be started by
    /// `systemctl`.
    pub(in crate::supervisor) fn remake_launch_files(&self) -> Result<Vec<PathBuf>, FileError> {
        // Held while files are written, or one that is discarded meanwhile would come back with its secrets.
        let files = locked(&self.shared.launch_files);
        let folder = &self.shared.bus.launches;
        let mut remade = Vec::new();
        for (id, content) in &*files {
            let path = folder.join(id.as_str());
            if path.symlink_metadata().is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
                launch_file::write(folder, id, content)?;
                remade.push(path);
            }
        }
        Ok(remade)
    }
}

impl UnitsInner {
    /// Checks the template, as far as that is possible outside of the unit, and writes the launch file. Returns a watch on it, where
    /// the system has an inotify instance left, and whether it starts the built-in client. Blocks on the file system.
    pub(super) fn write_launch_file(
        &self,
        plan: LaunchPlan,
    ) -> Result<(Option<LaunchFileWatch>, bool), StartError> {
        let (template, is_client) = match plan.program {
            Program::Template(template) => (template, true),
            Program::Implementation(None) => (None, false),
            Program::Command(_) | Program::Implementation(Some(_)) => {
                return Err(StartError::OtherSupervisor);
            }
        };
        if let Some(path) = &template {
            // Only for its error: the launcher in the unit would fail after the start counts as done.
            template::command(path, &plan.launch.name)?;
        }
        let (folder, id) = (&self.bus.launches, plan.id);
        let file = LaunchFile::new(
            plan.launch.generation,
            (id.clone(), unit::needs_relay(&self.settings, &id)),
            template,
            plan.env,
        );
        let mut files = locked(&self.launch_files);
        let path = folder.join(id.as_str());
        match file.write(folder, &id) {
            Ok(content) => {
                files.insert(id, content);
                // After the write, which puts a new inode at the path: a watch is on the inode.
                Ok((LaunchFileWatch::of(&path).ok(), is_client && file.is_built_in()))
            }
            Err(source) => Err(StartError::LaunchFile { path, source }),
        }
    }

    /// Removes the launch file of this launch, which holds secrets, unless a later one has written another. Returns whether there
    /// was one.
    pub(super) async fn discard(self: Arc<Self>, launch: Launch, id: UnitId) -> bool {
        let unit = unit::name_of(self.bus.role, self.settings.unit, id.as_str());
        let remove = move || {
            let mut files = locked(&self.launch_files);
            let folder = &self.bus.launches;
            locked(&self.prefetched).remove(&launch);
            // The file can also be that of an earlier launch, where this one failed before it wrote one.
            let is_removed = !folder.join(id.as_str()).exists();
            let is_written = |written: Generation| written <= launch.generation;
            if is_removed || LaunchFile::generation_in(folder, &id).is_some_and(is_written) {
                files.remove(&id);
                self.bus.table().remove_stopped(&unit, launch.generation);
                // A file that cannot be removed is replaced by the next start.
                let _ = fs::remove_file(folder.join(id.as_str()));
                return !is_removed;
            }
            false
        };
        on_blocking_thread(remove).await
    }

    /// Removes what is kept of a forgotten client: its launch file, and the failed state of its unit, which would leave the system
    /// degraded.
    ///
    /// While the controller was about to launch the client, or systemd was away, an operator can have started the unit with the
    /// environment of this launch or an earlier one. No record stands for that process any more, so it is stopped.
    pub(super) async fn forget_client(self: Arc<Self>, launch: Launch, id: UnitId) {
        let unit = unit::name_of(self.bus.role, self.settings.unit, id.as_str());
        let name = launch.name.clone();
        let forgotten = launch.generation;
        // First of all, because the unit cannot be started without its launch file.
        let was_launched = self.clone().discard(launch, id.clone()).await;
        locked(&self.cgroups).remove(&unit);
        let is_seen = self.bus.is_connected();
        if was_launched && !is_seen {
            self.bus.wait().await;
        }
        let left = self.bus.table().running(&unit);
        // A process of a later launch belongs to an account that was registered again.
        let left = left.filter(|(started, _)| started.generation <= forgotten);
        if let Some((_, Handle::Unit { invocation_id, .. })) = &left {
            // Its end is reported as our doing.
            drop(self.bus.table().ask_stop(&unit, invocation_id));
        }
        if left.is_some() || was_launched && !is_seen && self.is_stray(&unit, &id).await {
            info!(client = %name, unit = %unit, "{unit} still runs although the account was removed; stopping it");
            self.end_stray(&unit).await;
        } else if !self.bus.table().contains(&unit) {
            self.reset_or_log(&unit).await;
        }
    }

    /// Whether the unit runs although no account is registered for it. An existing launch file belongs to a later registration.
    async fn is_stray(&self, unit: &str, id: &UnitId) -> bool {
        let (unit_props, _) = self.bus.ask_until_answered(unit).await.unwrap_or_default();
        let is_alive = unit_props.is_some_and(|said| said.alive);
        is_alive && !self.bus.table().contains(unit) && !self.bus.launches.join(id.as_str()).exists()
    }

    /// Removes stale launch files, which a killed controller left: those of clients that are neither in the registry nor run. Does
    /// not wait for the file system.
    pub(super) fn remove_stale_launch_files(
        self: Arc<Self>,
        known: HashSet<String>,
        running: HashSet<String>,
    ) -> JoinHandle<()> {
        tokio::task::spawn_blocking(move || {
            let (role, kind) = (self.bus.role, self.settings.unit);
            let mut files = locked(&self.launch_files);
            // This controller may have started clients by now, which were in no registry when it was decided.
            let written: HashSet<String> = files.keys().map(ToString::to_string).collect();
            let is_needed = |id: &str| {
                known.contains(id)
                    || written.contains(id)
                    || running.contains(&*unit::name_of(role, kind, id))
            };
            for entry in fs::read_dir(&self.bus.launches).into_iter().flatten().flatten() {
                let id = entry.file_name().into_string().ok();
                if let Some(id) = id.filter(|id| known.contains(id)).and_then(|id| UnitId::try_from(id).ok())
                {
                    // A file that cannot be read cannot be restored later; the next start writes another.
                    let content = fs::read(entry.path()).ok();
                    files.extend(content.map(|content| (id, content)));
                }
                if !entry.file_name().to_str().is_some_and(is_needed) {
                    debug!("removing the stale launch file {}", entry.path().display());
                    // The next controller tries again.
                    let _ = fs::remove_file(entry.path());
                }
            }
        })
    }
}
