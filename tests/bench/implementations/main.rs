//! Accounts with an implementation: how soon a loss is shown, how soon they are online again after a loss of the network, and what
//! our processes beside an implementation take. `cargo bench --profile dist --bench implementations` prints a table of what was
//! measured and of what is aimed at; no figure is asserted. Words after `--` choose parts: drops, network, memory, idle, crowd, units.
//!
//! It runs in a network namespace of its own, which needs root or user namespaces: only so can the default route go and come. The
//! implementations are played by tests/implementation.py, with heartbeats as the real ones are configured to send them.

#![allow(clippy::unwrap_used, clippy::panic)]

mod crowd;
mod drops;
#[path = "../../it/fake.rs"]
#[allow(dead_code, unused_imports)]
mod fake;
#[path = "../../it/fixture.rs"]
#[allow(dead_code)]
mod fixture;
#[path = "../../systemd/installed.rs"]
#[allow(dead_code)]
mod installed;
#[path = "../../systemd/machine.rs"]
#[allow(dead_code)]
mod machine;
mod memory;
mod network;
#[path = "../../it/output.rs"]
#[allow(dead_code)]
mod output;
#[path = "../../it/implementation/played.rs"]
mod played;
#[path = "../processor_time.rs"]
mod processor_time;
mod units;

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use fixture::{Builder, Controller};
use serde_json::Value;

/// Set in the process that has a network of its own.
const INSIDE: &str = "WQ_BENCH_INSIDE";
/// The start of an account whose implementation is played.
const START: &str = "implementation=own&uin=10001";

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let is_wanted = |name: &str| arguments.is_empty() || arguments.iter().any(|word| word == name);
    if std::env::var_os(INSIDE).is_none() {
        let mut command = Command::new("unshare");
        if !rustix::process::geteuid().is_root() {
            command.arg("--map-root-user");
        }
        command.arg("--net").arg(std::env::current_exe().unwrap()).args(&arguments).env(INSIDE, "1");
        assert!(command.status().unwrap().success(), "it failed in its own network");
        // The machine has networks of its own, and says why where it can't be booted.
        if is_wanted("units") {
            units::measure();
        }
        return;
    }
    ip("link set lo up");
    ip("route add default dev lo");
    println!("{:<76} {:>12} {:>12} {:>10}", "", "p50", "most", "aim");
    let parts: [(&str, fn()); 5] = [
        ("drops", drops::measure),
        ("network", network::measure),
        ("memory", memory::measure),
        ("idle", crowd::measure_idle),
        ("crowd", crowd::measure),
    ];
    for (name, measure) in parts {
        if is_wanted(name) {
            measure();
        }
    }
}

fn ip(words: &str) {
    assert!(Command::new("ip").args(words.split(' ')).status().unwrap().success(), "ip {words}");
}

/// Has the default route go or come, for these controllers. A debug build looks at a file of the test instead.
fn set_network(controllers: &[&Controller], is_there: bool) {
    ip(if is_there { "route add default dev lo" } else { "route del default dev lo" });
    for controller in controllers {
        let file = controller.path("network");
        if is_there { fs::write(file, "").unwrap() } else { fs::remove_file(file).unwrap() }
    }
}

/// A controller whose implementation is of this kind and sends heartbeats as it is configured to.
fn controller(kind: &str, config: &str) -> Controller {
    played::with_kind(Builder::new().env("HEARTBEATS", "configured"), kind, config).built_in()
}

/// Starts an account and scans its code.
fn log_in(controller: &Controller, name: &str) {
    let answer = controller.start_client_with(name, START);
    assert_eq!(answer["code"], 0, "{answer}");
    // Not by its code: of a program that is no known kind none is seen.
    controller.log.wait_for(&format!("{name}: own: up"));
    played::happen_to(controller, name, "online");
}

/// What `check_client` says of an account.
fn account(controller: &Controller, name: &str) -> Value {
    controller.clients().into_iter().find(|client| client["account"] == name).unwrap_or_default()
}

/// Whether it is logged in and, where there is a bridge to it, its client has reached it.
fn is_well(account: &Value, kind: &str) -> bool {
    account["login"]["state"] == "online" && (kind == "yogurt" || account["state"] == "running")
}

/// The process ID of the implementation of an account, while there is one.
fn implementation_pid(account: &Value) -> Option<u64> {
    account["implementation"]["pid"].as_u64()
}

/// Looks again and again until it is so. How long that took.
fn until(mut is_so: impl FnMut() -> bool) -> Duration {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < Duration::from_secs(900), "it never came to this");
        std::thread::sleep(Duration::from_millis(5));
    }
    began.elapsed()
}

/// A share of a time, another one in each round and spread evenly over it.
fn spread(round: usize, over: Duration) -> Duration {
    over.mul_f64((round as f64 * 0.618_034).fract())
}

/// Prints a line of times, in seconds.
fn times(name: &str, times: &mut [Duration], aim: &str) {
    times.sort_unstable();
    let at = |place: usize| format!("{:.2} s", times[place].as_secs_f64());
    println!("{name:<76} {:>12} {:>12} {aim:>10}", at((times.len() - 1) / 2), at(times.len() - 1));
}

/// Prints a line with one figure.
fn figure(name: &str, value: &str, aim: &str) {
    println!("{name:<76} {value:>12} {:>12} {aim:>10}", "");
}
