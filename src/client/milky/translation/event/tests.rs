use super::*;

fn event(kind: &str, data: Value, ids: &MessageIds) -> Option<Value> {
    told(&json!({ "time": 9, "self_id": 10001, "event_type": kind, "data": data }), ids)
}

fn with(first: &Value, more: Value) -> Value {
    let mut all = first.clone();
    for (key, value) in more.as_object().unwrap() {
        all[key] = value.clone();
    }
    all
}

/// Events with what they are told as, without time, account and kind of post.
fn events(ids: &MessageIds) -> Vec<(&'static str, Value, Value)> {
    let group = ids.number(MessageKey { account: 10001, scene: Scene::Group, peer: 5, seq: 3 });
    let friend = ids.number(MessageKey { account: 10001, scene: Scene::Friend, peer: 7, seq: 3 });
    let in_group = json!({ "group_id": 5, "user_id": 7 });
    let by = json!({ "group_id": 5, "user_id": 7, "operator_id": 9 });
    let recall =
        json!({ "message_scene": "group", "peer_id": 5, "message_seq": 3, "sender_id": 7, "operator_id": 9 });
    let file =
        json!({ "file_id": "/f", "file_name": "f", "file_size": 8, "file_hash": "h", "is_self": false });
    let nudge = json!({ "user_id": 7, "is_self_send": false, "is_self_receive": true });
    vec![
        (
            "bot_offline",
            json!({ "reason": "x" }),
            json!({ "notice_type": "bot_offline", "user_id": 10001, "tag": "BotOfflineEvent", "message": "x" }),
        ),
        (
            "message_recall",
            recall.clone(),
            with(&by, json!({ "notice_type": "group_recall", "message_id": group })),
        ),
        (
            "message_recall",
            with(&recall, json!({ "message_scene": "friend", "peer_id": 7 })),
            json!({ "notice_type": "friend_recall", "user_id": 7, "message_id": friend }),
        ),
        (
            "friend_request",
            json!({ "initiator_id": 7, "initiator_uid": "u_7", "comment": "c", "via": "v" }),
            json!({ "request_type": "friend", "user_id": 7, "comment": "c", "flag": "friend:u_7", "via": "v" }),
        ),
        (
            "group_join_request",
            json!({ "group_id": 5, "notification_seq": 4, "is_filtered": true, "initiator_id": 7, "comment": "c" }),
            with(
                &in_group,
                json!({ "request_type": "group", "sub_type": "add", "comment": "c", "flag": "join:5:4:1" }),
            ),
        ),
        (
            "group_invited_join_request",
            json!({ "group_id": 5, "notification_seq": 4, "initiator_id": 9, "target_user_id": 7 }),
            with(
                &in_group,
                json!({ "request_type": "group", "sub_type": "add", "invitor_id": 9, "comment": "", "flag": "member:5:4:0" }),
            ),
        ),
        (
            "group_invitation",
            json!({ "group_id": 5, "invitation_seq": 4, "initiator_id": 7 }),
            with(
                &in_group,
                json!({ "request_type": "group", "sub_type": "invite", "comment": "", "flag": "invitation:5:4" }),
            ),
        ),
        (
            "friend_nudge",
            nudge.clone(),
            json!({ "notice_type": "notify", "sub_type": "poke", "user_id": 7, "target_id": 10001 }),
        ),
        (
            "friend_nudge",
            with(&nudge, json!({ "is_self_send": true, "is_self_receive": false })),
            json!({ "notice_type": "notify", "sub_type": "poke", "user_id": 10001, "target_id": 7 }),
        ),
        (
            "friend_file_upload",
            with(&file, json!({ "user_id": 7 })),
            json!({ "notice_type": "offline_file", "user_id": 7, "file": { "id": "/f", "name": "f", "size": 8, "hash": "h", "url": "" } }),
        ),
        (
            "group_admin_change",
            with(&by, json!({ "is_set": true })),
            with(&in_group, json!({ "notice_type": "group_admin", "sub_type": "set" })),
        ),
        (
            "group_admin_change",
            with(&by, json!({ "is_set": false })),
            with(&in_group, json!({ "notice_type": "group_admin", "sub_type": "unset" })),
        ),
        (
            "group_essence_message_change",
            with(&by, json!({ "message_seq": 3, "is_set": false })),
            with(
                &by,
                json!({ "notice_type": "essence", "sub_type": "delete", "message_id": group, "sender_id": 0, "user_id": 0 }),
            ),
        ),
        (
            "group_member_increase",
            by.clone(),
            with(&by, json!({ "notice_type": "group_increase", "sub_type": "approve" })),
        ),
        (
            "group_member_increase",
            with(&in_group, json!({ "operator_id": null, "invitor_id": 9 })),
            with(&by, json!({ "notice_type": "group_increase", "sub_type": "invite" })),
        ),
        (
            "group_member_increase",
            in_group.clone(),
            with(&by, json!({ "notice_type": "group_increase", "sub_type": "approve", "operator_id": 0 })),
        ),
        (
            "group_member_decrease",
            by.clone(),
            with(&by, json!({ "notice_type": "group_decrease", "sub_type": "kick" })),
        ),
        (
            "group_member_decrease",
            in_group.clone(),
            with(&by, json!({ "notice_type": "group_decrease", "sub_type": "leave", "operator_id": 7 })),
        ),
        (
            "group_member_decrease",
            with(&by, json!({ "user_id": 10001 })),
            with(&by, json!({ "notice_type": "group_decrease", "sub_type": "kick_me", "user_id": 10001 })),
        ),
        (
            "group_name_change",
            json!({ "group_id": 5, "new_group_name": "n", "operator_id": 7 }),
            with(&in_group, json!({ "notice_type": "notify", "sub_type": "group_name", "name_new": "n" })),
        ),
        (
            "group_message_reaction",
            with(&in_group, json!({ "message_seq": 3, "face_id": "14", "is_add": false })),
            with(
                &in_group,
                json!({ "notice_type": "group_msg_emoji_like", "message_id": group, "likes": [{ "emoji_id": "14", "count": 1 }], "is_add": false }),
            ),
        ),
        (
            "group_mute",
            with(&by, json!({ "duration": 60 })),
            with(&by, json!({ "notice_type": "group_ban", "sub_type": "ban", "duration": 60 })),
        ),
        (
            "group_mute",
            with(&by, json!({ "duration": 0 })),
            with(&by, json!({ "notice_type": "group_ban", "sub_type": "lift_ban", "duration": 0 })),
        ),
        (
            "group_whole_mute",
            json!({ "group_id": 5, "operator_id": 9, "is_mute": true }),
            with(&by, json!({ "notice_type": "group_ban", "sub_type": "ban", "user_id": 0, "duration": -1 })),
        ),
        (
            "group_whole_mute",
            json!({ "group_id": 5, "operator_id": 9, "is_mute": false }),
            with(
                &by,
                json!({ "notice_type": "group_ban", "sub_type": "lift_ban", "user_id": 0, "duration": 0 }),
            ),
        ),
        (
            "group_nudge",
            json!({ "group_id": 5, "sender_id": 7, "receiver_id": 9 }),
            with(&in_group, json!({ "notice_type": "notify", "sub_type": "poke", "target_id": 9 })),
        ),
        (
            "group_file_upload",
            with(&in_group, file),
            with(
                &in_group,
                json!({ "notice_type": "group_upload", "file": { "id": "/f", "name": "f", "size": 8, "busid": 0 } }),
            ),
        ),
    ]
}

#[test]
fn events_become_those_of_the_standard() {
    let ids = MessageIds::in_memory();
    for (kind, data, expected) in events(&ids) {
        let post_type = if expected.get("request_type").is_some() { "request" } else { "notice" };
        let expected = with(&expected, json!({ "time": 9, "self_id": 10001, "post_type": post_type }));
        assert_eq!(event(kind, data.clone(), &ids), Some(expected), "{kind}");
        // Of each, nothing at all, or something of another type, is no event.
        if kind != "bot_offline" {
            assert_eq!(event(kind, json!(null), &ids), None, "{kind}");
            assert_eq!(event(kind, json!([{}]), &ids), None, "{kind}");
        }
    }
    assert_eq!(event("peer_pin_change", json!({ "peer_id": 7 }), &ids), None);
    assert_eq!(event("friend_file_upload", json!({ "user_id": 7, "is_self": true }), &ids), None);
    assert_eq!(told(&json!({ "event_type": "bot_offline", "data": {} }), &ids), None);
}

#[test]
fn table_has_each_event() {
    use super::super::table::{EVENTS, Way};
    let ids = MessageIds::in_memory();
    let mut made: Vec<String> =
        events(&ids).into_iter().map(|(.., told)| super::super::table::name_of(&told)).collect();
    made.push(super::super::table::name_of(&friend_added(9, 10001, 7)));
    made.extend(["message.private", "message.group"].map(str::to_owned));
    for (name, way, _) in EVENTS {
        assert_eq!(made.iter().any(|made| made == name), *way != Way::Cannot, "{name}");
    }
    for made in made {
        assert!(EVENTS.iter().any(|(name, ..)| *name == made), "{made} is not in the table");
    }
}
