//! What a caller may do, and for how long: streams end with what opened them, and a read-only token changes nothing.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;

use rustix::process::Signal;
use serde_json::json;
use wqcontroller::wire::calls::{CLIENT_CALLS, CONTROLLER_CALLS};

use super::{EYE, KEY, Wire, ask, with_tokens};
use crate::fixture::{Builder, Controller, wait_until, write_file};

/// A person of the sandbox's world.
const PERSON: u64 = 10_004;

/// Calls of the older API that change something, each with what it would need.
const WRITES: &str = "start_client stop_client relogin_client relogin \
    send_friend_message?id=10004&content=x send_friend_message?id=10004&segments=[CQ:face,id=1] \
    send_group_message?gid=20001&content=x&at=10002 send_group_message?gid=20001&segments=x&reply_to=1 \
    send_discuss_message?did=1&content=x send_sess_message?id=1&content=x shutup_group_member?gid=1&member_id=1 \
    kick_group_member?gid=1&member_id=1 unmute_group_member?gid=1&member_id=1 whole_mute?gid=1 set_card?gid=1&card=x \
    leave_group?gid=1 recall_message?message_id=1 approve_request?flag=1 onebot?action=send_private_msg&user_id=10004&message=x \
    onebot?action=set_group_leave&group_id=1 onebot?action=get_status";

/// Those that change nothing.
const READS: &str = "check_client get_qrcode get_user_info get_friend_info get_group_info get_group_basic_info get_discuss_info \
    search_friend search_group get_client_info check_event";

/// Actions that a read-only token does not open: not even those that only ask, if they don't begin with `get_`.
const ACTIONS: &str = "send_private_msg?user_id=10004&message=x send_msg?user_id=10004&message=x send_group_msg delete_msg?message_id=1 \
    set_group_leave?group_id=1 set_group_card set_friend_add_request?flag=1 set_restart clean_cache can_send_image _get_group_notice \
    .handle_quick_operation upload_group_file send_private_msg_async?user_id=10004&message=x get_cookies get_credentials get_csrf_token \
    get_clientkey get_cookies_async .get_status Get_status get-status GET_STATUS ../get_status get_status/../send_private_msg";

/// What people of the world do.
const VERBS: [&str; 6] = ["say", "recall", "react", "poke", "request", "change"];

/// A controller with an account of the sandbox that runs.
fn running(config: &str) -> Controller {
    let controller = with_tokens(Builder::new().config(config)).built_in();
    let get = |call: &str| get(&controller, &format!("/openqq/{call}"), KEY);
    assert_eq!(get("start_client?client=bot&sandbox_login_time=0").json()["code"], 0);
    wait_until("it runs", || get("check_client?client=bot").body.contains("running"));
    controller
}

fn get(controller: &Controller, target: &str, token: &str) -> Wire {
    ask(controller, &format!("GET {target} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}"))
}

fn post(controller: &Controller, target: &str, credential: &str, body: &str) -> Wire {
    let head = format!(
        "POST {target} HTTP/1.1\r\nHost: localhost\r\n{credential}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    super::wire(&controller.raw(head.as_bytes()))
}

/// The header with the cookie of a session that a token opens.
fn signed_in(controller: &Controller, token: &str) -> String {
    let answer = post(controller, "/v1/session", "X: x", &json!({ "token": token }).to_string());
    let cookie = answer.head.lines().find_map(|line| line.strip_prefix("Set-Cookie: ")).expect("a cookie");
    format!("Cookie: {}", cookie.split(';').next().unwrap())
}

/// A stream of events that has begun.
struct Stream(BufReader<TcpStream>);

impl Stream {
    fn open(controller: &Controller, path: &str, credential: &str) -> Self {
        let mut socket = controller.connect();
        write!(socket, "GET {path} HTTP/1.0\r\nHost: localhost\r\n{credential}\r\n\r\n").unwrap();
        let mut stream = Self(BufReader::new(socket));
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert_ne!(stream.0.read_line(&mut head).unwrap(), 0, "{head}");
        }
        assert!(head.contains(" 200 ") && head.contains("text/event-stream"), "{path}: {head}");
        stream
    }

    /// Reads until these words come.
    fn reads(&mut self, words: &str) {
        let mut line = String::new();
        while !line.contains(words) {
            line.clear();
            assert_ne!(self.0.read_line(&mut line).unwrap(), 0, "it has ended");
        }
    }

    /// Waits for its end. Returns what came before.
    fn rest(mut self) -> String {
        let mut rest = Vec::new();
        self.0.read_to_end(&mut rest).unwrap();
        String::from_utf8(rest).unwrap()
    }
}

/// All that goes on.
const STREAMS: [&str; 3] =
    ["/v1/events", "/v1/clients/bot/log?follow=1", "/v1/clients/bot/sandbox/frames?kept=0"];

#[test]
fn streams_end_when_their_caller_signs_out() {
    let controller = running("");
    for path in STREAMS {
        let cookies = [signed_in(&controller, EYE), signed_in(&controller, EYE)];
        let [one, mut other] = cookies.each_ref().map(|cookie| Stream::open(&controller, path, cookie));
        let out =
            ask(&controller, &format!("DELETE /v1/session HTTP/1.1\r\nHost: localhost\r\n{}", cookies[0]));
        assert_eq!(out.status, 204);
        one.rest();
        // That of another browser goes on.
        if path.ends_with("kept=0") {
            let said = post(
                &controller,
                &format!("/v1/clients/bot/sandbox/people/{PERSON}/say"),
                &format!("Authorization: Bearer {KEY}"),
                &json!({ "message": "still-there" }).to_string(),
            );
            assert_eq!(said.status, 200, "{said:?}");
            other.reads("still-there");
        }
    }
}

#[test]
fn streams_end_when_their_token_goes_and_with_the_controller() {
    let mut controller = running("[http]\ndrain_timeout = 3600");
    for (round, path) in STREAMS.into_iter().enumerate() {
        // Its digest is all that is kept of a token, so another value is another token.
        let (old, new) = (format!("{EYE}-{round}"), format!("{EYE}-{}", round + 1));
        write_file(&controller.path("eye"), &old, 0o600);
        controller.reload();
        let by_token = Stream::open(&controller, path, &format!("Authorization: Bearer {old}"));
        let by_session = Stream::open(&controller, path, &signed_in(&controller, &old));
        write_file(&controller.path("eye"), &new, 0o600);
        controller.reload();
        by_token.rest();
        by_session.rest();
        assert_eq!(get(&controller, path, &old).status, 401, "{path}");
    }
    let streams =
        STREAMS.map(|path| Stream::open(&controller, path, &format!("Authorization: Bearer {KEY}")));
    controller.signal(Signal::TERM);
    for stream in streams {
        stream.rest();
    }
    assert_eq!(controller.wait().code(), Some(0));
}

#[test]
fn websocket_ends_with_the_token_that_opened_it_and_outlives_other_reloads() {
    let controller = running("");
    let open = || {
        let mut socket = controller.connect();
        write!(
            socket,
            "GET /clients/bot/onebot/v11/event HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nAuthorization: Bearer {KEY}\r\n\r\n"
        )
        .unwrap();
        let mut socket = BufReader::new(socket);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert_ne!(socket.read_line(&mut head).unwrap(), 0, "{head}");
        }
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        socket
    };
    let mut socket = open();
    write_file(&controller.path("eye"), "another-word-that-reads", 0o600);
    controller.reload();
    // The first event, `connect`, has come before or comes now.
    let mut frame = [0; 2];
    socket.read_exact(&mut frame).unwrap();
    assert_eq!(frame[0], 0x81);
    let said = post(
        &controller,
        "/openqq/onebot?client=bot&action=send_private_msg",
        &format!("Authorization: Bearer {KEY}"),
        &json!({ "user_id": PERSON, "message": "still-there" }).to_string(),
    );
    assert_eq!(said.json()["status"], "ok", "{said:?}");
    let mut seen = Vec::new();
    while !String::from_utf8_lossy(&seen).contains("still-there") {
        let mut more = [0; 1024];
        let count = socket.read(&mut more).unwrap();
        assert_ne!(count, 0, "it has ended");
        seen.extend_from_slice(&more[..count]);
    }
    write_file(&controller.path("key"), "another-word-that-writes", 0o600);
    controller.reload();
    // Until the end of the connection.
    let _ = socket.read_to_end(&mut seen);
}

#[test]
fn read_only_token_is_refused_by_each_call_that_changes_something() {
    let controller = running("");
    let name = |call: &'static str| call.split('?').next().unwrap();
    let listed: BTreeSet<_> = WRITES.split_whitespace().chain(READS.split_whitespace()).map(name).collect();
    let own = CONTROLLER_CALLS.iter().map(|call| call.name);
    let all: BTreeSet<_> = own.chain(CLIENT_CALLS.iter().map(|call| call.name)).collect();
    assert_eq!(listed, all, "list new calls here");
    let cookie = signed_in(&controller, EYE);
    let token = format!("Authorization: Bearer {EYE}");
    for call in WRITES.split_whitespace() {
        let target = format!("/openqq/{call}{}client=bot", if call.contains('?') { '&' } else { '?' });
        get(&controller, &target, EYE).is_refused(403, "the token is read-only");
        get(&controller, &format!("{target}&token={EYE}"), EYE).is_refused(403, "the token is read-only");
        post(&controller, &target, &token, "{}").is_refused(403, "the token is read-only");
    }
    for call in READS.split_whitespace() {
        // `check_event` waits for an event.
        if call != "check_event" {
            assert_ne!(get(&controller, &format!("/openqq/{call}?client=bot"), EYE).status, 403, "{call}");
        }
        post(&controller, &format!("/openqq/{call}?client=bot"), &token, "{}").is_refused(403, "read-only");
    }
    for action in ACTIONS.split_whitespace() {
        for root in ["/clients/bot/onebot/v11/", "/onebot/v11/"] {
            let target = format!("{root}{action}{}client=bot", if action.contains('?') { '&' } else { '?' });
            // The path has the name already.
            let target =
                if root.starts_with("/clients") { target.replace("client=bot", "x=1") } else { target };
            let answer = get(&controller, &target, EYE);
            assert!(answer.status == 403 || answer.status == 404, "{target} {answer:?}");
            assert_eq!(answer.json()["status"], "failed", "{target}");
            assert_eq!(post(&controller, &target, &token, "{}").status, 403, "{target}");
        }
    }
    assert_eq!(get(&controller, "/clients/bot/onebot/v11/get_status", EYE).status, 200);
    assert_eq!(post(&controller, "/clients/bot/onebot/v11/get_status", &token, "{}").status, 403);
    let below = "/v1/clients/bot/sandbox";
    for credential in [&token, &cookie] {
        for verb in VERBS {
            let path = format!("{below}/people/{PERSON}/{verb}");
            let answer = post(&controller, &path, credential, r#"{"message":"x"}"#);
            assert_eq!(answer.status, 403, "{verb} {answer:?}");
            // By GET none of them does anything.
            let asked = ask(
                &controller,
                &format!("GET {path}?message=x HTTP/1.1\r\nHost: localhost\r\n{credential}"),
            );
            assert!([403, 405].contains(&asked.status), "{verb} {asked:?}");
        }
        for path in ["world", "frames", "file/x"] {
            for method in ["POST", "PUT", "DELETE", "PATCH"] {
                let head = format!("{method} {below}/{path} HTTP/1.1\r\nHost: localhost\r\n{credential}");
                assert_eq!(ask(&controller, &head).status, 403, "{method} {path}");
            }
        }
    }
    // Nothing of all this was done.
    let log = get(&controller, "/v1/clients/bot/log?lines=1000", EYE).body;
    assert!(!log.contains("send_private_msg"), "{log}");
    assert!(get(&controller, "/openqq/check_client?client=bot", EYE).body.contains("running"));
}
