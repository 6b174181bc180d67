//! [`Backend`]: the contract between a chat network and the rest of the client.
//!
//! A backend is opened as a pair. The handle implements this trait. The driver is a future that logs in and
//! reports [`BackendEvent`]s while it is polled. The driver never touches state or files; the lifecycle does,
//! as the events say. Calls of the trait may take their time, as most of them ask the network.

pub(super) mod action;
pub(super) mod claim;
pub(super) mod event;
pub(super) mod happening;
pub(super) mod message;
pub(super) mod objects;
pub(super) mod segment;
pub(super) mod snapshot;

use std::sync::Arc;
use std::time::Duration;

use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;

use self::action::{Action, Answer};
pub(super) use self::claim::SendClaim;
use self::event::AccountEvent;
use self::message::{ChatMessage, Recipient};
use self::objects::{Discuss, Friend, Group, User};
use self::segment::Segment;
use crate::http::body::{Body, empty};

/// The handle to a chat network. Except for [`Backend::page`], [`Backend::serve`] and [`Backend::act`], it is only called while the client is running.
pub(crate) trait Backend: Send + Sync + 'static {
    /// The own account.
    ///
    /// # Errors
    /// The network does not say.
    fn user(&self) -> impl Future<Output = Result<User, BackendError>> + Send;

    /// The own account's friends.
    ///
    /// # Errors
    /// The network does not say.
    fn friends(&self) -> impl Future<Output = Result<Arc<Vec<Friend>>, BackendError>> + Send;

    /// The groups of the account, without members: the members of all groups together may be a million.
    ///
    /// # Errors
    /// The network does not say.
    fn groups(&self) -> impl Future<Output = Result<Vec<Group>, BackendError>> + Send;

    /// A group with its members. `anew`: fetched from the network, not from memory.
    ///
    /// # Errors
    /// The network does not say, or there is no such group.
    fn group(&self, id: &str, anew: bool) -> impl Future<Output = Result<Group, BackendError>> + Send;

    /// The discussions of the account, with their members.
    ///
    /// # Errors
    /// The network does not say.
    fn discusses(&self) -> impl Future<Output = Result<Vec<Discuss>, BackendError>> + Send;

    /// A new id for a message to be sent.
    fn message_id(&self) -> String;

    /// Sends one message with the id of the draft, and returns it as it was sent. Calls may overlap, but not
    /// two to one recipient. The draft's claim is begun before the first byte is written; a message withdrawn
    /// before that is not sent.
    ///
    /// # Errors
    /// The message was not sent, or it is not known whether it was.
    fn send(&self, draft: &Draft) -> impl Future<Output = Result<Sent, BackendError>> + Send;

    /// Why no message can be sent to a member of a group who is no friend, if the network has no way to.
    fn lack_of_member_chats(&self) -> Option<&'static str> {
        None
    }

    /// Mutes `members` of `group` for `time`. All are ids of this login.
    ///
    /// # Errors
    /// The first member that could not be muted; those before it are.
    fn mute(
        &self,
        group: &str,
        members: &[String],
        time: Duration,
    ) -> impl Future<Output = Result<(), BackendError>> + Send;

    /// Removes `members` from `group`. All are ids of this login.
    ///
    /// # Errors
    /// The first member that could not be removed; those before it are.
    fn kick(&self, group: &str, members: &[String]) -> impl Future<Output = Result<(), BackendError>> + Send;

    /// Carries out what an application asks for, whether the account is logged in or not.
    fn act(&self, action: Action) -> impl Future<Output = Answer> + Send;

    /// Ends the login and begins a new one; the driver reports its steps.
    fn relogin(&self);

    /// Removes the binding to the account, so that the next login may be of another one.
    // The sandbox has no binding.
    fn forget(&self) {}

    /// Refreshes the account's roles in its groups, because a caller is about to look at them.
    // The sandbox always knows them.
    fn refresh_own_roles(&self) {}

    /// Whether [`Backend::serve`] answers this path of the client's port.
    fn serves(&self, _path: &str) -> bool {
        false
    }

    /// Answers a request for such a path, in any state.
    fn serve(&self, _request: Request<Incoming>) -> impl Future<Output = Response<Body>> + Send {
        async { empty(StatusCode::NOT_FOUND) }
    }

    /// Answers a path of the client's port that is no API call, in any state.
    fn page(&self, _method: &Method, _path: &str) -> Option<Page> {
        None
    }
}

/// A web page.
#[derive(Debug)]
pub(crate) struct Page {
    /// Whether the subject of the page still exists.
    pub found: bool,
    /// The HTML document.
    pub html: String,
}

/// An event of a backend's driver.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "nearly all of them are messages")]
pub(crate) enum BackendEvent {
    /// The login begins, also again after one was lost.
    Loading,
    /// A login code to show as a QR code. It replaces the one before.
    LoginCode(String),
    /// The image of a login code, as the network made it. It replaces the one before.
    LoginImage(Vec<u8>),
    /// The login cannot go on until the operator fixes this. Ends with `Loading` or `Confirmed`.
    Blocked(String),
    /// There is no login yet, for this reason; the backend keeps trying. Ends with `Loading` or `Confirmed`.
    Delayed(String),
    /// The account was logged out elsewhere, for this reason, and must not log in again by itself.
    Offline(String),
    /// The code was scanned; the phone has to confirm the login.
    Scanned,
    /// The login is confirmed or still valid; friends and groups are being loaded.
    Confirmed,
    /// The account is ready for use.
    Ready {
        /// Whether a code was scanned.
        scanned: bool,
    },
    /// A message was received, or sent by another client of the account.
    Message(ChatMessage),
    /// Another event of the account.
    Account(Box<AccountEvent>),
}

/// A message that was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sent {
    /// The message.
    pub message: ChatMessage,
    /// A code of the network that is treated as success without meaning it.
    pub remark: Option<i64>,
}

impl From<ChatMessage> for Sent {
    fn from(message: ChatMessage) -> Self {
        Self { message, remark: None }
    }
}

/// A message to send.
pub(crate) struct Draft {
    /// See [`Backend::message_id`].
    pub id: String,
    /// The recipient.
    pub to: Recipient,
    /// The text. Where there are parts, it is what the old API shows of them.
    pub content: String,
    /// The parts; none where the text is all of the message.
    pub segments: Vec<Segment>,
    /// Decides between sending and withdrawing it.
    pub claim: SendClaim,
}

/// What a message says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wording {
    /// See [`Draft::content`].
    pub content: String,
    /// See [`Draft::segments`].
    pub segments: Vec<Segment>,
}

impl Wording {
    /// A message of these parts.
    pub(crate) fn of(segments: Vec<Segment>) -> Self {
        Self { content: segment::text_of(&segments, |_| None), segments }
    }
}

#[cfg(test)]
impl From<&str> for Wording {
    fn from(content: &str) -> Self {
        content.to_owned().into()
    }
}

impl From<String> for Wording {
    fn from(content: String) -> Self {
        Self { content, segments: Vec::new() }
    }
}

impl Draft {
    /// About how much memory it takes, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.content.len() + segment::bytes(&self.segments)
    }

    /// What it says.
    pub(crate) fn wording(&self) -> Wording {
        Wording { content: self.content.clone(), segments: self.segments.clone() }
    }
}

/// The longest mute of the network: 30 days.
pub(crate) const MAX_MUTE: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// Makes a text of a remote program fit for a log or a state file: one line of bounded length.
pub(crate) fn sanitize_remote_text(text: &str) -> String {
    const MAX_CHARS: usize = 200;
    // A line break could begin a log line with a forged priority or account.
    text.chars().filter(|c| !c.is_control()).take(MAX_CHARS).collect()
}

/// Why the network refuses. The text is `info` in the answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BackendError {
    /// The caller withdrew the message before a byte was written.
    #[error("the message was withdrawn")]
    Withdrawn,
    /// The recipient existed when the call came, and is gone now.
    #[error("the recipient is gone")]
    Gone,
    /// The account is not logged in.
    #[error("the account is not logged in")]
    LoggedOut,
    /// Too many calls have no answer yet, so this one was not made.
    #[error("the network has not answered too many earlier calls yet")]
    Busy,
    /// The account is muted in this group.
    #[error("the account is muted in this group for {0} more seconds")]
    Muted(u64),
    /// The account's role does not permit it.
    #[error("the account is not allowed to do that: its role in the group is not above the member's")]
    NotAllowed,
    /// The network refused it.
    #[error("{0}")]
    Refused(String),
    /// The network refused it with this code. The text is the original's.
    #[error("未识别返回值:{0}")]
    Code(i64),
    /// The network took it, and its outcome is not known: no answer, or one without meaning. The text is the
    /// original's.
    #[error("数据格式错误")]
    NoAnswer,
}
