//! The configuration as people see it, and reports of bugs, in which no secret is.

use std::process::Command;

use serde_json::Value;

use super::{assert_fails, wqctl};
use crate::fixture::Builder;
use crate::output::{configuration, run};

/// Runs it without a controller.
fn alone(arguments: &[&str]) -> (Option<i32>, String, String) {
    let (_folder, mut command) = wqctl();
    run(command.args(arguments))
}

#[test]
fn effective_shows_each_option_with_its_origin() {
    let (_folder, file) = configuration(
        "max_clients = 7\npost_api = 'http://me:hunter2@h/hunter2?x=hunter2'\n[onebot.clients.'小明']\nurl = 'ws://h/?access_token=hunter2'\n",
    );
    let (status, text, complaint) = alone(&["effective", "--config", &file]);
    assert_eq!((status, complaint.as_str()), (Some(0), ""));
    for line in [
        format!("max_clients = 7  # {file}:1\n"),
        format!("post_api = \"http://***@h/***\"  # {file}:2\n"),
        format!("onebot.clients.\"小明\".url = \"ws://h/***\"  # {file}:4\n"),
        "listen = \"127.0.0.1:4000\"  # default\n".to_owned(),
        "limits.memory_max = (none)  # default\n".to_owned(),
    ] {
        assert!(text.contains(&line), "{line}: {text}");
    }
    assert!(!text.contains("hunter2"), "{text}");
    let json: Value = serde_json::from_str(&alone(&["effective", "--config", &file, "--json"]).1).unwrap();
    let options = json["options"].as_array().unwrap();
    assert!(options.len() > 45);
    let max = options.iter().find(|option| option["name"] == "max_clients").unwrap();
    assert_eq!((&max["value"], &max["file"], &max["line"]), (&"7".into(), &file.as_str().into(), &1.into()));
}

#[test]
fn check_is_that_of_the_controller() {
    let (_folder, good) = configuration("listen = '127.0.0.1:0'\n");
    let (status, text, _) = alone(&["check", "--config", &good]);
    assert_eq!((status, text.starts_with("The configuration is in order.")), (Some(0), true), "{text}");
    let (_folder, bad) = configuration("max_clients = 0\n");
    let (status, _, complaint) = alone(&["check", "--config", &bad]);
    assert_eq!(status, Some(1));
    assert!(
        complaint.contains(&format!("{bad}:1: `max_clients` is 0")) && complaint.contains("wqctl: next: "),
        "{complaint}"
    );
    let (status, json, _) = alone(&["check", "--config", &bad, "--json"]);
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((status, &json["good"]), (Some(1), &false.into()), "{json}");
    let (status, _, complaint) = alone(&["effective", "--config", &bad]);
    assert_eq!(status, Some(1));
    assert!(
        complaint.contains(&format!("{bad}:1: ")) && complaint.contains("next: wqctl check"),
        "{complaint}"
    );
}

/// Each is planted somewhere.
const SECRETS: [&str; 14] = [
    "secret-of-post-api",
    "secret-path-of-hook",
    "secret-of-token-file",
    "secret-of-account-token",
    "secret-of-command",
    "secret-of-sign-url",
    "secret-of-password",
    "secret-of-listed-parameter",
    "secret-of-parameter-url",
    "secret-in-log-line",
    "secret-in-log-header",
    "secret-in-log-json",
    "secret-in-log-url",
    "secret-of-other-token",
];

#[test]
fn bug_report_has_no_secret() {
    let builder = Builder::new();
    let token = builder.write_file("token", "secret-of-token-file\n", 0o600);
    let other = builder.write_file("other", "secret-of-other-token\n", 0o600);
    let account = builder.write_file("account", "secret-of-account-token\n", 0o600);
    let log = builder.path("log");
    let config = format!(
        "post_api = 'http://u:secret-of-post-api@127.0.0.1:1/x?k=secret-of-post-api'\nlog_path = {log:?}\n\
         auth.tokens = [{{ name = 'key', file = {token:?} }}, {{ name = 'eye', file = {other:?}, access = 'read-only' }}]\n\
         client.secret_params = ['key_of_it']\nlogin.notify = [{{ url = 'http://127.0.0.1:1/secret-path-of-hook' }}]\n\
         [onebot.clients.'小红']\ntoken_file = {account:?}\n\
         [implementations.own]\nkind = 'command'\ncommand = '/bin/true --password secret-of-command {{port}}'\nurl = 'ws://127.0.0.1:{{port}}/?access_token=secret-of-sign-url'\n"
    );
    let builder = builder.config(&config);
    let mut command = builder.command(None);
    command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
    let mut controller = Ended(command.spawn().unwrap(), builder);
    let folder = controller.1.folder().to_owned();
    crate::fixture::wait_until("it is ready", || {
        std::fs::read_to_string(&log).is_ok_and(|log| log.contains("ready;"))
    });
    let text = std::fs::read_to_string(&log).unwrap();
    let address = text.lines().find_map(|line| line.split("listening on ").nth(1)).unwrap().trim().to_owned();
    let ctl = |arguments: &[&str]| {
        let (_link, mut command) = wqctl();
        command.args(["--url", &format!("http://{address}"), "--token-file", token.to_str().unwrap()]);
        run(command.args(arguments).env("CREDENTIALS", "x"))
    };
    let started = ctl(&[
        "start",
        "小明",
        "sandbox_login_time=0",
        "pwd=secret-of-password",
        "key_of_it=secret-of-listed-parameter",
        "post_api=http://u:secret-of-parameter-url@127.0.0.1:1/secret-of-parameter-url",
    ]);
    assert_eq!(started.0, Some(0), "{started:?}");
    // What a program of others might print.
    let lines = "x MOJO_WEBQQ_PWD=secret-in-log-line y\nAuthorization: Bearer secret-in-log-header\n{\"access_token\":\"secret-in-log-json\"}\n\
                 see http://127.0.0.1:1/scan/secret-in-log-url\nthe bare secret-of-token-file and key_of_it=secret-in-log-line\n\
                 \u{1b}[1mtoken\u{1b}[0m=secret-in-log-line ``` end\n";
    let mut open = std::fs::OpenOptions::new().append(true).open(&log).unwrap();
    std::io::Write::write_all(&mut open, lines.as_bytes()).unwrap();
    let file = folder.join("wqcontroller.toml");
    let (status, report, complaint) = ctl(&["bugreport", "--config", file.to_str().unwrap()]);
    assert_eq!((status, complaint.as_str()), (Some(0), ""));
    for part in [
        "## versions",
        &format!("wqctl {}\n", env!("CARGO_PKG_VERSION")),
        "## units",
        "post_api = \"http://***@127.0.0.1:1/***\"",
        "--password *** ",
        "## accounts",
        "小明  running",
        "sandbox_login_time=0",
        "x MOJO_WEBQQ_PWD=*** y",
        "Authorization: ***",
        "the bare *** and",
        "token=*** ",
    ] {
        assert!(report.contains(part), "{part}: {report}");
    }
    let (status, json, _) = ctl(&["bugreport", "--json", "--config", file.to_str().unwrap()]);
    assert_eq!(status, Some(0));
    let json: Value = serde_json::from_str(&json).unwrap();
    assert!(json["configuration"].as_str().unwrap().contains("max_clients = 100"), "{json}");
    for secret in SECRETS {
        assert!(!report.contains(secret), "{secret}: {report}");
        assert!(!json.to_string().contains(secret), "{secret}: {json}");
    }
    assert!(report.chars().all(|c| c == '\n' || !c.is_control()), "{report:?}");
    controller.0.kill().unwrap();
}

#[test]
fn bug_report_needs_no_controller() {
    let (_folder, file) = configuration("max_clients = 0\n");
    let (status, report, _) = alone(&["bugreport", "--config", &file]);
    assert_eq!(status, Some(0));
    for part in ["no controller answers", "`max_clients` is 0", "## system"] {
        assert!(report.contains(part), "{part}: {report}");
    }
    assert_fails(alone(&["top"]), 3, "no controller answers", "systemctl start");
}

/// A process that ends with the test, and what it runs in.
struct Ended(std::process::Child, Builder);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = Command::new("kill").arg(self.0.id().to_string()).status();
        let _ = self.0.wait();
    }
}
