//! Names of accounts and of their units, and accounts that version 0.1.0 has left.

use serde_json::{Value, json};

use crate::machine::{Machine, wait_until};
use crate::service::UNIT;

/// `printf %s bob-2 | sha256sum`, as version 0.1.0 named the unit of `bob-2`.
const BOB_OF_0_1: &str = "bob2-a9137698d8d3fdbf";
/// The same for 小明, then and now.
const MING: &str = "-df3ea25a4369305a";

/// A template whose output is the program's own.
const TEMPLATE: &str = "#!/bin/sh
echo \"printed by $MOJO_WEBQQ_ACCOUNT\"
echo \"<3>an error of $MOJO_WEBQQ_ACCOUNT\" >&2
printf 'cut off by %s' $MOJO_WEBQQ_ACCOUNT
exec 2>/dev/null # where the shell says which signal ended sleep
trap 'echo \"last words of $MOJO_WEBQQ_ACCOUNT\"; exit 0' TERM
while :; do sleep 1; done
";

impl Machine {
    /// The lines with this name that the journal has from this unit.
    fn lines_of(&self, name: &str, unit: &str) -> Vec<String> {
        let lines =
            self.journal(&["--output=cat", &format!("WQ_CLIENT={name}"), &format!("_SYSTEMD_UNIT={unit}")]);
        lines.lines().map(str::to_owned).collect()
    }
}

#[test]
fn name_with_hyphen_is_unit_name() {
    let Some(machine) = Machine::boot() else { return };
    machine.start_service();
    let bob = machine.start_client("bob-2", &[]);
    assert_eq!(machine.client("bob-2")["unit"], "wqclient@bob-2.service");
    assert_eq!(machine.main_pid("wqclient@bob-2"), bob["pid"]);
    // By systemd's own link: not every machine has nss-systemd, by which the user database knows dynamic users.
    let uid = machine.shell(&format!("ps -o uid= -p {} | tr -d ' '", bob["pid"]));
    assert_eq!(machine.shell("readlink /run/systemd/dynamic-uid/direct:wqc-bob-2"), uid);
    machine.shell("test -e /run/wqclient/bob-2 && test -L /var/lib/wqclient/bob-2");
    wait_until("it prints", || !machine.lines_of("bob-2", "wqclient@bob-2.service").is_empty());
    // Again, by an operator and by the next controller.
    machine.systemctl(&["restart", UNIT]);
    assert_eq!(machine.client("bob-2")["pid"], bob["pid"]);
    machine.systemctl(&["stop", "wqclient@bob-2"]);
    machine.wait_for_client("bob-2", "it is held", |client| client["held"] == true);
    assert_eq!(machine.client("bob-2")["unit"], "wqclient@bob-2.service");
    machine.systemctl(&["start", "wqclient@bob-2"]);
    machine.wait_for_client("bob-2", "it runs", |client| client["state"] == "running");
}

#[test]
fn hashed_unit_has_account_name_on_every_journal_line() {
    let Some(machine) = Machine::boot() else { return };
    machine.start_service();
    let ming = machine.start_client("小明", &[]);
    let unit = format!("wqclient@{MING}.service");
    assert_eq!(machine.client("小明")["unit"], *unit);
    wait_until("the built-in client prints", || !machine.lines_of("小明", &unit).is_empty());
    let said = machine.journal(&["--output=json", "WQ_CLIENT=小明", "SYSLOG_IDENTIFIER=wqclient"]);
    let entry: Value = serde_json::from_str(said.lines().next().unwrap()).unwrap();
    assert_eq!(entry["SYSLOG_PID"], ming["pid"].to_string());
    assert_eq!(machine.main_pid(&unit), ming["pid"], "the relay is not the main process");
    machine.call("stop_client", &["client=小明"]);
    assert_eq!(machine.property(&unit, "ActiveState"), "inactive");

    // Any program, whatever way it prints and ends.
    machine.write("/etc/wqcontroller/template", TEMPLATE);
    machine.run("chmod", &["755", "/etc/wqcontroller/template"]);
    machine.configure("template_path = \"/etc/wqcontroller/template\"\n");
    machine.systemctl(&["reload", UNIT]);
    machine.start_client("小红", &[]);
    let unit = machine.client("小红")["unit"].as_str().unwrap().to_owned();
    wait_until("it prints", || machine.lines_of("小红", &unit).len() >= 2);
    let error = machine.journal(&["--output=cat", "WQ_CLIENT=小红", "PRIORITY=3"]);
    assert_eq!(error, "an error of 小红");
    machine.call("stop_client", &["client=小红"]);
    let all = machine.lines_of("小红", &unit);
    assert_eq!(
        all,
        ["printed by 小红", "an error of 小红", "cut off by 小红last words of 小红"],
        "to the last one"
    );
    let lines = machine.journal(&["--output=cat", &format!("_SYSTEMD_UNIT={unit}")]);
    assert_eq!(lines.lines().collect::<Vec<_>>(), all, "and there are no others");
}

#[test]
fn accounts_of_0_1_0_keep_units_and_state() {
    let Some(machine) = Machine::boot() else { return };
    // What 0.1.0 leaves when its package is upgraded: units that run, their launch files, and a registry of version 2.
    let mut clients = Vec::new();
    for (port, (name, id)) in [("bob-2", BOB_OF_0_1), ("小明", MING)].into_iter().enumerate() {
        let port = 5000 + port;
        let file = |kind: &str, ending: &str| format!("/run/wqclient/{id}/mojo_webqq_{kind}_{name}.{ending}");
        let (state, qrcode, pid) = (file("state", "json"), file("qrcode", "jpg"), file("pid", "pid"));
        let launch = format!(
            "GENERATION=7\0MOJO_WEBQQ_ACCOUNT={name}\0MOJO_WEBQQ_CLIENT={name}\0MOJO_WEBQQ_LOG_CONSOLE=1\0\
             MOJO_WEBQQ_PID_PATH={pid}\0MOJO_WEBQQ_PLUGIN_OPENQQ_PORT={port}\0MOJO_WEBQQ_QRCODE_PATH={qrcode}\0\
             MOJO_WEBQQ_SANDBOX_NETWORK=/run/wqclient-world\0MOJO_WEBQQ_STATE_PATH={state}\0\
             MOJO_WEBQQ_TMPDIR=/run/wqclient/{id}\0"
        );
        machine.write(&format!("/run/wqcontroller/launch/{id}"), &launch);
        let unit = format!("wqclient@{id}.service");
        machine.systemctl(&["start", &unit]);
        let invocation = machine.property(&unit, "InvocationID");
        let files =
            json!({"tmpdir": format!("/run/wqclient/{id}"), "state": state, "qrcode": qrcode, "pid": pid});
        clients.push(json!({
            "spec": {"name": name, "params": {}, "files": files}, "port": port, "generation": 7, "desired": "running",
            "handle": {"unit": {"name": unit, "invocation_id": invocation, "pid": machine.main_pid(&unit)}},
            "history": {"exits": 0, "failures": 0},
        }));
    }
    machine.shell("chown -R wqcontroller: /run/wqcontroller && chmod -R go= /run/wqcontroller");
    machine.shell(&format!("echo saved >/var/lib/private/wqclient/{BOB_OF_0_1}/saved"));
    let registry = "/var/lib/wqcontroller/mojo_webqq_controller_backend.dat";
    machine.write(
        registry,
        &json!({"version": 2, "last_generation": 7, "manager": "system", "clients": clients}).to_string(),
    );
    machine.shell("chown -R wqcontroller: /var/lib/wqcontroller && chmod -R go= /var/lib/wqcontroller");

    machine.start_service();
    for (client, id) in [(&clients[0], BOB_OF_0_1), (&clients[1], MING)] {
        let name = client["spec"]["name"].as_str().unwrap();
        let now = machine.client(name);
        assert_eq!(now["pid"], client["handle"]["unit"]["pid"], "{name} runs as before");
        assert_eq!((&now["unit"], &now["exits"]), (&json!(format!("wqclient@{id}.service")), &json!(0)));
        // With the launch file of 0.1.0, and with one of ours.
        machine.systemctl(&["restart", &format!("wqclient@{id}")]);
        machine.wait_for_client(name, "it runs again", |client| {
            client["state"] == "running" && client["pid"] != now["pid"]
        });
        machine.systemctl(&["kill", "--signal=KILL", &format!("wqclient@{id}")]);
        machine.wait_for_client(name, "it is started again", |client| {
            client["state"] == "running" && client["exits"] == 1
        });
        assert_eq!(machine.client(name)["unit"], format!("wqclient@{id}.service"));
    }
    let saved: Value = serde_json::from_str(&machine.run("cat", &[registry])).unwrap();
    assert_eq!((&saved["version"], &saved["clients"][0]["spec"]["id"]), (&json!(3), &json!(BOB_OF_0_1)));

    // A new start of the account uses what it has saved; without that it is named like any other.
    machine.call("stop_client", &["client=bob-2"]);
    machine.start_client("bob-2", &[]);
    assert_eq!(machine.client("bob-2")["unit"], format!("wqclient@{BOB_OF_0_1}.service"));
    assert_eq!(machine.shell(&format!("cat /var/lib/private/wqclient/{BOB_OF_0_1}/saved")), "saved");
    machine.wait_for_log(", under which version 0.1.0 has saved its state");
    machine.call("stop_client", &["client=bob-2"]);
    machine.systemctl(&["clean", "--what=state", &format!("wqclient@{BOB_OF_0_1}")]);
    machine.start_client("bob-2", &[]);
    assert_eq!(machine.client("bob-2")["unit"], "wqclient@bob-2.service");
}

#[test]
fn removed_launch_file_is_restored() {
    let Some(machine) = Machine::boot() else { return };
    machine.start_service();
    let first = machine.start_client("a", &[]);
    // By the controller that wrote it, and by one that found it.
    for _ in 0..2 {
        machine.shell("rm -r /run/wqcontroller/launch");
        wait_until("it is there again", || {
            machine.try_run("test", &["-s", "/run/wqcontroller/launch/a"]).status.success()
        });
        assert_eq!(machine.shell("stat -c '%a %U' /run/wqcontroller/launch/a"), "600 wqcontroller");
        machine.wait_for_log("was removed; writing it again");
        machine.systemctl(&["restart", UNIT]);
    }
    machine.systemctl(&["restart", "wqclient@a"]);
    machine.wait_for_client("a", "it runs again", |client| {
        client["state"] == "running" && client["pid"] != first["pid"]
    });
    machine.call("stop_client", &["client=a"]);
    wait_until("it is removed", || machine.shell("ls /run/wqcontroller/launch").is_empty());
}
