//! A machine that is away and comes back: unplugged, rebooted, upgraded.

use std::time::{Duration, Instant};

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::machine::{Plan, assert_inside, wait_until};
use crate::network::Network;
use crate::package;
use crate::sockets::call_again_and_again;

use super::{Fleet, ask, is_reachable_and_running, is_unreachable};

/// For how long a machine is unplugged.
const UNPLUGGED: Duration = Duration::from_secs(60);

#[test]
fn unplugged_machine_is_listed_as_unreachable_and_taken_up_again() {
    let Some(fleet) = Fleet::of_two() else { return };
    let (door, tokyo) = (fleet.door(), fleet.machine(1));
    fleet.start_three();
    let pids = [tokyo.client("one")["pid"].clone(), tokyo.client("two")["pid"].clone()];

    fleet.cable(1, false);
    let began = Instant::now();
    fleet.wait_until_shown("is unreachable", "one", is_unreachable);
    let shown = fleet.shown("two");
    assert!(is_unreachable(&shown) && shown["machine"] == "tokyo", "{shown}");
    assert!(shown["machine_since"].as_u64().is_some_and(|since| since > 1_600_000_000), "{shown}");
    for path in
        ["/openqq/get_user_info?client=one", "/v1/clients/one/explain", "/clients/one/onebot/v11/get_status"]
    {
        let asked = Instant::now();
        let (status, answer) = ask(door, path);
        println!("{path}: {status} after {:.2} s: {answer}", asked.elapsed().as_secs_f64());
        assert_eq!(status, 503, "{answer}");
        assert!(answer.to_string().contains("its machine tokyo can't be reached: "), "{answer}");
    }
    // What is nearer goes on, and nothing is started in the place of what is away.
    assert_eq!(ask(door, "/openqq/get_user_info?client=near").0, 200);
    for account in ["one", "that-may-be-there"] {
        let (status, answer) = ask(door, &format!("/openqq/start_client?client={account}"));
        println!("start of {account}: {status}: {answer}");
        assert!(status == 503 || answer["code"] != 0, "{answer}");
    }
    std::thread::sleep(UNPLUGGED.saturating_sub(began.elapsed()));

    fleet.cable(1, true);
    fleet.wait_until_shown("is back", "one", is_reachable_and_running);
    fleet.wait_until_shown("is back", "two", is_reachable_and_running);
    assert_eq!(ask(door, "/openqq/get_user_info?client=one").0, 200);
    assert_eq!(
        [tokyo.client("one")["pid"].clone(), tokyo.client("two")["pid"].clone()],
        pids,
        "they went on"
    );
    fleet.print_log();
}

#[test]
fn accounts_of_rebooted_machine_are_taken_up_again() {
    let Some(mut fleet) = Fleet::of_two() else { return };
    fleet.door().start_client("far", &["machine=tokyo"]);
    fleet.wait_until_shown("runs", "far", is_reachable_and_running);
    let pid = fleet.shown("far")["pid"].clone();
    // What changes meanwhile is heard afterwards.
    fleet.door().start_client("gone", &["machine=tokyo"]);
    fleet.machine(1).call("stop_client", &["client=gone"]);
    fleet.machines[1].reboot();
    fleet.wait_until_shown("is unreachable", "far", is_unreachable);
    fleet.machine(1).wait_for_client("far", "runs there", crate::units::is_running);
    fleet.plug(1);
    fleet.wait_until_shown("is back after the reboot", "far", is_reachable_and_running);
    fleet.print_log();
    assert_eq!(ask(fleet.door(), "/openqq/get_user_info?client=far").0, 200);
    let (shown, there) = (fleet.shown("far"), fleet.machine(1).client("far"));
    assert_eq!(shown["pid"], there["pid"]);
    assert!(shown["pid"] != pid || shown["started"] != there["launched"], "{shown}");
    let list = fleet.door().clients();
    assert_eq!(list.iter().filter(|one| one["account"] == "gone").count(), 0, "{list:?}");
}

/// Where the callers at the door say that they call, and are told to end.
const CALLING: &str = "/run/calling";
const ENOUGH: &str = "/run/enough";

/// Calls an account of tokyo at the door all the while that something is done there. No call may fail.
fn call_meanwhile(fleet: &Fleet, what: impl FnOnce()) {
    let door = fleet.door();
    door.start_client("far", &["machine=tokyo"]);
    fleet.wait_until_shown("runs", "far", is_reachable_and_running);
    let pid = fleet.machine(1).client("far")["pid"].clone();
    std::thread::scope(|scope| {
        let calling = scope.spawn(|| door.run_test("fleet::away::inside_far_is_called_again_and_again"));
        wait_until("they call", || {
            assert!(!calling.is_finished(), "it ended at once");
            door.try_run("test", &["-e", CALLING]).status.success()
        });
        what();
        door.shell(&format!(": >{ENOUGH}"));
        println!("{}", calling.join().unwrap());
    });
    assert_eq!(fleet.machine(1).client("far")["pid"], pid, "it went on");
    fleet.print_log();
}

#[test]
#[ignore = "runs inside of a machine"]
fn inside_far_is_called_again_and_again() {
    assert_inside();
    let (stop, done) = (AtomicBool::new(false), AtomicUsize::new(0));
    let paths = ["get_user_info?client=far", "check_client?client=far", "check_client"];
    let failures: Vec<String> = std::thread::scope(|scope| {
        let callers: Vec<_> = (0..9)
            .map(|n| {
                let (stop, done) = (&stop, &done);
                scope.spawn(move || call_again_and_again(paths[n % 3], n < 6, stop, done))
            })
            .collect();
        let more = |than: usize| {
            let before = done.load(Ordering::Relaxed);
            wait_until("more was answered", || done.load(Ordering::Relaxed) > before + than);
        };
        more(50);
        std::fs::write(CALLING, "").unwrap();
        wait_until("it is enough", || Path::new(ENOUGH).exists());
        more(50);
        stop.store(true, Ordering::Relaxed);
        callers.into_iter().flat_map(|caller| caller.join().unwrap()).collect()
    });
    println!("{} calls", done.load(Ordering::Relaxed));
    let kinds: std::collections::BTreeSet<_> = failures.iter().collect();
    assert!(failures.is_empty(), "{} failed: {kinds:#?}", failures.len());
}

#[test]
fn restart_of_controller_of_other_machine_drops_no_call() {
    let Some(fleet) = Fleet::of_two() else { return };
    let ssh = || fleet.door().shell("pgrep --exact ssh");
    let before = ssh();
    call_meanwhile(&fleet, || {
        for _ in 0..3 {
            fleet.machine(1).systemctl(&["restart", crate::service::UNIT]);
        }
    });
    assert_eq!(ssh(), before, "the tunnel stays");
    let log = fleet.door().journal(&["--unit", crate::service::UNIT, "--output=cat"]);
    assert!(!log.contains("can't be reached"), "{log}");
}

#[test]
fn upgrade_of_other_machine_drops_no_call() {
    let Some(package) = package::package() else { return };
    let folder = tempfile::tempdir().unwrap();
    let higher = package::higher(&package, folder.path());
    let (inside, upgrade) = ("/root/package.deb", "/root/higher.deb");
    let boot = || {
        let machine = Plan::bare().bind(&package, inside).bind(&higher, upgrade).boot()?;
        machine.run("apt-get", &["install", "--yes", "--quiet", inside]);
        Some(machine)
    };
    let Some(network) = Network::new() else { return };
    let Some(fleet) = Fleet::of(network, &["door", "tokyo"], boot) else { return };
    fleet.follow_the_manual(0, 1);
    fleet.wait_until_reached(0, "tokyo");
    call_meanwhile(&fleet, || {
        drop(fleet.machine(1).run("apt-get", &["install", "--yes", "--quiet", upgrade]))
    });
    let list = fleet.door().run("wqctl", &["list"]);
    assert!(list.contains("tokyo") && list.contains("far"), "{list}");
}
