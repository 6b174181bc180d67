//! How a unit that runs gets secrets that have changed: its launch file is written anew, and systemd reloads the unit, which
//! executes the launcher once more (`ExecReload=`).

use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::time::timeout;

use super::connection::bus_name;
use super::error::BusError;
use super::launch_file::{self, LaunchFile};
use super::unit_table::{JobEvent, Reloadable};
use super::{JOB_TIMEOUT, Units, UnitsInner, unit};
use crate::files::FileError;
use crate::locks::locked;
use crate::model::fleet::Launch;
use crate::model::name::UnitId;

/// A secret of a client that runs as a unit, as it is now. It has no `Debug`.
pub struct CurrentSecret {
    /// The variable by which the launch file holds it.
    pub variable: String,
    /// The secret itself.
    pub value: OsString,
    /// The copy that the unit reads.
    pub copy: PathBuf,
}

/// When a unit is reloaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReloadIf {
    /// If its launch file changes.
    Changed,
    /// Also if the copies of the unit are older than its launch file: an earlier controller ended before it reloaded the unit.
    Outdated,
    /// In any case: an earlier reload failed.
    Always,
}

/// What became of a renewal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renewal {
    /// There was nothing to do.
    Unchanged,
    /// The launch file has the secrets, for the next start through systemd. The unit does not run now.
    Stored,
    /// The unit has them.
    Taken,
}

/// Why a unit does not have its new secrets.
#[derive(Debug, thiserror::Error)]
pub enum RenewalError {
    /// The launch file can't be written.
    #[error("can't write {}", path.display())]
    LaunchFile {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: FileError,
    },
    /// The unit is frozen, or is being reloaded.
    #[error("{0} can't be reloaded now")]
    NotNow(Arc<str>),
    /// It was started from a unit file without `ExecReload=`.
    #[error("{0} has no ExecReload=")]
    NotReloadable(Arc<str>),
    /// systemd cannot be reached, or refuses.
    #[error("{0} can't be reloaded")]
    Bus(Arc<str>, #[source] BusError),
    /// The reload failed, or did not take place.
    #[error("the reload of {unit} ended as {result:?}")]
    Job {
        /// The unit.
        unit: Arc<str>,
        /// The result of its job.
        result: String,
    },
}

impl RenewalError {
    /// Whether it passes by itself.
    pub fn is_temporary(&self) -> bool {
        match self {
            Self::NotNow(_) => true,
            Self::Bus(_, error) => error.is_lost(),
            // Another job took its place, or the unit was no longer active.
            Self::Job { result, .. } => matches!(&**result, "canceled" | "invalid" | "collected"),
            Self::LaunchFile { .. } | Self::NotReloadable(_) => false,
        }
    }
}

impl Units {
    /// Gives the unit of this launch the secrets as they are now. Nothing happens to a later launch.
    pub(in crate::supervisor) async fn renew_secrets(
        &self,
        launch: Launch,
        id: UnitId,
        secrets: Vec<CurrentSecret>,
        when: ReloadIf,
    ) -> Result<Renewal, RenewalError> {
        let unit = self.unit_of(&id);
        // A task of its own, because the caller may be cancelled, and the calls on the bus run to their end.
        let renewed = tokio::spawn(self.shared.clone().renew(launch, id, secrets, when)).await;
        renewed.unwrap_or_else(|error| {
            Err(RenewalError::Job { unit, result: format!("an internal error: {error}") })
        })
    }
}

impl UnitsInner {
    async fn renew(
        self: Arc<Self>,
        launch: Launch,
        id: UnitId,
        secrets: Vec<CurrentSecret>,
        when: ReloadIf,
    ) -> Result<Renewal, RenewalError> {
        let unit = unit::name_of(self.bus.role, self.settings.unit, id.as_str());
        let (shared, stored) = (self.clone(), launch.clone());
        let store = move || shared.store_secrets(&stored, &id, &secrets, when);
        let internal =
            |error| RenewalError::Job { unit: unit.clone(), result: format!("an internal error: {error}") };
        if !tokio::task::spawn_blocking(store).await.map_err(internal)?? {
            return Ok(Renewal::Unchanged);
        }
        // Each reload is a process in a mount namespace of its own, as a start is. The semaphore is never closed.
        let _turn = self.starts.acquire().await;
        let expected = self.bus.table().expect_reload(&unit, &launch);
        let mut news = match expected {
            Reloadable::Now(news) => news,
            Reloadable::Later => return Err(RenewalError::NotNow(unit)),
            Reloadable::No => return Ok(Renewal::Stored),
        };
        let reloaded = self.reload(&unit, &mut news).await;
        self.bus.table().end_reload(&unit, &launch);
        reloaded
    }

    /// Writes these secrets into the launch file, if the file belongs to this launch. Returns whether the unit is to be reloaded. Blocks
    /// on the file system.
    fn store_secrets(
        &self,
        launch: &Launch,
        id: &UnitId,
        secrets: &[CurrentSecret],
        when: ReloadIf,
    ) -> Result<bool, RenewalError> {
        // Held from the reading to the writing: the next launch must not write its file in between.
        let mut files = locked(&self.launch_files);
        let folder = &self.bus.launches;
        let path = folder.join(id.as_str());
        // A file that was removed is made again from what is known of it.
        let read = LaunchFile::read(folder, id);
        let file = read.or_else(|| files.get(id).and_then(|content| LaunchFile::parse(content).ok()));
        let Some(mut file) = file.filter(|file| file.generation == launch.generation) else {
            return Ok(false);
        };
        // A secret that is written already may still not have reached the unit.
        if !file.renew(secrets.iter().map(|secret| (OsStr::new(&secret.variable), &*secret.value))) {
            let is_outdated = || secrets.iter().any(|secret| is_older(&secret.copy, &path));
            return Ok(match when {
                ReloadIf::Changed => false,
                ReloadIf::Outdated => is_outdated(),
                ReloadIf::Always => true,
            });
        }
        let content = file.to_bytes();
        launch_file::write(folder, id, &content)
            .map_err(|source| RenewalError::LaunchFile { path, source })?;
        files.insert(id.clone(), content);
        Ok(true)
    }

    /// Has systemd reload a unit, and waits for the end of that.
    async fn reload(
        &self,
        unit: &Arc<str>,
        news: &mut mpsc::Receiver<JobEvent>,
    ) -> Result<Renewal, RenewalError> {
        // An operator's job that is queued has the last word.
        let queued =
            self.bus.call("ReloadUnit", async |link| link.manager.reload_unit(unit, "fail").await).await;
        let job = match queued {
            Ok(job) => job,
            Err(error) if error.is_not_reloadable() => {
                return Err(RenewalError::NotReloadable(unit.clone()));
            }
            Err(error) => return Err(RenewalError::Bus(unit.clone(), error)),
        };
        let ended = async {
            loop {
                match news.recv().await {
                    Some(JobEvent::Removed(path, result)) if path == job.as_str() => {
                        return Ok(Some(result));
                    }
                    Some(JobEvent::Removed(..)) => {}
                    // Whether it was reloaded is not known, and a second time does no harm.
                    Some(JobEvent::Missed) => return Err(BusError::Unreachable(bus_name(self.bus.kind))),
                    // The process is gone.
                    None => return Ok(None),
                }
            }
        };
        let unit = unit.clone();
        match timeout(JOB_TIMEOUT, ended).await {
            Ok(Ok(Some(result))) if result == "done" => Ok(Renewal::Taken),
            Ok(Ok(Some(result))) => Err(RenewalError::Job { unit, result }),
            Ok(Ok(None)) => Ok(Renewal::Stored),
            Ok(Err(error)) => Err(RenewalError::Bus(unit, error)),
            Err(_) => Err(RenewalError::Job { unit, result: "timeout".to_owned() }),
        }
    }
}

/// Whether the file at `copy` was written before the one at `launch_file`. False where one is missing: the launcher may not have
/// written it yet.
fn is_older(copy: &Path, launch_file: &Path) -> bool {
    let modified = |path: &Path| fs::symlink_metadata(path).ok()?.modified().ok();
    modified(copy).zip(modified(launch_file)).is_some_and(|(copy, launch_file)| copy < launch_file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, SystemTime};

    #[test]
    fn copy_from_before_the_launch_file_is_outdated() {
        let folder = tempfile::tempdir().unwrap();
        let [copy, launch] = ["copy", "launch"].map(|name| folder.path().join(name));
        assert!(!is_older(&copy, &launch));
        let launched = fs::File::create(&launch).unwrap();
        assert!(!is_older(&copy, &launch), "it may not be written yet");
        let copied = fs::File::create(&copy).unwrap();
        let now = SystemTime::now();
        launched.set_modified(now).unwrap();
        for (age, outdated) in [(0, false), (1, true)] {
            copied.set_modified(now - Duration::from_secs(age)).unwrap();
            assert_eq!(is_older(&copy, &launch), outdated, "{age}");
        }
    }

    #[test]
    fn only_what_passes_is_temporary() {
        let unit = || Arc::from("wqclient@a.service");
        let job = |result: &str| RenewalError::Job { unit: unit(), result: result.into() };
        assert!(job("canceled").is_temporary() && RenewalError::NotNow(unit()).is_temporary());
        assert!(RenewalError::Bus(unit(), BusError::Unreachable("system")).is_temporary());
        assert!(!job("failed").is_temporary() && !RenewalError::NotReloadable(unit()).is_temporary());
    }
}
