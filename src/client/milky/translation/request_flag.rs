//! [`RequestFlag`]: by what a request is known between its event and the answer to it, as OneBot v11 has one text for it
//! (onebot-11, `event/request.md`) and Milky several values.

use serde_json::{Value, json};

use crate::client::remote::dialect::Request;

/// A request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum RequestFlag {
    /// To become a friend: the `initiator_uid`, which is a text of the network.
    Friend(String),
    /// To join a group, or of a member for another one. Whether it is from a suspicious account, which Milky keeps apart.
    Join { is_of_member: bool, group: u64, seq: u64, is_filtered: bool },
    /// To the account, to join a group.
    Invitation { group: u64, seq: u64 },
}

impl RequestFlag {
    /// The text.
    pub(super) fn write(&self) -> String {
        match self {
            Self::Friend(uid) => format!("friend:{uid}"),
            Self::Join { is_of_member, group, seq, is_filtered } => {
                let kind = if *is_of_member { "member" } else { "join" };
                format!("{kind}:{group}:{seq}:{}", u8::from(*is_filtered))
            }
            Self::Invitation { group, seq } => format!("invitation:{group}:{seq}"),
        }
    }

    /// Reads the text.
    pub(super) fn read(text: &str) -> Option<Self> {
        let (kind, rest) = text.split_once(':')?;
        if kind == "friend" {
            return (!rest.is_empty()).then(|| Self::Friend(rest.to_owned()));
        }
        let numbers: Vec<u64> = rest.split(':').map(str::parse).collect::<Result<_, _>>().ok()?;
        match (kind, numbers.as_slice()) {
            ("join" | "member", [group, seq, filtered @ (0 | 1)]) => Some(Self::Join {
                is_of_member: kind == "member",
                group: *group,
                seq: *seq,
                is_filtered: *filtered == 1,
            }),
            ("invitation", [group, seq]) => Some(Self::Invitation { group: *group, seq: *seq }),
            _ => None,
        }
    }

    /// The call that approves or rejects it. A reason is for the one who is rejected.
    pub(super) fn decide(&self, approve: bool, reason: &str) -> Request {
        let (accept, reject, mut params) = match self {
            Self::Friend(uid) => {
                ("accept_friend_request", "reject_friend_request", json!({ "initiator_uid": uid }))
            }
            Self::Join { is_of_member, group, seq, is_filtered } => {
                let kind = if *is_of_member { "invited_join_request" } else { "join_request" };
                let params = json!({
                    "notification_seq": seq, "notification_type": kind, "group_id": group, "is_filtered": is_filtered,
                });
                ("accept_group_request", "reject_group_request", params)
            }
            Self::Invitation { group, seq } => {
                let params = json!({ "group_id": group, "invitation_seq": seq });
                ("accept_group_invitation", "reject_group_invitation", params)
            }
        };
        if approve {
            return (accept, params);
        }
        if !reason.is_empty() && !matches!(self, Self::Invitation { .. }) {
            params["reason"] = Value::from(reason);
        }
        (reject, params)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_read_as_they_were_written() {
        for flag in [
            RequestFlag::Friend("u_a:b".into()),
            RequestFlag::Join { is_of_member: false, group: 5, seq: u64::MAX, is_filtered: true },
            RequestFlag::Join { is_of_member: true, group: 5, seq: 1, is_filtered: false },
            RequestFlag::Invitation { group: 5, seq: 1 },
        ] {
            assert_eq!(RequestFlag::read(&flag.write()), Some(flag));
        }
        for garbage in
            ["", "x", "friend:", "join:1:2", "join:1:2:3", "join:a:2:0", "invitation:1", "invitation:1:2:0"]
        {
            assert_eq!(RequestFlag::read(garbage), None, "{garbage}");
        }
    }

    #[test]
    fn decisions_are_the_calls_of_milky() {
        let join = RequestFlag::Join { is_of_member: true, group: 5, seq: 9, is_filtered: true };
        let params = json!({
            "notification_seq": 9, "notification_type": "invited_join_request", "group_id": 5, "is_filtered": true,
        });
        assert_eq!(join.decide(true, "x"), ("accept_group_request", params.clone()));
        let mut with_reason = params;
        with_reason["reason"] = json!("x");
        assert_eq!(join.decide(false, "x"), ("reject_group_request", with_reason));
        assert_eq!(
            RequestFlag::Friend("u".into()).decide(false, ""),
            ("reject_friend_request", json!({ "initiator_uid": "u" }))
        );
        assert_eq!(
            RequestFlag::Invitation { group: 5, seq: 9 }.decide(false, "x"),
            ("reject_group_invitation", json!({ "group_id": 5, "invitation_seq": 9 }))
        );
    }
}
