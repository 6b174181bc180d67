//! How clients end: by themselves, by a stop, and with all that belongs to them.

use std::fs;

use rustix::process::Signal;
use serde_json::{Value, json};

use super::{children, group, is_running, pid, send, template};
use crate::fixture::{Builder, Controller, freeze, is_alive, program, wait_until};

/// Waits until there is no process of its group any more, not even a zombie.
fn wait_until_gone(controller: &Controller, name: &str, leader: u32) {
    wait_until(&format!("{name} is gone"), || controller.is_gone(name));
    assert!(!is_alive(leader), "what is said to be gone is not there");
    assert_eq!(group(leader).len(), 0, "nor what belonged to it");
}

/// Ends a client, by itself if it is called so, else by a stop; all of its group must end with it.
fn end_with_its_group(controller: &Controller, name: &str, leader: u32) {
    if name == "die" {
        assert_eq!(controller.get("/openqq/die?client=die").status, 502);
        wait_until_gone(controller, name, leader);
    } else {
        assert_eq!(controller.stop_client(name)["code"], 0);
        assert_eq!(group(leader).len(), 0, "the answer comes when all of it is gone");
    }
}

#[test]
fn exit_is_reported_with_status_or_signal() {
    let controller = Builder::new().config("[supervisor]\nrestart = \"no\"").start();
    for (how, says) in [
        ("die", "exited with status 7"),
        ("kill", "ended by signal 9"),
        ("stop_client", "stopped: exited with status 0"),
    ] {
        let leader = pid(&controller.start_client(how));
        controller.wait_for_listening(how);
        if how == "kill" {
            send(leader, Signal::KILL);
        } else {
            let request = ureq::http::Request::post(controller.url(&format!("/openqq/{how}?client={how}")));
            controller.send(request.body(()).unwrap());
        }
        wait_until_gone(&controller, how, leader);
        controller.log.wait_for(&format!("{says} (pid {leader})"));
    }
    assert_eq!(children(&controller).len(), 0, "no zombie is left");
}

#[test]
fn client_that_exits_at_once_leaves_nothing() {
    let controller = Builder::new().config("[supervisor]\nrestart = \"no\"").start();
    for _ in 0..20 {
        let reply = controller.start_client_with("a", "fake_exit=5");
        // It was there, or it was gone before anybody could see it.
        assert!(
            reply["code"] == 0
                || (reply["code"] == 4 && reply["reason"] == "the client exited with status 5 at once"),
            "{reply}"
        );
        wait_until("a is gone", || controller.is_gone("a"));
    }
    assert_eq!(children(&controller).len(), 0);
}

#[test]
fn stop_gives_the_client_its_time() {
    let script = "#!/bin/sh\ntrap 'echo asked; while [ ! -e \"$MOJO_WEBQQ_TMPDIR/go\" ]; do sleep 0.01; done; exit 3' TERM\n\
                  echo up; while :; do sleep 0.01; done\n";
    let controller = Builder::new().template(script).config("[supervisor]\nstop_timeout = 3600").start();
    let started = controller.start_client("a");
    controller.log.wait_for("a: up");
    std::thread::scope(|scope| {
        let stopping = scope.spawn(|| controller.stop_client("a"));
        controller.log.wait_for("a: asked");
        assert!(is_running(pid(&started)) && controller.state("a").is_some());
        assert!(!stopping.is_finished(), "the answer comes when the process is gone");
        let at_once = controller.get("/openqq/stop_client?client=a&async=1").json();
        assert_eq!(at_once, started, "or, if asked to, at once");
        assert!(!stopping.is_finished() && is_running(pid(&started)));
        fs::write(controller.path("go"), "").unwrap();
        assert_eq!(stopping.join().unwrap(), started);
        assert!(!is_alive(pid(&started)));
    });
    controller.log.wait_for("stopped: exited with status 3");
}

#[test]
fn stop_kills_a_client_that_ignores_sigterm() {
    let controller = Builder::new().config("[supervisor]\nstop_timeout = 0.2\nrestart = \"no\"").start();
    for (name, more) in [("refusing", "fake_ignore_term=1"), ("frozen", "")] {
        let started = controller.start_client_with(name, more);
        controller.wait_for_listening(name);
        if name == "frozen" {
            freeze(pid(&started));
        }
        assert_eq!(controller.stop_client(name)["code"], 0);
        assert!(!is_alive(pid(&started)));
        controller.log.wait_for(&format!("still running after SIGTERM (pid {})", pid(&started)));
        controller.log.wait_for(&format!("stopped: ended by signal 9 (pid {})", pid(&started)));
    }
}

#[test]
fn stop_timeout_of_zero_kills() {
    let controller = Builder::new().config("[supervisor]\nstop_timeout = 0").start();
    let started = controller.start_client_with("a", "fake_ignore_term=1");
    controller.wait_for_listening("a");
    assert_eq!(controller.stop_client("a")["code"], 0);
    assert!(!is_alive(pid(&started)));
}

#[test]
fn leftover_processes_get_sigterm() {
    let child =
        "sh -c 'trap \"echo child ends; exit\" TERM; echo child is up; while :; do sleep 0.01; done' &";
    let controller =
        Builder::new().template(&template(child)).config("[supervisor]\nrestart = \"no\"").start();
    for name in ["die", "stop"] {
        let leader = pid(&controller.start_client(name));
        controller.log.wait_for(&format!("{name}: child is up"));
        controller.wait_for_listening(name);
        end_with_its_group(&controller, name, leader);
        controller.log.wait_for(&format!("{name}: child ends"));
    }
}

#[test]
fn leftover_processes_are_killed_at_last() {
    let controller = Builder::new().config("[supervisor]\nstop_timeout = 0.2\nrestart = \"no\"").start();
    for name in ["die", "stop", "refuse"] {
        let more = if name == "refuse" { "fake_child=1&fake_ignore_term=1" } else { "fake_child=1" };
        let leader = pid(&controller.start_client_with(name, more));
        controller.wait_for_listening(name);
        assert!(group(leader).len() > 1);
        end_with_its_group(&controller, name, leader);
    }
}

#[test]
fn client_behind_a_shell_is_stopped() {
    // Its parent is not the controller, by which it would know that the controller is gone.
    let script = format!("#!/bin/sh\nunset MOJO_WEBQQ_CONTROLLER_PID\n'{}' client\nexit $?\n", program());
    let controller = Builder::new().template(&script).config("[supervisor]\nstop_timeout = 3600").start();
    let leader = pid(&controller.start_client("a"));
    controller.wait_for_state("a", "running");
    assert_eq!(group(leader).len(), 2, "the shell, which is ours, and the client");
    assert_eq!(controller.stop_client("a")["code"], 0);
    assert_eq!(group(leader).len(), 0);
    let report = fs::read(controller.path("mojo_webqq_state_a.json")).unwrap();
    assert_eq!(serde_json::from_slice::<Value>(&report).unwrap()["state"], "stop");
    assert!(!controller.path("mojo_webqq_pid_a.pid").exists());
}

#[test]
fn stop_of_an_unknown_client_is_answered() {
    let controller = Controller::new();
    controller.start_client("a");
    controller.stop_client("a");
    assert_eq!(controller.stop_client("a"), json!({"code": 1, "status": "client not exists"}));
}
