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
    fn entry(&self, matches: &[&str], message: &str) -> Value {
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
fn the_words_about_a_client_have_fields_and_a_meaning() {
    let Some(machine) = Machine::boot() else { return };
    machine.run("journalctl", &["--update-catalog"]);
    machine.systemctl(&["start", UNIT]);
    let reply = machine.start_client("小红", &["sandbox_login_time=20"]);
    let entry = machine.entry(&["WQ_CLIENT=小红", "SYSLOG_IDENTIFIER=wqcontroller"], "client started");
    let field = |name: &str| entry[name].as_str().unwrap_or_default().to_owned();
    assert_eq!(field("WQ_PID"), reply["pid"].to_string());
    assert_eq!(field("WQ_PORT"), "5000");
    assert_eq!(field("WQ_PHASE"), "up");
    assert_eq!(field("PRIORITY"), "6");
    assert_eq!(field("_SYSTEMD_UNIT"), UNIT);
    let unit = "wqclient@-73b784d6bf997d84.service";
    assert_eq!(field("WQ_UNIT"), unit, "by its name nobody would find it");
    assert_eq!(
        field("MESSAGE"),
        format!("client started client=小红 generation=1 pid={} port=5000 unit={unit}", reply["pid"])
    );

    let scan = machine.entry(&["WQ_CLIENT=小红", "WQ_STATE=scaning"], "waits for a scan");
    machine.entry(&["WQ_CLIENT=小红", "WQ_STATE=running"], "client is logged in");
    machine.run("kill", &["-9", &reply["pid"].to_string()]);
    let failed = machine
        .entry(&["WQ_CLIENT=小红", "PRIORITY=4"], "client ended unexpectedly: it was ended by signal 9");
    assert_eq!((&failed["WQ_PHASE"], &failed["WQ_UNIT"]), (&"gone".into(), &unit.into()));
    // What it said itself is found by the unit alone.
    let words = machine.journal(&["--unit", unit, "--identifier", "wqclient"]);
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
fn what_goes_wrong_with_a_client_or_the_bus_is_explained() {
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
    explained(&["WQ_CLIENT=a", "PRIORITY=6"], "client is logged in", "Client a is logged in");
    explained(&["WQ_CLIENT=a", "PRIORITY=4"], "client is offline", "Client a is offline");
    machine.systemctl(&["stop", "wqclient@a"]);
    // The operator did that: it is no warning.
    explained(&["WQ_CLIENT=a", "PRIORITY=6"], "client is held", "Client a is held");
    machine.configure("[supervisor]\nrestart = \"no\"\n");
    machine.systemctl(&["reload", UNIT]);
    machine.start_client("b", &[]);
    machine.systemctl(&["kill", "--signal=KILL", "wqclient@b"]);
    let held = explained(&["WQ_CLIENT=b", "PRIORITY=4"], "client is held", "Client b is held");
    assert_eq!(held["WQ_FAILURES"], "1");
    machine.shell("systemctl kill --signal=KILL dbus");
    explained(&["PRIORITY=4"], "clients go on", "The service manager can't be reached");
}

#[test]
fn a_failure_that_no_controller_saw_is_told_by_the_next() {
    let Some(machine) = Machine::boot() else { return };
    machine.systemctl(&["start", UNIT]);
    machine.start_client("a", &[]);
    machine.systemctl(&["stop", UNIT]);
    machine.systemctl(&["kill", "--signal=KILL", "wqclient@a"]);
    wait_until("it has failed", || machine.property("wqclient@a", "ActiveState") == "failed");
    machine.systemctl(&["start", UNIT]);
    let told = machine.entry(
        &["MESSAGE_ID=0b9f3a77c2d84e63b1e4a9d05c7f8e23", "WQ_CLIENT=a"],
        "client ended unexpectedly while no controller was there: it was ended by signal 9",
    );
    assert_eq!((&told["PRIORITY"], &told["WQ_UNIT"]), (&"4".into(), &"wqclient@a.service".into()));
    let a = machine.wait_for_client("a", "is started again", |client| client["phase"] == "up");
    assert_eq!((&a["exits"], &a["last_exit"]), (&1.into(), &"was ended by signal 9".into()));

    // Why something can't be is a field of its own.
    machine.systemctl(&["mask", "--runtime", "wqclient@b.service"]);
    assert_ne!(machine.call("start_client", &["client=b"])["status"], "success");
    let told = machine.entry(&["WQ_CLIENT=b", "PRIORITY=3"], "client could not be started");
    assert!(told["WQ_ERROR"].as_str().unwrap().contains("masked"), "{told}");
}

#[test]
fn what_was_so_before_a_restart_is_no_news_after_it() {
    let Some(machine) = Machine::boot() else { return };
    machine.systemctl(&["start", UNIT]);
    for name in ["a", "b", "c"] {
        machine.start_client(name, &[]);
        machine.wait_for_client(name, "runs", |client| client["state"] == "running");
    }
    machine.systemctl(&["stop", "wqclient@c"]);
    machine.wait_for_client("c", "is held", |client| client["held"] == true);
    machine.systemctl(&["restart", UNIT]);
    machine.wait_for_status("3 clients: 2 running, 1 held; template units");
    let pid = machine.property(UNIT, "MainPID");
    machine.entry(&[&format!("_PID={pid}")], "the clients of the registry were looked for there=2 gone=1");
    machine.entry(&[&format!("_PID={pid}")], "ready");
    let told = machine.journal(&[&format!("_PID={pid}"), "--output=cat"]);
    assert!(!told.contains("logged in") && !told.contains("still there"), "{told}");
    assert!(machine.journal(&[&format!("_PID={pid}"), "--priority=warning"]).is_empty(), "{told}");
    // What is new is told as ever.
    machine.systemctl(&["restart", "wqclient@a"]);
    machine.entry(&[&format!("_PID={pid}"), "WQ_CLIENT=a"], "client is logged in");
}

#[test]
fn what_is_refused_has_a_meaning_too() {
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
fn last_words_are_found_by_the_unit() {
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
fn a_clients_own_lines_are_there_with_the_level_that_it_gave() {
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
    assert_eq!(machine.entry(&own, "The client has started.")["PRIORITY"], "6");
    let both = machine.journal(&["WQ_CLIENT=a"]);
    assert!(both.contains("client started") && both.contains("plain"), "{both}");
}

#[test]
fn the_lines_of_a_client_that_outlives_the_controller_are_there_too() {
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
fn a_client_that_floods_silences_nobody() {
    let Some(machine) = Machine::boot() else { return };
    machine.template(
        "if [ \"$MOJO_WEBQQ_ACCOUNT\" = flood ]; then yes 'no end of it' & yes 'nor of this' >&2 & fi; echo hello",
    );
    machine.systemctl(&["start", UNIT]);
    machine.start_client("flood", &[]);
    machine.entry(&["WQ_CLIENT=flood"], "lines of the client's output were left out");
    for n in 0..20 {
        let name = format!("c{n}");
        let filter = format!("WQ_CLIENT={name}");
        machine.start_client(&name, &[]);
        machine.entry(&[&filter, "SYSLOG_IDENTIFIER=wqclient"], "hello");
        machine.entry(&[&filter, "SYSLOG_IDENTIFIER=wqcontroller"], "client started");
    }
    let log = machine.journal(&["--unit", "systemd-journald"]);
    assert!(!log.contains("Suppressed"), "{log}");
    let log = machine.journal(&["--unit", UNIT, "PRIORITY=4"]);
    assert!(!log.contains("lines of the log were dropped"), "{log}");
}

#[test]
fn the_log_goes_on_when_journald_is_restarted() {
    let Some(machine) = Machine::boot() else { return };
    machine.systemctl(&["start", UNIT]);
    machine.start_client("before", &[]);
    machine.entry(&["WQ_CLIENT=before"], "client started");
    machine.systemctl(&["restart", "systemd-journald"]);
    machine.start_client("after", &[]);
    machine.entry(&["WQ_CLIENT=after"], "client started");
    // Whoever stops it takes its sockets away for a while. Nobody waits for it, and what was said is said later.
    machine.systemctl(&[
        "stop",
        "systemd-journald.socket",
        "systemd-journald-dev-log.socket",
        "systemd-journald",
    ]);
    machine.start_client("meanwhile", &[]);
    machine.systemctl(&["start", "systemd-journald"]);
    machine.entry(&["WQ_CLIENT=meanwhile"], "client started");
    assert_eq!(machine.property(UNIT, "NRestarts"), "0");
}

#[test]
fn what_is_not_for_the_journal_does_not_go_there() {
    let Some(machine) = Machine::boot() else { return };
    machine.drop_in("[Service]\nStandardError=append:/var/log/wq-stderr\n");
    machine.systemctl(&["start", UNIT]);
    wait_until("it says so", || machine.shell("cat /var/log/wq-stderr").contains(" INFO ready tmpdir="));
    assert!(machine.entries(&["SYSLOG_IDENTIFIER=wqcontroller"]).is_empty());
}
