use super::*;
use crate::client::backend::message::Recipient;

fn name(account: &str) -> ClientName {
    ClientName::new(account).unwrap()
}

fn view(account: &str) -> View {
    View::new(SandboxWorld::read(None).unwrap(), &name(account))
}

fn names(events: &[AccountEvent]) -> Vec<&'static str> {
    events.iter().map(AccountEvent::name).collect()
}

fn ids() -> [String; 2] {
    ["1".into(), "2".into()]
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
    let sent = view.route(&Recipient::Friend(friend.id), "x", ids(), 1);
    assert!(matches!(sent, Err(BackendError::Refused(_))));
}

#[test]
fn moderation_requires_a_higher_role() {
    let (mut mine, group) = (view("小红"), "305432198".to_owned());
    let ruling = |by: &str, member: &str, muted_until| ModerationAction {
        group: group.clone(),
        member: member.into(),
        by: by.into(),
        muted_until,
    };
    assert_eq!(mine.moderate(&ruling("10001", "10003", None)), Err(BackendError::NotAllowed));
    assert_eq!(mine.moderate(&ruling("10002", "10001", None)), Err(BackendError::NotAllowed));
    assert_eq!(mine.moderate(&ruling("10003", "77", None)), Err(BackendError::Gone));
    assert_eq!(mine.moderate(&ruling("10003", "10001", Some(100))), Ok(vec![]));
    let id = mine.snapshot().groups.iter().find(|own| own.uid == group).unwrap().id.clone();
    let muted = mine.route(&Recipient::Group(id.clone()), "x", ids(), 60).err();
    assert_eq!(muted, Some(BackendError::Muted(40)));
    assert!(mine.route(&Recipient::Group(id), "x", ids(), 100).is_ok());
    assert_eq!(names(&mine.moderate(&ruling("10001", "10002", None)).unwrap()), ["lose_group_member"]);
    assert_eq!(names(&mine.moderate(&ruling("10003", "10001", None)).unwrap()), ["lose_group"]);
}

#[test]
fn own_moderation_is_remembered_once() {
    // The owner.
    let mut mine = view("10003");
    let ruling = |by: &str, member: &str, muted_until| ModerationAction {
        group: "305432198".into(),
        member: member.into(),
        by: by.into(),
        muted_until,
    };
    for until in 1..=3 {
        mine.moderate(&ruling("10003", "10001", Some(until))).unwrap();
        mine.moderate(&ruling("10003", "10002", Some(until))).unwrap();
    }
    let last = [ruling("10003", "10001", Some(3)), ruling("10003", "10002", Some(3))];
    assert_eq!(mine.rulings(), last);
    mine.moderate(&ruling("10001", "10002", Some(9))).unwrap();
    assert_eq!(mine.rulings(), last, "others tell their own");
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
    let mut hear = |from: &str, place| mine.receive(from, &place, "x".into(), "1".into(), 1);
    assert_eq!(hear("10002", group("498880156")).unwrap().sender.displayname, "北京-李雷");
    assert_eq!(hear("10004", group("498880156")), Err(BackendError::NotAllowed));
    assert_eq!(hear("10002", group("1")), Err(BackendError::Gone));
    assert_eq!(hear("99", SandboxChat::Friend), Err(BackendError::NotAllowed));
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
