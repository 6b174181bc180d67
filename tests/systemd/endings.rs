//! How units end, and what is said of it; and what can't be started or written.

use crate::machine::{Machine, Plan, wait_until};
use crate::service::UNIT;
use crate::units::is_running;

impl Machine {
    /// Adds lines to the unit of all clients.
    pub fn client_drop_in(&self, text: &str) {
        self.write("/etc/systemd/system/wqclient@.service.d/50-test.conf", text);
        self.systemctl(&["daemon-reload"]);
    }

    /// A template that is this script.
    pub fn script(&self, script: &str) {
        self.write("/etc/wqcontroller/template", &format!("#!/bin/sh\n{script}\n"));
        self.run("chmod", &["755", "/etc/wqcontroller/template"]);
    }

    /// How a client ended that was not stopped by a call.
    fn last_exit(&self, client: &str) -> String {
        let client = self.wait_for_client(client, "ended", |client| client["exits"] == 1);
        assert_eq!((&client["phase"], &client["held"]), (&"gone".into(), &true.into()));
        client["last_exit"].as_str().unwrap().to_owned()
    }
}

#[test]
fn exit_reason_names_oom_watchdog_and_timeout() {
    let Some(machine) = Plan::new().unified().boot() else { return };
    machine.configure("[supervisor]\nrestart = \"no\"\n");
    machine.client_drop_in("[Service]\nWatchdogSec=1\n");
    machine.start_service();
    machine.start_client("watched", &[]);
    assert_eq!(machine.last_exit("watched"), "was killed by the watchdog");
    machine.client_drop_in("[Service]\nRuntimeMaxSec=1\n");
    machine.start_client("timed", &[]);
    assert_eq!(machine.last_exit("timed"), "was killed because it did not end in time");
    machine.client_drop_in("");
    machine.start_client("large", &[]);
    // As systemd-oomd does, who need not be there: it says so at the cgroup, and kills. setxattr(2) is 188 on x86_64, 5 on
    // aarch64.
    let mark = r#"my ($n, $v) = (`uname -m` =~ /x86/ ? 188 : 5, "1");
        for my $path (glob "/sys/fs/cgroup/wqclient.slice/wqclient\@large.service") {
            for my $name ("user.oomd_ooms", "user.oomd_kill") {
                my ($p, $a) = ("$path", "$name");
                syscall($n, $p, $a, $v, 1, 0) == 0 or die "$name: $!";
            }
        }"#;
    machine.run("perl", &["-e", mark]);
    machine.shell("kill -9 $(systemctl show --value --property MainPID wqclient@large)");
    assert_eq!(machine.last_exit("large"), "was killed for want of memory");
    // The API, systemd and the journal tell the same.
    for (client, result) in [("watched", "watchdog"), ("timed", "timeout"), ("large", "oom-kill")] {
        assert_eq!(machine.property(&format!("wqclient@{client}"), "Result"), result);
    }
    machine.wait_for_log("killed by the watchdog");
}

#[test]
fn stop_by_sigkill_leaves_no_failed_unit_and_survives_controller_kill() {
    let Some(machine) = Machine::boot() else { return };
    machine.script("trap '' TERM; touch $MOJO_WEBQQ_TMPDIR/deaf; while :; do sleep 1; done");
    machine.configure("template_path = \"/etc/wqcontroller/template\"\n[supervisor]\nstop_timeout = 0.1\n");
    machine.start_service();
    machine.start_client("a", &[]);
    wait_until("it is deaf", || machine.try_run("test", &["-e", "/run/wqclient/a/deaf"]).status.success());
    assert_eq!(machine.call("stop_client", &["client=a"])["status"], "success");
    machine.wait_for_log("of SIGTERM; sending SIGKILL");
    wait_until("systemd has forgotten it", || machine.property("wqclient@a", "ActiveState") == "inactive");

    // The controller is killed while it waits for the end: the next one sees to it that account and unit are gone.
    machine.configure("template_path = \"/etc/wqcontroller/template\"\n[supervisor]\nstop_timeout = 300\n");
    machine.systemctl(&["reload", UNIT]);
    machine.start_client("b", &[]);
    wait_until("it is deaf", || machine.try_run("test", &["-e", "/run/wqclient/b/deaf"]).status.success());
    let mut stop = machine
        .command("curl")
        .args(["--silent", "http://127.0.0.1:4000/openqq/stop_client?client=b"])
        .spawn()
        .unwrap();
    wait_until("it is being stopped", || machine.property("wqclient@b", "ActiveState") == "deactivating");
    let earlier = machine.main_pid(UNIT);
    // For the next one, which need not be as patient.
    machine.configure("template_path = \"/etc/wqcontroller/template\"\n[supervisor]\nstop_timeout = 3\n");
    machine.systemctl(&["kill", "--signal=KILL", UNIT]);
    assert!(!stop.wait().unwrap().success(), "nobody answered");
    wait_until("there is another controller", || {
        // The process first: systemd may not have noticed yet that the earlier one was killed, and then has none for a moment.
        let process = machine.main_pid(UNIT);
        process != 0 && process != earlier && machine.property(UNIT, "SubState") == "running"
    });
    wait_until("the account is gone", || machine.clients().is_empty());
    assert_eq!(machine.property("wqclient@b", "ActiveState"), "inactive");
    wait_until("its launch file is gone", || {
        !machine.try_run("test", &["-e", "/run/wqcontroller/launch/b"]).status.success()
    });
    assert_eq!(machine.systemctl(&["list-units", "--failed", "--no-legend", "--plain"]), "");
}

#[test]
fn client_over_memory_limit_is_killed_and_restarted() {
    let Some(machine) = Machine::boot() else { return };
    machine.script("exec perl -e '$x = \"x\" x (256 << 20); sleep 600'");
    machine.configure(
        "template_path = \"/etc/wqcontroller/template\"\n[limits]\nmemory_max = \"32M\"\n[supervisor]\nrestart = \"no\"\n",
    );
    machine.start_service();
    machine.call("start_client", &["client=large"]);
    assert_eq!(machine.property("wqclient@large", "MemoryMax"), (32 << 20).to_string());
    let seen = machine.wait_for_client("large", "is killed", |client| client["phase"] != "up");
    // Where the controllers of cgroup v1 are in use systemd sees no more than the signal.
    let v1 = machine.shell("test -e /sys/fs/cgroup/memory && echo v1 || true") == "v1";
    let expected = if v1 { "was ended by signal 9" } else { "was killed for want of memory" };
    assert_eq!(seen["last_exit"], expected, "{seen}");
}

#[test]
fn full_state_folder_refuses_starts_and_loses_nothing() {
    let Some(machine) = Machine::boot() else { return };
    let folder = "/var/lib/wqcontroller";
    machine.shell(&format!(
        "mkdir -p {folder}; mount -t tmpfs -o size=64k,mode=700 tmpfs {folder}; chown wqcontroller:wqcontroller {folder}"
    ));
    machine.start_service();
    let kept = machine.start_client("kept", &[]);
    machine.wait_for_client("kept", "runs", is_running);
    machine.shell(&format!("dd if=/dev/zero of={folder}/fill bs=4k 2>/dev/null || true"));
    let refused = machine.call("start_client", &["client=late"]);
    assert_eq!((&refused["code"], &refused["status"]), (&3.into(), &"failure".into()));
    assert!(refused["reason"].as_str().unwrap().contains("No space left on device"), "{refused}");
    let refused = machine.call("stop_client", &["client=kept"]);
    assert_ne!(refused["status"], "success", "{refused}");
    assert_eq!(machine.client("kept")["pid"], kept["pid"], "what can't be written down is not done");
    assert!(!machine.is_active("wqclient@late"));
    assert!(!machine.try_run("test", &["-e", "/run/wqcontroller/launch/late"]).status.success());
    let status = || machine.property(UNIT, "StatusText");
    let told = "; no start or stop is accepted: the registry file can't be written: No space left on device";
    wait_until("the status says so", || status().contains(told));
    // A controller that is started now has what was written before.
    machine.systemctl(&["restart", UNIT]);
    assert_eq!(machine.client("kept")["pid"], kept["pid"]);
    machine.shell(&format!("rm {folder}/fill"));
    machine.start_client("late", &[]);
    wait_until("the status says that all is well", || !status().contains("no start or stop"));
    machine.systemctl(&["restart", UNIT]);
    assert_eq!(machine.clients().len(), 2);
}

#[test]
fn falls_back_to_child_processes_without_permission_or_unit() {
    let Some(machine) = Machine::boot() else { return };
    let chosen = |reason: &str| {
        machine.systemctl(&["restart", UNIT]);
        machine.wait_for_log(&format!("clients run as child processes: {reason}"));
        let status = machine.property(UNIT, "StatusText");
        assert!(status.starts_with(&format!("no clients; child processes ({reason}")), "{status}");
    };
    let rule = "/usr/share/polkit-1/rules.d/50-wqcontroller.rules";
    machine.shell(&format!("mv {rule} /root/rule"));
    chosen("units can't be used: this user may not start wqclient@.service");
    machine.shell(&format!("mv /root/rule {rule}"));
    wait_until("polkit has read the rule", || {
        machine.systemctl(&["restart", UNIT]);
        machine.property(UNIT, "StatusText") == "no clients; template units"
    });
    machine.systemctl(&["mask", "--runtime", "wqclient@.service"]);
    chosen("units can't be used: wqclient@.service is masked");
    machine.systemctl(&["unmask", "--runtime", "wqclient@.service"]);
    machine.client_drop_in("[Service]\nStandardInput=null\n");
    chosen(
        "units can't be used: wqclient@.service does not have StandardInput=file:/run/wqcontroller/launch/%i",
    );
    // Who insists on units gets an error and no surprise.
    machine.configure("[supervisor]\nmode = \"systemd\"\n");
    // The next try would begin with a status of its own.
    machine.drop_in("[Service]\nRestart=no\n");
    assert!(!machine.try_run("systemctl", &["restart", UNIT]).status.success());
    let status = machine.property(UNIT, "StatusText");
    assert!(status.contains("clients can't be units, as mode = \"systemd\""), "{status}");
}

/// Waits until check_client and systemd agree that a client runs.
fn wait_until_they_agree(machine: &Machine, client: &str) -> serde_json::Value {
    let unit = format!("wqclient@{client}");
    let mut seen = serde_json::Value::Null;
    wait_until(format!("{client} runs by both"), || {
        seen = machine.client(client);
        is_running(&seen) && seen["pid"] == machine.main_pid(&unit)
    });
    seen
}

#[test]
fn account_is_kept_after_signal_or_own_exit() {
    let Some(machine) = Machine::boot() else { return };
    machine.start_service();
    let port = machine.start_client("a", &[])["port"].clone();
    machine.wait_for_client("a", "runs", is_running);
    machine.systemctl(&["kill", "wqclient@a"]);
    machine.wait_for_client("a", "runs again", |client| client["exits"] == 1 && is_running(client));
    assert_eq!(machine.client("a")["last_exit"], "was ended by signal 15");

    // What an operator starts while the controller waits to do so is the client, and answers.
    for verb in ["start", "restart"] {
        let exits = machine.client("a")["exits"].clone();
        machine.systemctl(&["kill", "-s", "KILL", "wqclient@a"]);
        machine.wait_for_client("a", "ended", |client| client["exits"] != exits);
        machine.systemctl(&[verb, "wqclient@a"]);
        let a = wait_until_they_agree(&machine, "a");
        assert_eq!(
            (&a["phase"], &a["held"], &a["next_start"]),
            (&"up".into(), &false.into(), &serde_json::Value::Null)
        );
        assert_eq!(machine.call("get_user_info", &["client=a"])["code"], serde_json::Value::Null);
        assert_eq!(machine.call("start_client", &["client=a"])["status"], "client already exists");
    }

    // The client's own API was asked to stop it: it is forgotten, and no unit has failed.
    machine.shell(&format!("curl -s http://127.0.0.1:{port}/openqq/stop_client"));
    wait_until("it is forgotten", || machine.clients().is_empty());
    assert_eq!(machine.systemctl(&["list-units", "--failed", "--no-legend", "--plain"]), "");
}

#[test]
fn exit_reason_survives_unit_and_stop_resets_failed_unit() {
    let Some(machine) = Machine::boot() else { return };
    machine.start_service();
    machine.start_client("a", &[]);
    // Refused by the client itself, whatever is checked before the start. Not by its first process: a start whose process has
    // ended by the time of the answer fails, and nothing is kept of it.
    machine.client_drop_in("[Service]\nEnvironment=MOJO_WEBQQ_SANDBOX_LOGIN_TIME=never\n");
    machine.systemctl(&["kill", "--signal=KILL", "wqclient@a"]);
    let a = machine.wait_for_client("a", "is held", |client| client["held"] == true);
    assert_eq!((&a["exits"], &a["phase"]), (&2.into(), &"gone".into()), "{a}");
    assert!(a["reason"].as_str().unwrap().contains("SANDBOX_LOGIN_TIME"), "{a}");
    assert_eq!(a["last_exit"], "exited with status 2: its settings can't be used");
    for _ in 0..2 {
        machine.systemctl(&["restart", UNIT]);
        let next = machine.client("a");
        for key in ["exits", "held", "reason", "last_exit"] {
            assert_eq!(next[key], a[key], "{key}");
        }
    }
    assert_eq!(machine.call("stop_client", &["client=a"])["status"], "success");
    let failed = || machine.systemctl(&["list-units", "--failed", "--no-legend", "--plain"]);
    wait_until("no unit has failed", || failed().is_empty());
    wait_until("its launch file is gone", || {
        !machine.try_run("test", &["-e", "/run/wqcontroller/launch/a"]).status.success()
    });
}
