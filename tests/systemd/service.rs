//! The service: when it says that it is ready, what it says of itself, how it is reloaded, watched and ended.

use serde_json::Value;

use crate::machine::{Machine, wait_until};
use crate::units::is_running;

#[test]
fn check_config_of_root_judges_as_the_user_of_the_service() {
    let Some(machine) = Machine::boot() else { return };
    machine.configure("[[auth.tokens]]\nname = \"bot\"\nfile = \"/etc/wqcontroller/bot.token\"\n");
    machine.shell("echo a-token-of-sixteen | install -m 600 /dev/stdin /etc/wqcontroller/bot.token");
    let check = || {
        let output = machine.try_run("wqcontroller", &["--check-config"]);
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout), text(output.stderr))
    };
    let (status, _, complaint) = check();
    let why = "auth.tokens: can't use the file of token bot: /etc/wqcontroller/bot.token: Permission denied";
    assert!(status == Some(78) && complaint.contains(why), "{status:?} {complaint}");
    machine.shell("chown wqcontroller /etc/wqcontroller/bot.token");
    let (status, printed, complaint) = check();
    assert_eq!((status, complaint.as_str()), (Some(0), ""), "{printed}");
    assert!(
        printed.contains("All was tried as wqcontroller, the user of wqcontroller.service."),
        "{printed}"
    );
}

/// The unit under test.
pub const UNIT: &str = "wqcontroller.service";

impl Machine {
    /// What the controller answers to a call, by `curl`, with these parameters.
    pub fn call(&self, path: &str, parameters: &[&str]) -> Value {
        let mut arguments = vec!["--silent", "--show-error", "--fail", "--get"];
        for parameter in parameters {
            arguments.extend(["--data-urlencode", parameter]);
        }
        let url = format!("http://127.0.0.1:4000/openqq/{path}");
        arguments.push(&url);
        serde_json::from_str(&self.run("curl", &arguments)).unwrap()
    }

    /// Starts a client, which must start.
    pub fn start_client(&self, name: &str, parameters: &[&str]) -> Value {
        let reply = self.call("start_client", &[&[&*format!("client={name}")], parameters].concat());
        assert_eq!(reply["status"], "success", "{reply}");
        reply
    }

    /// Adds a file to the controller's configuration.
    pub fn configure(&self, text: &str) {
        self.write("/etc/wqcontroller/wqcontroller.toml.d/50-test.toml", text);
    }

    /// Adds lines to the unit of the controller.
    pub fn drop_in(&self, text: &str) {
        self.write("/etc/systemd/system/wqcontroller.service.d/50-test.conf", text);
        self.systemctl(&["daemon-reload"]);
    }

    pub fn wait_for_status(&self, status: &str) {
        let mut seen = String::new();
        let found = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            wait_until(format!("the status is {status:?}"), || {
                seen = self.property(UNIT, "StatusText");
                seen == status
            });
        }));
        assert!(found.is_ok(), "the status is {seen:?}, not {status:?}");
    }
}

#[test]
fn ready_is_sent_when_service_answers() {
    let Some(machine) = Machine::boot() else { return };
    // With an account from before, so that there is something to take up.
    machine.systemctl(&["start", UNIT]);
    machine.start_client("a", &[]);
    for _ in 0..5 {
        machine.systemctl(&["restart", UNIT]);
        // At once, without trying again.
        let list = machine.call("check_client", &[]);
        assert_eq!(list["client"][0]["account"], "a", "what was restored is to be seen from the beginning");
    }
    assert_eq!(machine.property(UNIT, "Type"), "notify");
    assert_eq!(machine.property(UNIT, "NRestarts"), "0");
    machine.systemctl(&["stop", UNIT]);
    assert_eq!(machine.property(UNIT, "Result"), "success");
}

#[test]
fn start_limits_of_systemd_do_not_apply() {
    let Some(machine) = Machine::boot() else { return };
    // Five times in ten seconds is what systemd takes by itself.
    for _ in 0..8 {
        machine.systemctl(&["restart", UNIT]);
    }
    for _ in 0..8 {
        machine.start_client("a", &[]);
        machine.call("stop_client", &["client=a"]);
    }
    for unit in [UNIT, "wqclient@a.service"] {
        assert_eq!(machine.property(unit, "StartLimitIntervalUSec"), "0", "{unit}");
    }
}

#[test]
fn watchdog_is_set_and_core_dumps_are_off() {
    let Some(machine) = Machine::boot() else { return };
    machine.systemctl(&["start", UNIT]);
    assert_eq!(machine.property(UNIT, "WatchdogUSec"), "30s");
    assert_eq!(machine.property(UNIT, "LimitCORE"), "0", "passwords would be in it");
}

#[test]
fn status_counts_clients_by_state() {
    let Some(machine) = Machine::boot() else { return };
    machine.configure("[supervisor]\nrestart = \"no\"\n");
    machine.systemctl(&["start", UNIT]);
    assert_eq!(machine.property(UNIT, "StatusText"), "no clients; template units");
    machine.start_client("a", &[]);
    machine.wait_for_status("1 client: 1 running; template units");
    let pid = machine.start_client("b", &["sandbox_login=scan"])["pid"].clone();
    machine.wait_for_status("2 clients: 1 running, 1 scaning; template units");
    machine.run("kill", &["-9", &pid.to_string()]);
    machine.wait_for_status("2 clients: 1 running, 1 held; template units");
    machine.call("stop_client", &["client=a"]);
    machine.call("stop_client", &["client=b"]);
    machine.wait_for_status("no clients; template units");
}

#[test]
fn reload_is_reported_and_error_changes_nothing() {
    let Some(machine) = Machine::boot() else { return };
    machine.systemctl(&["start", UNIT]);
    let pid = machine.property(UNIT, "MainPID");
    machine.configure("max_clients = 1\n");
    machine.systemctl(&["reload", UNIT]);
    machine.start_client("a", &[]);
    assert_eq!(machine.call("start_client", &["client=b"])["status"], "max clients exceed");

    machine.configure("max_clients = 0\n");
    let refused = machine.try_run("systemctl", &["reload", UNIT]);
    assert!(!refused.status.success(), "systemctl reload says nothing of a mistake");
    assert_eq!(machine.property(UNIT, "ActiveState"), "active");
    machine.wait_for_log("50-test.toml:1: `max_clients` is 0, must be");

    // By a signal alone, too.
    let refused = "1 client: 1 running; template units; the new configuration was refused, the old one holds: see the journal";
    machine.wait_for_status(refused);
    machine.configure("max_clients = 1\n");
    machine.systemctl(&["reload", UNIT]);
    machine.wait_for_status("1 client: 1 running; template units");
    machine.configure("max_clients = 0\n");
    machine.run("kill", &["-HUP", &pid]);
    machine.wait_for_status(refused);
    machine.configure("max_clients = 2\n");
    machine.systemctl(&["reload", UNIT]);
    machine.wait_for_status("1 client: 1 running; template units");
    machine.start_client("b", &[]);
    assert_eq!(machine.property(UNIT, "MainPID"), pid);
    assert_eq!(machine.property(UNIT, "ActiveState"), "active");
}

#[test]
fn systemctl_reload_waits_for_controller() {
    let Some(machine) = Machine::boot() else { return };
    // It is held for a while.
    machine.drop_in("[Service]\nWatchdogSec=0\n");
    machine.systemctl(&["start", UNIT]);
    let pid = machine.property(UNIT, "MainPID");
    machine.configure("max_clients = 1\n");
    // It has the signal and does nothing about it yet.
    machine.run("kill", &["-STOP", &pid]);
    let mut reloading = machine.command("systemctl").args(["reload", UNIT]).spawn().unwrap();
    wait_until("it has the signal", || {
        let status = machine.run("cat", &[&format!("/proc/{pid}/status")]);
        let pending = status.lines().find_map(|line| line.strip_prefix("ShdPnd:\t")).unwrap();
        u64::from_str_radix(pending, 16).unwrap() & 1 == 1
    });
    for _ in 0..10 {
        assert_eq!(machine.property(UNIT, "ActiveState"), "reloading");
    }
    assert!(reloading.try_wait().unwrap().is_none());
    machine.run("kill", &["-CONT", &pid]);
    assert!(reloading.wait().unwrap().success());
    assert_eq!(machine.property(UNIT, "ActiveState"), "active");
    machine.start_client("a", &[]);
    assert_eq!(machine.call("start_client", &["client=b"])["status"], "max clients exceed");

    // One that ends over it.
    machine.run("kill", &["-STOP", &pid]);
    let mut reloading = machine.command("systemctl").args(["reload", UNIT]).spawn().unwrap();
    wait_until("it is asked to", || machine.property(UNIT, "ActiveState") == "reloading");
    machine.run("kill", &["-KILL", &pid]);
    assert!(!reloading.wait().unwrap().success());
    wait_until("it is started anew", || machine.is_active(UNIT));
}

#[test]
fn failed_start_says_why() {
    let Some(machine) = Machine::boot() else { return };
    machine.configure("max_clients = 0\n");
    assert!(!machine.try_run("systemctl", &["start", UNIT]).status.success());
    assert_eq!(machine.property(UNIT, "ExecMainStatus"), "78");
    assert_eq!(machine.property(UNIT, "ActiveState"), "failed", "starting again does not help");
    let status = machine.property(UNIT, "StatusText");
    assert!(
        status.starts_with("the configuration is refused: ") && status.contains("`max_clients` is 0"),
        "{status}"
    );

    // The next try would begin with a status of its own.
    machine.drop_in("[Service]\nRestart=no\n");
    machine.configure("backend_path = \"/proc/nowhere/backend\"\n");
    assert!(!machine.try_run("systemctl", &["start", UNIT]).status.success());
    assert_eq!(machine.property(UNIT, "StatusErrno"), "2");
    let status = machine.property(UNIT, "StatusText");
    assert!(status.contains("/proc/nowhere") && status.contains("No such file or directory"), "{status}");
}

#[test]
#[cfg(debug_assertions)]
fn watchdog_restarts_controller_with_hanging_registry() {
    let Some(machine) = Machine::boot() else { return };
    machine.drop_in(
        "[Service]\nWatchdogSec=10\nRestartSec=0\nEnvironment=WATCHDOG_USEC=1000000 WQCONTROLLER_TEST_HANG=hang\n",
    );
    machine.systemctl(&["start", UNIT]);
    machine.start_client("a", &[]);
    machine.wait_for_status("1 client: 1 running; template units");
    let pid = machine.property(UNIT, "MainPID");
    let mut caller = machine.command("curl");
    caller.args(["--silent", "http://127.0.0.1:4000/openqq/start_client?client=hang"]);
    let mut caller = caller.spawn().unwrap();
    wait_until("it was started anew", || {
        machine.property(UNIT, "NRestarts") == "1" && machine.property(UNIT, "SubState") == "running"
    });
    caller.wait().unwrap();
    assert_ne!(machine.property(UNIT, "MainPID"), pid);
    let log = machine.journal(&["--unit", UNIT]);
    assert!(log.contains("Watchdog timeout"), "{log}");
    machine.wait_for_status("1 client: 1 running; template units");
}

#[test]
fn watchdog_leaves_working_controller_alone() {
    let Some(machine) = Machine::boot() else { return };
    machine.drop_in("[Service]\nWatchdogSec=500ms\n");
    machine.systemctl(&["start", UNIT]);
    let beats = || machine.property(UNIT, "WatchdogTimestampMonotonic").parse::<u64>().unwrap();
    let first = beats();
    // Many times what it may take without a beat.
    wait_until("it beats on", || beats() > first + 3_000_000);
    assert_eq!(machine.property(UNIT, "NRestarts"), "0");
    assert_eq!(machine.property(UNIT, "SubState"), "running");
}

#[test]
fn running_units_are_kept_when_supervisor_mode_changes() {
    let Some(machine) = Machine::boot() else { return };
    machine.start_service();
    let before = machine.start_client("a", &[]);
    machine.configure("[supervisor]\nmode = \"direct\"\n");
    machine.systemctl(&["restart", UNIT]);
    machine.wait_for_client("a", "runs", is_running);
    machine.wait_for_status(
        "1 client: 1 running; template units (clients of the registry are template units, and live; stop them and restart the \
         controller to change that)",
    );
    assert_eq!(machine.client("a")["pid"], before["pid"]);
    // All of one kind: there is one way to stop them.
    let b = machine.start_client("b", &[]);
    assert_eq!(b["pid"], machine.main_pid("wqclient@b"));
    for client in ["client=a", "client=b"] {
        assert_eq!(machine.call("stop_client", &[client])["status"], "success");
    }
    machine.systemctl(&["restart", UNIT]);
    machine.wait_for_status("no clients; child processes");
}
