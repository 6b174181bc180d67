//! [`Remembered`]: which account lives on which machine, on disk, so that a door that starts while a machine is away still knows.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;
use tracing::{info, warn};

use super::Machines;
use crate::files::{FileError, open_regular, replace};
use crate::model::error_chain::ErrorChain;
use crate::model::machine::MachineName;
use crate::model::name::ClientName;

/// The largest file that is read, in bytes: 10,000 accounts with long names.
const MAX_BYTES: u64 = 16 * 1024 * 1024;

/// How long changes are collected before they are written, and the pause after a failure.
const COLLECT: Duration = Duration::from_secs(1);
const RETRY: Duration = Duration::from_secs(30);

/// The names of the accounts of each machine.
type Places = BTreeMap<MachineName, Vec<ClientName>>;

/// The file.
#[derive(Clone, Debug)]
pub struct Remembered(Arc<Path>);

impl Remembered {
    /// The file at this path, which need not exist.
    pub fn new(path: PathBuf) -> Self {
        Self(path.into())
    }

    /// Reads it. What can't be read is logged and nothing: the machines tell it again. Blocks on the file.
    pub fn read(&self) -> Places {
        match self.read_file() {
            Ok(places) => places,
            Err(error) => {
                let path = self.0.display();
                warn!(
                    "{path} can't be read ({error}); accounts of machines that are away are not known until they are back"
                );
                Places::new()
            }
        }
    }

    fn read_file(&self) -> Result<Places, String> {
        let file = match open_regular(&self.0) {
            Ok((file, _)) => file,
            Err(error) if error.is_missing() => return Ok(Places::new()),
            Err(error) => return Err(ErrorChain(&error).to_string()),
        };
        let mut text = Vec::new();
        io::Read::read_to_end(&mut io::Read::take(file, MAX_BYTES), &mut text)
            .map_err(|error| error.to_string())?;
        let read: BTreeMap<String, Vec<ClientName>> =
            serde_json::from_slice(&text).map_err(|error| error.to_string())?;
        // A machine whose name is none is in no configuration either.
        Ok(read
            .into_iter()
            .filter_map(|(name, accounts)| Some((MachineName::new(&name).ok()?, accounts)))
            .collect())
    }

    /// Writes it whenever an account has come or gone. Runs as long as the controller.
    pub async fn follow(self, machines: Machines) {
        let mut changed = machines.0.places.subscribe();
        let (mut written, mut is_failing) = (None, false);
        while changed.changed().await.is_ok() {
            sleep(COLLECT).await;
            changed.mark_unchanged();
            let places = machines.places();
            if written.as_ref() == Some(&places) {
                continue;
            }
            let (path, content) = (self.0.clone(), text(&places));
            let wrote = tokio::task::spawn_blocking(move || replace(&path, &content, 0o600)).await;
            match wrote.unwrap_or_else(|end| Err(self.failed(io::Error::other(end)))) {
                Ok(()) => {
                    if std::mem::take(&mut is_failing) {
                        info!("{} can be written again", self.0.display());
                    }
                    written = Some(places);
                }
                Err(error) => {
                    if !std::mem::replace(&mut is_failing, true) {
                        warn!("{}; trying again every {} s", ErrorChain(&error), RETRY.as_secs());
                    }
                    sleep(RETRY).await;
                    changed.mark_changed();
                }
            }
        }
    }

    fn failed(&self, source: io::Error) -> FileError {
        FileError::Io { path: self.0.to_path_buf(), source }
    }
}

fn text(places: &Places) -> Vec<u8> {
    let named: BTreeMap<&str, &Vec<ClientName>> =
        places.iter().map(|(name, accounts)| (name.as_str(), accounts)).collect();
    // A map with keys of text can't fail.
    serde_json::to_vec(&named).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_remembered_and_a_broken_file_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let file = Remembered::new(folder.path().join("machines.json"));
        assert_eq!(file.read(), Places::new());
        let names = ["a", "小明"].map(|name| ClientName::new(name).unwrap()).to_vec();
        let places = Places::from([(MachineName::new("tokyo").unwrap(), names)]);
        replace(&file.0, &text(&places), 0o600).unwrap();
        assert_eq!(file.read(), places);
        for broken in ["", "[]", "{\"tokyo\":[\"a/b\"]}"] {
            replace(&file.0, broken.as_bytes(), 0o600).unwrap();
            assert_eq!(file.read(), Places::new(), "{broken}");
        }
    }
}
