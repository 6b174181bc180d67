//! Where log lines go: standard output (a pipe to the controller), a file, or both.
//!
//! Lines are handed to a thread, and dropped if it does not keep up: a controller that hangs and leaves the
//! pipe full must not stop an account.

use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::registry;

use crate::client::settings::LogSettings;
use crate::config::LogLevel;
use crate::service::line_format::LineFormat;
use crate::service::nonblocking_writer::{LineWriter, Lines};

/// The `tracing` target of lines about single messages: shown at the level `msg`, but not at `warn`.
pub(crate) const MESSAGES: &str = "message";

/// How many lines may wait for a writer.
const WAITING_LINES: usize = 512;

/// Why no log can be written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LogError {
    /// The log file cannot be opened.
    #[error("the log file {0:?} cannot be opened")]
    Open(PathBuf, #[source] io::Error),
    /// The path of the log file is not a regular file.
    #[error("the log file {0:?} is not a regular file")]
    NotAFile(PathBuf),
    /// Standard output cannot be copied.
    #[error("the log has no standard output")]
    Console(#[source] io::Error),
    /// A writer's thread cannot be started.
    #[error("the log's thread cannot be started")]
    Thread(#[source] io::Error),
}

/// Owns the writers of the log. Dropping it waits briefly for the last lines.
pub(crate) struct LogWriters {
    _file: Option<LineWriter>,
    /// The one writer of standard output: two would interleave their lines.
    console: Option<LineWriter>,
}

impl LogWriters {
    /// A writer to standard output for lines that are no log lines. It never blocks.
    ///
    /// # Errors
    /// Standard output cannot be used, or there is no thread.
    pub(crate) fn print(&mut self) -> Result<Lines, LogError> {
        let console = match self.console.take() {
            Some(console) => console,
            None => writer(copy_of_stdout()?)?,
        };
        Ok(self.console.insert(console).lines())
    }
}

/// Starts logging for the whole process.
///
/// # Errors
/// The log file or standard output cannot be used, or no thread can be started.
pub(crate) fn start(settings: &LogSettings) -> Result<LogWriters, LogError> {
    let file = match &settings.path {
        Some(path) => Some(writer(open(path)?)?),
        None => None,
    };
    let console = if settings.console.unwrap_or(file.is_none()) {
        // A copy of the descriptor, used by the writer thread alone: a full pipe blocks no caller.
        Some(writer(copy_of_stdout()?)?)
    } else {
        None
    };
    let lines = |writer, format: LineFormat| {
        // Our writers never fail. By default a failure would be printed to standard error, which panics if that
        // is closed.
        tracing_subscriber::fmt::layer().with_writer(writer).event_format(format).log_internal_errors(false)
    };
    let mut layers = Vec::new();
    layers.extend(
        file.as_ref().map(|writer| lines(writer.lines(), LineFormat::Dated).with_ansi(false).boxed()),
    );
    layers.extend(console.as_ref().map(|writer| {
        let writer = writer.lines();
        if io::stdout().is_terminal() {
            lines(writer, LineFormat::Dated).with_ansi(settings.disable_color != Some(true)).boxed()
        } else {
            lines(writer, LineFormat::Prioritized).with_ansi(false).boxed()
        }
    }));
    let subscriber = registry().with(layers).with(filter(settings.level));
    // Fails only if a test has set one before.
    let _ = tracing::subscriber::set_global_default(subscriber);
    Ok(LogWriters { _file: file, console })
}

fn writer(target: File) -> Result<LineWriter, LogError> {
    LineWriter::start(target, WAITING_LINES).map_err(LogError::Thread)
}

fn copy_of_stdout() -> Result<File, LogError> {
    io::stdout().as_fd().try_clone_to_owned().map(File::from).map_err(LogError::Console)
}

fn filter(level: LogLevel) -> Targets {
    // Lines of other crates below warnings do not concern operators.
    let others = |ours: LevelFilter| Targets::new().with_default(ours.min(LevelFilter::WARN));
    let all = |ours| others(ours).with_target(env!("CARGO_PKG_NAME"), ours);
    match level {
        LogLevel::Debug => all(LevelFilter::DEBUG).with_target(MESSAGES, LevelFilter::INFO),
        LogLevel::Info => all(LevelFilter::INFO).with_target(MESSAGES, LevelFilter::INFO),
        // Between `info` and `warn` in the original: messages, and of all else only warnings.
        LogLevel::Msg => all(LevelFilter::WARN).with_target(MESSAGES, LevelFilter::INFO),
        LogLevel::Warn => all(LevelFilter::WARN),
        LogLevel::Error | LogLevel::Fatal => all(LevelFilter::ERROR),
    }
}

fn open(path: &Path) -> Result<File, LogError> {
    // A link of another user is not followed, and a pipe's reader is not waited for.
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
    let opened = OpenOptions::new().append(true).create(true).mode(0o640).custom_flags(flags).open(path);
    let file = opened.map_err(|error| LogError::Open(path.to_owned(), error))?;
    match file.metadata() {
        Ok(metadata) if metadata.is_file() => Ok(file),
        Ok(_) => Err(LogError::NotAFile(path.to_owned())),
        Err(error) => Err(LogError::Open(path.to_owned(), error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracing::Level;

    #[test]
    fn log_levels_filter_lines() {
        let shown = |level, target: &str, line| filter(level).would_enable(target, &line);
        let ours = "wqcontroller::client::run";
        for (level, info, message, warning) in [
            (LogLevel::Debug, true, true, true),
            (LogLevel::Info, true, true, true),
            (LogLevel::Msg, false, true, true),
            (LogLevel::Warn, false, false, true),
            (LogLevel::Error, false, false, false),
            (LogLevel::Fatal, false, false, false),
        ] {
            assert_eq!(shown(level, ours, Level::INFO), info, "{level:?}");
            assert_eq!(shown(level, MESSAGES, Level::INFO), message, "{level:?}");
            assert_eq!(shown(level, ours, Level::WARN), warning, "{level:?}");
            assert!(shown(level, ours, Level::ERROR));
            assert_eq!(shown(level, ours, Level::DEBUG), level == LogLevel::Debug);
            assert!(!shown(level, "hyper", Level::INFO));
        }
    }

    #[test]
    fn printed_reports_share_the_log_writer() {
        use std::io::Write;
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut log = LogWriters { _file: None, console: Some(writer(file.reopen().unwrap()).unwrap()) };
        log.print().unwrap().write_all(b"one\n").unwrap();
        log.print().unwrap().write_all(b"two\n").unwrap();
        drop(log);
        assert_eq!(std::fs::read_to_string(file.path()).unwrap(), "one\ntwo\n");
    }
}
