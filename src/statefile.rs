//! Watches the clients' state files by inotify. Files without a watch are read again every `check_interval`, all files now and
//! then. A broken or half-written file does not replace the last complete report.

mod content;
mod folders;

pub use content::read;

use std::collections::{HashMap, HashSet};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use rustix::fs::inotify::{self, CreateFlags};
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{MissedTickBehavior, interval, timeout};
use tracing::warn;

use crate::async_fd::ReadableFd;
use crate::config::Settings;
use crate::files::{FileOwner, Fingerprint, read_untrusted};
use crate::locks::locked;
use crate::model::fleet::{Input, Launch};
use crate::model::state::StateReport;
use folders::WatchedFolder;

/// How long changes are collected: several changes of a file within this time cost one read.
const COLLECT: Duration = Duration::from_millis(5);

/// After how many check intervals all files are read, including those with a watch. With a thousand clients, reading all of them
/// every interval would be most of what an idle controller does.
const EVERYTHING: u32 = 12;

/// The new content of a client's state file.
#[derive(Clone, Debug)]
pub struct Reported {
    /// The launch whose file it is.
    pub launch: Launch,
    /// Its content.
    pub report: Arc<StateReport>,
}

impl From<Reported> for Input {
    fn from(Reported { launch, report }: Reported) -> Self {
        Self::Report(launch, report)
    }
}

/// The state files that are being watched.
#[derive(Clone, Debug)]
pub struct StateFiles(Arc<WatchState>);

#[derive(Debug)]
struct WatchState {
    table: Mutex<WatchTable>,
    /// None if there is no inotify instance left: then only rescans find changes.
    inotify: Option<ReadableFd>,
    /// Requests a rescan.
    look_again: Notify,
    /// The number of the last call of [`StateFiles::catch_up`].
    requested: watch::Sender<u64>,
    /// The last call that was served.
    served: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct WatchTable {
    files: HashMap<PathBuf, Vec<WatchedFile>>,
    folders: HashMap<PathBuf, WatchedFolder>,
}

#[derive(Debug)]
struct WatchedFile {
    launch: Launch,
    /// The owner that the file must have.
    owner: FileOwner,
    /// The file as it was before the launch, written by an earlier process.
    baseline: Option<Fingerprint>,
    /// The file as it was last reported.
    seen: Option<Fingerprint>,
    /// The file as it was last found broken, and whether that was logged.
    broken: Option<(Fingerprint, bool)>,
}

/// Watches a state file until dropped.
#[derive(Debug)]
pub struct StateFileWatch {
    shared: Arc<WatchState>,
    launch: Launch,
    path: PathBuf,
}

/// Why files are read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum ReadReason {
    /// Inotify reported the file.
    Inotify,
    /// A rescan.
    Rescan,
}

/// Which files a rescan reads.
#[derive(Clone, Copy, PartialEq, Eq)]
enum RescanScope {
    /// Those without a watch, and those that were broken.
    Doubtful,
    All,
}

impl StateFiles {
    /// Prepares to watch files. Must be called within a tokio runtime.
    pub fn open() -> Self {
        let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK);
        let inotify = inotify.map_err(io::Error::from).and_then(ReadableFd::new);
        let inotify = inotify.inspect_err(|error| {
            warn!(%error, "cannot watch state files (inotify: {error}); reading them every check_interval");
        });
        Self::with(inotify.ok())
    }

    /// For processes without state files. Takes no inotify instance, of which each user has few.
    pub fn none() -> Self {
        Self::with(None)
    }

    fn with(inotify: Option<ReadableFd>) -> Self {
        Self(Arc::new(WatchState {
            table: Mutex::default(),
            inotify,
            look_again: Notify::new(),
            requested: watch::Sender::default(),
            served: watch::Sender::default(),
        }))
    }

    /// Returns when everything that clients have written so far is read and sent by [`StateFiles::run`].
    pub async fn catch_up(&self) {
        let mut mine = 0;
        self.0.requested.send_modify(|requested| {
            *requested += 1;
            mine = *requested;
        });
        // Cannot fail: the sender is part of `self`.
        let _ = self.0.served.subscribe().wait_for(|served| *served >= mine).await;
    }

    /// Watches the state file of a client before its launch. The present content is ignored, as an earlier process wrote it.
    pub fn watch(&self, launch: Launch, path: &Path, owner: FileOwner) -> StateFileWatch {
        self.watch_from(launch, path, owner, Fingerprint::at(path))
    }

    /// Watches the state file of a client that runs already.
    pub fn watch_running(&self, launch: Launch, path: &Path, owner: FileOwner) -> StateFileWatch {
        let watch = self.watch_from(launch, path, owner, None);
        self.0.look_again.notify_one();
        watch
    }

    fn watch_from(
        &self,
        launch: Launch,
        path: &Path,
        owner: FileOwner,
        baseline: Option<Fingerprint>,
    ) -> StateFileWatch {
        let shared = self.0.clone();
        {
            // One lock for folder and file: an event in between would be of a file that is not in the table, and dropped.
            let mut table = shared.table();
            if let Some(parent) = path.parent() {
                let folder = table.folders.entry(parent.to_owned()).or_default();
                folder.files += 1;
                shared.watch_folder(parent, folder);
            }
            let watched =
                WatchedFile { launch: launch.clone(), owner, baseline, seen: baseline, broken: None };
            table.files.entry(path.to_owned()).or_default().push(watched);
        }
        StateFileWatch { shared, launch, path: path.to_owned() }
    }

    /// Sends changes to `inputs` until the receiver is gone.
    pub async fn run(self, inputs: mpsc::Sender<Input>, mut settings: watch::Receiver<Arc<Settings>>) {
        // Room for about 60 of the largest events: 16 bytes and a name of up to 256 (inotify(7)).
        let mut buffer = [MaybeUninit::uninit(); 16 * 1024];
        let mut requested = self.0.requested.subscribe();
        let is_pending = |requested: &u64| *requested > *self.0.served.borrow();
        loop {
            let period = settings.borrow_and_update().check_interval;
            // Made again after each change of the settings, as `check_interval` may be another one.
            let mut again = interval(period);
            again.set_missed_tick_behavior(MissedTickBehavior::Delay);
            // The first tick of an interval comes at once.
            again.reset();
            let mut ticks = 0_u32;
            loop {
                let mut serves = None;
                let (paths, reason) = tokio::select! {
                    found = self.0.changed_files(&mut buffer) => match found {
                        Some(paths) => (paths, ReadReason::Inotify),
                        None => (self.0.files_to_rescan(RescanScope::All), ReadReason::Rescan),
                    },
                    Ok(number) = requested.wait_for(is_pending) => {
                        serves = Some(*number);
                        // A read lock on the channel: while it is held, `catch_up` blocks its thread.
                        drop(number);
                        match self.0.changed_so_far(&mut buffer) {
                            Some(paths) => (paths, ReadReason::Inotify),
                            None => (self.0.files_to_rescan(RescanScope::All), ReadReason::Rescan),
                        }
                    }
                    _ = again.tick() => {
                        ticks = (ticks + 1) % EVERYTHING;
                        let scope = if ticks == 0 { RescanScope::All } else { RescanScope::Doubtful };
                        (self.0.files_to_rescan(scope), ReadReason::Rescan)
                    }
                    () = self.0.look_again.notified() => (self.0.files_to_rescan(RescanScope::All), ReadReason::Rescan),
                    changed = settings.changed() => {
                        if changed.is_err() {
                            return;
                        }
                        break;
                    }
                };
                let any = !paths.is_empty();
                if any {
                    let shared = self.0.clone();
                    let found = tokio::task::spawn_blocking(move || shared.look(paths, reason)).await;
                    // A panic loses one round. The next rescan reads the files again.
                    for reported in found.unwrap_or_default() {
                        if inputs.send(reported.into()).await.is_err() {
                            return;
                        }
                    }
                }
                // After the reports are in the queue, so that an exit that waited for this comes behind them.
                if let Some(number) = serves {
                    self.0.served.send_replace(number);
                }
                if any {
                    // Except that `catch_up` does not wait for it.
                    let _ = timeout(COLLECT, requested.wait_for(is_pending)).await;
                }
            }
        }
    }
}

impl WatchState {
    fn table(&self) -> MutexGuard<'_, WatchTable> {
        locked(&self.table)
    }

    /// The files of a rescan. Folders without a watch, which did not exist or were replaced, are tried again.
    fn files_to_rescan(&self, scope: RescanScope) -> HashSet<PathBuf> {
        let mut table = self.table();
        let WatchTable { files, folders } = &mut *table;
        let mut unwatched = HashSet::new();
        for (path, folder) in folders.iter_mut().filter(|(_, folder)| folder.descriptor.is_none()) {
            self.watch_folder(path, folder);
            unwatched.insert(path.as_path());
        }
        let due = |path: &Path, all: &[WatchedFile]| {
            scope == RescanScope::All
                || path.parent().is_none_or(|folder| unwatched.contains(folder))
                || all.iter().any(|watched| watched.broken.is_some_and(|(_, said)| !said))
        };
        files.iter().filter(|(path, all)| due(path, all)).map(|(path, _)| path.clone()).collect()
    }

    /// Reads files; returns what changed. Blocks on the file system.
    fn look(&self, paths: HashSet<PathBuf>, reason: ReadReason) -> Vec<Reported> {
        let mut reports = Vec::new();
        for path in paths {
            let Some(there) = Fingerprint::at(&path) else { continue };
            let known = |watched: &WatchedFile| match reason {
                // An inotify event means a change, even if the fingerprint is too coarse to show it.
                ReadReason::Inotify => watched.baseline == Some(there),
                ReadReason::Rescan => {
                    watched.seen == Some(there)
                        || watched.broken.is_some_and(|(broken, said)| said && broken == there)
                }
            };
            // All watches of a file have the same owner.
            let owner = match self.table().files.get(&path) {
                Some(all) if !all.iter().all(known) => all.last().map(|watched| watched.owner.clone()),
                _ => None,
            };
            let Some(owner) = owner else { continue };
            // Read without the lock, as the disk may be slow.
            let content = read_untrusted(&path, &owner, StateReport::MAX_BYTES);
            let mut table = self.table();
            let Some(all) = table.files.get_mut(&path) else { continue };
            for watched in all {
                if let Some(report) = watched.accept(&path, there, &content, reason) {
                    reports.push(Reported { launch: watched.launch.clone(), report });
                }
            }
        }
        reports
    }
}

impl Drop for StateFileWatch {
    fn drop(&mut self) {
        let mut table = self.shared.table();
        if let Some(all) = table.files.get_mut(&self.path) {
            all.retain(|watched| watched.launch != self.launch);
            if all.is_empty() {
                table.files.remove(&self.path);
            }
        }
        let Some(parent) = self.path.parent() else { return };
        let Some(folder) = table.folders.get_mut(parent) else { return };
        folder.files -= 1;
        if folder.files == 0
            && let Some(folder) = table.folders.remove(parent)
            && let (Some(inotify), Some(descriptor)) = (&self.shared.inotify, folder.descriptor)
        {
            // Fails only if the watch is gone with its folder.
            let _ = inotify::remove_watch(inotify.as_fd(), descriptor);
        }
    }
}

#[cfg(test)]
mod tests;
