//! `list` and `show`.

use std::process::Stdio;

use serde_json::{Value, json};
use unicode_width::UnicodeWidthStr;

use super::{Played, assert_fails, json, printed, ran, ran_at, wqctl};
use crate::fixture::{Builder, Controller};

/// A controller with these accounts, running.
fn with(names: &[&str]) -> Controller {
    let controller = Builder::new().built_in();
    for name in names {
        controller.start_client_with(name, "sandbox_login_time=0");
        controller.wait_for_state(name, "running");
    }
    controller
}

#[test]
fn alone_it_is_the_list_with_wide_names_aligned() {
    let controller =
        with(&["bot", "%E5%B0%8F%E6%98%8E"].map(|name| if name == "bot" { name } else { "小明" }));
    let text = printed(&controller, &[]);
    assert_eq!(text, printed(&controller, &["list"]));
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 3, "{text}");
    assert!(lines[0].starts_with("NAME  STATE    "), "{text}");
    assert!(lines[1].starts_with("bot   running  ") && lines[2].starts_with("小明  running  "), "{text}");
    assert!(!text.contains('\u{1b}'), "colours are for terminals: {text}");
}

#[test]
fn list_is_filtered_and_tells_names_alone() {
    let controller = with(&["bot-1", "bot-2", "小明"]);
    assert_eq!(printed(&controller, &["list", "--names"]), "bot-1\nbot-2\n小明\n");
    assert_eq!(printed(&controller, &["list", "--names", "bot"]), "bot-1\nbot-2\n");
    assert_eq!(printed(&controller, &["list", "--names", "--state", "scaning"]), "");
    assert_eq!(printed(&controller, &["list", "--names", "--needs-person"]), "");
}

#[test]
fn json_is_what_the_api_says() {
    let controller = with(&["小明"]);
    // What it uses is another at each look.
    let settled = |mut account: Value| {
        account.as_object_mut().unwrap().remove("usage");
        account
    };
    let account = settled(controller.get("/v1/clients/%E5%B0%8F%E6%98%8E").json());
    assert_eq!(settled(json(&controller, &["show", "小明"])), account);
    let listed = json(&controller, &["list"]);
    assert_eq!((&listed["total"], settled(listed["accounts"][0].clone())), (&json!(1), account.clone()));
    assert_eq!(settled(json(&controller, &["top"])["accounts"][0].clone()), account);
}

#[test]
fn show_names_what_is_known() {
    let controller = with(&["小明"]);
    let text = printed(&controller, &["show", "小明"]);
    for line in [
        "name            小明\n",
        "state           running, since 20",
        "parameters      sandbox_login_time=0\n",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
    assert!(text.contains(", pid ") && text.contains(", port "), "{text}");
    assert_fails(ran(&controller, &["show", "none"]), 5, "none: there is no such account", "wqctl list");
    assert_fails(ran(&controller, &["explain", "none"]), 5, "none: there is no such account", "wqctl list");
}

/// Accounts that a controller could have.
fn accounts() -> Vec<Value> {
    let reason = "因为密码不对所以没有登录而且还要再说一点点什么才能超过八十列的宽度吧，所以还没有完";
    vec![
        json!({ "name": "名".repeat(16), "state": "running", "client": { "phase": "up", "port": 5000, "pid": 4_194_304 } }),
        json!({ "name": "小明", "state": "stop", "reason": reason, "needs_person": true, "client": { "phase": "gone", "port": 5001, "held": true } }),
        json!({ "name": "bad\u{1b}[2J\n\u{9b}31m\u{202e}", "state": "sca\u{7}ning", "reason": "x\u{1b}]0;title\u{7}", "client": { "phase": "up" } }),
    ]
}

#[test]
fn lines_fit_80_columns_unless_they_are_to_be_wide() {
    let played = Played::always(&json!({ "accounts": accounts(), "total": 3, "next": null }).to_string());
    let (status, text, _) = ran_at(&played.url, &["list"]);
    assert_eq!(status, Some(0));
    for line in text.lines() {
        assert!(line.width() <= 80, "{}: {line}", line.width());
    }
    // The widest of them is as wide as can be, and says that it was cut.
    let cut = text.lines().find(|line| line.starts_with("小明")).unwrap();
    assert!(cut.ends_with('…') && cut.width() >= 79, "{cut}");
    assert!(cut.contains("  held  "), "{cut}");
    let wide = ran_at(&played.url, &["list", "--wide"]).1;
    assert!(
        wide.contains("wqctl start 小明; 因为")
            && wide.contains("所以还没有完")
            && wide.contains(&"名".repeat(16)),
        "{wide}"
    );
}

#[test]
fn control_characters_never_reach_the_terminal() {
    let accounts = accounts();
    let played = Played::new(move |request| {
        let body = match request.contains("/clients?") {
            true => json!({ "accounts": accounts, "total": 3, "next": null }),
            false => accounts[2].clone(),
        };
        (200, "application/json", body.to_string())
    });
    for arguments in
        [&["list", "--wide"][..], &["list", "--names"], &["list", "--json"], &["show", "x"], &["top"]]
    {
        let (status, text, complaint) = ran_at(&played.url, arguments);
        assert_eq!(status, Some(0), "{complaint}");
        let is_safe = |c: char| c == '\n' || !(c.is_control() || c == '\u{202e}');
        assert!(text.chars().all(is_safe), "{arguments:?}: {text:?}");
        assert!(text.contains("\\u{9b}") || text.contains("\\u009b"), "{arguments:?}: {text}");
        // An account stays on its line.
        if arguments[0] == "list" && arguments.len() == 2 && arguments[1] != "--json" {
            assert!(text.lines().any(|line| line.starts_with("bad\\u{1b}")), "{text}");
        }
    }
}

#[test]
fn every_page_is_read() {
    let played = Played::new(|request| {
        let (name, next) = match request.contains("after=a%20b") {
            true => ("c", Value::Null),
            false => ("a b", "a b".into()),
        };
        (
            200,
            "application/json",
            json!({ "accounts": [{ "name": name }], "total": 2, "next": next }).to_string(),
        )
    });
    assert_eq!(ran_at(&played.url, &["list", "--names"]).1, "a b\nc\n");
}

#[test]
fn reader_that_leaves_is_no_failure() {
    let controller = with(&["bot"]);
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let (_folder, mut command) = wqctl();
    command.args(["--url", &controller.url(""), "list"]).stdout(writer).stderr(Stdio::piped());
    let output = command.output().unwrap();
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &b""[..]));
}

#[test]
fn older_controller_is_named_as_such() {
    let played = Played::refusing(404, "no_such_path", "x");
    for arguments in [["explain", "bot"], ["logs", "bot"]] {
        let ran = ran_at(&played.url, &arguments);
        assert_fails(ran, 1, "it is too old for this", "systemctl restart wqcontroller");
    }
}

#[test]
fn explanation_is_shown() {
    let explained = json!({
        "summary": "小明 waits for a scan.", "next": { "at": null, "text": "the code expires" },
        "advice": ["wqctl qr 小明"], "events": [{ "time": 1_796_057_102, "text": "a code was shown\u{1b}" }],
    });
    let played = Played::always(&explained.to_string());
    let text = ran_at(&played.url, &["explain", "小明"]).1;
    for part in [
        "小明 waits for a scan.\n",
        "Next: the code expires\n",
        "  wqctl qr 小明\n",
        "2026-11-30 16:45:02Z  a code was shown\\u{1b}\n",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert_eq!(
        serde_json::from_str::<Value>(&ran_at(&played.url, &["explain", "小明", "--json"]).1).unwrap(),
        explained
    );
}
