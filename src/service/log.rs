//! The log: in `log_path`, in the journal, or lines on standard error.

use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{FileType, OFlags};
use tracing::debug;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, reload};

use super::journal::{self, JournalEntry};
use super::journal_reader::JournalReader;
use super::line_format::LineFormat;
use super::log_memory::{LogMemory, Remember};
use super::nonblocking_writer::{LineWriter, WriterThread};
use crate::config::LogLevel;

/// How many lines may wait to be written before further ones are dropped.
const QUEUE: usize = 4096;

/// The log of this process. Dropping it writes the lines that wait.
pub struct Log {
    level: reload::Handle<Targets, Registry>,
    reopen: Arc<AtomicBool>,
    readable: ReadableLog,
    _writer: Writer,
}

/// Where the log of an account can be read. What is in neither is nowhere.
#[derive(Clone, Debug)]
pub struct ReadableLog {
    /// The journal, where it may be read. It has the lines of units, and the controller's own where it writes there.
    pub journal: Option<Arc<JournalReader>>,
    /// The lines of the controller, and of its child processes, where the journal does not keep them.
    pub memory: Option<LogMemory>,
}

enum Writer {
    Lines(#[expect(dead_code, reason = "dropping it flushes")] LineWriter),
    Entries(#[expect(dead_code, reason = "dropping it flushes")] WriterThread<JournalEntry>),
}

impl Log {
    /// Sets up the log for the whole process.
    ///
    /// # Errors
    /// `file` can't be opened, or the system gives no thread.
    pub fn start(level: LogLevel, file: Option<&Path>) -> io::Result<Self> {
        let reopen = Arc::new(AtomicBool::new(false));
        let (filter, level) = reload::Layer::new(targets(level));
        let lines = |writer: LineWriter, format: LineFormat| {
            let layer = tracing_subscriber::fmt::layer().with_writer(writer.lines()).event_format(format);
            (Writer::Lines(writer), layer)
        };
        let is_in_journal = file.is_none() && journal::is_stderr();
        let journal = JournalReader::find(is_in_journal).map(Arc::new);
        // Nothing is kept in memory that the journal gives back.
        let memory = (journal.is_none() || !is_in_journal).then(LogMemory::default);
        let remember = memory.clone().map(Remember);
        let (writer, layer) = if let Some(path) = file {
            let writer = LineWriter::start(LogFile::open(path, reopen.clone())?, QUEUE)?;
            let (writer, layer) = lines(writer, LineFormat::Dated);
            (writer, layer.with_ansi(false).boxed())
        } else if is_in_journal {
            // By entries, not lines: only they can have fields.
            let writer = WriterThread::start_sink(journal::Journal::open()?, QUEUE)?;
            let layer = journal::Entries(writer.lines()).boxed();
            (Writer::Entries(writer), layer)
        } else if is_read_by_a_program() {
            let writer = LineWriter::start_text(io::stderr(), QUEUE, |dropped| format!("<4>{dropped}\n"))?;
            let (writer, layer) = lines(writer, LineFormat::Prioritized);
            (writer, layer.with_ansi(false).boxed())
        } else {
            let (writer, layer) = lines(LineWriter::start(io::stderr(), QUEUE)?, LineFormat::Dated);
            (writer, layer.with_ansi(io::stderr().is_terminal()).boxed())
        };
        // Fails only if there is a log already, which then stays.
        let _ = tracing_subscriber::registry().with(filter).with(layer).with(remember).try_init();
        let readable = ReadableLog { journal, memory };
        debug!("the logs of accounts are read {}", readable.describe());
        Ok(Self { level, reopen, readable, _writer: writer })
    }

    /// Where the logs of accounts can be read.
    pub fn readable(&self) -> ReadableLog {
        self.readable.clone()
    }

    /// Changes how much is logged from here on.
    pub fn set_level(&self, level: LogLevel) {
        // Fails only when the subscriber is gone, and with it the log.
        let _ = self.level.reload(targets(level));
    }

    /// Reopens the log file before the next line, so that it can be rotated.
    pub fn reopen(&self) {
        self.reopen.store(true, Ordering::Relaxed);
    }
}

impl ReadableLog {
    fn describe(&self) -> &'static str {
        match (&self.journal, &self.memory) {
            (Some(_), None) => "from the journal",
            (Some(_), Some(_)) => "from the journal for units, and else from memory",
            (None, _) => "from memory, as this user can't read the journal",
        }
    }
}

/// Whether standard error is a pipe or a socket, so that its reader adds the time to each line.
fn is_read_by_a_program() -> bool {
    let kind = rustix::fs::fstat(rustix::stdio::stderr()).map(|stat| FileType::from_raw_mode(stat.st_mode));
    matches!(kind, Ok(FileType::Fifo | FileType::Socket))
}

/// Our own lines and those of clients at `level`; of libraries only warnings.
fn targets(level: LogLevel) -> Targets {
    let level = level.tracing_level();
    Targets::new()
        .with_default(LevelFilter::WARN)
        .with_target("wqcontroller", level)
        .with_target("client", level)
}

/// A log file that can be rotated.
struct LogFile {
    path: PathBuf,
    file: File,
    reopen: Arc<AtomicBool>,
}

impl LogFile {
    fn open(path: &Path, reopen: Arc<AtomicBool>) -> io::Result<Self> {
        Ok(Self { path: path.to_owned(), file: Self::open_file(path)?, reopen })
    }

    fn open_file(path: &Path) -> io::Result<File> {
        // The folder may be another user's, who could lead the lines into a file of ours.
        let no_link = OFlags::NOFOLLOW.bits().cast_signed();
        OpenOptions::new().append(true).create(true).mode(0o640).custom_flags(no_link).open(path)
    }
}

impl Write for LogFile {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        // On the writer's thread, so that a disk that hangs does not hold up the reload.
        if self.reopen.swap(false, Ordering::Relaxed) {
            // If that fails, the old file is better than none.
            match Self::open_file(&self.path) {
                Ok(file) => self.file = file,
                Err(error) => {
                    writeln!(self.file, "the log file {} can't be opened: {error}", self.path.display())?
                }
            }
        }
        self.file.write(buffer)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
