//! Why an account is as it is.

use serde_json::Value;

use super::actions::send;
use super::problem;
use crate::fixture::{Builder, Controller, wait_until};

fn explained(controller: &Controller, name: &str) -> Value {
    controller.get(&format!("/v1/clients/{name}/explain")).json()
}

fn codes(explained: &Value) -> Vec<&str> {
    let events = explained["events"].as_array().unwrap();
    events.iter().map(|event| event["code"].as_str().unwrap()).collect()
}

#[test]
fn account_is_explained_from_start_to_stop() {
    let controller = Builder::new().built_in();
    assert_eq!(problem(&controller.get("/v1/clients/bot/explain")), (404, "no_such_account".into()));
    controller.start_client_with("bot", "sandbox_login=scan");
    let path = "/v1/clients/bot/explain";
    wait_until("it waits for a scan", || controller.get(path).text().contains("scanned."));
    let waits = explained(&controller, "bot");
    // No phone can scan a code of the sandbox.
    let advice = waits["advice"][0].as_str().unwrap();
    let page = &advice[advice.find("http://").unwrap()..];
    let mut opened = ureq::get(page.split(' ').next().unwrap()).call().unwrap();
    let opened = opened.body_mut().read_to_string().unwrap();
    assert!(opened.contains("href=\"/sandbox/login/"), "{opened}");
    assert_eq!(codes(&waits), ["registered", "client_started", "needs_scan"]);

    let pid = controller.get("/v1/clients/bot").json()["client"]["pid"].as_i64().unwrap();
    let pid = rustix::process::Pid::from_raw(pid.try_into().unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    wait_until("its end is told", || controller.get(path).text().contains("was ended by signal 9"));
    wait_until("it is started again", || {
        let codes = explained(&controller, "bot");
        self::codes(&codes).iter().filter(|code| **code == "client_started").count() == 2
    });
    send(&controller, "POST", "/v1/clients/bot/stop", &Value::Null);
    wait_until("its stop is told", || controller.get(path).text().contains("It is stopped"));
    let stopped = explained(&controller, "bot");
    assert!(codes(&stopped).contains(&"stop_asked"), "{stopped}");
    assert_eq!(stopped["next"], Value::Null);
}

#[test]
fn held_account_is_explained_with_its_reason_and_next_start() {
    let controller = Builder::new()
        .config("[supervisor]\nrestart_limit = 2")
        .template("#!/bin/sh\necho out of paper\nexit 3\n")
        .start();
    controller.start_client("bot");
    let path = "/v1/clients/bot/explain";
    wait_until("the next start is named", || {
        let explained = controller.get(path).json();
        explained["next"]["text"] == "Its client is started again." && explained["next"]["at"].is_u64()
    });
    wait_until("it is held", || controller.get(path).text().contains("Its client is held"));
    let held = explained(&controller, "bot");
    assert!(held["summary"].as_str().unwrap().contains("out of paper"), "{held}");
    assert!(held["advice"].to_string().contains("wqctl start bot"), "{held}");
    assert_eq!(held["next"], Value::Null);
    // Bounded, whatever happens.
    for _ in 0..8 {
        send(&controller, "POST", "/v1/clients/bot/start", &Value::Null);
        send(&controller, "POST", "/v1/clients/bot/stop", &Value::Null);
    }
    wait_until("old events are dropped", || codes(&explained(&controller, "bot")).len() == 20);
}
