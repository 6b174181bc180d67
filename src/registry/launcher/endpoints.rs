//! [`Endpoints`]: where the client of an account finds its implementation.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;

use super::PrepareError;
use crate::config::Settings;
use crate::environ::{implementation_of, with_implementation};
use crate::model::client::{ClientSpec, Generation, Phase};
use crate::model::fleet::Launch;
use crate::model::name::{ClientName, UnitId};
use crate::registry::Snapshot;

/// How long a client's launch waits for its implementation: longer than systemd takes for a start.
const PATIENCE: Duration = Duration::from_secs(100);

/// A start of an implementation that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The launch of the client for which it was tried.
    pub generation: Generation,
    /// Why it failed.
    pub why: Arc<str>,
}

/// The last failed start of each account's implementation, where none has succeeded since.
pub type Refusals = Arc<BTreeMap<ClientName, Refusal>>;

/// The implementations of all accounts, as the launches of clients see them.
#[derive(Clone, Debug)]
pub struct Endpoints {
    /// The implementations.
    pub snapshot: watch::Receiver<Arc<Snapshot>>,
    /// Those that could not be started.
    pub refusals: watch::Receiver<Refusals>,
    /// The folder of the tokens.
    pub folder: Arc<Path>,
}

/// The file with the token of an account's implementation.
pub fn token_file(folder: &Path, id: &UnitId) -> PathBuf {
    folder.join(format!("{id}.token"))
}

impl Endpoints {
    /// The settings for the launch of a client, with where its implementation is. Waits until that has a port of its own.
    pub(super) async fn settings_for(
        &self,
        launch: &Launch,
        spec: &ClientSpec,
        settings: Arc<Settings>,
    ) -> Result<Arc<Settings>, PrepareError> {
        if implementation_of(spec).is_none() {
            return Ok(settings);
        }
        let port = timeout(PATIENCE, self.port_for(launch, spec));
        let waited = "did not start in time, see its log".into();
        let port = port.await.unwrap_or(Err(waited)).map_err(PrepareError::Implementation)?;
        Ok(Arc::new(with_implementation(&settings, spec, port, &token_file(&self.folder, &spec.id))))
    }

    async fn port_for(&self, launch: &Launch, spec: &ClientSpec) -> Result<u16, Arc<str>> {
        let (mut snapshot, mut refusals) = (self.snapshot.clone(), self.refusals.clone());
        loop {
            if let Some(refusal) = refusals.borrow_and_update().get(&launch.name)
                // A refusal for an earlier launch does not count: the implementation is tried again.
                && refusal.generation >= launch.generation
            {
                return Err(refusal.why.clone());
            }
            // Marked as seen before the wait, so that no change in between is missed.
            if let Some(view) = snapshot.borrow_and_update().get(&launch.name) {
                let record = &view.record;
                let is_the_one = implementation_of(&record.spec) == implementation_of(spec);
                // Without a process it is started again by itself, and keeps its port.
                if is_the_one && matches!(record.phase, Phase::Up | Phase::Gone(_)) {
                    return Ok(record.port);
                }
            }
            tokio::select! {
                Ok(()) = snapshot.changed() => {}
                Ok(()) = refusals.changed() => {}
                else => return Err("can't be started while the controller ends".into()),
            }
        }
    }
}
