//! What comes as it comes: events and logs.

use std::process::{Child, Stdio};

use serde_json::Value;

use super::{Played, assert_fails, ran, ran_at, wqctl};
use crate::fixture::Builder;
use crate::output::Log;

/// A run that goes on until it is killed.
struct Running(Child, Log);

impl Running {
    fn new(url: &str, arguments: &[&str]) -> Self {
        let (folder, mut command) = wqctl();
        let child = command.args(["--url", url]).args(arguments).stdout(Stdio::piped()).spawn();
        let mut child = child.unwrap();
        let log = Log::default();
        log.follow(child.stdout.take().unwrap());
        drop(folder);
        Self(child, log)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn events_are_shown_as_they_come_and_over_a_reload() {
    let controller = Builder::new().built_in();
    let (lines, people) = (
        Running::new(&controller.url(""), &["events", "--json"]),
        Running::new(&controller.url(""), &["events"]),
    );
    lines.1.wait_for("\"event\":\"ready\"");
    controller.start_client_with("小明", "sandbox_login_time=0");
    let text = lines.1.wait_for("\"state\":\"running\"");
    for line in text.lines() {
        let event: Value = serde_json::from_str(line).unwrap();
        assert!(event["event"].is_string() && event["data"].is_object(), "{line}");
    }
    people.1.wait_for("Z  小明  running");
    controller.reload();
    lines.1.wait_for_times("\"event\":\"ready\"", 2);
    controller.stop_client("小明");
    people.1.wait_for("Z  小明  out of the list");
}

fn entries() -> String {
    let entry = |message: &str| serde_json::json!({ "time": 1_796_057_102.25, "from": "client", "priority": 6, "message": message });
    serde_json::json!({ "entries": [entry("你好"), entry("bad\u{1b}[2J")] }).to_string()
}

#[test]
fn logs_are_shown_with_time_and_origin() {
    let played = Played::always(&entries());
    let (status, text, _) = ran_at(&played.url, &["logs", "小明", "-n", "7"]);
    let expected =
        "2026-11-30 16:45:02Z client         你好\n2026-11-30 16:45:02Z client         bad\\u{1b}[2J\n";
    assert_eq!((status, text.as_str()), (Some(0), expected));
    assert_eq!(played.requests(), ["GET /v1/clients/%E5%B0%8F%E6%98%8E/log?lines=7"]);
    let json = ran_at(&played.url, &["logs", "小明", "--json"]).1;
    assert_eq!(serde_json::from_str::<Value>(&json).unwrap()["entries"][0]["message"], "你好");
}

#[test]
fn logs_go_on() {
    let played = Played::new(|request| {
        let time = if request.contains("lines=0") { "b" } else { "a" };
        let entry = format!("{{\"time\":1,\"from\":\"controller\",\"priority\":6,\"message\":\"{time}\"}}");
        (200, "text/event-stream", format!(": \n\nevent: entry\nid: 5\ndata: {entry}\n\n"))
    });
    let running = Running::new(&played.url, &["logs", "-f", "bot"]);
    // The stream ends after each entry; it goes on, without what was there before.
    running.1.wait_for("Z controller     a");
    running.1.wait_for("Z controller     b");
    assert_eq!(played.requests()[0], "GET /v1/clients/bot/log?lines=100&follow=1");
}

#[test]
fn account_without_a_code_has_none_to_show() {
    let controller = Builder::new().built_in();
    controller.start_client_with("bot", "sandbox_login_time=0");
    controller.wait_for_state("bot", "running");
    assert_fails(ran(&controller, &["qr", "bot"]), 1, "bot: no login code", "wqctl show bot");
    assert_fails(ran(&controller, &["qr", "none"]), 5, "none: there is no such account", "wqctl list");
}
