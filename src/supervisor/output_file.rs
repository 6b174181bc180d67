//! Files for the output of clients that outlive their controller. A controller logs what is appended, as it does with a pipe, and
//! the next one continues where it ended. The files are kept small: a client that floods must not fill the disk of the registry
//! file.

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

use super::output::{LineLog, OutputSource};
use crate::files::{FileError, replace};
use crate::locks::locked;
use crate::model::error_chain::ErrorChain;
use crate::tasks::{on_blocking_thread, spawn_supervised};

/// How often the changed files are read. Short enough for a person who waits for a line.
const INTERVAL: Duration = Duration::from_millis(500);
/// How many bytes of a file are read at once. More is a flood.
const MAX_READ: u64 = 512 * 1024;
/// How many inotify events are read at once: more than its default queue holds.
const MAX_EVENTS: usize = 20_000;
/// A file that is larger than this, in bytes, is emptied.
const MAX_BYTES: u64 = 4 * 1024 * 1024;
/// How much of its end, in bytes, is kept in a file beside it, with `.old` appended to the name.
const KEPT_BYTES: u64 = 1024 * 1024;

/// Opens such files, logs what is appended, and keeps them small.
#[derive(Debug)]
pub(super) struct OutputFiles {
    table: Arc<Mutex<OpenOutputs>>,
    _reader: AbortOnDropHandle<()>,
}

/// The open files, and an inotify instance that says which of them changed. Looking into each of a thousand files twice a second
/// would be most of what an idle controller does.
#[derive(Debug)]
struct OpenOutputs {
    /// Each with its watch descriptor, none if it could not be watched. Two entries of the same file have the same descriptor.
    open: Vec<(Option<i32>, Weak<OutputFile>)>,
    /// None if there is no inotify instance left: then all files are read each time.
    inotify: Option<OwnedFd>,
}

/// An output file, read and kept small until this is dropped.
#[derive(Debug)]
pub(super) struct OutputFile {
    path: PathBuf,
    file: File,
    /// Contains the offset of the first line that is not logged, for the next controller.
    mark: File,
    reading: Mutex<ReadPosition>,
}

#[derive(Debug)]
struct ReadPosition {
    /// The offset up to which it is read.
    position: u64,
    marked: u64,
    lines: LineLog,
}

impl OutputFiles {
    /// Starts the task that reads them.
    pub(super) fn new() -> Self {
        let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).ok();
        let table = Arc::new(Mutex::new(OpenOutputs { open: Vec::new(), inotify }));
        let reader = spawn_supervised("the task that logs the output of clients", {
            let table = table.clone();
            move || look_again_and_again(table.clone())
        });
        Self { table, _reader: reader }
    }

    /// Opens or creates the file at `path` for appending, and logs what is in it and was not logged.
    pub(super) fn open(&self, path: &Path, source: OutputSource) -> io::Result<Arc<OutputFile>> {
        // Through a link the controller would append to, and truncate, any file of its user.
        let no_link = OFlags::NOFOLLOW.bits().cast_signed();
        let mut options = OpenOptions::new();
        options.read(true).create(true).mode(0o600).custom_flags(no_link);
        let file = options.clone().append(true).open(path)?;
        let mark = options.write(true).truncate(false).open(beside(path, ".read"))?;
        let size = file.metadata()?.len();
        // Without a mark an earlier version wrote it, which did not log it.
        let position = read_mark(&mark).filter(|position| *position <= size).unwrap_or(size);
        if position < size {
            info!(client = %source.client, "the following lines were printed while no controller was there");
        }
        let lines = LineLog::new(source);
        let reading = Mutex::new(ReadPosition { position, marked: position, lines });
        let file = Arc::new(OutputFile { path: path.to_owned(), file, mark, reading });
        // Also if it is that already: a file without a mark counts as logged to its end, so the next controller would skip what
        // is printed until the first mark.
        write_mark(&file.mark, position)?;
        // Watched before it is read, so that no later change is missed.
        locked(&self.table).add(&file);
        file.read(&mut file.reading());
        Ok(file)
    }
}

impl OpenOutputs {
    fn add(&mut self, file: &Arc<OutputFile>) {
        // By its descriptor: the path may lead to another file by now.
        let path = format!("/proc/self/fd/{}", file.file.as_raw_fd());
        let inotify = self.inotify.as_ref();
        let watch = inotify.and_then(|inotify| inotify::add_watch(inotify, path, WatchFlags::MODIFY).ok());
        self.open.push((watch, Arc::downgrade(file)));
    }

    /// The files to read: those that changed since the last call, and those without a watch. Drops closed files.
    fn due(&mut self) -> Vec<Arc<OutputFile>> {
        let mut gone = HashSet::new();
        self.open.retain(|(watch, file)| {
            let is_there = file.strong_count() > 0;
            gone.extend(watch.filter(|_| !is_there));
            is_there
        });
        // inotify has one descriptor for each inode (inotify(7)). The next process of a client has the same file open, so the
        // watch stays as long as one of them does.
        for (watch, _) in &self.open {
            watch.map(|watch| gone.remove(&watch));
        }
        for watch in gone {
            // Fails only if the watch is gone with its file.
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

    /// The watch descriptors of changed files; none if the queue overflowed.
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
        // More events may wait. Reading every file is right in any case, and the next call takes the rest.
        None
    }
}

impl OutputFile {
    /// A handle for a process to write to.
    pub(super) fn handle(&self) -> io::Result<File> {
        self.file.try_clone()
    }

    /// Logs the rest, even without a line end, after its writer is gone. Blocks on the file system.
    pub(super) fn log_rest(&self) {
        let mut reading = self.reading();
        self.read(&mut reading);
        reading.lines.log_rest();
        self.mark(&mut reading);
    }

    /// As [`OutputFile::log_rest`]; returns the last line.
    pub(super) fn log_rest_and_last(&self) -> Option<String> {
        self.log_rest();
        self.reading().lines.last_words()
    }

    fn reading(&self) -> MutexGuard<'_, ReadPosition> {
        locked(&self.reading)
    }

    /// Logs what was appended, and empties the file when it is too large. Returns whether all is read.
    fn look(&self) -> Result<bool, FileError> {
        let mut reading = self.reading();
        let is_through = self.read(&mut reading);
        let is_settled = reading.lines.settle();
        self.cut(&mut reading)?;
        Ok(is_through && is_settled)
    }

    /// Reads on, up to [`MAX_READ`]. Returns whether that is the end.
    fn read(&self, reading: &mut ReadPosition) -> bool {
        let end = reading.position + MAX_READ;
        let mut buffer = [0; 16 * 1024];
        while reading.position < end {
            // An error counts as the end: the rest stays in the file, and is tried again at the next change.
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

    /// Writes the mark: how far the file is logged, for the next controller.
    fn mark(&self, reading: &mut ReadPosition) {
        // An incomplete line is not logged yet: the next controller begins with it, and logs it as a whole.
        let logged = reading.position - reading.lines.waiting() as u64;
        // If it cannot be written, the next controller logs some lines twice, which is better than never.
        if logged != reading.marked && write_mark(&self.mark, logged).is_ok() {
            reading.marked = logged;
        }
    }

    /// Empties a file that is too large, and keeps its end. As with logrotate's `copytruncate`, what is written between the two
    /// steps is lost.
    fn cut(&self, reading: &mut ReadPosition) -> Result<(), FileError> {
        let failed = |source| FileError::Io { path: self.path.clone(), source };
        let size = self.file.metadata().map_err(failed)?.len();
        if size <= MAX_BYTES {
            return Ok(());
        }
        if size > reading.position {
            let left_out = size - reading.position;
            warn!(client = %reading.lines.source.client, "{left_out} bytes of its output were dropped: it prints too much");
        }
        // The subtraction can't underflow: the size is over MAX_BYTES, which is more than KEPT_BYTES.
        let mut end = vec![0; usize::try_from(KEPT_BYTES).unwrap_or(0)];
        self.file.read_exact_at(&mut end, size - KEPT_BYTES).map_err(failed)?;
        // Emptied before the end is saved: on a full disk that makes room. Writers append, so they continue at the new end.
        self.file.set_len(0).map_err(failed)?;
        // What follows in the emptied file begins a line of its own.
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

/// The mark has a fixed length, so that one write replaces it.
fn write_mark(file: &File, position: u64) -> io::Result<()> {
    file.write_all_at(format!("{position:020}\n").as_bytes(), 0)
}

fn read_mark(file: &File) -> Option<u64> {
    let mut text = [0; 20];
    file.read_exact_at(&mut text, 0).ok()?;
    std::str::from_utf8(&text).ok()?.parse().ok()
}

async fn look_again_and_again(table: Arc<Mutex<OpenOutputs>>) {
    let mut interval = interval(INTERVAL);
    // After a disk that hung there is no burst of ticks to make up for.
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut unfinished = Vec::new();
    loop {
        interval.tick().await;
        let mut files = locked(&table).due();
        files.extend(unfinished.drain(..).filter_map(|file: Weak<OutputFile>| file.upgrade()));
        // A file can be unfinished and due, and is read once.
        files.sort_unstable_by_key(Arc::as_ptr);
        files.dedup_by(|a, b| Arc::ptr_eq(a, b));
        if files.is_empty() {
            continue;
        }
        let looked = on_blocking_thread(move || {
            let is_unfinished = |file: &Arc<OutputFile>| {
                !file.look().unwrap_or_else(|error| {
                    let error = ErrorChain(&error);
                    warn!(%error, "the output file of a client is too large, and can't be emptied: {error}");
                    false
                })
            };
            // Weak, so that this list does not keep the file of an exited client open and watched.
            files.iter().filter(|file| is_unfinished(file)).map(Arc::downgrade).collect()
        });
        unfinished = looked.await;
    }
}

#[cfg(test)]
mod tests;
