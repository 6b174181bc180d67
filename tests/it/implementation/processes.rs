//! The two processes of an account.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use rustix::process::{Pid, Signal, kill_process};

use super::{PATIENT, implementation, pid, until_implementation, with_script};
use crate::fixture::{is_alive, wait_until};
use crate::supervision::is_running;

fn send(pid: u32, signal: Signal) {
    kill_process(Pid::from_raw(pid.try_into().unwrap()).unwrap(), signal).unwrap();
}

const START: &str = "implementation=own&uin=10001";

#[test]
fn start_brings_up_both_and_stop_ends_both() {
    let controller = with_script("sleep 3600 & echo up $1 child $!\nwait\n").built_in();
    let client = controller.start_client_with("小红", START);
    assert_eq!((&client["code"], &client["implementation"]), (&0.into(), &"own".into()), "{client}");
    let found = implementation(&controller, "小红");
    assert_eq!(
        (&found["phase"], &found["kind"], &found["exits"]),
        (&"up".into(), &"command".into(), &0.into())
    );
    let port = found["port"].as_u64().unwrap();
    let up = format!("小红: own: up {port} child ");
    let mut child: Option<u32> = None;
    wait_until("it has a child", || {
        let log = controller.log.text();
        let line = log.split_once(&up).and_then(|(_, rest)| rest.split_once('\n'));
        child = line.map(|(pid, _)| pid.parse().unwrap());
        child.is_some()
    });

    // The file that the operator asked for: its own user's alone, with a token that no command line has.
    let id = controller.path("implementations").read_dir().unwrap().find_map(|entry| {
        let path = entry.unwrap().path();
        path.is_dir().then_some(path)
    });
    let home = id.unwrap();
    let file = home.join("own.conf");
    let content = fs::read_to_string(&file).unwrap();
    let token = content.lines().find_map(|line| line.strip_prefix("token=")).unwrap();
    assert_eq!((token.len(), content.contains("uin=10001")), (64, true), "{content}");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let (of_client, of_implementation) = (pid(&client), pid(&found));
    for process in [of_client, of_implementation] {
        for part in ["cmdline", "environ"] {
            let content = fs::read(format!("/proc/{process}/{part}")).unwrap();
            assert!(!String::from_utf8_lossy(&content).contains(token), "{process}: {part}");
        }
    }

    assert_eq!(controller.stop_client("小红")["code"], 0);
    assert!(!is_alive(of_client) && !is_alive(of_implementation) && !is_running(child.unwrap()));
    assert!(controller.clients().is_empty());
    wait_until("the token is removed", || !home.with_extension("token").exists());
}

#[test]
fn neither_process_takes_the_other_along() {
    let controller = with_script(PATIENT).built_in();
    let client = pid(&controller.start_client_with("a", START));
    let first = implementation(&controller, "a");
    send(pid(&first), Signal::KILL);
    let second = until_implementation(&controller, "a", "started again", |found| {
        found["phase"] == "up" && found["exits"] == 1
    });
    assert_ne!(pid(&first), pid(&second));
    assert_eq!(first["port"], second["port"]);
    assert_eq!(second["last_exit"], "was ended by signal 9");
    controller.log.wait_for("a: own: ended by signal 9");
    assert!(is_alive(client));
    send(client, Signal::KILL);
    wait_until("the client is started again", || {
        controller.clients()[0]["phase"] == "up" && controller.clients()[0]["pid"] != client
    });
    assert_eq!(pid(&implementation(&controller, "a")), pid(&second));
}

#[test]
fn next_controller_adopts_both() {
    let outlive = "[supervisor]\nclients_outlive_controller = true\n";
    let mut controller = with_script(PATIENT).config(outlive).start();
    let client = pid(&controller.start_client_with("a", START));
    let found = pid(&implementation(&controller, "a"));
    controller.kill();
    controller.start_again();
    assert_eq!(pid(&controller.clients()[0]), client);
    assert_eq!(pid(&implementation(&controller, "a")), found);
    assert_eq!(controller.stop_client("a")["code"], 0);
    assert!(!is_running(client) && !is_running(found));
}

#[test]
fn implementation_of_a_stopped_account_is_ended_by_the_next_controller() {
    // It takes its time, and the controller is killed meanwhile.
    let script = "trap 'while [ ! -e \"$HOME/go\" ]; do sleep 0.01; done; exit' INT\necho up\nwhile :; do sleep 0.01; done\n";
    let mut controller = with_script(script).config("[supervisor]\nstop_timeout = 3600\n").built_in();
    controller.start_client_with("a", START);
    controller.log.wait_for("a: own: up");
    let found = pid(&implementation(&controller, "a"));
    controller.get("/openqq/stop_client?client=a&async=1");
    wait_until("the client is gone", || controller.clients().is_empty());
    assert!(is_alive(found));
    controller.kill();
    controller.start_again();
    fs::write(controller.path("implementations/a/go"), "").unwrap();
    wait_until("it is gone", || !is_alive(found));
    assert!(controller.clients().is_empty());
}

#[test]
fn implementation_that_ignores_its_stop_is_killed() {
    let controller = with_script("trap '' INT TERM\necho up\nwhile :; do sleep 0.01; done\n")
        .config("[supervisor]\nstop_timeout = 0.2\n")
        .built_in();
    controller.start_client_with("a", START);
    controller.log.wait_for("a: own: up");
    let found = pid(&implementation(&controller, "a"));
    assert_eq!(controller.stop_client("a")["code"], 0);
    assert!(!is_alive(found));
    controller.log.wait_for("a: own: stopped: ended by signal 9");
}

#[test]
fn starts_and_stops_at_once_leave_nothing_behind() {
    let controller = with_script(PATIENT).built_in();
    std::thread::scope(|scope| {
        for worker in 0..4 {
            let controller = &controller;
            scope.spawn(move || {
                for turn in 0..6 {
                    match (worker + turn) % 2 {
                        0 => controller.get(&format!("/openqq/start_client?client=a&{START}")),
                        _ => controller.get("/openqq/stop_client?client=a"),
                    };
                }
            });
        }
    });
    controller.start_client_with("a", START);
    until_implementation(&controller, "a", "it runs", |found| found["phase"] == "up");
    assert_eq!(controller.stop_client("a")["code"], 0);
    wait_until("no process is left", || {
        let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", controller.pid()));
        children.unwrap().trim().is_empty()
    });
}

#[test]
fn new_number_restarts_the_implementation() {
    let controller = with_script("echo up $1\nexec sleep 3600\n").built_in();
    controller.start_client_with("a", START);
    let first = pid(&implementation(&controller, "a"));
    // Other parameters count when the account is started again.
    let answer = controller.start_client_with("a", "implementation=own&uin=10002");
    assert_eq!(answer["status"], "client already exists");
    assert_eq!(pid(&implementation(&controller, "a")), first);
    controller.stop_client("a");
    controller.start_client_with("a", "implementation=own&uin=10002");
    assert_ne!(pid(&implementation(&controller, "a")), first);
    controller.log.wait_for_times("a: own: up", 2);
    let file = controller.path("implementations/a/own.conf");
    assert!(fs::read_to_string(file).unwrap().contains("uin=10002"));
}
