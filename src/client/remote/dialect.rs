//! [`Dialect`]: how a protocol names calls, and what its frames and answers mean. Pure.
//!
//! The protocols of today have one origin: what is common to them is read in [`lists`](super::lists) and
//! [`reply`](super::reply).

use std::time::Duration;

use serde_json::{Value, json};

use super::frame::{FrameError, Parsed, RemoteFrame};
use super::message_ids::MessageIds;
use super::plan::{Plan, PlanContext};
use super::segment::MessageSegment;
use crate::client::backend::BackendError;
use crate::client::backend::action::{Action, Answer};
use crate::client::backend::message::Recipient;

/// A call: its name and its parameters.
pub(crate) type Request = (&'static str, Value);

/// A list in the data of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum List {
    /// The friends of the account.
    Friends,
    /// Its groups.
    Groups,
    /// The members of a group.
    Members,
}

/// A protocol.
pub(crate) trait Dialect: Send + Sync + 'static {
    /// Its name, for messages.
    fn name(&self) -> &'static str;

    /// The table of the configuration, with which the names of the options begin.
    fn table(&self) -> &'static str;

    /// Reads what came by a connection or in a request.
    ///
    /// # Errors
    /// It is unreadable, or not of this protocol.
    fn read_frame(&self, bytes: &[u8]) -> Result<Parsed<RemoteFrame>, FrameError>;

    /// What applications are told of an event: a text of JSON in the words of OneBot v11. None for an event that they are not told,
    /// such as one of the connection. Messages get their numbers from `ids`.
    fn application_event(&self, frame: &[u8], ids: &MessageIds) -> Option<String>;

    /// What applications are told when the lists have a new friend, where the protocol has no event for that: a text of JSON in the
    /// words of OneBot v11.
    fn friend_added(&self, _account: u64, _friend: u64) -> Option<String> {
        None
    }

    /// Whether actions of applications go to the implementation as they are.
    fn passes_actions(&self) -> bool {
        false
    }

    /// How an action of an application is carried out, where they do not go as they are.
    ///
    /// # Errors
    /// There is no such action here, or it can't be carried out.
    fn plan(&self, action: Action, _context: &PlanContext) -> Result<Plan, Answer> {
        Err(Answer::no_such_action(&action.name))
    }

    /// Asks who is logged in.
    fn login_info(&self) -> Request {
        ("get_login_info", json!({}))
    }

    /// The number of the account, in the data of the answer.
    fn own_uid(&self, login: &Value) -> Option<u64>;

    /// Whether a call was refused with this code because the account is not logged in.
    fn is_logged_out(&self, _code: i64) -> bool {
        false
    }

    /// Why no message can be sent to a member of a group who is no friend, if that is so.
    fn lack_of_member_chats(&self) -> Option<&'static str> {
        None
    }

    /// Asks for `nickname` and `sex` of a person.
    fn profile(&self, uid: u64, anew: bool) -> Request;

    /// Asks for the categories of friends, where they are not in the list of friends.
    fn categories(&self) -> Option<Request> {
        None
    }

    /// The list itself, in the data of the answer.
    fn list<'a>(&self, data: &'a Value, list: List) -> &'a Value;

    /// The member itself, in the data of the answer to `get_group_member_info`.
    fn member<'a>(&self, data: &'a Value) -> &'a Value;

    /// Sends a message.
    ///
    /// # Errors
    /// There is no such recipient, or no way to send to one.
    fn send(&self, to: &Recipient, content: &[MessageSegment]) -> Result<Request, BackendError>;

    /// What identifies the message that was sent, as its event will: in the data of the answer.
    fn sent_number(&self, to: &Recipient, data: &Value) -> Option<String>;

    /// The `message_id` by which applications know the message that was sent: in the data of the answer.
    fn sent_id(&self, _account: u64, _to: &Recipient, data: &Value, _ids: &MessageIds) -> Option<i32> {
        let id = data.get("message_id").unwrap_or(data);
        i32::try_from(id.as_i64()?).ok().filter(|id| *id != 0)
    }

    /// Mutes a member of a group.
    fn mute(&self, group: u64, member: u64, time: Duration) -> Request;

    /// Removes a member from a group.
    fn kick(&self, group: u64, member: u64) -> Request;
}

/// Parses an id of the API, which is a number of the network.
///
/// # Errors
/// It is none, so there is no such person or group.
pub(crate) fn number(id: &str) -> Result<u64, BackendError> {
    id.parse().map_err(|_| BackendError::Gone)
}
