//! [`MessageStore`]: the messages that the account sent or got, by their `message_id`. Pure.

use std::collections::{BTreeMap, HashMap, VecDeque};

use serde::{Deserialize, Serialize};

use super::SandboxChat;
use crate::client::backend::segment::{self, Segment};

/// The most messages, and the most bytes of all of them. The oldest go.
const MAX_MESSAGES: usize = 10_000;
const MAX_BYTES: usize = 32 * 1024 * 1024;

/// The most reactions of a message.
const MAX_REACTIONS: usize = 100;

/// A message as all clients know it, since each has `message_id`s of its own.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct MessageKey {
    /// The uid of the author.
    pub(crate) author: String,
    /// The `message_id` in the client from which it was sent.
    pub(crate) number: i32,
}

/// A message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StoredMessage {
    /// Its `message_id` here.
    pub(crate) number: i32,
    pub(crate) key: MessageKey,
    pub(crate) place: SandboxChat,
    /// The uid of the other person, if it is not for a group or discussion.
    pub(crate) with: Option<String>,
    pub(crate) time: u64,
    pub(crate) segments: Vec<Segment>,
}

impl StoredMessage {
    fn bytes(&self) -> usize {
        // What the store itself needs for each.
        256 + segment::bytes(&self.segments)
    }
}

/// The messages.
pub(crate) struct MessageStore {
    /// The number given last.
    last: i32,
    /// By the order in which they came.
    all: BTreeMap<u64, (StoredMessage, usize)>,
    next: u64,
    bytes: usize,
    by_number: HashMap<i32, u64>,
    by_key: HashMap<MessageKey, i32>,
    /// Who reacted, by message, and with what. Of the messages that got one last.
    reactions: VecDeque<(i32, Vec<(String, String)>)>,
}

impl MessageStore {
    /// An empty one, of a client that starts at this time. Its numbers go on beyond those of an earlier run: a program may still
    /// have those, and must not take back another message by them.
    pub(crate) fn new(now: u64) -> Self {
        // 128 messages a second, and the same numbers again after half a year.
        let last = i32::try_from((now % (1 << 24)) * 128).unwrap_or(0);
        Self {
            last,
            all: BTreeMap::new(),
            next: 0,
            bytes: 0,
            by_number: HashMap::new(),
            by_key: HashMap::new(),
            reactions: VecDeque::new(),
        }
    }

    /// A new number, which is positive.
    pub(crate) fn new_number(&mut self) -> i32 {
        self.last = self.last.checked_add(1).unwrap_or(1);
        self.last
    }

    /// Keeps a message.
    pub(crate) fn add(&mut self, message: StoredMessage) {
        let bytes = message.bytes();
        // One of another client that comes again, such as after a loss of the connection, keeps its first number.
        self.by_key.entry(message.key.clone()).or_insert(message.number);
        self.by_number.insert(message.number, self.next);
        self.all.insert(self.next, (message, bytes));
        self.next += 1;
        self.bytes += bytes;
        while (self.all.len() > MAX_MESSAGES || self.bytes > MAX_BYTES)
            && let Some((oldest, _)) = self.all.first_key_value()
        {
            self.forget(*oldest);
        }
    }

    fn forget(&mut self, at: u64) {
        let Some((message, bytes)) = self.all.remove(&at) else { return };
        self.bytes -= bytes;
        self.by_number.remove(&message.number);
        if self.by_key.get(&message.key) == Some(&message.number) {
            self.by_key.remove(&message.key);
        }
        self.reactions.retain(|(number, _)| *number != message.number);
    }

    /// The message with this number.
    pub(crate) fn get(&self, number: i32) -> Option<&StoredMessage> {
        self.all.get(self.by_number.get(&number)?).map(|(message, _)| message)
    }

    /// The message that other clients know by this key.
    pub(crate) fn find(&self, key: &MessageKey) -> Option<&StoredMessage> {
        self.get(*self.by_key.get(key)?)
    }

    /// Forgets a message.
    pub(crate) fn remove(&mut self, number: i32) {
        if let Some(at) = self.by_number.get(&number) {
            self.forget(*at);
        }
    }

    /// The newest first, from this number on if one is given: of a chat, or those with a person.
    pub(crate) fn back_from<'a>(
        &'a self,
        from: Option<i32>,
        is_there: impl Fn(&StoredMessage) -> bool + 'a,
    ) -> impl Iterator<Item = &'a StoredMessage> {
        let until = from.and_then(|number| self.by_number.get(&number)).copied().unwrap_or(u64::MAX);
        self.all
            .range(..=until)
            .rev()
            .map(|(_, (message, _))| message)
            .filter(move |message| is_there(message))
    }

    /// All of them, the newest first.
    pub(crate) fn newest(&self) -> impl Iterator<Item = &StoredMessage> {
        self.all.values().rev().map(|(message, _)| message)
    }

    /// Notes a reaction, or that it is taken back. How many there are of it now; none if nothing changes.
    pub(crate) fn react(&mut self, number: i32, by: &str, emoji: &str, on: bool) -> Option<usize> {
        let at = self.reactions.iter().position(|(of, _)| *of == number).unwrap_or_else(|| {
            if self.reactions.len() >= MAX_MESSAGES / 10 {
                self.reactions.pop_front();
            }
            self.reactions.push_back((number, Vec::new()));
            self.reactions.len() - 1
        });
        let (_, all) = self.reactions.get_mut(at)?;
        let one = (by.to_owned(), emoji.to_owned());
        match all.iter().position(|known| *known == one) {
            Some(at) if !on => {
                all.remove(at);
            }
            None if on && all.len() < MAX_REACTIONS => all.push(one),
            _ => return None,
        }
        Some(all.iter().filter(|(_, known)| known == emoji).count())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(store: &mut MessageStore, text: &str) -> i32 {
        let number = store.new_number();
        store.add(StoredMessage {
            number,
            key: MessageKey { author: "7".into(), number },
            place: SandboxChat::Friend,
            with: Some("7".into()),
            time: 1,
            segments: vec![Segment::text(text)],
        });
        number
    }

    #[test]
    fn store_is_bounded_by_messages_and_bytes() {
        let mut store = MessageStore::new(0);
        let first = message(&mut store, "x");
        for _ in 0..MAX_MESSAGES {
            message(&mut store, "x");
        }
        assert!(store.get(first).is_none() && store.get(first + 1).is_some());
        assert_eq!((store.all.len(), store.by_number.len(), store.by_key.len()), (10_000, 10_000, 10_000));
        let long = "x".repeat(MAX_BYTES / 3);
        let numbers: Vec<_> = (0..3).map(|_| message(&mut store, &long)).collect();
        assert_eq!(store.all.len(), 2, "what is longer goes sooner");
        assert!(store.get(numbers[0]).is_none() && store.get(numbers[2]).is_some());
        assert!(store.bytes <= MAX_BYTES);
    }

    #[test]
    fn messages_are_found_until_they_are_removed() {
        let mut store = MessageStore::new(1_700_000_000);
        let numbers: Vec<_> = (0..3).map(|_| message(&mut store, "x")).collect();
        assert!(numbers[0] > 0);
        let key = store.get(numbers[1]).unwrap().key.clone();
        assert_eq!(store.find(&key).unwrap().number, numbers[1]);
        let seen = |store: &MessageStore, from| {
            store.back_from(from, |_| true).map(|message| message.number).collect::<Vec<_>>()
        };
        assert_eq!(seen(&store, None), [numbers[2], numbers[1], numbers[0]]);
        assert_eq!(seen(&store, Some(numbers[1])), [numbers[1], numbers[0]]);
        store.remove(numbers[1]);
        assert!(store.find(&key).is_none() && store.get(numbers[1]).is_none());
        // A later run does not give the same numbers.
        assert!(MessageStore::new(1_700_000_001).new_number() > numbers[2]);
    }

    #[test]
    fn each_reacts_once() {
        let mut store = MessageStore::new(0);
        let number = message(&mut store, "x");
        assert_eq!(store.react(number, "7", "66", true), Some(1));
        assert_eq!(store.react(number, "7", "66", true), None);
        assert_eq!(store.react(number, "8", "66", true), Some(2));
        assert_eq!(store.react(number, "7", "66", false), Some(1));
        assert_eq!(store.react(number, "7", "66", false), None);
    }
}
