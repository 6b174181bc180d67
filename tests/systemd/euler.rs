//! euler-onebot, a real implementation whose heartbeats say online before any login. tests/run fetches it.

use crate::machine::{Machine, Plan, say_not_run, wait_until};
use crate::units::is_running;

/// What calls that need a login are answered, and with which status of HTTP.
const NOT_LOGGED_IN: &str = r#"{"code":-7,"state":"loading","status":"client not running"} 503"#;

/// How it is started; see there.
const MAIN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/systemd/euler/main.py");

/// Its configuration. Heartbeats come so often that a client sees some before it closes the connection: it does so as soon as its
/// first call is refused, and tries again after a pause.
fn template(signatures: u16) -> String {
    format!(
        r#"{{"log_level": "INFO", "log_nf": false, "heartbeat": {{"enabled": true, "interval": 5}},
 "connections": [{{"type": "ForwardWebSocket", "url": "ws://127.0.0.1:{{port}}/"}}],
 "login": {{"uin": {{uin}}, "signer_url": "http://127.0.0.1:{signatures}", "signer_token": "x"}}}}"#
    )
}

fn boot() -> Option<Machine> {
    let Some(packages) = std::env::var_os("WQCONTROLLER_EULER") else {
        say_not_run(
            "WQCONTROLLER_EULER names no folder with euler-onebot; tests/run fetches it with CI=true",
        );
        return None;
    };
    let machine = Plan::new().bind(packages, "/opt/euler").install(MAIN, "/opt/euler.py", 0o755).boot()?;
    machine.write("/etc/wqcontroller/euler.json", &template(8081));
    machine.write("/etc/wqcontroller/unsigned.json", &template(9));
    for name in ["euler", "unsigned"] {
        machine.write(
            &format!("/etc/wqcontroller/wqcontroller.toml.d/50-{name}.toml"),
            &format!(
                "[implementations.{name}]\nkind = 'command'\ncommand = '/usr/bin/python3 /opt/euler.py'\n\
                 url = 'ws://127.0.0.1:{{port}}/'\nfile = 'appconfig.json'\n\
                 file_template = '/etc/wqcontroller/{name}.json'\n"
            ),
        );
    }
    machine.run(
        "systemd-run",
        &["--quiet", "--unit=signatures", "/usr/bin/python3", "/opt/euler.py", "sign", "8081"],
    );
    wait_until("packets are signed", || {
        machine.try_run("curl", &["--silent", "--data", "x", "http://127.0.0.1:8081/"]).status.success()
    });
    machine.start_service();
    Some(machine)
}

impl Machine {
    /// Its heartbeats say online, and the controller does not believe them. `journal` shows what it prints.
    fn assert_not_taken_in(&self, name: &str, journal: &[&str]) {
        // By the second connection the client has read all heartbeats of the first.
        let lie = r#""meta_event_type":"heartbeat","status":{"online":true,"#;
        wait_until(format!("{name} was told that it is online"), || {
            let printed = self.journal(journal);
            let was_told = |connection: &str| {
                printed.lines().any(|line| line.contains(connection) && line.contains(lie))
            };
            let took_it = || is_running(&self.client(name));
            was_told("told connection 1: ") && (was_told("told connection 2: ") || took_it())
        });
        let seen = self.client(name);
        assert_eq!(seen["state"], "loading", "{seen}");
        assert_eq!(seen["reason"], "get_login_info: it was refused with retcode 1404", "{seen}");
        for call in [
            "get_user_info?",
            "get_friend_info?",
            "get_group_info?",
            "send_friend_message?uid=7&content=hello&",
            "send_group_message?uid=7&content=hello&",
        ] {
            let url = format!("http://127.0.0.1:4000/openqq/{call}client={name}");
            let answer =
                self.run("curl", &["--silent", "--max-time", "300", "--write-out", " %{http_code}", &url]);
            assert_eq!(answer, NOT_LOGGED_IN, "{call}");
        }
    }
}

#[test]
fn euler_heartbeats_that_lie_are_no_login() {
    let Some(machine) = boot() else { return };
    machine.start_client("a", &["implementation=euler", "uin=123456789"]);
    machine.assert_not_taken_in("a", &["WQ_CLIENT=a", "--identifier=wqimpl"]);
    let seen = machine.client("a");
    assert_eq!(seen["login"]["state"], "starting", "{seen}");
    assert_eq!(
        (&seen["implementation"]["phase"], &seen["implementation"]["exits"]),
        (&"up".into(), &0.into())
    );

    // The same program, run by someone else.
    let own = template(8081).replace("{port}", "6001").replace("{uin}", "987654321");
    machine.write("/var/lib/own/appconfig.json", &own);
    machine.run(
        "systemd-run",
        &["--quiet", "--unit=own", "--working-directory=/var/lib/own", "/usr/bin/python3", "/opt/euler.py"],
    );
    machine.start_client("b", &["backend=onebot", "onebot_url=ws://127.0.0.1:6001/"]);
    machine.assert_not_taken_in("b", &["--unit=own"]);

    assert_eq!(machine.call("stop_client", &["client=a"])["code"], 0);
    machine.wait_for_log("a: euler: stopped: ");
    assert!(!machine.is_active("wqimpl@a"));
    assert_eq!(machine.client("b")["state"], "loading");
}

#[test]
fn euler_without_signatures_is_started_again_and_says_why() {
    let Some(machine) = boot() else { return };
    machine.start_client("a", &["implementation=unsigned", "uin=123456789"]);
    // After three tries, some seconds each.
    let seen = machine.wait_for_client("a", "its implementation has ended", |client| {
        client["implementation"]["exits"].as_u64() >= Some(1)
            && client["implementation"]["reason"].is_string()
    });
    println!("{seen}");
    assert_eq!(seen["implementation"]["reason"], "ConnectionError: Max retries exceeded", "{seen}");
    assert_eq!(seen["implementation"]["last_exit"], "exited with status 1", "{seen}");
    assert_ne!(seen["login"]["state"], "online", "{seen}");
    machine.wait_for_client("a", "it is started again", |client| client["implementation"]["phase"] == "up");
}
