//! The persister: writes the newest image of the registry file, and reports to the actor which revision is on disk.

use std::io;
use std::sync::Arc;

use tokio::sync::{mpsc, watch};
use tracing::{error, info};

use crate::model::fleet::{Input, Revision};
use crate::model::persisted::PersistedState;
use crate::service::events;
use crate::store::Store;

/// The image to write.
pub(super) type Image = Option<Arc<(Revision, PersistedState)>>;

/// Writes images until their sender is gone. Of those that come during a write only the newest is written.
pub(super) async fn persist(
    store: Arc<Store>,
    mut images: watch::Receiver<Image>,
    told: mpsc::Sender<Input>,
) {
    let mut failing = false;
    while images.changed().await.is_ok() {
        // Cloned: a guard that is held during the write would block the actor's next image.
        let Some(image) = images.borrow_and_update().clone() else { continue };
        let revision = image.0;
        let writer = store.clone();
        let written = tokio::task::spawn_blocking(move || writer.write(&image.1)).await;
        let input = match written.unwrap_or_else(|end| Err(io::Error::other(end))) {
            Ok(()) => {
                if failing {
                    info!("the registry file can be written again; starts and stops are accepted");
                }
                failing = false;
                Input::Saved(revision)
            }
            Err(error) => {
                // The fleet asks for another write every 5 s, and each would be logged.
                if !failing {
                    let path = store.path().display();
                    error!(
                        name: events::REGISTRY_REFUSED, %path, %error,
                        "the registry file {path} can't be written: {error}; no start or stop is accepted, trying again every 5 s"
                    );
                }
                failing = true;
                Input::SaveFailed(revision, format!("the registry file can't be written: {error}"))
            }
        };
        if told.send(input).await.is_err() {
            return;
        }
    }
}
