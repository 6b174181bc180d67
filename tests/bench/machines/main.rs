//! A door to a hundred machines with ten thousand accounts: its start, its memory, its lists, its events, a machine that is lost, and
//! what it takes while nothing happens. `cargo bench --profile dist --bench machines` prints a table with what is aimed at; no figure is
//! asserted. Words after `--` choose parts: idle, answers, events, lost. `WQ_BENCH_MACHINES=10` and `WQ_BENCH_ACCOUNTS=1000` try it
//! with fewer, and then look at an idle door for 10 s instead of 60; `WQ_BENCH_PROGRAM` names another program, such as that of before a
//! change.
//!
//! The door is the program as it is installed. The controllers of the machines are played (stubs.rs); they and this process have the same
//! processors as the door, so what the door takes is given as processor time as well.

#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "../listeners.rs"]
#[allow(dead_code)]
mod listeners;
#[path = "../processor_time.rs"]
mod processor_time;
#[path = "../small_clients.rs"]
#[allow(dead_code)]
mod small_clients;
mod stubs;

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use listeners::Listeners;
use processor_time::processor_time;
use small_clients::{Connection, ms, row, time};
use stubs::{Mode, Stub, Stubs};

const ROUNDS: usize = 200;
/// A start of `wqctl` costs a process.
const COMMANDS: usize = 30;
const STARTS: usize = 5;
/// Events a second of all machines together, and for how many seconds.
const RATE: u32 = 1000;
const POURED: u32 = 10;
/// How long a machine is away.
const AWAY: Duration = Duration::from_secs(10);

/// The program: another one, such as that of before a change, where `WQ_BENCH_PROGRAM` names it.
fn program() -> std::ffi::OsString {
    std::env::var_os("WQ_BENCH_PROGRAM").unwrap_or_else(|| env!("CARGO_BIN_EXE_wqcontroller").into())
}

/// The door.
struct Door {
    folder: tempfile::TempDir,
    address: SocketAddr,
    child: Option<Child>,
}

impl Door {
    /// A door to these machines, which does not run yet.
    fn new(stubs: &[std::sync::Arc<Stub>]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let mut text = format!(
            "listen = \"{address}\"\ntmpdir = {:?}\nlog_level = \"warn\"\nlog_path = {:?}\n",
            folder.path(),
            folder.path().join("log")
        );
        for stub in stubs {
            text += &format!("[machines.{}]\nurl = '{}'\n", stub.name, stub.url);
        }
        fs::write(folder.path().join("wqcontroller.toml"), text).unwrap();
        Self { folder, address, child: None }
    }

    fn start(&mut self) {
        let mut command = Command::new(program());
        command.env_remove("STATE_DIRECTORY").env("XDG_STATE_HOME", self.folder.path().join("state-home"));
        command.arg("--config").arg(self.folder.path().join("wqcontroller.toml")).stdin(Stdio::null());
        self.child = Some(command.spawn().unwrap());
        while TcpStream::connect(self.address).is_err() {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    fn pid(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }

    /// The processor time that it has taken, in seconds.
    fn took(&self) -> f64 {
        processor_time(&[self.pid().into()])
    }

    /// Waits until so many accounts are listed whose machines have told of them.
    fn until_listed(&self, accounts: usize) {
        let mut connection = Connection::new(self.address);
        let total = format!("\"total\":{accounts},");
        loop {
            let page = connection.get("/v1/clients?limit=1&state=running", "").body;
            if String::from_utf8_lossy(&page).contains(&total) {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.stop();
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let is_wanted = |part: &str| arguments.is_empty() || arguments.iter().any(|word| word == part);
    let number = |key: &str, usual: usize| std::env::var(key).map_or(usual, |count| count.parse().unwrap());
    let (machines, accounts) = (number("WQ_BENCH_MACHINES", 100), number("WQ_BENCH_ACCOUNTS", 10_000));
    let stubs = Stubs::start(machines, accounts);
    println!("{accounts} accounts on {machines} machines, one door; load {}", load());

    let mut alone = Door::new(&[]);
    alone.start();
    Connection::new(alone.address).get("/v1/clients", "");
    std::thread::sleep(Duration::from_secs(2));
    let before = pss(alone.pid());
    drop(alone);

    let mut door = Door::new(&stubs.all);
    measure_starts(&mut door, accounts);
    // First, before its memory and its caches are what the other parts left.
    std::thread::sleep(Duration::from_secs(3));
    print_memory(&door, before, accounts, "once all is listed");
    if is_wanted("idle") {
        let idle = Duration::from_secs(if accounts < 10_000 { 10 } else { 60 });
        std::thread::sleep(Duration::from_secs(5));
        let share = 100.0 * taken(&door, idle) / idle.as_secs_f64();
        println!("{:<64} {share:>6.3} % of a core (aim 0.2 %)", format!("idle for {} s", idle.as_secs()));
    }
    println!("{:<60} {:>9} {:>9} {:>9}", "", "p50", "p99", "most");
    if is_wanted("answers") {
        measure_answers(&door, accounts);
        print_memory(&door, before, accounts, "after these answers");
    }
    if is_wanted("events") {
        measure_events(&door, &stubs.all, accounts);
        print_memory(&door, before, accounts, "after these events");
    }
    if is_wanted("lost") {
        measure_loss(&door, &stubs.all[0]);
    }
    println!("load at the end {}", load());
}

/// From its execution until all accounts are listed: at first, and then with what is remembered.
fn measure_starts(door: &mut Door, accounts: usize) {
    for what in ["the first time", "again, remembered"] {
        let (mut times, mut all) = (Vec::new(), Vec::new());
        for _ in 0..STARTS {
            door.stop();
            if what == "the first time" {
                let _ = fs::remove_dir_all(door.folder.path().join("state-home"));
            }
            times.push(time(|| {
                door.start();
                door.until_listed(accounts);
            }));
            // What follows of itself, such as that it is written down.
            std::thread::sleep(Duration::from_secs(3));
            all.push(door.took() * 1000.0);
        }
        times.sort_unstable();
        all.sort_unstable_by(f64::total_cmp);
        println!(
            "{:<64} {:>6.0} ms (most {:.0} ms), {:.0} ms of the processor",
            format!("start until all are listed, {what}"),
            ms(times[STARTS / 2]),
            ms(times[STARTS - 1]),
            all[STARTS / 2]
        );
    }
}

/// What the door has taken of the processor when this time is over, in seconds.
fn taken(door: &Door, over: Duration) -> f64 {
    let (before, began) = (door.took(), Instant::now());
    std::thread::sleep(over);
    let took = door.took() - before;
    took * over.as_secs_f64() / began.elapsed().as_secs_f64()
}

fn print_memory(door: &Door, before: f64, accounts: usize, when: &str) {
    let now = pss(door.pid());
    println!(
        "{:<64} {:>6.2} KiB an account (aim 3); {before:.1} MiB without machines, {now:.1} MiB with them",
        format!("memory (PSS) {when}"),
        (now - before) * 1024.0 / accounts as f64
    );
}

fn measure_answers(door: &Door, accounts: usize) {
    let mut connection = Connection::new(door.address);
    let (mut whole, mut pages, mut length) = (Vec::new(), Vec::new(), 0);
    let before = door.took();
    for _ in 0..ROUNDS {
        let (mut after, began) = (String::new(), Instant::now());
        length = 0;
        loop {
            let asked = Instant::now();
            let body = connection.get(&format!("/v1/clients?limit=1000{after}"), "").body;
            pages.push(asked.elapsed());
            length += body.len();
            let end = String::from_utf8_lossy(&body[body.len().saturating_sub(100)..]).into_owned();
            match end.split_once("\"next\":\"").map(|(_, next)| next.split('"').next().unwrap()) {
                Some(next) => after = format!("&after={next}"),
                None => break,
            }
        }
        whole.push(began.elapsed());
    }
    let took = (door.took() - before) / ROUNDS as f64;
    row(&format!("GET /v1/clients of all, {} KiB in pages (aim 30 ms)", length / 1024), &mut whole);
    row("    one page of a thousand", &mut pages);
    println!("    processor time of the door for all: {:.1} ms", took * 1000.0);

    let before = door.took();
    let mut times: Vec<_> = (0..ROUNDS)
        .map(|_| time(|| length = connection.get("/openqq/check_client", "").body.len()))
        .collect();
    let took = (door.took() - before) / ROUNDS as f64;
    row(&format!("check_client of all, {} KiB (aim 30 ms)", length / 1024), &mut times);
    println!("    processor time of the door: {:.1} ms", took * 1000.0);
    let mut times: Vec<_> =
        (0..ROUNDS).map(|_| time(|| drop(connection.get("/v1/clients/account-00007", "")))).collect();
    row("GET /v1/clients/NAME of one", &mut times);
    let mut times: Vec<_> =
        (0..ROUNDS).map(|_| time(|| drop(connection.get("/v1/clients?q=account-00007", "")))).collect();
    row("GET /v1/clients?q=NAME", &mut times);

    let url = format!("http://{}", door.address);
    let last = format!("account-{:05} ", accounts - 1);
    let mut times: Vec<_> = (0..COMMANDS)
        .map(|_| {
            let mut command = Command::new(program());
            command.arg0("wqctl").args(["--url", &url, "list"]);
            let began = Instant::now();
            let output = command.output().unwrap();
            let took = began.elapsed();
            assert!(String::from_utf8_lossy(&output.stdout).contains(&last), "{output:?}");
            took
        })
        .collect();
    row("wqctl list of all, a process", &mut times);
}

/// Has accounts change, of all machines in turn, and listens at the door.
fn measure_events(door: &Door, stubs: &[std::sync::Arc<Stub>], accounts: usize) {
    let listeners = Listeners::start(door.address, 1);
    let pause = Duration::from_secs(3);
    let idle = taken(door, pause) / pause.as_secs_f64();
    let (before, began) = (door.took(), Instant::now());
    let mut sent = BTreeMap::new();
    let count = (RATE * POURED) as usize;
    for n in 0..count {
        let due = Duration::from_secs(1) / RATE * n as u32;
        std::thread::sleep(due.saturating_sub(began.elapsed()));
        let stub = &stubs[n % stubs.len()];
        // Of 10,000 accounts none changes twice.
        let (name, at) = stub.change(n / stubs.len() % stub.count());
        sent.entry(name).or_insert(at);
    }
    let mut times = Vec::new();
    let mut heard = BTreeMap::new();
    while heard.len() < sent.len() {
        let told = listeners.next();
        heard.entry(told.name).or_insert(told.at);
    }
    for (name, at) in &heard {
        times.push(at.saturating_duration_since(sent[name]));
    }
    std::thread::sleep(Duration::from_secs(2));
    let (took, over) = (door.took() - before, began.elapsed().as_secs_f64());
    row(&format!("an account changes -> event at one listener, {RATE} a second"), &mut times);
    println!(
        "    {count} events, {} of them of accounts that had not changed before, of {accounts}; processor time of the door for each: \
         {:.1} us",
        sent.len(),
        (took - idle * over) * 1e6 / count as f64
    );
}

/// What the door tells of machines, each with its kind and when; and how many other events.
struct Ear {
    told: mpsc::Receiver<(String, Instant)>,
}

impl Ear {
    fn new(address: SocketAddr) -> Self {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(b"GET /v1/events HTTP/1.0\r\nHost: localhost\r\n\r\n").unwrap();
        let (sender, told) = mpsc::channel();
        std::thread::spawn(move || {
            let mut kind = String::new();
            for line in BufReader::new(stream).lines() {
                let Ok(line) = line else { return };
                match line.split_once(": ") {
                    Some(("event", of)) => of.clone_into(&mut kind),
                    Some(("data", data))
                        if sender.send((format!("{kind} {data}"), Instant::now())).is_err() =>
                    {
                        return;
                    }
                    _ => {}
                }
            }
        });
        let ear = Self { told };
        assert!(ear.until("ready ").0.is_empty());
        ear
    }

    /// What came before an event that begins so, and when that came.
    fn until(&self, begin: &str) -> (Vec<String>, Instant) {
        let mut before = Vec::new();
        loop {
            let (event, at) = self.told.recv_timeout(Duration::from_secs(120)).unwrap();
            if event.starts_with(begin) {
                return (before, at);
            }
            before.push(event);
        }
    }

    /// How many came since.
    fn rest(&self) -> usize {
        self.told.try_iter().count()
    }
}

/// The machine with the most accounts is gone, and comes back.
fn measure_loss(door: &Door, stub: &Stub) {
    let accounts = stub.count();
    let shown = |text: &str| {
        let query = format!("/v1/clients?machine={}", stub.name);
        let list = Connection::new(door.address).get(&query, "").body;
        assert_eq!(String::from_utf8_lossy(&list).matches(text).count(), accounts, "{text}");
    };
    let idle = taken(door, AWAY);
    for (what, mode, is_new) in [
        ("its controller ends", Mode::Gone, false),
        ("its controller ends, and another one comes", Mode::Gone, true),
        ("its cable is out", Mode::Silent, false),
    ] {
        let ear = Ear::new(door.address);
        let (before, began) = (door.took(), Instant::now());
        stub.set(mode);
        let away = format!(r#"machine {{"name":"{}","reason":"#, stub.name);
        let (others, lost) = ear.until(&away);
        shown("\"machine_state\":\"unreachable\"");
        // So long that attempts to reach it count.
        std::thread::sleep(AWAY.saturating_sub(lost.elapsed()));
        let told = 1 + others.len() + ear.rest();
        let over = began.elapsed();
        let took = door.took() - before - idle * over.as_secs_f64() / AWAY.as_secs_f64();
        println!(
            "{:<64} {:>6.1} ms until its {accounts} accounts are shown as unreachable; {told} events, {:.1} ms of the processor in {:.0} s",
            format!("{what}: lost"),
            ms(lost - began),
            took * 1000.0,
            over.as_secs_f64()
        );
        if is_new {
            stub.restart();
        }
        let (before, began) = (door.took(), Instant::now());
        stub.set(Mode::Up);
        let (others, back) = ear.until(&format!(r#"machine {{"name":"{}","state":"reachable""#, stub.name));
        std::thread::sleep(Duration::from_secs(3));
        let told = 1 + others.len() + ear.rest();
        let over = began.elapsed();
        let took = door.took() - before - idle * over.as_secs_f64() / AWAY.as_secs_f64();
        shown("\"state\":\"running\"");
        println!(
            "{:<64} {:>6.0} ms until it is taken up (aim 2,000); {told} events, {:.1} ms of the processor in {:.0} s",
            format!("{what}: back"),
            ms(back - began),
            took * 1000.0,
            over.as_secs_f64()
        );
    }
}

/// The memory of a process, with its share of what others use as well, in MiB.
fn pss(pid: u32) -> f64 {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<f64>().unwrap() / 1024.0
}

fn load() -> String {
    fs::read_to_string("/proc/loadavg").unwrap().trim().to_owned()
}
