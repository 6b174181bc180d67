//! Starts and stops that meet, and many of them.

use std::fs;
use std::sync::Barrier;

use serde_json::{Value, json};

use super::{check_list_against_processes, children, is_running, pid};
use crate::fixture::{Builder, Controller, wait_until};

/// The entries of a folder of the controller in `/proc`.
fn entries(controller: &Controller, folder: &str) -> usize {
    fs::read_dir(format!("/proc/{}/{folder}", controller.pid())).unwrap().count()
}

#[test]
fn start_waits_for_stop() {
    let script = "#!/bin/sh\ntrap 'echo asked; while [ ! -e \"$MOJO_WEBQQ_TMPDIR/go\" ]; do sleep 0.01; done; exit' TERM\n\
                  echo up; while :; do sleep 0.01; done\n";
    let controller = Builder::new().template(script).config("[supervisor]\nstop_timeout = 3600").start();
    let first = controller.start_client("a");
    controller.log.wait_for("a: up");
    controller.get("/openqq/stop_client?client=a&async=1");
    controller.log.wait_for("a: asked");
    std::thread::scope(|scope| {
        let starts = [(); 5].map(|()| scope.spawn(|| controller.start_client_with("a", "")));
        // It has the account, its files and its port, so nothing may take its place yet.
        assert_eq!(controller.clients().len(), 1);
        assert!(is_running(pid(&first)) && starts.iter().all(|start| !start.is_finished()));
        fs::write(controller.path("go"), "").unwrap();
        let replies = starts.map(|start| start.join().unwrap());
        let second = pid(&replies[0]);
        assert_ne!(second, pid(&first));
        let started = replies.iter().filter(|reply| reply["status"] == "success").count();
        assert_eq!(started, 1, "{replies:?}");
        assert!(replies.iter().all(|reply| reply["code"] == 0 && pid(reply) == second), "{replies:?}");
    });
    check_list_against_processes(&controller);
}

#[test]
fn all_stop_requests_are_answered() {
    let controller = Builder::new().config("[supervisor]\nstop_timeout = 0.2").start();
    let started = controller.start_client_with("a", "fake_ignore_term=1");
    controller.wait_for_listening("a");
    let gone = json!({"code": 1, "status": "client not exists"});
    std::thread::scope(|scope| {
        let stops = [(); 5].map(|()| scope.spawn(|| controller.stop_client("a")));
        for reply in stops.map(|stop| stop.join().unwrap()) {
            assert!(reply["pid"] == started["pid"] || reply == gone, "{reply}");
        }
    });
    assert_eq!(controller.clients(), [] as [Value; 0]);
}

#[test]
fn concurrent_start_and_stop_leave_at_most_one_process() {
    let controller = Controller::new();
    for _ in 0..40 {
        let barrier = Barrier::new(4);
        let replies = std::thread::scope(|scope| {
            let call = |path: &'static str| {
                let (controller, barrier) = (&controller, &barrier);
                scope.spawn(move || {
                    barrier.wait();
                    controller.get(&format!("/openqq/{path}?client=a")).json()
                })
            };
            let calls = ["start_client", "stop_client", "start_client", "stop_client"].map(call);
            calls.map(|call| call.join().unwrap())
        });
        for reply in &replies {
            // Started, there already, stopped, never there, or stopped before it was up.
            assert!([0, 1, 3].contains(&reply["code"].as_u64().unwrap()), "{replies:?}");
        }
        check_list_against_processes(&controller);
    }
}

#[test]
fn two_hundred_starts_and_stops_leave_nothing() {
    let controller = Controller::new();
    let live = |times: u32| {
        for n in 0..times {
            controller.start_client("a");
            if n % 10 == 0 {
                controller.wait_for_listening("a");
            }
            assert_eq!(controller.stop_client("a")["code"], 0);
        }
    };
    live(20);
    // It has 25 without any.
    wait_until("the connections are closed", || entries(&controller, "fd") < 30);
    let threads = entries(&controller, "task");
    let files = entries(&controller, "fd");
    live(200);
    wait_until("no file is left open", || entries(&controller, "fd") <= files);
    // Those of the pool for what blocks come and go.
    assert!(
        entries(&controller, "task") <= threads + 4,
        "{threads} threads became {}",
        entries(&controller, "task")
    );
    assert_eq!(children(&controller).len(), 0);
}

#[test]
fn fifty_concurrent_callers_with_ten_names() {
    let controller = Builder::new().config("max_clients = 8\n[supervisor]\nrestart = \"no\"").start();
    std::thread::scope(|scope| {
        for caller in 0..50_u64 {
            let controller = &controller;
            scope.spawn(move || {
                // A series that looks like chance but is the same each time (Knuth's MMIX).
                let mut chance = caller;
                let mut draw = |below: u64| {
                    chance = chance
                        .wrapping_mul(6_364_136_223_846_793_005)
                        .wrapping_add(1_442_695_040_888_963_407);
                    (chance >> 33) % below
                };
                for _ in 0..20 {
                    let name = format!("c{}", draw(10));
                    let reply = match draw(8) {
                        0..=3 => controller.start_client_with(&name, ""),
                        4 => controller.start_client_with(&name, "fake_exit=1"),
                        5 => controller.get(&format!("/openqq/stop_client?client={name}&async=1")).json(),
                        _ => controller.stop_client(&name),
                    };
                    // All that may come of it: done, not there, stopped before it was up, gone at once, too many.
                    assert!([0, 1, 3, 4, 5].contains(&reply["code"].as_u64().unwrap()), "{reply}");
                }
            });
        }
    });
    // What was to end at once or by itself may still be on its way.
    wait_until("the list holds still", || {
        let clients = controller.clients();
        let mut living = clients.iter().filter(|client| client["phase"] != "gone");
        living.clone().count() == children(&controller).len()
            && living.all(|client| client["phase"] == "up" && is_running(pid(client)))
    });
    // A client that failed is held, and takes no place.
    let takes_place = |client: &&Value| client["held"] == false;
    assert!(controller.clients().iter().filter(takes_place).count() <= 8);
    for n in 0..10 {
        controller.stop_client(&format!("c{n}"));
    }
    assert_eq!(controller.clients(), [] as [Value; 0]);
    assert_eq!(children(&controller).len(), 0, "no process and no zombie is left");
}
