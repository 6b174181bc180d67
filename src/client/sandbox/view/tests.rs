use serde_json::json;

use super::changes::{Change, GroupChange};
use super::*;
use crate::client::backend::message::Recipient;
use crate::client::backend::segment::Segment;

fn name(account: &str) -> ClientName {
    ClientName::new(account).unwrap()
}

fn view(account: &str) -> View {
    View::new(SandboxWorld::read(None).unwrap(), &name(account), 0)
}

/// Sends a text, with the ids 1 and 2.
fn send(view: &mut View, to: &Recipient, text: &str, now: u64) -> Result<Delivery, BackendError> {
    let to = view.resolve(to)?;
    view.route(to, vec![Segment::text(text)], ["1".into(), "2".into()], now)
}

/// Somebody does something in a group.
fn act(
    view: &mut View,
    by: &str,
    group: &str,
    change: GroupChange,
    now: u64,
) -> Result<Outcome, BackendError> {
    let what = Change::Group { group: group.into(), change };
    view.apply(&WorldChange { by: by.into(), what }, now)
}

fn names(events: &[AccountEvent]) -> Vec<&'static str> {
    events.iter().map(AccountEvent::name).collect()
}

#[test]
fn guest_joins_and_leaves() {
    let mut view = view("小红");
    let events = view.peer_arrived(&name("小刚"));
    let new = ["new_friend", "new_group_member", "new_group_member", "new_discuss_member"];
    assert_eq!(names(&events), new);
    let uid = view.uid_of(&name("小刚"));
    let events = view.peer_left(&uid);
    assert!(names(&events).contains(&"friend_property_change"), "{events:?}");
    let friend = view.snapshot().friends.into_iter().find(|friend| friend.uid == uid).unwrap();
    assert_eq!(friend.state, Presence::Offline);
    let sent = send(&mut view, &Recipient::Friend(friend.id), "x", 1);
    assert!(matches!(sent, Err(BackendError::Refused(_))));
}

#[test]
fn moderation_requires_a_higher_role() {
    let (mut mine, group) = (view("小红"), "305432198");
    let kick = |member: &str| GroupChange::Kick { member: member.into() };
    let mute = |member: &str, until| GroupChange::Mute { member: member.into(), until };
    assert_eq!(act(&mut mine, "10001", group, kick("10003"), 1), Err(BackendError::NotAllowed));
    assert_eq!(act(&mut mine, "10002", group, kick("10001"), 1), Err(BackendError::NotAllowed));
    assert_eq!(act(&mut mine, "10003", group, kick("77"), 1), Err(BackendError::Gone));
    let told = act(&mut mine, "10003", group, mute("10001", 100), 40).unwrap();
    assert_eq!((told.events.len(), &told.notices[0]["duration"]), (0, &json!(60)));
    let id = mine.snapshot().groups.iter().find(|own| own.uid == group).unwrap().id.clone();
    let muted = send(&mut mine, &Recipient::Group(id.clone()), "x", 60).err();
    assert_eq!(muted, Some(BackendError::Muted(40)));
    assert!(send(&mut mine, &Recipient::Group(id), "x", 100).is_ok());
    let told = act(&mut mine, "10001", group, kick("10002"), 1).unwrap();
    assert_eq!(
        (names(&told.events), &told.notices[0]["sub_type"]),
        (vec!["lose_group_member"], &json!("kick"))
    );
    let told = act(&mut mine, "10003", group, kick("10001"), 1).unwrap();
    assert_eq!((names(&told.events), &told.notices[0]["sub_type"]), (vec!["lose_group"], &json!("kick_me")));
}

#[test]
fn own_moderation_is_remembered_once() {
    // The owner.
    let mut mine = view("10003");
    let mut mute = |by: &str, member: &str, until| {
        act(&mut mine, by, "305432198", GroupChange::Mute { member: member.into(), until }, 0).unwrap();
        mine.own_changes().iter().filter_map(ModerationAction::of).collect::<Vec<_>>()
    };
    for until in 1..=3 {
        mute("10003", "10001", until);
        mute("10003", "10002", until);
    }
    let known = mute("10003", "10001", 4);
    let last = |ruling: &ModerationAction| (ruling.member.clone(), ruling.muted_until);
    let expected = [("10002".to_owned(), Some(3)), ("10001".to_owned(), Some(4))];
    assert_eq!(known.iter().map(last).collect::<Vec<_>>(), expected);
    assert_eq!(mute("10001", "10002", 9), known, "others tell their own");
    assert_eq!(known[0].clone().into_change(), mine.own_changes()[0], "earlier versions are told the same");
}

#[test]
fn guests_are_bounded() {
    let mut mine = view("小红");
    mine.peer_arrived(&name("first"));
    for number in 1..MAX_GUESTS {
        // Inserted directly: through the API each would cause millions of events.
        let guest = mine.world.person(&name(&format!("guest {number}")));
        mine.clients.insert(guest.uid.clone(), false);
        mine.guests.insert(guest.uid.clone(), guest);
    }
    for last in ["second", "third"] {
        let events = mine.peer_arrived(&name(last));
        assert!(names(&events).contains(&"lose_friend"), "{:?}", names(&events));
    }
    assert_eq!(mine.guests.len(), MAX_GUESTS);
    assert!(mine.clients.len() <= MAX_GUESTS + 1);
    for there in ["first", "second", "third"] {
        assert!(mine.guests.contains_key(&mine.uid_of(&name(there))), "{there}");
    }
}

#[test]
fn guest_that_joins_the_world_is_there_once() {
    let mut mine = view("小红");
    mine.peer_arrived(&name("小刚"));
    let uid = mine.uid_of(&name("小刚"));
    let mut world = SandboxWorld::read(None).unwrap();
    world.people.push(Person { uid: uid.clone(), name: "小刚".into(), ..Person::default() });
    mine.replace_world(world);
    assert_eq!(mine.snapshot().friends.iter().filter(|friend| friend.uid == uid).count(), 1);
}

#[test]
fn messages_of_peers_are_checked() {
    let mut mine = view("小红");
    let group = |uid: &str| SandboxChat::Group(uid.into());
    let mut hear_by = |from: &str, place, by: Option<&str>| {
        let (by, segments) = (by.map(str::to_owned), vec![Segment::text("x")]);
        mine.receive(from, PeerMessage { place, by, number: 5, segments }, "1".into(), 1)
    };
    let mut hear = |from: &str, place| hear_by(from, place, None);
    assert_eq!(hear("10002", group("498880156")).unwrap().sender.displayname, "北京-李雷");
    assert_eq!(hear("10004", group("498880156")), Err(BackendError::NotAllowed));
    assert_eq!(hear("10002", group("1")), Err(BackendError::Gone));
    assert_eq!(hear("99", SandboxChat::Friend), Err(BackendError::NotAllowed));
    // In the name of a person without a client.
    assert_eq!(hear_by("99", group("498880156"), Some("10003")).unwrap().sender.uid, "10003");
    assert_eq!(hear_by("99", SandboxChat::Friend, Some("10003")), Err(BackendError::NotAllowed));
    assert_eq!(hear_by("99", group("498880156"), Some("10001")), Err(BackendError::NotAllowed), "myself");
    mine.peer_arrived(&name("10003"));
    let said = PeerMessage {
        place: group("498880156"),
        by: Some("10003".into()),
        number: 6,
        segments: vec![Segment::text("x")],
    };
    assert_eq!(
        mine.receive("99", said, "1".into(), 1),
        Err(BackendError::NotAllowed),
        "it speaks for itself"
    );
}

#[test]
fn changed_world_yields_events() {
    let mut mine = view("小红");
    let mut world = SandboxWorld::read(None).unwrap();
    world.people[0].signature = "改了".into();
    world.people[3].name = "老王".into();
    world.people.push(Person { uid: "10009".into(), name: "新人".into(), ..Person::default() });
    world.groups[0].name = "Rust学习交流".into();
    world.groups.remove(2);
    world.discusses.remove(0);
    world.discusses[0].members.push("10002".into());
    let events = mine.replace_world(world);
    let told = names(&events);
    for name in [
        "user_property_change",
        "friend_property_change",
        "new_friend",
        "group_property_change",
        "lose_group",
        "lose_discuss",
        "new_discuss_member",
    ] {
        assert!(told.contains(&name), "{name}: {told:?}");
    }
}

#[test]
fn changes_of_a_group_follow_the_roles() {
    // An admin of the first group, a member of the second; 10003 owns the first, 10006 the second.
    let (first, second) = ("305432198", "498880156");
    let mut mine = view("小红");
    let text = |text: &str| text.to_owned();
    let member = || text("10002");
    for (by, group, change, allowed) in [
        ("10001", first, GroupChange::MuteAll { on: true }, true),
        ("10002", first, GroupChange::MuteAll { on: false }, false),
        ("10001", first, GroupChange::Admin { member: member(), on: true }, false),
        ("10003", first, GroupChange::Admin { member: member(), on: true }, true),
        ("10003", first, GroupChange::Admin { member: text("10003"), on: false }, false),
        ("10001", first, GroupChange::Card { member: text("10001"), card: text("红") }, true),
        ("10001", first, GroupChange::Card { member: member(), card: text("x") }, false),
        ("10003", first, GroupChange::Card { member: member(), card: text("雷") }, true),
        ("10001", first, GroupChange::Title { member: text("10001"), title: text("t") }, false),
        ("10003", first, GroupChange::Title { member: text("10001"), title: text("t") }, true),
        ("10001", second, GroupChange::Name { name: text("n") }, false),
        ("10006", second, GroupChange::Name { name: text("n") }, true),
        ("10006", second, GroupChange::Name { name: "n".repeat(61) }, false),
        ("10006", second, GroupChange::Leave, false),
        ("10001", second, GroupChange::Dismiss, false),
        ("10001", second, GroupChange::Leave, true),
        ("10003", first, GroupChange::Dismiss, true),
    ] {
        let done = act(&mut mine, by, group, change.clone(), 5);
        assert_eq!(done.is_ok(), allowed, "{by} {change:?} {done:?}");
        if let Ok(done) = done {
            assert_eq!(done.notices.len(), 1, "{change:?}");
        }
    }
    assert!(mine.snapshot().groups.iter().all(|group| group.uid != first && group.uid != second));
}

#[test]
fn muted_group_hears_its_admins_only() {
    let (mut mine, group) = (view("李雷"), "305432198");
    act(&mut mine, "10001", group, GroupChange::MuteAll { on: true }, 1).unwrap();
    let place = || (SandboxChat::Group(group.into()), None);
    let ids = || ["1".to_owned(), "2".to_owned()];
    let refused = mine.route(place(), vec![Segment::text("x")], ids(), 1).unwrap_err();
    assert!(refused.to_string().contains("all members"), "{refused}");
    let said = |by: &str| PeerMessage {
        place: place().0,
        by: Some(by.into()),
        number: 1,
        segments: vec![Segment::text("x")],
    };
    assert!(mine.receive("10003", said("10003"), "1".into(), 1).is_ok());
    act(&mut mine, "10003", group, GroupChange::Admin { member: "10002".into(), on: true }, 1).unwrap();
    assert!(mine.route(place(), vec![Segment::text("x")], ids(), 1).is_ok());
}

#[test]
fn messages_are_taken_back_by_those_who_may() {
    let (mut mine, group) = (view("小红"), "305432198");
    let hear = |mine: &mut View, from: &str, number| {
        let said = PeerMessage {
            place: SandboxChat::Group(group.into()),
            by: None,
            number,
            segments: vec![Segment::text("x")],
        };
        mine.receive(from, said, "1".into(), 100).unwrap().number.unwrap()
    };
    let recall = |mine: &mut View, by: &str, author: &str, number, now| {
        let message = messages::MessageKey { author: author.into(), number };
        mine.apply(&WorldChange { by: by.into(), what: Change::Recall { message } }, now)
    };
    let here = hear(&mut mine, "10002", 7);
    assert_eq!(recall(&mut mine, "10004", "10002", 7, 101), Err(BackendError::NotAllowed));
    assert_eq!(recall(&mut mine, "10002", "10002", 8, 101), Err(BackendError::Gone));
    assert!(matches!(recall(&mut mine, "10002", "10002", 7, 221), Err(BackendError::Refused(_))), "too late");
    let told = recall(&mut mine, "10002", "10002", 7, 220).unwrap().notices;
    assert_eq!((&told[0]["message_id"], &told[0]["notice_type"]), (&json!(here), &json!("group_recall")));
    assert!(mine.messages.get(here).is_none());
    hear(&mut mine, "10002", 9);
    hear(&mut mine, "10003", 9);
    let told = recall(&mut mine, "10001", "10002", 9, 999).unwrap().notices;
    assert_eq!((&told[0]["operator_id"], &told[0]["user_id"]), (&json!(10001), &json!(10002)));
    assert_eq!(recall(&mut mine, "10001", "10003", 9, 101), Err(BackendError::NotAllowed), "the owner's");
}

#[test]
fn replies_name_their_message_to_each_client_by_its_own_number() {
    let (mut hong, mut lei) = (view("小红"), view("李雷"));
    lei.new_number();
    let place = || SandboxChat::Group("305432198".into());
    let said = hong.route((place(), None), vec![Segment::text("x")], ["1".into(), "2".into()], 1).unwrap();
    let heard = lei.receive("10001", said.wire, "1".into(), 1).unwrap();
    assert_ne!(heard.number, said.message.number);
    let reply =
        vec![Segment::new("reply", &[("id", &heard.number.unwrap().to_string())]), Segment::text("y")];
    let reply = lei.route((place(), None), reply, ["3".into(), "4".into()], 1).unwrap();
    let back = hong.receive("10002", reply.wire, "2".into(), 1).unwrap();
    assert_eq!(back.segments[0].get("id"), said.message.number.unwrap().to_string());
    let unknown = vec![Segment::new("reply", &[("id", "5")])];
    let refused = hong.route((place(), None), unknown, ["3".into(), "4".into()], 1);
    assert!(matches!(refused, Err(BackendError::Refused(_))));
}

#[test]
fn requests_are_answered_once() {
    use requests::{Granted, RequestKind};
    let mut mine = view("小红");
    let flag = |told: &Outcome| told.notices[0]["flag"].as_str().unwrap().to_owned();
    let friend = |kind: &RequestKind| matches!(kind, RequestKind::Friend);
    assert!(mine.ask(RequestKind::Friend, "10002", "", "").is_err(), "a friend already");
    let told = mine.ask(RequestKind::Friend, "20001", "新人", "hi").unwrap();
    assert_eq!(
        (&told.notices[0]["request_type"], &told.notices[0]["user_id"]),
        (&json!("friend"), &json!(20001))
    );
    assert!(mine.answer_request(&flag(&told), |kind| !friend(kind), true, "").is_err(), "of another kind");
    let Granted::Here(done) = mine.answer_request(&flag(&told), friend, true, "小新").unwrap() else {
        panic!()
    };
    assert_eq!(
        (names(&done.events), &done.notices[0]["notice_type"]),
        (vec!["new_friend"], &json!("friend_add"))
    );
    let new = mine.snapshot().friends.into_iter().find(|friend| friend.uid == "20001").unwrap();
    assert_eq!((new.name.as_str(), new.displayname.as_str()), ("新人", "小新"));
    assert_eq!(mine.answer_request(&flag(&told), friend, true, ""), Err(BackendError::Gone));
    assert_eq!(names(&mine.unfriend("20001").unwrap().events), ["lose_friend"]);
    assert!(mine.ask(RequestKind::Friend, "20001", "", "").is_ok(), "no friend any more");

    let group = || "305432198".to_owned();
    assert!(mine.ask(RequestKind::Join(group()), "10002", "", "").is_err(), "a member already");
    assert!(mine.ask(RequestKind::Join("498880156".into()), "20001", "", "").is_err(), "I am no admin there");
    let told = mine.ask(RequestKind::Join(group()), "20001", "", "hi").unwrap();
    let Granted::ToDo(change) = mine.answer_request(&flag(&told), |_| true, true, "").unwrap() else {
        panic!()
    };
    let done = mine.apply(&change, 1).unwrap();
    assert_eq!(
        (names(&done.events), &done.notices[0]["sub_type"]),
        (vec!["new_group_member"], &json!("approve"))
    );

    let mut others = view("王师傅");
    assert!(others.ask(RequestKind::Invitation(group()), "20001", "", "").is_err(), "no member itself");
    let told = others.ask(RequestKind::Invitation(group()), "10003", "", "hi").unwrap();
    let Granted::ToDo(change) = others.answer_request(&flag(&told), |_| true, true, "").unwrap() else {
        panic!()
    };
    assert_eq!(names(&others.apply(&change, 1).unwrap().events), ["new_group"]);
    // The other clients take it as well.
    assert_eq!(names(&mine.apply(&change, 1).unwrap().events), ["new_group_member"]);

    for n in 0..300 {
        mine.ask(RequestKind::Friend, &format!("3{n:05}"), "", "").unwrap();
    }
    assert_eq!(mine.requests().len(), 200);
}
