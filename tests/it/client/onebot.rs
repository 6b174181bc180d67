//! OneBot v11 over the sandbox: what applications do, and people, in one or several clients.

use std::io::{BufRead, BufReader};
use std::net::TcpStream;

use serde_json::{Value, json};
use tungstenite::{Message, WebSocket};

use super::process::{Answer, Client, PATIENCE, Setup, request, send_request, until};
use super::receiver::Receiver;

/// A group that 小红 is an admin of, 李雷 a member, and 韩梅梅 the owner.
const GROUP: u64 = 305_432_198;

/// A client with an application that listens.
struct Bot {
    client: Client,
    events: WebSocket<TcpStream>,
}

impl Bot {
    fn start(account: &str, vars: &[(&str, &str)]) -> Self {
        let client = Setup::new(vars).account(account).start();
        client.setup.until_state("running");
        let stream = TcpStream::connect(("127.0.0.1", client.setup.port)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let url = format!("ws://127.0.0.1:{}/onebot/v11/event", client.setup.port);
        let (events, _) = tungstenite::client(url, stream).unwrap();
        Self { client, events }
    }

    /// The next event for which this is true.
    fn event(&mut self, is_it: impl Fn(&Value) -> bool) -> Value {
        loop {
            let Message::Text(text) = self.events.read().unwrap() else { continue };
            let event: Value = serde_json::from_str(&text).unwrap();
            if is_it(&event) {
                return event;
            }
        }
    }

    fn notice(&mut self, kind: &str) -> Value {
        self.event(|event| event["notice_type"] == kind)
    }

    fn message(&mut self) -> Value {
        self.event(|event| event["post_type"] == "message")
    }

    fn post(&self, path: &str, params: &Value) -> Answer {
        let json = "Content-Type: application/json\r\n";
        request(self.client.setup.port, &format!("POST {path}"), json, &params.to_string()).unwrap()
    }

    fn call(&self, action: &str, params: Value) -> Value {
        self.post(&format!("/onebot/v11/{action}"), &params).json()
    }

    fn done(&self, action: &str, params: Value) -> Value {
        let answer = self.call(action, params);
        assert_eq!(answer["status"], "ok", "{action}: {answer}");
        answer["data"].clone()
    }

    /// A person does something.
    fn person(&self, uid: &str, what: &str, params: Value) -> Value {
        let answer = self.post(&format!("/sandbox/people/{uid}/{what}"), &params);
        assert_eq!(answer.status, 200, "{what}: {answer:?}");
        answer.json()["data"].clone()
    }

    fn sees(&self, uid: &str) {
        until("the other client", || {
            let found = self.client.get(&format!("/openqq/search_friend?uid={uid}")).json();
            (found[0]["state"] == "online").then_some(())
        });
    }
}

#[test]
fn clients_of_one_world_exchange_all_parts_of_messages() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("net");
    let vars = [("SANDBOX_NETWORK", folder.to_str().unwrap())];
    let (mut hong, mut lei) = (Bot::start("小红", &vars), Bot::start("李雷", &vars));
    hong.sees("10002");
    lei.sees("10001");
    let message = json!([
        { "type": "at", "data": { "qq": "10002" } },
        { "type": "image", "data": { "file": "base64://iVBORw0KGgo=" } },
    ]);
    let sent = hong.done("send_group_msg", json!({ "group_id": GROUP, "message": message }));
    let heard = lei.message();
    assert_eq!((&heard["group_id"], &heard["user_id"]), (&json!(GROUP), &json!(10001)));
    assert_eq!((&heard["sender"]["role"], &heard["self_id"]), (&json!("admin"), &json!(10002)));
    let image = &heard["message"][1]["data"];
    assert!(heard["raw_message"].as_str().unwrap().starts_with("[CQ:at,qq=10002][CQ:image,"), "{heard}");
    // The file is at the other client.
    let found = lei.done("get_image", json!({ "file": image["file"] }));
    assert_eq!(std::fs::read(found["file"].as_str().unwrap()).unwrap(), b"\x89PNG\r\n\x1a\n");

    let reply = format!("[CQ:reply,id={}]看到了", heard["message_id"]);
    lei.done("send_group_msg", json!({ "group_id": GROUP, "message": reply }));
    let back = hong.message();
    assert_eq!(
        back["message"][0],
        json!({ "type": "reply", "data": { "id": sent["message_id"].to_string() } })
    );
    assert_eq!(lei.call("delete_msg", json!({ "message_id": heard["message_id"] }))["retcode"], 102);
    // An admin takes back what a member said.
    hong.done("delete_msg", json!({ "message_id": back["message_id"] }));
    let (here, there) = (hong.notice("group_recall"), lei.notice("group_recall"));
    assert_eq!((&here["message_id"], &here["operator_id"]), (&back["message_id"], &json!(10001)));
    assert_eq!((&there["user_id"], &there["operator_id"]), (&json!(10002), &json!(10001)));
    assert_eq!(lei.call("get_msg", json!({ "message_id": there["message_id"] }))["retcode"], 101);

    hong.done("set_group_ban", json!({ "group_id": GROUP, "user_id": 10002, "duration": 60 }));
    assert_eq!(lei.notice("group_ban")["sub_type"], "ban");
    let muted = lei.call("send_group_msg", json!({ "group_id": GROUP, "message": "x" }));
    assert_eq!(muted["retcode"], 102);
    hong.done("set_group_ban", json!({ "group_id": GROUP, "user_id": 10002, "duration": 0 }));
    assert_eq!(lei.notice("group_ban")["sub_type"], "lift_ban");
    hong.done("set_group_card", json!({ "group_id": GROUP, "user_id": 10002, "card": "小雷" }));
    assert_eq!(lei.notice("group_card")["card_new"], "小雷");
    lei.done("group_poke", json!({ "group_id": GROUP, "user_id": 10001 }));
    assert_eq!(hong.notice("notify")["target_id"], 10001);
    let file = json!({ "group_id": GROUP, "file": "base64://aGk=", "name": "hi.txt" });
    lei.done("upload_group_file", file);
    assert_eq!(hong.notice("group_upload")["file"]["name"], "hi.txt");
    // A private one as well.
    lei.done("send_private_msg", json!({ "user_id": 10001, "message": "悄悄" }));
    let whisper = hong.message();
    assert_eq!((&whisper["message_type"], &whisper["sub_type"]), (&json!("private"), &json!("friend")));
    lei.done("set_group_leave", json!({ "group_id": GROUP }));
    assert_eq!(hong.notice("group_decrease")["sub_type"], "leave");
}

#[test]
fn client_that_comes_later_knows_what_was_changed() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("net");
    let vars = [("SANDBOX_NETWORK", folder.to_str().unwrap())];
    let hong = Bot::start("小红", &vars);
    hong.done("set_group_name", json!({ "group_id": GROUP, "group_name": "新名" }));
    hong.done("set_group_whole_ban", json!({ "group_id": GROUP }));
    let lei = Bot::start("李雷", &vars);
    until("the name", || {
        (lei.done("get_group_info", json!({ "group_id": GROUP }))["group_name"] == "新名").then_some(())
    });
    until("the mute", || {
        let said = lei.call("send_group_msg", json!({ "group_id": GROUP, "message": "x" }));
        (said["retcode"] == 102).then_some(())
    });
}

#[test]
fn people_act_by_calls() {
    let reports = Receiver::new(|_| String::new());
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("net");
    let net = ("SANDBOX_NETWORK", folder.to_str().unwrap());
    let mut hong = Bot::start("小红", &[net, ("PLUGIN_OPENQQ_POST_API", &reports.url)]);
    let mut lei = Bot::start("李雷", &[net]);
    hong.sees("10002");
    lei.sees("10001");
    let said = hong.person("10003", "say", json!({ "group_id": GROUP, "message": "[CQ:at,qq=10001]在吗" }));
    let heard = hong.message();
    assert_eq!((&heard["message_id"], &heard["user_id"]), (&said["message_id"], &json!(10003)));
    assert_eq!((&heard["sender"]["card"], &heard["sender"]["role"]), (&json!("班长"), &json!("owner")));
    assert_eq!(lei.message()["user_id"], 10003, "all clients of the world hear it");
    let report = reports.next_message();
    assert_eq!((&report["message_id"], &report["content"]), (&said["message_id"], &json!("@小红 在吗")));
    assert_eq!(
        (&report["raw"], &report["segments"][0]["type"]),
        (&json!("[CQ:at,qq=10001]在吗"), &json!("at"))
    );
    hong.person("10003", "recall", said);
    assert_eq!(hong.notice("group_recall")["operator_id"], 10003);
    assert_eq!(lei.notice("group_recall")["user_id"], 10003);
    hong.person("10003", "poke", json!({}));
    assert_eq!(hong.notice("notify")["user_id"], 10003);
    let mute = json!({ "group_id": GROUP, "change": { "mute_all": { "on": true } } });
    hong.person("10003", "change", mute);
    assert_eq!(lei.notice("group_ban")["user_id"], 0);

    hong.person("20001", "request", json!({ "type": "friend", "name": "新人", "comment": "hi" }));
    let request = hong.event(|event| event["post_type"] == "request");
    assert_eq!((&request["request_type"], &request["comment"]), (&json!("friend"), &json!("hi")));
    let world = hong.client.get("/sandbox/world").json();
    assert_eq!((&world["self"]["uid"], &world["requests"][0]["user_id"]), (&json!("10001"), &json!(20001)));
    hong.done("set_friend_add_request", json!({ "flag": request["flag"], "remark": "小新" }));
    assert_eq!(hong.notice("friend_add")["user_id"], 20001);
    hong.person("20001", "request", json!({ "type": "join", "group_id": GROUP }));
    let request = hong.event(|event| event["post_type"] == "request");
    hong.done("set_group_add_request", json!({ "flag": request["flag"], "sub_type": "add" }));
    for bot in [&mut hong, &mut lei] {
        let joined = bot.notice("group_increase");
        assert_eq!((&joined["user_id"], &joined["operator_id"]), (&json!(20001), &json!(10001)));
    }
    // Who is spoken for does not repeat what the bot says.
    hong.person("20001", "say", json!({ "message": "你好" }));
    assert_eq!(hong.message()["sender"]["nickname"], "新人");
    hong.done("send_private_msg", json!({ "user_id": 20001, "message": "收到" }));
    hong.done("send_private_msg", json!({ "user_id": 10004, "message": "回声" }));
    assert_eq!(hong.message()["user_id"], 10004);

    let refused = |uid: &str, what: &str, params: Value| {
        hong.post(&format!("/sandbox/people/{uid}/{what}"), &params).status
    };
    assert_eq!(refused("10002", "say", json!({ "message": "x" })), 409, "it has a client");
    assert_eq!(refused("10001", "say", json!({ "message": "x" })), 409, "the account itself");
    assert_eq!(refused("x", "say", json!({ "message": "x" })), 400);
    assert_eq!(refused("10003", "say", json!({})), 400);
    assert_eq!(refused("10003", "fly", json!({})), 404);
    assert_eq!(refused("10003", "recall", json!({ "message_id": 1 })), 404);
    assert_eq!(refused("10004", "say", json!({ "group_id": GROUP, "message": "x" })), 409, "no member");
    assert_eq!(refused("10003", "request", json!({ "type": "friend" })), 409, "a friend already");
    assert_eq!(refused("10003", "change", json!({ "group_id": GROUP, "change": { "fly": {} } })), 400);
}

#[test]
fn files_are_served_and_pages_of_others_are_not_let_in() {
    let bot = Bot::start("小红", &[]);
    let image = json!({ "type": "image", "data": { "file": "base64://iVBORw0KGgo=" } });
    let sent = bot.done("send_private_msg", json!({ "user_id": 10003, "message": image }));
    let message = bot.done("get_msg", sent);
    let url = message["message"][0]["data"]["url"].as_str().unwrap();
    let path = &url[url.find("/sandbox/").unwrap()..];
    let stream = send_request(bot.client.setup.port, &format!("GET {path}"), "", "").unwrap();
    let mut answer = Vec::new();
    std::io::Read::read_to_end(&mut &stream, &mut answer).unwrap();
    let head = String::from_utf8_lossy(&answer).to_lowercase();
    assert!(
        head.contains("content-type: image/png") && head.contains("x-content-type-options: nosniff"),
        "{head}"
    );
    assert!(answer.ends_with(b"\x89PNG\r\n\x1a\n"));
    let hash = "0".repeat(64);
    for missing in [&hash, "../../etc/passwd", "%2e%2e", ""] {
        assert_ne!(bot.client.get(&format!("/sandbox/file/{missing}")).status, 200, "{missing}");
    }
    let json = "Content-Type: application/json\r\n";
    let text = "Content-Type: text/plain\r\n";
    let foreign = "Origin: http://elsewhere.example\r\n";
    for (what, headers, status) in [
        ("POST /sandbox/people/10003/say", text.to_owned(), 415),
        ("POST /sandbox/people/10003/say", format!("{json}{foreign}"), 403),
        ("GET /sandbox/world", foreign.to_owned(), 403),
        ("GET /sandbox/people/10003/say", String::new(), 405),
        ("POST /sandbox/world", json.to_owned(), 405),
        ("POST /sandbox/people/10003", json.to_owned(), 404),
    ] {
        let answer = request(bot.client.setup.port, what, &headers, "{\"message\":\"x\"}").unwrap();
        assert_eq!(answer.status, status, "{what} {headers}");
    }
}

#[test]
fn frames_show_what_applications_ask_and_are_told() {
    let bot = Bot::start("小红", &[]);
    let stream = send_request(bot.client.setup.port, "GET /sandbox/frames", "", "").unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut lines = BufReader::new(stream).lines().map(Result::unwrap);
    let params = json!({ "user_id": 10003, "message": "你好", "access_token": "hush" });
    bot.done("send_private_msg", params);
    let mut seen = Vec::new();
    // The echo is the last.
    while !seen.iter().any(|(kind, _)| kind == "event") {
        let line = lines.next().unwrap();
        if let Some(kind) = line.strip_prefix("event: ") {
            let data = lines.find_map(|line| line.strip_prefix("data: ").map(str::to_owned)).unwrap();
            seen.push((kind.to_owned(), serde_json::from_str::<Value>(&data).unwrap()["frame"].clone()));
        }
    }
    let of = |kind: &str| seen.iter().find(|(seen, _)| seen == kind).map(|(_, frame)| frame.clone()).unwrap();
    assert_eq!(
        (&of("action")["action"], of("action")["params"].get("message")),
        (&json!("send_private_msg"), Some(&json!("你好")))
    );
    assert_eq!(of("answer")["status"], "ok");
    assert_eq!((&of("sent")["user_id"], &of("event")["user_id"]), (&json!(10001), &json!(10003)));
    assert!(seen.iter().all(|(_, frame)| !frame.to_string().contains("hush")));
}
