//! The API of a client.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};

use super::process::{ACCOUNT, Answer, Client, Setup, read_answer, send_request, until};

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
fn shows_the_account_and_its_friends() {
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
fn sends_to_a_friend_by_any_property() {
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
    // Whoever does not wait is answered at once, until too many wait.
    let accepted = json!({ "code": 0, "status": "request already in execution" });
    let refused = until("a full queue", || {
        let json = client.get(&format!("{send}&async=1")).json();
        (json != accepted).then_some(json)
    });
    assert_eq!((&refused["code"], &refused["status"]), (&json!(-8), &json!("发送失败")));
    client.signal(Signal::TERM);
    assert_eq!(client.until_exit().code(), Some(0));
}

#[test]
fn whoever_waits_hears_of_the_end() {
    let mut client = Client::running(&[("SEND_INTERVAL", "3600")]);
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
    assert_eq!(client.until_exit().code(), Some(0));
}

#[test]
fn says_that_it_is_not_running() {
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
        "relogin",
    ] {
        let answer = client.get(&format!("/openqq/{call}"));
        assert_eq!((answer.status, answer.header("retry-after")), (503, Some("1")));
        assert_eq!(answer.json(), json!({ "code": -7, "status": "client not running", "state": "scaning" }));
    }
    assert_eq!(client.get("/openqq/get_client_info").json()["code"], 0);
    assert_eq!(client.get("/openqq/stop_client").json()["code"], 0);
    assert_eq!(client.until_exit().code(), Some(0));
}

#[test]
fn tells_about_itself_and_stops() {
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
    assert_eq!(client.until_exit().code(), Some(0));
    assert!(began.elapsed() > Duration::from_millis(2900), "not after 3 seconds, as it said");
    assert_eq!(client.setup.report().unwrap().state.as_str(), "stop");
}

#[test]
fn rules_of_every_call() {
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
    let long = client.post(SEND, &format!("uid=10001&content={}", "x".repeat(1 << 20)));
    assert_eq!((long.status, &long.json()["code"]), (413, &json!(-2)));

    for answer in [script, refused, allowed, head, long, client.get("/"), client.get("/openqq/get_user_info")]
    {
        assert_eq!(answer.header("access-control-allow-origin"), Some("*"), "{answer:?}");
    }
}

#[test]
fn friends_are_in_every_state_there_is_and_have_every_kind_of_client() {
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
