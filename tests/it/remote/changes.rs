//! Friends, members and groups that come, go and change, and what is reported of it: with a strict and with a sloppy
//! implementation.

use serde_json::{Value, json};

use super::events::{notice, reporting, silent};
use super::implementation::{Manner, OWN};
use super::server::Server;
use crate::client::process::until;

#[test]
fn friend_changes_are_reported() {
    for manner in Manner::OF_ONEBOT {
        let (server, receiver) = (Server::new(manner), silent());
        let client = reporting(&server, &receiver, &[]);
        server.tell(notice("friend_add", json!({ "user_id": 21, "group_id": null })));
        let report = receiver.next().json;
        assert_eq!(
            (&report["event"], &report["params"][0]["name"]),
            (&json!("new_friend"), &json!("陌生21"))
        );
        drop(client);
        let client = reporting(&server, &receiver, &[("ONEBOT_REFRESH", "0.1")]);
        server.friends().push(json!({ "user_id": 22, "nickname": "新友" }));
        let report = receiver.next().json;
        assert_eq!((&report["event"], &report["params"][0]["uid"]), (&json!("new_friend"), &json!("22")));
        server.friends().remove(0);
        let report = receiver.next().json;
        assert_eq!((&report["event"], &report["params"][0]["uid"]), (&json!("lose_friend"), &json!("7")));
        drop(client);
    }
}

#[test]
fn group_found_by_the_list_has_the_own_role() {
    for manner in Manner::NETWORKS {
        let (server, receiver) = (Server::new(manner), silent());
        let client = reporting(&server, &receiver, &[("REMOTE_REFRESH", "0.1")]);
        let member = json!({ "group_id": 9, "user_id": OWN, "nickname": "机器人", "role": "owner" });
        server.members().insert(9, vec![member]);
        server.groups().push(json!({ "group_id": 9, "group_name": "九群" }));
        assert_eq!(receiver.next().json["event"], "new_group");
        until("the own role", || {
            (client.get("/openqq/get_group_basic_info").json()[2]["role"] == "create").then_some(())
        });
    }
}

#[test]
fn member_changes_are_reported() {
    for manner in Manner::OF_ONEBOT {
        let (server, receiver) = (Server::new(manner), silent());
        let client = reporting(&server, &receiver, &[]);
        let report = || {
            let report = receiver.next().json;
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            (text(&report["event"]), text(&report["params"][0]["uid"]), text(&report["params"][1]["uid"]))
        };
        let expected =
            |event: &str, member: &str, group: &str| (event.to_owned(), member.to_owned(), group.to_owned());
        client.get("/openqq/get_group_info");
        server
            .members()
            .get_mut(&5)
            .unwrap()
            .push(json!({ "user_id": 30, "nickname": "新人", "role": "member" }));
        server.tell(notice("group_increase", json!({ "user_id": 30, "sub_type": "approve" })));
        assert_eq!(report(), expected("new_group_member", "30", "5"));
        let found = client.get("/openqq/send_sess_message?group_uid=5&uid=30&content=x").json();
        assert_eq!(found["code"], 0, "{found}");
        receiver.next_message();
        for sub_type in ["leave", "kick"] {
            server.tell(notice("group_decrease", json!({ "user_id": 30, "sub_type": sub_type })));
            assert_eq!(report(), expected("lose_group_member", "30", "5"));
        }
        server.tell(notice("group_decrease", json!({ "user_id": OWN, "sub_type": "kick_me" })));
        assert_eq!(report(), expected("lose_group", "5", ""));
        server.tell(notice("group_dismiss", json!({ "group_id": 6 })));
        assert_eq!(report(), expected("lose_group", "6", ""));
        server.groups().push(json!({ "group_id": 40, "group_name": "新群" }));
        server.tell(notice("group_increase", json!({ "group_id": 40, "user_id": OWN })));
        let events = [report(), report(), report()];
        // Those that the implementation lists are there after all.
        assert!(events.contains(&expected("new_group", "40", "")), "{events:?}");
        assert!(events.contains(&expected("new_group", "5", "")), "{events:?}");
        // The group is not known yet.
        server.groups().push(json!({ "group_id": 41, "group_name": "又群" }));
        let left = json!({ "group_id": 41, "user_id": 30, "sub_type": "leave" });
        server.tell(notice("group_decrease", left));
        assert_eq!(report(), expected("new_group", "41", ""));
        assert_eq!(report(), expected("lose_group_member", "30", "41"));
    }
}

#[test]
fn lost_groups_are_reported() {
    for manner in Manner::OF_ONEBOT {
        let (server, receiver) = (Server::new(manner), silent());
        let ways = [
            notice("group_decrease", json!({ "sub_type": "kick_me", "user_id": OWN })),
            notice("group_decrease", json!({ "sub_type": "leave", "user_id": OWN })),
            notice("group_decrease", json!({ "sub_type": "kick", "user_id": OWN })),
            notice("group_decrease", json!({ "sub_type": "disband" })),
            notice("group_dismiss", json!({})),
        ];
        let numbers = 50..50 + ways.len() as u64;
        server.groups().extend(numbers.clone().map(|n| json!({ "group_id": n, "group_name": "群" })));
        let client = reporting(&server, &receiver, &[]);
        for (mut way, group) in ways.into_iter().zip(numbers) {
            way["group_id"] = json!(group);
            server.tell(way);
            let report = receiver.next().json;
            assert_eq!(
                (&report["event"], &report["params"][0]["uid"]),
                (&json!("lose_group"), &json!(group.to_string()))
            );
        }
        let left = client.get("/openqq/get_group_basic_info").json();
        assert_eq!(left.as_array().unwrap().len(), 2, "{left}");
    }
}

#[test]
fn role_card_and_name_changes_are_reported() {
    for manner in Manner::OF_ONEBOT {
        let (server, receiver) = (Server::new(manner), silent());
        let client = reporting(&server, &receiver, &[]);
        let change = |event: &str| {
            let report = receiver.next().json;
            assert_eq!(report["event"], event, "{report}");
            let params = report["params"].as_array().unwrap();
            (params[0]["uid"].clone(), params[1..].to_vec())
        };
        let member = "group_member_property_change";
        server.tell(notice("group_admin", json!({ "sub_type": "set" })));
        assert_eq!(change(member), (json!("12"), vec![json!("role"), json!("member"), json!("admin")]));
        server.tell(notice("group_admin", json!({ "sub_type": "unset" })));
        assert_eq!(change(member), (json!("12"), vec![json!("role"), json!("admin"), json!("member")]));
        server.tell(notice("group_card", json!({ "card_new": "新", "card_old": "旧" })));
        assert_eq!(change(member), (json!("12"), vec![json!("card"), json!("旧"), json!("新")]));
        server.tell(notice("notify", json!({ "sub_type": "group_name", "name_new": "改名" })));
        let (group, changed) = change("group_property_change");
        assert_eq!((group, changed), (json!("5"), vec![json!("name"), json!("五群"), json!("改名")]));
        let named = client.get("/openqq/get_group_basic_info").json();
        assert_eq!(named[0]["name"], "改名");
    }
}
