//! Several clients in one world.

use std::os::unix::fs::DirBuilderExt;

use rustix::process::Signal;
use serde_json::{Value, json};

use super::process::{Client, Setup, read_answer, send_request, until};
use super::receiver::Receiver;

/// What is posted besides what is by default, too.
const EVERYTHING: (&str, &str) = (
    "PLUGIN_OPENQQ_POST_EVENT_LIST",
    "new_friend lose_friend new_group lose_group new_group_member lose_group_member new_discuss lose_discuss \
     new_discuss_member lose_discuss_member friend_property_change group_property_change \
     group_member_property_change user_property_change",
);

struct Peer {
    client: Client,
    reports: Receiver,
}

impl Peer {
    fn start(account: &str, folder: &str, vars: &[(&str, &str)]) -> Self {
        let reports = Receiver::new(|_| String::new());
        let more = [EVERYTHING, ("PLUGIN_OPENQQ_POST_API", &reports.url), ("SANDBOX_NETWORK", folder)];
        let client = Setup::new(&[&more, vars].concat()).account(account).start();
        client.setup.until_state("running");
        Self { client, reports }
    }

    fn get(&self, call: &str) -> Value {
        self.client.get(&format!("/openqq/{call}")).json()
    }

    fn event(&self, name: &str) -> Value {
        loop {
            let report = self.reports.next().json;
            if report["event"] == name {
                return report["params"].clone();
            }
        }
    }

    fn sees(&self, uid: &str, state: &str) {
        until(state, || (self.get(&format!("search_friend?uid={uid}"))[0]["state"] == state).then_some(()));
    }
}

fn folder() -> (tempfile::TempDir, String) {
    let root = tempfile::tempdir().unwrap();
    // Longer than any socket's path may be, and to be made by the first who comes.
    let folder = root.path().join("很".repeat(60)).join("net").to_str().unwrap().to_owned();
    (root, folder)
}

#[test]
fn peers_exchange_messages_until_one_is_killed() {
    let (_root, folder) = folder();
    let hong = Peer::start("小红", &folder, &[]);
    let lei = Peer::start("李雷", &folder, &[]);
    hong.sees("10002", "online");
    lei.sees("10001", "online");
    let long = "你".repeat(100_000);
    for content in ["你好", &long] {
        let form = format!("uid=10002&content={content}");
        assert_eq!(hong.client.post("/openqq/send_friend_message", &form).json()["code"], 0);
        let heard = lei.reports.next_message();
        assert_eq!((&heard["sender_uid"], &heard["content"]), (&json!("10001"), &json!(content)));
        assert_eq!((&heard["type"], &heard["sender"]), (&json!("friend_message"), &json!("红红")));
    }
    lei.client.signal(Signal::KILL);
    let change = hong.event("friend_property_change");
    assert_eq!((&change[1], &change[2]), (&json!("state"), &json!("away")));
    let change = hong.event("friend_property_change");
    assert_eq!(
        (&change[0]["uid"], &change[2], &change[3]),
        (&json!("10002"), &json!("online"), &json!("offline"))
    );
    let failed = hong.get("send_friend_message?uid=10002&content=x");
    assert_eq!(
        (&failed["status"], &failed["info"]),
        (&json!("发送失败"), &json!("the recipient is offline"))
    );
    // Back again, over the socket that was left behind.
    let lei = Peer::start("李雷", &folder, &[]);
    hong.sees("10002", "online");
    lei.sees("10001", "online");
}

#[test]
fn hanging_peer_times_out() {
    let (_root, folder) = folder();
    let hong = Peer::start("小红", &folder, &[]);
    let lei = Peer::start("李雷", &folder, &[]);
    hong.sees("10002", "online");
    lei.client.signal(Signal::STOP);
    let failed = hong.get("send_friend_message?uid=10002&content=x");
    let unknown = json!({ "id": null, "code": -1, "status": "发送失败", "info": "数据格式错误" });
    assert_eq!(failed, unknown, "it may have the message");
    // The group is told without an answer being waited for, and the next message finds its way.
    assert_eq!(hong.get("send_group_message?uid=305432198&content=x")["code"], 0);
    assert_eq!(hong.get("send_friend_message?uid=10004&content=x")["code"], 0);
    lei.client.signal(Signal::CONT);
    assert_eq!(lei.reports.next_message()["type"], "friend_message");
    assert_eq!(lei.reports.next_message()["type"], "group_message");
    assert_eq!(hong.get("send_friend_message?uid=10002&content=x")["code"], 0);
}

#[test]
fn stopped_peer_is_not_lost() {
    let (_root, folder) = folder();
    let hong = Peer::start("小红", &folder, &[]);
    let lei = Peer::start("李雷", &folder, &[]);
    hong.sees("10002", "online");
    lei.client.signal(Signal::STOP);
    // More than may wait on either side.
    for _ in 0..200 {
        assert_eq!(hong.get("send_group_message?uid=305432198&content=x")["code"], 0);
    }
    lei.client.signal(Signal::CONT);
    assert_eq!(lei.reports.next_message()["type"], "group_message");
    assert_eq!(hong.get("send_friend_message?uid=10002&content=x")["code"], 0);
    hong.sees("10002", "online");
    lei.sees("10001", "online");
}

#[test]
fn same_person_twice_is_logged() {
    let (_root, folder) = folder();
    let _hong = Peer::start("小红", &folder, &[]);
    let number = Peer::start("10001", &folder, &[]);
    until("the warning", || number.client.setup.log().contains("is the same person").then_some(()));
}

#[test]
fn peers_follow_mutes_and_kicks() {
    let (_root, folder) = folder();
    let hong = Peer::start("小红", &folder, &[]);
    let lei = Peer::start("李雷", &folder, &[]);
    hong.sees("10002", "online");
    lei.sees("10001", "online");
    let send = "send_group_message?uid=305432198&content=x";
    assert_eq!(lei.get(send)["code"], 0);
    let heard = hong.reports.next_message();
    assert_eq!(
        (&heard["type"], &heard["group"], &heard["sender"]),
        (&json!("group_message"), &json!("老同学"), &json!("李雷"))
    );

    assert_eq!(hong.get("shutup_group_member?group_uid=305432198&member_uid=10002&time=5")["code"], 0);
    let muted = until("the mute", || Some(lei.get(send)).filter(|answer| answer["code"] != 0));
    assert_eq!(muted["status"], "发送失败");
    assert!(muted["info"].as_str().unwrap().contains("muted"), "{muted}");
    assert_eq!(lei.get("send_group_message?uid=498880156&content=x")["code"], 0);

    assert_eq!(hong.get("kick_group_member?group_uid=305432198&member_uid=10002")["code"], 0);
    assert_eq!(lei.event("lose_group")[0]["uid"], "305432198");
    assert_eq!(hong.event("lose_group_member")[0]["uid"], "10002");
    assert_eq!(lei.get(send)["code"], 101);
    // Who comes later hears of it.
    drop(lei);
    let lei = Peer::start("李雷", &folder, &[]);
    assert_eq!(lei.event("lose_group")[0]["uid"], "305432198");
}

#[test]
fn guests_become_friends() {
    let (_root, folder) = folder();
    let one = Peer::start("webqq_client_01", &folder, &[]);
    let two = Peer::start("webqq_client_02", &folder, &[]);
    assert_eq!(one.event("new_friend")[0]["name"], "webqq_client_02");
    assert_eq!(one.event("new_group_member")[0]["name"], "webqq_client_02");
    assert_eq!(one.event("new_discuss_member")[0]["name"], "webqq_client_02");
    assert_eq!(two.event("new_friend")[0]["name"], "webqq_client_01");
    assert_eq!(one.get("send_friend_message?name=webqq_client_02&content=x")["code"], 0);
    assert_eq!(two.reports.next_message()["sender"], "webqq_client_01");
}

#[test]
fn malformed_peers_do_no_harm() {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("net");
    let hong = Peer::start("小红", folder.to_str().unwrap(), &[]);
    let socket = until("the socket", || {
        let mut names = std::fs::read_dir(&folder).ok()?.map(|entry| entry.unwrap().path());
        names.find(|path| !path.file_name().unwrap().to_str().unwrap().starts_with('.'))
    });
    assert_eq!(super::process::mode(&folder), 0o700);
    let frame = |json: &str| [&u32::try_from(json.len()).unwrap().to_be_bytes(), json.as_bytes()].concat();
    let hello = frame(r#"{"hello":{"account":"李雷","rulings":[]}}"#);
    for bytes in [
        u32::MAX.to_be_bytes().to_vec(),
        frame("{}"),
        frame(r#"{"hello":{"account":"小红","rulings":[]}}"#),
        frame(r#"{"hello":{"account":"a/b","rulings":[]}}"#),
        [hello.clone(), hello.clone()].concat(),
        [
            hello.clone(),
            frame(r#"{"ruling":{"group":"305432198","member":"10002","by":"10003","muted_until":null}}"#),
        ]
        .concat(),
        [hello, frame(r#"{"message":{"number":1,"place":"nowhere","content":"x"}}"#)].concat(),
    ] {
        let mut stream = UnixStream::connect(&socket).unwrap();
        stream.set_read_timeout(Some(super::process::PATIENCE)).unwrap();
        stream.write_all(&bytes).unwrap();
        // Whatever it says, it hangs up by itself; where we wrote more than it read, with a reset.
        let mut said = Vec::new();
        if let Err(error) = stream.read_to_end(&mut said) {
            assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
        }
    }
    assert_eq!(hong.get("get_client_info")["code"], 0);
    assert_eq!(hong.get("search_group?uid=305432198")[0]["member"].as_array().unwrap().len(), 3);
}

/// Another client, as far as the first needs one.
#[test]
fn lost_peer_connection_is_restored() {
    use ring::digest::{SHA256, digest};
    use std::io::{Read, Write};
    use std::os::unix::net::UnixListener;

    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("net");
    std::fs::DirBuilder::new().mode(0o700).create(&folder).unwrap();
    let hash = |text: &str| -> String {
        digest(&SHA256, text.as_bytes()).as_ref().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
    };
    let socket = folder.join(format!("{}-{}", hash("built in"), hash("李雷")));
    let listener = UnixListener::bind(&socket).unwrap();
    let frame = |json: &str| [&u32::try_from(json.len()).unwrap().to_be_bytes(), json.as_bytes()].concat();
    let meet = || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(super::process::PATIENCE)).unwrap();
        // A removal in the name of the group's owner, who is not there.
        let forged = r#"{"group":"305432198","member":"10001","by":"10003","muted_until":null}"#;
        let hello = format!(r#"{{"hello":{{"account":"李雷","rulings":[{forged}]}}}}"#);
        stream.write_all(&frame(&hello)).unwrap();
        stream
    };
    let hear = |stream: &mut std::os::unix::net::UnixStream| {
        let mut length = [0; 4];
        stream.read_exact(&mut length).unwrap();
        let mut json = vec![0; u32::from_be_bytes(length) as usize];
        stream.read_exact(&mut json).unwrap();
        serde_json::from_slice::<Value>(&json).unwrap()
    };
    std::thread::scope(|scope| {
        let first = scope.spawn(meet);
        let hong = Peer::start("小红", folder.to_str().unwrap(), &[]);
        let mut stream = first.join().unwrap();
        assert_eq!(hear(&mut stream)["hello"]["account"], "小红");
        hong.sees("10002", "online");
        drop(stream);
        let mut stream = meet();
        hear(&mut stream);
        hong.sees("10002", "online");
        // What it says is shown to people, and is a line of theirs at most.
        let call = "GET /openqq/send_friend_message?uid=10002&content=x";
        let waiting = send_request(hong.client.setup.port, call, "", "").unwrap();
        let number = hear(&mut stream)["message"]["number"].clone();
        let no = json!({ "answer": { "number": number, "refused": "no\n<3>forged\u{1b}[31m" } });
        stream.write_all(&frame(&no.to_string())).unwrap();
        assert_eq!(read_answer(waiting).json()["info"], "no<3>forged[31m");
        assert_eq!(hong.get("search_group?uid=305432198")[0]["member"].as_array().unwrap().len(), 3);
        // It goes offline before it answers.
        let waiting = send_request(hong.client.setup.port, call, "", "").unwrap();
        hear(&mut stream);
        drop(stream);
        assert_eq!(read_answer(waiting).json()["code"], -1);
    });
}

#[test]
fn edited_world_yields_events() {
    let (root, folder) = folder();
    let world = root.path().join("world.toml");
    let write = |text: &str| std::fs::write(&world, text).unwrap();
    let people = "[[people]]\nuid = \"1\"\nname = \"甲\"\n[[people]]\nuid = \"2\"\nname = \"乙\"\n";
    let group = |name: &str, members: &str| {
        format!("[[groups]]\nuid = \"9\"\nname = \"{name}\"\nowner = \"1\"\nmembers = [{members}]\n")
    };
    let discuss = |members: &str| {
        format!("[[discusses]]\nkey = \"k\"\nname = \"谈\"\nowner = \"1\"\nmembers = [{members}]\n")
    };
    write(people);
    let one = Peer::start("甲", &folder, &[("SANDBOX_WORLD", world.to_str().unwrap())]);
    // The client that logs in watches the file a moment later.
    until("the watch", || {
        let watches = |fd: std::io::Result<std::fs::DirEntry>| {
            std::fs::read_to_string(fd.unwrap().path()).is_ok_and(|info| info.contains("inotify wd:"))
        };
        std::fs::read_dir(format!("/proc/{}/fdinfo", one.client.pid())).unwrap().any(watches).then_some(())
    });
    write(&format!("{people}{}{}", group("群", ""), discuss("")));
    assert_eq!(one.event("new_group")[0]["name"], "群");
    assert_eq!(one.event("new_discuss")[0]["name"], "谈");
    write("nonsense");
    until("the warning", || {
        one.client.setup.log().contains("cannot reload the sandbox's world").then_some(())
    });
    write(&format!("{people}{}{}", group("新", "\"2\""), discuss("\"2\"")));
    let (first, second) = (one.event("group_property_change"), one.event("group_property_change"));
    assert_eq!((&first[1], &second[1]), (&json!("displayname"), &json!("name")));
    assert_eq!((&second[2], &second[3]), (&json!("群"), &json!("新")));
    assert_eq!(one.event("new_group_member")[0]["uid"], "2");
    assert_eq!(one.event("new_discuss_member")[0]["uid"], "2");
    write(&format!(
        "{}signature = \"x\"\n{}cards = {{ 2 = \"小乙\" }}\n{}",
        people,
        group("新", "\"2\""),
        discuss("\"2\"")
    ));
    assert_eq!(one.event("group_member_property_change")[1], "card");
    write(&format!("{}{}", people.replacen("甲\"", "甲\"\ncity = \"成都\"", 1), discuss("")));
    assert_eq!(one.event("user_property_change")[1], "city");
    assert_eq!(one.event("lose_group")[0]["uid"], "9");
    assert_eq!(one.event("lose_discuss_member")[0]["uid"], "2");
    write("[[people]]\nuid = \"1\"\nname = \"甲\"\n");
    assert_eq!(one.event("lose_friend")[0]["uid"], "2");
    assert_eq!(one.event("lose_discuss")[0]["name"], "谈");
}

#[test]
fn default_events_are_posted_and_others_only_kept() {
    let (root, folder) = folder();
    let world = root.path().join("world.toml");
    let people = |count: usize, city: &str| -> String {
        // The first one is the client.
        let name = |n| if n == 1 { "p1".to_owned() } else { format!("{city}{n}") };
        let person = |n| format!("[[people]]\nuid = \"{n}\"\nname = \"{}\"\ncity = \"{city}\"\n", name(n));
        (1..=count).map(person).collect()
    };
    let in_group = |kind: &str, more: &str, name: &str, members: &str| {
        format!("[[{kind}]]\n{more}name = \"{name}\"\nowner = \"1\"\nmembers = [{members}]\n")
    };
    let both = |name: &str, members: &str| {
        in_group("groups", "uid = \"9\"\n", name, members)
            + &in_group("discusses", "key = \"k\"\n", name, members)
    };
    std::fs::write(&world, people(2, "x")).unwrap();
    let reports = Receiver::new(|_| String::new());
    let client = Setup::new(&[
        ("PLUGIN_OPENQQ_POST_API", &reports.url),
        ("SANDBOX_NETWORK", &folder),
        ("SANDBOX_WORLD", world.to_str().unwrap()),
        ("CHECK_EVENT_LIST_MAX_SIZE", "1000"),
    ])
    .account("p1")
    .start();
    client.setup.until_state("running");
    let mut posted = std::collections::BTreeSet::new();
    let mut until_posted = |event: &str| {
        while !posted.contains(event) {
            posted.insert(reports.next().json["event"].as_str().unwrap().to_owned());
        }
    };
    // In one step, for half of a world is a world.
    let write = |text: String| {
        std::fs::write(root.path().join("next"), text).unwrap();
        std::fs::rename(root.path().join("next"), &world).unwrap();
    };
    // Also where the file is watched only a moment later, something is left to be told.
    until("a change that is told", || {
        write(people(2, "x") + &both("g", ""));
        (client.get("/openqq/get_group_info").json()[0]["name"] == "g").then_some(())
    });
    until_posted("new_group");
    write(people(3, "x") + &both("g", "\"2\""));
    until_posted("new_group_member");
    write(people(3, "y") + &both("h", "\"2\""));
    write(people(3, "y") + &both("h", ""));
    until_posted("lose_group_member");
    write(people(1, "y"));
    until_posted("lose_friend");
    until_posted("lose_group");
    let about_others =
        ["lose_friend", "lose_group", "lose_group_member", "new_friend", "new_group", "new_group_member"];
    posted.retain(|event| !["login", "stop", "state_change", "input_qrcode"].contains(&event.as_str()));
    assert!(posted.iter().eq(about_others), "{posted:?}");
    let kept = client.get("/openqq/check_event").json();
    let kept: std::collections::BTreeSet<_> =
        kept.as_array().unwrap().iter().map(|event| event["event"].as_str().unwrap().to_owned()).collect();
    let not_posted: Vec<_> = kept.difference(&posted).map(String::as_str).collect();
    for event in [
        "friend_property_change",
        "group_property_change",
        "lose_discuss",
        "new_discuss",
        "user_property_change",
    ] {
        assert!(not_posted.contains(&event), "{event}: {not_posted:?}");
    }
}
