//! The log of an account, from the journal.

use serde_json::Value;

use crate::machine::{Machine, wait_until};
use crate::units::is_running;

impl Machine {
    /// The log of an account below `/v1`.
    fn log(&self, name: &str, query: &str) -> Vec<Value> {
        // What was said just now may be on its way.
        self.run("journalctl", &["--sync"]);
        let (status, body) = self.v1("GET", &format!("clients/{name}/log?{query}"));
        assert_eq!(status, "200", "{body}");
        let all: Value = serde_json::from_str(&body).unwrap();
        all["entries"].as_array().unwrap().clone()
    }
}

fn has(entries: &[Value], from: &str, message: &str) -> bool {
    entries.iter().any(|entry| entry["from"] == from && entry["message"].as_str().unwrap().contains(message))
}

#[test]
fn log_of_an_account_is_that_of_its_units_and_of_the_controller() {
    let Some(machine) = Machine::boot() else { return };
    machine.write("/opt/own.sh", "echo holding; printf 'bytes \\377\\n'\nexec sleep 3600\n");
    machine.configure(
        "log_level = 'debug'\n[implementations.own]\nkind = 'command'\ncommand = '/bin/sh /opt/own.sh {port}'\nurl = 'ws://127.0.0.1:{port}/'\n",
    );
    machine.start_service();
    machine.wait_for_log("the logs of accounts are read from the journal");
    machine.start_client("a", &["implementation=own", "uin=10001"]);
    machine.start_client("小明", &["sandbox_login_time=0"]);
    machine.wait_for_client("小明", "runs", is_running);
    wait_until("all have spoken", || {
        let entries = machine.log("a", "");
        has(&entries, "implementation", "holding") && has(&entries, "client", "listening on 127.0.0.1:")
    });
    let entries = machine.log("a", "lines=1000");
    assert!(has(&entries, "implementation", "bytes \u{fffd}"), "{entries:?}");
    let started = entries.iter().find(|entry| {
        entry["from"] == "controller" && entry["message"].as_str().unwrap().starts_with("started (pid")
    });
    assert_eq!(started.unwrap()["priority"], 6, "{entries:?}");
    assert!(entries.iter().map(|entry| entry["time"].as_f64().unwrap()).is_sorted());
    // By its ID, which is hashed.
    let ming = machine.log("%E5%B0%8F%E6%98%8E", "");
    assert!(has(&ming, "client", "listening on") && has(&ming, "controller", "logged in"), "{ming:?}");
    assert!(!has(&ming, "implementation", ""), "{ming:?}");

    // Another unit says that it is the account, or the controller.
    // It lives until the journal has it: journald finds out the unit by the process.
    machine.write(
        "/opt/forge.pl",
        "use Socket;\n\
         socket(my $journal, AF_UNIX, SOCK_DGRAM, 0) or die;\n\
         connect($journal, sockaddr_un('/run/systemd/journal/socket')) or die;\n\
         my @fields = qw(MESSAGE=forged WQ_CLIENT=a SYSLOG_IDENTIFIER=wqcontroller PRIORITY=3 _SYSTEMD_UNIT=wqcontroller.service);\n\
         send($journal, join(\"\\n\", @fields, ''), 0) or die;\n\
         system('journalctl', '--sync');\n",
    );
    machine.shell("systemd-run --quiet --wait --unit=forger.service perl /opt/forge.pl");
    machine.entry(&["WQ_CLIENT=a", "_SYSTEMD_UNIT=forger.service"], "forged");
    assert!(!machine.log("a", "lines=1000").iter().any(|entry| entry["message"] == "forged"));
    assert_eq!(machine.log("a", "lines=2").len(), 2);

    // It is followed, and journalctl ends with the caller.
    machine.shell(
        "curl -sN 'http://127.0.0.1:4000/v1/clients/a/log?follow=1&lines=1' >/run/followed 2>&1 </dev/null & echo $! >/run/curl",
    );
    let followers = || machine.shell("pgrep -c -u wqcontroller journalctl || true");
    wait_until("it follows", || machine.shell("cat /run/followed").contains("event: entry"));
    assert_eq!(followers(), "1");
    machine.systemctl(&["kill", "--signal=KILL", "wqclient@a"]);
    wait_until("it is told", || machine.shell("cat /run/followed").contains("ended by signal 9"));
    machine.shell("kill $(cat /run/curl)");
    wait_until("journalctl has ended", || followers() == "0");
}
