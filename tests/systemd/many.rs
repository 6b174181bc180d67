//! Many clients at once: that none is lost, none is started twice, and none is in another's way.

use crate::machine::{Machine, wait_until};
use crate::service::UNIT;

#[test]
fn controller_killed_during_starts_loses_and_duplicates_none() {
    let Some(machine) = Machine::boot() else { return };
    machine.start_service();
    for round in 0..5 {
        // All at once, and the controller dies among them.
        machine.shell(&format!(
            "for n in 1 2 3 4 5 6 7 8; do curl -s \"http://127.0.0.1:4000/openqq/start_client?client=r{round}_$n\" \
             >/tmp/reply_{round}_$n & done; \
             until ls /run/wqcontroller/launch/r{round}_* >/dev/null 2>&1; do :; done; \
             kill -9 $(systemctl show --value --property MainPID wqcontroller); wait"
        ));
        wait_until("it is back", || {
            machine.try_run("curl", &["-sf", "http://127.0.0.1:4000/openqq/check_client"]).status.success()
        });
        let acknowledged = machine.shell(&format!("grep -l success /tmp/reply_{round}_* | wc -l"));
        let acknowledged: usize = acknowledged.parse().unwrap();
        wait_until("all that was promised runs", || {
            let clients = machine.clients();
            let ours = clients
                .iter()
                .filter(|client| client["account"].as_str().unwrap().starts_with(&format!("r{round}_")));
            let ours: Vec<_> = ours.collect();
            ours.len() >= acknowledged && ours.iter().all(|client| client["phase"] == "up")
        });
        // Every unit is a client's and every client is a unit.
        let clients = machine.clients();
        for client in &clients {
            let unit = format!("wqclient@{}", client["account"].as_str().unwrap());
            assert_eq!(machine.main_pid(&unit), client["pid"], "{client}");
        }
        let units =
            machine.shell("systemctl list-units --state=active --plain --no-legend 'wqclient@*' | wc -l");
        assert_eq!(units, clients.len().to_string());
    }
}

#[test]
fn two_hundred_clients_start_and_return_after_reboot() {
    const COUNT: usize = 200;
    let Some(mut machine) = Machine::boot() else { return };
    // Small ones: what is tried here is not what they do.
    machine.write("/etc/wqcontroller/template", "#!/bin/sh\nexec sleep 1000000\n");
    machine.shell("chmod 755 /etc/wqcontroller/template");
    machine.configure("max_clients = 300\ntemplate_path = \"/etc/wqcontroller/template\"\n");
    machine.systemctl(&["enable", "--now", UNIT]);
    let replies = machine.shell(&format!(
        "seq {COUNT} | xargs -P {COUNT} -I N curl -s 'http://127.0.0.1:4000/openqq/start_client?client=nN'"
    ));
    assert_eq!(replies.matches("\"status\":\"success\"").count(), COUNT, "{replies}");
    let up = |machine: &Machine| machine.clients().iter().filter(|client| client["phase"] == "up").count();
    assert_eq!(up(&machine), COUNT);
    machine.systemctl(&["restart", UNIT]);
    assert_eq!(up(&machine), COUNT);

    // An operator's stop holds until the machine boots.
    machine.systemctl(&["stop", "wqclient@n1"]);
    machine.wait_for_client("n1", "is held", |client| client["held"] == true);
    machine.reboot();
    // One after another, which takes its time where other tests have machines of their own: as long as it goes on.
    let mut back = up(&machine);
    while back < COUNT {
        wait_until(format!("more than {back} are back"), || up(&machine) > back);
        back = up(&machine);
    }
    let ended: Vec<_> = machine.clients().into_iter().filter(|client| client["exits"] != 0).collect();
    assert!(ended.is_empty(), "{ended:?}");
}

#[test]
fn concurrent_starts_are_bounded() {
    const COUNT: usize = 50;
    const AT_ONCE: usize = 32;
    let Some(machine) = Machine::boot() else { return };
    // None of them starts before it may.
    let gate = "[Service]\nExecStartPre=sh -c 'until test -e /run/gate; do sleep 0.1; done'\n";
    machine.write("/etc/systemd/system/wqclient@.service.d/50-test.conf", gate);
    machine.systemctl(&["daemon-reload"]);
    machine.start_service();
    let call = "seq 50 | xargs -P 50 -I N curl -s 'http://127.0.0.1:4000/openqq/start_client?client=nN'";
    let callers =
        machine.command("sh").args(["-c", call]).stdout(std::process::Stdio::piped()).spawn().unwrap();
    wait_until("all are on their way", || {
        machine.clients().iter().filter(|client| client["phase"] == "starting").count() == COUNT
    });
    let begun = || {
        let units = "systemctl list-units --state=activating --plain --no-legend 'wqclient@*' | wc -l";
        machine.shell(units).parse::<usize>().unwrap()
    };
    wait_until("as many as may have begun", || begun() >= AT_ONCE);
    for _ in 0..20 {
        assert_eq!(begun(), AT_ONCE);
    }
    machine.shell("touch /run/gate");
    let replies = String::from_utf8(callers.wait_with_output().unwrap().stdout).unwrap();
    assert_eq!(replies.matches("\"status\":\"success\"").count(), COUNT, "{replies}");
}
