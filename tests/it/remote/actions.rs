//! Each call of the API, and what it becomes on the other side: with a strict and a sloppy implementation, and over Milky.

use serde_json::{Value, json};

use super::implementation::{Implementation, Manner, failed, ok};
use super::running;
use super::server::Server;
use crate::client::process::{Client, until};

fn get(client: &Client, call: &str) -> Value {
    client.get(&format!("/openqq/{call}")).json()
}

/// The parameters of the last call of `action`.
fn last(server: &Implementation, action: &str) -> Value {
    server.calls(action).pop().unwrap()
}

fn words(text: &str) -> Value {
    json!({ "type": "text", "data": { "text": text } })
}

#[test]
fn own_account_is_shown() {
    for manner in Manner::ALL {
        let server = Server::new(manner);
        let client = running(&server, &[]);
        let user = get(&client, "get_user_info");
        for (key, value) in [
            ("id", "10000"),
            ("uid", "10000"),
            ("name", "机器人"),
            ("account", "小明 & co"),
            ("state", "online"),
            ("client_type", "web"),
            ("sex", if manner != Manner::Sloppy { "male" } else { "unknown" }),
            ("phone", ""),
        ] {
            assert_eq!(user[key], value, "{key}");
        }
        assert_eq!(get(&client, "get_discuss_info"), json!([]));
        assert_eq!(get(&client, "get_client_info")["code"], 0);
        assert_eq!(client.get("/openqq/nothing").status, 403);
    }
}

#[test]
fn friends_are_listed() {
    for manner in Manner::ALL {
        let server = Server::new(manner);
        let client = running(&server, &[]);
        let friends = get(&client, "get_friend_info");
        let category = if manner != Manner::Sloppy { "同学" } else { "我的好友" };
        assert_eq!(
            friends,
            json!([
                {
                    "id": "7", "uid": "7", "name": "小红", "markname": "红红", "displayname": "红红",
                    "category": "我的好友", "state": "offline", "client_type": "unknown",
                    "face": 0, "flag": 0, "is_vip": 0, "vip_level": 0,
                },
                {
                    "id": "8", "uid": "8", "name": "李雷", "markname": null, "displayname": "李雷",
                    "category": category, "state": "offline", "client_type": "unknown",
                    "face": 0, "flag": 0, "is_vip": 0, "vip_level": 0,
                },
            ])
        );
        let asked = server.calls("get_friend_list").len();
        assert_eq!(get(&client, "search_friend?uid=8"), json!([friends[1]]));
        assert_eq!(
            get(&client, "search_friend?uid=99"),
            json!({ "code": 100, "status": "object not found" })
        );
        assert_eq!(server.calls("get_friend_list").len(), asked, "it is known already");
    }
}

#[test]
fn groups_are_listed() {
    for manner in Manner::ALL {
        let server = Server::new(manner);
        let client = running(&server, &[]);
        until("the own roles", || {
            let groups = get(&client, "get_group_basic_info");
            (groups[0]["role"] == "manage" && groups[1]["role"] == "attend").then_some(())
        });
        assert!(
            server.calls("get_group_member_list").is_empty(),
            "members are asked for when somebody wants them"
        );
        let basic = get(&client, "get_group_basic_info");
        assert!(basic[0].get("member").is_none());
        let groups = get(&client, "get_group_info");
        let group = &groups[0];
        for (key, value) in [
            ("id", json!("5")),
            ("uid", json!("5")),
            ("code", json!("5")),
            ("name", json!("五群")),
            ("markname", json!("家")),
            ("displayname", json!("家")),
            ("role", json!("manage")),
            ("owner_uid", json!("9")),
            ("owner_id", json!("9")),
            ("max_member", json!(200)),
        ] {
            assert_eq!(group[key], value, "{key}");
        }
        assert_eq!(groups[1]["member"].as_array().unwrap().len(), 2);
        let strict = manner != Manner::Sloppy;
        assert_eq!(
            group["member"][0],
            json!({
                "id": "7", "uid": "7", "name": "小红", "card": "红", "displayname": "红", "role": "member",
                "sex": if strict { "female" } else { "unknown" }, "state": "offline", "client_type": "unknown",
                "country": "", "province": "", "city": "", "qage": 0,
                "join_time": if strict { 1_500_000_000 } else { 0 }, "last_speak_time": 1_600_000_000,
                "level": 3, "bad_record": 0,
            })
        );
        assert_eq!(group["member"][1]["card"], json!(null));
        assert_eq!(server.calls("get_group_member_list").len(), 2);
        get(&client, "get_group_info");
        assert_eq!(server.calls("get_group_member_list").len(), 2, "they are known now");
        server.members().get_mut(&5).unwrap().pop();
        let found = get(&client, "search_group?name=五群");
        assert_eq!(found[0]["member"].as_array().unwrap().len(), 4, "a search looks anew");
        assert_eq!(get(&client, "search_group?uid=99"), json!({ "code": 100, "status": "object not found" }));
        let wrapped = client.get("/openqq/get_group_info?datatype=jsonp&callback=f").body;
        assert!(wrapped.starts_with("f([{") && wrapped.ends_with("}])"), "{wrapped}");
    }
}

/// NapCat tells a remark, LLBot when a group was made and by whom, its memo, and how old an account is. Milky has all but the
/// owner, who is found among the members, the age and the bad record.
#[test]
fn optional_fields_are_shown() {
    for manner in Manner::ALL {
        let server = Server::new(manner);
        server.groups().push(json!({
            "group_id": 8, "group_name": "八群", "group_remark": "八群", "group_memo": "公告", "group_create_time": 1_400_000_000,
            "owner_id": 9, "max_member_count": 3000,
        }));
        let member = json!({
            "group_id": 8, "user_id": 9, "nickname": "群主", "role": "owner", "unfriendly": true, "qage": 12, "level": "7",
        });
        server.members().insert(8, vec![member]);
        let client = running(&server, &[]);
        let basic = get(&client, "get_group_basic_info")[2].clone();
        let found = get(&client, "search_group?uid=8")[0].clone();
        for group in [&basic, &found] {
            for (key, value) in [
                ("memo", json!("公告")),
                ("createtime", json!(1_400_000_000)),
                ("max_member", json!(3000)),
                ("markname", json!(null)),
                ("displayname", json!("八群")),
            ] {
                assert_eq!(group[key], value, "{key}");
            }
        }
        assert_eq!(found["member"][0]["level"], 7);
        if manner != Manner::Milky {
            assert_eq!((&basic["owner_uid"], &found["owner_uid"]), (&json!("9"), &json!("9")));
            assert_eq!(
                (&found["member"][0]["bad_record"], &found["member"][0]["qage"]),
                (&json!(1), &json!(12))
            );
        }
    }
}

#[test]
fn discussions_are_empty() {
    for manner in Manner::ALL {
        let server = Server::new(manner);
        let mut client = running(&server, &[]);
        let info = get(&client, "get_client_info");
        assert_eq!((&info["code"], &info["account"]), (&json!(0), &json!("小明 & co")));
        let stopped = get(&client, "stop_client");
        assert_eq!(stopped["status"], format!("success, client({}) will stop in 3 seconds", client.pid()));
        assert_eq!(client.until_exit().code(), Some(193));
        assert_eq!(client.setup.report().unwrap().state.as_str(), "stop");
    }
}

#[test]
fn messages_are_sent() {
    for manner in Manner::ALL {
        let server = Server::new(manner);
        let client = running(&server, &[]);
        let sent = |reply: Value| {
            assert_eq!(
                (&reply["code"], &reply["status"], &reply["info"]),
                (&json!(0), &json!("发送成功"), &json!("发送正常")),
                "{reply}"
            );
            reply["id"].as_str().unwrap().parse::<u64>().unwrap()
        };
        let content = "[CQ:at,qq=all]%26amp;[微笑]";
        let parts = json!([words("[CQ:at,qq=all]&amp;"), { "type": "face", "data": { "id": "14" } }]);
        let first = sent(get(&client, &format!("send_friend_message?uid=7&content={content}")));
        assert_eq!(
            last(&server, "send_private_msg"),
            json!({ "user_id": 7, "message": parts, "auto_escape": false })
        );
        let second = sent(get(&client, "send_group_message?name=五群&content=a"));
        assert!(second > first, "our own numbers, whatever the implementation's are");
        assert_eq!(
            last(&server, "send_group_msg"),
            json!({ "group_id": 5, "message": [words("a")], "auto_escape": false })
        );
        let to_member = get(&client, "send_sess_message?group_uid=5&uid=12&content=b");
        if manner == Manner::Milky {
            let why = "Milky has no call that sends to a member of a group who is no friend";
            let refused = json!({ "id": null, "code": 103, "status": "group member not found", "info": why });
            assert_eq!(to_member, refused);
        } else {
            sent(to_member);
            assert_eq!(
                last(&server, "send_private_msg"),
                json!({ "user_id": 12, "group_id": 5, "message": [words("b")], "auto_escape": false })
            );
        }
        let queued = get(&client, "send_friend_message?displayname=红红&content=c&async=1");
        assert_eq!((&queued["code"], &queued["status"]), (&json!(0), &json!("request already in execution")));
        until("the queued message", || {
            (last(&server, "send_private_msg")["message"] == json!([words("c")])).then_some(())
        });
        for (call, code, status) in [
            ("send_friend_message?uid=99&content=x", 100, "friend not found"),
            ("send_group_message?uid=99&content=x", 101, "group not found"),
            ("send_discuss_message?id=5&content=x", 102, "discuss not found"),
            ("send_sess_message?group_uid=5&uid=99&content=x", 103, "group member not found"),
            ("send_sess_message?group_uid=99&uid=7&content=x", 103, "group member not found"),
            ("send_sess_message?discuss_id=5&uid=7&content=x", 104, "discuss member not found"),
            ("send_sess_message?uid=7&content=x", 105, "discuss member or group member  not found"),
        ] {
            let reply = get(&client, call);
            if manner == Manner::Milky && call.starts_with("send_sess") {
                assert_eq!(reply["code"], 103, "{call}");
            } else {
                assert_eq!(reply, json!({ "id": null, "code": code, "status": status }), "{call}");
            }
        }
    }
}

#[test]
fn send_outcomes_are_answered() {
    let server = Server::new(Manner::Strict);
    let client = running(&server, &[]);
    let send = |client: &Client| get(client, "send_friend_message?uid=7&content=x");
    server.answer("send_private_msg", |_| Some(json!({ "status": "async", "retcode": 1, "data": null })));
    let accepted = send(&client);
    assert_eq!((&accepted["code"], &accepted["info"]), (&json!(0), &json!("忽略返回值: 1")));
    let failure =
        |code: i64, info: &str| json!({ "id": null, "code": code, "status": "发送失败", "info": info });
    server.answer("send_private_msg", |_| Some(failed(1200)));
    assert_eq!(send(&client), failure(-5, "未识别返回值:1200"));
    server.answer("send_private_msg", |_| Some(json!({ "what": "is this" })));
    assert_eq!(send(&client), failure(-1, "数据格式错误"));
    let hasty = running(&server, &[("ONEBOT_TIMEOUT", "0.5")]);
    server.answer("send_private_msg", |_| None);
    let asked = || server.calls("send_private_msg").len();
    let before = asked();
    assert_eq!(send(&hasty), failure(-1, "数据格式错误"));
    // It may have gone out, so it goes out once.
    until("the call, once and not again", || (asked() == before + 1).then_some(()));
}

#[test]
fn members_are_muted() {
    for manner in Manner::ALL {
        let server = Server::new(manner);
        let client = running(&server, &[]);
        let mute = |params: &str| get(&client, &format!("shutup_group_member?{params}"));
        assert_eq!(mute("group_uid=5&member_uid=7,12&time=2"), json!({ "code": 0, "status": "success" }));
        assert_eq!(
            server.calls("set_group_ban"),
            [
                json!({ "group_id": 5, "user_id": 7, "duration": 120 }),
                json!({ "group_id": 5, "user_id": 12, "duration": 120 }),
            ]
        );
        for (params, code, status) in [
            ("group_uid=99&member_uid=7&time=1", 100, "object not found"),
            ("group_uid=5&member_uid=7", 400, "shutup time missing or error"),
            ("group_uid=5&member_uid=7&time=x", 400, "shutup time missing or error"),
            ("group_uid=5&member_uid=7&time=", 400, "shutup time missing or error"),
            ("group_uid=5", 400, "shutup time missing or error"),
            ("group_uid=5&member_uid=7&time=43201", 201, "failure"),
            ("group_uid=5&member_uid=7&time=99999999999999999999999", 201, "failure"),
            ("group_uid=5&member_uid=99&time=0", 100, "member 99 not found"),
            ("group_uid=5&time=1", 200, "member id empty"),
            ("group_uid=5&member_uid=99&time=1", 100, "member 99 not found"),
            ("group_uid=5&member_uid=9&time=1", 201, "failure"),
            ("group_uid=5&member_uid=11&time=1", 201, "failure"),
            ("group_uid=6&member_uid=7&time=1", 201, "failure"),
        ] {
            let reply = mute(params);
            assert_eq!((&reply["code"], &reply["status"]), (&json!(code), &json!(status)), "{params}");
        }
        assert_eq!(server.calls("set_group_ban").len(), 2, "what cannot be is not tried");
        assert_eq!(mute("group_uid=5&member_uid=7&time=0"), json!({ "code": 0, "status": "success" }));
        let unmuted = json!({ "group_id": 5, "user_id": 7, "duration": 0 });
        assert_eq!(last(&server, "set_group_ban"), unmuted, "0 lets them speak again");
        server.answer("set_group_ban", |_| Some(failed(1200)));
        assert_eq!(mute("group_uid=5&member_uid=7&time=1")["code"], 201);
    }
}

#[test]
fn members_are_kicked() {
    for manner in Manner::ALL {
        let server = Server::new(manner);
        let client = running(&server, &[]);
        let kick = |params: &str| get(&client, &format!("kick_group_member?{params}"));
        assert_eq!(kick("group_id=5&member_id=7"), json!({ "code": 0, "status": "success" }));
        assert_eq!(
            server.calls("set_group_kick"),
            [json!({ "group_id": 5, "user_id": 7, "reject_add_request": false })]
        );
        for (params, code) in [
            ("group_id=99&member_id=7", 100),
            ("group_id=5&member_id=99", 100),
            ("group_id=5", 200),
            ("group_id=5&member_id=9", 201),
            ("group_id=6&member_id=7", 201),
        ] {
            assert_eq!(kick(params)["code"], code, "{params}");
        }
        assert_eq!(server.calls("set_group_kick").len(), 1);
        server.answer("set_group_kick", |_| Some(failed(100)));
        assert_eq!(kick("group_id=5&member_id=12")["code"], 201);
    }
}

#[test]
fn relogin_reloads_everything() {
    let server = Server::new(Manner::Strict);
    let client = running(&server, &[]);
    server.friends().push(json!({ "user_id": 20, "nickname": "新" }));
    let reply = get(&client, "relogin");
    assert!(reply["status"].as_str().unwrap().ends_with("will relogin in 3 seconds"));
    until("the new friend", || get(&client, "get_friend_info").as_array()?.get(2).cloned());
    assert_eq!(server.connected(), 2);
    // What it may do somewhere may have changed meanwhile, too.
    server.answer("get_group_member_info", |params| {
        Some(ok(json!({ "user_id": params["user_id"], "role": "owner" })))
    });
    get(&client, "relogin");
    until("the new role", || (get(&client, "get_group_basic_info")[0]["role"] == "create").then_some(()));
    server.answer("get_login_info", |_| Some(ok(json!({ "user_id": 10_000, "nickname": "改名" }))));
    server.hang_up();
    until("the new name", || (get(&client, "get_user_info")["name"] == "改名").then_some(()));
}
