//! The examples of the package do what they say.

use super::{Machine, PACKAGE, UNIT, machine, wait_until};

impl Machine {
    /// Does what the README of the examples says, word for word.
    fn take_example(&self, name: &str) {
        let readme = self.shell("cat /usr/share/doc/wqcontroller/examples/README");
        let commands: Vec<&str> = readme
            .lines()
            .filter_map(|line| line.strip_prefix("  "))
            .filter(|line| !line.starts_with(' '))
            .collect();
        assert_eq!(commands.len(), 4, "{commands:?}");
        self.shell(&commands.join("\n").replace("NAME", name));
    }
}

#[test]
fn example_network_requires_token() {
    let Some(machine) = machine(None) else { return };
    machine.install(PACKAGE);
    machine.shell("umask 077; od -An -N32 -tx1 /dev/urandom | tr -d ' \\n' >/etc/wqcontroller/token");
    machine.take_example("network");
    let status = |token: &str| {
        let call = format!(
            "curl --silent --output /dev/null --write-out '%{{http_code}}' {token} http://127.0.0.1:4000/openqq/check_client"
        );
        machine.shell(&call)
    };
    assert_eq!(status(""), "401");
    assert_eq!(status("--header \"Authorization: Bearer $(cat /etc/wqcontroller/token)\""), "200");
    assert_eq!(machine.property("wqcontroller.socket", "Listen"), "0.0.0.0:4000 (Stream)");
}

#[test]
fn example_confines_clients_to_this_machine() {
    let Some(machine) = machine(None) else { return };
    machine.install(PACKAGE);
    machine.take_example("loopback-only");
    machine.start_client("a", &[]);
    machine.wait_for_state("a", "running");
    let allowed = machine.property("wqclient@a.service", "IPAddressAllow");
    assert!(allowed.contains("127.0.0.0/8"), "{allowed}");
    assert!(machine.property("wqclient@a.service", "IPAddressDeny").contains("0.0.0.0/0"));
}

#[test]
fn example_child_processes_outlive_controller() {
    let Some(machine) = machine(None) else { return };
    machine.install(PACKAGE);
    machine.take_example("direct");
    let pid = machine.start_client("a", &[])["pid"].clone();
    machine.wait_for_status("1 client: 1 running; child processes");
    machine.systemctl(&["restart", UNIT]);
    assert_eq!(machine.call("check_client", &[])["client"][0]["pid"], pid);
}

#[test]
fn example_transient_units() {
    let Some(machine) = machine(None) else { return };
    machine.install(PACKAGE);
    machine.start_client("a", &[]);
    let of_template = machine.confinement("wqclient@a.service");
    machine.call("stop_client", &["client=a"]);
    machine.take_example("transient");
    const CLIENT: &str = "wqclient-a.service";
    let started = machine.start_client("a", &[])["pid"].to_string();
    machine.wait_for_state("a", "running");
    assert_eq!(machine.property(CLIENT, "MainPID"), started);
    assert_eq!(machine.property(CLIENT, "Transient"), "yes");
    assert_eq!(machine.confinement(CLIENT), of_template);
    // However often an operator restarts it: systemd's own limit is five in ten seconds.
    for _ in 0..6 {
        machine.systemctl(&["restart", CLIENT]);
    }
    let pid = machine.property(CLIENT, "MainPID");
    assert_ne!(pid, started);
    wait_until("the controller knows its process", || {
        let told = machine.call("check_client", &["client=a"])["client"][0].clone();
        told["phase"] == "up" && told["pid"].as_u64() == pid.parse().ok()
    });
    let user = machine.shell(&format!("ps -o user= -p {pid}"));
    assert_ne!(user, "root");
    machine.call("stop_client", &["client=a"]);
    wait_until("the unit is gone", || machine.property("wqclient-a.service", "LoadState") == "not-found");
    // As a package is taken away.
    machine.start_client("a", &[]);
    machine.run("apt-get", &["purge", "--yes", "--quiet", "wqcontroller"]);
    assert_eq!(machine.shell("ps -e -o args | grep -c '[w]qc' || true"), "0");
}

#[test]
fn example_user_service() {
    let Some(machine) = machine(None) else { return };
    machine.install(PACKAGE);
    machine.shell("useradd --create-home bot; loginctl enable-linger bot");
    let as_bot = |script: &str| {
        let script = format!("export XDG_RUNTIME_DIR=/run/user/$(id -u); {script}");
        machine.run("runuser", &["-u", "bot", "--", "sh", "-euc", &script])
    };
    wait_until("the user's manager runs", || {
        machine.shell("systemctl show --value --property ActiveState user@$(id -u bot).service") == "active"
    });
    as_bot("cp -r /usr/share/doc/wqcontroller/examples/user/. ~; systemctl --user enable --now wqcontroller");
    let curl = "curl --silent --fail 'http://127.0.0.1:4001/openqq/";
    let started = as_bot(&format!("{curl}start_client?client=a'"));
    assert!(started.contains("\"status\":\"success\""), "{started}");
    let units = as_bot("systemctl --user list-units --no-legend --plain 'wqclient-*'");
    assert!(units.contains("wqclient-a.service"), "{units}");
    let stopped = as_bot(&format!("{curl}stop_client?client=a'"));
    assert!(stopped.contains("\"status\":\"success\""), "{stopped}");
}
