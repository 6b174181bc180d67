//! The keeper: writes the registry file, always the newest image, and tells the actor what is on the disk.

use std::io;
use std::sync::Arc;

use tokio::sync::{mpsc, watch};
use tracing::{error, info};

use crate::model::fleet::{Input, Version};
use crate::model::saved::Saved;
use crate::service::events;
use crate::store::Store;

/// What is to be written.
pub(super) type Image = Option<Arc<(Version, Saved)>>;

/// Writes until nobody asks any more. What comes while it writes waits as one: only the newest counts.
pub(super) async fn keep(store: Store, mut images: watch::Receiver<Image>, told: mpsc::Sender<Input>) {
    let store = Arc::new(store);
    let mut failing = false;
    while images.changed().await.is_ok() {
        let Some(image) = images.borrow_and_update().clone() else { continue };
        let version = image.0;
        let writer = store.clone();
        let written = tokio::task::spawn_blocking(move || writer.write(&image.1)).await;
        let input = match written.unwrap_or_else(|end| Err(io::Error::other(end))) {
            Ok(()) => {
                if failing {
                    info!("the registry file can be written again");
                }
                failing = false;
                Input::Saved(version)
            }
            Err(error) => {
                if !failing {
                    let path = store.path().display();
                    error!(name: events::REGISTRY_REFUSED, %path, %error, "the registry file can't be written: no start or stop is taken");
                }
                failing = true;
                Input::SaveFailed(version, format!("the registry file can't be written: {error}"))
            }
        };
        if told.send(input).await.is_err() {
            return;
        }
    }
}
