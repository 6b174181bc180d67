//! The files that take the output of clients who outlive their controller. While there is a controller it logs what comes, as
//! it does with what comes through a pipe, and the next one begins where it ended. Nobody else reads along, so they are kept
//! small: a client that floods must not fill the disk that the registry file is on.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use rustix::fs::OFlags;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::task::AbortOnDropHandle;
use tracing::{info, warn};

use super::output::LineLog;
use crate::files::{FileError, replace};
use crate::model::chain::Chain;
use crate::model::name::ClientName;

/// How often the files are looked at: soon enough for who waits for a line, and with a thousand clients not worth mentioning.
const INTERVAL: Duration = Duration::from_millis(500);
/// The most bytes of a file that are read at once. More is a flood.
const MAX_READ: u64 = 512 * 1024;
/// A file that is larger than this, in bytes, is emptied.
const MAX_BYTES: u64 = 4 * 1024 * 1024;
/// How much of its end, in bytes, is kept beside it under the name with `.old`.
const KEPT_BYTES: u64 = 1024 * 1024;

/// Opens such files, logs what comes into them, and keeps them small.
#[derive(Debug)]
pub(super) struct OutputFiles {
    open: Arc<Mutex<Vec<Weak<OutputFile>>>>,
    _reader: AbortOnDropHandle<()>,
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
        let open = Arc::<Mutex<Vec<Weak<OutputFile>>>>::default();
        let reader = tokio::spawn(look_again_and_again(open.clone()));
        Self { open, _reader: AbortOnDropHandle::new(reader) }
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
        file.read(&mut file.reading());
        self.open.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::downgrade(&file));
        Ok(file)
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
        self.reading.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Logs what came, and empties the file when it is too large.
    fn look(&self) -> Result<(), FileError> {
        let mut reading = self.reading();
        self.read(&mut reading);
        reading.lines.settle();
        self.cut(&mut reading)
    }

    /// Reads on, so far as that goes at once.
    fn read(&self, reading: &mut Reading) {
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

async fn look_again_and_again(open: Arc<Mutex<Vec<Weak<OutputFile>>>>) {
    let mut interval = interval(INTERVAL);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        let files: Vec<Arc<OutputFile>> = {
            let mut open = open.lock().unwrap_or_else(PoisonError::into_inner);
            open.retain(|file| file.strong_count() > 0);
            open.iter().filter_map(Weak::upgrade).collect()
        };
        if files.is_empty() {
            continue;
        }
        // It only ever fails when the runtime ends.
        let _ = tokio::task::spawn_blocking(move || {
            for file in files {
                if let Err(error) = file.look() {
                    warn!(error = %Chain(&error), "a client's output is too large, and can't be made smaller");
                }
            }
        })
        .await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::io::Write;

    fn name() -> ClientName {
        ClientName::new("a").unwrap()
    }

    #[tokio::test]
    async fn a_flood_keeps_its_end_and_writers_go_on() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("output.log");
        let files = OutputFiles::new();
        let file = files.open(&path, &name()).unwrap();
        let mut writer = file.handle().unwrap();
        writer.write_all(b"small\n").unwrap();
        file.look().unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "small\n");

        let flood = [b"x".repeat(usize::try_from(MAX_BYTES).unwrap()), b"the end\n".to_vec()].concat();
        writer.write_all(&flood).unwrap();
        file.look().unwrap();
        writer.write_all(b"goes on\n").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "goes on\n");
        let old = fs::read(folder.path().join("output.log.old")).unwrap();
        assert_eq!(old.len() as u64, KEPT_BYTES);
        assert!(old.ends_with(b"xthe end\n"));
        file.look().unwrap();
        assert_eq!(file.reading().position, 8, "it is read from its new beginning");
    }

    #[tokio::test]
    async fn the_next_one_begins_with_the_line_that_is_not_logged() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("output.log");
        fs::write(&path, "from before it was marked\n").unwrap();
        let begin = 26;
        let next = || {
            let files = OutputFiles::new();
            let file = files.open(&path, &name()).unwrap();
            // Only what is asked for here is read.
            drop(files);
            file
        };
        let first = next();
        assert_eq!(first.reading().position, begin);
        first.handle().unwrap().write_all(b"one\nhalf").unwrap();
        first.look().unwrap();
        assert_eq!(first.reading().position, begin + 8);
        assert_eq!(first.reading().lines.waiting(), 4);
        drop(first);
        assert_eq!(read_mark(&File::open(beside(&path, ".read")).unwrap()), Some(begin + 4));

        let second = next();
        assert_eq!(second.reading().lines.waiting(), 4, "it begins with the same line");
        second.log_rest();
        drop(second);
        assert_eq!(read_mark(&File::open(beside(&path, ".read")).unwrap()), Some(begin + 8));
        // Another file by now, or no mark at all.
        fs::write(&path, "").unwrap();
        assert_eq!(next().reading().position, 0);
        fs::write(beside(&path, ".read"), "nonsense").unwrap();
        assert_eq!(next().reading().position, 0);
    }

    #[tokio::test]
    async fn a_link_is_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("output.log");
        std::os::unix::fs::symlink("/etc/passwd", &path).unwrap();
        assert!(OutputFiles::new().open(&path, &name()).is_err());
        fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", beside(&path, ".read")).unwrap();
        assert!(OutputFiles::new().open(&path, &name()).is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn they_are_looked_at_from_time_to_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("output.log");
        let files = OutputFiles::new();
        let file = files.open(&path, &name()).unwrap();
        file.handle().unwrap().set_len(MAX_BYTES + 1).unwrap();
        // A paused clock goes on whenever everybody waits.
        while fs::metadata(&path).unwrap().len() > 0 {
            tokio::time::sleep(INTERVAL).await;
        }
        drop(file);
        tokio::time::sleep(2 * INTERVAL).await;
        assert!(files.open.lock().unwrap().is_empty(), "nobody has it any more");
    }
}
