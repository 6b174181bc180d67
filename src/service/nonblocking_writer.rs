//! Log lines are written by a thread of their own, so that logging never waits.
//!
//! A full queue drops lines and counts them. A terminal that is held, a disk that hangs or a pipe that no program reads costs
//! lines, never the service. (The tracing-appender crate does the same, but its guard prints to the very pipe that is stuck,
//! and it does not count lines whose write failed.)

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use tracing::Metadata;
use tracing_subscriber::fmt::MakeWriter;

/// The stack of a writer's thread, in bytes. journald's lines are made on it.
const THREAD_STACK: usize = 128 * 1024;

/// How long the last lines may take at the end.
const FLUSH_TIME: Duration = Duration::from_secs(5);

/// Where a thread writes lines. May block.
pub(super) trait Sink<L>: Send + 'static {
    /// Writes one line.
    ///
    /// # Errors
    /// The line is lost.
    fn write(&mut self, line: &L) -> io::Result<()>;

    /// Waits until what was written has arrived.
    ///
    /// # Errors
    /// It is not known whether it has.
    fn flush(&mut self) -> io::Result<()>;

    /// The line that says that `count` others were dropped.
    fn dropped(&self, count: u64) -> L;
}

/// The queue to a writer's thread. Clones share it.
#[derive(Debug)]
pub struct LineQueue<L> {
    /// `None` ends the thread.
    sender: SyncSender<Option<QueuedLine<L>>>,
    counts: Arc<Counts>,
    /// Whether what comes this way is a client's.
    of_client: bool,
}

/// The queue of lines of text.
pub type Lines = LineQueue<Vec<u8>>;

#[derive(Debug)]
struct QueuedLine<L> {
    line: L,
    of_client: bool,
}

#[derive(Debug, Default)]
struct Counts {
    dropped: AtomicU64,
    /// How many lines of clients wait, and how many may: a part of the queue is for the controller's own lines alone.
    of_clients: AtomicUsize,
    most_of_clients: usize,
}

/// Owns a writer's thread. Dropping it waits a moment for the last lines to be written.
#[derive(Debug)]
pub struct WriterThread<L> {
    queue: LineQueue<L>,
    finished: Receiver<()>,
}

/// A thread that writes lines of text.
pub type LineWriter = WriterThread<Vec<u8>>;

impl LineWriter {
    /// Starts a thread that writes to `target`. At most `waiting` lines wait for it.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn start(target: impl Write + Send + 'static, waiting: usize) -> io::Result<Self> {
        Self::start_text(target, waiting, |dropped| format!("{dropped}\n"))
    }

    /// The same; `finish` makes a line of the text that tells of dropped lines.
    pub(super) fn start_text(
        target: impl Write + Send + 'static,
        waiting: usize,
        finish: impl Fn(&str) -> String + Send + 'static,
    ) -> io::Result<Self> {
        Self::start_sink(TextSink { target, finish }, waiting)
    }
}

/// Lines of text that go to a file, a pipe or a terminal.
struct TextSink<W, F> {
    target: W,
    finish: F,
}

impl<W: Write + Send + 'static, F: Fn(&str) -> String + Send + 'static> Sink<Vec<u8>> for TextSink<W, F> {
    fn write(&mut self, line: &Vec<u8>) -> io::Result<()> {
        self.target.write_all(line)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.target.flush()
    }

    fn dropped(&self, count: u64) -> Vec<u8> {
        (self.finish)(&dropped(count)).into_bytes()
    }
}

impl<L: Send + 'static> WriterThread<L> {
    /// Starts a thread that writes to `sink`. At most `waiting` lines wait for it.
    pub(super) fn start_sink(mut sink: impl Sink<L>, waiting: usize) -> io::Result<Self> {
        let (sender, lines) = sync_channel::<Option<QueuedLine<L>>>(waiting);
        // Nothing is sent here: the wait ends when the thread drops its end, even by a panic.
        let (finish, finished) = sync_channel(0);
        let counts = Arc::new(Counts { most_of_clients: waiting - waiting / 4, ..Counts::default() });
        let counted = counts.clone();
        let write = move || {
            while let Ok(Some(queued)) = lines.recv() {
                if queued.of_client {
                    // Relaxed, as here and below: these are only counts, and the queue orders the lines.
                    counted.of_clients.fetch_sub(1, Ordering::Relaxed);
                }
                let dropped = counted.dropped.swap(0, Ordering::Relaxed);
                if dropped > 0 && sink.write(&sink.dropped(dropped)).is_err() {
                    counted.dropped.fetch_add(dropped, Ordering::Relaxed);
                }
                // A line that can't be written is counted, and the count is told when writing works again.
                if sink.write(&queued.line).is_err() {
                    counted.dropped.fetch_add(1, Ordering::Relaxed);
                }
            }
            // There is nowhere left to report an error to.
            let _ = sink.flush();
            drop(finish);
        };
        std::thread::Builder::new().name("log".into()).stack_size(THREAD_STACK).spawn(write)?;
        Ok(Self { queue: LineQueue { sender, counts, of_client: false }, finished })
    }

    /// The queue to the thread.
    pub fn lines(&self) -> LineQueue<L> {
        self.queue.clone()
    }
}

impl<L> Drop for WriterThread<L> {
    fn drop(&mut self) {
        // A full queue means that nothing reads its other end: then there is nothing to wait for.
        if self.queue.sender.try_send(None).is_ok() {
            let _ = self.finished.recv_timeout(FLUSH_TIME);
        }
    }
}

/// What is said of lines that were dropped.
pub(super) fn dropped(lines: u64) -> String {
    format!("{lines} log lines were dropped: they could not be written, or came too fast")
}

impl<L> Clone for LineQueue<L> {
    fn clone(&self) -> Self {
        Self { sender: self.sender.clone(), counts: self.counts.clone(), of_client: self.of_client }
    }
}

impl<L> LineQueue<L> {
    /// The queue for events of this kind.
    pub(super) fn of(&self, metadata: &Metadata<'_>) -> Self {
        Self { of_client: metadata.target() == "client", ..self.clone() }
    }

    /// Queues a line, or drops and counts it.
    pub(super) fn push(&self, line: L) {
        if !self.offer(line) {
            self.counts.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn offer(&self, line: L) -> bool {
        let counts = &self.counts;
        // Counted before it is queued: the thread may take it at once, and the count would fall below zero.
        if self.of_client && counts.of_clients.fetch_add(1, Ordering::Relaxed) >= counts.most_of_clients {
            counts.of_clients.fetch_sub(1, Ordering::Relaxed);
            return false;
        }
        let taken = self.sender.try_send(Some(QueuedLine { line, of_client: self.of_client })).is_ok();
        if self.of_client && !taken {
            counts.of_clients.fetch_sub(1, Ordering::Relaxed);
        }
        taken
    }
}

impl Write for Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        // tracing-subscriber writes an event in one call, so this is a whole line.
        self.push(line.to_owned());
        // A dropped line counts as written: on an error tracing-subscriber prints to standard error, which may be what is stuck.
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
    fn stuck_reader_blocks_nothing_and_learns_how_many_lines_it_missed() {
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
        while writer.queue.counts.dropped.load(Ordering::Relaxed) > 0 {
            writer.lines().write_all(b"one more").unwrap();
        }
        drop(writer);
        assert!(reading.join().unwrap().contains(" log lines were dropped"));
    }

    #[test]
    fn clients_leave_room_for_lines_of_the_controller() {
        let (mut reader, full) = io::pipe().unwrap();
        let writer = LineWriter::start(File::from(OwnedFd::from(full)), 16).unwrap();
        let mut clients = Lines { of_client: true, ..writer.lines() };
        // Until the pipe is full, the thread waits, and nothing more of clients is taken.
        while writer.queue.counts.dropped.load(Ordering::Relaxed) < 64 {
            clients.write_all(&[b'x'; 4096]).unwrap();
        }
        assert!(writer.lines().offer(b"our own words".to_vec()));
        let reading = std::thread::spawn(move || {
            let mut text = String::new();
            reader.read_to_string(&mut text).unwrap();
            text
        });
        while writer.queue.counts.of_clients.load(Ordering::Relaxed) > 0 {
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
    fn lines_that_a_full_disk_refuses_are_counted() {
        let disk = Arc::new(std::sync::Mutex::new((true, Vec::new())));
        let writer = LineWriter::start(Disk(disk.clone()), 16).unwrap();
        for _ in 0..3 {
            writer.lines().write_all(b"lost").unwrap();
        }
        while writer.queue.counts.dropped.load(Ordering::Relaxed) < 3 {
            std::thread::yield_now();
        }
        disk.lock().unwrap().0 = false;
        writer.lines().write_all(b"taken").unwrap();
        drop(writer);
        let written = String::from_utf8(disk.lock().unwrap().1.clone()).unwrap();
        assert!(written.starts_with("3 log lines were dropped") && written.ends_with("taken"), "{written}");
    }
}
