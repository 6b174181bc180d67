//! What is in the journal, and that it is there whatever happens to others.

use serde_json::Value;

use crate::machine::{Machine, wait_until};
use crate::service::UNIT;

impl Machine {
    /// The entries that match, with all their fields.
    fn entries(&self, matches: &[&str]) -> Vec<Value> {
        let text = self.journal(&[&["--output=json"], matches].concat());
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// The first entry that matches and says this, once it is there.
    pub fn entry(&self, matches: &[&str], message: &str) -> Value {
        let mut found = None;
        let says = |entry: &Value| entry["MESSAGE"].as_str().is_some_and(|text| text.contains(message));
        wait_until(format!("{message:?} is in the journal"), || {
            found = self.entries(matches).into_iter().find(says);
            found.is_some()
        });
        found.unwrap()
    }

    /// A template for clients that runs a script first.
    fn template(&self, script: &str) {
        let built_in = "exec -a \"wqclient($MOJO_WEBQQ_ACCOUNT)\" /usr/sbin/wqcontroller client";
        self.write("/etc/wqcontroller/template", &format!("#!/bin/bash\n{script}\n{built_in}\n"));
        self.run("chmod", &["755", "/etc/wqcontroller/template"]);
        self.configure("template_path = \"/etc/wqcontroller/template\"\n[supervisor]\nmode = \"direct\"\n");
    }
}

#[test]
fn client_events_have_journal_fields_and_message_ids() {
    let Some(machine) = Machine::boot() else { return };
    machine.run("journalctl", &["--update-catalog"]);
    machine.systemctl(&["start", UNIT]);
    let reply = machine.start_client("小红", &["sandbox_login_time=20"]);
    let entry = machine.entry(&["WQ_CLIENT=小红", "SYSLOG_IDENTIFIER=wqcontroller"], "started (pid");
    let field = |name: &str| entry[name].as_str().unwrap_or_default().to_owned();
    assert_eq!(field("WQ_PID"), reply["pid"].to_string());
    assert_eq!(field("WQ_PORT"), "5000");
    assert_eq!(field("WQ_PHASE"), "up");
    assert_eq!(field("PRIORITY"), "6");
    assert_eq!(field("_SYSTEMD_UNIT"), UNIT);
    let unit = "wqclient@-73b784d6bf997d84.service";
    assert_eq!(field("WQ_UNIT"), unit, "by its name nobody would find it");
    assert_eq!(field("MESSAGE"), format!("小红: started (pid {}, port 5000)", reply["pid"]));

    let scan =
        machine.entry(&["WQ_CLIENT=小红", "WQ_STATE=scaning"], "waiting for its login code to be scanned");
    assert_eq!(scan["PRIORITY"], "5", "a person has to act");
    machine.entry(&["WQ_CLIENT=小红", "WQ_STATE=running"], "logged in");
    machine.run("kill", &["-9", &reply["pid"].to_string()]);
    let failed = machine.entry(&["WQ_CLIENT=小红", "PRIORITY=4"], "ended by signal 9");
    assert_eq!((&failed["WQ_PHASE"], &failed["WQ_UNIT"]), (&"gone".into(), &unit.into()));
    let words = machine.journal(&["WQ_CLIENT=小红", "--identifier", "wqclient"]);
    assert!(!words.is_empty());
    let explained =
        |id: &Value| machine.journal(&["--catalog", &format!("MESSAGE_ID={}", id.as_str().unwrap())]);
    for (entry, words) in [
        (&entry, "Subject: Client 小红 was started"),
        (&scan, "get_qrcode?client=小红"),
        (&failed, "journalctl WQ_CLIENT=小红"),
        (&failed, "journalctl -u UNIT"),
    ] {
        let text = explained(&entry["MESSAGE_ID"]);
        assert!(text.contains(words), "{words} is not in:\n{text}");
    }
}

#[test]
fn client_and_bus_failures_have_catalog_texts() {
    let Some(machine) = Machine::boot() else { return };
    machine.run("journalctl", &["--update-catalog"]);
    machine.systemctl(&["start", UNIT]);
    let explained = |fields: &[&str], message: &str, subject: &str| {
        let entry = machine.entry(&[fields, &["SYSLOG_IDENTIFIER=wqcontroller"]].concat(), message);
        let id = format!("MESSAGE_ID={}", entry["MESSAGE_ID"].as_str().unwrap());
        let text = machine.journal(&[&["--catalog", &id], fields].concat());
        assert!(text.contains(&format!("Subject: {subject}")), "{text}");
        // A field that the entry does not have would be left as it is written. The message itself may name a unit.
        let catalog = |line: &&str| line.starts_with('░');
        assert!(!text.lines().filter(catalog).any(|line| line.contains('@')), "{text}");
        entry
    };
    machine.start_client("a", &["sandbox_fault_drop=1"]);
    explained(&["WQ_CLIENT=a", "PRIORITY=6"], "logged in", "Client a is logged in");
    explained(&["WQ_CLIENT=a", "PRIORITY=4"], "offline", "Client a is offline");
    machine.systemctl(&["stop", "wqclient@a"]);
    // The operator did that: it is no warning.
    explained(&["WQ_CLIENT=a", "PRIORITY=6"], "; held until its unit is started", "Client a is held");
    machine.configure("[supervisor]\nrestart = \"no\"\n");
    machine.systemctl(&["reload", UNIT]);
    machine.start_client("b", &[]);
    machine.systemctl(&["kill", "--signal=KILL", "wqclient@b"]);
    let held =
        explained(&["WQ_CLIENT=b", "PRIORITY=4"], "; held, not started again until", "Client b is held");
    assert_eq!(held["WQ_FAILURES"], "1");
    machine.shell("systemctl kill --signal=KILL dbus");
    explained(&["PRIORITY=4"], "clients keep running", "The service manager can't be reached");
}

#[test]
fn next_controller_reports_unseen_failure() {
    let Some(machine) = Machine::boot() else { return };
    machine.systemctl(&["start", UNIT]);
    machine.start_client("a", &[]);
    machine.systemctl(&["stop", UNIT]);
    machine.systemctl(&["kill", "--signal=KILL", "wqclient@a"]);
    wait_until("it has failed", || machine.property("wqclient@a", "ActiveState") == "failed");
    machine.systemctl(&["start", UNIT]);
    let told = machine.entry(
        &["MESSAGE_ID=0b9f3a77c2d84e63b1e4a9d05c7f8e23", "WQ_CLIENT=a"],
        "ended by signal 9 while no controller was there",
    );
    assert_eq!((&told["PRIORITY"], &told["WQ_UNIT"]), (&"4".into(), &"wqclient@a.service".into()));
    let a = machine.wait_for_client("a", "is started again", |client| client["phase"] == "up");
    assert_eq!((&a["exits"], &a["last_exit"]), (&1.into(), &"was ended by signal 9".into()));

    // Why something can't be is a field of its own.
    machine.systemctl(&["mask", "--runtime", "wqclient@b.service"]);
    assert_ne!(machine.call("start_client", &["client=b"])["status"], "success");
    let told = machine.entry(&["WQ_CLIENT=b", "PRIORITY=3"], "could not be started");
    assert!(told["WQ_ERROR"].as_str().unwrap().contains("masked"), "{told}");
}

#[test]
fn controller_restart_repeats_no_events() {
    let Some(machine) = Machine::boot() else { return };
    machine.systemctl(&["start", UNIT]);
    for name in ["a", "b", "c"] {
        machine.start_client(name, &[]);
        machine.wait_for_client(name, "runs", |client| client["state"] == "running");
    }
    machine.systemctl(&["stop", "wqclient@c"]);
    machine.wait_for_client("c", "is held", |client| client["held"] == true);
    // None of its login codes is scanned.
    machine.start_client("d", &["sandbox_login=scan", "qrcode_expire=0.1", "qrcode_count_max=1"]);
    machine.wait_for_client("d", "is held", |client| client["held"] == true);
    machine.systemctl(&["restart", UNIT]);
    machine.wait_for_status("4 clients: 2 running, 2 held; template units");
    let pid = machine.property(UNIT, "MainPID");
    machine.entry(&[&format!("_PID={pid}")], "clients of the registry: 2 running, 2 gone");
    machine.entry(&[&format!("_PID={pid}")], "ready");
    let told = machine.journal(&[&format!("_PID={pid}"), "--output=cat"]);
    assert!(!told.contains("logged in") && !told.contains("still running"), "{told}");
    assert!(machine.journal(&[&format!("_PID={pid}"), "--priority=warning"]).is_empty(), "{told}");
    // What is new is told as ever.
    machine.systemctl(&["restart", "wqclient@a"]);
    machine.entry(&[&format!("_PID={pid}"), "WQ_CLIENT=a"], "logged in");
}

#[test]
fn refused_configuration_and_registry_have_message_ids() {
    let Some(machine) = Machine::boot() else { return };
    machine.run("journalctl", &["--update-catalog"]);
    let explained = |message: &str, subject: &str| {
        let entry = machine.entry(&["--unit", UNIT, "PRIORITY=3"], message);
        let id = format!("MESSAGE_ID={}", entry["MESSAGE_ID"].as_str().unwrap());
        let text = machine.journal(&["--catalog", &id]);
        assert!(text.contains(subject), "{text}");
    };
    machine.configure("max_clients = 0\n");
    assert!(!machine.try_run("systemctl", &["start", UNIT]).status.success());
    let refused = "the configuration is refused, so the controller does not start:\n/etc/";
    explained(refused, "Subject: The configuration is refused");
    explained("`max_clients` is 0, must be", "Subject: The configuration is refused");
    machine.configure("");
    machine.systemctl(&["start", UNIT]);
    machine.configure("nonsense = 1\n");
    machine.run("kill", &["-HUP", &machine.property(UNIT, "MainPID")]);
    explained("the new configuration is refused", "Subject: The configuration is refused");
    machine.systemctl(&["stop", UNIT]);
    machine.configure("");
    machine.write("/var/lib/wqcontroller/mojo_webqq_controller_backend.dat", "no registry");
    machine.shell("chown -R wqcontroller /var/lib/wqcontroller");
    machine.drop_in("[Service]\nRestart=no\n");
    assert!(!machine.try_run("systemctl", &["start", UNIT]).status.success());
    explained("mojo_webqq_controller_backend.dat", "Subject: The registry file is refused");
}

#[test]
fn last_log_lines_belong_to_unit() {
    let Some(machine) = Machine::boot() else { return };
    const TIMES: usize = 30;
    machine.configure("max_clients = 0\n");
    for _ in 0..TIMES {
        assert!(!machine.try_run("systemctl", &["start", UNIT]).status.success());
    }
    machine.configure("");
    for _ in 0..TIMES {
        machine.systemctl(&["start", UNIT]);
        machine.systemctl(&["stop", UNIT]);
    }
    let log = machine.journal(&["--unit", UNIT, "--output=cat"]);
    for words in ["`max_clients` is 0, must be", "wqcontroller ends"] {
        assert_eq!(log.matches(words).count(), TIMES, "{words}: {log}");
    }
}

#[test]
fn client_output_keeps_its_priority() {
    let Some(machine) = Machine::boot() else { return };
    machine.template("for n in 0 1 2 3 4 5 6 7; do echo \"<$n>level $n\"; done; echo plain >&2");
    machine.systemctl(&["start", UNIT]);
    machine.start_client("a", &["log_level=info"]);
    let own = ["WQ_CLIENT=a", "SYSLOG_IDENTIFIER=wqclient"];
    machine.entry(&own, "plain");
    for level in 0..7 {
        let entry = machine.entry(&own, &format!("level {level}"));
        assert_eq!(entry["PRIORITY"], level.to_string());
        assert_eq!(entry["MESSAGE"], format!("level {level}"));
    }
    assert_eq!(machine.entry(&own, "plain")["PRIORITY"], "6");
    assert!(!machine.journal(&own).contains("level 7"), "log_level is info");
    // The built-in client gives levels to its own words.
    assert_eq!(machine.entry(&own, "listening on 127.0.0.1:")["PRIORITY"], "6");
    let both = machine.journal(&["WQ_CLIENT=a"]);
    assert!(both.contains("started (pid") && both.contains("plain"), "{both}");
}

#[test]
fn output_of_outliving_client_is_logged() {
    let Some(machine) = Machine::boot() else { return };
    let waits = "(until test -e /run/wqcontroller/go; do sleep 0.1; done; echo '<3>while nobody read') &";
    machine.template(&format!("echo hello; {waits}"));
    machine.configure(
        "template_path = \"/etc/wqcontroller/template\"\n[supervisor]\nmode = \"direct\"\n\
         clients_outlive_controller = true\n",
    );
    machine.drop_in("[Service]\nKillMode=process\n");
    machine.systemctl(&["start", UNIT]);
    machine.start_client("a", &[]);
    let own = ["WQ_CLIENT=a", "SYSLOG_IDENTIFIER=wqclient"];
    machine.entry(&own, "hello");
    machine.systemctl(&["stop", UNIT]);
    machine.shell("touch /run/wqcontroller/go");
    wait_until("it has printed", || {
        let output = "/run/wqcontroller/mojo_webqq_output_a.log";
        machine.try_run("grep", &["-q", "while nobody read", output]).status.success()
    });
    machine.systemctl(&["start", UNIT]);
    assert_eq!(machine.entry(&own, "while nobody read")["PRIORITY"], "3");
    assert_eq!(machine.journal(&own).matches("hello").count(), 1);
}

#[test]
fn flooding_client_is_rate_limited_alone() {
    let Some(machine) = Machine::boot() else { return };
    machine.template(
        "if [ \"$MOJO_WEBQQ_ACCOUNT\" = flood ]; then yes 'no end of it' & yes 'nor of this' >&2 & fi; echo hello",
    );
    machine.systemctl(&["start", UNIT]);
    machine.start_client("flood", &[]);
    machine.entry(&["WQ_CLIENT=flood"], "lines of its output were dropped");
    for n in 0..20 {
        let name = format!("c{n}");
        let filter = format!("WQ_CLIENT={name}");
        machine.start_client(&name, &[]);
        machine.entry(&[&filter, "SYSLOG_IDENTIFIER=wqclient"], "hello");
        machine.entry(&[&filter, "SYSLOG_IDENTIFIER=wqcontroller"], "started (pid");
    }
    let log = machine.journal(&["--unit", "systemd-journald"]);
    assert!(!log.contains("Suppressed"), "{log}");
    let log = machine.journal(&["--unit", UNIT, "PRIORITY=4"]);
    assert!(!log.contains("log lines were dropped"), "{log}");
}

#[test]
fn log_survives_journald_restart() {
    let Some(machine) = Machine::boot() else { return };
    machine.systemctl(&["start", UNIT]);
    machine.start_client("before", &[]);
    machine.entry(&["WQ_CLIENT=before"], "started (pid");
    machine.systemctl(&["restart", "systemd-journald"]);
    machine.start_client("after", &[]);
    machine.entry(&["WQ_CLIENT=after"], "started (pid");
    // Stopping it takes its sockets away for a while. The controller does not wait, and logs the lines later.
    machine.systemctl(&[
        "stop",
        "systemd-journald.socket",
        "systemd-journald-dev-log.socket",
        "systemd-journald",
    ]);
    machine.start_client("meanwhile", &[]);
    machine.systemctl(&["start", "systemd-journald"]);
    machine.entry(&["WQ_CLIENT=meanwhile"], "started (pid");
    assert_eq!(machine.property(UNIT, "NRestarts"), "0");
}

#[test]
fn redirected_output_stays_out_of_journal() {
    let Some(machine) = Machine::boot() else { return };
    machine.drop_in("[Service]\nStandardError=append:/var/log/wq-stderr\n");
    machine.systemctl(&["start", UNIT]);
    wait_until("it says so", || {
        machine.shell("cat /var/log/wq-stderr").contains(" INFO ready; temporary files are in ")
    });
    assert!(machine.entries(&["SYSLOG_IDENTIFIER=wqcontroller"]).is_empty());
}
