mod deeds;

use std::sync::Arc;

use super::super::table::ACTIONS;
use super::*;
use crate::client::remote::dialect::Request;
use crate::client::remote::message_ids::MessageIds;

const ACCOUNT: u64 = 10_001;

fn context() -> PlanContext {
    PlanContext { account: ACCOUNT, is_online: true, ids: Arc::new(MessageIds::in_memory()) }
}

fn number(context: &PlanContext, scene: Scene, peer: u64) -> i32 {
    context.ids.number(MessageKey { account: ACCOUNT, scene, peer, seq: 3 })
}

fn planned(name: &str, params: &Value, context: &PlanContext) -> Result<Plan, Answer> {
    plan(Action { name: name.to_owned(), params: params.as_object().unwrap().clone() }, context)
}

/// The only call of an action, and what its answer becomes.
fn call(name: &str, params: &Value, context: &PlanContext, answer: Value) -> (Request, Value) {
    match planned(name, params, context) {
        Ok(Plan::Do(request, read)) => (request, read(answer)),
        Ok(Plan::Ask(mut requests, then)) => {
            assert_eq!(requests.len(), 1, "{name}");
            let Ok(Plan::Done(data)) = then(vec![answer]) else { panic!("{name}") };
            (requests.remove(0), data)
        }
        Ok(Plan::Done(_)) => panic!("{name} takes no call"),
        Err(refused) => panic!("{name} {params}: {refused:?}"),
    }
}

fn refusal(name: &str, params: &Value, context: &PlanContext) -> i64 {
    match planned(name, params, context) {
        Err(Answer::Failed { code, .. }) => code,
        _ => panic!("{name} {params} is not refused"),
    }
}

#[test]
fn questions_become_the_calls_of_milky() {
    let context = context();
    let id = number(&context, Scene::Group, 5);
    let message = json!({
        "message_scene": "group", "peer_id": 5, "sender_id": 7, "message_seq": 3, "time": 9, "segments": [], "group": {},
    });
    for (name, params, wanted, request, answer, (key, value)) in [
        (
            "get_login_info",
            json!({}),
            "get_login_info",
            json!({}),
            json!({ "uin": 10001 }),
            ("user_id", json!(10001)),
        ),
        (
            "get_stranger_info",
            json!({ "user_id": 7 }),
            "get_user_profile",
            json!({ "user_id": 7 }),
            json!({ "age": 9 }),
            ("age", json!(9)),
        ),
        (
            "get_group_info",
            json!({ "group_id": 5, "no_cache": "true" }),
            "get_group_info",
            json!({ "group_id": 5, "no_cache": true }),
            json!({ "group": { "group_id": 5 } }),
            ("group_id", json!(5)),
        ),
        (
            "get_group_member_info",
            json!({ "group_id": 5, "user_id": 7 }),
            "get_group_member_info",
            json!({ "group_id": 5, "user_id": 7, "no_cache": false }),
            json!({ "member": { "user_id": 7 } }),
            ("user_id", json!(7)),
        ),
        (
            "get_msg",
            json!({ "message_id": id }),
            "get_message",
            json!({ "message_scene": "group", "peer_id": 5, "message_seq": 3 }),
            json!({ "message": message }),
            ("message_id", json!(id)),
        ),
        (
            "get_forward_msg",
            json!({ "id": "w" }),
            "get_forwarded_messages",
            json!({ "forward_id": "w" }),
            json!({ "messages": [] }),
            ("message", json!([])),
        ),
        (
            "get_group_msg_history",
            json!({ "group_id": 5, "count": 500, "message_seq": 0 }),
            "get_history_messages",
            json!({ "message_scene": "group", "peer_id": 5, "limit": 30 }),
            json!({ "messages": [] }),
            ("messages", json!([])),
        ),
        (
            "get_group_msg_history",
            json!({ "group_id": 5, "message_seq": id }),
            "get_history_messages",
            json!({ "message_scene": "group", "peer_id": 5, "limit": 20, "start_message_seq": 3 }),
            json!({ "messages": [] }),
            ("messages", json!([])),
        ),
        (
            "get_friend_msg_history",
            json!({ "user_id": 7 }),
            "get_history_messages",
            json!({ "message_scene": "friend", "peer_id": 7, "limit": 20 }),
            json!({ "messages": [] }),
            ("messages", json!([])),
        ),
        (
            "get_image",
            json!({ "file": "r" }),
            "get_resource_temp_url",
            json!({ "resource_id": "r" }),
            json!({ "url": "u" }),
            ("file", json!("u")),
        ),
        (
            "get_record",
            json!({ "file": "r", "out_format": "mp3" }),
            "get_resource_temp_url",
            json!({ "resource_id": "r" }),
            json!({ "url": "u" }),
            ("file", json!("u")),
        ),
        (
            "get_group_file_url",
            json!({ "group_id": 5, "file_id": "/f" }),
            "get_group_file_download_url",
            json!({ "group_id": 5, "file_id": "/f" }),
            json!({ "download_url": "u" }),
            ("url", json!("u")),
        ),
        (
            "get_cookies",
            json!({}),
            "get_cookies",
            json!({ "domain": "" }),
            json!({ "cookies": "c" }),
            ("cookies", json!("c")),
        ),
        (
            "get_csrf_token",
            json!({}),
            "get_csrf_token",
            json!({}),
            json!({ "csrf_token": "7" }),
            ("token", json!(7)),
        ),
    ] {
        assert!(matches!(planned(name, &params, &context), Ok(Plan::Ask(..))), "{name} changes nothing");
        let (made, data) = call(name, &params, &context, answer);
        assert_eq!((made, &data[key]), ((wanted, request), &value), "{name} {params}");
    }
    for (name, params) in [
        ("get_friend_list", json!({})),
        ("get_group_list", json!({})),
        ("get_group_member_list", json!({ "group_id": 5 })),
    ] {
        let ((call, _), data) = call(name, &params, &context, json!(null));
        assert_eq!((call, data), (name, json!([])));
    }
    let Ok(Plan::Ask(calls, then)) = planned("get_credentials", &json!({ "domain": "d" }), &context) else {
        panic!()
    };
    assert_eq!(calls, [("get_cookies", json!({ "domain": "d" })), ("get_csrf_token", json!({}))]);
    let Ok(Plan::Done(data)) = then(vec![json!({ "cookies": "c" }), json!({ "csrf_token": "x" })]) else {
        panic!()
    };
    assert_eq!(data, json!({ "cookies": "c", "csrf_token": "x" }));
}

#[test]
fn message_that_was_sent_has_a_number() {
    let context = context();
    let (_, data) = call(
        "send_group_msg",
        &json!({ "group_id": 5, "message": "x" }),
        &context,
        json!({ "message_seq": 9 }),
    );
    let id = i32::try_from(data["message_id"].as_i64().unwrap()).unwrap();
    let key = MessageKey { account: ACCOUNT, scene: Scene::Group, peer: 5, seq: 9 };
    assert_eq!(context.ids.find(id, ACCOUNT), Some(key));
    // An answer without it is no failure: the message went out.
    let (_, data) = call("send_group_msg", &json!({ "group_id": 5, "message": "x" }), &context, json!(null));
    assert_eq!(data["message_id"], 0);
}

#[test]
fn file_that_came_is_asked_for_before_it_is_sent_again() {
    let context = context();
    let params = json!({ "user_id": 7, "message": "[CQ:image,file=r.jpg]" });
    let ask = || match planned("send_private_msg", &params, &context) {
        Ok(Plan::Ask(calls, then)) => {
            assert_eq!(calls, [("get_resource_temp_url", json!({ "resource_id": "r.jpg" }))]);
            then
        }
        _ => panic!(),
    };
    let Ok(Plan::Do(request, _)) = ask()(vec![json!({ "url": "http://x/r" })]) else { panic!() };
    assert_eq!(request.1["message"][0]["data"]["uri"], "http://x/r");
    assert!(matches!(ask()(vec![json!({})]), Err(Answer::Failed { code: 101, .. })));
    assert!(matches!(ask()(vec![]), Err(Answer::Failed { code: 101, .. })));
}

#[test]
fn what_cannot_be_done_is_refused() {
    let context = context();
    let temporary = number(&context, Scene::Temporary, 12);
    let friend = number(&context, Scene::Friend, 7);
    for (name, params, code) in [
        ("set_group_anonymous", json!({ "group_id": 5 }), 1404),
        ("of_a_later_version", json!({}), 1404),
        ("quit_group", json!({ "group_id": 5 }), 1404),
        ("delete_msg", json!({ "message_id": temporary }), 102),
        ("delete_msg", json!({ "message_id": 77_777 }), 101),
        ("delete_msg", json!({}), 100),
        ("delete_msg", json!({ "message_id": "x" }), 100),
        ("delete_msg", json!({ "message_id": 5_000_000_000_u64 }), 100),
        ("set_essence_msg", json!({ "message_id": friend }), 102),
        ("set_msg_emoji_like", json!({ "message_id": friend, "emoji_id": 1 }), 102),
        ("get_group_msg_history", json!({ "group_id": 5, "message_seq": friend }), 100),
        ("get_group_msg_history", json!({ "group_id": 5, "message_seq": 77_777 }), 101),
        ("set_group_leave", json!({ "group_id": 5, "is_dismiss": true }), 102),
        ("set_group_kick", json!({ "group_id": 5 }), 100),
        ("set_group_ban", json!({ "group_id": 5, "user_id": 7, "duration": -1 }), 100),
        ("set_friend_add_request", json!({ "flag": "join:5:4:0" }), 100),
        ("set_group_add_request", json!({ "flag": "friend:u" }), 100),
        ("set_group_add_request", json!({}), 100),
        ("send_msg", json!({ "message": "x" }), 100),
        ("send_msg", json!({ "message_type": "guild", "user_id": 7, "message": "x" }), 100),
        ("send_msg", json!({ "message_type": "group", "user_id": 7, "message": "x" }), 100),
        ("send_private_msg", json!({ "user_id": 7 }), 100),
        ("send_private_msg", json!({ "user_id": 7, "message": "" }), 100),
        ("send_private_msg", json!({ "user_id": 7, "message": "x[CQ:rps]" }), 100),
        ("send_group_forward_msg", json!({ "group_id": 5, "messages": ["x"] }), 100),
        ("upload_group_file", json!({ "group_id": 5, "file": "f", "name": "n" }), 100),
    ] {
        assert_eq!(refusal(name, &params, &context), code, "{name} {params}");
    }
    // A message of the account that the client had before.
    let other = PlanContext { account: 10_002, ..context.clone() };
    assert_eq!(refusal("delete_msg", &json!({ "message_id": friend }), &other), 101);
    // As it is, not as codes.
    let plain = json!({ "user_id": 7, "message": "[CQ:rps]", "auto_escape": "true" });
    let (request, _) = call("send_private_msg", &plain, &context, json!({}));
    assert_eq!(request.1["message"][0]["data"]["text"], "[CQ:rps]");
}

#[test]
fn table_has_each_action() {
    let context = context();
    let (id, of_friend) = (number(&context, Scene::Group, 5), number(&context, Scene::Friend, 7));
    for (name, way, _) in ACTIONS {
        let id = if *name == "get_friend_msg_history" { of_friend } else { id };
        let flag = if *name == "set_friend_add_request" { "friend:u" } else { "join:5:4:0" };
        // What any action may want.
        let params = json!({
            "user_id": 7, "group_id": 5, "message": "x", "message_id": id, "id": "w", "file": "/f", "name": "n", "flag": flag,
            "group_name": "g", "file_id": "/f", "emoji_id": "1", "type": "all",
            "messages": [{ "type": "node", "data": { "content": "x" } }],
        });
        match planned(name, &params, &context) {
            Ok(Plan::Done(_)) => assert_eq!(*way, Way::Own, "{name}"),
            Ok(_) => assert_eq!(*way, Way::Translated, "{name}"),
            Err(refused) => {
                assert_eq!((*way, refused), (Way::Cannot, Answer::no_such_action(name)));
            }
        }
    }
    let offline = PlanContext { is_online: false, ..context };
    let Ok(Plan::Done(status)) = planned("get_status", &json!({}), &offline) else { panic!() };
    assert_eq!(status, json!({ "online": false, "good": false }));
}

/// Names of parameters, of all actions.
const PARAMS: &str = "message messages user_id group_id message_id message_seq id times duration enable card group_name special_title \
    is_dismiss flag sub_type type approve remark reason reject_add_request file name out_format no_cache nickname count target_id \
    emoji_id set content image file_id folder auto_escape message_type domain delay anonymous anonymous_flag";

#[test]
fn parameters_and_answers_of_any_kind_are_borne() {
    let context = context();
    let id = number(&context, Scene::Group, 5);
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
        json!(1.5),
        json!(i64::MIN),
        json!(u64::MAX),
        json!(9_223_372_036_854_775_808_u64),
        json!("9223372036854775808"),
        json!(true),
    ];
    for (name, ..) in ACTIONS {
        for wrong in PARAMS.split_whitespace() {
            for kind in &kinds {
                for known in
                    [json!({}), json!({ "user_id": 7, "group_id": 5, "message": "x", "message_id": id })]
                {
                    let mut params = known;
                    params[wrong] = kind.clone();
                    for answer in &kinds {
                        let mut next = planned(name, &params, &context);
                        // What the implementation answers is as odd.
                        for _ in 0..10 {
                            next = match next {
                                Ok(Plan::Ask(requests, then)) => then(vec![answer.clone(); requests.len()]),
                                Ok(Plan::Do(_, read)) => Ok(Plan::Done(read(answer.clone()))),
                                done => done,
                            };
                        }
                        assert!(matches!(next, Ok(Plan::Done(_)) | Err(_)), "{name} {params} never ends");
                    }
                }
            }
        }
    }
}
