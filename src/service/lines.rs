//! [`Lines`]: a way to write log lines that never waits.
//!
//! Lines are handed to a thread, and dropped when it does not keep up: a terminal that is held, a disk that hangs or a
//! pipe that nobody reads costs lines, never the service. (The tracing-appender crate does the same, but its guard
//! prints to the very pipe that is stuck, and drops no line of a writer that fails for a while.)

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use tracing::Metadata;
use tracing_subscriber::fmt::MakeWriter;

/// The stack of a writer's thread, in bytes.
const THREAD_STACK: usize = 64 * 1024;

/// How long the last lines may take at the end.
const FLUSH_TIME: Duration = Duration::from_secs(5);

/// The way to a writer's thread.
#[derive(Clone, Debug)]
pub struct Lines {
    /// `None` ends the thread.
    queue: SyncSender<Option<Line>>,
    counts: Arc<Counts>,
    /// Whether what comes this way is a client's.
    of_client: bool,
}

#[derive(Debug)]
struct Line {
    text: Vec<u8>,
    of_client: bool,
}

#[derive(Debug, Default)]
struct Counts {
    dropped: AtomicU64,
    /// How many lines of clients wait, and how many may: a part of the queue is for our own words alone.
    of_clients: AtomicUsize,
    most_of_clients: usize,
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
    pub fn start(target: impl Write + Send + 'static, waiting: usize) -> io::Result<Self> {
        Self::start_with(target, waiting, |lines| (lost(lines) + "\n").into_bytes())
    }

    /// The same; `lost` makes a line of how many were dropped.
    pub(super) fn start_with(
        mut target: impl Write + Send + 'static,
        waiting: usize,
        lost: impl Fn(u64) -> Vec<u8> + Send + 'static,
    ) -> io::Result<Self> {
        let (queue, lines) = sync_channel::<Option<Line>>(waiting);
        let (finish, finished) = sync_channel(0);
        let counts = Arc::new(Counts { most_of_clients: waiting - waiting / 4, ..Counts::default() });
        let counted = counts.clone();
        let write = move || {
            while let Ok(Some(line)) = lines.recv() {
                if line.of_client {
                    counted.of_clients.fetch_sub(1, Ordering::Relaxed);
                }
                let dropped = counted.dropped.swap(0, Ordering::Relaxed);
                if dropped > 0 && target.write_all(&lost(dropped)).is_err() {
                    counted.dropped.fetch_add(dropped, Ordering::Relaxed);
                }
                // All that can be done about a line that cannot be written is to say later that there was one.
                if target.write_all(&line.text).is_err() {
                    counted.dropped.fetch_add(1, Ordering::Relaxed);
                }
            }
            // Where that fails there is nobody to tell.
            let _ = target.flush();
            drop(finish);
        };
        std::thread::Builder::new().name("log".into()).stack_size(THREAD_STACK).spawn(write)?;
        Ok(Self { lines: Lines { queue, counts, of_client: false }, finished })
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

/// What is said of lines that were dropped.
pub(super) fn lost(lines: u64) -> String {
    format!(
        "{lines} lines of the log were dropped: they could not be written, or came faster than that goes."
    )
}

impl Lines {
    /// The way for events of this kind.
    pub(super) fn of(&self, metadata: &Metadata<'_>) -> Self {
        Self { of_client: metadata.target() == "client", ..self.clone() }
    }

    fn offer(&self, text: &[u8]) -> bool {
        let counts = &self.counts;
        if self.of_client && counts.of_clients.fetch_add(1, Ordering::Relaxed) >= counts.most_of_clients {
            counts.of_clients.fetch_sub(1, Ordering::Relaxed);
            return false;
        }
        let line = Line { text: text.to_owned(), of_client: self.of_client };
        let taken = self.queue.try_send(Some(line)).is_ok();
        if self.of_client && !taken {
            counts.of_clients.fetch_sub(1, Ordering::Relaxed);
        }
        taken
    }
}

impl Write for Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if !self.offer(line) {
            self.counts.dropped.fetch_add(1, Ordering::Relaxed);
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

    fn make_writer_for(&self, metadata: &Metadata<'_>) -> Self {
        self.of(metadata)
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
        while writer.lines.counts.dropped.load(Ordering::Relaxed) > 0 {
            writer.lines().write_all(b"one more").unwrap();
        }
        drop(writer);
        assert!(reading.join().unwrap().contains(" lines of the log were dropped"));
    }

    #[test]
    fn clients_leave_room_for_our_own_words() {
        let (mut reader, full) = io::pipe().unwrap();
        let writer = LineWriter::start(File::from(OwnedFd::from(full)), 16).unwrap();
        let mut clients = Lines { of_client: true, ..writer.lines() };
        // Until the pipe is full, the thread waits, and nothing more of clients is taken.
        while writer.lines.counts.dropped.load(Ordering::Relaxed) < 64 {
            clients.write_all(&[b'x'; 4096]).unwrap();
        }
        assert!(writer.lines().offer(b"our own words"));
        let reading = std::thread::spawn(move || {
            let mut text = String::new();
            reader.read_to_string(&mut text).unwrap();
            text
        });
        while writer.lines.counts.of_clients.load(Ordering::Relaxed) > 0 {
            std::thread::yield_now();
        }
        drop((clients, writer));
        assert!(reading.join().unwrap().contains("our own words"));
    }

    /// A disk that is full as long as it is said to be.
    struct Disk(Arc<std::sync::Mutex<(bool, Vec<u8>)>>);

    impl Write for Disk {
        fn write(&mut self, text: &[u8]) -> io::Result<usize> {
            let (is_full, written) = &mut *self.0.lock().unwrap();
            if *is_full {
                return Err(io::ErrorKind::StorageFull.into());
            }
            written.extend_from_slice(text);
            Ok(text.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn what_a_full_disk_did_not_take_is_counted() {
        let disk = Arc::new(std::sync::Mutex::new((true, Vec::new())));
        let writer = LineWriter::start(Disk(disk.clone()), 16).unwrap();
        for _ in 0..3 {
            writer.lines().write_all(b"lost").unwrap();
        }
        while writer.lines.counts.dropped.load(Ordering::Relaxed) < 3 {
            std::thread::yield_now();
        }
        disk.lock().unwrap().0 = false;
        writer.lines().write_all(b"taken").unwrap();
        drop(writer);
        let written = String::from_utf8(disk.lock().unwrap().1.clone()).unwrap();
        assert!(
            written.starts_with("3 lines of the log were dropped") && written.ends_with("taken"),
            "{written}"
        );
    }
}
