//! A thousand small clients: how long `check_client` of all and a scrape of `/metrics` take, how long a restart of the
//! controller does, and what the controller takes while nothing happens. `cargo bench --profile dist --bench fleet` prints a table; no figure is asserted.

#![allow(clippy::unwrap_used, clippy::panic)]

mod processor_time;
mod small_clients;

use std::fs;
use std::time::{Duration, Instant};

use processor_time::processor_time;
use small_clients::{Connection, Fleet, ms, resident, row, time};

const CLIENTS: usize = 1000;
const IDLE: Duration = Duration::from_secs(100);

fn main() {
    let mut fleet = Fleet::new(CLIENTS);
    let began = Instant::now();
    let mut starts = fleet.start_clients();
    let all_started = began.elapsed();

    // Each on a connection of its own, as those who ask seldom do.
    let ask = |path: &str| Connection::new(fleet.address).get(path, "").body;
    let mut checks: Vec<Duration> = (0..200).map(|_| time(|| drop(ask("/openqq/check_client")))).collect();
    let mut scrapes: Vec<Duration> = (0..200).map(|_| time(|| drop(ask("/metrics")))).collect();
    let scraped = ask("/metrics").len();
    let mut reads: Vec<Duration> = (0..20).map(|_| time(|| read_state_files(&fleet))).collect();

    std::thread::sleep(Duration::from_secs(2));
    let busy = processor_time(&[fleet.controller.id().into()]);
    std::thread::sleep(IDLE);
    let idle = (processor_time(&[fleet.controller.id().into()]) - busy) / IDLE.as_secs_f64();
    let memory = resident(fleet.controller.id());

    let restart = fleet.restart();
    let first = Connection::new(fleet.address).get("/openqq/check_client", "").body;
    assert_eq!(
        String::from_utf8_lossy(&first).matches("\"phase\":\"up\"").count(),
        CLIENTS,
        "all are taken up before the first answer"
    );

    println!("{CLIENTS} clients, one controller");
    println!("{:<60} {:>9} {:>9} {:>9}", "", "p50", "p99", "most");
    row("start_client, one after the other", &mut starts);
    row("check_client of all", &mut checks);
    row("the same by reading all state files (for comparison)", &mut reads);
    row(&format!("/metrics, {} KiB", scraped / 1024), &mut scrapes);
    println!("{:<60} {:>6.0} ms", "kill -9 and start, until it serves all", ms(restart));
    println!("{:<60} {:>6.1} s", "all started", all_started.as_secs_f64());
    println!("{:<60} {:>5.1} MiB", "resident memory, idle", memory);
    println!("{:<60} {:>6.3} %", "of one core, idle", idle * 100.0);
}

fn read_state_files(fleet: &Fleet) {
    let all: String = (0..CLIENTS).map(|n| fs::read_to_string(fleet.state_file(n)).unwrap()).collect();
    assert!(all.len() > CLIENTS);
}
