//! [`Message`] and [`Event`]: what happens to an account, and its JSON for those who get reports.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use super::backend::Recipient;
use crate::model::state::ClientState;

/// A person at one end of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Party {
    /// Valid for this login.
    pub id: String,
    /// The number that never changes.
    pub uid: String,
    /// What people call it.
    pub displayname: String,
}

/// Which way a message went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// Somebody else's, to us.
    Received,
    /// Ours.
    Sent,
}

/// A message between the own account and a friend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Message {
    /// Which way it went.
    pub way: Way,
    /// Its number in this login.
    pub id: String,
    /// When, in Unix seconds.
    pub time: u64,
    /// What it says.
    pub content: String,
    /// Who wrote it.
    pub sender: Party,
    /// Who got it.
    pub receiver: Party,
}

impl Message {
    /// Where an answer to it goes: none goes to our own.
    pub(super) fn reply_to(&self) -> Option<Recipient> {
        match self.way {
            Way::Received => Some(Recipient::Friend(self.sender.id.clone())),
            Way::Sent => None,
        }
    }

    /// The report of it.
    pub(super) fn to_json(&self) -> Value {
        let (post_type, class) = match self.way {
            Way::Received => ("receive_message", "recv"),
            Way::Sent => ("send_message", "send"),
        };
        json!({
            "post_type": post_type,
            "class": class,
            "type": "friend_message",
            "id": self.id,
            "time": self.time,
            "content": self.content,
            "sender": self.sender.displayname,
            "sender_id": self.sender.id,
            "sender_uid": self.sender.uid,
            "receiver": self.receiver.displayname,
            "receiver_id": self.receiver.id,
            "receiver_uid": self.receiver.uid,
        })
    }
}

/// What happens besides messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// The client went from one state to another.
    StateChange(ClientState, ClientState),
    /// A code waits to be scanned: the path of its image and the image in base64.
    InputQrcode(String, String),
    /// The account is logged in, with a scan or without.
    Login {
        /// Whether somebody had to scan a code.
        scanned: bool,
    },
    /// The client stops.
    Stop,
}

impl Event {
    /// The name on the wire.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::StateChange(..) => "state_change",
            Self::InputQrcode(..) => "input_qrcode",
            Self::Login { .. } => "login",
            Self::Stop => "stop",
        }
    }

    /// The report of it.
    pub(super) fn to_json(&self) -> Value {
        let params = match self {
            Self::StateChange(old, new) => json!([old, new]),
            Self::InputQrcode(path, image) => json!([path, image]),
            Self::Login { scanned } => json!([u8::from(*scanned)]),
            Self::Stop => json!([]),
        };
        json!({ "post_type": "event", "event": self.name(), "params": params })
    }
}

/// Now, in whole seconds since 1970; 0 on a machine whose clock is before that.
pub(super) fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_as_on_the_wire() {
        let change = Event::StateChange(ClientState::Loading, ClientState::Scaning);
        assert_eq!(
            change.to_json(),
            json!({ "post_type": "event", "event": "state_change", "params": ["loading", "scaning"] })
        );
        assert_eq!(Event::Login { scanned: true }.to_json()["params"], json!([1]));
        assert_eq!(Event::Stop.to_json()["params"], json!([]));
    }

    #[test]
    fn only_what_others_say_is_answered() {
        let party = |id: &str| Party { id: id.into(), uid: "1".into(), displayname: "小红".into() };
        let mut message = Message {
            way: Way::Received,
            id: "7".into(),
            time: 1,
            content: "你好".into(),
            sender: party("s"),
            receiver: party("r"),
        };
        assert_eq!(message.reply_to(), Some(Recipient::Friend("s".into())));
        assert_eq!(message.to_json()["post_type"], "receive_message");
        message.way = Way::Sent;
        assert_eq!(message.reply_to(), None);
        assert_eq!(message.to_json()["class"], "send");
    }
}
