//! Rules that hold at the client's port: what read-only means, what old calls become, and how files of the sandbox are served.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;

use serde_json::{Value, json};

use super::act;
use super::socket::Socket;
use crate::client::process::{Client, PATIENCE, request};

/// A group of the sandbox's world.
const GROUP: u64 = 700_100_200;

#[test]
fn client_holds_itself_to_what_the_controller_says_of_a_token() {
    let client = Client::running(&[]);
    let says = "X-Wqcontroller-Access: read-only\r\n";
    let status = |what: &str| request(client.setup.port, what, says, "").unwrap().status;
    assert_eq!(status("GET /onebot/v11/get_status"), 200);
    for refused in [
        "POST /onebot/v11/get_status",
        "GET /onebot/v11/send_private_msg?user_id=10004&message=x",
        "GET /onebot/v11/can_send_image",
        "GET /onebot/v11/get_cookies",
    ] {
        assert_eq!(status(refused), 403, "{refused}");
    }
    for path in ["/ws", "/api", "/event"] {
        let opened = Socket::try_open(&client, path, &[("x-wqcontroller-access", "read-only")]);
        assert_eq!(opened.err(), Some(403), "{path}");
    }
}

/// The parameters of the next action among the frames.
fn action(frames: &mut BufReader<TcpStream>) -> Value {
    let mut line = String::new();
    while line != "event: action\n" {
        line.clear();
        assert_ne!(frames.read_line(&mut line).unwrap(), 0, "they have ended");
    }
    while !line.starts_with("data: ") {
        line.clear();
        assert_ne!(frames.read_line(&mut line).unwrap(), 0, "they have ended");
    }
    let data: Value = serde_json::from_str(line["data: ".len()..].trim_end()).unwrap();
    data["frame"].clone()
}

#[test]
fn old_calls_become_actions_with_all_that_was_said() {
    let client = Client::running(&[]);
    let mut stream = TcpStream::connect(("127.0.0.1", client.setup.port)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(b"GET /sandbox/frames?kept=0 HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n").unwrap();
    let mut frames = BufReader::new(stream);
    let mut line = String::new();
    while line != "\r\n" {
        line.clear();
        assert_ne!(frames.read_line(&mut line).unwrap(), 0);
    }
    for (call, name, wanted) in [
        (
            "whole_mute?uid=700100200&on=0",
            "set_group_whole_ban",
            json!({ "group_id": GROUP, "enable": false }),
        ),
        ("whole_mute?uid=700100200", "set_group_whole_ban", json!({ "group_id": GROUP, "enable": true })),
        (
            "approve_request?type=friend&flag=f&remark=r",
            "set_friend_add_request",
            json!({ "flag": "f", "approve": true, "remark": "r" }),
        ),
        (
            "approve_request?type=add&flag=f&approve=0&reason=r",
            "set_group_add_request",
            json!({ "flag": "f", "approve": false, "reason": "r", "sub_type": "add", "type": "add" }),
        ),
        ("recall_message?message_id=-7", "delete_msg", json!({ "message_id": -7 })),
        ("leave_group?uid=700100200", "set_group_leave", json!({ "group_id": GROUP, "is_dismiss": false })),
    ] {
        client.get(&format!("/openqq/{call}"));
        let seen = action(&mut frames);
        assert_eq!((seen["action"].as_str(), &seen["params"]), (Some(name), &wanted), "{call}");
    }
}

#[test]
fn files_of_the_sandbox_are_no_pages_and_people_act_by_json_only() {
    let client = Client::running(&[]);
    let page = "base64://PHNjcmlwdD48L3NjcmlwdD4="; // <script></script>
    let file = json!({ "group_id": GROUP, "file": page, "name": "x.html" });
    let id = act(&client, "upload_group_file", &file)["data"]["file_id"].clone();
    let url = act(&client, "get_group_file_url", &json!({ "group_id": GROUP, "file_id": id }));
    let url = url["data"]["url"].as_str().unwrap();
    let served = client.get(&url[url.find("/sandbox/file/").unwrap()..]);
    assert!(served.status == 200 && served.body.contains("script"), "{served:?}");
    assert_eq!(served.header("x-content-type-options"), Some("nosniff"));
    assert_eq!(served.header("content-disposition"), Some("attachment"));
    assert_ne!(served.header("content-type"), Some("text/html"));
    let missing = client.get("/sandbox/file/x.png");
    assert_eq!((missing.status, &missing.json()["status"]), (404, &json!("failed")));
    let say = |kind: &str| {
        let body = r#"{"message":"x"}"#;
        request(client.setup.port, "POST /sandbox/people/10002/say", kind, body).unwrap().status
    };
    for kind in ["", "Content-Type: text/plain\r\n", "Content-Type: application/x-www-form-urlencoded\r\n"] {
        assert_eq!(say(kind), 415, "{kind}");
    }
    assert_eq!(say("Content-Type: application/json\r\n"), 200);
}
