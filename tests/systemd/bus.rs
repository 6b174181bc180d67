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

#[test]
fn a_lost_bus_and_a_systemd_that_begins_anew_cost_no_client() {
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
    machine.wait_for_log("systemd left the bus; clients go on, and it is waited for");
    let asked_again = |times| {
        let log = || machine.journal(&["--unit", UNIT]);
        wait_until(format!("systemd can be asked again, time {times}"), || {
            log().matches("systemd can be asked again").count() == times
        });
    };
    asked_again(1);
    assert!(all_up());
    machine.shell("kill -9 $(systemctl show --value --property MainPID dbus)");
    machine.wait_for_log("the bus was lost; clients go on, and it is tried again");
    let lost = machine.journal(&["MESSAGE_ID=46b1d9e3f7a84c208c5e2d6f9a0b7e89"]);
    assert!(lost.contains("the bus was lost"), "{lost}");
    // While there is no bus a client ends; and what asks for one waits.
    machine.shell(&format!("kill -9 {}", pids[2]));
    machine.start_client("d", &[]);
    asked_again(2);
    let c = machine.wait_for_client("c", "was seen to end", |client| client["exits"] == 1);
    assert!(c["last_exit"] == "was ended by signal 9" || c["last_exit"].is_null(), "{c}");
    assert_eq!((&machine.client("a")["pid"], &machine.client("b")["pid"]), (&pids[0], &pids[1]));
    machine.systemctl(&["kill", "--signal=KILL", "wqclient@b"]);
    machine.wait_for_client("b", "was seen to end", |client| client["exits"] == 1);
    assert_eq!(machine.call("stop_client", &["client=a"])["status"], "success");
    // Starts go on while systemd begins anew under them.
    let load = "for n in $(seq 30); do curl -s \"http://127.0.0.1:4000/openqq/start_client?client=x$n\"; done & \
                for n in 1 2 3; do systemctl daemon-reexec; done; wait";
    let replies = machine.shell(load);
    assert_eq!(replies.matches("\"status\":\"success\"").count(), 30, "{replies}");
    let running =
        machine.shell("systemctl list-units --state=active --plain --no-legend 'wqclient@x*' | wc -l");
    assert_eq!(running, "30");
}

#[test]
fn a_bus_that_is_away_is_told_in_the_status_and_costs_no_beat() {
    const WATCHDOG: Duration = Duration::from_secs(2);
    let Some(machine) = Machine::boot() else { return };
    machine.drop_in(&format!("[Service]\nWatchdogSec={}\n", WATCHDOG.as_secs()));
    machine.start_service();
    let client = machine.start_client("a", &[]);
    machine.wait_for_client("a", "runs", is_running);
    let process = machine.property(UNIT, "MainPID");
    machine.shell(LOSE_THE_BUS);
    let status = || machine.property(UNIT, "StatusText");
    wait_until("the status says so", || status().ends_with("template units, systemd can't be asked"));
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
fn a_client_that_ends_while_the_bus_is_away_is_not_started_again() {
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
    let reply = answer(caller);
    assert_eq!(reply["code"], 3, "{reply}");
    assert!(reply["reason"].as_str().unwrap().contains("it ended before systemd could be asked"), "{reply}");
    assert_eq!(machine.printed("a", "it ran"), 1);
}

#[test]
fn a_start_whose_client_is_ending_when_the_bus_is_back_is_answered() {
    let Some(machine) = Machine::boot() else { return };
    machine.script("echo it ran");
    // The last of its programs is there until the controller has asked about it.
    let last = "systemctl start dbus.socket; until test -e /run/gate; do sleep 0.1; done";
    machine.client_drop_in(&format!(
        "[Service]\nExecStartPre=+sh -c '{LOSE_THE_BUS}'\nExecStopPost=+sh -c '{last}'\n"
    ));
    machine.configure("template_path = \"/etc/wqcontroller/template\"\n");
    machine.start_service();
    let reply = answer(machine.calls_start_client("a"));
    assert_eq!(machine.property("wqclient@a", "ActiveState"), "deactivating");
    assert_eq!((&reply["code"], &reply["pid"].is_u64()), (&0.into(), &true), "{reply}");
    machine.shell("touch /run/gate");
    wait_until("its end was seen", || machine.clients().is_empty());
    assert_eq!(machine.printed("a", "it ran"), 1);
}

#[test]
fn however_often_the_bus_is_lost_nothing_starts_twice() {
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
            machine.journal(&["--unit", UNIT]).matches("systemd can be asked again").count() >= losses
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
fn a_bus_that_hangs_at_the_start_is_waited_for() {
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
