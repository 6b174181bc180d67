//! Accounts that are moved between units and another machine. That one is here a second controller, with child processes: what both keep
//! on disk is the same.

use serde_json::{Value, json};

use crate::machine::{Machine, wait_until};

/// The configuration of the second controller, which has the first one as its machine `units`.
const DOOR: &str = "listen = '127.0.0.1:4100'\ntmpdir = '/var/lib/wqdoor'\nbackend_start_port = 6000\n[supervisor]\nmode = 'direct'\n\
                    [machines.units]\nurl = 'http://127.0.0.1:4000'\n";

/// An implementation, for both.
const OWN: &str = "[implementations.own]\nkind = 'command'\ncommand = '/bin/sh /opt/own.sh {port}'\n\
                   url = 'ws://127.0.0.1:{port}/'\n";

/// It keeps a login, which it makes once.
const SCRIPT: &str =
    "test -s login || echo secret of the login >login\necho has $(cat login)\nexec sleep 3600\n";

impl Machine {
    /// Starts both controllers.
    fn with_door() -> Option<Self> {
        let machine = Self::boot()?;
        machine.write("/opt/own.sh", SCRIPT);
        machine.configure(OWN);
        machine.start_service();
        machine.shell("test -e /usr/bin/wqctl || ln -s /usr/sbin/wqcontroller /usr/bin/wqctl");
        machine.write("/etc/wqdoor.toml", &format!("{DOOR}{OWN}"));
        machine.shell("mkdir -m 700 /var/lib/wqdoor");
        machine.start_door();
        Some(machine)
    }

    fn start_door(&self) {
        self.shell("systemd-run --quiet --collect --unit=wqdoor -p Type=notify /usr/sbin/wqcontroller --config /etc/wqdoor.toml");
    }

    fn door(&self, path: &str) -> Value {
        serde_json::from_str(&self.shell(&format!("curl --silent 'http://127.0.0.1:4100{path}'"))).unwrap()
    }

    fn wqctl(&self, words: &str) -> (bool, String) {
        let command = format!("wqctl --url http://127.0.0.1:4100 {words} 2>&1");
        let output = self.try_run("sh", &["-c", &command]);
        (output.status.success(), String::from_utf8(output.stdout).unwrap())
    }

    fn wait_until_moved(&self) {
        wait_until("no move is under way", || {
            !self.try_run("grep", &["-qs", "phase", "/var/lib/wqdoor/moves.json"]).status.success()
        });
    }
}

#[test]
fn account_moves_into_units_and_out_of_them() {
    let Some(machine) = Machine::with_door() else { return };
    let started = machine.door("/openqq/start_client?client=小明&implementation=own&uin=10001&pwd=hunter2");
    assert_eq!(started["code"], 0, "{started}");
    let row = || machine.door("/openqq/check_client?client=小明")["client"][0].clone();
    let folder = "/var/lib/wqdoor/implementations/-df3ea25a4369305a";
    wait_until("it has its login", || {
        machine.try_run("test", &["-s", &format!("{folder}/login")]).status.success()
    });
    machine.shell("mkdir -p /var/lib/wqdoor/clients/-df3ea25a4369305a/deep && echo report >/var/lib/wqdoor/clients/-df3ea25a4369305a/deep/one");
    let (is_ok, said) = machine.wqctl("move 小明 units");
    let journal = || machine.journal(&[]);
    assert!(is_ok, "{said}\n{}", journal());
    assert_eq!(
        said,
        "小明 has moved from local to units\nits login came with it; if units counts as a new device, scan it: wqctl qr 小明\n"
    );
    assert_eq!(row()["machine"], "units");
    let [client, implementation] =
        ["wqclient", "wqimpl"].map(|of| format!("/var/lib/private/{of}/-df3ea25a4369305a"));
    assert_eq!(machine.shell(&format!("cat {client}/deep/one")), "report");
    assert_eq!(machine.shell(&format!("cat {implementation}/login")), "secret of the login");
    // Its folders are open to its own user alone, who started there.
    wait_until("its implementation says so", || {
        machine.journal(&["--identifier=wqimpl"]).contains("has secret of the login")
    });
    let user = |path: &str| machine.shell(&format!("stat --format='%a %u' {path}"));
    wait_until("its process is known", || machine.client("小明")["implementation"]["pid"].is_u64());
    let process = machine.client("小明")["implementation"]["pid"].to_string();
    let owner = machine.shell(&format!("stat --format=%u /proc/{process}"));
    assert_eq!(user(&implementation), format!("700 {owner}"));
    assert_eq!(user(&format!("{implementation}/login")).split_once(' ').unwrap().1, owner);
    assert!(!machine.try_run("test", &["-e", folder]).status.success(), "it has left");
    assert!(!journal().contains("hunter2"));

    let (is_ok, said) = machine.wqctl("move 小明 local");
    assert!(is_ok, "{said}\n{}", journal());
    assert_eq!(machine.shell(&format!("cat {folder}/login")), "secret of the login");
    assert_eq!(machine.shell("cat /var/lib/wqdoor/clients/-df3ea25a4369305a/deep/one"), "report");
    for left in [&client, &implementation] {
        assert!(!machine.try_run("test", &["-e", left]).status.success(), "{left} is left");
    }
    assert_eq!(
        machine.shell("ls -A /run/wqcontroller/move-client /run/wqcontroller/move-impl"),
        "/run/wqcontroller/move-client:\n\n/run/wqcontroller/move-impl:"
    );
    assert_eq!(machine.systemctl(&["list-units", "--failed", "--plain", "--no-legend"]), "");
    assert_eq!(machine.clients(), Vec::<Value>::new());
}

#[test]
fn move_is_whole_or_not_at_all_whatever_is_killed() {
    let Some(machine) = Machine::with_door() else { return };
    let started = machine.door("/openqq/start_client?client=a&sandbox_login_time=0");
    assert_eq!(started["code"], 0, "{started}");
    machine.shell("mkdir -p /var/lib/wqdoor/clients/a && head -c 30000000 /dev/urandom >/var/lib/wqdoor/clients/a/large");
    let sum = machine.shell("cksum </var/lib/wqdoor/clients/a/large");
    let mut outcomes = Vec::new();
    // Who is killed, by what, and after how long.
    let unit = "until systemctl is-active --quiet wqmove-client@a; do :; done; systemctl kill --signal=KILL wqmove-client@a";
    let other = "systemctl kill --signal=KILL wqcontroller.service";
    let door = "systemctl kill --signal=KILL wqdoor.service";
    for (kill, wait) in [
        (unit, 0.05),
        (other, 0.05),
        (door, 0.05),
        (other, 0.3),
        (door, 0.3),
        (unit, 0.2),
        (other, 0.6),
        (door, 0.6),
    ] {
        let at = machine.door("/openqq/check_client?client=a")["client"][0]["machine"].clone();
        let to = if at == "units" { "local" } else { "units" };
        machine.shell(&format!("wqctl --url http://127.0.0.1:4100 move a {to} >/tmp/said 2>&1 & sleep {wait}; {kill} || true; wait"));
        outcomes.push(machine.shell("cat /tmp/said"));
        if kill == door {
            wait_until("the door is gone", || !machine.is_active("wqdoor"));
            machine.start_door();
        }
        wait_until("the controller is there", || machine.is_active("wqcontroller"));
        wait_until("its machine is reached", || {
            machine.door("/v1/clients/a")["machine_state"] != "unreachable"
        });
        machine.wait_until_moved();
        wait_until("it runs", || {
            machine.door("/openqq/check_client?client=a")["client"][0]["state"] == "running"
        });
        let own = machine.clients().len();
        let row = machine.door("/openqq/check_client?client=a")["client"].clone();
        assert_eq!(row.as_array().map(Vec::len), Some(1), "{row}");
        let is_there = row[0]["machine"] == "units";
        assert_eq!(own, usize::from(is_there), "{outcomes:?}");
        let (here, left) = match is_there {
            true => ("/var/lib/private/wqclient/a", "/var/lib/wqdoor/clients/a"),
            false => ("/var/lib/wqdoor/clients/a", "/var/lib/private/wqclient/a"),
        };
        assert_eq!(machine.shell(&format!("cksum <{here}/large")), sum, "{outcomes:?}");
        assert!(!machine.try_run("test", &["-e", left]).status.success(), "{left} is left: {outcomes:?}");
    }
    println!("{outcomes:#?}");
    let failed = outcomes.iter().filter(|said| said.contains("wqctl: ")).count();
    assert!(failed >= 3, "hardly any was met in the middle: {outcomes:?}");
    let all = machine.door("/v1/clients");
    assert_eq!(all["total"], json!(1));
    // The unit of a move is one that polkit lets the controller alone start.
    let may = |user: &str| {
        let start = ["-u", user, "--", "systemctl", "--no-ask-password", "start", "wqmove-client@a"];
        let output = machine.try_run("runuser", &start);
        String::from_utf8(output.stderr).unwrap()
    };
    assert!(may("nobody").contains("authentication required"), "{}", may("nobody"));
    assert!(may("wqcontroller").contains("Assertion failed"), "{}", may("wqcontroller"));
}
