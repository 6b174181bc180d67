//! State files, with and without inotify.

use super::*;
use crate::model::client::Generation;
use crate::model::name::ClientName;
use std::fs;

struct Bench {
    folder: tempfile::TempDir,
    files: StateFiles,
    inputs: mpsc::Receiver<Input>,
    _settings: watch::Sender<Arc<Settings>>,
}

impl Bench {
    fn new(check_interval: Duration, with_inotify: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut files = StateFiles::open();
        if !with_inotify {
            Arc::get_mut(&mut files.0).unwrap().inotify = None;
        }
        let (sender, inputs) = mpsc::channel(16);
        let (settings, receiver) =
            watch::channel(Arc::new(Settings { check_interval, ..Settings::default() }));
        tokio::spawn(files.clone().run(sender, receiver));
        Self { folder, files, inputs, _settings: settings }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("mojo_webqq_state_小明.json")
    }

    fn watch(&self, generation: u64) -> StateFileWatch {
        let name = ClientName::new("小明").unwrap();
        self.files.watch(Launch { name, generation: Generation(generation) }, &self.path(), FileOwner::me())
    }

    /// Another client's file, whose report shows that all files were read.
    fn watch_other(&self) -> StateFileWatch {
        let launch = Launch { name: ClientName::new("other").unwrap(), generation: Generation(99) };
        self.files.watch(launch, &self.folder.path().join("other"), FileOwner::me())
    }

    /// Waits until all files were read twice from the beginning. Only the other one is reported.
    async fn look(&mut self) {
        // Each of another size, as the timestamps of a file system may be too coarse to differ.
        for word in ["a", "bb", "ccc"] {
            fs::write(self.folder.path().join("other"), state(word)).unwrap();
            assert_eq!(self.next().await, (word.into(), 99));
        }
    }

    /// The next report's state and generation.
    async fn next(&mut self) -> (String, u64) {
        let input = tokio::time::timeout(Duration::from_secs(10), self.inputs.recv());
        state_and_generation(input.await.unwrap().unwrap())
    }
}

fn state_and_generation(input: Input) -> (String, u64) {
    let Input::Report(launch, report) = input else { panic!("{input:?}") };
    (report.state.to_string(), launch.generation.0)
}

fn state(word: &str) -> String {
    format!(r#"{{"state":"{word}"}}"#)
}

const NEVER: Duration = Duration::from_secs(3600);

#[tokio::test]
async fn state_file_is_read_however_it_is_written() {
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
async fn state_file_of_an_earlier_process_is_ignored() {
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
async fn state_file_of_an_earlier_process_is_ignored_by_rescans() {
    let mut bench = Bench::new(Duration::from_millis(10), false);
    fs::write(bench.path(), state("running")).unwrap();
    let _watch = bench.watch(1);
    let _other = bench.watch_other();
    bench.look().await;
}

#[tokio::test]
async fn broken_state_file_is_ignored() {
    let mut bench = Bench::new(Duration::from_millis(10), false);
    let _watch = bench.watch(1);
    let _other = bench.watch_other();
    let elsewhere = bench.folder.path().join("elsewhere");
    fs::write(&elsewhere, state("stop")).unwrap();
    let large = " ".repeat(StateReport::MAX_BYTES as usize) + &state("stop");
    for content in [r#"{"state":"runn"#, "", "{}", &large] {
        fs::write(bench.path(), content).unwrap();
        bench.look().await;
    }
    fs::remove_file(bench.path()).unwrap();
    std::os::unix::fs::symlink(&elsewhere, bench.path()).unwrap();
    bench.look().await;
    fs::remove_file(bench.path()).unwrap();
    fs::write(bench.path(), state("running")).unwrap();
    assert_eq!(bench.next().await, ("running".into(), 1));
}

#[tokio::test]
async fn rescans_find_changes_without_inotify() {
    let mut bench = Bench::new(Duration::from_millis(10), false);
    let _watch = bench.watch(1);
    fs::write(bench.path(), state("scaning")).unwrap();
    assert_eq!(bench.next().await, ("scaning".into(), 1));
}

#[tokio::test]
async fn catch_up_reads_everything_written() {
    for with_inotify in [true, false] {
        let mut bench = Bench::new(NEVER, with_inotify);
        let _watch = bench.watch(1);
        for word in ["a", "bb", "ccc", "dddd", "eeeee", "ffffff"] {
            fs::write(bench.path(), state(word)).unwrap();
            bench.files.catch_up().await;
            let mut last = None;
            while let Ok(input) = bench.inputs.try_recv() {
                last = Some(state_and_generation(input).0);
            }
            assert_eq!(last.as_deref(), Some(word), "{with_inotify}");
        }
        // It returns even if nothing changed.
        bench.files.catch_up().await;
    }
}

#[tokio::test]
async fn catch_up_reads_files_without_a_watch() {
    let mut bench = Bench::new(NEVER, true);
    let _watch = bench.watch(1);
    {
        let mut table = bench.files.0.table();
        let folder = table.folders.get_mut(bench.folder.path()).unwrap();
        let inotify = bench.files.0.inotify.as_ref().unwrap();
        inotify::remove_watch(inotify, folder.descriptor.take().unwrap()).unwrap();
    }
    fs::write(bench.path(), state("stop")).unwrap();
    bench.files.catch_up().await;
    assert_eq!(state_and_generation(bench.inputs.try_recv().unwrap()), ("stop".into(), 1));
}

#[tokio::test]
async fn replaced_folder_is_watched_again() {
    let mut bench = Bench::new(Duration::from_millis(10), true);
    let folder = bench.folder.path().to_owned();
    let _watch = bench.watch(1);
    let descriptor = |bench: &Bench| bench.files.0.table().folders[&folder].descriptor;
    let first = descriptor(&bench);
    fs::remove_dir(&folder).unwrap();
    fs::create_dir(&folder).unwrap();
    fs::write(bench.path(), state("scaning")).unwrap();
    assert_eq!(bench.next().await, ("scaning".into(), 1));
    while descriptor(&bench).is_none_or(|now| Some(now) == first) {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn rescans_find_changes_that_inotify_misses() {
    let mut bench = Bench::new(Duration::from_millis(1), true);
    let _watch = bench.watch(1);
    // As on a network file system, where inotify does not see writes of other machines.
    inotify::remove_watch(
        bench.files.0.inotify.as_ref().unwrap().as_fd(),
        bench.files.0.table().folders[bench.folder.path()].descriptor.unwrap(),
    )
    .unwrap();
    let inotify = bench.files.0.inotify.as_ref().unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    let other = inotify::add_watch(inotify, elsewhere.path(), inotify::WatchFlags::CREATE).unwrap();
    bench.files.0.table().folders.get_mut(bench.folder.path()).unwrap().descriptor = Some(other);
    fs::write(bench.path(), state("scaning")).unwrap();
    assert_eq!(bench.next().await, ("scaning".into(), 1));
}

#[tokio::test]
async fn dropped_watches_are_removed() {
    let bench = Bench::new(NEVER, true);
    let (one, two) = (bench.watch(1), bench.watch(2));
    drop(one);
    assert_eq!(bench.files.0.table().folders.len(), 1);
    drop(two);
    let table = bench.files.0.table();
    assert!(table.files.is_empty() && table.folders.is_empty());
}

/// Like a unit that restarts: its folder is removed and created again, and no rescan is due.
#[tokio::test]
async fn replaced_folder_is_watched_again_at_once() {
    let mut bench = Bench::new(NEVER, true);
    let _watch = bench.watch(1);
    fs::write(bench.path(), state("running")).unwrap();
    while bench.next().await != ("running".into(), 1) {}
    fs::remove_dir_all(bench.folder.path()).unwrap();
    fs::create_dir(bench.folder.path()).unwrap();
    let launch = Launch { name: ClientName::new("小明").unwrap(), generation: Generation(2) };
    let _again = bench.files.watch_running(launch, &bench.path(), FileOwner::me());
    fs::write(bench.path(), state("loading")).unwrap();
    while bench.next().await != ("loading".into(), 2) {}
}
