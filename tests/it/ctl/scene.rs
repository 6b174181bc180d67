//! `scene`: a bot in the sandbox answers as expected, or does not.

use std::net::TcpStream;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json as object};
use tokio_tungstenite::tungstenite::{self, Message};

use super::{Played, Ran, assert_fails, json, ran, ran_at};
use crate::fixture::{Builder, Controller, write_file};
use crate::output::run;

/// Groups of the world that is built in, of which each new account is a member.
const GROUP: u64 = 700_100_200;

/// The smallest image: GIF, 1 by 1.
const IMAGE: &str = "base64://R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7";

/// What the bot of these tests does about an event: the actions that it calls.
fn answers(event: &Value) -> Vec<Value> {
    let group = event["group_id"].as_u64();
    let say = |message: Value| match group {
        Some(group) => {
            object!({ "action": "send_group_msg", "params": { "group_id": group, "message": message } })
        }
        None => {
            object!({ "action": "send_private_msg", "params": { "user_id": event["user_id"], "message": message } })
        }
    };
    let text = |text: &str| {
        object!([{ "type": "reply", "data": { "id": event["message_id"].to_string() } },
                                   { "type": "text", "data": { "text": text } }])
    };
    match (event["post_type"].as_str(), event["raw_message"].as_str()) {
        (Some("message"), Some("ping")) => vec![say(text("pong"))],
        (Some("message"), Some("twice")) => vec![say(text("one of 2")), say(text("two of 2"))],
        (Some("message"), Some("picture")) => {
            vec![say(object!([{ "type": "image", "data": { "file": IMAGE } }]))]
        }
        (Some("message"), Some(raw)) if raw.starts_with("[CQ:image,") => vec![say(text("seen"))],
        (Some("request"), _) => {
            let params = object!({ "flag": event["flag"], "approve": true });
            vec![object!({ "action": "set_friend_add_request", "params": params })]
        }
        (Some("notice"), _) if event["sub_type"] == "poke" && event["target_id"] == event["self_id"] => {
            vec![say(object!("ouch"))]
        }
        (Some("notice"), _) if event["notice_type"] == "group_recall" => vec![say(object!("I saw it"))],
        _ => Vec::new(),
    }
}

/// A controller with an account in the sandbox, and a bot that is connected to it, until the controller ends.
fn with_bot() -> Controller {
    let controller = Builder::new().built_in();
    controller.start_client_with("bot", "sandbox_login_time=0");
    controller.wait_for_state("bot", "running");
    connect_bot(&controller);
    controller
}

/// Connects a bot.
fn connect_bot(controller: &Controller) {
    let port = json(controller, &["show", "bot"])["client"]["port"].as_u64().unwrap();
    let stream = TcpStream::connect(("127.0.0.1", u16::try_from(port).unwrap())).unwrap();
    let url = format!("ws://127.0.0.1:{port}/onebot/v11/ws");
    let mut socket = tungstenite::client(url, stream).unwrap().0;
    // Connected: from here on it gets events.
    assert!(socket.read().unwrap().to_text().unwrap().contains("connect"));
    std::thread::spawn(move || {
        while let Ok(frame) = socket.read() {
            let Message::Text(text) = frame else { continue };
            let event: Value = serde_json::from_str(text.as_str()).unwrap();
            for action in answers(&event) {
                socket.send(Message::text(action.to_string())).unwrap();
            }
        }
    });
}

/// Plays these scenes.
fn play(controller: &Controller, scenes: &str, more: &[&str]) -> Ran {
    let file = controller.path("scenes.toml");
    write_file(&file, scenes, 0o644);
    ran(controller, &[&["scene", file.to_str().unwrap()], more].concat())
}

/// Plays these scenes, from another file.
fn play_beside(controller: &Controller, scenes: &str) -> Ran {
    let file = controller.path("others.toml");
    write_file(&file, scenes, 0o644);
    ran(controller, &["scene", file.to_str().unwrap()])
}

/// The line of each scene, without its time.
fn lines(printed: &str) -> Vec<&str> {
    printed.lines().map(|line| line.rsplit_once("  (").unwrap().0).collect()
}

/// The test cases of a file of JUnit, as a parser of XML reads it: name, and failure.
fn junit(file: &Path) -> Vec<(String, Option<String>)> {
    const SCRIPT: &str = "import json, sys, xml.etree.ElementTree as tree\n\
        root = tree.parse(sys.argv[1]).getroot()\n\
        suite = root.find('testsuite')\n\
        cases = [(c.get('name'), None if c.find('failure') is None else c.find('failure').get('message'), \
                  float(c.get('time'))) for c in suite.iter('testcase')]\n\
        assert root.tag == 'testsuites' and int(suite.get('tests')) == len(cases)\n\
        assert int(suite.get('failures')) == sum(1 for c in cases if c[1] is not None)\n\
        print(json.dumps([c[:2] for c in cases]))";
    let (status, printed, complaint) = run(Command::new("python3").args(["-IS", "-c", SCRIPT]).arg(file));
    assert_eq!(status, Some(0), "{complaint}");
    serde_json::from_str(&printed).unwrap()
}

#[test]
fn scene_passes_where_the_bot_answers_as_expected() {
    let controller = with_bot();
    let scenes = format!(
        r#"
[[scene]]
name = "answers in the group"
as = "小红"
in = {GROUP}
steps = [
  {{ say = "ping" }},
  {{ expect = "pong" }},
  {{ say = "twice" }},
  {{ expect = {{ matches = "two of ?" }} }},
  {{ poke = true }},
  {{ expect = "ouch" }},
  {{ recall = true }},
  {{ expect = {{ contains = "saw" }}, within = 60 }},
  {{ expect = {{ nothing = 0.2 }} }},
]

[[scene]]
name = "answers a person"
as = 10001
steps = [
  {{ say = "picture" }},
  {{ expect = {{ segment = "image" }} }},
  {{ say = "ping", in = "沙箱体验群" }},
  {{ expect = {{ nothing = 0.2 }}, to = 10001 }},
  {{ expect = {{ equals = "pong", segment = "reply" }}, in = {GROUP} }},
  {{ image = "dot.gif" }},
  {{ expect = "seen" }},
]

[[scene]]
name = "makes friends"
steps = [
  {{ request_friend = "let me in", as = 55555, name = "新朋友" }},
  {{ expect = {{ action = "set_friend_add_request" }} }},
]
"#
    );
    // Beside the scenes.
    std::fs::write(controller.path("dot.gif"), b"GIF89a\x01\x00\x01\x00\x80\x00\x00\x00\x00\x00\xff\xff\xff!\xf9\x04\x01\x00\x00\x00\x00,\x00\x00\x00\x00\x01\x00\x01\x00\x00\x02\x01D\x00;").unwrap();
    let xml = controller.path("junit.xml");
    let (status, printed, complaint) =
        play(&controller, &scenes, &["--timeout", "60", "--junit", xml.to_str().unwrap()]);
    assert_eq!((status, complaint.as_str()), (Some(0), ""), "{printed}");
    assert_eq!(
        lines(&printed),
        ["ok      answers in the group", "ok      answers a person", "ok      makes friends"]
    );
    let names: Vec<_> = junit(&xml);
    assert_eq!(names[1], ("answers a person".to_owned(), None));
    assert_eq!(names.len(), 3);
}

#[test]
fn scene_fails_with_the_line_and_what_came_instead() {
    let controller = with_bot();
    let scenes = format!(
        r#"
[[scene]]
name = "<wrong> & \"answer\""
as = 10001
in = {GROUP}
steps = [
  {{ say = "twice" }},
  {{ expect = {{ contains = "two" }} }},
  {{ say = "ping" }},
  {{ expect = "peng", within = 3 }},
]
[[scene]]
name = "no answer"
as = 10001
steps = [{{ say = "hush" }},
  {{ expect = "pong", within = 0.1 }}]
[[scene]]
name = "too much"
as = 10001
steps = [{{ say = "ping" }}, {{ expect = "pong" }}, {{ say = "ping" }},
  {{ expect = {{ nothing = 60 }} }}]
[[scene]]
name = "refused"
as = 10001
steps = [{{ say = "ping", in = 1 }}]
[[scene]]
name = "nobody"
as = "张三"
steps = [{{ say = "ping" }}]
[[scene]]
name = "goes on"
as = 10001
steps = [{{ say = "ping" }}, {{ expect = "pong" }}]
"#
    );
    let xml = controller.path("junit.xml");
    let (status, printed, complaint) =
        play(&controller, &scenes, &["--timeout", "60", "--junit", xml.to_str().unwrap()]);
    assert_eq!(status, Some(1), "{complaint}");
    assert!(complaint.starts_with("wqctl: 5 of 6 scenes failed\nwqctl: next: "), "{complaint}");
    let said = lines(&printed);
    assert_eq!(
        said[0],
        format!(
            "FAILED  <wrong> & \"answer\": line 10: expected a message that is \"peng\" in group {GROUP} within 3 s, \
             but there came {}",
            said[0].rsplit_once("came ").unwrap().1
        )
    );
    assert!(said[0].ends_with("pong\""), "{}", said[0]);
    assert_eq!(
        said[1],
        "FAILED  no answer: line 16: expected a message that is \"pong\" to 10001 within 0.1 s, but nothing came"
    );
    assert!(said[2].contains("line 21: expected no message to 10001, but there came"), "{}", said[2]);
    assert!(said[3].starts_with("FAILED  refused: line 25: "), "{}", said[3]);
    assert!(
        said[4].contains("line 29: there is no person \"张三\" in this world, but 小红, "),
        "{}",
        said[4]
    );
    assert_eq!(said[5], "ok      goes on");
    let cases = junit(&xml);
    assert_eq!(cases[0].0, "<wrong> & \"answer\"");
    assert!(cases[0].1.as_ref().unwrap().starts_with("line 10: expected a message that is \"peng\""));
    assert_eq!(cases[5], ("goes on".to_owned(), None));
    let as_json = play(&controller, &scenes, &["--timeout", "60", "--json"]).1;
    let outcomes: Vec<Value> = as_json.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((&outcomes[5]["passed"], &outcomes[1]["passed"]), (&Value::Bool(true), &Value::Bool(false)));
}

#[test]
fn bot_that_is_not_there_is_waited_for_and_named() {
    let controller = Builder::new().built_in();
    let scenes = "[[scene]]\nname = \"a\"\nas = 10001\nsteps = [{ say = \"ping\" }, { expect = \"pong\", within = 0.1 }]\n";
    let patient = scenes.replace(", within = 0.1", "");
    std::thread::scope(|scope| {
        // Neither the account is there nor the bot.
        let playing = scope.spawn(|| play(&controller, &patient, &["--wait", "600", "--timeout", "60"]));
        controller.start_client_with("bot", "sandbox_login_time=0");
        controller.wait_for_state("bot", "running");
        let (status, printed, _) = play_beside(&controller, scenes);
        assert_eq!(status, Some(1));
        let said = lines(&printed)[0];
        assert!(said.ends_with("within 0.1 s, but nothing came, as no bot is connected"), "{said}");
        assert!(!playing.is_finished());
        connect_bot(&controller);
        let (status, printed, complaint) = playing.join().unwrap();
        assert_eq!((status, lines(&printed)), (Some(0), vec!["ok      a"]), "{complaint}");
    });
}

#[test]
fn file_of_scenes_that_is_wrong_is_told_with_its_line() {
    let controller = Builder::new().built_in();
    let wrong = "[[scene]]\nname = \"a\"\nas = 1\nsteps = [\n  { say = \"x\" },\n  { expects = \"y\" },\n]\n";
    assert_fails(
        play(&controller, wrong, &[]),
        2,
        "scenes.toml: line 6: unknown field `expects`",
        "man 1 wqctl",
    );
    let missing = ran(&controller, &["scene", "/none.toml"]);
    assert_eq!(missing.0, Some(2));
    assert!(missing.2.contains("the scenes can't be read: /none.toml: No such file"), "{}", missing.2);
    let good = "[[scene]]\nname = \"a\"\nas = 10001\nsteps = [{ say = \"x\" }]\n";
    assert_fails(play(&controller, good, &[]), 1, "no account runs in the sandbox", "wqctl sandbox");
    assert_fails(play(&controller, good, &["--account", "none"]), 5, "no such account", "wqctl list");
    for name in ["one", "two"] {
        controller.start_client_with(name, "sandbox_login_time=0");
    }
    let which = "one, two and maybe others are in the sandbox";
    assert_fails(play(&controller, good, &[]), 2, which, "--account NAME");
    controller.wait_for_state("two", "running");
    let (status, printed, _) = play(&controller, good, &["--account", "two"]);
    assert_eq!((status, lines(&printed)), (Some(0), vec!["ok      a"]));
}

#[test]
fn scene_needs_an_account_of_the_sandbox() {
    let played = Played::always(r#"{"name":"a","state":"running","backend":"onebot","client":{"port":1}}"#);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.toml");
    write_file(&file, "account = \"a\"\n[[scene]]\nname = \"a\"\nas = 1\nsteps = [{ say = \"x\" }]\n", 0o644);
    let ran = ran_at(&played.url, &["scene", file.to_str().unwrap()]);
    assert_fails(ran, 1, "a: it is not in the sandbox", "wqctl start a-2 backend=sandbox");
}
