//! The door itself: killed, replaced by another one, and two machines with an account of the same name.

use super::{Fleet, ask, is_reachable_and_running};
use crate::machine::wait_until;
use crate::service::UNIT;

#[test]
fn accounts_elsewhere_go_on_when_door_is_killed() {
    let Some(fleet) = Fleet::of_two() else { return };
    let (door, tokyo) = (fleet.door(), fleet.machine(1));
    fleet.start_three();
    let pid = tokyo.client("one")["pid"].clone();
    door.systemctl(&["kill", "--signal=KILL", UNIT]);
    wait_until("the next one is up", || door.property(UNIT, "NRestarts") == "1" && door.is_active(UNIT));
    // From the first answer on nothing is missing; what is away is known from before.
    let listed: Vec<_> = door.clients().iter().map(|one| one["account"].clone()).collect();
    assert_eq!(listed.len(), 3, "{listed:?}");
    fleet.wait_until_shown("is back", "one", is_reachable_and_running);
    assert_eq!(tokyo.client("one")["pid"], pid);
    assert_eq!(ask(door, "/openqq/get_user_info?client=two").0, 200);
    assert_eq!(door.shell("pgrep --exact --count ssh"), "1", "one connection a machine");
}

/// Inside of the service systemd ends what is left. Outside of it ssh has to end by itself.
#[test]
fn ssh_ends_with_controller_that_is_killed_outside_of_systemd() {
    let Some(fleet) = Fleet::of_two() else { return };
    let door = fleet.door();
    door.systemctl(&["stop", "wqcontroller.socket", "wqcontroller-unix.socket", UNIT]);
    door.shell("install -d -o wqcontroller /run/byhand");
    let mut controller = door
        .command("setpriv")
        .args(["--reuid=wqcontroller", "--regid=wqcontroller", "--init-groups", "env"])
        .args(["RUNTIME_DIRECTORY=/run/byhand", "STATE_DIRECTORY=/var/lib/wqcontroller"])
        .arg("/usr/sbin/wqcontroller")
        .spawn()
        .unwrap();
    wait_until("it reaches tokyo", || {
        let asked = door.try_run("curl", &["--silent", "http://127.0.0.1:4000/openqq/check_client"]);
        asked.status.success()
            && door.try_run("sh", &["-c", "test -S /run/byhand/*/tokyo.sock"]).status.success()
    });
    let ssh = door.shell("pgrep --exact ssh");
    // Nothing signals ssh here: the kernel ends it because its parent has ended.
    let parent = door.shell(&format!("ps -o ppid= -p {ssh}"));
    assert_eq!(door.shell(&format!("cat /proc/{}/comm", parent.trim())), "wqcontroller");
    door.run("kill", &["-9", parent.trim()]);
    wait_until("ssh has ended", || !door.try_run("test", &["-e", &format!("/proc/{ssh}")]).status.success());
    controller.wait().unwrap();
}

#[test]
fn second_door_for_same_machine_has_its_accounts_as_well() {
    let Some(fleet) = Fleet::boot(&["door", "tokyo", "osaka"]) else { return };
    fleet.follow_the_manual(0, 1);
    fleet.wait_until_reached(0, "tokyo");
    fleet.door().start_client("far", &["machine=tokyo"]);
    fleet.wait_until_shown("runs", "far", is_reachable_and_running);
    // The door moves: the other one is there first, then the old one goes.
    fleet.follow_the_manual(2, 1);
    fleet.wait_until_reached(2, "tokyo");
    let osaka = fleet.machine(2);
    osaka.wait_for_client("far", "is shown by the new door", is_reachable_and_running);
    assert_eq!(ask(osaka, "/openqq/get_user_info?client=far").0, 200);
    assert_eq!(ask(fleet.door(), "/openqq/get_user_info?client=far").0, 200, "both at the same time");
    fleet.door().systemctl(&["disable", "--now", "wqcontroller.socket", "wqcontroller-unix.socket", UNIT]);
    osaka.call("stop_client", &["client=far"]);
    wait_until("it has ended there", || fleet.machine(1).clients().is_empty());
    osaka.start_client("far", &["machine=tokyo"]);
    osaka.wait_for_client("far", "runs", is_reachable_and_running);
}

#[test]
fn account_of_same_name_on_two_machines_is_called_by_both_names() {
    let Some(fleet) = Fleet::boot(&["door", "tokyo", "osaka"]) else { return };
    for machine in [1, 2] {
        fleet.machine(machine).start_client("twin", &[]);
        fleet.machine(machine).wait_for_client("twin", "runs", crate::units::is_running);
        fleet.follow_the_manual(0, machine);
    }
    fleet.wait_until_reached(0, "tokyo");
    fleet.wait_until_reached(0, "osaka");
    let door = fleet.door();
    wait_until("both are listed", || {
        let mut listed: Vec<_> = door.clients().iter().map(|one| one["account"].clone()).collect();
        listed.sort_by_key(ToString::to_string);
        listed == ["twin@osaka", "twin@tokyo"]
    });
    let (status, answer) = ask(door, "/openqq/get_user_info?client=twin");
    assert_eq!(status, 409, "{answer}");
    assert!(answer.to_string().contains("twin@osaka, twin@tokyo"), "{answer}");
    for name in ["twin@osaka", "twin@tokyo"] {
        assert_eq!(ask(door, &format!("/openqq/get_user_info?client={name}")).0, 200, "{name}");
    }
    // Ended on one of them, the other has the name alone.
    door.call("stop_client", &["client=twin@osaka"]);
    wait_until("it has ended there", || fleet.machine(2).clients().is_empty());
    wait_until("the name is free", || ask(door, "/openqq/get_user_info?client=twin").0 == 200);
    assert_eq!(fleet.machine(1).clients().len(), 1);
}
