//! [`Backend`]: what a chat network is to this client.
//!
//! A backend is opened as a pair: a handle, which is this trait, and a driver, a future that logs in and reports
//! [`News`] for as long as it is polled. The driver never touches state or files; `lifecycle` does, as the news
//! say. Every call of the trait may take its time: a backend may have to ask somebody.

use std::sync::Arc;
use std::time::Duration;

use http::Method;

use super::events::{Event, Message};
use super::objects::{Discuss, Friend, Group, User};

/// The handle to a chat network. Apart from [`Backend::page`], its calls are only made while running.
pub(super) trait Backend: Send + Sync + 'static {
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

    /// The groups that the own account is in, without their members: those of all groups together may be a million.
    ///
    /// # Errors
    /// The network does not say.
    fn groups(&self) -> impl Future<Output = Result<Vec<Group>, BackendError>> + Send;

    /// A group, by its id, with its members. `anew`: not as they are remembered.
    ///
    /// # Errors
    /// The network does not say, or there is no such group.
    fn group(&self, id: &str, anew: bool) -> impl Future<Output = Result<Group, BackendError>> + Send;

    /// The discussions that the own account is in, with their members.
    ///
    /// # Errors
    /// The network does not say.
    fn discusses(&self) -> impl Future<Output = Result<Vec<Discuss>, BackendError>> + Send;

    /// Sends one message and returns it as it went out. One call follows another.
    ///
    /// # Errors
    /// The message did not go out, or nobody knows whether it did.
    fn send(&self, to: &Recipient, content: &str) -> impl Future<Output = Result<Sent, BackendError>> + Send;

    /// Lets `members` of `group` say nothing there for `time`. All are ids of this login.
    ///
    /// # Errors
    /// The first member for whom it was not done; for those before it was.
    fn mute(
        &self,
        group: &str,
        members: &[String],
        time: Duration,
    ) -> impl Future<Output = Result<(), BackendError>> + Send;

    /// Puts `members` out of `group`. All are ids of this login.
    ///
    /// # Errors
    /// The first member for whom it was not done; for those before it was.
    fn kick(&self, group: &str, members: &[String]) -> impl Future<Output = Result<(), BackendError>> + Send;

    /// Gives up the login and begins a new one; the driver reports it step by step.
    fn relogin(&self);

    /// The backend's own answer at a path of the client's port that is no call of the API, in any state.
    fn page(&self, _method: &Method, _path: &str) -> Option<Page> {
        None
    }
}

/// A page for people.
#[derive(Debug)]
pub(super) struct Page {
    /// Whether what it is about still exists.
    pub found: bool,
    /// HTML, whole.
    pub html: String,
}

/// What a backend's driver reports.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "nearly all of them are messages")]
pub(super) enum News {
    /// It has begun to load what it needs; also where a login was lost and the next one begins.
    Loading,
    /// This text is to be scanned as a QR code. One after another: the one before is no longer valid.
    Code(String),
    /// The image of a code that is to be scanned, as the network makes it. One after another, as with `Code`.
    Image(Vec<u8>),
    /// Something is wrong that somebody has to put right before there can be a login: what. It is over with
    /// `Loading` or `Confirmed`.
    Trouble(String),
    /// The account was put out, and must not log in again by itself: why.
    Offline(String),
    /// The code was scanned; the login waits for a confirmation on the phone.
    Scanned,
    /// The login is confirmed, or still good; friends and the like are being loaded.
    Confirmed,
    /// Everything is there. `scanned`: it took a scan.
    Ready {
        /// Whether somebody had to scan a code.
        scanned: bool,
    },
    /// A message came.
    Received(Message),
    /// Something else happened to people, groups or discussions.
    Happened(Box<Event>),
}

/// A message that went out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sent {
    /// The message.
    pub message: Message,
    /// What the network said that counts as success without being one: its code.
    pub remark: Option<i64>,
}

impl From<Message> for Sent {
    fn from(message: Message) -> Self {
        Self { message, remark: None }
    }
}

/// To whom a message goes. Ids are those of this login.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Recipient {
    /// A friend, by id.
    Friend(String),
    /// Everybody in a group, by its id.
    Group(String),
    /// Everybody in a discussion, by its id.
    Discuss(String),
    /// One member of a group.
    GroupMember {
        /// The group's id.
        group: String,
        /// The member's id.
        member: String,
    },
    /// One member of a discussion.
    DiscussMember {
        /// The discussion's id.
        discuss: String,
        /// The member's id.
        member: String,
    },
}

/// The longest that the network lets somebody be muted: 30 days.
pub(super) const MAX_MUTE: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// The other end's words for people: one line, no longer than a log or a state file bears.
pub(super) fn others_words(text: &str) -> String {
    const MAX_CHARS: usize = 200;
    text.chars().filter(|c| !c.is_control()).take(MAX_CHARS).collect()
}

/// Why the network does not do something. The text is shown to the caller, as `info`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum BackendError {
    /// Whom it is about was there when the call came and is no more.
    #[error("the recipient is gone")]
    Gone,
    /// The account is not logged in at the moment.
    #[error("the account is not logged in")]
    LoggedOut,
    /// The own account may not say anything there for the time being.
    #[error("the account is muted in this group for {0} more seconds")]
    Muted(u64),
    /// The own account has not the right.
    #[error("the account is not allowed to do that: its role in the group is not above the member's")]
    NotAllowed,
    /// The other end did not take it.
    #[error("{0}")]
    Refused(String),
    /// The other end did not take it, and gave a code. In the original's words.
    #[error("未识别返回值:{0}")]
    Code(i64),
    /// The other end took it, and what became of it is not known: there was no answer, or one that says nothing. In the
    /// original's words.
    #[error("数据格式错误")]
    NoAnswer,
}
