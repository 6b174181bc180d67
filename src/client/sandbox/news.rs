//! [`News`]: tells what happens, to the client in its own words and to the applications in OneBot's.

use tokio::sync::mpsc;

use super::application_event;
use crate::client::applications::hub::Hub;
use crate::client::backend::BackendEvent;

/// The receiver of the backend's events is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the client has ended")]
pub(crate) struct NewsClosed;

/// Where events go.
#[derive(Clone)]
pub(crate) struct News {
    events: mpsc::Sender<BackendEvent>,
    applications: Hub,
}

impl News {
    pub(super) fn new(events: mpsc::Sender<BackendEvent>, applications: Hub) -> Self {
        Self { events, applications }
    }

    /// Tells an event of the account `own`.
    ///
    /// # Errors
    /// No event is received any more.
    pub(crate) async fn tell(&self, own: &str, event: BackendEvent) -> Result<(), NewsClosed> {
        let told = application_event::of(own, &event);
        self.events.send(event).await.map_err(|_| NewsClosed)?;
        if let Some(told) = told {
            self.applications.publish(&told.to_string());
        }
        Ok(())
    }
}
