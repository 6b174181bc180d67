//! The machines themselves: what other tests rely on.

use std::path::Path;
use std::process::Command;

use crate::machine::{Machine, Plan, assert_inside, wait_until};
use crate::network::Network;

#[test]
fn machine_has_project_installed_and_keeps_disk_over_reboot() {
    let Some(mut machine) = Machine::boot() else { return };
    assert_eq!(machine.systemctl(&["is-system-running"]), "running");
    let version = machine.run("wqcontroller", &["--version"]);
    assert_eq!(version, format!("wqcontroller {}", env!("CARGO_PKG_VERSION")));
    machine.run("systemd-analyze", &["verify", "--man=no", "wqcontroller.service"]);
    let before = started(&machine);
    machine.write("/var/lib/kept/a file", "kept");
    machine.write("/run/lost", "lost");

    machine.reboot();
    assert_ne!(started(&machine), before);
    assert_eq!(machine.shell("cat '/var/lib/kept/a file'"), "kept");
    assert!(!machine.try_run("cat", &["/run/lost"]).status.success());
    let log = machine.journal(&["--identifier", "systemd"]);
    assert_eq!(log.matches("Startup finished in").count(), 2, "the journal is kept, too");
}

/// Which boot of the machine this is: the kernel's own ID says nothing about that, as in a container.
fn started(machine: &Machine) -> String {
    machine.systemctl(&["show", "--value", "--property", "UserspaceTimestampMonotonic"])
}

#[test]
fn machines_are_isolated_and_leave_nothing() {
    let Some(first) = Machine::boot() else { return };
    let here = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
    let plan = Plan::bare().install(here, "/etc/some/file", 0o600).bind(here, "/srv/file");
    let Some(second) = plan.boot() else { return };
    assert_eq!(second.run("stat", &["-c", "%a", "/etc/some/file"]), "600");
    second.run("cmp", &["/etc/some/file", "/srv/file"]);
    assert!(!second.try_run("sh", &["-c", "echo >>/srv/file"]).status.success(), "it is for reading only");
    first.write("/etc/here", "first");
    first.shell("systemd-run --quiet --unit=sleeper sleep 600");
    assert!(!second.try_run("test", &["-e", "/etc/here"]).status.success());
    assert!(!Path::new("/etc/here").exists(), "this machine was written to");
    assert!(!second.shell("ps -e -o args").contains("sleep 600"));
    assert!(!second.try_run("wqcontroller", &["--version"]).status.success(), "it is a bare one");

    // A machine's name is in the name of its cgroups and of the folder that it keeps its files in.
    let left = |name: &str| {
        let find = ["/sys/fs/cgroup", "/var/tmp", "-maxdepth", "4", "-name"];
        let found = Command::new("find").args(find).arg(format!("*{name}")).output().unwrap();
        String::from_utf8(found.stdout).unwrap()
    };
    let names = [first.name.clone(), second.name.clone()];
    assert!(names.iter().all(|name| !left(name).is_empty()));
    drop((first, second));
    assert_eq!(names.map(|name| left(&name)), ["", ""]);
}

#[test]
fn network_joins_its_machines_and_leaves_nothing() {
    let Some(network) = Network::new() else { return };
    let Some(mut first) = Plan::bare().boot() else { return };
    let Some(second) = Plan::bare().boot() else { return };
    let Some(outside) = Plan::bare().boot() else { return };
    let reaches = |from: &Machine, address: &str| {
        let connect = format!("exec 3<>/dev/tcp/{address}/5");
        let said = from.try_run("timeout", &["20", "bash", "-c", &connect]).stderr;
        // Nothing listens there, and that is an answer.
        String::from_utf8_lossy(&said).contains("Connection refused")
    };
    network.plug(&first, 1);
    network.plug(&second, 2);
    assert!(reaches(&first, "10.4.0.2") && reaches(&second, "10.4.0.1"));
    assert!(!reaches(&outside, "10.4.0.2"), "it is not plugged in");
    network.cable(&second, false);
    assert!(!reaches(&first, "10.4.0.2"));
    network.cable(&second, true);
    wait_until("it is back", || reaches(&first, "10.4.0.2"));
    first.reboot();
    assert!(!reaches(&first, "10.4.0.2"), "a reboot unplugs it");
    network.plug(&first, 1);
    wait_until("it is back", || reaches(&first, "10.4.0.2"));
    // Neither here nor in a machine.
    let links =
        || String::from_utf8(Command::new("ip").args(["-o", "link"]).output().unwrap().stdout).unwrap();
    assert!(!links().contains(&second.name) && !links().contains("bridge"), "{}", links());
    drop(network);
    wait_until("its end is gone", || !second.shell("ip -o link").contains("eth0"));
}

/// `tests/run` hands the lines of the list to this program as filters, and a filter that fits nothing runs nothing.
#[test]
fn list_of_debian_13_names_existing_tests() {
    let tests = Command::new(std::env::current_exe().unwrap()).arg("--list").output().unwrap();
    let tests = String::from_utf8(tests.stdout).unwrap();
    let filters = include_str!("debian-13").lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    for filter in filters {
        assert!(tests.lines().any(|test| test.starts_with(filter)), "there is no test {filter}");
    }
}

#[test]
fn test_runs_inside_machine() {
    let Some(machine) = Plan::bare().boot() else { return };
    machine.run_test("machines::inside_pid_1_is_systemd");
    let missing = std::panic::catch_unwind(|| machine.run_test("machines::no_such_test"));
    assert!(missing.is_err(), "a test that is not there did not run");
}

#[test]
#[ignore = "runs inside of a machine"]
fn inside_pid_1_is_systemd() {
    assert_inside();
    assert_eq!(std::fs::read_to_string("/proc/1/comm").unwrap(), "systemd\n");
}
