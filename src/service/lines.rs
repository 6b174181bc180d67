//! [`Lines`]: a way to write log lines that never waits.
//!
//! Lines are handed to a thread, and dropped when it does not keep up: a terminal that is held, a disk that hangs or a
//! pipe that nobody reads costs lines, never the service. (The tracing-appender crate does the same, but its guard
//! prints to the very pipe that is stuck, and drops no line of a writer that fails for a while.)

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use tracing_subscriber::fmt::MakeWriter;

/// The stack of a writer's thread, in bytes.
const THREAD_STACK: usize = 64 * 1024;

/// How long the last lines may take at the end.
const FLUSH_TIME: Duration = Duration::from_millis(500);

/// The way to a writer's thread.
#[derive(Clone, Debug)]
pub struct Lines {
    /// `None` ends the thread.
    queue: SyncSender<Option<Vec<u8>>>,
    dropped: Arc<AtomicU64>,
}

/// Keeps a writer's thread. Dropped, it waits a moment for the last lines to be written.
#[derive(Debug)]
pub struct LineWriter {
    lines: Lines,
    finished: Receiver<()>,
}

impl LineWriter {
    /// Starts a thread that writes to `target`. At most `waiting` lines wait for it. Fails when the system gives no
    /// thread.
    pub fn start(mut target: impl Write + Send + 'static, waiting: usize) -> io::Result<Self> {
        let (queue, lines) = sync_channel::<Option<Vec<u8>>>(waiting);
        let (finish, finished) = sync_channel(0);
        let dropped = Arc::new(AtomicU64::new(0));
        let counted = dropped.clone();
        let write = move || {
            while let Ok(Some(line)) = lines.recv() {
                let lost = counted.swap(0, Ordering::Relaxed);
                if lost > 0 {
                    // As below: there is nobody to tell.
                    let _ = writeln!(
                        target,
                        "{lost} lines of the log were dropped: they came faster than they could be written."
                    );
                }
                // Nothing can be done about a line that cannot be written, least of all a log line.
                let _ = target.write_all(&line);
            }
            drop(finish);
        };
        std::thread::Builder::new().name("log".into()).stack_size(THREAD_STACK).spawn(write)?;
        Ok(Self { lines: Lines { queue, dropped }, finished })
    }

    /// The way to the thread.
    pub fn lines(&self) -> Lines {
        self.lines.clone()
    }
}

impl Drop for LineWriter {
    fn drop(&mut self) {
        // A full queue means that nobody reads: then there is nothing to wait for.
        if self.lines.queue.try_send(None).is_ok() {
            let _ = self.finished.recv_timeout(FLUSH_TIME);
        }
    }
}

impl Write for Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.queue.try_send(Some(line.to_owned())).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Lines {
    type Writer = Self;
    fn make_writer(&self) -> Self {
        self.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::Read;
    use std::os::fd::OwnedFd;

    #[test]
    fn a_reader_that_hangs_stops_nobody_and_learns_what_it_missed() {
        let (mut reader, full) = io::pipe().unwrap();
        let writer = LineWriter::start(File::from(OwnedFd::from(full)), 16).unwrap();
        for _ in 0..1024 {
            writer.lines().write_all(&[b'x'; 1024]).unwrap();
        }
        let reading = std::thread::spawn(move || {
            let mut text = String::new();
            reader.read_to_string(&mut text).unwrap();
            text
        });
        while writer.lines.dropped.load(Ordering::Relaxed) > 0 {
            writer.lines().write_all(b"one more").unwrap();
        }
        drop(writer);
        assert!(reading.join().unwrap().contains(" lines of the log were dropped"));
    }
}
