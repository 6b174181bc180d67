//! [`LogMemory`]: the last log lines of each account, where the journal does not keep them.
//!
//! All of it is bounded: the lines and bytes of an account, so that none drives out the others, and the bytes of all. Readers pull,
//! each from the number of the last line that it read, so one that reads slowly costs no memory.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::sync::watch;
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use super::events;
use super::journal::{CLIENT, priority_of_client};
use super::line_format::text_of;
use crate::locks::locked;
use crate::wire::v1::log::{LogEntry, LogOrigin, cut};

/// The most lines of an account.
const MOST_LINES: usize = 200;
/// The most bytes of an account's lines.
const MOST_BYTES: usize = 64 * 1024;
/// The most bytes of all lines.
const MOST_BYTES_OF_ALL: usize = 16 * 1024 * 1024;
/// What a line takes besides its message, in bytes.
const OVERHEAD: usize = 64;

/// The last log lines of each account. Clones share them.
#[derive(Clone, Debug)]
pub struct LogMemory {
    kept: Arc<Mutex<Kept>>,
    /// The number of the newest line.
    newest: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Kept {
    accounts: HashMap<Arc<str>, OfAccount>,
    /// Whose the oldest line of each account is, by its number.
    oldest: BTreeMap<u64, Arc<str>>,
    bytes: usize,
    last: u64,
}

#[derive(Debug, Default)]
struct OfAccount {
    lines: VecDeque<(u64, LogEntry)>,
    bytes: usize,
}

impl Default for LogMemory {
    fn default() -> Self {
        Self { kept: Arc::default(), newest: watch::Sender::new(0) }
    }
}

impl LogMemory {
    /// The last lines of an account, at most `most`, and the number after which to go on.
    pub fn last(&self, account: &str, most: usize) -> (Vec<LogEntry>, u64) {
        let kept = locked(&self.kept);
        let lines = kept.accounts.get(account).map(|of| &of.lines);
        let lines = lines.into_iter().flat_map(|lines| lines.iter().skip(lines.len().saturating_sub(most)));
        (lines.map(|(_, entry)| entry.clone()).collect(), kept.last)
    }

    /// The lines of an account after the one with this number, and the number after which to go on. What was dropped meanwhile is
    /// left out.
    pub fn after(&self, account: &str, number: u64) -> (Vec<LogEntry>, u64) {
        let kept = locked(&self.kept);
        let lines = kept.accounts.get(account).map(|of| &of.lines);
        let new = lines.into_iter().flatten().filter(|(found, _)| *found > number);
        (new.map(|(_, entry)| entry.clone()).collect(), kept.last)
    }

    /// Changes with each line of any account.
    pub fn newest(&self) -> watch::Receiver<u64> {
        self.newest.subscribe()
    }

    fn add(&self, account: &str, entry: LogEntry) {
        let number = {
            let mut kept = locked(&self.kept);
            kept.last += 1;
            let number = kept.last;
            kept.add(account, number, entry);
            number
        };
        // After the line is there, as it wakes the readers.
        self.newest.send_replace(number);
    }
}

impl Kept {
    fn add(&mut self, account: &str, number: u64, mut entry: LogEntry) {
        let size = size_of(&entry);
        let name = match self.accounts.get_key_value(account) {
            Some((name, _)) => name.clone(),
            None => Arc::from(account),
        };
        let of = self.accounts.entry(name.clone()).or_default();
        // Lines of two streams may get here in another order than their times have. They are shown by time, so that must be one order.
        if let Some((_, newest)) = of.lines.back() {
            entry.time = entry.time.max(newest.time);
        }
        if of.lines.is_empty() {
            self.oldest.insert(number, name.clone());
        }
        of.lines.push_back((number, entry));
        of.bytes += size;
        self.bytes += size;
        while self.accounts.get(&name).is_some_and(|of| of.lines.len() > MOST_LINES || of.bytes > MOST_BYTES)
        {
            self.drop_oldest_of(&name);
        }
        while self.bytes > MOST_BYTES_OF_ALL {
            let Some(name) = self.oldest.first_key_value().map(|(_, name)| name.clone()) else { return };
            self.drop_oldest_of(&name);
        }
    }

    fn drop_oldest_of(&mut self, name: &Arc<str>) {
        let Some(of) = self.accounts.get_mut(name) else { return };
        if let Some((number, dropped)) = of.lines.pop_front() {
            let size = size_of(&dropped);
            of.bytes -= size;
            self.bytes -= size;
            self.oldest.remove(&number);
        }
        match of.lines.front() {
            Some((number, _)) => drop(self.oldest.insert(*number, name.clone())),
            None => drop(self.accounts.remove(name)),
        }
    }
}

fn size_of(entry: &LogEntry) -> usize {
    entry.message.len() + OVERHEAD
}

/// Remembers each event that names an account.
#[derive(Debug)]
pub(super) struct Remember(pub(super) LogMemory);

impl<S: Subscriber> Layer<S> for Remember {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut names = Names::default();
        event.record(&mut names);
        let Some(account) = names.client else { return };
        let metadata = event.metadata();
        let of_client = metadata.target() == CLIENT;
        let mut message = text_of(event, false);
        let from = match (of_client, &names.implementation) {
            (true, Some(name)) => {
                // Its lines carry its name in the log of all accounts.
                if let Some(own) =
                    message.strip_prefix(name.as_str()).and_then(|rest| rest.strip_prefix(": "))
                {
                    message = own.to_owned();
                }
                LogOrigin::Implementation
            }
            (true, None) => LogOrigin::Client,
            (false, _) => LogOrigin::Controller,
        };
        let priority = if of_client { priority_of_client(metadata) } else { None }
            .unwrap_or_else(|| events::priority(metadata));
        let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        self.0.add(&account, LogEntry { time, from, priority, message: cut(message) });
    }
}

/// Whose an event is.
#[derive(Default)]
struct Names {
    client: Option<String>,
    implementation: Option<String>,
}

impl Visit for Names {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        match field.name() {
            "client" => self.client = Some(format!("{value:?}")),
            "implementation" => self.implementation = Some(format!("{value:?}")),
            _ => {}
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        // By `Display`: `Debug` of a string would put it in quotes.
        self.record_debug(field, &format_args!("{value}"));
    }
}

#[cfg(test)]
mod tests {
    use tracing::subscriber::with_default;
    use tracing::{info, warn};
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    fn entry(message: &str) -> LogEntry {
        LogEntry { time: 1.0, from: LogOrigin::Client, priority: 6, message: message.to_owned() }
    }

    fn messages(found: (Vec<LogEntry>, u64)) -> Vec<String> {
        found.0.into_iter().map(|entry| entry.message).collect()
    }

    #[test]
    fn events_are_kept_by_account_with_their_origin() {
        let memory = LogMemory::default();
        with_default(tracing_subscriber::registry().with(Remember(memory.clone())), || {
            let name = "小红";
            warn!(client = %name, pid = 7, "ended (pid 7)");
            info!(name: "client-3", target: "client", client = %name, implementation = None::<&str>, "a\u{1b}b");
            info!(name: "client-6", target: "client", client = %name, implementation = Some("own"), "own: up");
            info!(client = "other", "started");
            info!("ready");
        });
        let found: Vec<_> = memory.last("小红", 10).0;
        let told: Vec<_> = found.iter().map(|entry| (entry.from, entry.priority, &*entry.message)).collect();
        assert_eq!(
            told,
            [
                (LogOrigin::Controller, 4, "ended (pid 7)"),
                (LogOrigin::Client, 3, "a\u{1b}b"),
                (LogOrigin::Implementation, 6, "up")
            ]
        );
        assert_eq!(messages(memory.last("小红", 1)), ["up"]);
        assert_eq!(messages(memory.last("none", 10)), [""; 0]);
    }

    #[test]
    fn lines_are_read_from_where_a_reader_was() {
        let memory = LogMemory::default();
        memory.add("a", entry("1"));
        let (_, at) = memory.last("a", 10);
        memory.add("b", entry("2"));
        memory.add("a", entry("3"));
        let (new, at) = memory.after("a", at);
        assert_eq!(new, [entry("3")]);
        assert_eq!(memory.after("a", at), (vec![], at));
        assert_eq!(*memory.newest().borrow(), at);
    }

    #[test]
    fn memory_is_bounded() {
        let memory = LogMemory::default();
        for at in 0..2 * MOST_LINES {
            memory.add("many", entry(&at.to_string()));
        }
        let lines = messages(memory.last("many", usize::MAX));
        assert_eq!((lines.len(), &*lines[0]), (MOST_LINES, "200"));
        let long = "x".repeat(4096);
        for at in 0..1000 {
            for _ in 0..20 {
                memory.add(&format!("account {at}"), entry(&long));
            }
        }
        let kept = locked(&memory.kept);
        assert!(kept.accounts["account 999"].bytes <= MOST_BYTES);
        assert!(
            kept.bytes <= MOST_BYTES_OF_ALL && !kept.accounts.contains_key("many"),
            "the oldest go first"
        );
        assert_eq!(kept.oldest.len(), kept.accounts.len());
        assert_eq!(kept.bytes, kept.accounts.values().map(|of| of.bytes).sum::<usize>());
    }
}
