//! What is done with accounts.

use serde_json::json;

use super::{Played, assert_fails, json, printed, ran, ran_at};
use crate::fixture::Builder;

#[test]
fn start_makes_an_account_and_waits_until_it_runs() {
    let controller = Builder::new().built_in();
    // Progress is for terminals, so there is none.
    assert_eq!(printed(&controller, &["start", "小明", "sandbox_login_time=0"]), "小明 runs\n");
    assert_eq!(controller.state("小明").as_deref(), Some("running"));
    let account = json(&controller, &["start", "小明"]);
    assert_eq!(
        (&account["state"], &account["parameters"]["sandbox_login_time"]),
        (&"running".into(), &"0".into())
    );
    // Parameters are all that it has from then on.
    let pid = account["client"]["pid"].clone();
    let account = json(&controller, &["start", "小明", "sandbox_login_time=0", "log_level=debug"]);
    assert_eq!(account["parameters"], json!({ "sandbox_login_time": "0", "log_level": "debug" }));
    assert_ne!(account["client"]["pid"], pid);
    assert_eq!(printed(&controller, &["stop", "小明"]), "小明 is stopped\n");
    assert_eq!(printed(&controller, &["start", "小明"]), "小明 runs\n");
    assert_eq!(json(&controller, &["show", "小明"])["parameters"]["log_level"], "debug");
}

#[test]
fn parameters_without_an_effect_are_named() {
    let controller = Builder::new().built_in();
    let (status, _, complaint) =
        ran(&controller, &["start", "a", "sandbox_login_time=0", "implementaton=llbot", "Foo=1"]);
    assert_eq!(status, Some(0));
    assert!(complaint.contains("a: these parameters have no effect: foo, implementaton"), "{complaint}");
    assert_eq!(json(&controller, &["show", "a"])["unused_parameters"], json!(["foo", "implementaton"]));
    assert!(printed(&controller, &["explain", "a"]).contains("without an effect: foo, implementaton"));
    let all = ["start", "b", "sandbox_login_time=0", "log_level=debug", "post_api=http://127.0.0.1:1/"];
    let (status, _, complaint) = ran(&controller, &all);
    assert_eq!((status, complaint.as_str()), (Some(0), ""));
}

#[test]
fn start_that_takes_too_long_or_fails_says_what_to_type() {
    let controller = Builder::new().config("[supervisor]\nrestart = 'no'").built_in();
    let late = ran(&controller, &["start", "bot", "sandbox_login=scan", "--timeout", "1"]);
    assert_fails(late, 1, "bot: it does not run yet after 1 seconds", "wqctl explain bot");
    // It goes on all the same.
    controller.wait_for_state("bot", "scaning");
    assert_eq!(printed(&controller, &["list", "--names", "--needs-person"]), "bot\n");
    assert!(printed(&controller, &["list"]).contains("wqctl qr bot"));
    assert_eq!(
        printed(&controller, &["start", "soon", "sandbox_login=scan", "--no-wait"]).lines().count(),
        1
    );
    let wrong = ran(&controller, &["start", "a", "backend=none"]);
    assert_fails(wrong, 1, "backend", "man 7 wqcontroller-api");
    assert_fails(ran(&controller, &["start", "a", "x"]), 2, "x is no parameter", "wqctl start --help");
    let (status, _, complaint) = ran(&controller, &["start", "a\u{1b}"]);
    assert_eq!(status, Some(2));
    assert!(complaint.contains("control character") && !complaint.contains('\u{1b}'), "{complaint}");
}

#[test]
fn start_of_a_client_that_ends_is_told() {
    let template = "#!/bin/sh\nsleep 0.2\nexit 2\n";
    let controller = Builder::new().template(template).config("[supervisor]\nrestart = 'no'").start();
    let failed = ran(&controller, &["start", "bot"]);
    assert_fails(failed, 1, "bot: ", "wqctl ");
}

#[test]
fn parameters_of_a_file_are_secrets() {
    let builder = Builder::new();
    let file = builder.write_file(
        "parameters",
        "# said nowhere\npwd=geheimes wort\n\nsandbox_login_time=0\n",
        0o600,
    );
    let broken = builder.write_file("broken", "geheimes-wort\n", 0o600);
    let controller = builder.built_in();
    let file = file.to_str().unwrap();
    let account = json(&controller, &["start", "bot", "--parameters-file", file, "log_level=debug"]);
    assert_eq!(account["parameters"], json!({ "sandbox_login_time": "0", "log_level": "debug" }));
    let (status, _, complaint) =
        ran(&controller, &["start", "b", "--parameters-file", broken.to_str().unwrap()]);
    assert_eq!((status, complaint.contains("geheimes")), (Some(2), false), "{complaint}");
    let twice = ran(&controller, &["start", "b", "--parameters-file", file, "pwd=x"]);
    assert_eq!(twice.0, Some(2), "{twice:?}");
}

#[test]
fn several_accounts_are_each_tried() {
    let controller = Builder::new().built_in();
    for name in ["a", "小明"] {
        printed(&controller, &["start", name, "sandbox_login_time=0"]);
    }
    let (status, text, complaint) = ran(&controller, &["stop", "a", "none", "小明"]);
    assert_eq!((status, text.as_str()), (Some(5), "a is stopped\n小明 is stopped\n"));
    assert!(complaint.contains("wqctl: none: there is no such account"), "{complaint}");
    assert!(printed(&controller, &["list"]).lines().skip(1).all(|line| line.contains("  stopped  ")));
    assert_eq!(printed(&controller, &["restart", "a", "小明"]), "a runs anew\n小明 runs anew\n");
    let anew = ran(&controller, &["relogin", "a"]);
    assert_fails(anew, 1, "a has no implementation", "wqctl restart a");
    assert_eq!(printed(&controller, &["remove", "a", "--json"]), "{\"name\":\"a\"}\n");
    assert_eq!(printed(&controller, &["list", "--names"]), "小明\n");
}

#[test]
fn what_is_sent_is_what_the_api_takes() {
    let played = Played::always(r#"{"name":"a b","state":"running"}"#);
    for (arguments, request) in [
        (&["stop", "a b"][..], "POST /v1/clients/a%20b/stop"),
        (&["restart", "小"], "POST /v1/clients/%E5%B0%8F/restart"),
        (&["relogin", "a"], r#"POST /v1/clients/a/relogin {"forget":false}"#),
        (&["relogin", "--forget", "a"], r#"POST /v1/clients/a/relogin {"forget":true}"#),
        (&["remove", "a"], "DELETE /v1/clients/a"),
        (&["forget", "--yes", "a"], "DELETE /v1/clients/a?forget=1"),
        (&["start", "--no-wait", "a"], "POST /v1/clients/a/start"),
        (
            &["start", "--no-wait", "a", "k=v=w"],
            r#"PUT /v1/clients/a {"desired":"running","parameters":{"k":"v=w"}}"#,
        ),
    ] {
        let (status, _, complaint) = ran_at(&played.url, arguments);
        assert_eq!(status, Some(0), "{complaint}");
        assert_eq!(played.requests().last().unwrap(), request, "{arguments:?}");
    }
}

#[test]
fn forget_asks_and_refuses_where_it_cannot() {
    let played = Played::always("{}");
    let unasked = ran_at(&played.url, &["forget", "a b", "c"]);
    assert_fails(unasked, 2, "without a terminal", "wqctl forget --yes 'a b' c");
    assert_eq!(played.requests(), [""; 0], "nothing was sent");
    let running = Played::refusing(409, "still_running", "it runs; stop it first");
    assert_fails(ran_at(&running.url, &["forget", "--yes", "a"]), 1, "it runs", "wqctl stop a");
    let old = Played::refusing(400, "invalid_parameter", "there is no parameter \"forget\" here");
    assert_fails(
        ran_at(&old.url, &["forget", "--yes", "a"]),
        1,
        "too old to forget",
        "install the same version",
    );
}

#[test]
fn each_refusal_says_what_to_type() {
    for (status, code, expected, next) in [
        (503, "busy", 1, "try again in 1 s"),
        (409, "too_many_accounts", 1, "wqctl list"),
        (409, "failed", 1, "wqctl explain bot"),
        (421, "foreign_host", 1, "hosts in [http]"),
        (403, "not_allowed", 4, "usermod -aG wqctl"),
        (401, "token_needed", 4, "--token-file"),
    ] {
        let played = Played::refusing(status, code, "why\u{1b}");
        let ran = ran_at(&played.url, &["restart", "bot"]);
        assert!(!ran.2.contains('\u{1b}'), "{code}");
        assert_fails(ran, expected, "", next);
    }
}
