//! Clients' state files: watched by inotify, looked through again every few seconds where that cannot be relied on and
//! now and then everywhere, and only ever believed when complete. A half-written or broken file keeps the last good report.

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

use crate::config::Settings;
use crate::files::{Fingerprint, Owner, read_untrusted};
use crate::locks::locked;
use crate::model::fleet::Launch;
use crate::model::state::StateReport;
use crate::readable::ReadableFd;
use folders::Folder;

/// How long changes are collected before they are looked at: what one client does to its file in that time costs us
/// one look.
const COLLECT: Duration = Duration::from_millis(5);

/// Each time so many check intervals have passed, all files are looked at, also those whose changes inotify would tell. With
/// a thousand clients a look at each of them every interval would be most of what an idle controller does.
const EVERYTHING: u32 = 12;

/// What a client's state file said, when it changed.
#[derive(Clone, Debug)]
pub struct Reported {
    /// Whose file.
    pub launch: Launch,
    /// Its content.
    pub report: Arc<StateReport>,
}

/// The state files that are being watched.
#[derive(Clone, Debug)]
pub struct StateFiles(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    table: Mutex<Table>,
    /// None where the system gives no inotify instance: then only looking again finds changes.
    inotify: Option<ReadableFd>,
    /// Told when a file must be looked at though nothing happens to it.
    look_again: Notify,
    /// How often somebody asked for all that was written so far.
    asked: watch::Sender<u64>,
    /// How many of them were served.
    served: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Table {
    files: HashMap<PathBuf, Vec<Watched>>,
    folders: HashMap<PathBuf, Folder>,
}

#[derive(Debug)]
struct Watched {
    launch: Launch,
    /// Whose the file must be.
    owner: Owner,
    /// What was there before the launch: some earlier process's words.
    baseline: Option<Fingerprint>,
    /// What was last reported.
    seen: Option<Fingerprint>,
    /// What was last found broken, and whether that was said.
    broken: Option<(Fingerprint, bool)>,
}

/// Keeps a state file watched until dropped.
#[derive(Debug)]
pub struct Watch {
    shared: Arc<Shared>,
    launch: Launch,
    path: PathBuf,
}

/// Why a look is taken.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Occasion {
    /// Inotify named the file.
    Event,
    /// It is time.
    Rescan,
}

/// Which files are looked at when it is time.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Extent {
    /// Those whose changes inotify does not tell, and those that were broken.
    Doubtful,
    All,
}

impl StateFiles {
    /// Prepares to watch files. Must be called within a tokio runtime.
    pub fn open() -> Self {
        let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK);
        let inotify = inotify.map_err(io::Error::from).and_then(ReadableFd::new);
        let inotify = inotify.inspect_err(|error| {
            warn!(%error, "inotify is not to be had, so clients' states are noticed only every check_interval");
        });
        Self(Arc::new(Shared {
            table: Mutex::default(),
            inotify: inotify.ok(),
            look_again: Notify::new(),
            asked: watch::Sender::default(),
            served: watch::Sender::default(),
        }))
    }

    /// Returns when all that clients have written so far is looked at, and sent where [`StateFiles::run`] sends it.
    pub async fn catch_up(&self) {
        let mut mine = 0;
        self.0.asked.send_modify(|asked| {
            *asked += 1;
            mine = *asked;
        });
        // Not an error: what serves is there as long as we are.
        let _ = self.0.served.subscribe().wait_for(|served| *served >= mine).await;
    }

    /// Watches the state file of a client that is about to be launched. What is in it now is not the new process's.
    pub fn watch(&self, launch: Launch, path: &Path, owner: Owner) -> Watch {
        self.watch_from(launch, path, owner, Fingerprint::at(path))
    }

    /// Watches the state file of a client that runs already.
    pub fn watch_running(&self, launch: Launch, path: &Path, owner: Owner) -> Watch {
        let watch = self.watch_from(launch, path, owner, None);
        self.0.look_again.notify_one();
        watch
    }

    fn watch_from(&self, launch: Launch, path: &Path, owner: Owner, baseline: Option<Fingerprint>) -> Watch {
        let shared = self.0.clone();
        {
            let mut table = shared.table();
            if let Some(parent) = path.parent() {
                let folder = table.folders.entry(parent.to_owned()).or_default();
                folder.files += 1;
                shared.watch_folder(parent, folder);
            }
            let watched = Watched { launch: launch.clone(), owner, baseline, seen: baseline, broken: None };
            table.files.entry(path.to_owned()).or_default().push(watched);
        }
        Watch { shared, launch, path: path.to_owned() }
    }

    /// Sends what changes to `reports` until nobody listens; every `check_interval` the files are looked at again for which
    /// inotify does not do.
    pub async fn run<T: From<Reported>>(
        self,
        reports: mpsc::Sender<T>,
        mut settings: watch::Receiver<Arc<Settings>>,
    ) {
        let mut buffer = [MaybeUninit::uninit(); 16 * 1024];
        let mut asked = self.0.asked.subscribe();
        let unserved = |asked: &u64| *asked > *self.0.served.borrow();
        loop {
            let period = settings.borrow_and_update().check_interval;
            let mut again = interval(period);
            again.set_missed_tick_behavior(MissedTickBehavior::Delay);
            again.reset();
            let mut ticks = 0_u32;
            loop {
                let mut serves = None;
                let (paths, occasion) = tokio::select! {
                    found = self.0.touched(&mut buffer) => match found {
                        Some(paths) => (paths, Occasion::Event),
                        None => (self.0.due(Extent::All), Occasion::Rescan),
                    },
                    Ok(number) = asked.wait_for(unserved) => {
                        serves = Some(*number);
                        drop(number);
                        match self.0.touched_so_far(&mut buffer) {
                            Some(paths) => (paths, Occasion::Event),
                            None => (self.0.due(Extent::All), Occasion::Rescan),
                        }
                    }
                    _ = again.tick() => {
                        ticks = (ticks + 1) % EVERYTHING;
                        let extent = if ticks == 0 { Extent::All } else { Extent::Doubtful };
                        (self.0.due(extent), Occasion::Rescan)
                    }
                    () = self.0.look_again.notified() => (self.0.due(Extent::All), Occasion::Rescan),
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
                    let found = tokio::task::spawn_blocking(move || shared.look(paths, occasion)).await;
                    for reported in found.unwrap_or_default() {
                        if reports.send(reported.into()).await.is_err() {
                            return;
                        }
                    }
                }
                if let Some(number) = serves {
                    self.0.served.send_replace(number);
                }
                if any {
                    // But whoever asks does not wait.
                    let _ = timeout(COLLECT, asked.wait_for(unserved)).await;
                }
            }
        }
    }
}

impl Shared {
    fn table(&self) -> MutexGuard<'_, Table> {
        locked(&self.table)
    }

    /// The files to look at now. A folder that is not watched, because it was not there or came anew, is tried again.
    fn due(&self, extent: Extent) -> HashSet<PathBuf> {
        let mut table = self.table();
        let Table { files, folders } = &mut *table;
        let mut unwatched = HashSet::new();
        for (path, folder) in folders.iter_mut().filter(|(_, folder)| folder.descriptor.is_none()) {
            self.watch_folder(path, folder);
            unwatched.insert(path.as_path());
        }
        let due = |path: &Path, all: &[Watched]| {
            extent == Extent::All
                || path.parent().is_none_or(|folder| unwatched.contains(folder))
                || all.iter().any(|watched| watched.broken.is_some_and(|(_, said)| !said))
        };
        files.iter().filter(|(path, all)| due(path, all)).map(|(path, _)| path.clone()).collect()
    }

    /// Reads what changed. Blocks on the file system.
    fn look(&self, paths: HashSet<PathBuf>, occasion: Occasion) -> Vec<Reported> {
        let mut reports = Vec::new();
        for path in paths {
            let Some(there) = Fingerprint::at(&path) else { continue };
            let known = |watched: &Watched| match occasion {
                // An event tells of a change that a fingerprint may be too coarse to show.
                Occasion::Event => watched.baseline == Some(there),
                Occasion::Rescan => {
                    watched.seen == Some(there)
                        || watched.broken.is_some_and(|(broken, said)| said && broken == there)
                }
            };
            // All who watch a file agree on whose it is.
            let owner = match self.table().files.get(&path) {
                Some(all) if !all.iter().all(known) => all.last().map(|watched| watched.owner.clone()),
                _ => None,
            };
            let Some(owner) = owner else { continue };
            // The file is read with the table open to others: it may be slow.
            let content = read_untrusted(&path, &owner, StateReport::MAX_BYTES);
            let mut table = self.table();
            let Some(all) = table.files.get_mut(&path) else { continue };
            for watched in all {
                if let Some(report) = watched.learn(&path, there, &content, occasion) {
                    reports.push(Reported { launch: watched.launch.clone(), report });
                }
            }
        }
        reports
    }
}

impl Drop for Watch {
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
            // Fails only when the folder is gone, and its watch with it.
            let _ = inotify::remove_watch(inotify.as_fd(), descriptor);
        }
    }
}

#[cfg(test)]
mod tests;
