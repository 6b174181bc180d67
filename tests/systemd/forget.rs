//! An account that is forgotten, and what systemd kept for its units.

use crate::machine::{Machine, wait_until};
use crate::units::is_running;

impl Machine {
    /// A call below `/v1`: its status, and the body.
    pub fn v1(&self, method: &str, path: &str) -> (String, String) {
        let url = format!("http://127.0.0.1:4000/v1/{path}");
        let answer =
            self.run("curl", &["--silent", "--request", method, "--write-out", "\n%{http_code}", &url]);
        let (body, status) = answer.rsplit_once('\n').unwrap_or(("", &answer));
        (status.to_owned(), body.to_owned())
    }
}

/// Where systemd keeps something of a unit.
fn folders(id: &str) -> String {
    let parents =
        ["/var/lib/private/wqclient", "/var/lib/wqclient", "/run/wqclient", "/var/lib/private/wqimpl"];
    let more = [
        "/var/lib/wqimpl",
        "/run/wqimpl",
        "/run/wqcontroller/launch",
        "/run/wqcontroller/launch-implementation",
    ];
    parents.iter().chain(&more).map(|parent| format!("{parent}/{id} ")).collect()
}

#[test]
fn forgotten_account_leaves_nothing_in_folders_of_systemd() {
    let Some(machine) = Machine::boot() else { return };
    machine.write("/opt/own.sh", "echo up\nexec sleep 3600\n");
    machine.configure(
        "[supervisor]\nrestart = 'no'\n[implementations.own]\nkind = 'command'\ncommand = '/bin/sh /opt/own.sh {port}'\nurl = 'ws://127.0.0.1:{port}/'\n",
    );
    machine.start_service();
    for name in ["a", "b", "小明"] {
        machine.start_client(name, &["sandbox_login_time=0"]);
        machine.wait_for_client(name, "runs", is_running);
    }
    machine.start_client("own", &["implementation=own", "uin=10001"]);
    wait_until("its implementation runs", || machine.is_active("wqimpl@own"));
    let there = |id: &str| machine.shell(&format!("ls -d {} 2>/dev/null || true", folders(id)));
    let before = ["b", "-df3ea25a4369305a"].map(there);
    assert!(there("own").contains("/var/lib/private/wqimpl/own"), "{}", there("own"));

    for name in ["a", "own"] {
        let path = format!("clients/{name}?forget=1");
        let (status, refused) = machine.v1("DELETE", &path);
        assert!(status == "409" && refused.contains("still_running"), "{status} {refused}");
        assert_eq!(machine.v1("POST", &format!("clients/{name}/stop")).0, "200");
        assert!(there(name).contains(&format!("/var/lib/private/wqclient/{name}")), "a stop keeps it");
        assert_eq!(machine.v1("DELETE", &path), ("204".into(), String::new()));
        assert_eq!(there(name), "");
        assert_eq!(machine.v1("DELETE", &path).0, "404");
    }
    assert_eq!(machine.shell("ls /var/lib/wqcontroller/implementations"), "", "the token");
    // One that has left the list already, and one that failed.
    machine.call("stop_client", &["client=小明"]);
    assert_eq!(machine.v1("DELETE", "clients/%E5%B0%8F%E6%98%8E?forget=1").0, "204");
    assert_eq!(there("-df3ea25a4369305a"), "");
    assert_eq!(there("b"), before[0], "that of others stays");
    assert!(is_running(&machine.client("b")));

    // What an operator has started again runs, whatever the list says.
    machine.systemctl(&["stop", "wqclient@b"]);
    machine.wait_for_client("b", "is held", |client| client["held"] == true);
    machine.systemctl(&["start", "wqclient@b"]);
    let (status, refused) = machine.v1("DELETE", "clients/b?forget=1");
    assert!(status == "409" && refused.contains("still_running"), "{status} {refused}");
    machine.systemctl(&["kill", "--signal=KILL", "wqclient@b"]);
    machine.wait_for_client("b", "has failed", |client| client["phase"] == "gone");
    wait_until("its unit has failed", || machine.property("wqclient@b", "ActiveState") == "failed");
    assert_eq!(machine.v1("DELETE", "clients/b?forget=1").0, "204");
    assert_eq!(there("b"), "");
    assert_eq!(machine.systemctl(&["--failed", "--quiet", "--no-legend"]), "");
}
