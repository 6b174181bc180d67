//! Yogurt, a real implementation, without a network: what can be seen of it before a login. tests/run fetches it.

use crate::machine::{Machine, Plan, say_not_run, wait_until};
use crate::service::UNIT;

impl Machine {
    /// A call of the API of an account's implementation, with the token that its client has.
    fn milky(&self, name: &str, call: &str) -> String {
        let port = self.client(name)["implementation"]["port"].to_string();
        self.shell(&format!(
            "curl --silent --max-time 300 --request POST --header \"Authorization: Bearer $(cat /var/lib/wqcontroller/implementations/{name}.token)\" \
             --header 'Content-Type: application/json' --data '{{}}' http://127.0.0.1:{port}/api/{call} || true"
        ))
    }
}

fn boot() -> Option<Machine> {
    let Some(program) = std::env::var_os("WQCONTROLLER_YOGURT") else {
        say_not_run("WQCONTROLLER_YOGURT names no program; tests/run fetches one with CI=true");
        return None;
    };
    let machine = Plan::new().install(program, "/opt/yogurt/yogurt", 0o755).boot()?;
    machine.configure(
        "[implementations.yogurt]\nkind = 'yogurt'\nprogram = '/opt/yogurt/yogurt'\nsign_url = 'http://127.0.0.1:9/'\n\
         version = '46494'\n[implementations.old]\nkind = 'yogurt'\nprogram = '/opt/yogurt/yogurt'\n\
         sign_url = 'http://127.0.0.1:9/'\nversion = '1'\n",
    );
    machine.start_service();
    Some(machine)
}

#[test]
fn yogurt_runs_as_unit_and_says_that_it_is_not_logged_in() {
    let Some(machine) = boot() else { return };
    for (name, uin) in [("a", "uin=123456789"), ("b", "uin=987654321")] {
        machine.start_client(name, &["implementation=yogurt", uin]);
    }
    for name in ["a", "b"] {
        wait_until(format!("{name} says what it lacks"), || {
            machine.milky(name, "get_login_info").contains("-403")
        });
    }
    let a = machine.client("a");
    // What it needs of the disk lies in its own folder, and the code would be shown in the other one.
    let home = machine.shell("ls /var/lib/private/wqimpl/a; readlink /var/lib/private/wqimpl/a/qrcode.png");
    assert!(home.contains("config.json") && home.contains("/run/wqimpl/a/qrcode.png"), "{home}");

    // Without a network it gets no code, so one is put where it would write it.
    machine.wait_for_client("a", "it has no code", |client| client["login"]["state"] == "starting");
    // Its client speaks Milky with it.
    machine.wait_for_client("a", "its client says why", |client| {
        client["state"] == "loading"
            && client["reason"] == "the account is not logged in in its implementation"
    });
    machine.shell(
        "printf '\\211PNG\\r\\n\\032\\nrest' >/run/wqimpl/a/qrcode.png; \
         chown --reference=/run/wqimpl/a /run/wqimpl/a/qrcode.png; chmod 640 /run/wqimpl/a/qrcode.png",
    );
    let seen = machine.wait_for_client("a", "the code waits", |client| client["login"]["state"] == "code");
    assert_eq!(seen["state"], "scaning", "{seen}");
    let code = "curl --silent --output /dev/null --write-out '%{http_code} %{content_type}' \
                'http://127.0.0.1:4000/openqq/get_qrcode?client=a'";
    assert_eq!(machine.shell(code), "200 image/png");
    let waits = machine.entry(&["--unit", UNIT, "PRIORITY=5"], "a: waiting for its login code to be scanned");
    assert_eq!(
        (&waits["MESSAGE_ID"], &waits["WQ_CLIENT"]),
        (&"91e2d7c4f8a64b35b0c1e3f5a7d98b56".into(), &"a".into())
    );
    // A new login without the saved one: only the unit's own user could remove it.
    let login = "/var/lib/private/wqimpl/a/session-store.json";
    machine.shell(&format!("touch {login}; chown --reference=/var/lib/private/wqimpl/a {login}"));
    assert_eq!(machine.call("relogin_client", &["client=a", "forget=1"])["code"], 0);
    let seen = machine.client("a");
    assert_ne!(seen["implementation"]["pid"], a["implementation"]["pid"]);
    assert_eq!((&seen["pid"], &seen["implementation"]["exits"]), (&a["pid"], &0.into()), "{seen}");
    assert!(machine.shell(&format!("ls {login} 2>&1 || true")).contains("No such file"));
    let a = seen;

    machine.systemctl(&["kill", "--signal=KILL", "wqimpl@a"]);
    let restarted = machine.wait_for_client("a", "its implementation is started again", |client| {
        let held = &client["implementation"];
        held["phase"] == "up" && held["pid"] != a["implementation"]["pid"]
    });
    assert_eq!(restarted["pid"], a["pid"], "the client goes on");
    wait_until("it answers again", || machine.milky("a", "get_login_info").contains("-403"));
    machine.systemctl(&["kill", "--signal=KILL", UNIT]);
    wait_until("the next controller is ready", || {
        machine.property(UNIT, "NRestarts") == "1" && machine.is_active(UNIT)
    });
    assert_eq!(machine.client("a")["implementation"]["pid"], restarted["implementation"]["pid"]);

    // At SIGTERM it would hang.
    let begun = std::time::Instant::now();
    assert_eq!(machine.call("stop_client", &["client=a"])["code"], 0);
    machine.wait_for_log("a: yogurt: stopped: exited with status 0");
    println!("stopped in {:?}", begun.elapsed());
    assert!(machine.milky("b", "get_login_info").contains("-403"));
}

#[test]
fn yogurt_refuses_strangers_and_streams_events_before_its_login() {
    let Some(machine) = boot() else { return };
    // Another program has the first port that it would get.
    machine.run(
        "systemd-run",
        &[
            "--quiet",
            "--unit=taken",
            "systemd-socket-activate",
            "--listen=127.0.0.1:15000",
            "sleep",
            "infinity",
        ],
    );
    wait_until("the port is taken", || machine.shell("ss -ltn").contains("127.0.0.1:15000"));
    machine.start_client("a", &["implementation=yogurt", "uin=123456789"]);
    wait_until("it says what it lacks", || machine.milky("a", "get_login_info").contains("-403"));
    let port = machine.client("a")["implementation"]["port"].to_string();
    assert_ne!(port, "15000");
    let token = "Authorization: Bearer $(cat /var/lib/wqcontroller/implementations/a.token)";
    let answer = |headers: &[&str], path: &str| {
        let headers: String = headers.iter().map(|header| format!("--header \"{header}\" ")).collect();
        // A stream goes on, and is left after some seconds.
        machine.shell(&format!(
            "curl --silent --no-buffer --max-time 5 --output /dev/null --write-out '%{{http_code}} %{{content_type}}' {headers} \
             http://127.0.0.1:{port}/{path} || true"
        ))
    };
    for wrong in
        [&["Accept: text/event-stream"][..], &["Authorization: Bearer falsch", "Accept: text/event-stream"]]
    {
        assert_eq!(answer(wrong, "event").split(' ').next(), Some("401"));
    }
    let stream = answer(&[token, "Accept: text/event-stream"], "event");
    assert!(stream.starts_with("200 text/event-stream"), "{stream}");
    let upgrade = [
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    ];
    let socket = answer(&[&[token], &upgrade[..]].concat(), "event");
    assert!(socket.starts_with("101"), "{socket}");
}

#[test]
fn yogurt_with_unknown_version_is_held() {
    let Some(machine) = boot() else { return };
    // Registered first: its program may have ended before its client is launched, and a start that fails would leave no account.
    machine.shell(
        "curl -sS --fail -X PUT -H 'Content-Type: application/json' http://127.0.0.1:4000/v1/clients/a \
         -d '{\"desired\":\"stopped\",\"parameters\":{\"implementation\":\"old\",\"uin\":\"123456789\"}}'",
    );
    machine.call("start_client", &["client=a"]);
    let a = machine.wait_for_client("a", "its implementation is held, and its client is there", |client| {
        let held = &client["implementation"];
        held["held"] == true && held["reason"].is_string() && client["phase"] == "up"
    });
    let held = &a["implementation"];
    println!("{held}");
    assert!(held["reason"].as_str().unwrap().contains("Exception"), "the first line of its trace: {held}");
    assert_eq!(held["exits"], 3, "{held}");
    assert!(held["last_exit"].as_str().unwrap().contains("its configuration or its surroundings"), "{held}");
    let journal = machine.journal(&["WQ_CLIENT=a", "--identifier=wqimpl"]);
    assert!(journal.contains("Exception"), "its own words: {journal}");
}
