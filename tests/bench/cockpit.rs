//! What people and their programs look at: the list and the events of `/v1`, `/metrics`, the open page and `wqctl`, of a controller
//! with a thousand small clients. `cargo bench --profile dist --bench cockpit` prints a table with what is aimed at; no figure is
//! asserted. Words after `--` choose parts: idle, answers, commands, events, crowd. `WQ_BENCH_CLIENTS=100` tries it with fewer
//! clients, and then looks at an idle controller for 10 s instead of 60.

#![allow(clippy::unwrap_used, clippy::panic)]

mod listeners;
mod open_page;
mod processor_time;
#[allow(dead_code)]
mod small_clients;

use std::fs;
use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use listeners::Listeners;
use open_page::{OpenPage, View};
use processor_time::processor_time;
use rustix::process::{Pid, Signal, kill_process};
use small_clients::{Connection, Fleet, resident, row, time};

const ROUNDS: usize = 500;
/// A start of `wqctl` costs a process.
const COMMANDS: usize = 100;
/// Clients that are killed while nothing else happens: they are started again after a second.
const KILLS_AT_ONCE: usize = 10;
const LISTENERS: usize = 100;
/// How often every client changes while one listener reads nothing.
const BURSTS: usize = 12;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let is_wanted = |part: &str| arguments.is_empty() || arguments.iter().any(|word| word == part);
    let clients = std::env::var("WQ_BENCH_CLIENTS").map_or(1000, |count| count.parse().unwrap());
    let fleet = Fleet::new(clients);
    fleet.start_clients();
    println!(
        "{clients} clients, one controller; load {}",
        fs::read_to_string("/proc/loadavg").unwrap().trim()
    );
    println!("{:<60} {:>9} {:>9} {:>9}", "", "p50", "p99", "most");
    // First, before its memory and its caches are what the other parts left.
    if is_wanted("idle") {
        measure_idle(&fleet, Duration::from_secs(if clients < 1000 { 10 } else { 60 }));
    }
    if is_wanted("answers") {
        measure_answers(&fleet);
    }
    if is_wanted("commands") {
        measure_commands(&fleet);
    }
    if is_wanted("events") {
        measure_events(&fleet, clients);
    }
    if is_wanted("crowd") {
        measure_crowd(&fleet, clients);
    }
    println!("load at the end {}", fs::read_to_string("/proc/loadavg").unwrap().trim());
}

/// Each on one connection that is kept, as a browser and Prometheus do.
fn measure_answers(fleet: &Fleet) {
    let mut connection = Connection::new(fleet.address);
    // The first list has what clients use sampled, and the next ones show it.
    connection.get("/v1/clients", "");
    std::thread::sleep(Duration::from_secs(2));
    let mut times = Vec::new();
    let mut length = 0;
    for _ in 0..ROUNDS {
        let began = Instant::now();
        length = connection.get("/v1/clients", "").body.len();
        times.push(began.elapsed());
    }
    row(&format!("GET /v1/clients of all, {} KiB (aim 5 ms)", length / 1024), &mut times);

    let mut times = Vec::new();
    let mut tag = connection.get("/v1/clients", "").header("etag").unwrap().to_owned();
    // A new sample of what clients use is another list, so an answer in 30 s has it whole.
    while times.len() < ROUNDS {
        let began = Instant::now();
        let answer = connection.get("/v1/clients", &format!("If-None-Match: {tag}\r\n"));
        if answer.head.starts_with("HTTP/1.1 304 ") {
            times.push(began.elapsed());
        }
        tag = answer.header("etag").unwrap().to_owned();
    }
    row("    the same with If-None-Match, 304 (aim 5 ms)", &mut times);

    let mut times: Vec<_> =
        (0..ROUNDS).map(|_| time(|| drop(connection.get("/v1/clients/client7", "")))).collect();
    row("GET /v1/clients/NAME of one (aim 5 ms)", &mut times);
    let mut times: Vec<_> =
        (0..ROUNDS).map(|_| time(|| length = connection.get("/metrics", "").body.len())).collect();
    row(&format!("/metrics, {} KiB (aim 5 ms)", length / 1024), &mut times);
}

/// `wqctl list` and `curl` of the same list, in turn.
fn measure_commands(fleet: &Fleet) {
    let url = format!("http://{}", fleet.address);
    let program = env!("CARGO_BIN_EXE_wqcontroller");
    let (mut ours, mut theirs, mut bare) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..COMMANDS {
        ours.push(run(Command::new(program).arg0("wqctl").args(["--url", &url, "list"]), "client7 "));
        theirs.push(run(Command::new("curl").args(["-sS", &format!("{url}/v1/clients")]), "\"client7\""));
        bare.push(run(Command::new(program).arg0("wqctl").arg("--version"), "wqctl "));
    }
    row("wqctl list of all, a process (aim 20 ms)", &mut ours);
    row("    curl of the same list, for comparison", &mut theirs);
    row("    wqctl --version, which asks nothing", &mut bare);
}

/// How long a command takes until its output is read and it has ended.
fn run(command: &mut Command, printed: &str) -> Duration {
    let began = Instant::now();
    let output = command.output().unwrap();
    let took = began.elapsed();
    assert!(
        output.status.success() && String::from_utf8_lossy(&output.stdout).contains(printed),
        "{output:?}"
    );
    took
}

/// From a change to what one listener reads of it.
fn measure_events(fleet: &Fleet, clients: usize) {
    let listeners = Listeners::start(fleet.address, 1);
    let mut changes = measure_state_changes(fleet, &listeners, 1, ROUNDS.min(clients));
    row("state file -> event at one listener", &mut changes);
    let mut kills = measure_kills(fleet, &listeners, 1, 0..ROUNDS.min(clients / 2) / 5);
    row("kill -9 -> event at one listener", &mut kills);
}

/// Has states of clients change, one after the other.
fn measure_state_changes(fleet: &Fleet, listeners: &Listeners, count: usize, rounds: usize) -> Vec<Duration> {
    let mut times = Vec::new();
    for n in 0..rounds {
        let name = format!("client{n}");
        for (from, to) in [("running", "updating"), ("updating", "running")] {
            let began = change_state(&fleet.state_file(n), from, to);
            let arrived = listeners.until(count, |told| told.name == name && told.state == to);
            times.extend(arrived.into_iter().map(|at| at - began));
        }
    }
    times
}

/// Writes the next state into a state file; when it was there.
fn change_state(file: &Path, from: &str, to: &str) -> Instant {
    let text = fs::read_to_string(file).unwrap();
    let next = text.replacen(&format!("\"state\":\"{from}\""), &format!("\"state\":\"{to}\""), 1);
    assert_ne!(next, text, "{from}");
    let new = file.with_extension("next");
    fs::write(&new, next).unwrap();
    let began = Instant::now();
    fs::rename(&new, file).unwrap();
    began
}

/// Kills clients, some of them one after the other, and waits for their new starts before the next ones.
fn measure_kills(
    fleet: &Fleet,
    listeners: &Listeners,
    count: usize,
    clients: std::ops::Range<usize>,
) -> Vec<Duration> {
    let (mut times, all) = (Vec::new(), clients.clone().collect::<Vec<_>>());
    for some in all.chunks(KILLS_AT_ONCE) {
        let mut connection = Connection::new(fleet.address);
        let pids: Vec<_> = some.iter().map(|n| pid(&mut connection, *n)).collect();
        for (n, pid) in some.iter().zip(pids) {
            let name = format!("client{n}");
            let began = Instant::now();
            kill_process(pid, Signal::KILL).unwrap();
            let arrived = listeners.until(count, |told| told.name == name && told.phase == "gone");
            times.extend(arrived.into_iter().map(|at| at - began));
        }
        fleet.until_all_run();
        listeners.until_quiet();
    }
    times
}

/// The process of a client.
fn pid(connection: &mut Connection, n: usize) -> Pid {
    let answer = connection.get(&format!("/v1/clients/client{n}"), "");
    let account: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
    Pid::from_raw(account["client"]["pid"].as_i64().unwrap().try_into().unwrap()).unwrap()
}

/// The same with a hundred listeners, of which one reads nothing.
fn measure_crowd(fleet: &Fleet, clients: usize) {
    let controller = fleet.controller.id();
    // So many changes that the controller has as many of them in memory as it ever keeps.
    let listeners = Listeners::start(fleet.address, 1);
    for _ in 0..3 {
        burst(fleet, &listeners, 1, clients);
    }
    drop(listeners);
    let before = (resident(controller), pss(controller));

    let mut silent = std::net::TcpStream::connect(fleet.address).unwrap();
    silent.write_all(b"GET /v1/events HTTP/1.0\r\nHost: localhost\r\n\r\n").unwrap();
    let readers = LISTENERS - 1;
    let listeners = Listeners::start(fleet.address, readers);
    let with = (resident(controller), pss(controller));
    let mut changes = measure_state_changes(fleet, &listeners, readers, ROUNDS.min(clients / 2));
    row(&format!("state file -> event at {readers} listeners, one more reads nothing"), &mut changes);
    let mut kills = measure_kills(fleet, &listeners, readers, clients / 2..clients / 2 + clients / 10);
    row(&format!("kill -9 -> event at {readers} listeners, one more reads nothing"), &mut kills);

    // More than the kernel takes for the one that reads nothing.
    let began = Instant::now();
    for _ in 0..BURSTS {
        burst(fleet, &listeners, readers, clients);
    }
    let took = began.elapsed().as_secs_f64();
    let events = BURSTS * clients * 2;
    println!(
        "{events} changes in bursts, told to {readers} listeners: {took:.1} s, {:.0} events a second",
        (events * readers) as f64 / took
    );
    let after = (resident(controller), pss(controller));
    let line = |what: &str, (resident, pss): (f64, f64)| {
        println!("{what:<60} {resident:>5.1} MiB resident, {pss:.1} MiB PSS");
    };
    line("the controller, before there are listeners", before);
    line(&format!("    with {LISTENERS} listeners"), with);
    line(&format!("    after {events} changes, one reads nothing"), after);
    // What was waiting for it: as much as fits into the buffers of the kernel, and then the end or a gap that it is told of.
    silent.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    let mut waiting = Vec::new();
    let how = match silent.read_to_end(&mut waiting) {
        Ok(_) => "it was closed",
        Err(_) => "it is open",
    };
    let missed = waiting.windows(13).filter(|part| part == b"event: missed").count();
    println!("    the one that read nothing finds {} KiB, {missed} x missed; {how}", waiting.len() / 1024);
    drop(silent);
    drop(listeners);
    std::thread::sleep(Duration::from_secs(2));
    line("    after all listeners have left", (resident(controller), pss(controller)));
}

/// Has the state of every client change twice, and waits until all listeners have heard of the second one.
fn burst(fleet: &Fleet, listeners: &Listeners, count: usize, clients: usize) {
    for (from, to) in [("running", "updating"), ("updating", "running")] {
        for n in 0..clients {
            change_state(&fleet.state_file(n), from, to);
        }
        listeners.until(count * clients, |told| told.state == to);
    }
}

/// The memory of a process, with its share of what others use as well, in MiB.
fn pss(pid: u32) -> f64 {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<f64>().unwrap() / 1024.0
}

fn measure_idle(fleet: &Fleet, idle: Duration) {
    let controller = [fleet.controller.id().into()];
    // What was asked for last, such as what clients use, is over by then.
    std::thread::sleep(Duration::from_secs(5));
    for (what, view) in [
        ("no page", None),
        ("one page, the list (aim 0.1 %)", Some(View::List)),
        ("one page, an account (aim 0.1 %)", Some(View::Account("client7"))),
        ("no page, once more", None),
    ] {
        let page = view.map(|view| OpenPage::open(fleet.address, view));
        // Opening it is not part of what it costs while nothing happens.
        std::thread::sleep(Duration::from_secs(3));
        let before = processor_time(&controller);
        let began = Instant::now();
        std::thread::sleep(idle);
        let share = (processor_time(&controller) - before) / began.elapsed().as_secs_f64();
        let asked = page.map_or(String::new(), |page| page.close());
        println!(
            "{:<60} {:>6.3} % {asked}",
            format!("of one core, idle for {} s: {what}", idle.as_secs()),
            share * 100.0
        );
    }
}
