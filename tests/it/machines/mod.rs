//! A door and another machine, here a controller of its own at another port. What ssh and TLS do is tried on real machines.

mod hostile;
mod placement;
mod rights;
mod scan;
mod stub;

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::sync::Mutex;
use std::time::Instant;

use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::{self, Message};

use crate::ctl::ran_at;
use crate::fixture::{Answer, Builder, Controller, PATIENCE, free_port, wait_until};

/// The door's token for the other machine, and one of its operator.
const TOKEN: &str = "of-the-other-machine-0123456789";
const OWNER: &str = "of-the-operator-there-0123456789";

struct Two {
    door: Controller,
    tokyo: Controller,
}

impl Two {
    /// A door to `tokyo`, which asks for a token.
    fn new(tokyo: &str) -> Self {
        Self::with(tokyo, "read-write", &[])
    }

    /// A door whose token for `tokyo` has this access. Callers of the door show one of `tokens`, each with its access, if there are any.
    fn with(tokyo: &str, access: &str, tokens: &[(&str, &str)]) -> Self {
        let builder = Builder::new();
        let [file, owner] =
            [("token", TOKEN), ("owner", OWNER)].map(|(name, token)| builder.write_file(name, token, 0o600));
        // The same one after a restart.
        let listen = format!("listen = '127.0.0.1:{}'", free_port());
        let of_door = format!("{{ name = 'door', file = {file:?}, access = '{access}' }}");
        let owner = format!("{{ name = 'owner', file = {owner:?} }}");
        let tokyo = builder.config(&format!("{listen}\n[auth]\ntokens = [{of_door}, {owner}]\n{tokyo}"));
        let tokyo = tokyo.built_in();
        let builder = Builder::new();
        let token = builder.write_file("tokyo.token", &format!("{TOKEN}\n"), 0o600);
        let url = tokyo.url("");
        let mut config = format!("[machines.tokyo]\nurl = '{url}'\ntoken_file = {token:?}\n");
        for (token, access) in tokens {
            let file = builder.write_file(access, token, 0o600);
            config += &format!("[[auth.tokens]]\nname = '{access}'\nfile = {file:?}\naccess = '{access}'\n");
        }
        let door = builder.config(&config).built_in();
        let two = Self { door, tokyo };
        two.wait_for("tokyo: its controller is reached");
        two
    }

    fn wait_for(&self, line: &str) {
        wait_until(line, || self.door.log.text().contains(line));
    }

    /// Calls the other machine itself, as its operator.
    fn at_tokyo(&self, method: &str, path: &str) -> Answer {
        let request = ureq::http::Request::builder().method(method).uri(self.tokyo.url(path));
        self.tokyo.send(request.header("authorization", format!("Bearer {OWNER}")).body(()).unwrap())
    }

    fn call(&self, path: &str) -> Value {
        self.door.get(path).json()
    }

    /// Starts an account there, and waits until it runs.
    fn start(&self, name: &str) {
        let path = format!("/openqq/start_client?client={name}&machine=tokyo&sandbox_login_time=0");
        assert_eq!(self.call(&path)["code"], 0);
        wait_until("it runs", || self.checked(name)["state"] == "running");
    }

    /// Runs `wqctl` at the door: its exit status, what it printed and what it complained about.
    fn wqctl(&self, words: &[&str]) -> (Option<i32>, String, String) {
        ran_at(&self.door.url(""), words)
    }

    fn checked(&self, name: &str) -> Value {
        self.call(&format!("/openqq/check_client?client={name}"))["client"][0].clone()
    }
}

#[test]
fn accounts_of_another_machine_are_called_as_own_ones() {
    let two = Two::new("");
    two.start("far");
    let (far, near) = (two.checked("far"), two.call("/openqq/start_client?client=near&sandbox_login_time=0"));
    assert_eq!((&far["machine"], &near["code"]), (&json!("tokyo"), &json!(0)));
    // All are listed, by each API.
    let all = two.call("/openqq/check_client")["client"].clone();
    assert_eq!(all.as_array().unwrap().len(), 2);
    let page = two.call("/v1/clients");
    let names: Vec<_> = page["accounts"].as_array().unwrap().iter().map(|one| &one["name"]).collect();
    assert_eq!(names, ["far", "near"]);
    assert_eq!(page["total"], 2);
    assert_eq!(two.call("/v1/clients?machine=local")["total"], 1);
    assert_eq!(two.call("/v1/clients?machine=tokyo&state=running")["accounts"][0]["machine"], "tokyo");
    assert_eq!(two.call("/v1/clients/far")["machine"], "tokyo");
    // The machine itself knows nothing of the door, and a door's question is about its own accounts alone.
    let asked = ureq::http::Request::get(two.door.url("/v1/clients")).header("x-wqcontroller-door", "full");
    assert_eq!(two.door.send(asked.body(()).unwrap()).json()["total"], 1);
    // Calls to the account go there: of the old API, below /v1, and OneBot's.
    let friends = two.call("/openqq/get_friend_info?client=far");
    assert!(!friends.as_array().unwrap().is_empty());
    let friend = friends[0]["id"].as_str().unwrap();
    let sent = two.call(&format!("/openqq/send_friend_message?client=far&id={friend}&content=hi"));
    assert_eq!(sent["code"], 0, "{sent}");
    assert_eq!(two.call("/onebot/v11/get_login_info?client=far")["status"], "ok");
    assert_eq!(two.call("/clients/far/onebot/v11/get_status")["data"]["online"], true);
    assert_eq!(two.call("/v1/clients/far/explain")["summary"].as_str().map(str::is_empty), Some(false));
    let url = two.door.url("/clients/far/onebot/v11/api").replace("http", "ws");
    let stream = TcpStream::connect(url.split('/').nth(2).unwrap()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let (mut socket, _) = tungstenite::client(url, stream).unwrap();
    socket.send(Message::text(r#"{"action":"get_login_info","echo":7}"#)).unwrap();
    let answer: Value = serde_json::from_str(socket.read().unwrap().to_text().unwrap()).unwrap();
    assert_eq!((&answer["echo"], &answer["status"]), (&json!(7), &json!("ok")));
    // And it ends there.
    assert_eq!(two.call("/openqq/stop_client?client=far")["code"], 0);
    wait_until("it is gone", || two.call("/openqq/check_client?client=far")["code"] == 1);
    assert_eq!(two.call("/openqq/get_user_info?client=far")["code"], 1);
    let log = two.door.log.text() + &two.tokyo.log.text();
    assert!(!log.contains(TOKEN), "{log}");
}

#[test]
fn call_waits_for_first_answer_of_its_machine() {
    // It answers its first request late.
    let (go, may_go) = std::sync::mpsc::channel::<()>();
    let may_go = Mutex::new(may_go);
    let late = stub::Stub::new(move |line, stream| match stub::path(line) {
        "/v1/machine" => {
            let _ = may_go.lock().unwrap().recv();
            stub::json_answer(stream, r#"{"free_memory":1}"#);
        }
        "/v1/events" => stub::events(stream, ""),
        path if path.starts_with("/v1/clients?") => {
            stub::json_answer(stream, r#"{"accounts":[],"next":null}"#);
        }
        _ => stub::json_answer(stream, r#"{"code":0,"client":"far","account":"far","status":"success"}"#),
    });
    let door = late.door();
    let host = door.url("").trim_start_matches("http://").trim_end_matches('/').to_owned();
    let calls = [
        ("GET /openqq/start_client?client=far&machine=tokyo HTTP/1.1", ""),
        (
            "PUT /v1/clients/farther?machine=tokyo HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: 2",
            "{}",
        ),
    ];
    let calls = calls.map(|(head, body)| {
        let mut call = TcpStream::connect(&host).unwrap();
        call.set_read_timeout(Some(PATIENCE)).unwrap();
        let text = format!("{head}\r\nHost: {host}\r\nConnection: close\r\n\r\n{body}");
        call.write_all(text.as_bytes()).unwrap();
        call
    });
    // What is known already waits for nothing.
    assert_eq!(door.get("/v1/clients").json()["total"], 0);
    assert_eq!(door.get("/openqq/check_client?client=far").json()["code"], 1);
    go.send(()).unwrap();
    for call in calls {
        let mut line = String::new();
        BufReader::new(call).read_line(&mut line).unwrap();
        assert!(line.contains(" 200 "), "{line}");
    }
}

#[test]
fn names_are_one_in_all_machines() {
    let two = Two::new("");
    two.start("far");
    let refused = |path: &str, why: &str| {
        let answer = two.call(path);
        assert_eq!(answer["code"], 6, "{answer}");
        assert!(answer["status"].as_str().unwrap().contains(why), "{answer}");
    };
    refused("/openqq/start_client?client=far&machine=local", "far lives on the machine tokyo");
    refused("/openqq/start_client?client=x&machine=osaka", "there is no machine \"osaka\"");
    let (status, _, complaint) = two.wqctl(&["start", "far", "--machine", "local"]);
    assert_eq!(status, Some(1));
    assert!(complaint.contains("far: it lives on the machine tokyo"), "{complaint}");
    // Without a word it is started where it lives.
    assert_eq!(two.call("/openqq/start_client?client=far")["status"], "client already exists");
    // One that is made there directly.
    assert_eq!(two.call("/openqq/start_client?client=twin&sandbox_login_time=0")["code"], 0);
    let start = "/openqq/start_client?client=twin&sandbox_login_time=0";
    assert_eq!(two.at_tokyo("GET", start).json()["code"], 0);
    wait_until("both are known", || two.door.get("/openqq/get_user_info?client=twin").status == 409);
    let names = two.call("/v1/clients?q=twin");
    let names: Vec<_> = names["accounts"].as_array().unwrap().iter().map(|one| &one["name"]).collect();
    assert_eq!(names, ["twin@local", "twin@tokyo"]);
    assert_eq!(two.door.get("/v1/clients/twin").json()["code"], "ambiguous_name");
    for full in ["twin@local", "twin@tokyo"] {
        wait_until("it runs", || two.door.get(&format!("/openqq/get_user_info?client={full}")).status == 200);
        assert_eq!(two.call(&format!("/openqq/stop_client?client={full}"))["code"], 0);
    }
    wait_until("both are gone", || two.call("/v1/clients?q=twin")["total"] == 0);
}

#[test]
fn machine_that_is_away_keeps_its_accounts_in_the_list() {
    let mut two = Two::new("");
    two.start("far");
    two.tokyo.kill();
    let away = || {
        let answer = two.door.get("/openqq/get_user_info?client=far");
        answer.status == 503 && answer.json()["machine"] == "tokyo"
    };
    wait_until("it is away", away);
    let far = two.checked("far");
    assert_eq!((&far["machine_state"], &far["state"]), (&json!("unreachable"), &json!("running")));
    let (_, list, _) = two.wqctl(&["list"]);
    let row = list.lines().nth(1).unwrap_or_default();
    assert!(row.contains("unreachable  tokyo"), "{list}");
    assert!(!list.contains("os error"), "{list}");
    let (_, shown, _) = two.wqctl(&["show", "far"]);
    assert!(
        shown.contains("tokyo: unreachable, since ") && shown.contains("what follows is from before"),
        "{shown}"
    );
    let (status, _, complaint) = two.wqctl(&["list", "--machine", "osaka"]);
    assert!(status != Some(0) && complaint.contains("there is no machine \"osaka\""), "{complaint}");
    // Nothing is started elsewhere, and no new name, for it may be one of those there.
    let refused = two.call("/openqq/start_client?client=new");
    assert!(refused["status"].as_str().unwrap().contains("may have an account new"), "{refused}");
    assert_eq!(two.call("/v1/clients/far/explain")["code"], "machine_unreachable");
    // Nor is that forgotten by the next controller.
    wait_until("it is on disk", || {
        let found = two.door.path("machines.json");
        std::fs::read_to_string(found).is_ok_and(|text| text.contains("far"))
    });
    two.door.kill();
    two.door.start_again();
    assert_eq!(two.checked("far")["machine_state"], "unreachable");
    two.tokyo.start_again();
    wait_until("it is back", || two.checked("far").get("machine_state").is_none());
    wait_until("it answers", || two.door.get("/openqq/get_user_info?client=far").status == 200);
}

#[test]
fn changes_of_another_machine_are_events_here() {
    let two = Two::new("");
    let stream = TcpStream::connect(two.door.url("").split('/').nth(2).unwrap()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut lines = BufReader::new(stream.try_clone().unwrap());
    std::io::Write::write_all(&mut &stream, b"GET /v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let mut until = |what: &str| {
        let deadline = Instant::now() + PATIENCE;
        let mut line = String::new();
        while !line.contains(what) {
            assert!(Instant::now() < deadline, "{what} did not come");
            line.clear();
            lines.read_line(&mut line).unwrap();
        }
        line
    };
    until("event: ready");
    two.start("far");
    assert!(until(r#""name":"far""#).contains(r#""machine":"tokyo""#));
    assert_eq!(two.call("/openqq/stop_client?client=far")["code"], 0);
    until("event: gone");
    assert!(until(r#""name":"far""#).contains(r#""machine":"tokyo""#));
}

#[test]
fn door_alone_is_told_how_a_machine_is() {
    let tokyo = Builder::new().built_in();
    let events = |header: &str| {
        let stream = TcpStream::connect(tokyo.url("").split('/').nth(2).unwrap()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let asked = format!("GET /v1/events HTTP/1.1\r\nHost: localhost\r\n{header}\r\n");
        std::io::Write::write_all(&mut &stream, asked.as_bytes()).unwrap();
        let mut kinds =
            BufReader::new(stream).lines().map(Result::unwrap).filter(|line| line.starts_with("event: "));
        assert_eq!(kinds.next().as_deref(), Some("event: ready"));
        kinds
    };
    let (mut door, mut caller) = (events("X-Wqcontroller-Door: full\r\n"), events(""));
    // Again and again.
    for _ in 0..2 {
        assert_eq!(door.next().as_deref(), Some("event: health"));
    }
    assert_eq!(tokyo.get("/openqq/start_client?client=a&sandbox_login_time=0").json()["code"], 0);
    assert_eq!(caller.next().as_deref(), Some("event: account"));
}

#[test]
fn machine_may_refuse_to_be_reached_through_a_door() {
    let builder = Builder::new();
    let tokyo = builder.config("[auth]\ndoors = false").built_in();
    let machines = format!("[machines.tokyo]\nurl = '{}'\n", tokyo.url("").trim_end_matches('/'));
    let door = Builder::new().config(&machines).built_in();
    wait_until("it says why", || door.log.text().contains("auth.doors"));
    assert_eq!(door.get("/openqq/start_client?client=a&machine=tokyo").json()["code"], 503);
}
