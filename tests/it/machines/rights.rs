//! What callers of a door may do on another machine.

use super::*;

const KEY: &str = "of-the-door-that-writes-0123";
const EYE: &str = "of-the-door-that-reads-0123";

/// Each call that changes something: method, path and body.
const CHANGES: [(&str, &str, &str); 12] = [
    ("GET", "/openqq/start_client?client=far", ""),
    ("GET", "/openqq/stop_client?client=far", ""),
    ("POST", "/openqq/stop_client?client=far", "x=1"),
    ("GET", "/openqq/relogin_client?client=far", ""),
    ("GET", "/openqq/send_friend_message?client=far&id=1&content=x", ""),
    ("PUT", "/v1/clients/far", "{}"),
    ("DELETE", "/v1/clients/far", ""),
    ("POST", "/v1/clients/far/start", ""),
    ("POST", "/v1/clients/far/stop", ""),
    ("POST", "/v1/clients/far/restart", ""),
    ("POST", "/v1/clients/far/sandbox/people/10001/say", "{}"),
    ("POST", "/onebot/v11/send_private_msg?client=far", "{}"),
];

/// Each call that reads.
const READS: [&str; 8] = [
    "/openqq/check_client?client=far",
    "/openqq/get_user_info?client=far",
    "/v1/clients/far",
    "/v1/clients/far/explain",
    "/v1/clients/far/log",
    "/v1/clients/far/sandbox/world",
    "/onebot/v11/get_status?client=far",
    "/clients/far/onebot/v11/get_login_info",
];

impl Two {
    fn with_token(&self, (method, path, body): (&str, &str, &str), token: Option<&str>) -> Answer {
        let request = ureq::http::Request::builder().method(method).uri(self.door.url(path));
        let request = match token {
            Some(token) => request.header("authorization", format!("Bearer {token}")),
            None => request,
        };
        let kind = if path.starts_with("/v1") || path.contains("onebot") { "application/json" } else { FORM };
        self.door.send(request.header("content-type", kind).body(body.to_owned()).unwrap())
    }
}

const FORM: &str = "application/x-www-form-urlencoded";

fn start_there(two: &Two, more: &str) {
    let started = two.at_tokyo("GET", &format!("/openqq/start_client?client=far&sandbox_login_time=0{more}"));
    assert_eq!(started.json()["code"], 0, "{started:?}");
    wait_until("it runs", || {
        two.at_tokyo("GET", "/openqq/check_client?client=far").json()["client"][0]["state"] == "running"
    });
}

fn pid(two: &Two) -> Value {
    two.at_tokyo("GET", "/v1/clients/far").json()["client"]["pid"].clone()
}

#[test]
fn door_with_a_read_only_token_reads_and_its_callers_learn_why_no_more() {
    let two = Two::with("", "read-only", &[]);
    start_there(&two, "");
    wait_until("the door knows it", || two.door.get("/v1/clients/far").status == 200);
    let before = pid(&two);
    for path in READS {
        wait_until(path, || two.door.get(path).status == 200);
    }
    for call in CHANGES {
        let refused = two.with_token(call, None);
        assert_eq!(refused.status, 403, "{call:?} {refused:?}");
        let text = refused.text();
        assert!(text.contains("for the machine tokyo is read-only there"), "{call:?} {text}");
        assert!(refused.headers.get("www-authenticate").is_none(), "{call:?}");
        assert!(refused.headers.get("x-wqcontroller-refused").is_none(), "{call:?}");
    }
    let about = |token: &str| {
        let asked = ureq::http::Request::get(two.tokyo.url("/v1/machine"));
        let asked = asked.header("authorization", format!("Bearer {token}")).body(()).unwrap();
        two.tokyo.send(asked).json()["takes_accounts"].clone()
    };
    assert_eq!((about(TOKEN), about(OWNER)), (json!(false), json!(true)));
    let created = two.door.get("/openqq/start_client?client=new&machine=tokyo");
    assert_eq!(created.status, 403, "{created:?}");
    assert_eq!(two.door.get("/v1/clients/new").status, 404);
    assert_eq!(pid(&two), before);
    let (status, _, complaint) = two.wqctl(&["stop", "far"]);
    assert!(status != Some(0) && complaint.contains("tokyo"), "{complaint}");
}

#[test]
fn read_only_caller_of_a_door_changes_nothing_through_it() {
    let two = Two::with("", "read-write", &[(KEY, "read-write"), (EYE, "read-only")]);
    start_there(&two, "");
    let known = |token| two.with_token(("GET", "/v1/clients/far", ""), token).status;
    wait_until("the door knows it", || known(Some(KEY)) == 200);
    let before = pid(&two);
    for call in CHANGES {
        let refused = two.with_token(call, Some(EYE));
        assert_eq!(refused.status, 403, "{call:?} {refused:?}");
        assert!(!refused.text().contains("tokyo"), "{call:?} it is the caller's own token: {refused:?}");
        assert_eq!(two.with_token(call, None).status, 401, "{call:?}");
    }
    for path in READS {
        assert_eq!(two.with_token(("GET", path, ""), Some(EYE)).status, 200, "{path}");
        assert_eq!(two.with_token(("GET", path, ""), None).status, 401, "{path}");
    }
    assert_eq!(pid(&two), before);
    assert_eq!(two.with_token(("POST", "/v1/clients/far/restart", ""), Some(KEY)).status, 200);
    assert_ne!(pid(&two), before);
}

#[test]
fn token_that_a_machine_does_not_know_any_more_is_the_doors() {
    let two = Two::new("");
    start_there(&two, "");
    wait_until("the door knows it", || two.door.get("/v1/clients/far").status == 200);
    // Another one from now on, which the door is not told of.
    crate::fixture::write_file(&two.tokyo.path("token"), "another-one-0123456789", 0o600);
    two.tokyo.reload();
    // The machine refuses it, or the door has noticed already that it is not let in. The caller's own token is never meant.
    wait_until("it is refused", || {
        let refused = two.door.get("/v1/clients/far/explain");
        assert!(matches!(refused.status, 200 | 502 | 503), "{refused:?}");
        refused.text().contains("token_file")
    });
    two.wait_for("its controller does not know the token in token_file");
    crate::fixture::write_file(&two.door.path("tokyo.token"), "another-one-0123456789", 0o600);
    wait_until("it is back", || two.door.get("/v1/clients/far/explain").status == 200);
}

/// How a WebSocket for OneBot at the door is answered: the status, 101 where it opens.
fn websocket(two: &Two, path: &str, token: Option<&str>) -> u16 {
    let url = two.door.url(path).replace("http", "ws");
    let stream = TcpStream::connect(two.door.address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut request = tungstenite::client::IntoClientRequest::into_client_request(url).unwrap();
    if let Some(token) = token {
        request.headers_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    }
    match tungstenite::client(request, stream) {
        Ok((mut socket, _)) => {
            socket.send(Message::text(r#"{"action":"get_login_info","echo":7}"#)).unwrap();
            loop {
                let frame: Value = serde_json::from_str(socket.read().unwrap().to_text().unwrap()).unwrap();
                if frame["echo"] == 7 {
                    assert_eq!(frame["status"], "ok", "{frame}");
                    return 101;
                }
            }
        }
        Err(tungstenite::HandshakeError::Failure(tungstenite::Error::Http(answer))) => {
            answer.status().as_u16()
        }
        Err(other) => panic!("{other}"),
    }
}

#[test]
fn token_of_an_account_opens_that_account_through_a_door() {
    for tokens in [&[(KEY, "read-write")][..], &[]] {
        let two = Two::with("", "read-write", tokens);
        start_there(&two, "&onebot_server_token=word-of-far");
        let other =
            "/openqq/start_client?client=other&sandbox_login_time=0&onebot_server_token=word-of-other";
        assert_eq!(two.at_tokyo("GET", other).json()["code"], 0);
        let names = |token| two.with_token(("GET", "/v1/clients", ""), token).text();
        wait_until("the door knows both", || names(Some(KEY)).contains("\"other\""));
        let http = |path: &str, token| two.with_token(("GET", path, ""), token).status;
        let status = "/onebot/v11/get_status?client=far";
        wait_until("it answers", || http(status, Some("word-of-far")) == 200);
        let by_name = "/clients/far/onebot/v11/get_status";
        for path in [status, by_name] {
            assert_eq!(http(path, Some("word-of-far")), 200, "{path} {tokens:?}");
            assert_eq!(http(path, None), 401, "{path} {tokens:?}");
            for wrong in ["word-of-other", "wrong", TOKEN, OWNER] {
                assert_eq!(http(path, Some(wrong)), 403, "{path} {wrong} {tokens:?}");
            }
            let mark = if path.contains('?') { '&' } else { '?' };
            let query = |word: &str| http(&format!("{path}{mark}access_token={word}"), None);
            assert_eq!((query("word-of-far"), query("word-of-other")), (200, 403), "{path} {tokens:?}");
        }
        for path in ["/onebot/v11/ws?client=far", "/clients/far/onebot/v11/api"] {
            assert_eq!(websocket(&two, path, Some("word-of-far")), 101, "{path}");
            assert_eq!(websocket(&two, path, Some("word-of-other")), 403, "{path}");
            assert_eq!(websocket(&two, path, None), 401, "{path}");
        }
        // A token of the door opens every account, as it does for its own.
        if !tokens.is_empty() {
            assert_eq!(http(status, Some(KEY)), 200);
            assert_eq!(websocket(&two, "/onebot/v11/ws?client=far", Some(KEY)), 101);
        }
        let log = two.door.log.text() + &two.tokyo.log.text();
        assert!(!log.contains("word-of"), "{log}");
    }
}

#[test]
fn stream_of_an_account_elsewhere_ends_with_the_session_that_opened_it() {
    let two = Two::with("", "read-write", &[(KEY, "read-write")]);
    start_there(&two, "");
    wait_until("the door knows it", || {
        two.with_token(("GET", "/v1/clients/far", ""), Some(KEY)).status == 200
    });
    let session = |method: &str, cookie: &str, body: String| {
        let request = ureq::http::Request::builder().method(method).uri(two.door.url("/v1/session"));
        let request = request.header("content-type", "application/json").header("cookie", cookie);
        two.door.send(request.header("origin", two.door.url("")).body(body).unwrap())
    };
    let opened = session("POST", "", json!({ "token": KEY }).to_string());
    let cookie = opened.header("set-cookie").unwrap().split(';').next().unwrap().to_owned();
    let mut follow = |path: &str| {
        let mut stream = two.door.connect();
        let head = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nCookie: {cookie}\r\n\r\n");
        std::io::Write::write_all(&mut stream, head.as_bytes()).unwrap();
        let mut lines = BufReader::new(stream);
        let mut line = String::new();
        lines.read_line(&mut line).unwrap();
        assert!(line.starts_with("HTTP/1.1 200 "), "{path} {line}");
        lines
    };
    let streams = ["/v1/clients/far/log?follow=1", "/v1/clients/far/sandbox/frames"].map(&mut follow);
    assert!(session("DELETE", &cookie, String::new()).status < 300);
    for mut stream in streams {
        // Until it ends; a stream that goes on fails by its time limit.
        let mut rest = Vec::new();
        std::io::Read::read_to_end(&mut stream, &mut rest).unwrap();
        let rest = String::from_utf8_lossy(&rest).to_ascii_lowercase();
        assert!(rest.contains("content-security-policy: default-src 'none'; sandbox"), "{rest}");
    }
}
