//! [`People`]: what a person of the world who has no client does, when a call from outside says so.

use super::network::report;
use super::view::changes::{Change, WorldChange};
use super::view::messages::MessageKey;
use super::view::requests::RequestKind;
use super::view::{PeerMessage, SandboxChat};
use super::{Sandbox, parts};
use crate::client::backend::BackendError;
use crate::client::backend::action::{Answer, Refusal};
use crate::client::backend::segment::{self, Segment};
use crate::client::process::unix_seconds;

/// A person without a client.
pub(super) struct People<'a> {
    sandbox: &'a Sandbox,
    uid: String,
}

fn refused(error: BackendError) -> Answer {
    let refusal = match error {
        BackendError::Gone => Refusal::NotFound,
        BackendError::LoggedOut => Refusal::LoggedOut,
        _ => Refusal::NotPermitted,
    };
    Answer::refused(refusal, error.to_string())
}

impl<'a> People<'a> {
    /// The person with this uid. It need not be known yet: whoever asks to be a friend is not.
    ///
    /// # Errors
    /// It has a client, which speaks for it, or the account is not logged in and hears nothing.
    pub(super) fn find(sandbox: &'a Sandbox, uid: &str) -> Result<Self, Answer> {
        sandbox.logged_in().map_err(refused)?;
        let is_uid = (1..=20).contains(&uid.len()) && uid.bytes().all(|byte| byte.is_ascii_digit());
        if !is_uid {
            return Err(Answer::refused(Refusal::BadParameter, "the person has to be named by its uid"));
        }
        if !sandbox.shared.view().has_no_client(uid) {
            let why = "this person has a client, which speaks for it";
            return Err(Answer::refused(Refusal::NotPermitted, why));
        }
        Ok(Self { sandbox, uid: uid.to_owned() })
    }

    /// Says something in a group, or to the account. Returns the `message_id`.
    ///
    /// # Errors
    /// It may not, or is not there.
    pub(super) async fn say(&self, group: Option<&str>, segments: Vec<Segment>) -> Result<i32, Answer> {
        let segments = parts::prepare(self.sandbox, segments).await?;
        if segment::bytes(&segments) > super::sending::MAX_MESSAGE {
            return Err(Answer::refused(Refusal::BadParameter, "the message is too long"));
        }
        let place = group.map_or(SandboxChat::Friend, |group| SandboxChat::Group(group.to_owned()));
        let shared = &self.sandbox.shared;
        // In a block of its own: the guard must not live until the `await` below.
        let (own, sender, message, wire, clients) = {
            let mut view = shared.view();
            let on_the_wire = view.to_wire(&segments).map_err(refused)?;
            let heard = view.hear(&self.uid, None, place.clone(), segments, shared.next_id(), unix_seconds());
            let message = heard.map_err(refused)?;
            view.plays(&self.uid);
            let number = message.number.unwrap_or_default();
            let wire = PeerMessage { by: Some(self.uid.clone()), number, segments: on_the_wire, place };
            let clients = if group.is_some() { view.clients_in(&wire.place) } else { Vec::new() };
            (view.own_uid().to_owned(), view.sender_of(&message), message, wire, clients)
        };
        for client in &clients {
            shared.links.notify_as(client, &wire);
        }
        self.sandbox
            .told
            .message(&own, sender, message)
            .await
            .map_err(|_| refused(BackendError::LoggedOut))?;
        Ok(wire.number)
    }

    /// Does something: takes a message back, pokes, changes a group.
    ///
    /// # Errors
    /// It may not.
    pub(super) async fn change(&self, what: Change) -> Result<(), Answer> {
        self.sandbox.change_by(WorldChange { by: self.uid.clone(), what }).await.map_err(refused)
    }

    /// Takes a message back.
    ///
    /// # Errors
    /// It may not.
    pub(super) async fn recall(&self, message: i32) -> Result<(), Answer> {
        let message = self.key(message)?;
        self.change(Change::Recall { message }).await
    }

    /// Reacts to a message of a group.
    ///
    /// # Errors
    /// It may not.
    pub(super) async fn react(&self, message: i32, emoji: String, on: bool) -> Result<(), Answer> {
        let message = self.key(message)?;
        self.change(Change::React { message, emoji, on }).await
    }

    fn key(&self, message: i32) -> Result<MessageKey, Answer> {
        let view = self.sandbox.shared.view();
        view.messages
            .get(message)
            .map(|message| message.key.clone())
            .ok_or_else(|| refused(BackendError::Gone))
    }

    /// Pokes somebody: the account, if nobody is named.
    ///
    /// # Errors
    /// It may not.
    pub(super) async fn poke(&self, group: Option<String>, target: Option<String>) -> Result<(), Answer> {
        let target = target.unwrap_or_else(|| self.sandbox.shared.own_uid());
        self.change(Change::Poke { group, target }).await
    }

    /// Asks to be a friend.
    ///
    /// # Errors
    /// It is one.
    pub(super) async fn request_friend(&self, name: &str, comment: &str) -> Result<(), Answer> {
        self.ask(RequestKind::Friend, name, comment).await
    }

    /// Asks to join a group.
    ///
    /// # Errors
    /// It is a member, or the account could not let it in.
    pub(super) async fn request_join(&self, group: String, name: &str, comment: &str) -> Result<(), Answer> {
        self.ask(RequestKind::Join(group), name, comment).await
    }

    /// Asks the account to join a group.
    ///
    /// # Errors
    /// The account is a member, or this person is none.
    pub(super) async fn invite(&self, group: String, comment: &str) -> Result<(), Answer> {
        self.ask(RequestKind::Invitation(group), "", comment).await
    }

    async fn ask(&self, kind: RequestKind, name: &str, comment: &str) -> Result<(), Answer> {
        let (own, outcome) = {
            let mut view = self.sandbox.shared.view();
            let outcome = view.ask(kind, &self.uid, name, comment).map_err(refused)?;
            (view.own_uid().to_owned(), outcome)
        };
        report(&self.sandbox.told, &own, outcome).await.map_err(|_| refused(BackendError::LoggedOut))
    }
}
