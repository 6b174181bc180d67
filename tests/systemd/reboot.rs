//! What a reboot is, and what is none. A machine of these tests is rebooted as a container is: the kernel goes on.

use serde_json::Value;

use crate::machine::{Machine, say_not_run, wait_until};
use crate::service::UNIT;
use crate::units::is_running;

/// Where the registry is.
const REGISTRY: &str = "/var/lib/wqcontroller/mojo_webqq_controller_backend.dat";

impl Machine {
    /// A client that runs, and one that an operator stopped.
    fn start_one_and_stop_another(&self) {
        self.systemctl(&["enable", "--now", UNIT]);
        self.start_client("a", &[]);
        self.start_client("b", &[]);
        self.systemctl(&["stop", "wqclient@b"]);
        self.wait_for_client("b", "is held", |client| client["held"] == true);
    }

    /// What systemd says of itself: when it started, by which boots are told apart.
    fn manager(&self, property: &str) -> String {
        self.systemctl(&["show", "--value", "--property", property])
    }

    /// Changes the registry while no controller is there.
    fn rewrite_registry(&self, change: impl Fn(&mut Value)) {
        self.systemctl(&["stop", UNIT]);
        let mut registry = serde_json::from_str(&self.run("cat", &[REGISTRY])).unwrap();
        change(&mut registry);
        self.write(REGISTRY, &registry.to_string());
    }
}

/// What version 0.1.0 has instead.
fn as_version_0_1_0_wrote_it(registry: &mut Value) {
    let registry = registry.as_object_mut().unwrap();
    registry["version"] = 2.into();
    assert!(registry.remove("started").is_some(), "{registry:?}");
    assert!(registry.contains_key("boot_id"), "{registry:?}");
}

#[test]
fn accounts_return_after_container_reboot() {
    let Some(mut machine) = Machine::boot() else { return };
    machine.start_one_and_stop_another();
    let boot = machine.shell("cat /proc/sys/kernel/random/boot_id");
    machine.reboot();
    assert_eq!(machine.shell("cat /proc/sys/kernel/random/boot_id"), boot, "as in a container");
    for name in ["a", "b"] {
        let client = machine.wait_for_client(name, "runs", is_running);
        assert_eq!((&client["held"], &client["exits"]), (&false.into(), &0.into()), "{client}");
    }
    // That was once: what is stopped now stays so.
    machine.systemctl(&["stop", "wqclient@b"]);
    machine.wait_for_client("b", "is held", |client| client["held"] == true);
    machine.systemctl(&["restart", UNIT]);
    assert_eq!(machine.client("b")["held"], true);
}

#[test]
fn held_child_processes_start_after_container_reboot() {
    let Some(mut machine) = Machine::boot() else { return };
    machine.write("/etc/wqcontroller/template", "#!/bin/sh\nexec sleep 1000000\n");
    machine.shell("chmod 755 /etc/wqcontroller/template");
    machine.configure(
        "template_path = \"/etc/wqcontroller/template\"\n[supervisor]\nmode = \"direct\"\nrestart = \"no\"\n",
    );
    machine.systemctl(&["enable", "--now", UNIT]);
    let pid = machine.start_client("a", &[])["pid"].to_string();
    machine.run("kill", &["-9", &pid]);
    machine.wait_for_client("a", "is held", |client| client["held"] == true);
    machine.systemctl(&["restart", UNIT]);
    assert_eq!(machine.client("a")["held"], true, "a restart of the controller is no reboot");
    machine.reboot();
    machine.wait_for_client("a", "is up", |client| client["phase"] == "up");
}

#[test]
fn reexec_and_new_bus_are_no_reboot() {
    let Some(machine) = Machine::boot() else { return };
    machine.start_one_and_stop_another();
    let started = machine.manager("UserspaceTimestampMonotonic");
    let pid = machine.client("a")["pid"].clone();
    for way in [&["daemon-reexec"][..], &["restart", "dbus.service"]] {
        machine.systemctl(way);
        assert_eq!(machine.manager("UserspaceTimestampMonotonic"), started);
        machine.wait_for_log("connected to systemd again");
        machine.systemctl(&["restart", UNIT]);
        let b = machine.client("b");
        assert_eq!((&b["held"], &b["phase"]), (&true.into(), &"gone".into()), "{way:?}: {b}");
        assert_eq!(machine.client("a")["pid"], pid);
    }
}

#[test]
fn registry_of_0_1_0_starts_none_twice_and_holds_none() {
    let Some(machine) = Machine::boot() else { return };
    machine.start_one_and_stop_another();
    let pid = machine.client("a")["pid"].clone();
    machine.start_client("c", &[]);
    machine.rewrite_registry(as_version_0_1_0_wrote_it);
    // As after the reboot of a container, and as an operator does it: that looks the same.
    machine.systemctl(&["stop", "wqclient@c"]);
    machine.systemctl(&["start", UNIT]);
    machine.wait_for_client("c", "runs", is_running);
    assert_eq!(machine.client("a")["pid"], pid, "it went on");
    assert_eq!(machine.client("b")["held"], true, "it was held before");

    // From here on it is known which boot it is.
    machine.systemctl(&["stop", UNIT, "wqclient@c"]);
    machine.systemctl(&["start", UNIT]);
    assert_eq!(machine.client("c")["held"], true);
}

#[test]
fn accounts_return_after_soft_reboot() {
    let Some(machine) = Machine::boot() else { return };
    if machine.manager("SoftRebootsCount").is_empty() {
        say_not_run("this systemd does not count soft reboots; tests/run has one that does with CI=true");
        return;
    }
    machine.start_one_and_stop_another();
    let boots = || machine.console().matches("Reached target multi-user.target").count();
    let before = boots();
    machine.systemctl(&["--no-block", "soft-reboot"]);
    // Seen from outside: the manager stops all processes before it ends them, and what runs one for us would stay stopped.
    wait_until("userspace was rebooted", || boots() > before);
    assert_eq!(machine.manager("SoftRebootsCount"), "1");
    wait_until("it is up", || machine.is_active(UNIT));
    for name in ["a", "b"] {
        machine.wait_for_client(name, "runs", is_running);
    }
}
