//! What today's networks can do, by the calls and events of the old API, over the sandbox.

use serde_json::{Value, json};

use super::process::{Client, Setup, request};
use super::receiver::Receiver;

/// A group that 小红 is an admin of, 李雷 a member, and 韩梅梅 the owner.
const GROUP: &str = "305432198";

struct Account {
    client: Client,
    reports: Receiver,
}

impl Account {
    fn start(vars: &[(&str, &str)]) -> Self {
        let reports = Receiver::new(|_| String::new());
        let all: Vec<_> = [("PLUGIN_OPENQQ_POST_API", reports.url.as_str()), ("SEND_INTERVAL", "0")]
            .into_iter()
            .chain(vars.iter().copied())
            .collect();
        let client = Setup::new(&all).account("小红").start();
        client.setup.until_state("running");
        Self { client, reports }
    }

    fn call(&self, call: &str) -> Value {
        self.client.get(&format!("/openqq/{call}")).json()
    }

    fn done(&self, call: &str) {
        assert_eq!(self.call(call), json!({ "code": 0, "status": "success" }), "{call}");
    }

    fn post(&self, path: &str, params: &Value) -> Value {
        let json = "Content-Type: application/json\r\n";
        request(self.client.setup.port, &format!("POST {path}"), json, &params.to_string()).unwrap().json()
    }

    /// A person of the world does something.
    fn person(&self, uid: &str, what: &str, params: &Value) -> Value {
        let answer = self.post(&format!("/sandbox/people/{uid}/{what}"), params);
        assert_eq!(answer["status"], "ok", "{what}: {answer}");
        answer["data"].clone()
    }

    /// The id that this login has for a uid.
    fn id(&self, search: &str, uid: &str) -> String {
        self.call(&format!("{search}?uid={uid}"))[0]["id"].as_str().unwrap().to_owned()
    }
}

#[test]
fn parts_of_messages_are_sent_in_their_turn() {
    let account = Account::start(&[]);
    let asked = account.person("10003", "say", &json!({ "group_id": 305_432_198, "message": "在吗" }));
    let number = asked["message_id"].as_i64().unwrap();
    assert_eq!(account.reports.next_message()["message_id"], number);
    let sent = account.post(
        "/openqq/send_group_message",
        &json!({ "uid": GROUP, "reply_to": number, "at": "10003", "content": "在",
                 "segments": [{ "type": "face", "data": { "id": 14 } }], "image": "base64://iVBORw0KGgo=" }),
    );
    assert_eq!(sent["code"], 0, "{sent}");
    let report = account.reports.next_message();
    assert_eq!((&report["id"], &report["message_id"]), (&sent["id"], &sent["message_id"]));
    let kinds: Vec<_> =
        report["segments"].as_array().unwrap().iter().map(|part| part["type"].clone()).collect();
    assert_eq!(kinds, ["reply", "at", "text", "face", "image"]);
    assert_eq!(report["content"], "@班长 在[微笑][图片]");
    assert!(!report.to_string().contains("iVBORw0KGgo="), "{report}");

    // Without a caller, and to a friend; what it can't send it says by an event.
    let queued = account.call("send_friend_message?uid=10003&image=%2Fnone.png&async=1");
    assert_eq!(queued["status"], "request already in execution");
    let failed = account.reports.next_event("send_failed");
    assert_eq!((&failed[0]["id"], &failed[1]), (&queued["id"], &json!(-4)));
    assert_eq!(failed[0]["segments"], json!([{ "type": "image", "data": { "file": "file:///none.png" } }]));
    assert!(failed[2].as_str().unwrap().starts_with("image: "), "{failed}");
    for (call, code) in [("reply_to=x", -2), ("segments=x", -2), ("at=x&content=y", -2), ("reply_to=5", -6)] {
        assert_eq!(account.call(&format!("send_friend_message?uid=10003&{call}"))["code"], code, "{call}");
    }
}

#[test]
fn calls_of_today_take_ids_and_uids() {
    let account = Account::start(&[]);
    let group = account.id("search_group", GROUP);
    account.done(&format!("set_card?group_id={group}&member_uid=10002&card=%E5%B0%8F%E9%9B%B7"));
    let members = account.call(&format!("search_group?uid={GROUP}"))[0]["member"].clone();
    let member = members.as_array().unwrap().iter().find(|member| member["uid"] == "10002").unwrap().clone();
    assert_eq!(member["card"], "小雷");
    let member = member["id"].as_str().unwrap();
    account.done(&format!("shutup_group_member?group_uid={GROUP}&member_id={member}&time=1"));
    let muted = account.reports.next_event("ban")[0].clone();
    assert_eq!((&muted["member_id"], &muted["member_uid"]), (&json!(member), &json!("10002")));
    assert_eq!((&muted["on"], &muted["group_id"]), (&json!(1), &json!(group)));
    account.done(&format!("unmute_group_member?group_id={group}&member_uid=10002"));
    assert_eq!(account.reports.next_event("ban")[0]["on"], 0);
    account.done(&format!("whole_mute?group_uid={GROUP}&on=1"));
    let whole = account.reports.next_event("ban")[0].clone();
    assert_eq!((&whole["whole"], &whole["on"], whole.get("member_uid")), (&json!(1), &json!(1), None));
    account.done(&format!("whole_mute?id={group}&on=0"));

    let sent = account.call(&format!("send_group_message?uid={GROUP}&content=x"));
    account.done(&format!("recall_message?message_id={}", sent["message_id"]));
    let recalled = account.reports.next_event("recall")[0].clone();
    assert_eq!((&recalled["message_id"], &recalled["operator_uid"]), (&sent["message_id"], &json!("10001")));
    let again = account.call(&format!("recall_message?message_id={}", sent["message_id"]));
    assert_eq!((&again["code"], &again["status"]), (&json!(101), &json!("failed")));
    assert!(again["info"].as_str().unwrap().contains("no such message"), "{again}");

    let not_found = json!({ "code": 100, "status": "object not found" });
    for call in [
        "leave_group?uid=7",
        "whole_mute?on=1",
        "set_card?card=x&member_uid=10002",
        "unmute_group_member?uid=1",
    ] {
        assert_eq!(account.call(call), not_found, "{call}");
    }
    for call in [
        "recall_message",
        "recall_message?message_id=x",
        &format!("whole_mute?uid={GROUP}&on=2"),
        &format!("set_card?group_uid={GROUP}&member_uid=10002"),
        &format!("set_card?group_uid={GROUP}&member_uid=10002,10003&card=x"),
        "approve_request?flag=7",
        "approve_request?type=friend",
    ] {
        assert_eq!(account.call(call)["code"], -2, "{call}");
    }
    account.done(&format!("leave_group?group_id={group}"));
    assert_eq!(account.reports.next_event("lose_group")[0]["uid"], GROUP);
    assert_eq!(account.call(&format!("leave_group?uid={GROUP}")), not_found);
}

#[test]
fn requests_are_events_that_can_be_approved() {
    let account = Account::start(&[]);
    account.person("20001", "request", &json!({ "type": "friend", "name": "新人", "comment": "hi" }));
    let asked = account.reports.next_event("friend_request")[0].clone();
    assert_eq!((&asked["sender_uid"], &asked["comment"]), (&json!("20001"), &json!("hi")));
    let flag = asked["flag"].as_str().unwrap();
    account.done(&format!("approve_request?flag={flag}&remark=%E5%B0%8F%E6%96%B0"));
    let friend = account.reports.next_event("new_friend")[0].clone();
    assert_eq!((&friend["uid"], &friend["id"]), (&json!("20001"), &asked["sender_id"]));
    assert_eq!(account.call(&format!("approve_request?flag={flag}"))["code"], 101, "it is answered");

    account.person("20002", "request", &json!({ "type": "join", "group_id": 305_432_198, "name": "某" }));
    let asked = account.reports.next_event("group_request")[0].clone();
    assert_eq!((&asked["type"], &asked["group_uid"]), (&json!("add"), &json!(GROUP)));
    account.done(&format!("approve_request?flag={}&approve=0&reason=no", asked["flag"].as_str().unwrap()));
    account.person("20002", "request", &json!({ "type": "join", "group_id": 305_432_198, "name": "某" }));
    let again = account.reports.next_event("group_request")[0].clone();
    // As OneBot has it, with its type.
    let flag = again["flag"].as_str().unwrap().split_once(':').unwrap().1;
    account.done(&format!("approve_request?flag={flag}&type=add"));
    assert_eq!(account.reports.next_event("new_group_member")[0]["uid"], "20002");
}

#[test]
fn events_of_today_are_chosen_by_name() {
    let account = Account::start(&[("PLUGIN_OPENQQ_POST_EVENT_LIST", "reaction,poke")]);
    let said = account.person("10003", "say", &json!({ "group_id": 305_432_198, "message": "x" }));
    account.person("10003", "poke", &json!({}));
    let poke = account.reports.next_event("poke")[0].clone();
    assert_eq!((&poke["friend_uid"], &poke["target_uid"]), (&json!("10003"), &json!("10001")));
    let react = json!({ "action": "set_msg_emoji_like", "params": { "message_id": said["message_id"], "emoji_id": "76" } });
    assert_eq!(account.post("/openqq/onebot", &react)["code"], 0);
    let reaction = account.reports.next_event("reaction")[0].clone();
    assert_eq!(
        (&reaction["message_id"], &reaction["likes"][0]["emoji"]),
        (&said["message_id"], &json!("76"))
    );
    // Unless it is chosen it would push messages out of what is kept.
    let usual = Account::start(&[]);
    let said = usual.person("10003", "say", &json!({ "group_id": 305_432_198, "message": "x" }));
    usual.call(&format!("onebot?action=set_msg_emoji_like&message_id={}&emoji_id=76", said["message_id"]));
    usual.person("10003", "recall", &said);
    usual.reports.next_event("recall");
    let kept = usual.client.get("/openqq/check_event").body;
    assert!(kept.contains("\"recall\"") && !kept.contains("\"reaction\""), "{kept}");
}

#[test]
fn any_action_passes_through_onebot() {
    let account = Account::start(&[]);
    let found = account.call("onebot?client=x&action=get_group_info&group_id=305432198&_=5");
    assert_eq!((&found["code"], &found["status"]), (&json!(0), &json!("ok")));
    assert_eq!(found["data"]["group_id"], 305_432_198);
    let nested = json!({ "action": "send_msg", "params": { "group_id": 305_432_198, "message": [{ "type": "dice" }] } });
    let sent = account.post("/openqq/onebot", &nested);
    assert!(sent["data"]["message_id"].is_i64(), "{sent}");
    let form = "action=get_msg&params=%7B%22message_id%22:".to_owned()
        + &sent["data"]["message_id"].to_string()
        + "%7D";
    assert_eq!(account.client.post("/openqq/onebot", &form).json()["data"]["message"][0]["type"], "dice");
    let under_way = account.call("onebot?action=get_status_async");
    assert_eq!((&under_way["code"], &under_way["status"]), (&json!(1), &json!("async")));
    let unknown = account.call("onebot?action=fly");
    assert_eq!(
        (&unknown["code"], &unknown["info"]),
        (&json!(1404), &json!("there is no action \"fly\" here"))
    );
    assert_eq!(account.call("onebot")["code"], -2);
    assert_eq!(
        account.client.get("/openqq/onebot?action=get_status&datatype=jsonp&callback=f").body.get(..2),
        Some("f(")
    );
}
