//! The files that take the output of clients who outlive their controller. While there is a controller it logs what comes, as
//! it does with what comes through a pipe, and the next one begins where it ended. Nobody else reads along, so they are kept
//! small: a client that floods must not fill the disk that the registry file is on.

use std::collections::HashSet;
use std::fs::{File, OpenOptions};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::Duration;

use rustix::fs::OFlags;
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::io::Errno;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::task::AbortOnDropHandle;
use tracing::{info, warn};

use super::output::LineLog;
use crate::files::{FileError, replace};
use crate::locks::locked;
use crate::model::chain::Chain;
use crate::model::name::ClientName;

/// How often is asked which files were written to: soon enough for who waits for a line.
const INTERVAL: Duration = Duration::from_millis(500);
/// The most bytes of a file that are read at once. More is a flood.
const MAX_READ: u64 = 512 * 1024;
/// How many events are taken at once: more than inotify keeps unless told otherwise.
const MAX_EVENTS: usize = 20_000;
/// A file that is larger than this, in bytes, is emptied.
const MAX_BYTES: u64 = 4 * 1024 * 1024;
/// How much of its end, in bytes, is kept beside it under the name with `.old`.
const KEPT_BYTES: u64 = 1024 * 1024;

/// Opens such files, logs what comes into them, and keeps them small.
#[derive(Debug)]
pub(super) struct OutputFiles {
    table: Arc<Mutex<Table>>,
    _reader: AbortOnDropHandle<()>,
}

/// The files that are open, and who tells which of them were written to: to look into each of a thousand, twice a second, would
/// be most of what an idle controller does.
#[derive(Debug)]
struct Table {
    /// With inotify's number for each, none where it could not be watched. Two of the same file have the same.
    open: Vec<(Option<i32>, Weak<OutputFile>)>,
    /// None where the system gives no inotify instance.
    inotify: Option<OwnedFd>,
}

/// One of them; read and kept small as long as this lives.
#[derive(Debug)]
pub(super) struct OutputFile {
    path: PathBuf,
    file: File,
    /// Holds where a line begins that the next controller has not seen in the log.
    mark: File,
    reading: Mutex<Reading>,
}

#[derive(Debug)]
struct Reading {
    /// How far it is read.
    position: u64,
    marked: u64,
    lines: LineLog,
}

impl OutputFiles {
    /// Starts the task that looks at them.
    pub(super) fn new() -> Self {
        let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).ok();
        let table = Arc::new(Mutex::new(Table { open: Vec::new(), inotify }));
        let reader = tokio::spawn(look_again_and_again(table.clone()));
        Self { table, _reader: AbortOnDropHandle::new(reader) }
    }

    /// Opens the file at `path`, or makes it, to write at its end. What is in it and was not logged is logged now.
    pub(super) fn open(&self, path: &Path, client: &ClientName) -> io::Result<Arc<OutputFile>> {
        let no_link = OFlags::NOFOLLOW.bits().cast_signed();
        let mut options = OpenOptions::new();
        options.read(true).create(true).mode(0o600).custom_flags(no_link);
        let file = options.clone().append(true).open(path)?;
        let mark = options.write(true).truncate(false).open(beside(path, ".read"))?;
        let size = file.metadata()?.len();
        // Where nothing was written down somebody else has read it, if anybody.
        let position = read_mark(&mark).filter(|position| *position <= size).unwrap_or(size);
        if position < size {
            info!(%client, "what follows was printed while no controller was there");
        }
        let lines = LineLog::new(client.clone());
        let reading = Mutex::new(Reading { position, marked: position, lines });
        let file = Arc::new(OutputFile { path: path.to_owned(), file, mark, reading });
        write_mark(&file.mark, position)?;
        // Before it is read: what comes later is told.
        locked(&self.table).add(&file);
        file.read(&mut file.reading());
        Ok(file)
    }
}

impl Table {
    fn add(&mut self, file: &Arc<OutputFile>) {
        // This very file, whatever its path leads to by now.
        let path = format!("/proc/self/fd/{}", file.file.as_raw_fd());
        let inotify = self.inotify.as_ref();
        let watch = inotify.and_then(|inotify| inotify::add_watch(inotify, path, WatchFlags::MODIFY).ok());
        self.open.push((watch, Arc::downgrade(file)));
    }

    /// The files to look into: those that were written to since this was last asked, and those of which that can't be known.
    /// Those that nobody has any more are forgotten.
    fn due(&mut self) -> Vec<Arc<OutputFile>> {
        let mut gone = HashSet::new();
        self.open.retain(|(watch, file)| {
            let is_there = file.strong_count() > 0;
            gone.extend(watch.filter(|_| !is_there));
            is_there
        });
        for (watch, _) in &self.open {
            watch.map(|watch| gone.remove(&watch));
        }
        for watch in gone {
            // Fails only where it is gone with its file.
            let _ = self.inotify.as_ref().map(|inotify| inotify::remove_watch(inotify, watch));
        }
        let written = self.written();
        let is_due = |watch: &Option<i32>| match (watch, &written) {
            (Some(watch), Some(written)) => written.contains(watch),
            _ => true,
        };
        let due = self.open.iter().filter(|(watch, _)| is_due(watch));
        due.filter_map(|(_, file)| file.upgrade()).collect()
    }

    /// What inotify tells; none where too much happened to tell.
    fn written(&self) -> Option<HashSet<i32>> {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut reader = inotify::Reader::new(self.inotify.as_ref()?, &mut buffer);
        let mut written = HashSet::new();
        for _ in 0..MAX_EVENTS {
            match reader.next() {
                Ok(event) if event.events().contains(ReadFlags::QUEUE_OVERFLOW) => return None,
                Ok(event) => written.insert(event.wd()),
                Err(Errno::AGAIN) => return Some(written),
                Err(_) => return None,
            };
        }
        None
    }
}

impl OutputFile {
    /// Another handle, for a process to write to.
    pub(super) fn handle(&self) -> io::Result<File> {
        self.file.try_clone()
    }

    /// Logs what is there, whole line or not: its writer is gone. Blocks on the file system.
    pub(super) fn log_rest(&self) {
        let mut reading = self.reading();
        self.read(&mut reading);
        reading.lines.log_rest();
        self.mark(&mut reading);
    }

    fn reading(&self) -> MutexGuard<'_, Reading> {
        locked(&self.reading)
    }

    /// Logs what came, and empties the file when it is too large. Whether that is all until it is written to again.
    fn look(&self) -> Result<bool, FileError> {
        let mut reading = self.reading();
        let is_through = self.read(&mut reading);
        let is_settled = reading.lines.settle();
        self.cut(&mut reading)?;
        Ok(is_through && is_settled)
    }

    /// Reads on, so far as that goes at once; whether that is to the end.
    fn read(&self, reading: &mut Reading) -> bool {
        let end = reading.position + MAX_READ;
        let mut buffer = [0; 16 * 1024];
        while reading.position < end {
            // An error is like an end: it is tried again, and what can't be read is still in the file.
            match self.file.read_at(&mut buffer, reading.position) {
                Ok(0) | Err(_) => break,
                Ok(read) => {
                    reading.position += read as u64;
                    reading.lines.take(&buffer[..read]);
                }
            }
        }
        self.mark(reading);
        reading.position < end
    }

    /// Writes down for the next controller how far it is logged.
    fn mark(&self, reading: &mut Reading) {
        let logged = reading.position - reading.lines.waiting() as u64;
        // Where it can't be written lines are logged again by the next one, which is better than never.
        if logged != reading.marked && write_mark(&self.mark, logged).is_ok() {
            reading.marked = logged;
        }
    }

    /// Empties it when it is too large, and keeps its end. As with logrotate's `copytruncate`, what is written between the
    /// two is lost.
    fn cut(&self, reading: &mut Reading) -> Result<(), FileError> {
        let failed = |source| FileError::Io { path: self.path.clone(), source };
        let size = self.file.metadata().map_err(failed)?.len();
        if size <= MAX_BYTES {
            return Ok(());
        }
        if size > reading.position {
            let left_out = size - reading.position;
            warn!(client = %reading.lines.client, "{left_out} bytes of the client's output were left out: it prints too much");
        }
        let mut end = vec![0; usize::try_from(KEPT_BYTES).unwrap_or(0)];
        self.file.read_exact_at(&mut end, size - KEPT_BYTES).map_err(failed)?;
        // First emptied: on a full disk that makes the room. Its writers append, so they go on at its new end.
        self.file.set_len(0).map_err(failed)?;
        reading.lines.log_rest();
        reading.position = 0;
        self.mark(reading);
        replace(&beside(&self.path, ".old"), &end, 0o600)
    }
}

fn beside(path: &Path, extension: &str) -> PathBuf {
    let mut path = path.to_owned().into_os_string();
    path.push(extension);
    path.into()
}

/// A number of always the same length, so that one write replaces it.
fn write_mark(file: &File, position: u64) -> io::Result<()> {
    file.write_all_at(format!("{position:020}\n").as_bytes(), 0)
}

fn read_mark(file: &File) -> Option<u64> {
    let mut text = [0; 20];
    file.read_exact_at(&mut text, 0).ok()?;
    std::str::from_utf8(&text).ok()?.parse().ok()
}

async fn look_again_and_again(table: Arc<Mutex<Table>>) {
    let mut interval = interval(INTERVAL);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut unfinished = Vec::new();
    loop {
        interval.tick().await;
        let mut files = locked(&table).due();
        files.extend(unfinished.drain(..).filter_map(|file: Weak<OutputFile>| file.upgrade()));
        files.sort_unstable_by_key(Arc::as_ptr);
        files.dedup_by(|a, b| Arc::ptr_eq(a, b));
        if files.is_empty() {
            continue;
        }
        let looked = tokio::task::spawn_blocking(move || {
            let is_unfinished = |file: &Arc<OutputFile>| {
                !file.look().unwrap_or_else(|error| {
                    warn!(error = %Chain(&error), "a client's output is too large, and can't be made smaller");
                    false
                })
            };
            files.iter().filter(|file| is_unfinished(file)).map(Arc::downgrade).collect()
        });
        // It only ever fails when the runtime ends.
        unfinished = looked.await.unwrap_or_default();
    }
}

#[cfg(test)]
mod tests;
