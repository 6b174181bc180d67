//! The log: in `log_path`, in the journal, or lines on standard error.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{FileType, OFlags};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, reload};

use super::journal;
use super::lines::{self, LineWriter};
use crate::config::LogLevel;

/// How many lines may wait to be written before further ones are dropped.
const QUEUE: usize = 4096;

/// The log of this process. Dropping it writes what still waits.
pub struct Log {
    level: reload::Handle<Targets, Registry>,
    reopen: Arc<AtomicBool>,
    _writer: LineWriter,
}

impl Log {
    /// Sets the log up for the whole process. Fails when `file` cannot be opened.
    pub fn start(level: LogLevel, file: Option<&Path>) -> io::Result<Self> {
        let reopen = Arc::new(AtomicBool::new(false));
        let (filter, level) = reload::Layer::new(targets(level));
        let lines = |writer: &LineWriter| {
            tracing_subscriber::fmt::layer().with_writer(writer.lines()).with_target(false)
        };
        let (writer, layer) = if let Some(path) = file {
            let writer = LineWriter::start(LogFile::open(path, reopen.clone())?, QUEUE)?;
            let layer = lines(&writer).with_ansi(false).boxed();
            (writer, layer)
        } else if journal::is_stderr() {
            let writer = LineWriter::start_with(journal::Journal::open()?, QUEUE, journal::lost)?;
            let layer = journal::Entries(writer.lines()).boxed();
            (writer, layer)
        } else if is_read_by_a_program() {
            let lost = |dropped| format!("<4>{}\n", lines::lost(dropped)).into_bytes();
            let writer = LineWriter::start_with(io::stderr(), QUEUE, lost)?;
            let layer = lines(&writer).with_ansi(false).event_format(Prefixed).boxed();
            (writer, layer)
        } else {
            let writer = LineWriter::start(io::stderr(), QUEUE)?;
            let layer = lines(&writer).with_ansi(io::stderr().is_terminal()).boxed();
            (writer, layer)
        };
        // Fails only where there is a log already, which then stays.
        let _ = tracing_subscriber::registry().with(filter).with(layer).try_init();
        Ok(Self { level, reopen, _writer: writer })
    }

    /// Changes how much is logged from here on.
    pub fn set_level(&self, level: LogLevel) {
        // Fails only when the subscriber is gone, and with it the log.
        let _ = self.level.reload(targets(level));
    }

    /// Opens the log file anew before the next line, so that it can be moved away.
    pub fn reopen(&self) {
        self.reopen.store(true, Ordering::Relaxed);
    }
}

/// Whether standard error is a pipe or a socket, at whose other end somebody puts the time to each line.
fn is_read_by_a_program() -> bool {
    let kind = rustix::fs::fstat(rustix::stdio::stderr()).map(|stat| FileType::from_raw_mode(stat.st_mode));
    matches!(kind, Ok(FileType::Fifo | FileType::Socket))
}

/// Our own words and the clients' at `level`; of the libraries only what is a warning.
fn targets(level: LogLevel) -> Targets {
    let level = level.tracing_level();
    Targets::new()
        .with_default(LevelFilter::WARN)
        .with_target("wqcontroller", level)
        .with_target("client", level)
}

/// Lines for whoever reads our pipe and puts the time to them: a priority as in sd-daemon(3), the message, the fields.
#[derive(Clone, Copy, Debug, Default)]
pub struct Prefixed;

impl<S, N> FormatEvent<S, N> for Prefixed
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let priority = match *event.metadata().level() {
            Level::ERROR => 3,
            Level::WARN => 4,
            Level::INFO => 6,
            _ => 7,
        };
        write!(writer, "<{priority}>")?;
        context.format_fields(writer.by_ref(), event)?;
        writeln!(writer)
    }
}

/// A log file that can be moved away under us.
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
        let no_link = OFlags::NOFOLLOW.bits().cast_signed();
        OpenOptions::new().append(true).create(true).mode(0o640).custom_flags(no_link).open(path)
    }
}

impl Write for LogFile {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        if self.reopen.swap(false, Ordering::Relaxed) {
            // Where that fails the old file is better than none.
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
