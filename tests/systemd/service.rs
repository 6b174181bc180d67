//! The service: how it starts, tells how it is, and ends.

use crate::machine::{Machine, wait_until};

#[test]
fn it_starts_and_answers() {
    let Some(machine) = Machine::boot() else { return };
    machine.systemctl(&["start", "wqcontroller"]);
    wait_until("it answers", || {
        machine.try_run("curl", &["-sf", "http://127.0.0.1:4000/openqq/check_client"]).status.success()
    });
    assert_eq!(machine.property("wqcontroller", "ActiveState"), "active");
    machine.systemctl(&["stop", "wqcontroller"]);
    assert_eq!(machine.property("wqcontroller", "Result"), "success");
}
