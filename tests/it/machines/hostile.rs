//! Machines that are old, broken, or in other hands. The door stays whole: its own accounts go on, its memory is bounded, and its log
//! says in a line what is wrong.

use std::fs;
use std::io::Read;

use super::stub::{Stub, answer, events, json_answer, path, write};
use super::*;

/// The most memory that the process has had, in MiB.
fn peak(controller: &Controller) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", controller.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() / 1024
}

/// What the log says of the machine, without what is not about the connection.
fn said(door: &Controller) -> Vec<String> {
    let log = door.log.text();
    log.lines().filter(|line| line.contains("tokyo: ")).map(str::to_owned).collect()
}

/// The door's own account answers, and the list comes.
fn assert_whole(door: &Controller) {
    let started = door.start_client_with("near", "sandbox_login_time=0&machine=local");
    // A name may be one of a machine that is away; then nothing new is started, and one that is there goes on.
    assert!(matches!(started["code"].as_i64(), Some(0 | 6)), "{started}");
    assert_eq!(door.get("/openqq/check_client").json()["code"], 0);
    assert_eq!(door.get("/v1/clients").status, 200);
    assert_eq!(door.get("/healthz").status, 200);
}

const ABOUT: &str = r#"{"free_memory":1}"#;

/// A machine whose list is this, page by page.
fn listing(page: impl Fn(usize) -> String + Send + Sync + 'static) -> Stub {
    let pages = Mutex::new(0);
    Stub::new(move |line, stream| match path(line) {
        "/v1/machine" => json_answer(stream, ABOUT),
        "/v1/events" => events(stream, ""),
        _ => {
            let mut pages = pages.lock().unwrap();
            *pages += 1;
            json_answer(stream, &page(*pages));
        }
    })
}

/// A machine without accounts that sends this after its first event.
fn telling(more: impl Fn(&mut TcpStream) + Send + Sync + 'static) -> Stub {
    Stub::new(move |line, stream| match path(line) {
        "/v1/machine" => json_answer(stream, ABOUT),
        "/v1/events" => {
            let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n";
            write(stream, format!("{head}event: ready\nid: r-1\ndata: {{\"run\":\"r\"}}\n\n").as_bytes());
            more(stream);
            let _ = stream.read(&mut [0]);
        }
        _ => json_answer(stream, r#"{"accounts":[],"next":null}"#),
    })
}

/// A page of so many accounts from a number on.
fn page(from: usize, count: usize, next: bool) -> String {
    let accounts =
        (from..from + count).map(|number| json!({ "name": format!("a{number}"), "state": "running" }));
    let next = next.then(|| format!("a{}", from + count - 1));
    json!({ "accounts": accounts.collect::<Vec<_>>(), "next": next }).to_string()
}

#[test]
fn controller_without_v1_is_too_old_and_its_accounts_stay_listed() {
    let stub = Stub::new(|_, stream| answer(stream, "404 Not Found", "", r#"{"code":404}"#));
    let builder = Builder::new();
    builder.write_file("machines.json", r#"{"tokyo":["far","小明"]}"#, 0o600);
    let door = stub.door_with(builder, "");
    door.log.wait_for("tokyo: its controller can't be reached: its controller is too old for this");
    let far = door.get("/openqq/check_client?client=far").json()["client"][0].clone();
    assert_eq!((&far["machine_state"], &far["machine"]), (&json!("unreachable"), &json!("tokyo")));
    assert!(far["machine_reason"].as_str().unwrap().contains("too old"), "{far}");
    assert_eq!(door.get("/v1/clients").json()["total"], 2);
    let called = door.get("/openqq/get_user_info?client=far");
    assert_eq!(called.status, 503);
    assert!(called.text().contains("too old"), "{called:?}");
    let before = said(&door);
    let asked = stub.count("/v1/machine");
    wait_until("it is asked again", || stub.count("/v1/machine") > asked);
    assert_eq!(said(&door), before, "the same is said once");
}

#[test]
fn machine_that_answers_wrongly_is_unreachable_and_costs_little() {
    let ready = |more: String| {
        telling(move |stream| {
            write(stream, more.as_bytes());
        })
    };
    let huge = "n".repeat(1 << 20);
    let event = |kind: &str, data: &str| format!("event: {kind}\nid: r-2\ndata: {data}\n\n");
    let cases: Vec<(&str, Stub, &str)> = vec![
        (
            "a list without an end",
            listing(|at| page(at * 1000, 1000, true)),
            "more accounts than a controller",
        ),
        (
            "empty pages",
            listing(|_| r#"{"accounts":[],"next":"a"}"#.into()),
            "its list of accounts has no end",
        ),
        (
            "a hundred thousand accounts",
            listing(|_| page(0, 100_000, false)),
            "more accounts than a controller",
        ),
        (
            "a hundred megabytes of text",
            listing(|at| {
                let account =
                    json!({ "name": format!("a{at}"), "parameters": { "x": "y".repeat(12 << 20) } });
                json!({ "accounts": [account], "next": format!("a{at}") }).to_string()
            }),
            "more accounts than a controller",
        ),
        (
            "a huge name",
            listing(move |_| json!({ "accounts": [{ "name": huge }], "next": null }).to_string()),
            "it is no account: ",
        ),
        ("a name that is none", listing(|_| r#"{"accounts":[{"name":"a/b"}]}"#.into()), "it is no account: "),
        ("no JSON", listing(|_| "]".into()), "its answer can't be read: "),
        ("other JSON", listing(|_| r#"{"accounts":7}"#.into()), "its answer can't be read: "),
        (
            "an answer of a hundred megabytes",
            listing(|_| " ".repeat(100 << 20)),
            "its controller can't be reached: ",
        ),
        (
            "an event without an end",
            telling(|stream| while write(stream, &[b'x'; 65536]) {}),
            "it sent an event without an end",
        ),
        ("an event that is no account", ready(event("account", "{}")), "it is no account: "),
        (
            "an event with a name that is none",
            ready(event("gone", r#"{"name":"a/b"}"#)),
            "its answer can't be read: ",
        ),
        (
            "accounts without an end",
            telling(move |stream| {
                let mut number = 0;
                let mut next = || {
                    number += 1;
                    event("account", &format!(r#"{{"name":"a{number}"}}"#))
                };
                while write(stream, next().as_bytes()) {}
            }),
            "more accounts than a controller",
        ),
        (
            "a redirection",
            Stub::new(|_, stream| answer(stream, "302 Found", "Location: http://127.0.0.1:1/\r\n", "")),
            "HTTP 302, which leads elsewhere",
        ),
        (
            "a page of a web server",
            Stub::new(|_, stream| answer(stream, "200 OK", "", "<!doctype html><title>Welcome</title>")),
            "its answer can't be read: ",
        ),
        (
            "a reason in many lines",
            Stub::new(|_, stream| {
                json_answer(stream, &json!({ "free_memory": "\n\u{1b}[31m".repeat(1000) }).to_string())
            }),
            "its answer can't be read: ",
        ),
    ];
    for (case, stub, why) in cases {
        let door = stub.door();
        door.log.wait_for(why);
        assert_whole(&door);
        // Each time it is asked later than before.
        let asked = stub.count("/v1/machine");
        wait_until(case, || stub.count("/v1/machine") > asked);
        let lines = said(&door);
        assert!(lines.iter().all(|line| line.len() < 600), "{case}: {lines:?}");
        assert!(lines.iter().any(|line| line.contains(why)), "{case}: {lines:?}");
        let distinct: std::collections::BTreeSet<_> = lines.iter().collect();
        assert!(distinct.len() <= 3 && lines.len() <= 6, "{case}: {lines:?}");
        let peak = peak(&door);
        assert!(peak < 320, "{case}: {peak} MiB");
    }
}

#[test]
fn machine_that_closes_at_once_is_asked_once_a_second() {
    let stub = Stub::new(|_, stream| drop(stream.shutdown(std::net::Shutdown::Both)));
    let began = Instant::now();
    let door = stub.door();
    wait_until("it is asked four times", || stub.count("/v1/machine") >= 4);
    assert!(began.elapsed().as_secs_f64() >= 2.9, "{:?}", began.elapsed());
    assert_eq!(said(&door).len(), 1, "{:?}", said(&door));
    assert_whole(&door);
}

#[test]
fn machine_that_never_answers_holds_up_nothing() {
    let stub = Stub::new(|_, stream| drop(stream.read(&mut [0])));
    let door = stub.door();
    wait_until("it is asked", || stub.count("/v1/machine") > 0);
    assert_whole(&door);
    door.log.wait_for("tokyo: its controller can't be reached: no answer within 10 s");
    assert_whole(&door);
}

#[test]
fn machine_takes_no_calls_for_an_account_of_another_one() {
    let accounts =
        json!([{ "name": "bot@osaka", "state": "running" }, { "name": "bot@local", "state": "running" }]);
    let stub = Stub::with(accounts, |_, stream| json_answer(stream, r#"{"taken":true}"#));
    let osaka = Builder::new().built_in();
    let osaka_url = osaka.url("");
    let door = stub.door_with(Builder::new(), &format!("[machines.osaka]\nurl = '{osaka_url}'\n"));
    door.log.wait_for("tokyo: its controller is reached");
    door.log.wait_for("osaka: its controller is reached");
    let start = |more: &str| door.start_client_with("bot", &format!("sandbox_login_time=0{more}"));
    assert_eq!(start("&machine=osaka")["code"], 0);
    for name in ["bot", "bot@osaka"] {
        wait_until("it answers", || door.get(&format!("/openqq/get_user_info?client={name}")).status == 200);
        assert!(door.get(&format!("/openqq/get_user_info?client={name}")).json().get("taken").is_none());
    }
    // What it calls so has a full name as well.
    assert_eq!(door.get("/openqq/get_user_info?client=bot@osaka@tokyo").json()["taken"], true);
}

#[test]
fn nothing_that_opens_the_door_is_passed_on() {
    let builder = Builder::new();
    let key = builder.write_file("key", "opens-the-door-0123456789", 0o600);
    let accounts = json!([{ "name": "far", "state": "running" }]);
    let stub = Stub::with(accounts, |_, stream| {
        answer(stream, "200 OK", "Set-Cookie: wq_session=theirs; Path=/\r\n", "{}");
    });
    let door = stub.door_with(builder, &format!("[[auth.tokens]]\nname = 'key'\nfile = {key:?}\n"));
    door.log.wait_for("tokyo: its controller is reached");
    let secret = "opens-the-door-0123456789";
    let send = |method: &str, path: &str, headers: &[(&str, &str)]| {
        let request = ureq::http::Request::builder().method(method).uri(door.url(path));
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        door.send(request.body(()).unwrap())
    };
    let bearer = format!("Bearer {secret}");
    let session =
        ureq::http::Request::post(door.url("/v1/session")).header("content-type", "application/json");
    let session = door.send(session.body(json!({ "token": secret }).to_string()).unwrap());
    let cookie = session.header("set-cookie").unwrap().split(';').next().unwrap().to_owned();
    let headers = [("authorization", bearer.as_str()), ("referer", "http://localhost/?token=hush")];
    for path in [
        "/openqq/get_user_info?client=far".to_owned(),
        format!("/openqq/get_user_info?client=far&token={secret}"),
        format!("/onebot/v11/get_status?client=far&access_token={secret}"),
        format!("/clients/far/onebot/v11/get_status?token={secret}"),
        "/v1/clients/far/explain".to_owned(),
        format!("/v1/clients/far/log?token={secret}"),
        format!("/v1/clients/far/sandbox/world?token={secret}"),
        format!("/openqq/get_qrcode?client=far&token={secret}"),
        format!("/openqq/start_client?client=far&token={secret}"),
    ] {
        let before = stub.heard.lock().unwrap().len();
        let answered = send("GET", &path, &headers);
        assert_eq!(answered.status, 200, "{path} {answered:?}");
        assert!(!path.starts_with("/v1") || answered.header("set-cookie").is_none(), "{path} {answered:?}");
        assert!(stub.heard.lock().unwrap().len() > before, "{path} did not come");
    }
    assert_eq!(send("GET", "/v1/clients/far/explain", &[("cookie", &cookie)]).status, 200);
    let url = door.url("/onebot/v11/ws?client=far").replace("http", "ws");
    let mut request = tungstenite::client::IntoClientRequest::into_client_request(url).unwrap();
    for (name, value) in [("authorization", bearer.as_str()), ("sec-websocket-protocol", "chat")] {
        request.headers_mut().insert(name, value.parse().unwrap());
    }
    let stream = TcpStream::connect(door.address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    assert!(tungstenite::client(request, stream).is_err(), "the stub speaks no WebSocket");
    let heard = stub.heard.lock().unwrap();
    assert!(heard.iter().any(|heard| path(&heard.line).starts_with("/onebot/v11/ws")));
    for heard in &*heard {
        let whole = &heard.whole;
        for kept_here in [secret, "hush", cookie.split('=').nth(1).unwrap()] {
            assert!(!whole.contains(kept_here), "{whole}");
        }
        assert!(!whole.to_ascii_lowercase().contains("\r\ncookie:"), "{whole}");
        assert!(whole.contains("Bearer of-the-door-at-the-stub"), "{whole}");
        assert!(whole.to_ascii_lowercase().contains("x-wqcontroller-door: "), "{whole}");
    }
}

#[test]
fn tokens_that_an_open_door_does_not_ask_for_go_no_further() {
    let stub =
        Stub::with(json!([{ "name": "far", "state": "running" }]), |_, stream| json_answer(stream, "{}"));
    let door = stub.door();
    door.log.wait_for("tokyo: its controller is reached");
    for path in
        ["/openqq/get_user_info?client=far", "/v1/clients/far/explain?", "/onebot/v11/get_status?client=far"]
    {
        // Some give it twice, in other letters or with nothing else.
        for query in
            ["&token=hush", "&token=hush&token=hush2", "&tok%65n=hush", "&x=1&token=hush&y=2", "&token="]
        {
            let request = ureq::http::Request::get(door.url(&format!("{path}{query}")));
            let request =
                request.header("cookie", "a=hush").header("referer", "http://localhost/?token=hush");
            let bearer = if path.contains("onebot") { "" } else { "Bearer hush" };
            assert_eq!(
                door.send(request.header("authorization", bearer).body(()).unwrap()).status,
                200,
                "{path}{query}"
            );
        }
    }
    let heard = stub.heard.lock().unwrap();
    assert_eq!(
        heard.iter().filter(|heard| path(&heard.line).contains("x=1") && heard.line.contains("y=2")).count(),
        3
    );
    for heard in &*heard {
        assert!(!heard.whole.contains("hush"), "{}", heard.whole);
    }
}
