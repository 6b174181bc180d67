//! Where the login of an account stands, as the kinds tell it: tests/implementation.py plays each of them.

use serde_json::Value;

use super::played::happen_to;
pub(super) use super::played::with_kind;
use super::{implementation, pid, until_implementation};
use crate::fixture::{Builder, Controller, wait_until};

pub(super) const START: &str = "implementation=own&uin=10001";

/// A controller whose implementation `own` is of this kind.
pub(super) fn of_kind(kind: &str, config: &str) -> Controller {
    with_kind(Builder::new(), kind, config).built_in()
}

/// Has this happen to the account `a`.
pub(super) fn happen(controller: &Controller, event: &str) {
    happen_to(controller, "a", event);
}

/// What `check_client` says of the account `a`.
pub(super) fn account(controller: &Controller) -> Value {
    controller.clients().into_iter().find(|client| client["account"] == "a").unwrap_or_default()
}

pub(super) fn until_login(controller: &Controller, state: &str) -> Value {
    let mut found = Value::Null;
    wait_until(state, || {
        found = account(controller);
        found["login"]["state"] == state
    });
    found
}

pub(super) fn has_code(controller: &Controller) -> bool {
    controller.get("/openqq/get_qrcode?client=a").status == 200
}

/// From a code to a login, for a kind whose client reaches it.
pub(super) fn log_in(controller: &Controller) {
    controller.start_client_with("a", START);
    until_login(controller, "code");
    happen(controller, "online");
    until_login(controller, "online");
    wait_until("the client has reached it", || account(controller)["state"] == "running");
}

#[test]
fn login_of_each_kind_is_told_from_the_code_to_the_loss() {
    std::thread::scope(|scope| {
        for kind in ["llbot", "napcat", "yogurt"] {
            scope.spawn(move || {
                let controller = of_kind(kind, "");
                controller.start_client_with("a", START);
                let found = until_login(&controller, "code");
                assert_eq!(found["state"], "scaning", "{kind}: {found}");
                assert!(has_code(&controller), "{kind}");
                if kind == "llbot" {
                    happen(&controller, "confirming");
                    assert_eq!(until_login(&controller, "confirming")["state"], "confirming");
                }
                happen(&controller, "online");
                let found = until_login(&controller, "online");
                assert_eq!(
                    (&found["login"]["uin"], &found["login"]["nickname"]),
                    (&"10001".into(), &"小红".into())
                );
                assert!(!has_code(&controller), "{kind}: a code that was scanned is of no use");
                if kind != "yogurt" {
                    wait_until("the client has reached it", || account(&controller)["state"] == "running");
                }
                happen(&controller, "offline");
                let found = until_login(&controller, "offline");
                assert_ne!(found["state"], "running", "{kind}: {found}");
                happen(&controller, "online");
                until_login(&controller, "online");
                happen(&controller, "mute");
                let found = until_login(&controller, "offline");
                assert_eq!(found["login"]["reason"], "its implementation does not answer", "{kind}");
                controller.log.wait_for("a: the account is offline: its implementation does not answer");
            });
        }
    });
}

#[test]
fn login_of_another_program_is_what_its_client_says() {
    let controller = of_kind("command", "");
    controller.start_client_with("a", START);
    until_login(&controller, "starting");
    controller.log.wait_for("a: own: up");
    happen(&controller, "online");
    until_login(&controller, "online");
    happen(&controller, "offline");
    until_login(&controller, "offline");
    happen(&controller, "online");
    until_login(&controller, "online");
}

#[test]
fn kick_is_told_and_its_code_shown() {
    let controller = of_kind("llbot", "");
    log_in(&controller);
    happen(&controller, "kicked");
    let found = until_login(&controller, "code");
    assert_ne!(found["state"], "running", "{found}");
    controller.log.wait_for("a: its login was ended by the network");
    controller.log.wait_for("a: waiting for its login code to be scanned; get_qrcode shows it");

    // By the notice of NapCat the client learns of it.
    let controller = of_kind("napcat", "");
    log_in(&controller);
    happen(&controller, "kicked");
    // Its state is another one soon, as it is started anew.
    controller.log.wait_for(
        "a: the login of the account was ended by the network: the account went offline: 你的账号在别处登录",
    );
}

#[test]
fn expired_code_is_shown_no_more() {
    let controller = of_kind("yogurt", "");
    controller.start_client_with("a", START);
    until_login(&controller, "code");
    happen(&controller, "expired");
    // The explanation keeps it. The state may have changed again before it is asked for, as the implementation is started anew.
    wait_until("it has expired", || {
        controller.get("/v1/clients/a/explain").text().contains("its login code has expired")
    });
    wait_until("it is shown no more", || !has_code(&controller));
}

#[test]
fn end_of_the_process_is_seen_at_once() {
    let controller = of_kind("llbot", "");
    log_in(&controller);
    let before = pid(&implementation(&controller, "a"));
    happen(&controller, "crash");
    controller.log.wait_for("a: the account is offline");
    until_implementation(&controller, "a", "started again", |found| {
        found["phase"] == "up" && pid(found) != before
    });
    until_login(&controller, "online");
}

#[test]
fn relogin_uses_the_saved_login_or_drops_it() {
    let controller = of_kind("llbot", "");
    log_in(&controller);
    let (client, before) = (pid(&account(&controller)), pid(&implementation(&controller, "a")));
    let answer = controller.get("/openqq/relogin_client?client=a").json();
    assert_eq!((&answer["code"], &answer["status"]), (&0.into(), &"success".into()), "{answer}");
    let found = implementation(&controller, "a");
    assert_eq!((&found["phase"], &found["exits"]), (&"up".into(), &0.into()), "it did not end by itself");
    assert_ne!(pid(&found), before);
    until_login(&controller, "online");

    let answer = controller.get("/openqq/relogin_client?client=a&forget=1").json();
    assert_eq!(answer["code"], 0, "{answer}");
    until_login(&controller, "code");
    // The launch after that drops nothing.
    happen(&controller, "online");
    until_login(&controller, "online");
    assert_eq!(controller.get("/openqq/relogin_client?client=a").json()["code"], 0);
    until_login(&controller, "online");
    assert_eq!(pid(&account(&controller)), client, "the client stays");
}

#[test]
fn relogin_needs_an_implementation() {
    let controller = of_kind("llbot", "");
    controller.start_client_with("b", "backend=sandbox");
    for (call, code, status) in [
        ("client=b", 6, "has no implementation"),
        ("client=c", 1, "client not exists"),
        ("", 1, "client not found"),
    ] {
        let answer = controller.get(&format!("/openqq/relogin_client?{call}")).json();
        assert_eq!(answer["code"], code, "{answer}");
        assert!(answer["status"].as_str().unwrap().contains(status), "{answer}");
    }
}
