//! The journal, in its native protocol (systemd.io/JOURNAL_NATIVE_PROTOCOL): one datagram an entry.
//!
//! The crate tracing-journald is not used: it sends where it is called, and so stops whoever logs while journald hangs; one
//! prefix is for all its fields, where ours begin with `WQ_` and `MESSAGE_ID` must not; and it has no place for the
//! priority of a client's own line.

use std::fmt::{self, Write as _};
use std::io::{self, Write};
use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use super::events;
use super::lines::Lines;
use crate::readable::unread;

/// Where journald listens.
const SOCKET: &str = "/run/systemd/journal/socket";
/// How long an entry waits for a journald that is just being started anew.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long journald may take to read our last words.
const LAST_WORDS: Duration = Duration::from_secs(4);
/// The longest value, in bytes, so that an entry always fits into a datagram.
const MAX_VALUE: usize = 32 * 1024;

/// What our entries are from.
const IDENTIFIER: &str = "wqcontroller";
/// What the lines of clients are from.
const CLIENT_IDENTIFIER: &str = "wqclient";
/// The target of events that are a client's own lines. Their name ends with the priority that the client gave.
const CLIENT: &str = "client";

/// Whether standard error is the journal (systemd.exec(5), `$JOURNAL_STREAM`). A service whose output somebody sent
/// elsewhere has the variable, too.
pub fn is_stderr() -> bool {
    let Ok(stat) = rustix::fs::fstat(rustix::stdio::stderr()) else { return false };
    std::env::var("JOURNAL_STREAM").is_ok_and(|stream| stream == format!("{}:{}", stat.st_dev, stat.st_ino))
}

/// Says a last word at once. `event` is one of [`events`].
pub fn complain(event: Option<&str>, text: &str) {
    let mut entry = Entry::new(3, IDENTIFIER);
    entry.event(event.unwrap_or_default());
    entry.add("MESSAGE", text);
    if let Ok(mut journal) = Journal::open() {
        // There is nobody else to tell.
        let _ = journal.write_all(&entry.0).and_then(|()| journal.flush());
    }
}

/// The way to journald.
#[derive(Debug)]
pub(super) struct Journal(UnixDatagram);

impl Journal {
    pub(super) fn open() -> io::Result<Self> {
        UnixDatagram::unbound().map(Self)
    }
}

impl Write for Journal {
    /// Sends one entry. Waits as long as journald takes none.
    fn write(&mut self, entry: &[u8]) -> io::Result<usize> {
        let give_up = Instant::now() + PATIENCE;
        loop {
            // Not connected: another journald has another socket.
            match self.0.send_to(entry, SOCKET) {
                Ok(_) => return Ok(entry.len()),
                Err(error) if is_absent(&error) && Instant::now() < give_up => {
                    std::thread::sleep(Duration::from_millis(50));
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Waits until journald has read all entries: of one whose process is gone by then it does not know the unit, and
    /// `journalctl -u` does not show it.
    fn flush(&mut self) -> io::Result<()> {
        let give_up = Instant::now() + LAST_WORDS;
        while unread(&self.0)? > 0 && Instant::now() < give_up {
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }
}

fn is_absent(error: &io::Error) -> bool {
    let absent = [Errno::NOENT, Errno::CONNREFUSED, Errno::NOBUFS].map(Errno::raw_os_error);
    error.raw_os_error().is_some_and(|error| absent.contains(&error))
}

/// What is said in the place of lines that were dropped.
pub(super) fn lost(lines: u64) -> Vec<u8> {
    let mut entry = Entry::new(4, IDENTIFIER);
    entry.add("MESSAGE", &super::lines::lost(lines));
    entry.0
}

/// Makes entries of events.
#[derive(Debug)]
pub(super) struct Entries(pub(super) Lines);

impl<S: Subscriber> Layer<S> for Entries {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let metadata = event.metadata();
        let of_client = metadata.target() == CLIENT;
        let own_priority =
            metadata.name().bytes().last().filter(u8::is_ascii_digit).map(|digit| digit - b'0');
        let priority = match *metadata.level() {
            _ if of_client && own_priority.is_some() => own_priority.unwrap_or(6),
            Level::ERROR => 3,
            Level::WARN => 4,
            Level::INFO => 6,
            _ => 7,
        };
        let identifier = if of_client { CLIENT_IDENTIFIER } else { IDENTIFIER };
        let mut fields =
            Fields { entry: Entry::new(priority, identifier), text: String::new(), more: String::new() };
        event.record(&mut fields);
        let Fields { mut entry, mut text, more } = fields;
        // Whoever reads the messages alone sees what ours are about. A client's line is as it is.
        if !of_client {
            text.push_str(&more);
        }
        entry.event(metadata.name());
        entry.add("MESSAGE", &text);
        // It never fails: what can't be written is counted.
        let _ = self.0.of(metadata).write_all(&entry.0);
    }
}

/// Collects what an event says.
struct Fields {
    entry: Entry,
    text: String,
    more: String,
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.take(field.name(), &format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.take(field.name(), value);
    }
}

impl Fields {
    fn take(&mut self, name: &str, value: &str) {
        if name == "message" {
            value.clone_into(&mut self.text);
            return;
        }
        // Writing to a string never fails.
        let _ = write!(self.more, " {name}={value}");
        let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' };
        self.entry.add(&format!("WQ_{}", name.chars().map(plain).collect::<String>()), value);
    }
}

/// An entry as it is sent.
struct Entry(Vec<u8>);

impl Entry {
    fn new(priority: u8, identifier: &str) -> Self {
        let mut entry = Self(Vec::with_capacity(256));
        entry.add("PRIORITY", &priority.to_string());
        entry.add("SYSLOG_IDENTIFIER", identifier);
        entry
    }

    /// What is known of an event of this name, if anything is.
    fn event(&mut self, name: &str) {
        let Some(event) = events::find(name) else { return };
        self.add("MESSAGE_ID", event.id);
        if let Some(phase) = event.phase {
            self.add("WQ_PHASE", phase);
        }
    }

    /// `name` has only capital letters, digits and `_`.
    fn add(&mut self, name: &str, value: &str) {
        let mut end = value.len().min(MAX_VALUE);
        while !value.is_char_boundary(end) {
            end -= 1;
        }
        let value = &value[..end];
        self.0.extend_from_slice(name.as_bytes());
        if value.contains('\n') {
            // Nothing in it can then be taken for a field.
            self.0.push(b'\n');
            self.0.extend_from_slice(&(value.len() as u64).to_le_bytes());
        } else {
            self.0.push(b'=');
        }
        self.0.extend_from_slice(value.as_bytes());
        self.0.push(b'\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_cannot_be_taken_for_a_field() {
        let mut entry = Entry::new(3, "x");
        entry.add("MESSAGE", "one\nPRIORITY=0");
        let expected = b"PRIORITY=3\nSYSLOG_IDENTIFIER=x\nMESSAGE\n\x0e\0\0\0\0\0\0\0one\nPRIORITY=0\n";
        assert_eq!(String::from_utf8_lossy(&entry.0), String::from_utf8_lossy(expected));
    }

    #[test]
    fn an_entry_always_fits_into_a_datagram() {
        let mut entry = Entry::new(3, "x");
        entry.add("MESSAGE", &"界".repeat(1 << 20));
        assert!(entry.0.len() < MAX_VALUE + 100);
        let (one, _other) = UnixDatagram::pair().unwrap();
        assert_eq!(one.send(&entry.0).unwrap(), entry.0.len());
    }
}
