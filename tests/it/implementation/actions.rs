//! What is done with both processes of an account by the calls below `/v1`.

use serde_json::{Value, json};

use super::{PATIENT, implementation, pid, until_implementation, with_script};
use crate::fixture::{Controller, is_alive, wait_until};
use crate::v1::actions::{send, without_times};

const START: &str = "implementation=own&uin=10001";

fn post(controller: &Controller, action: &str, body: &Value) -> Value {
    let answer = send(controller, "POST", &format!("/v1/clients/a/{action}"), body);
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

#[test]
fn stop_that_keeps_the_account_ends_both_and_a_start_brings_both_back() {
    let mut controller = with_script(PATIENT).built_in();
    let client = pid(&controller.start_client_with("a", START));
    let first = pid(&implementation(&controller, "a"));
    let stopped = post(&controller, "stop", &Value::Null);
    assert!(!is_alive(client) && !is_alive(first));
    assert_eq!(
        json!([
            stopped["desired"],
            stopped["implementation"]["process"],
            stopped["login"],
            stopped["needs_person"]
        ]),
        json!(["stopped", null, null, false])
    );
    controller.end();
    controller.start_again();
    let again = controller.get("/v1/clients/a").json();
    assert_eq!(without_times(again), without_times(stopped));

    let started = post(&controller, "start", &json!({}));
    assert_eq!(json!([started["desired"], started["client"]["phase"]]), json!(["running", "up"]));
    let second = until_implementation(&controller, "a", "it runs", |found| found["phase"] == "up");
    assert!(is_alive(pid(&second)));
    // A new login is a start of one that is stopped.
    post(&controller, "stop", &Value::Null);
    let again = post(&controller, "relogin", &json!({ "forget": true }));
    assert_eq!(json!([again["desired"], again["client"]["phase"]]), json!(["running", "up"]));
}

#[test]
fn forgotten_account_leaves_nothing_of_its_implementation() {
    let controller = with_script(PATIENT).built_in();
    for name in ["a", "b"] {
        controller.start_client_with(name, START);
        until_implementation(&controller, name, "it runs", |found| found["phase"] == "up");
    }
    let kept = |name: &str| {
        let paths = [
            format!("implementations/{name}"),
            format!("implementations/{name}.token"),
            format!("implementation_codes/{name}"),
        ];
        paths.map(|path| controller.path(&path).exists())
    };
    let forget = || send(&controller, "DELETE", "/v1/clients/a?forget=1", &Value::Null).status;
    assert_eq!((kept("a"), forget()), ([true; 3], 409));
    post(&controller, "stop", &Value::Null);
    assert_eq!(forget(), 204);
    assert_eq!((kept("a"), kept("b")), ([false; 3], [true; 3]));
    assert_eq!(forget(), 404);
}

#[test]
fn restart_starts_both_anew() {
    let controller = with_script(PATIENT).built_in();
    let client = pid(&controller.start_client_with("a", START));
    let first = pid(&implementation(&controller, "a"));
    let again = post(&controller, "restart", &Value::Null);
    let of = |process: &Value| json!([process["phase"], process["exits"]]);
    assert_eq!(of(&again["client"]), json!(["up", 0]));
    assert_eq!(of(&again["implementation"]["process"]), json!(["up", 0]));
    assert!(!is_alive(client) && !is_alive(first));
    let login = post(&controller, "relogin", &Value::Null);
    assert_eq!(login["client"]["pid"], again["client"]["pid"], "the client stays");
    assert_ne!(login["implementation"]["process"]["pid"], again["implementation"]["process"]["pid"]);
}

#[test]
fn other_implementation_or_number_is_put() {
    let controller = with_script(PATIENT).built_in();
    let put = |uin: &str| {
        let body = json!({ "parameters": { "implementation": "own", "uin": uin } });
        let answer = send(&controller, "PUT", "/v1/clients/a", &body);
        assert!(matches!(answer.status, 200 | 201), "{}", answer.text());
        until_implementation(&controller, "a", "it runs", |found| found["phase"] == "up");
        // The one before may still be in the list.
        let file = controller.path("implementations/a/own.conf");
        wait_until("it has this number", || {
            std::fs::read_to_string(&file).is_ok_and(|text| text.contains(&format!("uin={uin}")))
        });
    };
    put("10001");
    put("10002");
    let missing = json!({ "parameters": { "implementation": "other" } });
    assert_eq!(send(&controller, "PUT", "/v1/clients/a", &missing).status, 400);
}
