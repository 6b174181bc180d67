//! What an operator does with `systemctl`, and how soon the controller shows it.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::machine::{Machine, Plan, assert_inside, wait_until};
use crate::service::UNIT;
use crate::units::is_running;

const STRANGER: &str = "runs and belongs to no account in the registry; left alone";

#[test]
fn unit_stopped_by_operator_can_be_started_again() {
    let Some(machine) = Machine::boot() else { return };
    machine.start_service();
    let before = machine.start_client("a", &[]);
    machine.systemctl(&["stop", "wqclient@a"]);
    machine.wait_for_client("a", "is held", |client| client["held"] == true);
    machine.systemctl(&["start", "wqclient@a"]);
    let a = machine.wait_for_client("a", "is up", |client| client["phase"] == "up");
    assert_eq!((&a["pid"], &a["port"]), (&machine.main_pid("wqclient@a"), &before["port"]));
    assert_ne!(a["held"], true);
    machine.wait_for_client("a", "its state file is read", is_running);
    machine.call("get_user_info", &["client=a"]);
    machine.wait_for_log("started through systemd (pid");

    // While the controller is away, too.
    machine.systemctl(&["stop", "wqclient@a"]);
    machine.wait_for_client("a", "is held", |client| client["held"] == true);
    machine.systemctl(&["stop", UNIT]);
    machine.systemctl(&["start", "wqclient@a"]);
    machine.systemctl(&["start", UNIT]);
    let a = machine.client("a");
    assert_eq!((&a["phase"], &a["pid"]), (&"up".into(), &machine.main_pid("wqclient@a")));
    assert_ne!(a["held"], true, "{a}");
    // Held, then the controller is another one: it still can be.
    machine.systemctl(&["stop", "wqclient@a"]);
    machine.wait_for_client("a", "is held", |client| client["held"] == true);
    machine.systemctl(&["restart", UNIT]);
    assert_eq!(machine.client("a")["held"], true);
    machine.systemctl(&["start", "wqclient@a"]);
    machine.wait_for_client("a", "is up", |client| client["phase"] == "up");

    // Who calls stop_client wants it gone: nothing of it is left, not its environment either.
    assert_eq!(machine.call("stop_client", &["client=a"])["status"], "success");
    let no_launch_file = || !machine.try_run("test", &["-e", "/run/wqcontroller/launch/a"]).status.success();
    wait_until("its launch file is gone", no_launch_file);
    assert!(!machine.try_run("systemctl", &["start", "wqclient@a"]).status.success());
    assert!(machine.clients().is_empty());
    assert_eq!(machine.systemctl(&["list-units", "--failed", "--no-legend", "--plain"]), "");

    // The same for one that is held when it is stopped.
    machine.start_client("a", &[]);
    machine.systemctl(&["stop", "wqclient@a"]);
    machine.wait_for_client("a", "is held", |client| client["held"] == true);
    machine.call("stop_client", &["client=a"]);
    wait_until("its launch file is gone", no_launch_file);
    let log = machine.journal(&["--unit", UNIT]);
    assert!(!log.contains(STRANGER), "{log}");

    // The address that a client listens at is taken by the client itself where an operator has started it.
    machine.start_client("bot", &["backend=onebot", "onebot_listen=127.0.0.1:3009"]);
    for _ in 0..3 {
        machine.systemctl(&["stop", "wqclient@bot"]);
        machine.wait_for_client("bot", "is held", |client| client["held"] == true);
        let start = machine.command("systemctl").args(["start", "wqclient@bot"]).spawn();
        let reply = machine.call("start_client", &["client=bot"]);
        assert!(reply["reason"].is_null(), "{reply}");
        assert!(start.unwrap().wait().unwrap().code().is_some());
        let bot = machine.wait_for_client("bot", "is up", |client| client["phase"] == "up");
        assert_ne!(bot["held"], true, "{bot}");
        wait_until("the process is that of the unit", || {
            machine.client("bot")["pid"] == machine.main_pid("wqclient@bot")
        });
    }
}

#[test]
fn unknown_unit_is_logged_and_left_alone() {
    let Some(machine) = Machine::boot() else { return };
    machine.start_service();
    machine.start_client("a", &[]);
    machine.shell("systemd-run --quiet --unit=wqclient-x --collect sleep 600");
    machine.wait_for_log(&format!("wqclient-x.service {STRANGER}"));
    machine.systemctl(&["restart", UNIT]);
    assert!(machine.is_active("wqclient-x"));
    let log = || machine.journal(&["--unit", UNIT]);
    wait_until("it is told once by each controller", || log().matches(STRANGER).count() == 2);
    let log = log();
    assert!(!log.contains(&format!("wqclient@a.service {STRANGER}")), "it is a client: {log}");
    // One that takes the name of a client is in its way, and the caller is told.
    machine.shell("mkdir -p /run/wqcontroller/launch");
    machine.write("/etc/systemd/system/wqclient@b.service", "[Service]\nExecStart=sleep 600\n");
    machine.systemctl(&["daemon-reload"]);
    machine.systemctl(&["start", "wqclient@b"]);
    let refused = machine.call("start_client", &["client=b"]);
    assert!(refused["reason"].as_str().unwrap().contains("not by this controller"), "{refused}");
    assert!(machine.is_active("wqclient@b"));
}

#[test]
fn frozen_unit_shows_as_frozen() {
    let Some(machine) = Plan::new().unified().boot() else { return };
    machine.start_service();
    machine.start_client("a", &[]);
    machine.wait_for_client("a", "runs", is_running);
    machine.systemctl(&["freeze", "wqclient@a"]);
    machine.wait_for_client("a", "is frozen", |client| client["frozen"] == true);
    machine.wait_for_log("frozen through systemd");
    let reply = machine.shell("curl --silent 'http://127.0.0.1:4000/openqq/get_user_info?client=a'");
    let reply: Value = serde_json::from_str(&reply).unwrap();
    assert_eq!(
        (&reply["code"], &reply["status"]),
        (&503.into(), &"the client is frozen; systemctl thaw wqclient@a.service lets it go on".into())
    );
    let status = || machine.property(UNIT, "StatusText");
    wait_until("the status says so", || status().starts_with("1 client: 1 frozen;"));
    // The next controller sees it, too, and that it was thawed while there was none.
    machine.systemctl(&["restart", UNIT]);
    machine.wait_for_client("a", "is frozen", |client| client["frozen"] == true);
    machine.systemctl(&["thaw", "wqclient@a"]);
    let a = machine.wait_for_client("a", "is thawed", |client| client["frozen"] != true);
    assert_eq!((&a["phase"], &a["exits"]), (&"up".into(), &0.into()));
    // What is frozen can be stopped.
    machine.systemctl(&["freeze", "wqclient@a"]);
    machine.wait_for_client("a", "is frozen", |client| client["frozen"] == true);
    assert_eq!(machine.call("stop_client", &["client=a"])["status"], "success");
}

#[test]
fn operator_actions_show_soon() {
    let Some(machine) = Machine::boot() else { return };
    machine.start_service();
    machine.start_client("a", &[]);
    println!("{}", machine.run_test("operator::inside_how_soon"));
}

/// Prints how long it takes from the end of `systemctl` until `check_client` shows what it did: no more is asserted than that it
/// does.
#[test]
#[ignore = "runs inside of a machine"]
fn inside_how_soon() {
    assert_inside();
    let client = || -> Value {
        let url = "http://127.0.0.1:4000/openqq/check_client?client=a";
        let body = ureq::get(url).call().unwrap().body_mut().read_to_string().unwrap();
        serde_json::from_str::<Value>(&body).unwrap()["client"][0].clone()
    };
    let mut most = Duration::ZERO;
    for _ in 0..10 {
        for (verb, signal, is_shown) in [
            (
                "restart",
                "",
                &(|before: &Value, now: &Value| now["pid"] != before["pid"] && now["phase"] == "up")
                    as &dyn Fn(&Value, &Value) -> bool,
            ),
            ("stop", "", &|_, now| now["held"] == true),
            ("start", "", &|_, now| now["phase"] == "up"),
            ("kill", "--signal=KILL", &|before, now| now["exits"] != before["exits"]),
        ] {
            let before = client();
            let mut command = std::process::Command::new("systemctl");
            command.args([verb, "wqclient@a"]).args(Some(signal).filter(|signal| !signal.is_empty()));
            assert!(command.status().unwrap().success());
            let done = Instant::now();
            while !is_shown(&before, &client()) {
                assert!(done.elapsed() < Duration::from_secs(300), "{verb} is never shown");
            }
            most = most.max(done.elapsed());
            if verb == "kill" {
                // Now, and not after the controller's pause.
                let url = "http://127.0.0.1:4000/openqq/start_client?client=a";
                assert_eq!(ureq::get(url).call().unwrap().status(), 200);
            }
        }
    }
    println!("shown at most {most:?} after systemctl came back");
}
