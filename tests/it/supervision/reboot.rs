//! What a reboot means for child processes.

use std::fs;

use serde_json::Value;

use crate::fixture::{Builder, Controller, wait_until};

/// Has the registry name another start of what started this machine or container, as if that had been rebooted since.
fn pretend_reboot(controller: &Controller) {
    let path = controller.path("mojo_webqq_controller_backend.dat");
    let mut registry: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    let started = registry["started"].as_object_mut().unwrap();
    let of_whom = started.values_mut().next().unwrap();
    let key = if of_whom.get("ticks").is_some() { "ticks" } else { "microseconds" };
    of_whom[key] = (of_whom[key].as_u64().unwrap() + 1).into();
    fs::write(&path, registry.to_string()).unwrap();
}

#[test]
fn held_client_is_started_after_a_reboot_only() {
    let mut controller = Builder::new().config("[supervisor]\nrestart = \"no\"\n").start();
    controller.start_client("a");
    controller.wait_for_listening("a");
    controller.get("/openqq/die?client=a");
    wait_until("a is held", || controller.clients()[0]["held"] == true);
    controller.end();
    controller.start_again();
    assert_eq!(controller.clients()[0]["held"], true);

    controller.end();
    pretend_reboot(&controller);
    controller.start_again();
    wait_until("a is up", || controller.clients()[0]["phase"] == "up");
    assert_eq!(controller.clients()[0]["held"], false);
}
