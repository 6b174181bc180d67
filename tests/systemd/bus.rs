//! A bus that is lost, or hangs, and a systemd that begins anew: nothing is forgotten, and nothing is done twice.

use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::machine::{Machine, wait_until};
use crate::service::UNIT;
use crate::units::is_running;

/// Ends the bus and keeps it from coming back, as root and without it.
const LOSE_THE_BUS: &str =
    "systemctl stop dbus.socket; systemctl kill --signal=KILL dbus.service; systemctl stop dbus.service";

impl Machine {
    /// Calls `start_client`, without waiting for the answer.
    fn calls_start_client(&self, name: &str) -> Child {
        let url = format!("http://127.0.0.1:4000/openqq/start_client?client={name}");
        self.command("curl").args(["--silent", &url]).stdout(Stdio::piped()).spawn().unwrap()
    }

    /// How often the program of a client ran that prints this.
    fn printed(&self, client: &str, line: &str) -> usize {
        let printed =
            self.journal(&[&format!("WQ_CLIENT={client}"), "SYSLOG_IDENTIFIER=wqclient", "--output=cat"]);
        printed.lines().filter(|printed| *printed == line).count()
    }
}

fn answer(caller: Child) -> Value {
    serde_json::from_slice(&caller.wait_with_output().unwrap().stdout).unwrap()
}

/// Whether `start_client` succeeded, or was refused because systemd was away for longer than a call waits.
fn is_started_or_refused(reply: &Value) -> bool {
    let reason = |key: &str| reply[key].as_str().unwrap_or_default();
    reply["status"] == "success"
        || reply["code"] == 503 && reason("status").contains("systemd can't be reached")
        || reply["code"] == 3 && reason("reason").contains("cannot reach systemd")
}

#[test]
fn clients_survive_lost_bus_and_systemd_reexec() {
    let Some(machine) = Machine::boot() else { return };
    machine.start_service();
    let pids: Vec<Value> = ["a", "b", "c"].map(|name| machine.start_client(name, &[])["pid"].clone()).into();
    let all_up = || {
        let clients = machine.clients();
        clients.len() == 3
            && clients.iter().zip(&pids).all(|(client, pid)| client["pid"] == *pid && client["exits"] == 0)
    };
    machine.systemctl(&["daemon-reload"]);
    machine.systemctl(&["daemon-reexec"]);
    // Which leaves the bus and comes back to it; not before then can the bus be lost once more.
    machine.wait_for_log(
        "systemd left the system bus; no start or stop until it is back; clients keep running; reconnecting",
    );
    let asked_again = |times| {
        let log = || machine.journal(&["--unit", UNIT]);
        wait_until(format!("connected again, time {times}"), || {
            log().matches("connected to systemd again").count() >= times
        });
    };
    asked_again(1);
    assert!(all_up());
    machine.shell("kill -9 $(systemctl show --value --property MainPID dbus)");
    machine.wait_for_log("lost the connection to systemd");
    let lost = machine.journal(&["MESSAGE_ID=46b1d9e3f7a84c208c5e2d6f9a0b7e89"]);
    assert!(lost.contains("lost the connection to systemd"), "{lost}");
    // While there is no bus a client ends; and what asks for one waits.
    machine.shell(&format!("kill -9 {}", pids[2]));
    let d = machine.call("start_client", &["client=d"]);
    assert!(is_started_or_refused(&d), "{d}");
    asked_again(2);
    let c = machine.wait_for_client("c", "was seen to end", |client| client["exits"] == 1);
    assert!(c["last_exit"] == "was ended by signal 9" || c["last_exit"].is_null(), "{c}");
    assert_eq!((&machine.client("a")["pid"], &machine.client("b")["pid"]), (&pids[0], &pids[1]));
    machine.systemctl(&["kill", "--signal=KILL", "wqclient@b"]);
    machine.wait_for_client("b", "was seen to end", |client| client["exits"] == 1);
    assert_eq!(machine.call("stop_client", &["client=a"])["status"], "success");
    // Starts go on while systemd begins anew under them.
    let load = "for n in $(seq 30); do curl -s \"http://127.0.0.1:4000/openqq/start_client?client=x$n\"; echo; done & \
                for n in 1 2 3; do systemctl daemon-reexec; done; wait";
    let replies: Vec<Value> =
        machine.shell(load).lines().map(|reply| serde_json::from_str(reply).unwrap()).collect();
    assert_eq!(replies.len(), 30);
    assert!(replies.iter().all(is_started_or_refused), "{replies:?}");
    for (n, _) in replies.iter().enumerate().filter(|(_, reply)| reply["status"] != "success") {
        let client = format!("client=x{}", n + 1);
        // A refusal asks for another call later; on a slow machine the controller is still on its way back to the bus.
        wait_until("a refused client is started", || {
            let reply = machine.call("start_client", &[&client]);
            assert!(is_started_or_refused(&reply), "{reply}");
            reply["status"] == "success"
        });
    }
    wait_until("each of them runs, once", || {
        let running = machine.shell("systemctl list-units --state=active --plain --no-legend 'wqclient@x*'");
        running.lines().count() == 30
    });
    assert_eq!(machine.clients().iter().filter(|client| client["exits"] != 0).count(), 2, "b and c");
}

#[test]
fn lost_bus_shows_in_status_and_keeps_watchdog_fed() {
    const WATCHDOG: Duration = Duration::from_secs(2);
    let Some(machine) = Machine::boot() else { return };
    machine.drop_in(&format!("[Service]\nWatchdogSec={}\n", WATCHDOG.as_secs()));
    machine.start_service();
    let client = machine.start_client("a", &[]);
    machine.wait_for_client("a", "runs", is_running);
    let process = machine.property(UNIT, "MainPID");
    machine.shell(LOSE_THE_BUS);
    let status = || machine.property(UNIT, "StatusText");
    wait_until("the status says so", || status().ends_with("template units, systemd is unreachable"));
    // So long that systemd would have ended it, had it missed a beat.
    let began = Instant::now();
    while began.elapsed() < 3 * WATCHDOG {
        assert_eq!(machine.property(UNIT, "MainPID"), process);
        assert_eq!(machine.client("a")["pid"], client["pid"]);
    }
    machine.systemctl(&["start", "dbus.socket"]);
    wait_until("the status says that it is back", || status().ends_with("template units"));
    assert_eq!(
        (machine.property(UNIT, "MainPID"), machine.property(UNIT, "NRestarts")),
        (process, "0".into())
    );
}

#[test]
fn calls_without_bus_are_answered_within_5_s() {
    let Some(machine) = Machine::boot() else { return };
    machine.start_service();
    let kept = machine.start_client("kept", &[]);
    let crashing = machine.start_client("crashing", &[]);
    // Its end is seen, and before it is started again the bus goes.
    machine.shell(&format!("kill -9 {}", crashing["pid"]));
    machine.wait_for_client("crashing", "was seen to end", |client| client["exits"] == 1);
    machine.shell(LOSE_THE_BUS);
    let reply = answer(machine.calls_start_client("new"));
    let reason = reply["reason"].as_str().unwrap_or_default();
    assert_eq!((&reply["code"], reason.contains("cannot reach systemd")), (&3.into(), true), "{reply}");
    let reply = machine.call("stop_client", &["client=kept"]);
    assert_eq!(reply["code"], 3, "{reply}");
    assert_eq!(machine.client("kept")["pid"], kept["pid"]);
    machine.wait_for_log("new: could not be started: wqclient@new.service: cannot reach systemd on the system bus; not tried again");
    machine.wait_for_log("kept: could not be stopped: wqclient@kept.service: cannot reach systemd on the system bus; it keeps running until stop_client is called again");
    machine.wait_for_log("trying again every 5 s");
    machine.systemctl(&["start", "dbus.socket"]);
    let seen = machine.wait_for_client("crashing", "is started again", is_running);
    assert_eq!(seen["exits"], 1, "{seen}");
    assert_eq!(machine.start_client("new", &[])["code"], 0);
    assert_eq!(machine.call("stop_client", &["client=kept"])["status"], "success");
}

#[test]
fn start_is_answered_when_bus_is_lost_during_it() {
    let Some(machine) = Machine::boot() else { return };
    machine.client_drop_in(&format!("[Service]\nExecStartPre=+sh -c '{LOSE_THE_BUS}'\n"));
    machine.start_service();
    let reply = answer(machine.calls_start_client("a"));
    assert_eq!(reply["code"], 503, "{reply}");
    assert!(reply["status"].as_str().unwrap().contains("systemd can't be reached"), "{reply}");
    machine.systemctl(&["start", "dbus.socket"]);
    let a = machine.wait_for_client("a", "runs", is_running);
    assert_eq!(a["exits"], 0, "{a}");
}

#[test]
fn client_that_exits_without_bus_is_not_restarted_early() {
    let Some(machine) = Machine::boot() else { return };
    // It ends cleanly, so systemd forgets that it was ever there.
    machine.script("echo it ran");
    machine.client_drop_in(&format!("[Service]\nExecStartPre=+sh -c '{LOSE_THE_BUS}'\n"));
    machine.configure("template_path = \"/etc/wqcontroller/template\"\n");
    machine.start_service();
    let caller = machine.calls_start_client("a");
    wait_until("it ran", || machine.printed("a", "it ran") == 1);
    wait_until("systemd has forgotten it", || machine.property("wqclient@a", "InvocationID").is_empty());
    machine.systemctl(&["start", "dbus.socket"]);
    // On a machine that is slow the caller was told meanwhile that systemd is away.
    let reply = answer(caller);
    assert!(reply["code"] == 3 || reply["code"] == 503, "{reply}");
    machine.wait_for_log("it ended before systemd could be asked");
    assert_eq!(machine.printed("a", "it ran"), 1);
}

#[test]
fn start_is_answered_when_client_exits_while_bus_returns() {
    let Some(machine) = Machine::boot() else { return };
    // It ends when its start is over for systemd, which otherwise may keep the job until all of its programs have ended.
    machine.script("until test -e /run/started; do sleep 0.1; done; echo it ran");
    // The last of its programs is there until the controller has asked about it.
    let last = "systemctl start dbus.socket; until test -e /run/gate; do sleep 0.1; done";
    machine.client_drop_in(&format!(
        "[Service]\nExecStartPre=+sh -c '{LOSE_THE_BUS}'\nExecStopPost=+sh -c '{last}'\n"
    ));
    machine.configure("template_path = \"/etc/wqcontroller/template\"\n");
    machine.start_service();
    let caller = machine.calls_start_client("a");
    wait_until("systemd has started it", || machine.property("wqclient@a", "SubState") == "running");
    machine.shell("touch /run/started");
    let reply = answer(caller);
    assert_eq!((&reply["code"], &reply["pid"].is_u64()), (&0.into(), &true), "{reply}");
    assert_eq!(machine.property("wqclient@a", "ActiveState"), "deactivating");
    machine.shell("touch /run/gate");
    let a = machine.wait_for_client("a", "was seen to end", |client| client["phase"] == "gone");
    assert_eq!(a["held"], true, "{a}");
    assert_eq!(machine.printed("a", "it ran"), 1);
}

#[test]
fn repeated_bus_loss_starts_no_client_twice() {
    let Some(machine) = Machine::boot() else { return };
    // Nor is anything refused for being begun too often.
    for unit in ["dbus.service", "polkit.service"] {
        machine.write(
            &format!("/etc/systemd/system/{unit}.d/50-test.conf"),
            "[Unit]\nStartLimitIntervalSec=0\n",
        );
    }
    machine.write("/etc/systemd/system/dbus.socket.d/50-test.conf", "[Socket]\nTriggerLimitIntervalSec=0\n");
    // One half ends at once.
    machine.script("echo it ran\ncase $MOJO_WEBQQ_ACCOUNT in short*) exit;; esac\nexec sleep 1000000");
    machine.configure(
        "max_clients = 100\ntemplate_path = \"/etc/wqcontroller/template\"\n[supervisor]\nrestart = \"no\"\n",
    );
    machine.systemctl(&["daemon-reload"]);
    machine.start_service();
    const EACH: usize = 30;
    let names: Vec<String> = (0..EACH).flat_map(|n| [format!("short{n}"), format!("long{n}")]).collect();
    let load = format!(
        "printf '%s\\n' {} | xargs -P 8 -I N sh -c 'curl -s http://127.0.0.1:4000/openqq/start_client?client=N >/tmp/reply_N'",
        names.join(" ")
    );
    let mut callers = machine.command("sh").args(["-euc", &load]).spawn().unwrap();
    let mut losses = 0;
    while callers.try_wait().unwrap().is_none() {
        machine.shell("systemctl kill --signal=KILL dbus.service || true");
        losses += 1;
        wait_until("the bus is back", || {
            machine.journal(&["--unit", UNIT]).matches("connected to systemd again").count() >= losses
        });
    }
    assert!(losses > 1, "it was never lost in between");
    for name in names {
        let ran = machine.printed(&name, "it ran");
        let reply = machine.shell(&format!("cat /tmp/reply_{name}"));
        assert!(ran <= 1, "{name} ran {ran} times: {reply}");
        if reply.contains("\"status\":\"success\"") {
            assert_eq!(ran, 1, "{name}: {reply}");
            assert!(name.starts_with("short") || machine.is_active(&format!("wqclient@{name}")), "{reply}");
        }
        assert_eq!(
            machine.is_active(&format!("wqclient@{name}")),
            name.starts_with("long") && ran == 1,
            "{reply}"
        );
    }
    println!("the bus was lost {losses} times");
}

#[test]
fn startup_waits_for_hanging_bus() {
    let Some(machine) = Machine::boot() else { return };
    machine.start_service();
    let pid = machine.start_client("a", &[])["pid"].clone();
    // systemd waits five seconds, unless it is asked for more.
    machine.drop_in("[Service]\nTimeoutStartSec=5\n");
    machine.systemctl(&["stop", UNIT]);
    machine.shell("kill -STOP $(systemctl show --value --property MainPID dbus)");
    let since = || machine.property(UNIT, "ExecMainStartTimestampMonotonic").parse::<u64>().unwrap_or(0);
    let now = || machine.shell("cut -d. -f1 /proc/uptime").parse::<u64>().unwrap() * 1_000_000;
    let before = since();
    machine.systemctl(&["--no-block", "start", UNIT]);
    wait_until("more is over", || since() > before && now() > since() + 8_000_000);
    assert_eq!(machine.property(UNIT, "ActiveState"), "activating");
    machine.shell("kill -CONT $(systemctl show --value --property MainPID dbus)");
    wait_until("it is up", || machine.is_active(UNIT));
    assert_eq!(machine.property(UNIT, "NRestarts"), "0");
    assert_eq!(machine.client("a")["pid"], pid);
}

#[test]
#[cfg(debug_assertions)]
fn client_that_starts_while_bus_is_lost_for_long_is_kept() {
    let Some(machine) = Machine::boot() else { return };
    // It loses the bus, and is started by systemd all the same.
    machine.client_drop_in(&format!("[Service]\nExecStartPre=+sh -c '{LOSE_THE_BUS}'\n"));
    machine.drop_in("[Service]\nEnvironment=WQCONTROLLER_TEST_START_TIMEOUT=1\n");
    machine.start_service();
    let reply = answer(machine.calls_start_client("a"));
    assert_eq!(reply["code"], 503, "{reply}");
    // Longer than a start may take, and than a call waits for the bus.
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(10) {
        assert_eq!(machine.client("a")["phase"], "starting");
    }
    machine.systemctl(&["start", "dbus.socket"]);
    let a = machine.wait_for_client("a", "runs", is_running);
    assert_eq!((&a["pid"], &a["exits"]), (&machine.main_pid("wqclient@a"), &0.into()), "{a}");
    assert_eq!(machine.call("stop_client", &["client=a"])["status"], "success");
    assert_eq!(machine.property("wqclient@a", "ActiveState"), "inactive");
}

#[test]
#[cfg(debug_assertions)]
fn start_that_takes_too_long_leaves_no_unit() {
    let Some(machine) = Machine::boot() else { return };
    machine.client_drop_in("[Service]\nTimeoutStartSec=infinity\nExecStartPre=sleep 600\n");
    machine.drop_in("[Service]\nEnvironment=WQCONTROLLER_TEST_START_TIMEOUT=2\n");
    machine.start_service();
    let reply = answer(machine.calls_start_client("a"));
    let why = reply["reason"].as_str().unwrap_or_default();
    assert!(reply["code"] == 3 && why.contains("was not up within 2s and is stopped"), "{reply}");
    assert_eq!(machine.property("wqclient@a", "ActiveState"), "inactive");
    assert_eq!(machine.clients(), Vec::<Value>::new());
}

#[test]
fn unit_that_operator_starts_without_bus_ends_with_its_account() {
    let Some(machine) = Machine::boot() else { return };
    machine.start_service();
    machine.start_client("a", &[]);
    machine.systemctl(&["stop", "wqclient@a"]);
    machine.wait_for_client("a", "is held", |client| client["held"] == true);
    machine.shell(LOSE_THE_BUS);
    machine.wait_for_log("clients keep running; reconnecting");
    // systemctl needs no bus.
    machine.systemctl(&["start", "wqclient@a"]);
    assert_eq!(machine.call("stop_client", &["client=a"])["status"], "success", "nothing is known of it");
    assert!(machine.is_active("wqclient@a"));
    machine.systemctl(&["start", "dbus.socket"]);
    wait_until("it ends as well", || machine.property("wqclient@a", "ActiveState") == "inactive");
    machine.wait_for_log("a: wqclient@a.service still runs although the account was removed; stopping it");
    assert_eq!(machine.start_client("a", &[])["code"], 0);
    machine.wait_for_client("a", "runs", is_running);
}
