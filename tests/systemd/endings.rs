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

    /// How a client ended that nobody ended.
    fn last_exit(&self, client: &str) -> String {
        let client = self.wait_for_client(client, "ended", |client| client["exits"] == 1);
        assert_eq!((&client["phase"], &client["held"]), (&"gone".into(), &true.into()));
        client["last_exit"].as_str().unwrap().to_owned()
    }
}

#[test]
fn memory_watchdog_and_time_are_told_as_what_they_are() {
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
    machine.wait_for_log("client ended unexpectedly: it was killed by the watchdog");
}

#[test]
fn what_had_to_be_killed_is_not_listed_as_failed() {
    let Some(machine) = Machine::boot() else { return };
    machine.script("trap '' TERM; touch $MOJO_WEBQQ_TMPDIR/deaf; while :; do sleep 1; done");
    machine.configure("template_path = \"/etc/wqcontroller/template\"\n[supervisor]\nstop_timeout = 0.1\n");
    machine.start_service();
    machine.start_client("a", &[]);
    wait_until("it is deaf", || machine.try_run("test", &["-e", "/run/wqclient/a/deaf"]).status.success());
    assert_eq!(machine.call("stop_client", &["client=a"])["status"], "success");
    machine.wait_for_log("the client does not end by SIGTERM, it is killed");
    wait_until("systemd has forgotten it", || machine.property("wqclient@a", "ActiveState") == "inactive");
}

#[test]
fn who_takes_more_memory_than_the_limits_is_killed_and_starts_again() {
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
fn with_a_full_state_folder_nothing_is_promised_and_nothing_lost() {
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
    // A controller that is started now has what was written before.
    machine.systemctl(&["restart", UNIT]);
    assert_eq!(machine.client("kept")["pid"], kept["pid"]);
    machine.shell(&format!("rm {folder}/fill"));
    machine.start_client("late", &[]);
    machine.systemctl(&["restart", UNIT]);
    assert_eq!(machine.clients().len(), 2);
}

#[test]
fn without_the_right_or_the_unit_clients_are_child_processes_and_why_is_said() {
    let Some(machine) = Machine::boot() else { return };
    let chosen = |reason: &str| {
        machine.systemctl(&["restart", UNIT]);
        machine.wait_for_log(&format!("clients are child processes: {reason}"));
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
