//! The API of a client.

use std::os::unix::process::ExitStatusExt;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};

use super::process::{ACCOUNT, Answer, Client, Setup, read_answer, request, send_request, until};

const SEND: &str = "/openqq/send_friend_message";

fn has_keys(object: &Value, keys: &str) {
    let object = object.as_object().unwrap();
    let mut wanted: Vec<_> = keys.split_whitespace().collect();
    wanted.sort_unstable();
    let mut found: Vec<_> = object.keys().map(String::as_str).collect();
    found.sort_unstable();
    assert_eq!(found, wanted);
}

fn is_sent(answer: &Answer) {
    let json = answer.json();
    assert_eq!((answer.status, &json["code"]), (200, &json!(0)), "{answer:?}");
    assert_eq!((&json["status"], &json["info"]), (&json!("发送成功"), &json!("发送正常")));
    assert!(json["id"].is_string());
}

#[test]
fn account_and_friends_are_shown() {
    let client = Client::running(&[]);
    let user = client.get("/openqq/get_user_info").json();
    has_keys(
        &user,
        "id uid account name state client_type sex birthday phone mobile email country province city college \
         occupation homepage blood personal signature face",
    );
    assert_eq!(user["account"], ACCOUNT);
    let friends = client.get("/openqq/get_friend_info?client=whoever").json();
    assert!(friends.as_array().unwrap().len() > 2);
    for friend in friends.as_array().unwrap() {
        has_keys(
            friend,
            "id uid name markname displayname category state client_type face flag is_vip vip_level",
        );
        for id in ["id", "uid"] {
            assert!(friend[id].as_str().unwrap().parse::<u64>().is_ok());
        }
    }
    // The same numbers after a restart.
    let again = Client::running(&[]);
    assert_eq!(again.get("/openqq/get_user_info").json(), user);
    assert_eq!(again.get("/openqq/get_friend_info").json(), friends);
}

#[test]
fn path_may_end_with_a_slash_and_be_escaped() {
    let client = Client::running(&[]);
    let user = client.get("/openqq/get_user_info").json();
    assert_eq!(client.get("/openqq/get_user_info/").json(), user);
    assert_eq!(client.get("/openqq/%67et_user%5Finfo").json(), user);
    assert_eq!(client.get("/openqq/get_user_info%2F").status, 403);
    let quoted = client.get("/openqq/search_friend?name=\"<小>\"");
    assert_eq!((quoted.status, &quoted.json()["code"]), (200, &json!(100)), "{quoted:?}");
}

#[test]
fn forms_of_every_kind_are_read() {
    let client = Client::running(&[]);
    let uid = client.get("/openqq/get_friend_info").json()[0]["uid"].as_str().unwrap().to_owned();
    let part = |name: &str, value: &str| {
        format!("--x\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
    };
    let multipart = [part("uid", &uid), part("content", "小\r\n"), "--x--\r\n".into()].concat();
    for method in ["GET", "POST"] {
        let send = |kind: &str, body: &str| {
            let headers = if kind.is_empty() { String::new() } else { format!("Content-Type: {kind}\r\n") };
            request(client.setup.port, &format!("{method} {SEND}"), &headers, body).unwrap()
        };
        is_sent(&send("application/x-www-form-urlencoded", &format!("uid={uid}&content=x&client=a")));
        is_sent(&send("multipart/form-data; boundary=x", &multipart));
        is_sent(&send("application/json", &format!(r#"{{"uid":{uid},"content":"\u5c0f","async":false}}"#)));
        for kind in ["", "text/plain", "application/xml"] {
            let refused = send(kind, "uid=1&content=x");
            assert_eq!((refused.status, &refused.json()["code"]), (415, &json!(-2)), "{refused:?}");
            assert!(refused.json()["status"].as_str().unwrap().contains("send a form"), "{refused:?}");
        }
        for (kind, body) in [("application/json", "[]"), ("multipart/form-data; boundary=x", "x")] {
            let refused = send(kind, body);
            assert_eq!((refused.status, &refused.json()["code"]), (400, &json!(-2)), "{refused:?}");
        }
        // Where the query says who, a body of another kind is ignored, as in the original.
        let what = format!("{method} {SEND}?uid={uid}&content=x");
        is_sent(&request(client.setup.port, &what, "Content-Type: text/plain\r\n", "x").unwrap());
    }
    let found = client.get(&format!("/openqq/search_friend?uid={uid}&_=1479112345")).json();
    assert_eq!(found[0]["uid"], uid, "{found}");
}

#[test]
fn friend_is_found_by_any_property() {
    let client = Client::running(&[]);
    let friends = client.get("/openqq/get_friend_info").json();
    let friend = &friends[0];
    for property in ["id", "uid", "name", "displayname"] {
        let value: String = friend[property].as_str().unwrap().bytes().map(|b| format!("%{b:02x}")).collect();
        is_sent(&client.get(&format!("{SEND}?client=x&{property}={value}&content=%E4%BD%A0%E5%A5%BD")));
        is_sent(&client.post(SEND, &format!("{property}={value}&content=a+b&client=x")));
    }
    is_sent(&client.post(&format!("{SEND}?uid=10001"), "uid=7&content=the+query+counts"));
    is_sent(&client.post(SEND, &format!("uid=10001&content={}", "x".repeat(1_000_000))));

    for nobody in ["uid=7", "name=%E5%B0%8F%E7%BA%A2&uid=10002", "id=", "", "category=x", "async=1&uid=7"] {
        let answer = client.get(&format!("{SEND}?content=x&{nobody}"));
        assert_eq!(answer.status, 200);
        let expected = json!({ "id": null, "code": 100, "status": "friend not found" });
        assert_eq!(answer.json(), expected, "{nobody}");
    }
    for empty in ["", "&content=", "&content=&async=1"] {
        let json = client.get(&format!("{SEND}?uid=10001{empty}")).json();
        assert_eq!((&json["id"], &json["code"]), (&Value::Null, &json!(-6)), "{empty}");
        assert_eq!(json["status"], "发送失败");
    }
}

#[test]
fn messages_wait_for_their_turn() {
    let mut client = Client::running(&[("SEND_INTERVAL", "3600")]);
    let send = format!("{SEND}?uid=10001&content=x");
    is_sent(&client.get(&send));
    // Asynchronous calls are answered at once, until too many messages wait.
    let refused = until("a full queue", || {
        let json = client.get(&format!("{send}&async=1")).json();
        (json["status"] != "request already in execution").then_some(json)
    });
    assert_eq!((&refused["code"], &refused["status"]), (&json!(-8), &json!("发送失败")));
    client.signal(Signal::TERM);
    assert_eq!(client.until_exit().signal(), Some(Signal::TERM.as_raw()));
}

#[test]
fn waiting_callers_are_answered_at_the_end() {
    let mut client = Client::running(&[("SEND_INTERVAL", "70")]);
    let send = format!("{SEND}?uid=10001&content=x");
    is_sent(&client.get(&send));
    let waiting = send_request(client.setup.port, &format!("GET {send}"), "", "").unwrap();
    // The client has one thread and takes connections in order: when it has answered two later ones, one after
    // the other, it has read the first and queued its message.
    for _ in 0..2 {
        assert_eq!(client.get("/openqq/get_client_info").status, 200);
    }
    client.signal(Signal::TERM);
    let heard = read_answer(waiting).json();
    assert_eq!((&heard["code"], &heard["status"]), (&json!(-3), &json!("发送失败")));
    assert_eq!(client.until_exit().signal(), Some(Signal::TERM.as_raw()));
}

#[test]
fn calls_before_running_are_refused() {
    let mut client = Setup::new(&[("SANDBOX_LOGIN_TIME", "3600")]).start();
    client.setup.until_state("scaning");
    for call in [
        "get_user_info",
        "get_friend_info",
        "get_group_info",
        "get_group_basic_info",
        "get_discuss_info",
        "search_friend?uid=1",
        "search_group?uid=1",
        "send_friend_message?uid=10001&content=x",
        "send_group_message?uid=1&content=x",
        "send_discuss_message?id=1&content=x",
        "send_sess_message?id=1&content=x",
        "shutup_group_member?group_uid=1&member_uid=1&time=1",
        "kick_group_member?group_uid=1&member_uid=1",
        "check_event",
    ] {
        let answer = client.get(&format!("/openqq/{call}"));
        assert_eq!((answer.status, answer.header("retry-after")), (503, Some("1")));
        assert_eq!(answer.json(), json!({ "code": -7, "status": "client not running", "state": "scaning" }));
    }
    assert_eq!(client.get("/openqq/get_client_info").json()["code"], 0);
    assert_eq!(client.get("/openqq/stop_client").json()["code"], 0);
    assert_eq!(client.until_exit().code(), Some(193));
}

#[test]
fn client_info_and_stop_client() {
    let mut client = Client::running(&[]);
    for answer in [client.get("/openqq/get_client_info"), client.post("/openqq/get_client_info", "client=x")]
    {
        let info = answer.json();
        has_keys(
            &info,
            "code status account pid os version starttime runtime http_debug log_encoding log_path log_level",
        );
        assert_eq!((&info["pid"], &info["account"]), (&json!(client.pid()), &json!(ACCOUNT)));
    }
    let began = Instant::now();
    let answer = client.get("/openqq/stop_client?client=x").json();
    has_keys(&answer, "code account pid starttime runtime status");
    let status = format!("success, client({}) will stop in 3 seconds", client.pid());
    assert_eq!((&answer["code"], &answer["status"]), (&json!(0), &json!(status)));
    assert_eq!(client.get("/openqq/stop_client").json()["code"], 0);
    assert_eq!(client.until_exit().code(), Some(193));
    assert!(began.elapsed() > Duration::from_millis(2900), "not after 3 seconds, as it said");
    assert_eq!(client.setup.report().unwrap().state.as_str(), "stop");
}

#[test]
fn signal_after_an_answered_stop_client_ends_it_as_one() {
    let mut client = Client::running(&[]);
    assert_eq!(client.get("/openqq/stop_client").json()["code"], 0);
    client.signal(Signal::TERM);
    assert_eq!(client.until_exit().code(), Some(193));
    assert!(client.setup.log().contains("received SIGTERM"));
}

#[test]
fn page_of_another_site_is_refused_unless_it_comes_through_the_controller() {
    let client = Client::running(&[]);
    let call = |method: &str, headers: &str| {
        request(client.setup.port, &format!("{method} /openqq/get_client_info"), headers, "").unwrap()
    };
    assert_eq!(call("GET", "Sec-Fetch-Site: none\r\n").status, 200);
    for method in ["GET", "OPTIONS"] {
        let refused = call(method, "Origin: https://evil.example\r\nSec-Fetch-Site: cross-site\r\n");
        assert_eq!((refused.status, &refused.json()["code"]), (403, &json!(403)), "{method}");
    }
    assert_eq!(call("GET", "Sec-Fetch-Site: cross-site\r\nVia: 1.1 wqcontroller-1\r\n").status, 200);
    let rebound = format!("GET http://evil.example:{}/openqq/get_client_info", client.setup.port);
    let refused = request(client.setup.port, &rebound, "", "").unwrap();
    assert_eq!((refused.status, &refused.json()["code"]), (421, &json!(421)));
}

#[test]
fn common_rules_of_calls() {
    let client = Client::running(&[]);
    let script = client.get("/openqq/get_client_info?datatype=jsonp&callback=a.b_1");
    assert_eq!(script.header("content-type"), Some("application/javascript; charset=utf-8"));
    let inner = script.body.strip_prefix("a.b_1(").unwrap().strip_suffix(')').unwrap();
    assert_eq!(serde_json::from_str::<Value>(inner).unwrap()["code"], 0);
    let refused = client.get("/openqq/get_client_info?datatype=jsonp&callback=alert(1)//");
    assert_eq!((refused.status, refused.header("content-type")), (400, Some("text/plain; charset=utf-8")));
    assert!(!refused.body.contains("alert"));

    let allowed = client.call("OPTIONS", "/openqq/anything");
    assert_eq!((allowed.status, allowed.body.as_str()), (200, ""));
    assert_eq!(allowed.header("access-control-allow-methods"), Some("OPTIONS, HEAD, GET, POST"));
    let headers = "X-Requested-With, X-Auth-Token, Content-Type, Content-Length, Authorization";
    assert_eq!(allowed.header("access-control-allow-headers"), Some(headers));

    for (method, path) in [
        ("GET", "/openqq/no_such_call"),
        ("GET", "/"),
        ("POST", "/openqq/get_user_info"),
        ("DELETE", "/openqq/get_client_info"),
    ] {
        let answer = client.call(method, path);
        assert_eq!((answer.status, answer.body.as_str()), (403, "api not found"), "{method} {path}");
    }
    let head = client.call("HEAD", "/openqq/get_client_info");
    assert_eq!((head.status, head.body.as_str()), (200, ""));

    for (query, name) in [("uid=1&uid=2", "uid"), ("content=%ff", "content")] {
        let answer = client.get(&format!("{SEND}?{query}"));
        assert_eq!((answer.status, &answer.json()["code"]), (400, &json!(-2)));
        assert!(answer.json()["status"].as_str().unwrap().contains(name), "{answer:?}");
    }
    let long = client.post(SEND, &format!("uid=10001&content={}", "x".repeat(7 << 20)));
    assert_eq!((long.status, &long.json()["code"]), (413, &json!(-2)));

    for answer in [script, refused, allowed, head, long, client.get("/"), client.get("/openqq/get_user_info")]
    {
        assert_eq!(answer.header("access-control-allow-origin"), Some("*"), "{answer:?}");
    }
}

#[test]
fn friends_have_every_state_and_client_type() {
    let folder = tempfile::tempdir().unwrap();
    let world = folder.path().join("world.toml");
    let states = ["online", "away", "busy", "callme", "silent", "hidden", "offline"];
    let kinds = ["pc", "mobile", "iphone", "web", "unknown"];
    let person = |(number, state): (usize, &&str)| {
        let kind = kinds[number % kinds.len()];
        format!(
            "[[people]]\nuid = \"{number}\"\nname = \"p\"\nstate = \"{state}\"\nclient_type = \"{kind}\"\n"
        )
    };
    std::fs::write(&world, states.iter().enumerate().map(person).collect::<String>()).unwrap();
    let client = Client::running(&[("SANDBOX_WORLD", world.to_str().unwrap())]);
    for (number, state) in states.iter().enumerate() {
        let friend = &client.get(&format!("/openqq/search_friend?uid={number}")).json()[0];
        let kind = kinds[number % kinds.len()];
        assert_eq!((&friend["state"], &friend["client_type"]), (&json!(state), &json!(kind)));
    }
}
