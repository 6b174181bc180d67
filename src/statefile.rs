//! Clients' state files: watched by inotify, looked through again every few seconds, and only ever believed when
//! complete. A half-written or broken file keeps the last good report.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::io::Errno;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{MissedTickBehavior, interval, sleep};
use tracing::{debug, warn};

use crate::config::Settings;
use crate::files::{FileError, Fingerprint, read_untrusted};
use crate::model::chain::Chain;
use crate::model::fleet::Launch;
use crate::model::state::{ReportError, StateReport};
use crate::readable::ReadableFd;

/// How long changes are collected before they are looked at: what one client does to its file in that time costs us
/// one look.
const COLLECT: Duration = Duration::from_millis(5);

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
    owner: u32,
    /// Told when a file must be looked at though nothing happens to it.
    look_again: Notify,
}

#[derive(Debug, Default)]
struct Table {
    files: HashMap<PathBuf, Vec<Watched>>,
    folders: HashMap<PathBuf, Folder>,
}

#[derive(Debug)]
struct Folder {
    /// Inotify's number for it; none where it could not be watched.
    descriptor: Option<i32>,
    files: usize,
}

#[derive(Debug)]
struct Watched {
    launch: Launch,
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

impl StateFiles {
    /// Prepares to watch files owned by user `owner`. Must be called within a tokio runtime.
    pub fn new(owner: u32) -> Self {
        let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK);
        let inotify = inotify.map_err(io::Error::from).and_then(ReadableFd::new);
        let inotify = inotify.inspect_err(|error| {
            warn!(%error, "inotify is not to be had, so clients' states are noticed only every check_interval");
        });
        Self(Arc::new(Shared {
            table: Mutex::default(),
            inotify: inotify.ok(),
            owner,
            look_again: Notify::new(),
        }))
    }

    /// Watches the state file of a client that is about to be launched. What is in it now is not the new process's.
    pub fn watch(&self, launch: Launch, path: &Path) -> Watch {
        self.watch_from(launch, path, Fingerprint::at(path))
    }

    /// Watches the state file of a client that runs already.
    pub fn watch_running(&self, launch: Launch, path: &Path) -> Watch {
        let watch = self.watch_from(launch, path, None);
        self.0.look_again.notify_one();
        watch
    }

    fn watch_from(&self, launch: Launch, path: &Path, baseline: Option<Fingerprint>) -> Watch {
        let shared = self.0.clone();
        {
            let mut table = shared.table();
            if let Some(parent) = path.parent() {
                let folder =
                    table.folders.entry(parent.to_owned()).or_insert(Folder { descriptor: None, files: 0 });
                folder.files += 1;
                if folder.descriptor.is_none() {
                    folder.descriptor = shared.watch_folder(parent);
                }
            }
            let watched = Watched { launch: launch.clone(), baseline, seen: baseline, broken: None };
            table.files.entry(path.to_owned()).or_default().push(watched);
        }
        Watch { shared, launch, path: path.to_owned() }
    }

    /// Sends what changes to `reports` until nobody listens; every `check_interval` all files are looked at again.
    pub async fn run(self, reports: mpsc::Sender<Reported>, mut settings: watch::Receiver<Arc<Settings>>) {
        let mut buffer = [MaybeUninit::uninit(); 16 * 1024];
        loop {
            let period = settings.borrow_and_update().check_interval;
            let mut again = interval(period);
            again.set_missed_tick_behavior(MissedTickBehavior::Delay);
            again.reset();
            loop {
                let (paths, occasion) = tokio::select! {
                    found = self.0.touched(&mut buffer) => match found {
                        Some(paths) => (paths, Occasion::Event),
                        None => (self.0.every_path(), Occasion::Rescan),
                    },
                    _ = again.tick() => (self.0.every_path(), Occasion::Rescan),
                    () = self.0.look_again.notified() => (self.0.every_path(), Occasion::Rescan),
                    changed = settings.changed() => {
                        if changed.is_err() {
                            return;
                        }
                        break;
                    }
                };
                let shared = self.0.clone();
                let found = tokio::task::spawn_blocking(move || shared.look(paths, occasion)).await;
                for reported in found.unwrap_or_default() {
                    if reports.send(reported).await.is_err() {
                        return;
                    }
                }
                sleep(COLLECT).await;
            }
        }
    }
}

impl Shared {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn every_path(&self) -> HashSet<PathBuf> {
        self.table().files.keys().cloned().collect()
    }

    fn watch_folder(&self, folder: &Path) -> Option<i32> {
        let changes =
            WatchFlags::CLOSE_WRITE | WatchFlags::MODIFY | WatchFlags::MOVED_TO | WatchFlags::CREATE;
        match inotify::add_watch(self.inotify.as_ref()?, folder, changes | WatchFlags::ONLYDIR) {
            Ok(descriptor) => Some(descriptor),
            Err(error) => {
                warn!(
                    folder = %folder.display(), %error,
                    "this folder can't be watched, so states in it are noticed only every check_interval"
                );
                None
            }
        }
    }

    /// Waits for changes: the watched files that were touched, or none where too much happened to tell.
    async fn touched(&self, buffer: &mut [MaybeUninit<u8>]) -> Option<HashSet<PathBuf>> {
        let Some(inotify) = &self.inotify else { return std::future::pending().await };
        loop {
            match inotify.read_with(|fd| self.read_events(fd, buffer)).await {
                Ok(Some(paths)) if paths.is_empty() => sleep(COLLECT).await,
                Ok(paths) => return paths,
                Err(error) => {
                    warn!(%error, "inotify can't be read");
                    sleep(Duration::from_secs(1)).await;
                    return None;
                }
            }
        }
    }

    fn read_events(
        &self,
        fd: BorrowedFd<'_>,
        buffer: &mut [MaybeUninit<u8>],
    ) -> io::Result<Option<HashSet<PathBuf>>> {
        let mut reader = inotify::Reader::new(fd, buffer);
        let mut paths = HashSet::new();
        let mut any = false;
        let table = self.table();
        let folders: HashMap<i32, &PathBuf> =
            table.folders.iter().filter_map(|(path, folder)| Some((folder.descriptor?, path))).collect();
        loop {
            let event = match reader.next() {
                Ok(event) => event,
                Err(Errno::AGAIN) if any => return Ok(Some(paths)),
                Err(error) => return Err(error.into()),
            };
            any = true;
            if event.events().contains(ReadFlags::QUEUE_OVERFLOW) {
                return Ok(None);
            }
            let (Some(folder), Some(file)) = (folders.get(&event.wd()), event.file_name()) else { continue };
            let path = folder.join(OsStr::from_bytes(file.to_bytes()));
            if table.files.contains_key(&path) {
                paths.insert(path);
            }
            if reader.is_buffer_empty() {
                return Ok(Some(paths));
            }
        }
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
            if self.table().files.get(&path).is_none_or(|all| all.iter().all(known)) {
                continue;
            }
            // The file is read with the table open to others: it may be slow.
            let content = read_untrusted(&path, self.owner, StateReport::MAX_BYTES);
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

/// Why a state file is of no use.
#[derive(Debug, thiserror::Error)]
enum Unusable<'a> {
    #[error(transparent)]
    File(&'a FileError),
    #[error(transparent)]
    Content(ReportError),
}

impl Watched {
    fn learn(
        &mut self,
        path: &Path,
        there: Fingerprint,
        content: &Result<(Vec<u8>, Fingerprint), FileError>,
        occasion: Occasion,
    ) -> Option<Arc<StateReport>> {
        let parsed = match content {
            Ok((_, print)) if self.baseline == Some(*print) => return None,
            Ok((text, print)) => {
                StateReport::parse(text).map(|report| (report, *print)).map_err(Unusable::Content)
            }
            Err(error) if error.is_missing() => return None,
            Err(error) => Err(Unusable::File(error)),
        };
        match parsed {
            Ok((report, print)) => {
                self.baseline = None;
                self.seen = Some(print);
                self.broken = None;
                Some(Arc::new(report))
            }
            // While a client writes, its file is broken for a moment; so this is said only of one that stays so.
            Err(error) => {
                let stays =
                    occasion == Occasion::Rescan && self.broken.is_some_and(|(print, _)| print == there);
                if stays {
                    warn!(
                        client = %self.launch.name, path = %path.display(), error = %Chain(&error),
                        "the client's state file can't be used; what it said before still holds"
                    );
                } else {
                    debug!(client = %self.launch.name, path = %path.display(), error = %Chain(&error), "state file");
                }
                self.broken = Some((there, stays));
                None
            }
        }
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
mod tests {
    use super::*;
    use crate::model::client::Generation;
    use crate::model::name::ClientName;
    use std::fs;

    struct Bench {
        folder: tempfile::TempDir,
        files: StateFiles,
        reports: mpsc::Receiver<Reported>,
        _settings: watch::Sender<Arc<Settings>>,
    }

    impl Bench {
        fn new(check_interval: Duration, with_inotify: bool) -> Self {
            let folder = tempfile::tempdir().unwrap();
            let mut files = StateFiles::new(rustix::process::geteuid().as_raw());
            if !with_inotify {
                Arc::get_mut(&mut files.0).unwrap().inotify = None;
            }
            let (sender, reports) = mpsc::channel(16);
            let (settings, receiver) =
                watch::channel(Arc::new(Settings { check_interval, ..Settings::default() }));
            tokio::spawn(files.clone().run(sender, receiver));
            Self { folder, files, reports, _settings: settings }
        }

        fn path(&self) -> PathBuf {
            self.folder.path().join("mojo_webqq_state_小明.json")
        }

        fn watch(&self, generation: u64) -> Watch {
            let name = ClientName::new("小明").unwrap();
            self.files.watch(Launch { name, generation: Generation(generation) }, &self.path())
        }

        /// The next report's state and generation.
        async fn next(&mut self) -> (String, u64) {
            let reported = tokio::time::timeout(Duration::from_secs(10), self.reports.recv());
            let reported = reported.await.unwrap().unwrap();
            (reported.report.state.to_string(), reported.launch.generation.0)
        }
    }

    fn state(word: &str) -> String {
        format!(r#"{{"state":"{word}"}}"#)
    }

    const NEVER: Duration = Duration::from_secs(3600);

    #[tokio::test]
    async fn every_way_of_writing_is_seen() {
        let mut bench = Bench::new(NEVER, true);
        let _watch = bench.watch(1);
        fs::write(bench.path(), state("init")).unwrap();
        assert_eq!(bench.next().await, ("init".into(), 1));
        let other = bench.folder.path().join("new");
        fs::write(&other, state("loading")).unwrap();
        fs::rename(&other, bench.path()).unwrap();
        assert_eq!(bench.next().await, ("loading".into(), 1));
        fs::write(bench.path(), state("running")).unwrap();
        while bench.next().await != ("running".into(), 1) {}
    }

    #[tokio::test]
    async fn what_an_earlier_process_said_does_not_count() {
        let mut bench = Bench::new(Duration::from_millis(10), true);
        fs::write(bench.path(), state("running")).unwrap();
        let first = bench.watch(1);
        fs::write(bench.path(), state("scaning")).unwrap();
        assert_eq!(bench.next().await, ("scaning".into(), 1));
        drop(first);
        let _second = bench.watch(2);
        fs::write(bench.path(), state("stop")).unwrap();
        assert_eq!(bench.next().await, ("stop".into(), 2));
    }

    #[tokio::test]
    async fn a_broken_file_is_passed_over() {
        let mut bench = Bench::new(Duration::from_millis(10), true);
        let _watch = bench.watch(1);
        fs::write(bench.path(), r#"{"state":"runn"#).unwrap();
        fs::remove_file(bench.path()).unwrap();
        std::os::unix::fs::symlink("/proc/self/environ", bench.path()).unwrap();
        fs::remove_file(bench.path()).unwrap();
        fs::write(bench.path(), " ".repeat(StateReport::MAX_BYTES as usize) + &state("stop")).unwrap();
        fs::remove_file(bench.path()).unwrap();
        fs::write(bench.path(), state("running")).unwrap();
        assert_eq!(bench.next().await, ("running".into(), 1));
    }

    #[tokio::test]
    async fn without_inotify_looking_again_is_enough() {
        let mut bench = Bench::new(Duration::from_millis(10), false);
        let _watch = bench.watch(1);
        fs::write(bench.path(), state("scaning")).unwrap();
        assert_eq!(bench.next().await, ("scaning".into(), 1));
    }

    #[tokio::test]
    async fn nothing_stays_behind() {
        let bench = Bench::new(NEVER, true);
        let (one, two) = (bench.watch(1), bench.watch(2));
        drop(one);
        assert_eq!(bench.files.0.table().folders.len(), 1);
        drop(two);
        let table = bench.files.0.table();
        assert!(table.files.is_empty() && table.folders.is_empty());
    }
}
