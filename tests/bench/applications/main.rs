//! Applications that speak OneBot v11 to an account: events for three of them at once, actions through door and client, and a thousand
//! accounts that each have connected to one. `cargo bench --profile dist --bench applications` prints a table of what was measured and
//! of what is aimed at; no figure is asserted, but that no event is lost or comes twice. Words after `--` choose parts: events,
//! actions, crowd.
//!
//! The implementation behind the accounts is played (implementation.rs). What goes through door and client is measured beside the
//! same implementation asked directly, in the same run.
//!
//! `WQ_BENCH_CLIENTS=100` tries the crowd with fewer clients, and then looks at them for 10 s instead of 60; `WQ_BENCH_SECONDS` and
//! `WQ_BENCH_RATE` say for how long events are poured, and how many a second.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod actions;
mod crowd;
mod events;
#[path = "../../it/fake.rs"]
#[allow(dead_code, unused_imports)]
mod fake;
#[path = "../../it/fixture.rs"]
#[allow(dead_code)]
mod fixture;
mod hearing;
mod implementation;
#[path = "../../it/output.rs"]
#[allow(dead_code)]
mod output;
#[path = "../processor_time.rs"]
mod processor_time;

use std::fs;
use std::time::Duration;

use fixture::{Builder, Controller};
use implementation::Implementation;
use serde_json::Value;

/// The name of a part, and what measures it and returns the load at its end.
type Part = (&'static str, fn() -> String);

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let parts: [Part; 3] =
        [("events", events::measure), ("actions", actions::measure), ("crowd", crowd::measure)];
    for (name, measure) in parts {
        if arguments.is_empty() || arguments.iter().any(|word| word == name) {
            println!("{name}: load {}", load());
            let at_the_end = measure();
            println!("{:<76} {at_the_end:>35}", "load at the end");
        }
    }
}

/// What a variable says, or this.
fn from_environment(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |value| value.parse().unwrap())
}

fn load() -> String {
    let all = fs::read_to_string("/proc/loadavg").unwrap();
    all.split(' ').take(3).collect::<Vec<_>>().join(" ")
}

/// A controller with one account, `a`, whose implementation is this one; `more` are further parameters, with an `&` before each.
fn one_account(implementation: &Implementation, more: &str) -> Controller {
    let controller = Builder::new().built_in();
    start(&controller, implementation, "a", 10_000, more);
    controller.wait_for_state("a", "running");
    controller
}

/// Starts an account that has this number in the implementation.
fn start(controller: &Controller, implementation: &Implementation, name: &str, number: u64, more: &str) {
    let url = implementation.websocket(number);
    let answer = controller.start_client_with(name, &format!("backend=onebot&onebot_url={url}{more}"));
    assert_eq!(answer["code"], 0, "{answer}");
}

/// The process of an account.
fn pid(account: &Value) -> u32 {
    u32::try_from(account["pid"].as_u64().unwrap()).unwrap()
}

/// The memory of a process, with its share of what others use as well, in MiB.
fn pss(pid: u32) -> f64 {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<f64>().unwrap() / 1024.0
}

/// A share of sorted times, in milliseconds.
fn at(sorted: &[Duration], share: f64) -> f64 {
    sorted.get(((sorted.len().max(1) - 1) as f64 * share) as usize).map_or(f64::NAN, Duration::as_secs_f64)
        * 1000.0
}

/// Prints a line of times.
fn times(name: &str, times: &mut [Duration], aim: &str) {
    times.sort_unstable();
    let [half, most_of, all] = [0.5, 0.99, 1.0].map(|share| format!("{:.2} ms", at(times, share)));
    println!("{name:<76} {half:>11} {most_of:>11} {all:>11}  {aim}");
}

/// Prints a line with one figure.
fn figure(name: &str, value: &str, aim: &str) {
    println!("{name:<76} {value:>35}  {aim}");
}

/// The heading of lines of times.
fn heading() {
    println!("{:<76} {:>11} {:>11} {:>11}  aim", "", "p50", "p99", "most");
}
