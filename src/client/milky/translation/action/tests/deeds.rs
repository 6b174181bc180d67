use serde_json::json;

use super::{call, context, number, planned};
use crate::client::remote::message_ids::Scene;
use crate::client::remote::plan::Plan;

#[test]
fn deeds_become_the_calls_of_milky() {
    let context = context();
    let (of_group, of_friend) = (number(&context, Scene::Group, 5), number(&context, Scene::Friend, 7));
    let text = json!([{ "type": "text", "data": { "text": "x" } }]);
    for (name, params, wanted, request) in [
        (
            "delete_msg",
            json!({ "message_id": of_group }),
            "recall_group_message",
            json!({ "group_id": 5, "message_seq": 3 }),
        ),
        (
            "delete_msg",
            json!({ "message_id": of_friend.to_string() }),
            "recall_private_message",
            json!({ "user_id": 7, "message_seq": 3 }),
        ),
        (
            "mark_msg_as_read",
            json!({ "message_id": of_friend }),
            "mark_message_as_read",
            json!({ "message_scene": "friend", "peer_id": 7, "message_seq": 3 }),
        ),
        (
            "set_essence_msg",
            json!({ "message_id": of_group }),
            "set_group_essence_message",
            json!({ "group_id": 5, "message_seq": 3, "is_set": true }),
        ),
        (
            "delete_essence_msg",
            json!({ "message_id": of_group }),
            "set_group_essence_message",
            json!({ "group_id": 5, "message_seq": 3, "is_set": false }),
        ),
        (
            "set_msg_emoji_like",
            json!({ "message_id": of_group, "emoji_id": 76 }),
            "send_group_message_reaction",
            json!({ "group_id": 5, "message_seq": 3, "reaction": "76", "reaction_type": "face", "is_add": true }),
        ),
        (
            "set_msg_emoji_like",
            json!({ "message_id": of_group, "emoji_id": "128077", "set": false }),
            "send_group_message_reaction",
            json!({ "group_id": 5, "message_seq": 3, "reaction": "128077", "reaction_type": "emoji", "is_add": false }),
        ),
        (
            "send_private_msg",
            json!({ "user_id": "7", "group_id": 5, "message": "x" }),
            "send_private_message",
            json!({ "user_id": 7, "message": text }),
        ),
        (
            "send_group_msg",
            json!({ "group_id": 5, "message": text }),
            "send_group_message",
            json!({ "group_id": 5, "message": text }),
        ),
        (
            "send_msg",
            json!({ "message_type": "private", "user_id": 7, "group_id": 5, "message": "x" }),
            "send_private_message",
            json!({ "user_id": 7, "message": text }),
        ),
        (
            "send_msg",
            json!({ "group_id": 5, "user_id": 7, "message": "x" }),
            "send_group_message",
            json!({ "group_id": 5, "message": text }),
        ),
        (
            "send_msg",
            json!({ "user_id": 7, "message": "x" }),
            "send_private_message",
            json!({ "user_id": 7, "message": text }),
        ),
        (
            "set_group_kick",
            json!({ "group_id": 5, "user_id": 7 }),
            "kick_group_member",
            json!({ "group_id": 5, "user_id": 7, "reject_add_request": false }),
        ),
        (
            "set_group_ban",
            json!({ "group_id": 5, "user_id": 7 }),
            "set_group_member_mute",
            json!({ "group_id": 5, "user_id": 7, "duration": 1800 }),
        ),
        (
            "set_group_ban",
            json!({ "group_id": 5, "user_id": 7, "duration": "0" }),
            "set_group_member_mute",
            json!({ "group_id": 5, "user_id": 7, "duration": 0 }),
        ),
        (
            "set_group_whole_ban",
            json!({ "group_id": 5, "enable": "false" }),
            "set_group_whole_mute",
            json!({ "group_id": 5, "is_mute": false }),
        ),
        (
            "set_group_admin",
            json!({ "group_id": 5, "user_id": 7 }),
            "set_group_member_admin",
            json!({ "group_id": 5, "user_id": 7, "is_set": true }),
        ),
        (
            "set_group_card",
            json!({ "group_id": 5, "user_id": 7, "card": 8 }),
            "set_group_member_card",
            json!({ "group_id": 5, "user_id": 7, "card": "8" }),
        ),
        (
            "set_group_card",
            json!({ "group_id": 5, "user_id": 7 }),
            "set_group_member_card",
            json!({ "group_id": 5, "user_id": 7, "card": "" }),
        ),
        (
            "set_group_name",
            json!({ "group_id": 5, "group_name": "g" }),
            "set_group_name",
            json!({ "group_id": 5, "new_group_name": "g" }),
        ),
        ("set_group_leave", json!({ "group_id": 5 }), "quit_group", json!({ "group_id": 5 })),
        (
            "set_group_special_title",
            json!({ "group_id": 5, "user_id": 7, "special_title": "t", "duration": -1 }),
            "set_group_member_special_title",
            json!({ "group_id": 5, "user_id": 7, "special_title": "t" }),
        ),
        (
            "set_friend_add_request",
            json!({ "flag": "friend:u_7", "remark": "r" }),
            "accept_friend_request",
            json!({ "initiator_uid": "u_7" }),
        ),
        (
            "set_friend_add_request",
            json!({ "flag": "friend:u_7", "approve": false }),
            "reject_friend_request",
            json!({ "initiator_uid": "u_7" }),
        ),
        (
            "set_group_add_request",
            json!({ "flag": "join:5:4:0", "sub_type": "add" }),
            "accept_group_request",
            json!({ "notification_seq": 4, "notification_type": "join_request", "group_id": 5, "is_filtered": false }),
        ),
        (
            "set_group_add_request",
            json!({ "flag": "invitation:5:4", "approve": "false", "reason": "r" }),
            "reject_group_invitation",
            json!({ "group_id": 5, "invitation_seq": 4 }),
        ),
        ("send_like", json!({ "user_id": 7 }), "send_profile_like", json!({ "user_id": 7, "count": 1 })),
        (
            "friend_poke",
            json!({ "user_id": 7 }),
            "send_friend_nudge",
            json!({ "user_id": 7, "is_self": false }),
        ),
        (
            "send_poke",
            json!({ "user_id": 7 }),
            "send_friend_nudge",
            json!({ "user_id": 7, "is_self": false }),
        ),
        (
            "send_poke",
            json!({ "user_id": 7, "group_id": 5 }),
            "send_group_nudge",
            json!({ "user_id": 7, "group_id": 5 }),
        ),
        (
            "group_poke",
            json!({ "user_id": 7, "group_id": 5 }),
            "send_group_nudge",
            json!({ "user_id": 7, "group_id": 5 }),
        ),
        ("delete_friend", json!({ "user_id": 7 }), "delete_friend", json!({ "user_id": 7 })),
        (
            "upload_group_file",
            json!({ "group_id": 5, "file": "/f", "name": "n" }),
            "upload_group_file",
            json!({ "group_id": 5, "parent_folder_id": "/", "file_uri": "file:///f", "file_name": "n" }),
        ),
        (
            "upload_private_file",
            json!({ "user_id": 7, "file": "base64://AA", "name": "n" }),
            "upload_private_file",
            json!({ "user_id": 7, "file_uri": "base64://AA", "file_name": "n" }),
        ),
        (
            "send_group_forward_msg",
            json!({ "group_id": 5, "messages": [{ "type": "node", "data": { "user_id": 7, "nickname": "n", "content": "x" } }] }),
            "send_group_message",
            json!({ "group_id": 5, "message": [{ "type": "forward", "data": { "messages": [{ "user_id": 7, "sender_name": "n", "segments": text }] } }] }),
        ),
    ] {
        assert!(matches!(planned(name, &params, &context), Ok(Plan::Do(..))), "{name} changes something");
        let (made, _) = call(name, &params, &context, json!({}));
        assert_eq!(made, (wanted, request), "{name} {params}");
    }
}
