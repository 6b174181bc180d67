//! Messages, from an implementation to the API. Pure.

pub(in crate::client) mod content;

use super::event::{RemoteChat, RemoteMessage};
use super::state::roster::Roster;
use crate::client::backend::message::{Chat, ChatMessage, Direction, Party};
use crate::client::backend::segment;
use crate::client::process::unix_seconds;

/// Why a message cannot be translated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum UnknownParty {
    /// The sender is not among the friends; the list may be outdated.
    Friend(u64),
    /// The group is not known; the list may be outdated.
    Group(u64),
    /// The event does not name the chat or the receiver.
    Place,
}

/// The message of the API, with this id.
pub(crate) fn message(
    roster: &Roster,
    said: &RemoteMessage,
    id: String,
) -> Result<ChatMessage, UnknownParty> {
    let (chat, group) = match said.place {
        RemoteChat::Group(group) => {
            (Chat::Group(roster.group_name(group).ok_or(UnknownParty::Group(group))?), Some(group))
        }
        RemoteChat::Session(group) => {
            let group = group.ok_or(UnknownParty::Place)?;
            (Chat::GroupSession(roster.group_name(group).ok_or(UnknownParty::Group(group))?), Some(group))
        }
        RemoteChat::Friend | RemoteChat::Private => {
            let other = if said.own { said.to.ok_or(UnknownParty::Place)? } else { said.by };
            // The API has `friend_message` for friends alone. The caller reloads the list before it drops the message.
            roster.friend(other).ok_or(UnknownParty::Friend(other))?;
            (Chat::Friend, None)
        }
    };
    let own = roster.own_party(group);
    let party = |uid: u64, said_name: Option<&String>| {
        // In a group the event's name of the author is newer than the list. For a friend the list has the
        // better name.
        let said_name = said_name.filter(|_| group.is_some()).cloned();
        let name = said_name.or_else(|| roster.name_of(group, uid)).or_else(|| said.name.clone());
        let displayname = name.unwrap_or_else(|| uid.to_string());
        Party { id: uid.to_string(), uid: uid.to_string(), displayname }
    };
    let (direction, sender, receiver) = if said.own {
        // In a group, some events name the group itself as the target.
        let to = said.to.filter(|_| !matches!(chat, Chat::Group(_)));
        let to = to.map(|uid| Party {
            displayname: roster.name_of(group, uid).unwrap_or_else(|| uid.to_string()),
            id: uid.to_string(),
            uid: uid.to_string(),
        });
        (Direction::Sent, own, to)
    } else {
        (Direction::Received, party(said.by, said.card.as_ref().or(said.name.as_ref())), Some(own))
    };
    Ok(ChatMessage {
        direction,
        chat,
        id,
        time: said.time.unwrap_or_else(unix_seconds),
        content: content::to_text(&said.content, |uid| roster.name_of(group, uid)),
        segments: match said.as_said.segments.as_slice() {
            [] => segment::of_content(&said.content),
            segments => segments.to_vec(),
        },
        number: said.as_said.number,
        sender,
        receiver,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::remote::lists::{self, unknown_friend, unknown_group};
    use crate::client::remote::segment::MessageSegment;
    use serde_json::json;

    fn roster() -> Roster {
        let mut roster = Roster::default();
        roster.set_user(lists::user("x", 1, &json!({ "nickname": "我" }), &json!(null)));
        let mut friend = unknown_friend(7, "a");
        friend.displayname = "A".into();
        roster.update_lists(vec![friend], vec![unknown_group(5, "群")]);
        roster
    }

    fn said(place: RemoteChat, by: u64) -> RemoteMessage {
        RemoteMessage {
            place,
            by,
            to: None,
            own: false,
            number: None,
            time: Some(9),
            name: Some("n".into()),
            card: None,
            content: vec![MessageSegment::At(7, None), MessageSegment::Text("x".into())],
            as_said: Default::default(),
        }
    }

    fn read(said: &RemoteMessage) -> serde_json::Value {
        message(&roster(), said, "3".into()).unwrap().to_json()
    }

    #[test]
    fn messages_get_the_right_chat() {
        for place in [RemoteChat::Friend, RemoteChat::Private] {
            assert_eq!(
                read(&said(place, 7)),
                json!({
                    "post_type": "receive_message", "class": "recv", "type": "friend_message", "id": "3", "time": 9,
                    "content": "@A x", "sender": "A", "sender_id": "7", "sender_uid": "7",
                    "receiver": "我", "receiver_id": "1", "receiver_uid": "1", "raw": "[CQ:at,qq=7]x",
                    "segments": [
                        { "type": "at", "data": { "qq": "7" } }, { "type": "text", "data": { "text": "x" } },
                    ],
                })
            );
        }
        let group = read(&said(RemoteChat::Group(5), 8));
        assert_eq!((&group["type"], &group["sender"]), (&json!("group_message"), &json!("n")));
        assert_eq!(
            (&group["group"], &group["group_id"], &group["group_uid"]),
            (&json!("群"), &json!("5"), &json!("5"))
        );
        let card = read(&RemoteMessage { card: Some("c".into()), ..said(RemoteChat::Group(5), 7) });
        assert_eq!(card["sender"], "c");
        let session = read(&said(RemoteChat::Session(Some(5)), 8));
        assert_eq!((&session["type"], &session["via"]), (&json!("sess_message"), &json!("group")));
        assert_eq!(session["sender"], "n");
    }

    #[test]
    fn own_messages_get_a_receiver() {
        let own = |place, to| RemoteMessage { own: true, to, ..said(place, 1) };
        let friend = read(&own(RemoteChat::Friend, Some(7)));
        assert_eq!((&friend["class"], &friend["post_type"]), (&json!("send"), &json!("send_message")));
        assert_eq!((&friend["sender"], &friend["receiver"]), (&json!("我"), &json!("A")));
        let group = read(&own(RemoteChat::Group(5), Some(5)));
        assert!(group.get("receiver").is_none());
        assert_eq!(
            message(&roster(), &own(RemoteChat::Friend, None), String::new()),
            Err(UnknownParty::Place)
        );
    }

    #[test]
    fn unknown_parties_are_named() {
        let unknown = |said| message(&roster(), &said, String::new()).unwrap_err();
        assert_eq!(unknown(said(RemoteChat::Friend, 8)), UnknownParty::Friend(8));
        assert_eq!(unknown(said(RemoteChat::Private, 8)), UnknownParty::Friend(8));
        assert_eq!(unknown(said(RemoteChat::Group(6), 7)), UnknownParty::Group(6));
        assert_eq!(unknown(said(RemoteChat::Session(Some(6)), 7)), UnknownParty::Group(6));
        assert_eq!(unknown(said(RemoteChat::Session(None), 7)), UnknownParty::Place);
    }
}
