//! The template: that of the seed, unchanged, and others that an operator may write.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use super::NAME;
use crate::fixture::{Builder, Controller, wait_until, write_file};

/// The template of the seed, word for word.
const OF_THE_SEED: &str = include_str!("../perl/mojo_webqq_controller_template.pl");

/// Where the stand-in for Mojo::Webqq is.
const PERL_LIBRARY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/perl/lib");

/// A controller with the template of the seed, and with an environment that is not quite clean.
fn builder(config: &str) -> Builder {
    let perl = Command::new("perl").arg("-e1").status();
    assert!(perl.is_ok_and(|status| status.success()), "these tests need perl");
    let builder = Builder::new().env("PERL5LIB", PERL_LIBRARY).env("MOJO_WEBQQ_PWD", "stale");
    let builder = builder.env("MOJO_WEBQQ_PLUGIN_OPENQQ_POST_EVENT", "0").config(config);
    builder.write_file("mojo_webqq_controller_template.pl", OF_THE_SEED, 0o644);
    builder
}

/// What the stand-in noted, each with its key.
fn notes(controller: &Controller, client: &str) -> Vec<(String, Value)> {
    let text = fs::read_to_string(controller.path(&format!("notes_{client}"))).unwrap_or_default();
    let note = |line: &str| {
        let object: serde_json::Map<String, Value> = serde_json::from_str(line).unwrap();
        object.into_iter().next().unwrap()
    };
    text.lines().map(note).collect()
}

fn wait_for_note(controller: &Controller, client: &str, what: &str) -> Vec<(String, Value)> {
    wait_until(&format!("{client} notes {what}"), || {
        notes(controller, client).last().is_some_and(|(last, _)| last == what)
    });
    notes(controller, client)
}

/// The environment that it noted.
fn environment(notes: &[(String, Value)]) -> BTreeMap<String, String> {
    let (_, run) = notes.iter().find(|(what, _)| what == "run").unwrap();
    serde_json::from_value(run["environment"].clone()).unwrap()
}

/// The options that the template gave to the plugin Openqq.
fn openqq(notes: &[(String, Value)]) -> Value {
    let (_, load) = notes.iter().rfind(|(what, _)| what == "load").unwrap();
    let expected = json!(["Openqq", "data", load[2], "call_on_load", "1"]);
    assert_eq!(load, &expected);
    load[2].clone()
}

#[test]
fn the_template_of_the_seed_is_run_by_perl() {
    let controller = builder("").built_in();
    let started = controller.start_client(NAME);
    let notes = wait_for_note(&controller, NAME, "run");
    let what: Vec<&str> = notes.iter().map(|(what, _)| what.as_str()).collect();
    assert_eq!(what, ["new", "load", "load", "run"]);
    assert_eq!(notes[0].1, json!(["log_head", format!("[{NAME}][{}]", started["pid"])]));
    assert_eq!(notes[1].1, json!([["ShowMsg", "UploadQRcode"]]));
    let expected = json!({
        "listen": [{"host": "127.0.0.1", "port": controller.first_port.to_string()}],
        "post_api": null,
        "post_event": "1",
        "post_media_data": "1",
        "poll_api": null,
        "poll_interval": null,
    });
    assert_eq!(openqq(&notes), expected);
    assert_eq!(notes[3].1["pid"], started["pid"].to_string());

    // perl itself, under the name that the template gives to it.
    let process = format!("/proc/{}", started["pid"]);
    let program = fs::read_link(format!("{process}/exe")).unwrap();
    assert!(program.file_name().unwrap().to_str().unwrap().starts_with("perl"), "{program:?}");
    let line = fs::read_to_string(format!("{process}/cmdline")).unwrap();
    assert_eq!(line.trim_end_matches('\0'), format!("wqclient({NAME})"));

    controller.stop_client(NAME);
    assert_eq!(wait_for_note(&controller, NAME, "stop").last().unwrap().1, Value::Null);
    let template = fs::read_to_string(controller.path("mojo_webqq_controller_template.pl")).unwrap();
    assert_eq!(template, OF_THE_SEED, "it is left as it is");
}

#[test]
fn the_template_of_the_seed_gets_the_environment_of_the_contract_and_no_more() {
    let controller = builder("").built_in();
    controller.start_client(NAME);
    let mut got = environment(&wait_for_note(&controller, NAME, "run"));
    assert_eq!(got["PERL5LIB"], PERL_LIBRARY, "what is none of ours is passed on");
    got.retain(|name, _| name.starts_with("MOJO_"));
    let registration = got.remove("MOJO_WEBQQ_REGISTRATION").unwrap();
    assert!(registration.starts_with("1-") && registration.len() > 30, "{registration}");
    let path = |name: &str| controller.path(name).to_str().unwrap().to_owned();
    let expected = [
        ("ACCOUNT", NAME.to_owned()),
        ("CLIENT", NAME.to_owned()),
        ("CONTROLLER_PID", controller.pid().to_string()),
        ("DISABLE_COLOR", "1".to_owned()),
        ("HTTP_DEBUG", "0".to_owned()),
        ("LOG_CONSOLE", "1".to_owned()),
        ("LOG_ENCODING", "utf8".to_owned()),
        ("LOG_LEVEL", "info".to_owned()),
        ("PID_PATH", path("mojo_webqq_pid_webqq_client_01.pid")),
        ("PLUGIN_OPENQQ_PORT", controller.first_port.to_string()),
        ("QRCODE_PATH", path("mojo_webqq_qrcode_webqq_client_01.jpg")),
        // Not the seed's, like REGISTRATION: the folder for what must outlive the client, such as its undelivered reports.
        ("STATE_DIRECTORY", path("clients/webqq_client_01")),
        ("STATE_PATH", path("mojo_webqq_state_webqq_client_01.json")),
        ("TMPDIR", controller.folder.path().to_str().unwrap().to_owned()),
    ];
    let expected: BTreeMap<String, String> =
        expected.into_iter().map(|(name, value)| (format!("MOJO_WEBQQ_{name}"), value)).collect();
    assert_eq!(got, expected);
}

#[test]
fn the_template_of_the_seed_gets_the_parameters_of_the_call() {
    let config = "log_level = \"msg\"\nlog_encoding = \"gbk\"\npost_api = \"http://127.0.0.1:1/configured\"\n\
                  poll_api = \"http://127.0.0.1:1/poll?client=x\"\npoll_interval = 86400";
    let controller = builder(config).built_in();
    controller.start_client("a");
    let mut notes = wait_for_note(&controller, "a", "run");
    let got = environment(&notes);
    assert_eq!((&*got["MOJO_WEBQQ_LOG_LEVEL"], &*got["MOJO_WEBQQ_LOG_ENCODING"]), ("msg", "gbk"));
    assert_eq!(openqq(&notes)["post_api"], "http://127.0.0.1:1/configured?client=a");
    assert_eq!(openqq(&notes)["poll_api"], json!(null), "it is the controller's alone");

    let more = "log_level=debug&log_encoding=utf8&post_api=http%3A%2F%2F127.0.0.1%3A2%2Fp%3Fa%3Db%26c%3Dd\
                &plugin_openqq_post_event=0&plugin_openqq_poll_interval=7&qrcode_count_max=3&note=%E5%B0%8F+%22";
    let reply = controller.start_client_with("b", more);
    assert_eq!((&reply["code"], &reply["log_level"]), (&json!(0), &json!("debug")));
    notes = wait_for_note(&controller, "b", "run");
    let got = environment(&notes);
    assert_eq!((&*got["MOJO_WEBQQ_LOG_LEVEL"], &*got["MOJO_WEBQQ_LOG_ENCODING"]), ("debug", "utf8"));
    assert_eq!((&*got["MOJO_WEBQQ_QRCODE_COUNT_MAX"], &*got["MOJO_WEBQQ_NOTE"]), ("3", "小 \""));
    let options = openqq(&notes);
    assert_eq!(options["post_api"], "http://127.0.0.1:2/p?a=b&c=d&client=b");
    assert_eq!((&options["post_event"], &options["poll_interval"]), (&json!("0"), &json!("7")));
}

/// A template that tells by whom it was run, in the file `ran_by_NAME`.
const TELLING: &str =
    "echo \"$RUN_BY\" > \"$MOJO_WEBQQ_TMPDIR/ran_by_$MOJO_WEBQQ_ACCOUNT\"\nexec sleep 600\n";

#[test]
fn an_executable_template_is_run_as_it_is_and_another_by_its_first_line() {
    let builder = Builder::new();
    let own = builder.write_file("my shell", "#!/bin/sh\nRUN_BY=mine exec /bin/sh \"$@\"\n", 0o755);
    // Linux takes no blank in the name of an interpreter.
    let link = builder.path("shell");
    fs::rename(own, &link).unwrap();
    let by_line = format!("#!{} -e\n{TELLING}", link.display());
    builder.write_file("executable", &format!("#!/bin/sh\nRUN_BY=kernel\n{TELLING}"), 0o755);
    builder.write_file("by_line.pl", &by_line, 0o644);
    builder.write_file("neither", TELLING, 0o644);
    let folder = builder.folder().to_owned();
    let template = |name: &str| format!("template_path = {:?}", folder.join(name).to_str().unwrap());
    let controller = builder.config(&template("executable")).built_in();
    let config = controller.read_config();
    let ran_by = |client: &str| {
        let path = controller.path(&format!("ran_by_{client}"));
        wait_until("it ran", || fs::read_to_string(&path).is_ok_and(|text| text.ends_with('\n')));
        fs::read_to_string(&path).unwrap().trim().to_owned()
    };
    controller.start_client("executable");
    assert_eq!(ran_by("executable"), "kernel");

    controller.write_config(&config.replace("/executable", "/by_line.pl"));
    controller.reload();
    controller.start_client("line");
    assert_eq!(ran_by("line"), "mine", "the line counts more than the ending of the name");

    controller.write_config(&config.replace("/executable", "/neither"));
    controller.reload();
    let refused = controller.start_client_with("none", "");
    let why = format!(
        "the template {}/neither is not executable, has no #! line and does not end in .pl: chmod 755 it",
        folder.display()
    );
    assert_eq!((&refused["code"], &refused["reason"]), (&json!(3), &json!(why)));
}

#[test]
fn a_template_that_is_no_script_is_run_as_it_is() {
    let builder = Builder::new();
    let path = builder.path("template");
    // The built-in client knows itself by its name. Copied by another process, which leaves no descriptor of ours open.
    let copied = Command::new("cp").arg(crate::fixture::program()).arg(&path).status().unwrap();
    assert!(copied.success());
    let controller = builder.config(&format!("template_path = {path:?}")).built_in();
    let started = controller.start_client_with("a", "sandbox_login_time=0");
    assert_eq!(started["code"], 0, "{started}");
    controller.wait_for_state("a", "running");
    assert_eq!(fs::read_link(format!("/proc/{}/exe", started["pid"])).unwrap(), path);
}

#[test]
fn a_template_that_others_may_write_is_refused_and_the_log_says_why() {
    let controller = Builder::new().start();
    let template = controller.path("template");
    fs::set_permissions(&template, fs::Permissions::from_mode(0o757)).unwrap();
    let refused = controller.start_client_with("a", "");
    let why = format!(
        "the template is refused: {}: others may write it (mode 0757); run chmod go-w on it",
        template.display()
    );
    assert_eq!(refused, json!({"client": "a", "code": 3, "status": "failure", "reason": why}));
    controller.log.wait_for(&format!("could not be started: {why}"));
    assert!(controller.clients().is_empty());
    // As the message says.
    fs::set_permissions(&template, fs::Permissions::from_mode(0o755)).unwrap();
    controller.start_client("a");

    let folder = controller.path("open");
    fs::create_dir(&folder).unwrap();
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o777)).unwrap();
    let moved = folder.join("template");
    fs::copy(&template, &moved).unwrap();
    fs::set_permissions(&moved, fs::Permissions::from_mode(0o755)).unwrap();
    let config = controller.read_config();
    let point_to = |path: &Path| {
        controller.write_config(&config.replace(template.to_str().unwrap(), path.to_str().unwrap()));
        controller.reload();
        controller.start_client_with("b", "")
    };
    let refused = point_to(&moved);
    let reason = refused["reason"].as_str().unwrap();
    assert!(reason.contains(&format!("{}: others may write it (mode 0777)", folder.display())), "{reason}");
    // Nor by a link to it from a folder that is ours.
    let link = controller.path("link");
    std::os::unix::fs::symlink(&moved, &link).unwrap();
    let refused = point_to(&link);
    assert_eq!(refused["code"], 3, "who may replace the file that is run decides what is run: {refused}");
}

#[test]
fn a_missing_template_is_written_and_works_and_a_changed_one_is_kept() {
    let builder = Builder::new();
    let path = builder.path("sub folder's template");
    let config = format!("template_path = {:?}", path.to_str().unwrap());
    let controller = builder.config(&config).built_in();
    assert!(!path.exists());
    controller.start_client_with("a", "sandbox_login_time=0");
    controller.wait_for_state("a", "running");
    let written = fs::read_to_string(&path).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o755);
    controller.log.wait_for("wrote the template");
    assert!(!controller.path("mojo_webqq_controller_template.pl").exists(), "only where it is wanted");

    let changed = written.replace("exec ", "export MOJO_WEBQQ_MODE=mine\nexec ");
    assert_ne!(changed, written);
    write_file(&path, &changed, 0o755);
    controller.start_client_with("b", "sandbox_login_time=0");
    controller.wait_for_state("b", "running");
    let mode = |name: &str| {
        let clients = controller.clients();
        clients.into_iter().find(|client| client["account"] == name).unwrap()["mode"].clone()
    };
    assert_eq!((mode("a"), mode("b")), (Value::Null, json!("mine")));
    assert_eq!(fs::read_to_string(&path).unwrap(), changed);
}
