//! Puts back the controller's files that are removed under it: by a cleaner of `/tmp`, a logout, an administrator.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};
use tracing::{error, info, warn};

use crate::locks::locked;
use crate::model::error_chain::ErrorChain;
use crate::paths::Paths;
use crate::store::{Remade, Store, StoreError};
use crate::supervisor::AnySupervisor;

/// How often the files are checked. A kill -9 within that time after the registry file was removed loses its accounts.
const INTERVAL: Duration = Duration::from_secs(1);

/// The owners of files that can be removed.
#[derive(Clone)]
pub(super) struct OwnFiles {
    pub(super) paths: Arc<Paths>,
    /// The registry files of clients and of implementations.
    pub(super) stores: [Arc<Store>; 2],
    /// How both run.
    pub(super) supervisors: [Arc<AnySupervisor>; 2],
    /// Whether the controller is ending, and so removes files itself. Locked while files are made.
    pub(super) is_over: Arc<Mutex<bool>>,
}

impl OwnFiles {
    /// Checks the files every [`INTERVAL`].
    pub(super) async fn watch(self) {
        let mut ticks = interval(INTERVAL);
        // After a slow disk or a suspend one look is enough: missed ones are not made up for.
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut failing = false;
        loop {
            ticks.tick().await;
            failing = self.look(failing).await;
        }
    }

    /// Checks the files a last time, so that what the next controller needs is there.
    pub(super) async fn look_last(&self) {
        self.look(false).await;
        let is_over = self.is_over.clone();
        // A check may be running on another thread.
        let _ = tokio::task::spawn_blocking(move || *locked(&is_over) = true).await;
    }

    /// Makes missing files again. `failing` says whether that failed last time and was logged; returns whether it fails now.
    async fn look(&self, failing: bool) -> bool {
        let this = self.clone();
        // It does not panic.
        tokio::task::spawn_blocking(move || this.remake(failing)).await.unwrap_or(failing)
    }

    fn remake(&self, failing: bool) -> bool {
        // Held to the end of this function, so that no file is made once `look_last` has had the lock.
        let is_over = locked(&self.is_over);
        if *is_over {
            return failing;
        }
        let stores = self.stores.each_ref().map(|store| remake_store(store));
        let paths = self.paths.remake().map(|remade| {
            for path in remade {
                let path = path.display();
                warn!(%path, "{path} was removed; making it again");
            }
        });
        let launches = self.supervisors.each_ref().map(|supervisor| {
            supervisor.remake_files().map(|remade| {
                for path in remade {
                    let path = path.display();
                    warn!(%path, "the launch file {path} was removed; writing it again");
                }
            })
        });
        let stores = stores.map(|store| store.map_err(|error| ErrorChain(&error).to_string()));
        // All were tried by now. One error is enough for the log, and a registry's matters most.
        let rest = launches.into_iter().fold(paths, Result::and);
        let rest = rest.map_err(|error| ErrorChain(&error).to_string());
        match stores.into_iter().fold(rest, |found, store| store.and(found)) {
            Ok(()) if failing => info!("the controller's files are in place again"),
            Err(error) if !failing => {
                error!(
                    error,
                    "files of the controller were removed and can't be made again ({error}); trying every second"
                );
                return true;
            }
            Err(_) => return true,
            Ok(()) => {}
        }
        false
    }
}

/// Makes a registry file or its lock again where it was removed.
fn remake_store(store: &Store) -> Result<(), StoreError> {
    let registry = store.path().display();
    for what in store.remake()? {
        match what {
            Remade::Registry => {
                warn!(path = %registry, "the registry file {registry} was removed; writing it again");
            }
            Remade::Lock => {
                warn!(path = %registry, "the lock of the registry file {registry} was removed; making it again");
            }
        }
    }
    Ok(())
}
