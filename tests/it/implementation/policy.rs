//! What is done about accounts that are not logged in, and who is told.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};

use serde_json::Value;

use super::login::{START, account, happen, has_code, log_in, of_kind, until_login, with_kind};
use super::{implementation, pid, until_implementation};
use crate::client::receiver::Receiver;
use crate::fixture::{Builder, free_port, wait_until};

/// The next event of a receiver, with its reason.
fn next(receiver: &Receiver) -> (String, String) {
    let told = receiver.next().json;
    let word = |key: &str| told[key].as_str().unwrap_or_default().to_owned();
    assert_eq!(told["account"], "a", "{told}");
    (word("event"), word("reason"))
}

fn receiver() -> Receiver {
    Receiver::new(|_| String::new())
}

fn notify(receiver: &Receiver, more: &str) -> String {
    format!("[login]\n{more}\nnotify = [{{ url = '{}' }}]\n", receiver.url)
}

#[test]
fn account_that_stays_offline_is_started_anew_and_told() {
    let (receiver, texts, bot) = (receiver(), receiver(), receiver());
    let config = format!(
        "[login]\noffline_after = 1\nnotify = [{{ url = '{}' }}, {{ url = '{}', format = 'text' }}]\n",
        receiver.url, texts.url
    );
    let controller = of_kind("llbot", &config);
    controller.start_client_with("a", &format!("{START}&post_api={}&post_event_list=login_change", bot.url));
    until_login(&controller, "code");
    assert_eq!(next(&receiver).0, "code");
    happen(&controller, "online");
    until_login(&controller, "online");
    assert_eq!(next(&receiver).0, "online");
    wait_until("the client has reached it", || account(&controller)["state"] == "running");
    let before = pid(&implementation(&controller, "a"));

    happen(&controller, "offline");
    let (event, reason) = next(&receiver);
    assert!(event == "offline" && !reason.is_empty(), "{event} {reason}");
    // A new start, with the login that it saved.
    assert_eq!(next(&receiver).0, "online");
    let found = implementation(&controller, "a");
    assert_ne!(pid(&found), before);
    assert_eq!(found["exits"], 0, "it did not end by itself");
    controller.log.wait_for("a: starting its implementation anew");

    let told = texts.next();
    assert!(told.head.contains("content-type: text/plain; charset=utf-8\r\n"), "{}", told.head);
    assert_eq!(told.json, "a waits for its login code to be scanned");
    assert_eq!(texts.next().json, "a is online again");
    assert!(texts.next().json.as_str().unwrap().starts_with("a is offline: "));
    // Programs of the account hear the same as an event.
    for event in ["code", "online", "offline", "online"] {
        let report = bot.next().json;
        assert_eq!(
            (&report["event"], &report["params"][0]),
            (&"login_change".into(), &event.into()),
            "{report}"
        );
    }
    let log = controller.log.text();
    assert!(!log.contains("token=hush"), "the query of the URL may be a secret");
}

#[test]
fn nothing_is_started_while_the_network_is_gone() {
    let controller = of_kind("llbot", "[login]\noffline_after = 1\n");
    log_in(&controller);
    let before = pid(&implementation(&controller, "a"));
    fs::remove_file(controller.path("network")).unwrap();
    happen(&controller, "offline");
    until_login(&controller, "offline");
    // Twice as long as it would take.
    std::thread::sleep(std::time::Duration::from_secs(12));
    assert_eq!(pid(&implementation(&controller, "a")), before);
    fs::write(controller.path("network"), "").unwrap();
    until_implementation(&controller, "a", "started anew", |found| {
        found["phase"] == "up" && pid(found) != before
    });
    until_login(&controller, "online");
}

#[test]
fn operator_may_have_it_wait_or_held() {
    let receiver = receiver();
    let controller = of_kind("llbot", &notify(&receiver, "offline_after = 1\nwhen_offline = 'hold'"));
    log_in(&controller);
    happen(&controller, "offline");
    let found = until_implementation(&controller, "a", "held", |found| {
        found["held"] == true && found["phase"] == "gone"
    });
    assert!(!found["reason"].as_str().unwrap().is_empty(), "{found}");
    let events: Vec<String> = (0..4).map(|_| next(&receiver).0).collect();
    assert_eq!(events, ["code", "online", "offline", "held"]);
    assert_ne!(account(&controller)["state"], "running");
    // A call starts it again.
    assert_eq!(controller.get("/openqq/relogin_client?client=a").json()["code"], 0);
    until_login(&controller, "online");
}

#[test]
fn login_that_the_network_ended_is_put_right_by_a_scan() {
    let receiver = receiver();
    let controller = of_kind("napcat", &notify(&receiver, ""));
    log_in(&controller);
    happen(&controller, "kicked");
    // It would log in by itself with what it saved, and put out the one that logged in elsewhere.
    let found = until_login(&controller, "code");
    assert_eq!(found["phase"], "up", "its client is there again: {found}");
    assert!(has_code(&controller));
    happen(&controller, "online");
    until_login(&controller, "online");
    wait_until("the client has reached it", || account(&controller)["state"] == "running");
    // A heartbeat may say that it is offline before the notice says why.
    let mut events = std::iter::from_fn(|| Some(next(&receiver))).filter(|(event, _)| event != "offline");
    for expected in ["code", "online", "put_out", "code", "online"] {
        let (event, reason) = events.next().unwrap();
        assert_eq!(event, expected, "{reason}");
        assert!(event != "put_out" || reason.contains("别处登录"), "{reason}");
    }
}

#[test]
fn codes_that_nobody_scans_end_in_a_hold() {
    let receiver = receiver();
    let controller = of_kind("yogurt", &notify(&receiver, "code_attempts = 2"));
    controller.start_client_with("a", START);
    until_login(&controller, "code");
    let first = pid(&implementation(&controller, "a"));
    assert_eq!(next(&receiver).0, "code");
    happen(&controller, "expired");
    // Yogurt shows the next code when it is started anew.
    until_implementation(&controller, "a", "started anew", |found| {
        found["phase"] == "up" && pid(found) != first
    });
    until_login(&controller, "code");
    assert!(has_code(&controller));
    happen(&controller, "expired");
    let found = until_implementation(&controller, "a", "held", |found| {
        found["held"] == true && found["phase"] == "gone"
    });
    assert_eq!(found["reason"], "nobody scanned any of its 2 login codes", "{found}");
    assert_eq!(
        next(&receiver),
        ("not_scanned".to_owned(), "nobody scanned any of its 2 login codes".to_owned())
    );
    assert!(!has_code(&controller));
    assert_eq!(controller.get("/openqq/relogin_client?client=a").json()["code"], 0);
    until_login(&controller, "code");
    assert_eq!(next(&receiver).0, "code");
}

#[test]
fn news_wait_for_a_receiver_that_is_away_and_for_the_next_controller() {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
    let config = format!("[login]\nnotify = [{{ url = 'http://{address}/' }}]\n");
    let mut controller = with_kind(Builder::new(), "llbot", &config).built_in();
    log_in(&controller);
    controller.kill();
    controller.start_again();
    let receiver = Receiver::on(address, |_| String::new());
    assert_eq!([next(&receiver).0, next(&receiver).0], ["code", "online"]);
    // What the first one knew is no news to the second.
    until_login(&controller, "online");
    wait_until("the client has reached it", || account(&controller)["state"] == "running");
    happen(&controller, "offline");
    let told: Value = receiver.next().json;
    assert_eq!(told["event"], "offline", "{told}");
}
