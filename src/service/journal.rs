//! The journal, by tracing-journald.
//!
//! The crate sends where it is called, so a journald that hangs would stop each caller. So entries wait in a queue, and a thread
//! hands them to the crate's layers, one for each priority and identifier, as a layer has one of each. Two more facts about the
//! crate: it hides its socket and drops the errors of sending. [`Journal`] has a socket of its own beside it, and sends empty
//! datagrams, which journald ignores: before each entry, to see that journald is there, and at the end, to see that it has read
//! everything.

use std::collections::HashMap;
use std::fmt::{self, Write as _};
use std::io;
use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use tracing::callsite::{Callsite, Identifier};
use tracing::field::{Field, FieldSet, Value, Visit};
use tracing::level_filters::LevelFilter;
use tracing::metadata::Kind;
use tracing::{Dispatch, Event, Level, Metadata, Subscriber};
use tracing_journald::{Priority, PriorityMappings};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::{Context, SubscriberExt};

use super::events;
use super::line_format::text_of;
use super::nonblocking_writer::{LineQueue, Sink, dropped};
use crate::async_fd::unread_bytes;

/// Where journald listens.
const SOCKET: &str = "/run/systemd/journal/socket";
/// How long an entry waits for a journald that is being restarted.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long journald may take to read the last entries.
const LAST_ENTRIES: Duration = Duration::from_secs(4);
/// The longest value, in bytes, so that an entry always fits into a datagram.
const MAX_VALUE: usize = 32 * 1024;

/// The target of events that are a client's own lines. Their name ends with the priority that the client gave.
pub(super) const CLIENT: &str = "client";

/// The journal's fields of an entry. Those of an event have the names of the event's fields, after `WQ_`.
const FIELDS: [&str; 16] = [
    "message",
    "MESSAGE_ID",
    "SYSLOG_PID",
    "WQ_CLIENT",
    "WQ_UNIT",
    "WQ_PID",
    "WQ_PORT",
    "WQ_PHASE",
    "WQ_STATE",
    "WQ_FAILURES",
    "WQ_EXITS",
    "WQ_ERROR",
    "WQ_REASON",
    "WQ_PATH",
    "WQ_PEER",
    // The others, as `name=value` each.
    OTHERS,
];
const OTHERS: &str = "WQ_FIELDS";

/// Whether standard error is the journal (systemd.exec(5), `$JOURNAL_STREAM`). A service whose output is redirected has the
/// variable, too.
pub fn is_stderr() -> bool {
    let Ok(stat) = rustix::fs::fstat(rustix::stdio::stderr()) else { return false };
    std::env::var("JOURNAL_STREAM").is_ok_and(|stream| stream == format!("{}:{}", stat.st_dev, stat.st_ino))
}

/// Logs an error at once, for a process that is about to end. `event` is one of [`events`].
pub fn complain(event: Option<&str>, text: &str) {
    let mut entry = JournalEntry::new(3, LogSource::Controller, text);
    entry.set_event(event.unwrap_or_default());
    if let Ok(mut journal) = Journal::open() {
        // There is nowhere else to report an error to.
        let _ = journal.write(&entry).and_then(|()| journal.flush());
    }
}

/// Which program an entry is from: its `SYSLOG_IDENTIFIER`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LogSource {
    /// The controller.
    Controller,
    /// A client.
    Client,
    /// The implementation of an account.
    Implementation,
}

impl LogSource {
    fn identifier(self) -> &'static str {
        match self {
            Self::Controller => "wqcontroller",
            Self::Client => "wqclient",
            Self::Implementation => "wqimpl",
        }
    }
}

/// An entry of the journal.
#[derive(Debug)]
pub(super) struct JournalEntry {
    priority: u8,
    program: LogSource,
    /// In the order of [`FIELDS`].
    values: [Option<String>; FIELDS.len()],
}

impl JournalEntry {
    fn new(priority: u8, program: LogSource, message: &str) -> Self {
        let mut entry = Self { priority, program, values: Default::default() };
        entry.set("message", message);
        entry
    }

    /// What is known of an event of this name, if anything is.
    fn set_event(&mut self, name: &str) {
        let Some(event) = events::find(name) else { return };
        self.set("MESSAGE_ID", event.id);
        if let Some(phase) = event.phase {
            self.set("WQ_PHASE", phase);
        }
    }

    /// Sets one of [`FIELDS`]; returns false where it is none of them.
    fn set(&mut self, name: &str, value: &str) -> bool {
        let Some(at) = FIELDS.iter().position(|field| *field == name) else { return false };
        let mut end = value.len().min(MAX_VALUE);
        // Ends at 0 at the latest, which is a boundary.
        while !value.is_char_boundary(end) {
            end -= 1;
        }
        self.values[at] = Some(value[..end].to_owned());
        true
    }
}

impl Visit for JournalEntry {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.record_str(field, &format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        let name = field.name();
        if name == "message" || self.set(&format!("WQ_{}", name.to_ascii_uppercase()), value) {
            return;
        }
        let others = self.values[FIELDS.len() - 1].get_or_insert_default();
        // Dropped as a whole beyond that: the fields that count have a place of their own.
        if others.len() + value.len() < MAX_VALUE {
            let space = if others.is_empty() { "" } else { " " };
            // Writing to a string never fails.
            let _ = write!(others, "{space}{name}={value}");
        }
    }
}

/// The priority that a client gave its line, from the name of the event.
pub(super) fn priority_of_client(metadata: &Metadata<'_>) -> Option<u8> {
    metadata.name().bytes().last().filter(u8::is_ascii_digit).map(|digit| digit - b'0')
}

/// Makes entries of events.
#[derive(Debug)]
pub(super) struct Entries(pub(super) LineQueue<JournalEntry>);

impl<S: Subscriber> Layer<S> for Entries {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let metadata = event.metadata();
        let of_client = metadata.target() == CLIENT;
        // A client's line has its priority in the event's name, because a level of tracing stands for several of them.
        let own_priority = if of_client { priority_of_client(metadata) } else { None };
        let priority = own_priority.unwrap_or_else(|| events::priority(metadata));
        let program = if of_client { LogSource::Client } else { LogSource::Controller };
        let mut entry = JournalEntry::new(priority, program, "");
        event.record(&mut entry);
        entry.set_event(metadata.name());
        // The account is a field of its own, but who reads the messages alone has to see it. A client's lines stay as they are.
        entry.set("message", &text_of(event, !of_client));
        self.0.of(metadata).push(entry);
    }
}

/// The way to journald. Blocks.
pub(super) struct Journal {
    socket: UnixDatagram,
    layers: HashMap<(u8, LogSource), Dispatch>,
}

impl Journal {
    pub(super) fn open() -> io::Result<Self> {
        Ok(Self { socket: UnixDatagram::unbound()?, layers: HashMap::new() })
    }

    /// Sends an entry. Waits while journald is there and takes none.
    fn send(&mut self, entry: &JournalEntry, patience: Duration) -> io::Result<()> {
        self.wait_for_journald(patience)?;
        let layer = match self.layers.get(&(entry.priority, entry.program)) {
            Some(layer) => layer,
            None => {
                let layer = layer(entry.priority, entry.program)?;
                self.layers.entry((entry.priority, entry.program)).or_insert(layer)
            }
        };
        let fields = ENTRY.fields();
        let names: [Field; FIELDS.len()] = std::array::from_fn(|at| {
            #[expect(clippy::unwrap_used, reason = "ENTRY has exactly these fields")]
            fields.field(FIELDS[at]).unwrap()
        });
        let values: [_; FIELDS.len()] = std::array::from_fn(|at| {
            (&names[at], entry.values[at].as_ref().map(|value| value as &dyn Value))
        });
        // Not as the default of this thread, which would make every event of the process look for a default.
        layer.event(&Event::new(&ENTRY, &fields.value_set(&values)));
        Ok(())
    }

    fn wait_for_journald(&self, patience: Duration) -> io::Result<()> {
        let give_up = Instant::now() + patience;
        loop {
            // Not connected: another journald has another socket.
            // Blocks while the queue of a journald that hangs is full. Only the writer's thread and the relay wait for that.
            match self.socket.send_to(&[], SOCKET) {
                Ok(_) => return Ok(()),
                Err(error) if is_absent(&error) && Instant::now() < give_up => {
                    std::thread::sleep(Duration::from_millis(50));
                }
                Err(error) => return Err(error),
            }
        }
    }
}

impl Sink<JournalEntry> for Journal {
    fn write(&mut self, entry: &JournalEntry) -> io::Result<()> {
        self.send(entry, PATIENCE)
    }

    /// Waits until journald has read all entries: once the process is gone, journald does not know the unit of an entry that it
    /// has not read, and `journalctl -u` does not show it.
    fn flush(&mut self) -> io::Result<()> {
        // journald reads in order, so when it has read this it has read what the layers sent.
        self.wait_for_journald(Duration::ZERO)?;
        let give_up = Instant::now() + LAST_ENTRIES;
        while unread_bytes(&self.socket)? > 0 && Instant::now() < give_up {
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    fn dropped(&self, count: u64) -> JournalEntry {
        JournalEntry::new(4, LogSource::Controller, &dropped(count))
    }
}

/// All entries come from here, as far as the crate can see. It has no file and no line: those of the writer say nothing.
static ENTRY: Metadata<'static> = Metadata::new(
    "entry",
    env!("CARGO_PKG_NAME"),
    Level::ERROR,
    None,
    None,
    None,
    FieldSet::new(&FIELDS, Identifier(&EntryCallsite)),
    Kind::EVENT,
);

struct EntryCallsite;

impl Callsite for EntryCallsite {
    fn set_interest(&self, _: tracing::subscriber::Interest) {}

    fn metadata(&self) -> &Metadata<'_> {
        &ENTRY
    }
}

fn layer(priority: u8, program: LogSource) -> io::Result<Dispatch> {
    let error = match priority {
        0 => Priority::Emergency,
        1 => Priority::Alert,
        2 => Priority::Critical,
        3 => Priority::Error,
        4 => Priority::Warning,
        5 => Priority::Notice,
        6 => Priority::Informational,
        _ => Priority::Debug,
    };
    let layer = tracing_journald::layer()?
        .with_field_prefix(None)
        .with_syslog_identifier(program.identifier().to_owned())
        .with_priority_mappings(PriorityMappings { error, ..PriorityMappings::new() });
    // Without a filter each event of the process, down to the traces of libraries, would be offered to it.
    let filter = Targets::new().with_target(ENTRY.target(), LevelFilter::ERROR);
    Ok(Dispatch::new(tracing_subscriber::registry().with(filter).with(layer)))
}

fn is_absent(error: &io::Error) -> bool {
    // No socket, a socket without a journald, or a kernel short of buffers. Each of them passes.
    let absent = [Errno::NOENT, Errno::CONNREFUSED, Errno::NOBUFS].map(Errno::raw_os_error);
    error.raw_os_error().is_some_and(|error| absent.contains(&error))
}

/// Sends a client's lines as entries of that client, from a process beside it.
pub struct ClientEntries {
    journal: Journal,
    source: LogSource,
    client: String,
    pid: String,
    /// Whether the last entry could not be sent. Then the next ones do not wait for a journald.
    failed: bool,
}

impl ClientEntries {
    /// Entries of the client `name` or its implementation, whose process is `pid`.
    ///
    /// # Errors
    /// The system gives no socket.
    pub fn open(name: &str, pid: u32, source: LogSource) -> io::Result<Self> {
        let (client, pid) = (name.to_owned(), pid.to_string());
        Ok(Self { journal: Journal::open()?, source, client, pid, failed: false })
    }

    /// Sends one line. Waits while journald takes none. Without a journald the line is lost.
    pub fn send(&mut self, priority: u8, text: &str) {
        let mut entry = JournalEntry::new(priority, self.source, text);
        entry.set("SYSLOG_PID", &self.pid);
        entry.set("WQ_CLIENT", &self.client);
        // Else every line of the client would wait, and its pipe fill up until it hangs in a write.
        let patience = if self.failed { Duration::ZERO } else { PATIENCE };
        self.failed = self.journal.send(&entry, patience).is_err();
    }

    /// Waits until journald has read all entries, at most some seconds.
    ///
    /// # Errors
    /// The system does not say how much is unread.
    pub fn flush(&mut self) -> io::Result<()> {
        self.journal.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn value_is_cut_to_what_fits_into_a_datagram() {
        let entry = JournalEntry::new(3, LogSource::Client, &"界".repeat(1 << 20));
        let message = entry.values[0].as_ref().unwrap();
        assert!(message.len() <= MAX_VALUE && message.len() > MAX_VALUE - 3);
        assert!(message.chars().all(|c| c == '界'));
    }

    #[test]
    fn every_field_of_an_entry_is_one_of_its_callsite() {
        let names: Vec<_> = ENTRY.fields().iter().map(|field| field.name()).collect();
        assert_eq!(names, FIELDS);
        assert_eq!(FIELDS[FIELDS.len() - 1], OTHERS);
    }
}
