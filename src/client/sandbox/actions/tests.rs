use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::json;
use tokio::sync::mpsc;

use super::*;
use crate::client::backend::{Backend, BackendEvent};
use crate::client::sandbox::tests::logged_in;

/// The standard's actions (onebot-11, `api/public.md`).
const STANDARD: &str = "send_private_msg send_group_msg send_msg delete_msg get_msg get_forward_msg send_like set_group_kick \
    set_group_ban set_group_anonymous_ban set_group_whole_ban set_group_admin set_group_anonymous set_group_card set_group_name \
    set_group_leave set_group_special_title set_friend_add_request set_group_add_request get_login_info get_stranger_info \
    get_friend_list get_group_info get_group_list get_group_member_info get_group_member_list get_group_honor_info get_cookies \
    get_csrf_token get_credentials get_record get_image can_send_image can_send_record get_status get_version_info set_restart \
    clean_cache";

/// What the sandbox has nothing for.
const REFUSED: [&str; 5] =
    ["set_group_anonymous_ban", "set_group_anonymous", "get_cookies", "get_csrf_token", "get_credentials"];

async fn call(sandbox: &Sandbox, name: &str, params: Value) -> Answer {
    let Value::Object(params) = params else { panic!("{params}") };
    sandbox.act(Action { name: name.into(), params }).await
}

async fn done(sandbox: &Sandbox, name: &str, params: Value) -> Value {
    match call(sandbox, name, params).await {
        Answer::Done(data) => data,
        other => panic!("{name}: {other:?}"),
    }
}

async fn code(sandbox: &Sandbox, name: &str, params: Value) -> i64 {
    match call(sandbox, name, params).await {
        Answer::Failed { code, .. } => code,
        other => panic!("{name}: {other:?}"),
    }
}

/// The next message that is received.
async fn heard(news: &mut mpsc::Receiver<BackendEvent>) -> crate::client::backend::message::ChatMessage {
    loop {
        if let BackendEvent::Message(message) = news.recv().await.unwrap() {
            return message;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn table_has_all_actions_of_the_standard() {
    let names: BTreeSet<_> = ACTIONS.iter().map(|(name, _)| *name).collect();
    assert_eq!(names.len(), ACTIONS.len(), "each once");
    let (sandbox, _news, _folder) = logged_in().await;
    for name in STANDARD.split_whitespace() {
        assert!(names.contains(name), "{name}");
        if name == "set_restart" {
            assert_eq!(call(&sandbox, name, json!({})).await, Answer::Accepted);
            // The login that follows ends what this test is about.
            continue;
        }
        if let Answer::Failed { code, why } = call(&sandbox, name, json!({})).await {
            assert_eq!(code == 1404, REFUSED.contains(&name), "{name}: {why}");
            assert!(!why.is_empty());
        }
    }
    assert_eq!(code(&sandbox, "fly", json!({})).await, 1404);
}

#[tokio::test(start_paused = true)]
async fn message_is_sent_answered_found_and_taken_back() {
    let (sandbox, mut news, _folder) = logged_in().await;
    let message =
        json!([{ "type": "at", "data": { "qq": 10002 } }, { "type": "text", "data": { "text": "你好" } }]);
    let sent = done(&sandbox, "send_private_msg", json!({ "user_id": "10002", "message": message })).await;
    let echo = heard(&mut news).await;
    assert_eq!((echo.content.as_str(), echo.segments.len()), ("@李雷 你好", 2));
    let found = done(&sandbox, "get_msg", json!({ "message_id": sent["message_id"] })).await;
    assert_eq!((&found["raw_message"], &found["target_id"]), (&json!("[CQ:at,qq=10002]你好"), &json!(10002)));
    let theirs = done(&sandbox, "get_msg", json!({ "message_id": echo.number })).await;
    assert_eq!((&theirs["message"], &theirs["sender"]["user_id"]), (&found["message"], &json!(10002)));
    let history = done(&sandbox, "get_friend_msg_history", json!({ "user_id": 10002 })).await;
    assert_eq!(history["messages"], json!([found, theirs]));
    let reply = format!("[CQ:reply,id={}]x", theirs["message_id"]);
    done(&sandbox, "send_msg", json!({ "user_id": 10002, "message": reply })).await;
    assert_eq!(
        code(&sandbox, "send_msg", json!({ "user_id": 10002, "message": "[CQ:reply,id=1]x" })).await,
        102
    );
    assert_eq!(code(&sandbox, "delete_msg", json!({ "message_id": echo.number })).await, 102, "it is theirs");
    done(&sandbox, "delete_msg", json!({ "message_id": sent["message_id"] })).await;
    assert_eq!(code(&sandbox, "get_msg", json!({ "message_id": sent["message_id"] })).await, 101);
    for (params, expected) in [
        (json!({ "user_id": 7, "message": "x" }), 101),
        (json!({ "message": "x" }), 100),
        (json!({ "user_id": 10002, "message": "" }), 100),
        (json!({ "user_id": 10002, "message": 7 }), 100),
        (json!({ "user_id": 10002 }), 100),
        (json!({ "group_id": 1, "message": "x" }), 101),
    ] {
        assert_eq!(code(&sandbox, "send_msg", params.clone()).await, expected, "{params}");
    }
}

#[tokio::test(start_paused = true)]
async fn plain_text_is_no_code() {
    let (sandbox, mut news, _folder) = logged_in().await;
    let params = json!({ "user_id": 10002, "message": "[CQ:face,id=14]", "auto_escape": "true" });
    done(&sandbox, "send_private_msg", params).await;
    assert_eq!(heard(&mut news).await.content, "[CQ:face,id=14]");
    done(&sandbox, "send_private_msg", json!({ "user_id": 10002, "message": "[CQ:face,id=14]" })).await;
    assert_eq!(heard(&mut news).await.content, "[微笑]");
}

#[tokio::test(start_paused = true)]
async fn forwarded_messages_are_read_by_their_id() {
    let (sandbox, mut news, _folder) = logged_in().await;
    let sent = done(&sandbox, "send_private_msg", json!({ "user_id": 10002, "message": "one" })).await;
    heard(&mut news).await;
    let nodes = json!([
        { "type": "node", "data": { "id": sent["message_id"] } },
        { "type": "node", "data": { "user_id": 5, "nickname": "n", "content": "[CQ:dice]" } },
    ]);
    let params = json!({ "user_id": 10002, "messages": nodes });
    let sent = done(&sandbox, "send_private_forward_msg", params).await;
    let echo = heard(&mut news).await;
    assert_eq!(
        (echo.segments[0].kind.as_str(), echo.segments[0].get("id")),
        ("forward", sent["forward_id"].as_str().unwrap())
    );
    for id in [&sent["forward_id"], &sent["message_id"]] {
        let found = done(&sandbox, "get_forward_msg", json!({ "id": id })).await;
        assert_eq!(found["message"][0]["data"]["content"][0]["data"]["text"], "one");
        assert_eq!(
            (&found["messages"][1]["user_id"], &found["message"][1]["data"]["nickname"]),
            (&json!(5), &json!("n"))
        );
    }
    let shown = done(&sandbox, "get_msg", json!({ "message_id": echo.number })).await;
    assert!(shown["message"][0]["data"].get("content").is_none());
    let mixed =
        json!([{ "type": "node", "data": { "content": "x" } }, { "type": "text", "data": { "text": "x" } }]);
    assert_eq!(code(&sandbox, "send_msg", json!({ "user_id": 10002, "message": mixed })).await, 100);
}

#[tokio::test(start_paused = true)]
async fn images_are_kept_and_found() {
    let (sandbox, mut news, _folder) = logged_in().await;
    let message = json!({ "type": "image", "data": { "file": "base64://iVBORw0KGgo=", "cache": 0 } });
    done(&sandbox, "send_private_msg", json!({ "user_id": 10002, "message": message })).await;
    let echo = heard(&mut news).await;
    let image = &echo.segments[0];
    assert_eq!(echo.content, "[图片]");
    assert!(image.get("url").ends_with(image.get("file")) && image.data.get("cache").is_none());
    let found = done(&sandbox, "get_image", json!({ "file": image.get("file") })).await;
    assert_eq!(std::fs::read(found["file"].as_str().unwrap()).unwrap(), b"\x89PNG\r\n\x1a\n");
    assert_eq!(
        code(&sandbox, "get_record", json!({ "file": image.get("file"), "out_format": "mp3" })).await,
        102
    );
    assert_eq!(code(&sandbox, "get_image", json!({ "file": "x.png" })).await, 101);
    let nothing = json!({ "type": "image", "data": { "file": "x.png" } });
    assert_eq!(code(&sandbox, "send_msg", json!({ "user_id": 10002, "message": nothing })).await, 100);
    done(&sandbox, "clean_cache", json!({})).await;
    done(&sandbox, "get_image", json!({ "file": image.get("file") })).await;
}

#[tokio::test(start_paused = true)]
async fn groups_are_shown_and_changed() {
    // The account is a guest, and with that an admin of this group, whose owner is 10005.
    let (sandbox, mut news, _folder) = logged_in().await;
    let group = json!({ "group_id": 700_100_200 });
    let with = |more: Value| {
        let mut params = group.clone();
        params.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        params
    };
    let own = done(&sandbox, "get_login_info", json!({})).await["user_id"].clone();
    let me = done(&sandbox, "get_group_member_info", with(json!({ "user_id": own }))).await;
    assert_eq!(me["role"], "admin");
    done(&sandbox, "set_group_ban", with(json!({ "user_id": 10002, "duration": 60 }))).await;
    let muted = done(&sandbox, "get_group_member_info", with(json!({ "user_id": 10002 }))).await;
    assert!(muted["shut_up_timestamp"].as_u64().unwrap() > 0);
    done(&sandbox, "set_group_ban", with(json!({ "user_id": 10002, "duration": 0 }))).await;
    let free = done(&sandbox, "get_group_member_info", with(json!({ "user_id": 10002 }))).await;
    assert_eq!(free["shut_up_timestamp"], 0);
    assert_eq!(code(&sandbox, "set_group_ban", with(json!({ "user_id": 10005 }))).await, 102);
    assert_eq!(code(&sandbox, "set_group_kick", with(json!({ "user_id": 10003 }))).await, 101);
    assert_eq!(code(&sandbox, "set_group_special_title", with(json!({ "user_id": 10002 }))).await, 102);
    done(&sandbox, "set_group_card", with(json!({ "user_id": 10002, "card": "雷" }))).await;
    done(&sandbox, "set_group_name", with(json!({ "group_name": "新名" }))).await;
    assert_eq!(done(&sandbox, "get_group_info", group.clone()).await["group_name"], "新名");
    done(&sandbox, "set_group_kick", with(json!({ "user_id": 10002 }))).await;
    assert_eq!(done(&sandbox, "get_group_member_list", group.clone()).await.as_array().unwrap().len(), 4);
    done(&sandbox, "_send_group_notice", with(json!({ "content": "晚上聚会" }))).await;
    assert_eq!(done(&sandbox, "_get_group_notice", group.clone()).await[0]["message"]["text"], "晚上聚会");
    let file = with(json!({ "file": "base64://aGk=", "name": "hi.txt" }));
    let id = done(&sandbox, "upload_group_file", file).await["file_id"].clone();
    assert_eq!(
        done(&sandbox, "get_group_root_files", group.clone()).await["files"][0]["file_name"],
        "hi.txt"
    );
    let url = done(&sandbox, "get_group_file_url", with(json!({ "file_id": id }))).await["url"].clone();
    assert!(url.as_str().unwrap().contains("/sandbox/file/"));
    let sent = done(&sandbox, "send_group_msg", with(json!({ "message": "x" }))).await;
    done(&sandbox, "set_essence_msg", sent.clone()).await;
    assert_eq!(
        done(&sandbox, "get_essence_msg_list", group.clone()).await[0]["message_id"],
        sent["message_id"]
    );
    done(&sandbox, "set_msg_emoji_like", json!({ "message_id": sent["message_id"], "emoji_id": "66" })).await;
    done(&sandbox, "group_poke", with(json!({ "user_id": 10005 }))).await;
    let honors = done(&sandbox, "get_group_honor_info", with(json!({ "type": "talkative" }))).await;
    assert!(honors["talkative_list"].is_array() && honors.get("emotion_list").is_none());
    done(&sandbox, "set_group_leave", group.clone()).await;
    assert_eq!(code(&sandbox, "get_group_info", group).await, 101);
    news.close();
}

#[tokio::test(start_paused = true)]
async fn logged_out_account_does_nothing() {
    let (sandbox, _driver, _news, _folder) = crate::client::sandbox::tests::sandbox();
    assert_eq!(done(&sandbox, "get_status", json!({})).await["online"], false);
    assert_eq!(code(&sandbox, "get_login_info", json!({})).await, Refusal::LoggedOut.code());
    tokio::time::sleep(Duration::from_secs(1)).await;
}

/// Names of parameters, of all actions.
const PARAMS: &str = "message messages user_id group_id message_id message_seq id times duration enable card group_name special_title \
    is_dismiss flag sub_type type approve remark reason reject_add_request file name out_format no_cache nickname count target_id \
    emoji_id set content image file_id folder auto_escape message_type domain delay anonymous anonymous_flag";

#[tokio::test(start_paused = true)]
async fn parameters_of_any_kind_are_answered() {
    let deep = (0..100).fold(json!(1), |inner, _| json!([inner]));
    let kinds = [
        json!(null),
        json!([]),
        json!([null, 7, "x", [[]], {}]),
        json!({}),
        json!({ "type": 7, "data": [] }),
        json!([{ "type": "image", "data": { "file": 7 } }, { "type": "node", "data": { "content": [{}] } }]),
        json!(""),
        json!("x\0\u{1f600}[CQ:"),
        json!("[CQ:reply,id=99999999999999999999][CQ:at,qq=][CQ:image,file=base64://!]"),
        json!(-1),
        json!(0),
        json!(1.5),
        json!(i64::MIN),
        json!(u64::MAX),
        json!(9_223_372_036_854_775_808_u64),
        json!(i32::MIN),
        json!(1e300),
        json!("9223372036854775808"),
        json!("-9223372036854775808"),
        json!(true),
        deep,
    ];
    for (name, _) in ACTIONS {
        let (sandbox, mut news, _folder) = logged_in().await;
        tokio::spawn(async move { while news.recv().await.is_some() {} });
        for wrong in PARAMS.split_whitespace() {
            for kind in &kinds {
                let mut params = json!({ "user_id": 10002, "group_id": 700_100_200, "message": "x" });
                params[wrong] = kind.clone();
                let shown = params.to_string();
                let answered = call(&sandbox, name, params);
                let answered = tokio::time::timeout(Duration::from_secs(600), answered).await;
                let answer = answered.unwrap_or_else(|_| panic!("{name} {shown} has no answer"));
                assert!(answer.to_json(None)["retcode"].is_i64(), "{name} {shown}");
            }
        }
    }
}
