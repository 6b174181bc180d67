//! Which ends of a client are a stop, and which are not.

use super::*;

#[test]
fn exit_with_status_0_is_held_over_a_restart() {
    let script =
        "#!/bin/sh\nwhile [ ! -e \"$MOJO_WEBQQ_TMPDIR/go\" ]; do sleep 0.01; done\necho enough >&2\nexit 0\n";
    let controller = Builder::new().template(script).start();
    controller.start_client_with("b", "log_level=debug");
    fs::write(controller.path("go"), "").unwrap();
    wait_until("b is held", || controller.clients()[0]["held"] == true);
    let held = controller.clients()[0].clone();
    assert_eq!(
        (&held["phase"], &held["exits"], &held["reason"]),
        (&"gone".into(), &1.into(), &"enough".into())
    );
    assert_eq!(held["last_exit"], "ended by itself: exited with status 0");
    let log = controller.log.wait_for("held, not started again until start_client is called");
    assert!(log.contains("<4>b: exited with status 0, though nobody asked it to"), "{log}");
    assert_eq!(log.matches("held, not started again until start_client is called").count(), 1, "{log}");
    let mut controller = controller;
    for _ in 0..2 {
        assert_eq!(controller.end().code(), Some(0));
        controller.start_again();
        let next = controller.clients()[0].clone();
        for key in ["exits", "reason", "last_exit", "held"] {
            assert_eq!(next[key], held[key], "{key}");
        }
    }
    // With what it was started with before.
    let again = controller.start_client("b");
    assert_eq!((&again["code"], &again["log_level"]), (&0.into(), &"debug".into()));
}

#[test]
fn foreign_sigterm_is_a_failure_and_the_clients_stop_client_a_stop() {
    let template = format!("#!/bin/sh\nprogram='{}'\nexec \"$program\" client\n", crate::fixture::program());
    let controller = Builder::new().template(&template).start();
    let port = controller.start_client("a")["port"].clone();
    controller.wait_for_state("a", "running");
    let first = controller.clients()[0].clone();
    kill(pid_of(&first), Signal::TERM);
    wait_until("a runs again", || {
        let client = &controller.clients()[0];
        client["exits"] == 1 && client["state"] == "running"
    });
    assert_eq!(controller.clients()[0]["last_exit"], "was ended by signal 15");
    ureq::get(format!("http://127.0.0.1:{port}/openqq/stop_client")).call().unwrap();
    wait_until("a is forgotten", || controller.clients().is_empty());
    controller.log.wait_for("stopped: exited with status 193: its API was asked to stop it");
}

#[test]
fn refused_settings_hold_the_client_at_once() {
    // Another layer may check them before the start: the template gives what no call could.
    let program = crate::fixture::program();
    let export = "while [ ! -e \"$MOJO_WEBQQ_TMPDIR/go\" ]; do sleep 0.01; done; export MOJO_WEBQQ_ACCOUNT=";
    let built_in = format!("#!/bin/sh\n{export}\nprogram='{program}'\nexec \"$program\" client\n");
    let foreign = format!("#!/bin/sh\n{export}\n'{program}' client\nexit $?\n");
    for (template, held) in [(built_in, true), (foreign, false)] {
        let controller = Builder::new().template(&template).start();
        controller.start_client("a");
        fs::write(controller.path("go"), "").unwrap();
        wait_until("a ended", || controller.clients()[0]["exits"] == 1);
        let client = controller.clients()[0].clone();
        assert_eq!(client["held"], held, "{client}");
        assert!(client["reason"].as_str().unwrap().contains("ACCOUNT"), "{client}");
    }
}
