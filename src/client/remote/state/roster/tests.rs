use super::*;
use crate::client::remote::lists::{self, unknown_friend};

fn user(uid: u64) -> User {
    lists::user("x", uid, &json!({ "nickname": "me" }), &json!(null))
}

fn roster() -> Roster {
    let mut roster = Roster::default();
    roster.set_user(user(1));
    let groups = vec![unknown_group(5, "g"), unknown_group(6, "h")];
    assert!(roster.update_lists(vec![unknown_friend(7, "a")], groups).is_empty());
    roster
}

fn members(list: &[(u64, &str)]) -> Vec<Member> {
    let list =
        list.iter().map(|(uid, role)| json!({ "user_id": uid, "nickname": uid.to_string(), "role": role }));
    lists::members(&json!(list.collect::<Vec<_>>()))
}

#[test]
fn new_lists_yield_events_for_differences() {
    let mut roster = roster();
    let groups = vec![unknown_group(6, "H")];
    let events = roster.update_lists(vec![unknown_friend(8, "b")], groups);
    let told: Vec<_> = events
        .iter()
        .map(AccountEvent::to_json)
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
fn own_role_and_owner_survive_a_reload_of_the_lists() {
    let mut roster = roster();
    assert_eq!(roster.groups_without_role().len(), 2);
    roster.update_members(5, members(&[(1, "admin"), (7, "owner")]));
    let group = roster.with_members(5).unwrap();
    assert_eq!((group.role, group.owner_uid.as_str(), group.member.len()), ("manage", "7", 2));
    let groups = vec![unknown_group(5, "g"), unknown_group(6, "h")];
    assert!(roster.update_lists(vec![unknown_friend(7, "a")], groups).is_empty());
    assert_eq!((roster.group(5).unwrap().role, roster.groups_without_role()), ("manage", vec![6]));
    // The next login: it may have changed meanwhile, and is what it was until that is known.
    roster.invalidate_members();
    assert_eq!((roster.group(5).unwrap().role, roster.groups_with_stale_role().len()), ("manage", 2));
    roster.set_own_role(5, GroupRole::Member);
    assert_eq!((roster.group(5).unwrap().role, roster.groups_without_role()), ("attend", vec![6]));
    // Another account logs in there: it has nothing of the first.
    roster.set_user(user(2));
    assert!(
        roster.group(5).is_none() && roster.friends().is_empty() && roster.groups_without_role().is_empty()
    );
}

#[test]
fn least_recently_used_members_are_evicted_first() {
    let mut roster = roster();
    roster.most_members = Some(3);
    roster.update_members(5, members(&[(1, "member"), (7, "owner")]));
    roster.update_members(6, members(&[(1, "member")]));
    assert!(roster.with_members(5).is_some());
    roster.update_members(6, members(&[(1, "member"), (2, "member")]));
    assert!(roster.with_members(5).is_none(), "the last is never forgotten");
    assert!(roster.with_members(6).is_some());
    roster.update_members(6, members(&[(1, ""), (2, ""), (3, ""), (4, "")]));
    assert_eq!(roster.with_members(6).unwrap().member.len(), 4);
}

#[test]
fn roster_changes_yield_events() {
    let mut roster = roster();
    roster.update_members(5, members(&[(1, "admin"), (7, "owner")]));
    let came = roster.add_member(5, Member::unknown(9, "c")).unwrap().to_json();
    assert_eq!((&came["event"], &came["params"][0]["uid"]), (&json!("new_group_member"), &json!("9")));
    assert_eq!(came["params"][1]["uid"], "5");
    let member = roster.member(5, 9).unwrap().clone();
    let card = roster.set_card(5, member, "", "C").to_json();
    assert_eq!(card["params"].as_array().unwrap()[1..], [json!("card"), json!(null), json!("C")]);
    assert_eq!(roster.name_of(Some(5), 9).as_deref(), Some("C"));
    let member = roster.member(5, 9).unwrap().clone();
    let role = roster.set_admin(5, member, true).to_json();
    assert_eq!(role["params"].as_array().unwrap()[1..], [json!("role"), json!("member"), json!("admin")]);
    let me = roster.member(5, 1).unwrap().clone();
    roster.set_admin(5, me, false);
    assert_eq!((roster.own_role(5), roster.group(5).unwrap().role), (Some(GroupRole::Member), "attend"));
    let gone = roster.remove_member(5, 9).unwrap().to_json();
    assert_eq!((&gone["event"], &gone["params"][0]["card"]), (&json!("lose_group_member"), &json!("C")));
    assert!(roster.member(5, 9).is_none());
    assert!(
        roster.remove_member(99, 9).is_none() && roster.add_member(99, Member::unknown(9, "c")).is_none()
    );
    let named = roster.rename_group(5, "G").unwrap().to_json();
    assert_eq!(named["params"].as_array().unwrap()[1..], [json!("name"), json!("g"), json!("G")]);
    assert!(roster.rename_group(5, "G").is_none());
    assert_eq!(roster.remove_group(5).unwrap().to_json()["event"], "lose_group");
    assert!(roster.remove_group(5).is_none() && roster.group(6).is_some());
    assert_eq!(roster.add_group(10).to_json()["event"], "new_group");
    assert_eq!(roster.add_friend(unknown_friend(11, "d")).to_json()["event"], "new_friend");
    assert!(roster.friend(11).is_some() && roster.group(10).is_some());
}
