use super::*;
use crate::client::onebot::wire::lists::{self, unknown_friend};

fn user(uid: u64) -> User {
    lists::user("x", &json!({ "user_id": uid, "nickname": "me" }), &json!(null)).unwrap()
}

fn roster() -> Roster {
    let mut roster = Roster::default();
    roster.be(user(1));
    let groups = vec![unknown_group(5, "g"), unknown_group(6, "h")];
    assert!(roster.take_lists(vec![unknown_friend(7, "a")], groups).is_empty());
    roster
}

fn members(list: &[(u64, &str)]) -> Vec<Member> {
    let list =
        list.iter().map(|(uid, role)| json!({ "user_id": uid, "nickname": uid.to_string(), "role": role }));
    lists::members(&json!(list.collect::<Vec<_>>()))
}

#[test]
fn lists_tell_what_is_new() {
    let mut roster = roster();
    let groups = vec![unknown_group(6, "H")];
    let events = roster.take_lists(vec![unknown_friend(8, "b")], groups);
    let told: Vec<_> = events
        .iter()
        .map(Event::to_json)
        .map(|event| {
            (
                event["event"].as_str().unwrap().to_owned(),
                event["params"][0]["uid"].as_str().unwrap().to_owned(),
            )
        })
        .collect();
    let told: Vec<_> = told.iter().map(|(event, uid)| (event.as_str(), uid.as_str())).collect();
    assert_eq!(
        told,
        [
            ("lose_friend", "7"),
            ("new_friend", "8"),
            ("lose_group", "5"),
            ("group_property_change", "6"),
            ("group_property_change", "6"),
        ]
    );
    assert!(roster.friend(8).is_some() && roster.friend(7).is_none() && roster.group(5).is_none());
}

#[test]
fn what_members_say_about_the_group_stays_when_the_list_is_loaded_anew() {
    let mut roster = roster();
    assert_eq!(roster.without_role().len(), 2);
    roster.take_members(5, members(&[(1, "admin"), (7, "owner")]));
    let group = roster.with_members(5).unwrap();
    assert_eq!((group.role, group.owner_uid.as_str(), group.member.len()), ("manage", "7", 2));
    let groups = vec![unknown_group(5, "g"), unknown_group(6, "h")];
    assert!(roster.take_lists(vec![unknown_friend(7, "a")], groups).is_empty());
    assert_eq!((roster.group(5).unwrap().role, roster.without_role()), ("manage", vec![6]));
    // The next login: it may have changed meanwhile, and is what it was until that is known.
    roster.forget_members();
    assert_eq!((roster.group(5).unwrap().role, roster.without_role().len()), ("manage", 2));
    roster.take_own_role(5, Role::Member);
    assert_eq!((roster.group(5).unwrap().role, roster.without_role()), ("attend", vec![6]));
    // Another account logs in there: it has nothing of the first.
    roster.be(user(2));
    assert!(roster.group(5).is_none() && roster.friends().is_empty() && roster.without_role().is_empty());
}

#[test]
fn members_that_nobody_asks_for_are_forgotten_first() {
    let mut roster = roster();
    roster.most_members = Some(3);
    roster.take_members(5, members(&[(1, "member"), (7, "owner")]));
    roster.take_members(6, members(&[(1, "member")]));
    assert!(roster.with_members(5).is_some());
    roster.take_members(6, members(&[(1, "member"), (2, "member")]));
    assert!(roster.with_members(5).is_none(), "the last is never forgotten");
    assert!(roster.with_members(6).is_some());
    roster.take_members(6, members(&[(1, ""), (2, ""), (3, ""), (4, "")]));
    assert_eq!(roster.with_members(6).unwrap().member.len(), 4);
}

#[test]
fn people_come_go_and_change() {
    let mut roster = roster();
    roster.take_members(5, members(&[(1, "admin"), (7, "owner")]));
    let came = roster.come(5, Member::unknown(9, "c")).unwrap().to_json();
    assert_eq!((&came["event"], &came["params"][0]["uid"]), (&json!("new_group_member"), &json!("9")));
    assert_eq!(came["params"][1]["uid"], "5");
    let member = roster.member(5, 9).unwrap().clone();
    let card = roster.rename(5, member, "", "C").to_json();
    assert_eq!(card["params"].as_array().unwrap()[1..], [json!("card"), json!(null), json!("C")]);
    assert_eq!(roster.name_of(Some(5), 9).as_deref(), Some("C"));
    let member = roster.member(5, 9).unwrap().clone();
    let role = roster.appoint(5, member, true).to_json();
    assert_eq!(role["params"].as_array().unwrap()[1..], [json!("role"), json!("member"), json!("admin")]);
    let me = roster.member(5, 1).unwrap().clone();
    roster.appoint(5, me, false);
    assert_eq!((roster.own_role(5), roster.group(5).unwrap().role), (Some(Role::Member), "attend"));
    let gone = roster.go(5, 9).unwrap().to_json();
    assert_eq!((&gone["event"], &gone["params"][0]["card"]), (&json!("lose_group_member"), &json!("C")));
    assert!(roster.member(5, 9).is_none());
    assert!(roster.go(99, 9).is_none() && roster.come(99, Member::unknown(9, "c")).is_none());
    let named = roster.name_group(5, "G").unwrap().to_json();
    assert_eq!(named["params"].as_array().unwrap()[1..], [json!("name"), json!("g"), json!("G")]);
    assert!(roster.name_group(5, "G").is_none());
    assert_eq!(roster.leave(5).unwrap().to_json()["event"], "lose_group");
    assert!(roster.leave(5).is_none() && roster.group(6).is_some());
    assert_eq!(roster.enter(10).to_json()["event"], "new_group");
    assert_eq!(roster.befriend(unknown_friend(11, "d")).to_json()["event"], "new_friend");
    assert!(roster.friend(11).is_some() && roster.group(10).is_some());
}
