//! [`Journal`]: the moves that are under way, on disk.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use serde::{Deserialize, Serialize};
use tracing::error;

use super::At;
use crate::files::{open_regular, temporary_in};
use crate::locks::locked;
use crate::model::error_chain::ErrorChain;
use crate::model::name::ClientName;
use crate::tasks::on_blocking_thread;

/// The largest file that is read, in bytes.
const MAX_BYTES: u64 = 1024 * 1024;

/// How far a move is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// It is being brought to the other machine. If that fails it stays where it was.
    Copying,
    /// The other machine has all of it, and it leaves where it was.
    Leaving,
}

/// A move.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Where the account was.
    pub from: At,
    /// Where it comes to.
    pub to: At,
    /// How far it is.
    pub phase: Phase,
    /// Whether it is to run afterwards, as it did before.
    pub was_running: bool,
}

type Entries = BTreeMap<ClientName, Entry>;

/// The file.
#[derive(Clone, Debug)]
pub(super) struct Journal(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    path: PathBuf,
    /// Locked on threads for blocking work only, while the file is written.
    entries: Mutex<Entries>,
}

impl Journal {
    /// Reads the file at this path, which need not exist. One that can't be read is left as it is, and the log says so.
    pub(super) fn open(path: PathBuf) -> Self {
        let entries = read(&path).unwrap_or_else(|why| {
            error!(
                "{} can't be read ({why}); accounts that were being moved may be stopped on both machines: start \
                 each where it is to be, and forget it on the other one",
                path.display()
            );
            Entries::new()
        });
        Self(Arc::new(Shared { path, entries: Mutex::new(entries) }))
    }

    /// All of them.
    pub(super) fn all(&self) -> Vec<(ClientName, Entry)> {
        locked(&self.0.entries).iter().map(|(name, entry)| (name.clone(), entry.clone())).collect()
    }

    /// Writes how far a move is; none: that it is over. Returns when that is on disk.
    pub(super) async fn write(&self, name: &ClientName, entry: Option<Entry>) -> Result<(), String> {
        let (shared, name) = (self.0.clone(), name.clone());
        on_blocking_thread(move || shared.write(name, entry)).await
    }
}

impl Shared {
    fn write(&self, name: ClientName, entry: Option<Entry>) -> Result<(), String> {
        let mut entries = locked(&self.entries);
        let mut changed = entries.clone();
        match entry {
            Some(entry) => drop(changed.insert(name, entry)),
            None => drop(changed.remove(&name)),
        }
        let failed = |why: String| format!("{} can't be written: {why}", self.path.display());
        let text = serde_json::to_vec_pretty(&changed).map_err(|error| failed(error.to_string()))?;
        replace(&self.path, &text).map_err(|error| failed(error.to_string()))?;
        *entries = changed;
        Ok(())
    }
}

/// Replaces the file. Returns when the new one is on disk, also after a loss of power.
fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    let file = temporary_in(folder)?;
    file.as_file().write_all(content)?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    // The name is in the folder.
    File::open(folder)?.sync_all()
}

fn read(path: &Path) -> Result<Entries, String> {
    let file = match open_regular(path) {
        Ok((file, _)) => file,
        Err(error) if error.is_missing() => return Ok(Entries::new()),
        Err(error) => return Err(ErrorChain(&error).to_string()),
    };
    let mut text = Vec::new();
    file.take(MAX_BYTES).read_to_end(&mut text).map_err(|error| error.to_string())?;
    serde_json::from_slice(&text).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::machine::MachineName;

    #[tokio::test]
    async fn moves_are_there_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("moves.json");
        let name = |text: &str| ClientName::new(text).unwrap();
        let journal = Journal::open(path.clone());
        assert_eq!(journal.all(), []);
        let tokyo = Some(MachineName::new("tokyo").unwrap());
        let mut entry = Entry { from: None, to: tokyo, phase: Phase::Copying, was_running: true };
        journal.write(&name("a"), Some(entry.clone())).await.unwrap();
        entry.phase = Phase::Leaving;
        journal.write(&name("b"), Some(entry.clone())).await.unwrap();
        journal.write(&name("a"), None).await.unwrap();
        assert_eq!(Journal::open(path.clone()).all(), [(name("b"), entry.clone())]);
        // What is not on disk does not count.
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir_all(path.join("in the way")).unwrap();
        let failed = journal.write(&name("c"), Some(entry)).await.unwrap_err();
        assert!(failed.contains("moves.json can't be written: "), "{failed}");
        assert_eq!(journal.all().len(), 1);
        assert_eq!(Journal::open(path).all(), []);
    }
}
