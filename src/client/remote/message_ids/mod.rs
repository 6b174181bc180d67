//! [`MessageIds`]: numbers for messages that have none of 32 bits, as OneBot v11 wants them (onebot-11, `event/message.md`).
//!
//! A message is a sequence number in a chat, which no 32 bits can hold together with the chat. So each that applications hear of
//! gets the next number, and the newest ones are kept, in memory and in a file of the client.

mod file;
mod table;

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::Notify;
use tracing::warn;

use self::file::IdFile;
use self::table::IdTable;
use crate::blocking::BlockingTurns;
use crate::locks::locked;
use crate::model::error_chain::ErrorChain;

/// How long numbers are collected before they are written.
const PAUSE: Duration = Duration::from_millis(200);

/// How many messages are remembered.
pub(crate) const MOST: usize = 10_000;

/// The kind of a chat.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Scene {
    /// With a friend.
    Friend,
    /// In a group.
    Group,
    /// With a member of a group.
    Temporary,
}

/// What identifies a message in its network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct MessageKey {
    /// The account that heard it: the client may be given to another one.
    pub account: u64,
    /// The kind of the chat.
    pub scene: Scene,
    /// The other person, or the group.
    pub peer: u64,
    /// The message in this chat.
    pub seq: u64,
}

/// The numbers of messages.
pub(crate) struct MessageIds {
    table: Mutex<IdTable>,
    changed: Notify,
    /// None: they are kept in memory alone.
    file: Option<Arc<Mutex<IdFile>>>,
}

impl MessageIds {
    /// Numbers that end with the client.
    pub(crate) fn in_memory() -> Self {
        Self { table: Mutex::new(IdTable::new(MOST, 1)), changed: Notify::new(), file: None }
    }

    /// Goes on with those in the file at `path`. Blocks on the file system. What can't be read is told, and begins anew.
    pub(crate) fn open(path: &Path) -> Self {
        let (file, kept) = match IdFile::open(path, MOST) {
            Ok((file, kept)) => (Some(Arc::new(Mutex::new(file))), kept),
            Err(error) => {
                warn!(
                    "cannot use the numbers of earlier messages: {}; new ones are forgotten when the client ends",
                    ErrorChain(&error)
                );
                (None, file::Kept::none())
            }
        };
        let mut table = IdTable::new(MOST, kept.next);
        for (id, key) in kept.all {
            table.insert_kept(id, key);
        }
        Self { table: Mutex::new(table), changed: Notify::new(), file }
    }

    /// The number of a message: the one that it has, or a new one.
    pub(crate) fn number(&self, key: MessageKey) -> i32 {
        let (id, is_new) = locked(&self.table).number(key);
        if is_new {
            self.changed.notify_one();
        }
        id
    }

    /// The message with this number, if the account `account` heard it.
    pub(crate) fn find(&self, id: i32, account: u64) -> Option<MessageKey> {
        locked(&self.table).find(id).filter(|key| key.account == account)
    }

    /// Writes new numbers to the file as they come, on a thread for blocking work. Never returns. What is left is written when this
    /// is dropped.
    pub(crate) async fn keep(&self) {
        let Some(file) = &self.file else { return std::future::pending().await };
        let _rest = WriteRest(self, file);
        let turn = BlockingTurns::new(1);
        let mut was_said = false;
        loop {
            self.changed.notified().await;
            tokio::time::sleep(PAUSE).await;
            let (unwritten, upto) = locked(&self.table).unwritten();
            let (file, all) = (file.clone(), self.all_for(file, unwritten.len()));
            let written = turn.run(move || locked(&file).write(&unwritten, all.as_deref())).await;
            match written {
                Ok(Ok(())) => {
                    locked(&self.table).mark_written(upto);
                    was_said = false;
                }
                Ok(Err(error)) => {
                    if !std::mem::replace(&mut was_said, true) {
                        warn!(
                            "cannot write the numbers of messages: {}; trying again with the next message",
                            ErrorChain(&error)
                        );
                    }
                }
                // The runtime ends.
                Err(_) => return std::future::pending().await,
            }
        }
    }

    /// All numbers, if the file has so many old ones that it is to be written anew.
    fn all_for(&self, file: &Mutex<IdFile>, more: usize) -> Option<Vec<(i32, MessageKey)>> {
        let is_full = locked(file).is_full_with(more);
        is_full.then(|| locked(&self.table).all())
    }
}

/// Writes what is left at the end: a client that is told to stop has little time, and this is a few lines.
struct WriteRest<'a>(&'a MessageIds, &'a Arc<Mutex<IdFile>>);

impl Drop for WriteRest<'_> {
    fn drop(&mut self) {
        let (unwritten, upto) = locked(&self.0.table).unwritten();
        // A thread may still be writing to a disk that hangs: then it is left as it is.
        let Ok(mut file) = self.1.try_lock() else { return };
        if !unwritten.is_empty() && file.write(&unwritten, None).is_ok() {
            locked(&self.0.table).mark_written(upto);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(seq: u64) -> MessageKey {
        MessageKey { account: 1, scene: Scene::Group, peer: 5, seq }
    }

    #[tokio::test(start_paused = true)]
    async fn numbers_outlive_the_client() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ids");
        let first = MessageIds::open(&path);
        let early = first.number(key(1));
        let wait = tokio::time::sleep(Duration::from_secs(1));
        tokio::select! { () = first.keep() => unreachable!(), () = wait => {} }
        let late = first.number(key(2));
        // What came just before the end is written as well.
        {
            let mut keeping = Box::pin(first.keep());
            assert!(futures_util::poll!(&mut keeping).is_pending());
        }
        drop(first);
        let second = MessageIds::open(&path);
        assert_eq!((second.find(early, 1), second.find(late, 1)), (Some(key(1)), Some(key(2))));
        assert_eq!((second.number(key(1)), second.find(early, 2)), (early, None));
        // One that was not written, as after a kill, has a number that no other message gets.
        let unwritten = second.number(key(3));
        let third = MessageIds::open(&path);
        assert_ne!(third.number(key(4)), unwritten);
        assert_eq!(third.find(unwritten, 1), None);
    }

    #[tokio::test(start_paused = true)]
    async fn file_stays_small() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ids");
        let ids = MessageIds::open(&path);
        let tell = async {
            for round in 0..6 {
                for seq in 0..MOST as u64 / 2 {
                    ids.number(key(round * 100_000 + seq));
                }
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        };
        tokio::select! { () = ids.keep() => unreachable!(), () = tell => {} }
        let written = std::fs::read_to_string(&path).unwrap();
        assert!(written.lines().count() <= 2 * MOST + 1, "{}", written.lines().count());
        let last = ids.number(key(500_000));
        assert_eq!(MessageIds::open(&path).find(last, 1), Some(key(500_000)));
    }
}
