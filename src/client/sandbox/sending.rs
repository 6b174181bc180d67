//! Speaking and changing the world: by the account, and by people without a client.

use tokio::time::Instant;
use tracing::debug;

use super::network::report;
use super::view::changes::{Change, WorldChange};
use super::view::{Outcome, SandboxChat};
use super::{ECHO_DELAY, Echo, MAX_QUEUED_ECHOES, Sandbox, application_event, notice};
use crate::client::backend::segment::{self, Segment};
use crate::client::backend::{BackendError, SendClaim, Sent};
use crate::client::process::unix_seconds;

/// The longest message, in bytes, and the most parts.
pub(super) const MAX_MESSAGE: usize = 1024 * 1024 + 4096;
const MAX_PARTS: usize = 1000;

/// Where a message goes: the chat, and the uid of the person if it is for one.
pub(super) type Destination = (SandboxChat, Option<String>);

impl Sandbox {
    /// Sends a message. Its claim is begun before anything of it goes out.
    pub(super) async fn send_parts(
        &self,
        id: &str,
        to: Result<Destination, BackendError>,
        segments: Vec<Segment>,
        claim: &SendClaim,
    ) -> Result<Sent, BackendError> {
        tokio::select! {
            ready = self.shared.faults.before_sending() => ready?,
            () = claim.withdrawn() => return Err(BackendError::Withdrawn),
        }
        // After the delay, during which the login may have ended.
        self.logged_in()?;
        if !claim.begin() {
            return Err(BackendError::Withdrawn);
        }
        if segments.len() > MAX_PARTS || segment::bytes(&segments) > MAX_MESSAGE {
            return Err(BackendError::Refused("the message is too long".into()));
        }
        let ids = [id.to_owned(), self.shared.next_id()];
        let route = self.shared.view().route(to?, segments, ids, unix_seconds())?;
        let content = &route.message.content;
        match (&route.wire.place, route.to.first()) {
            (SandboxChat::Group(_) | SandboxChat::Discuss(_), _) => {
                // Without waiting for answers: one client that does not read must not hold up a whole group.
                for uid in &route.to {
                    self.shared.links.notify(uid, &route.wire, content);
                }
            }
            (_, Some(uid)) => {
                let delivered = self.shared.links.deliver(uid, &route.wire, content).await;
                // What may have arrived can be taken back.
                if matches!(delivered, Err(ref error) if *error != BackendError::NoAnswer) {
                    self.shared.view().messages.remove(route.wire.number);
                }
                delivered?;
            }
            // The person has no client: `route` has made an echo instead.
            (_, None) => {}
        }
        let mut sent =
            application_event::received(&route.message, self.shared.view().sender_of(&route.message));
        // Its `user_id` is the account's own, which does not say whom it was written to.
        if let Some(receiver) = &route.message.receiver {
            sent["target_id"] = notice::uid(&receiver.uid).into();
        }
        self.frames.note("sent", sent);
        if let Some(message) = route.echo
            && self.echoes.try_send(Echo { due: Instant::now() + ECHO_DELAY, message }).is_err()
        {
            debug!("dropped an echo: {MAX_QUEUED_ECHOES} are waiting already");
        }
        Ok(route.message.into())
    }

    /// The account changes the world.
    ///
    /// # Errors
    /// It may not. Nothing has changed.
    pub(super) async fn change(&self, what: Change) -> Result<(), BackendError> {
        self.logged_in()?;
        let by = self.shared.own_uid();
        self.change_by(WorldChange { by, what }).await
    }

    /// Somebody changes the world; all clients are told.
    ///
    /// # Errors
    /// It may not. Nothing has changed.
    pub(super) async fn change_by(&self, change: WorldChange) -> Result<(), BackendError> {
        let outcome = self.shared.view().apply(&change, unix_seconds())?;
        self.shared.links.broadcast(&self.shared.own_uid(), &change);
        self.tell(outcome).await
    }

    /// Tells what follows from a change.
    pub(super) async fn tell(&self, outcome: Outcome) -> Result<(), BackendError> {
        let own = self.shared.own_uid();
        report(&self.told, &own, outcome).await.map_err(|_| BackendError::LoggedOut)
    }
}
