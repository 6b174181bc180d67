//! What a door does for accounts of another machine, through a real sshd.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::{self, Message};

use super::{Fleet, ask, is_reachable_and_running};
use crate::machine::assert_inside;

#[test]
fn commands_of_manual_lead_to_start_and_calls_on_other_machine() {
    let Some(fleet) = Fleet::of_two() else { return };
    call_everything(&fleet, None);
}

/// Starts `far` on tokyo, calls it in all ways, and stops it. `token` is what tokyo itself asks for.
pub fn call_everything(fleet: &Fleet, token: Option<&str>) {
    let (door, tokyo) = (fleet.door(), fleet.machine(1));
    door.start_client("far", &["machine=tokyo"]);
    fleet.wait_until_shown("runs", "far", is_reachable_and_running);
    assert_eq!(fleet.shown("far")["machine"], "tokyo");
    let there = || {
        let token = token.map(|token| format!("token={token}"));
        let parameters: Vec<&str> = ["client=far"].into_iter().chain(token.as_deref()).collect();
        tokyo.call("check_client", &parameters)
    };
    assert_eq!(there()["client"][0]["state"], "running", "its own machine is the master");
    door.run_test("fleet::reach::inside_far_is_called");
    let (status, explained) = ask(door, "/v1/clients/far/explain");
    assert_eq!(status, 200, "{explained}");
    door.call("stop_client", &["client=far"]);
    let list = there();
    assert_ne!(list["client"][0]["state"], "running", "{list}");
}

fn get(path: &str) -> Value {
    let mut answer = ureq::get(format!("http://127.0.0.1:4000{path}")).call().unwrap();
    serde_json::from_str(&answer.body_mut().read_to_string().unwrap()).unwrap()
}

#[test]
#[ignore = "runs inside of a machine"]
fn inside_far_is_called() {
    assert_inside();
    // The stream of events is open before anything happens.
    let mut events = BufReader::new(TcpStream::connect("127.0.0.1:4000").unwrap());
    events.get_ref().set_read_timeout(Some(Duration::from_secs(120))).unwrap();
    events.get_mut().write_all(b"GET /v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let mut line = String::new();
    let mut until = |words: &str| {
        while !line.contains(words) {
            line.clear();
            assert_ne!(events.read_line(&mut line).unwrap(), 0, "the events end before {words}");
        }
    };
    until("\"run\"");

    // The old API, below /v1 and OneBot.
    let friends = get("/openqq/get_friend_info?client=far");
    let friend = friends[0]["id"].as_str().unwrap();
    assert_eq!(get(&format!("/openqq/send_friend_message?client=far&id={friend}&content=hi"))["code"], 0);
    assert_eq!(get("/clients/far/onebot/v11/get_status")["data"]["online"], true);

    // WebSocket, kept open over more than one answer.
    let stream = TcpStream::connect("127.0.0.1:4000").unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(120))).unwrap();
    let (mut socket, _) =
        tungstenite::client("ws://127.0.0.1:4000/clients/far/onebot/v11/api", stream).unwrap();
    for n in 0..20 {
        let call = json!({ "action": "get_login_info", "echo": n });
        socket.send(Message::text(call.to_string())).unwrap();
        let answer: Value = serde_json::from_str(socket.read().unwrap().to_text().unwrap()).unwrap();
        assert_eq!((&answer["echo"], &answer["status"]), (&json!(n), &json!("ok")));
    }

    // What the page is made of.
    let page = get("/v1/clients?machine=tokyo");
    assert_eq!(page["accounts"][0]["name"], "far", "{page}");
    assert_eq!(get("/v1/clients/far")["machine"], "tokyo");

    // An event of the other machine.
    assert_eq!(get("/openqq/start_client?client=farther&machine=tokyo")["code"], 0);
    until("\"farther\"");
    assert!(line.contains("tokyo"), "{line}");
    assert_eq!(get("/openqq/stop_client?client=farther")["code"], 0);
}
