//! What is done with accounts.

use serde_json::{Value, json};

use super::{names, problem};
use crate::fixture::{Answer, Builder, Controller, is_alive, wait_until};

/// A request with a body of JSON; null stands for none.
pub fn send(controller: &Controller, method: &str, path: &str, body: &Value) -> Answer {
    let request = ureq::http::Request::builder().method(method).uri(controller.url(path));
    match body {
        Value::Null => controller.send(request.body(()).unwrap()),
        body => {
            let request = request.header("content-type", "application/json");
            controller.send(request.body(body.to_string()).unwrap())
        }
    }
}

fn post(controller: &Controller, path: &str) -> Answer {
    send(controller, "POST", path, &Value::Null)
}

/// The account in an answer.
fn account(answer: &Answer) -> Value {
    assert!(matches!(answer.status, 200 | 201), "{answer:?}");
    answer.json()
}

fn pid(account: &Value) -> u32 {
    u32::try_from(account["client"]["pid"].as_u64().unwrap()).unwrap()
}

const QUICK: &str = "sandbox_login_time";

#[test]
fn account_is_put_and_the_same_request_changes_nothing() {
    let controller = Builder::new().built_in();
    let put = |name: &str, body: Value| send(&controller, "PUT", &format!("/v1/clients/{name}"), &body);
    let first = put("bot", json!({ "parameters": { QUICK: "0" } }));
    assert_eq!(first.status, 201);
    let first = account(&first);
    assert_eq!((&first["client"]["phase"], &first["desired"]), (&json!("up"), &json!("running")));
    assert_eq!(first["parameters"], json!({ QUICK: "0" }));
    let again = put("bot", json!({ "parameters": { QUICK: "0" }, "desired": "running" }));
    assert_eq!((again.status, pid(&account(&again))), (200, pid(&first)));
    assert_eq!(pid(&account(&put("bot", json!({})))), pid(&first), "it keeps its parameters");

    let other = account(&put("bot", json!({ "parameters": { QUICK: "0", "log_level": "debug" } })));
    assert_ne!(pid(&other), pid(&first));
    assert!(!is_alive(pid(&first)));
    assert_eq!(other["parameters"]["log_level"], "debug");
    let bare = account(&put("bot", json!({ "parameters": {} })));
    assert_eq!(bare["parameters"], json!({}));
    assert_ne!(pid(&bare), pid(&other));

    let stopped = account(&put("bot", json!({ "desired": "stopped", "parameters": { QUICK: "1" } })));
    assert_eq!(
        (&stopped["client"]["pid"], &stopped["desired"], &stopped["parameters"]),
        (&Value::Null, &json!("stopped"), &json!({ QUICK: "1" }))
    );
    assert!(!is_alive(pid(&bare)));
    // One that never ran.
    let new = put("小明", json!({ "desired": "stopped" }));
    assert_eq!((new.status, account(&new)["client"]["pid"].clone()), (201, Value::Null));
    assert_eq!(names(&controller.get("/v1/clients")), ["bot", "小明"]);
}

/// The next controller does not know since when.
pub fn without_times(mut account: Value) -> Value {
    account.as_object_mut().unwrap().remove("since");
    account["client"].as_object_mut().unwrap().remove("since");
    account
}

#[test]
fn stopped_account_stays_stopped_until_it_is_started() {
    let mut controller = Builder::new().config("max_clients = 1\n").built_in();
    let before = controller.start_client_with("bot", "sandbox_login_time=0");
    controller.wait_for_state("bot", "running");
    let stopped = account(&post(&controller, "/v1/clients/bot/stop"));
    assert!(!is_alive(u32::try_from(before["pid"].as_u64().unwrap()).unwrap()));
    assert_eq!(
        json!([stopped["desired"], stopped["state"], stopped["needs_person"], stopped["client"]["phase"]]),
        json!(["stopped", "stop", false, "gone"])
    );
    assert_eq!(account(&post(&controller, "/v1/clients/bot/stop")), stopped, "again");
    controller.log.wait_for("; stays stopped until it is started");
    controller.end();
    controller.start_again();
    let again = account(&controller.get("/v1/clients/bot"));
    assert_eq!(without_times(again), without_times(stopped), "the next controller knows it");
    // The original's calls know it, too, and it takes no place.
    assert_eq!(controller.clients()[0]["held"], true);
    controller.start_client_with("other", "sandbox_login_time=0");
    let full = post(&controller, "/v1/clients/bot/start");
    assert_eq!(problem(&full), (409, "too_many_accounts".into()));
    controller.stop_client("other");
    let started = account(&post(&controller, "/v1/clients/bot/start"));
    assert_eq!(
        json!([started["desired"], started["client"]["phase"], started["parameters"]]),
        json!(["running", "up", { QUICK: "0" }])
    );
    assert_eq!(pid(&account(&post(&controller, "/v1/clients/bot/start"))), pid(&started), "it runs");
}

#[test]
fn account_is_started_anew() {
    let controller = Builder::new().config("[supervisor]\nrestart = 'no'").built_in();
    let first = controller.start_client_with("bot", "sandbox_login_time=0")["pid"].as_u64().unwrap();
    let again = account(&post(&controller, "/v1/clients/bot/restart"));
    assert_ne!(u64::from(pid(&again)), first);
    assert_eq!(again["client"]["exits"], 0, "it did not end by itself");
    // One that is held, and one that is stopped.
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(pid(&again).try_into().unwrap()).unwrap(),
        rustix::process::Signal::KILL,
    )
    .unwrap();
    wait_until("it is held", || controller.get("/v1/clients/bot").json()["client"]["held"] == true);
    let held = controller.get("/v1/clients/bot").json();
    assert_eq!(json!([held["needs_person"], held["desired"]]), json!([true, "running"]));
    assert_eq!(account(&post(&controller, "/v1/clients/bot/restart"))["client"]["phase"], "up");
    post(&controller, "/v1/clients/bot/stop");
    assert_eq!(account(&post(&controller, "/v1/clients/bot/restart"))["desired"], "running");
}

#[test]
fn account_is_deleted() {
    let controller = Builder::new().built_in();
    let client = controller.start_client_with("bot", "")["pid"].as_u64().unwrap();
    let delete = |path: &str| send(&controller, "DELETE", path, &Value::Null);
    assert_eq!(problem(&delete("/v1/clients/bot?forgett=1")), (400, "invalid_parameter".into()));
    let gone = delete("/v1/clients/bot");
    assert_eq!((gone.status, gone.body.len()), (204, 0));
    assert!(!is_alive(u32::try_from(client).unwrap()) && controller.clients().is_empty());
    assert_eq!(problem(&delete("/v1/clients/bot")), (404, "no_such_account".into()));
    // One that is stopped.
    send(&controller, "PUT", "/v1/clients/a", &json!({ "desired": "stopped" }));
    assert_eq!(delete("/v1/clients/a").status, 204);
    assert!(names(&controller.get("/v1/clients")).is_empty());
}

#[test]
fn mistakes_of_actions_are_named() {
    let controller = Builder::new().built_in();
    controller.start_client_with("bot", "sandbox_login_time=0");
    for action in ["start", "stop", "restart", "relogin"] {
        let unknown = post(&controller, &format!("/v1/clients/none/{action}"));
        assert_eq!(problem(&unknown), (404, "no_such_account".into()), "{action}");
        let read = controller.get(&format!("/v1/clients/bot/{action}"));
        assert_eq!((problem(&read).0, read.header("allow")), (405, Some("POST")), "{action}");
    }
    let none = post(&controller, "/v1/clients/bot/relogin");
    assert_eq!(problem(&none), (409, "no_implementation".into()));
    let put = |body: Value| problem(&send(&controller, "PUT", "/v1/clients/new", &body));
    for (body, code) in [
        (json!({ "parameters": { "log_level": 7 } }), "invalid_body"),
        (json!({ "desired": "paused" }), "invalid_body"),
        (json!({ "unknown": 1 }), "invalid_body"),
        (json!([]), "invalid_body"),
        (json!([{}]), "invalid_body"),
        (json!({ "parameters": { "not a name": "x" } }), "invalid_parameter"),
        (json!({ "parameters": { "sandbox_login": "x\ny" } }), "invalid_parameter"),
        (json!({ "parameters": { "post_api": "no url" } }), "invalid_parameter"),
        (
            json!({ "parameters": (0..65).map(|at| (format!("a{at}"), json!(""))).collect::<serde_json::Map<_, _>>() }),
            "invalid_parameter",
        ),
    ] {
        assert_eq!(put(body.clone()), (400, code.into()), "{body}");
    }
    let raw = |kind: &str, body: &str| {
        let request =
            ureq::http::Request::put(controller.url("/v1/clients/new")).header("content-type", kind);
        problem(&controller.send(request.body(body.to_owned()).unwrap()))
    };
    assert_eq!(raw("text/plain", "{}"), (415, "no_json".into()));
    assert_eq!(raw("application/json", "{"), (400, "invalid_body".into()));
    let large = format!("{{\"parameters\":{{\"a\":\"{}\"}}}}", "x".repeat(20 << 20));
    assert_eq!(raw("application/json", &large), (413, "too_large".into()));
    assert_eq!(names(&controller.get("/v1/clients")), ["bot"], "nothing came of it");
}

#[test]
fn client_that_can_not_be_started_is_explained() {
    let controller = Builder::new().template("#!/nonexistent/program\n").start();
    let failed = send(&controller, "PUT", "/v1/clients/bot", &json!({}));
    assert_eq!(problem(&failed), (409, "failed".into()));
    assert!(failed.text().contains("No such file"), "{}", failed.text());
    assert!(names(&controller.get("/v1/clients")).is_empty(), "it never ran");
}

#[test]
fn read_only_token_does_nothing() {
    let builder = Builder::new();
    let eye = builder.write_file("eye", "a-word-that-reads", 0o600);
    let controller = builder
        .config(&format!("[[auth.tokens]]\nname = 'eye'\nfile = {eye:?}\naccess = 'read-only'"))
        .built_in();
    for (method, path) in [
        ("PUT", "/v1/clients/a"),
        ("DELETE", "/v1/clients/a"),
        ("POST", "/v1/clients/a/start"),
        ("POST", "/v1/clients/a/stop"),
        ("POST", "/v1/clients/a/restart"),
        ("POST", "/v1/clients/a/relogin"),
    ] {
        let request = ureq::http::Request::builder().method(method).uri(controller.url(path));
        let request = request.header("authorization", "Bearer a-word-that-reads").body(()).unwrap();
        assert_eq!(problem(&controller.send(request)), (403, "not_allowed".into()), "{method} {path}");
    }
}

#[test]
fn calls_at_once_leave_one_account_in_one_state() {
    let controller = Builder::new().built_in();
    std::thread::scope(|scope| {
        for worker in 0..4_usize {
            let controller = &controller;
            scope.spawn(move || {
                for turn in 0..8 {
                    let path = "/v1/clients/bot";
                    let answer = match (worker + turn) % 4 {
                        0 => send(controller, "PUT", path, &json!({ "parameters": { "log_level": "info" } })),
                        1 => {
                            send(controller, "PUT", path, &json!({ "desired": "stopped", "parameters": {} }))
                        }
                        2 => post(controller, "/v1/clients/bot/restart"),
                        _ => send(controller, "DELETE", path, &Value::Null),
                    };
                    assert!(matches!(answer.status, 200 | 201 | 204 | 404 | 409), "{answer:?}");
                }
            });
        }
    });
    let last =
        account(&send(&controller, "PUT", "/v1/clients/bot", &json!({ "parameters": { QUICK: "0" } })));
    assert_eq!(last["client"]["phase"], "up");
    assert_eq!(send(&controller, "DELETE", "/v1/clients/bot", &Value::Null).status, 204);
    let children = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", controller.pid()));
    assert_eq!(children.unwrap().trim(), "", "no process is left");
}
