use std::path::Path;

use serde_json::{Value, json};

use super::*;
use crate::model::client::Exit;

fn values() -> StartValues {
    StartValues {
        port: 15_000,
        token: "0123".into(),
        uin: "123456789".into(),
        auth_token: "{port} of the site".into(),
        home: "/var/lib/wqimpl/a".into(),
        runtime: "/run/wqimpl/a".into(),
    }
}

fn settings(keys: &[(&'static str, &str)]) -> ImplementationSettings {
    ImplementationSettings::new(keys.iter().map(|(key, value)| (*key, (*value).to_owned()))).unwrap()
}

/// A table of each kind.
fn each() -> [ImplementationSettings; 4] {
    [
        settings(&[("kind", "llbot"), ("program", "/n"), ("script", "/l.js"), ("auth_token_file", "/t")]),
        settings(&[("kind", "napcat"), ("program", "/opt/QQ/qq"), ("display", ":99")]),
        settings(&[("kind", "yogurt"), ("program", "/y"), ("sign_url", "http://127.0.0.1:9/")]),
        settings(&[
            ("kind", "command"),
            ("command", "/opt/bot --name '{uin} {dir}' {port}"),
            ("url", "ws://127.0.0.1:{port}/ws"),
            ("file", "bot.ini"),
            ("file_template", "/etc/bot.ini"),
        ]),
    ]
}

fn json_of(file: &ConfigFile, now: Option<&str>) -> Value {
    let text = file.content.text(Path::new(&file.path), now.map(str::as_bytes)).unwrap().unwrap();
    serde_json::from_str(&text).unwrap()
}

#[test]
fn command_lines_hold_no_secret() {
    for settings in each() {
        let line = settings.kind.contract().command_line(&settings, &values());
        assert!(line.program.is_absolute(), "{line:?}");
        let all = format!("{line:?}");
        assert!(!all.contains("0123\"") && !all.contains("of the site"), "{all}");
    }
    let [.., command] = each();
    let line = command.kind.contract().command_line(&command, &values());
    assert_eq!(line.arguments, ["--name", "123456789 /var/lib/wqimpl/a", "15000"]);
}

#[test]
fn debug_output_of_files_holds_no_secret() {
    for settings in each() {
        let files =
            settings.kind.contract().files(&settings, &StartValues { token: "geheim".into(), ..values() });
        let shown = format!("{files:?}");
        assert!(!shown.contains("geheim") && !shown.contains("of the site"), "{shown}");
    }
}

#[test]
fn each_kind_listens_on_this_machine_with_our_token() {
    for settings in each() {
        let contract = settings.kind.contract();
        let (_, url) = contract.endpoint(&settings, 15_000);
        assert!(url.contains("//127.0.0.1:15000/"), "{url}");
        for file in contract.files(&settings, &values()) {
            if let Content::Json { set, entry, .. } = &file.content {
                let written = format!("{set} {entry:?}");
                assert!(
                    written.contains("0123") && written.contains("127.0.0.1"),
                    "{}: {written}",
                    file.path
                );
            }
        }
    }
}

#[test]
fn heartbeats_tell_of_a_loss_within_five_seconds() {
    let [llbot, napcat, ..] = each();
    for (settings, server) in [(llbot, "/ob11/connect/0"), (napcat, "/network/websocketServers/0")] {
        let file = &settings.kind.contract().files(&settings, &values())[0];
        let interval = json_of(file, None).pointer(server).unwrap()["heartInterval"].as_u64().unwrap();
        assert!((1_000..5_000).contains(&interval), "{interval}");
    }
}

#[test]
fn keys_of_the_user_are_kept() {
    let [llbot, napcat, yogurt, _] = each();
    let file = &yogurt.kind.contract().files(&yogurt, &values())[0];
    let now = r#"{"configVersion":3,"protocol":{"uin":1,"version":"46494","own":true},
                  "milky":{"http":{"port":1,"corsOrigins":["x"]},"webhook":{"endpoints":[{"url":"http://h/"}]}}}"#;
    let written = json_of(file, Some(now));
    assert_eq!(written["protocol"]["uin"], 123_456_789);
    assert_eq!(
        (&written["protocol"]["version"], &written["protocol"]["own"]),
        (&json!("46494"), &json!(true))
    );
    assert_eq!(
        written["milky"]["http"],
        json!({"host": "127.0.0.1", "port": 15_000, "prefix": "", "accessToken": "0123", "corsOrigins": ["x"]})
    );
    assert_eq!(written["milky"]["webhook"]["endpoints"][0]["url"], "http://h/");
    assert_eq!(json_of(file, None)["protocol"]["version"], "fetched");

    let file = &llbot.kind.contract().files(&llbot, &values())[0];
    assert_eq!(file.path, "data/config_123456789.json");
    let now = r#"{"ob11":{"connect":[{"type":"ws-reverse","url":"ws://h/"},{"name":"wqcontroller","port":1}]},"log":true}"#;
    let written = json_of(file, Some(now));
    let connect = written["ob11"]["connect"].as_array().unwrap();
    assert_eq!(
        (connect.len(), &connect[0]["type"], &connect[1]["port"]),
        (2, &json!("ws-reverse"), &json!(15_000))
    );
    assert_eq!((&written["log"], &written["webui"]["enable"]), (&json!(true), &json!(false)));

    let file = &napcat.kind.contract().files(&napcat, &values())[0];
    let servers = json_of(file, Some(r#"{"network":{"websocketServers":"broken"}}"#));
    assert_eq!(servers["network"]["websocketServers"].as_array().unwrap().len(), 1);
}

#[test]
fn file_that_is_no_json_is_not_overwritten() {
    let [.., yogurt, _] = each();
    let file = &yogurt.kind.contract().files(&yogurt, &values())[0];
    for now in ["{ // a comment\n}", "[]", "\u{feff}{}", "nul"] {
        let error = file.content.text(Path::new("config.json"), Some(now.as_bytes())).unwrap_err();
        assert!(error.to_string().starts_with("config.json is no JSON object"), "{error}");
    }
    assert!(file.content.text(Path::new("config.json"), Some(b" \n")).is_ok(), "cut short by a full disk");
}

#[test]
fn password_of_the_page_is_written_once() {
    let once = Content::Once("secret".into());
    assert_eq!(once.text(Path::new("f"), None).unwrap().as_deref(), Some("secret"));
    assert_eq!(once.text(Path::new("f"), Some(b"own")).unwrap(), None);
}

#[test]
fn templates_are_filled_in_once() {
    let filled = |text: &str| placeholders::from_template(Path::new("/etc/t"), text, &values());
    assert_eq!(
        filled(r#"{"port":{port},"a":{}} {dir}/{ {uin"#).unwrap(),
        r#"{"port":15000,"a":{}} /var/lib/wqimpl/a/{ {uin"#
    );
    let token = StartValues { token: "{uin}".into(), ..values() };
    assert_eq!(placeholders::from_template(Path::new("/t"), "{token}", &token).unwrap(), "{uin}");
    assert!(filled("{password}").unwrap_err().to_string().contains("unknown placeholder {password}"));
}

#[test]
fn words_of_a_command_line_are_split_at_blanks_and_quotes() {
    let words = |line| placeholders::words(line);
    assert_eq!(words(r#"/a  -b='c d' "" "e'f""#).unwrap(), ["/a", "-b=c d", "", "e'f"]);
    assert_eq!(words("/a 'b"), None);
}

#[test]
fn exit_that_a_new_start_hardly_mends_is_known() {
    let is_misconfigured = |kind: ImplementationKind, exit| kind.contract().is_misconfigured(exit);
    use ImplementationKind::{Command, Llbot, Napcat, Yogurt};
    for (kind, exit, expected) in [
        (Yogurt, Exit::Code(1), true),
        (Yogurt, Exit::Code(134), true),
        (Yogurt, Exit::Signal(6), true),
        (Yogurt, Exit::Signal(9), false),
        (Yogurt, Exit::Code(0), false),
        (Llbot, Exit::Code(1), true),
        (Llbot, Exit::Code(0), false),
        (Napcat, Exit::Code(1), true),
        (Command, Exit::Code(1), false),
    ] {
        assert_eq!(is_misconfigured(kind, exit), expected, "{} {exit}", kind.name());
    }
}
