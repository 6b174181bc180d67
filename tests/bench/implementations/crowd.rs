//! A hundred accounts: what they cost while nothing happens, and how they come back after a loss of the network.

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::fixture::{Builder, Controller, PATIENCE};
use crate::played::{happen_to, with_kind};
use crate::processor_time::processor_time;
use crate::{figure, implementation_pid, is_well, log_in, set_network, spread, times, until};

const ACCOUNTS: usize = 100;
const IDLE: Duration = Duration::from_secs(60);
/// How long the network is away.
const WITHOUT: Duration = Duration::from_secs(10);

fn start(kind: &str) -> Controller {
    // No program but ours is in this network, so all ports are free.
    let builder = Builder::new().first_port_is(20_000).env("HEARTBEATS", "configured");
    let config = format!("max_clients = {ACCOUNTS}\nimplementation_start_port = 22000\n");
    let controller = with_kind(builder, kind, &config).built_in();
    std::thread::scope(|scope| {
        for part in 0..4 {
            let controller = &controller;
            scope.spawn(move || {
                for n in (part..ACCOUNTS).step_by(4) {
                    log_in(controller, &name(n));
                }
            });
        }
    });
    until(|| controller.clients().iter().all(|account| is_well(account, kind)));
    controller
}

fn name(n: usize) -> String {
    format!("c{n}")
}

pub fn measure_idle() {
    for kind in ["llbot", "napcat", "yogurt"] {
        let controller = start(kind);
        std::thread::sleep(Duration::from_secs(15));
        let clients: Vec<u64> =
            controller.clients().iter().map(|client| client["pid"].as_u64().unwrap()).collect();
        let cpu = || [processor_time(&[controller.pid().into()]), processor_time(&clients)];
        let (before, calls) = (cpu(), count_calls(&controller));
        std::thread::sleep(IDLE);
        let (after, all_calls) = (cpu(), count_calls(&controller));
        let share = |of: usize| format!("{:.2} %", (after[of] - before[of]) / IDLE.as_secs_f64() * 100.0);
        figure(&format!("{kind}: {ACCOUNTS} accounts at rest, the controller, of a core"), &share(0), "");
        figure("    all clients together, of a core", &share(1), "");
        let rate = (all_calls - calls) as f64 / IDLE.as_secs_f64();
        figure("    calls that all implementations get, a second", &format!("{rate:.1}"), "");
    }
}

/// The calls that all implementations got so far.
fn count_calls(controller: &Controller) -> u64 {
    let file = |n: usize| controller.path("implementations").join(name(n)).join("calls");
    for n in 0..ACCOUNTS {
        let _ = fs::remove_file(file(n));
        happen_to(controller, &name(n), "count");
    }
    let read = |n| {
        let mut text = String::new();
        until(|| {
            text = fs::read_to_string(file(n)).unwrap_or_default();
            !text.is_empty()
        });
        text.parse::<u64>().unwrap()
    };
    (0..ACCOUNTS).map(read).sum()
}

pub fn measure() {
    let controller = start("llbot");
    come_back(&controller, "all try again within 5 s", |n| Some(spread(n, Duration::from_secs(5))));
    come_back(&controller, "all try again within 30 s", |n| Some(spread(n, Duration::from_secs(30))));
    come_back(&controller, "a tenth never tries again", |n| {
        (n % 10 != 0).then(|| spread(n, Duration::from_secs(30)))
    });
    come_back(&controller, "none tries again", |_| None);
}

/// Has the network go and come. `tries` says how long after its return an implementation logs in again by itself.
fn come_back(controller: &Controller, what: &str, tries: impl Fn(usize) -> Option<Duration>) {
    let pids = |accounts: &[Value]| -> BTreeMap<String, Option<u64>> {
        accounts.iter().map(|account| (account["account"].to_string(), implementation_pid(account))).collect()
    };
    let before = pids(&controller.clients());
    let began = Instant::now();
    set_network(&[controller], false);
    for n in 0..ACCOUNTS {
        happen_to(controller, &name(n), "offline");
    }
    until(|| controller.clients().iter().all(|account| account["login"]["state"] == "offline"));
    std::thread::sleep(WITHOUT.saturating_sub(began.elapsed()));
    assert_eq!(pids(&controller.clients()), before, "one was started anew without network");

    set_network(&[controller], true);
    let restored = Instant::now();
    let mut waiting: Vec<_> = (0..ACCOUNTS).filter_map(|n| Some((tries(n)?, n))).collect();
    let (mut at_a_time, mut restarts, mut seen) = (0, 0, before.clone());
    let mut online = Vec::new();
    loop {
        waiting.retain(|(after, n)| {
            let is_due = restored.elapsed() >= *after;
            if is_due {
                happen_to(controller, &name(*n), "online");
            }
            !is_due
        });
        let accounts = controller.clients();
        let is_starting = |account: &&Value| {
            let pid = implementation_pid(account);
            pid != before[&account["account"].to_string()] && account["login"]["state"] != "online"
        };
        at_a_time = at_a_time.max(accounts.iter().filter(is_starting).count());
        for (name, pid) in pids(&accounts) {
            if pid.is_some() && seen[&name] != pid {
                restarts += 1;
                seen.insert(name, pid);
            }
        }
        let well = accounts.iter().filter(|account| is_well(account, "llbot")).count();
        online.resize(online.len().max(well), restored.elapsed());
        if well == ACCOUNTS {
            break;
        }
        assert!(restored.elapsed() < PATIENCE * 20, "they are never online again");
        std::thread::sleep(Duration::from_millis(20));
    }
    times(&format!("{ACCOUNTS} accounts after a loss of the network, {what}"), &mut online, "60 s");
    figure("    most starts at a time", &at_a_time.to_string(), "4");
    figure("    new starts in all", &restarts.to_string(), "");
}
