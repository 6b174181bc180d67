//! What was said, from OneBot to the API. Pure.

use super::content;
use super::roster::Roster;
use super::wire::event::{Place, Said};
use crate::client::events::{Message, Party, Scene, Way, unix_seconds};

/// Why a message is not passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unknown {
    /// The friends do not have this person; they may by now.
    Friend(u64),
    /// The groups do not have this one; they may by now.
    Group(u64),
    /// It says nothing of where it is from, or whom it went to.
    Place,
}

/// The message of the API. `id` is its number there.
pub(super) fn message(roster: &Roster, said: &Said, id: String) -> Result<Message, Unknown> {
    let (scene, group) = match said.place {
        Place::Group(group) => {
            (Scene::Group(roster.group_name(group).ok_or(Unknown::Group(group))?), Some(group))
        }
        Place::Session(group) => {
            let group = group.ok_or(Unknown::Place)?;
            (Scene::GroupSession(roster.group_name(group).ok_or(Unknown::Group(group))?), Some(group))
        }
        Place::Friend | Place::Private => {
            let other = if said.own { said.to.ok_or(Unknown::Place)? } else { said.by };
            roster.friend(other).ok_or(Unknown::Friend(other))?;
            (Scene::Friend, None)
        }
    };
    let own = roster.own_party(group);
    let party = |uid: u64, said_name: Option<&String>| {
        // What the event says of its author is newer than what we know; of a friend we know the better name.
        let said_name = said_name.filter(|_| group.is_some()).cloned();
        let name = said_name.or_else(|| roster.name_of(group, uid)).or_else(|| said.name.clone());
        let displayname = name.unwrap_or_else(|| uid.to_string());
        Party { id: uid.to_string(), uid: uid.to_string(), displayname }
    };
    let (way, sender, receiver) = if said.own {
        let to = said.to.filter(|_| !matches!(scene, Scene::Group(_)));
        let to = to.map(|uid| Party {
            displayname: roster.name_of(group, uid).unwrap_or_else(|| uid.to_string()),
            id: uid.to_string(),
            uid: uid.to_string(),
        });
        (Way::Sent, own, to)
    } else {
        (Way::Received, party(said.by, said.card.as_ref().or(said.name.as_ref())), Some(own))
    };
    Ok(Message {
        way,
        scene,
        id,
        time: said.time.unwrap_or_else(unix_seconds),
        content: content::to_text(&said.content, |uid| roster.name_of(group, uid)),
        sender,
        receiver,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::onebot::wire::lists::{self, unknown_friend, unknown_group};
    use crate::client::onebot::wire::segment::Segment;
    use serde_json::json;

    fn roster() -> Roster {
        let mut roster = Roster::default();
        roster.be(lists::user("x", &json!({ "user_id": 1, "nickname": "我" }), &json!(null)).unwrap());
        let mut friend = unknown_friend(7, "a");
        friend.displayname = "A".into();
        roster.take_lists(vec![friend], vec![unknown_group(5, "群")]);
        roster
    }

    fn said(place: Place, by: u64) -> Said {
        Said {
            place,
            by,
            to: None,
            own: false,
            number: None,
            time: Some(9),
            name: Some("n".into()),
            card: None,
            content: vec![Segment::At(7, None), Segment::Text("x".into())],
        }
    }

    fn read(said: &Said) -> serde_json::Value {
        message(&roster(), said, "3".into()).unwrap().to_json()
    }

    #[test]
    fn where_it_was_said() {
        for place in [Place::Friend, Place::Private] {
            assert_eq!(
                read(&said(place, 7)),
                json!({
                    "post_type": "receive_message", "class": "recv", "type": "friend_message", "id": "3", "time": 9,
                    "content": "@A x", "sender": "A", "sender_id": "7", "sender_uid": "7",
                    "receiver": "我", "receiver_id": "1", "receiver_uid": "1",
                })
            );
        }
        let group = read(&said(Place::Group(5), 8));
        assert_eq!((&group["type"], &group["sender"]), (&json!("group_message"), &json!("n")));
        assert_eq!(
            (&group["group"], &group["group_id"], &group["group_uid"]),
            (&json!("群"), &json!("5"), &json!("5"))
        );
        let card = read(&Said { card: Some("c".into()), ..said(Place::Group(5), 7) });
        assert_eq!(card["sender"], "c");
        let session = read(&said(Place::Session(Some(5)), 8));
        assert_eq!((&session["type"], &session["via"]), (&json!("sess_message"), &json!("group")));
        assert_eq!(session["sender"], "n");
    }

    #[test]
    fn what_we_said_elsewhere() {
        let own = |place, to| Said { own: true, to, ..said(place, 1) };
        let friend = read(&own(Place::Friend, Some(7)));
        assert_eq!((&friend["class"], &friend["post_type"]), (&json!("send"), &json!("send_message")));
        assert_eq!((&friend["sender"], &friend["receiver"]), (&json!("我"), &json!("A")));
        let group = read(&own(Place::Group(5), Some(5)));
        assert!(group.get("receiver").is_none());
        assert_eq!(message(&roster(), &own(Place::Friend, None), String::new()), Err(Unknown::Place));
    }

    #[test]
    fn who_is_not_known() {
        let unknown = |said| message(&roster(), &said, String::new()).unwrap_err();
        assert_eq!(unknown(said(Place::Friend, 8)), Unknown::Friend(8));
        assert_eq!(unknown(said(Place::Private, 8)), Unknown::Friend(8));
        assert_eq!(unknown(said(Place::Group(6), 7)), Unknown::Group(6));
        assert_eq!(unknown(said(Place::Session(Some(6)), 7)), Unknown::Group(6));
        assert_eq!(unknown(said(Place::Session(None), 7)), Unknown::Place);
    }
}
