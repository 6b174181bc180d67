//! [`News`]: tells what happens, to the client in its own words and to the applications in OneBot's.

use serde_json::Value;
use tokio::sync::mpsc;

use super::application_event;
use super::frames::FrameLog;
use super::view::Outcome;
use super::world;
use crate::client::applications::hub::Hub;
use crate::client::backend::BackendEvent;
use crate::client::backend::event::AccountEvent;
use crate::client::backend::happening::{Happening, NumberOf};
use crate::client::backend::message::ChatMessage;
use crate::client::process::unix_seconds;
use crate::model::name::ClientName;

/// The receiver of the backend's events is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the client has ended")]
pub(crate) struct NewsClosed;

/// Where events go.
#[derive(Clone)]
pub(crate) struct News {
    events: mpsc::Sender<BackendEvent>,
    applications: Hub,
    frames: FrameLog,
    account: ClientName,
}

impl News {
    /// Of the client of this name, which has ids of its own for everybody.
    pub(super) fn new(
        events: mpsc::Sender<BackendEvent>,
        applications: Hub,
        frames: FrameLog,
        account: ClientName,
    ) -> Self {
        Self { events, applications, frames, account }
    }

    /// How many applications listen to the account.
    pub(super) fn listening(&self) -> usize {
        self.applications.present()
    }

    /// Tells a message that the account `own` received from this sender (see `View::sender`).
    ///
    /// # Errors
    /// No event is received any more.
    pub(crate) async fn message(
        &self,
        own: &str,
        sender: Value,
        message: ChatMessage,
    ) -> Result<(), NewsClosed> {
        let told = application_event::received(&message, sender);
        self.events.send(BackendEvent::Message(message)).await.map_err(|_| NewsClosed)?;
        self.publish(own, told);
        Ok(())
    }

    /// Tells an event of the account `own`.
    ///
    /// # Errors
    /// No event is received any more.
    pub(crate) async fn tell(&self, own: &str, event: BackendEvent) -> Result<(), NewsClosed> {
        let told = application_event::of(own, &event);
        self.events.send(event).await.map_err(|_| NewsClosed)?;
        if let Some(told) = told {
            self.publish(own, told);
        }
        Ok(())
    }

    /// Tells what follows from a change.
    ///
    /// # Errors
    /// No event is received any more.
    pub(crate) async fn outcome(&self, own: &str, outcome: Outcome) -> Result<(), NewsClosed> {
        for event in outcome.events {
            self.events.send(BackendEvent::Account(Box::new(event))).await.map_err(|_| NewsClosed)?;
        }
        for notice in outcome.notices {
            let notice = complete(own, notice);
            let id_of = |what, uid: &str| match what {
                NumberOf::Person => world::person_id(self.account.as_str(), uid),
                NumberOf::Group => world::group_id(self.account.as_str(), uid),
            };
            if let Some(happening) = Happening::of(&notice, id_of) {
                let event = Box::new(AccountEvent::Happened(happening));
                self.events.send(BackendEvent::Account(event)).await.map_err(|_| NewsClosed)?;
            }
            self.publish(own, notice);
        }
        Ok(())
    }

    fn publish(&self, own: &str, event: Value) {
        let event = complete(own, event);
        self.applications.publish(&event.to_string());
        self.frames.note("event", event);
    }
}

/// Adds what all events have.
fn complete(own: &str, mut event: Value) -> Value {
    for (key, value) in [
        ("time", unix_seconds().into()),
        ("self_id", super::notice::uid(own).into()),
        ("post_type", "notice".into()),
    ] {
        // A message has its own time, and a request its own type.
        if event.get(key).is_none() {
            event[key] = value;
        }
    }
    event
}
