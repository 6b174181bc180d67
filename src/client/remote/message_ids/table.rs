//! [`IdTable`]: which number is which message. Pure.

use std::collections::{HashMap, VecDeque};

use super::MessageKey;

/// The newest messages and their numbers.
pub(super) struct IdTable {
    most: usize,
    /// Oldest first.
    order: VecDeque<(i32, MessageKey)>,
    ids: HashMap<MessageKey, i32>,
    keys: HashMap<i32, MessageKey>,
    next: i32,
    /// How many were ever put in, and how many of them are in the file.
    put: u64,
    written: u64,
}

/// The number after this one: 0 is none, and negative ones are unusual.
pub(super) fn after(id: i32, by: i32) -> i32 {
    // Within 64 bits, as the sum may be too large.
    let next = (i64::from(id.max(1)) - 1 + i64::from(by)) % i64::from(i32::MAX) + 1;
    i32::try_from(next).unwrap_or(1)
}

impl IdTable {
    /// Without messages; `next` is the first number to be given.
    pub(super) fn new(most: usize, next: i32) -> Self {
        let (order, ids, keys) = Default::default();
        Self { most, order, ids, keys, next: next.max(1), put: 0, written: 0 }
    }

    /// Puts in one that is in the file.
    pub(super) fn insert_kept(&mut self, id: i32, key: MessageKey) {
        self.insert(id, key);
        self.written = self.put;
    }

    /// The number of a message, and whether it is new.
    pub(super) fn number(&mut self, key: MessageKey) -> (i32, bool) {
        if let Some(id) = self.ids.get(&key) {
            return (*id, false);
        }
        let id = self.next;
        self.next = after(id, 1);
        self.insert(id, key);
        (id, true)
    }

    fn insert(&mut self, id: i32, key: MessageKey) {
        // Of a file that has a message or a number twice, the later line counts.
        if let Some(other) = self.keys.remove(&id) {
            self.ids.remove(&other);
        }
        if let Some(other) = self.ids.insert(key, id) {
            self.keys.remove(&other);
        }
        self.keys.insert(id, key);
        self.order.push_back((id, key));
        self.put += 1;
        if self.order.len() > self.most
            && let Some((id, key)) = self.order.pop_front()
            && self.keys.get(&id) == Some(&key)
        {
            self.keys.remove(&id);
            self.ids.remove(&key);
        }
    }

    /// The message with this number.
    pub(super) fn find(&self, id: i32) -> Option<MessageKey> {
        self.keys.get(&id).copied()
    }

    /// Those that are not in the file, and what [`IdTable::mark_written`] is to be told when they are.
    pub(super) fn unwritten(&self) -> (Vec<(i32, MessageKey)>, u64) {
        let count = usize::try_from(self.put - self.written).unwrap_or(usize::MAX).min(self.order.len());
        (self.order.iter().skip(self.order.len() - count).copied().collect(), self.put)
    }

    /// Notes that they are in the file.
    pub(super) fn mark_written(&mut self, upto: u64) {
        self.written = upto.min(self.put);
    }

    /// All, oldest first.
    pub(super) fn all(&self) -> Vec<(i32, MessageKey)> {
        self.order.iter().copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::Scene;
    use super::*;

    fn key(seq: u64) -> MessageKey {
        MessageKey { account: 1, scene: Scene::Friend, peer: 7, seq }
    }

    #[test]
    fn newest_messages_are_kept() {
        let mut table = IdTable::new(3, i32::MAX - 1);
        let ids: Vec<i32> = (0..5).map(|seq| table.number(key(seq)).0).collect();
        assert_eq!(ids, [i32::MAX - 1, i32::MAX, 1, 2, 3]);
        assert_eq!(table.number(key(4)), (3, false));
        assert_eq!((table.find(i32::MAX), table.find(1), table.find(4)), (None, Some(key(2)), None));
        // Forgotten, so it is a new one.
        assert_eq!(table.number(key(0)), (4, true));
        assert_eq!((table.ids.len(), table.keys.len(), table.order.len()), (3, 3, 3));
    }

    #[test]
    fn only_what_is_new_is_to_be_written() {
        let mut table = IdTable::new(3, 1);
        table.insert_kept(9, key(9));
        assert_eq!(table.unwritten().0, []);
        table.number(key(1));
        let (unwritten, upto) = table.unwritten();
        assert_eq!(unwritten, [(1, key(1))]);
        // One that came meanwhile stays to be written.
        table.number(key(2));
        table.mark_written(upto);
        assert_eq!(table.unwritten().0, [(2, key(2))]);
        // Of more than there is room for, those that are still there.
        (10..20).for_each(|seq| _ = table.number(key(seq)));
        assert_eq!(table.unwritten().0.len(), 3);
    }

    #[test]
    fn file_with_something_twice_is_no_riddle() {
        let mut table = IdTable::new(9, 1);
        table.insert_kept(5, key(1));
        table.insert_kept(5, key(2));
        table.insert_kept(6, key(2));
        assert_eq!((table.find(5), table.find(6), table.number(key(2))), (None, Some(key(2)), (6, false)));
        // The number that was key 1's is another's, so it has none any more.
        assert!(table.number(key(1)).1);
    }

    #[test]
    fn numbers_go_round() {
        assert_eq!(
            (after(1, 1), after(i32::MAX, 1), after(i32::MAX, i32::MAX), after(0, 1)),
            (2, 1, i32::MAX, 2)
        );
    }
}
