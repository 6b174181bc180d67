//! What clients that are units cost: their starts, compared with the same units started by systemd alone, asked by root and by the
//! controller's user, and restarts of a controller that has many. `cargo bench --profile dist --bench units` boots a machine of its own (tests/systemd/machine.sh, which needs
//! root) and prints a table; no figure is asserted.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../systemd/installed.rs"]
#[allow(dead_code)]
mod installed;
#[path = "../systemd/machine.rs"]
#[allow(dead_code)]
mod machine;

use std::collections::HashSet;
use std::fs;
use std::future::poll_fn;
use std::io::{BufRead, BufReader, Write};
use std::num::NonZeroUsize;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::pin::Pin;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use futures_core::Stream;
use machine::{Machine, assert_inside};
use zbus::message::Type;
use zbus::{Connection, MatchRule, MessageStream, OwnedObjectPath};

/// Starts one after the other, of each kind.
const SEQUENTIAL: usize = 60;
/// Starts at once, and how often.
const AT_ONCE: usize = 50;
const ROUNDS: usize = 7;
/// Clients while the controller is restarted, and how often it is.
const FLEET: usize = 200;
const RESTARTS: usize = 10;

/// Messages that may wait for us.
const QUEUE: NonZeroUsize = NonZeroUsize::new(4096).unwrap();
const SYSTEMD: &str = "org.freedesktop.systemd1";
const UNITS: &str = "/usr/lib/systemd/system";
const RULES: &str = "/usr/share/polkit-1/rules.d";
const LAUNCHES: &str = "/run/wqcontroller/launch";
/// A client that is no more than a process.
const TEMPLATE: &str = "/etc/wqcontroller/template";

fn main() {
    if std::env::args().any(|argument| argument == "inside") {
        return inside();
    }
    if std::env::args().any(|argument| argument == "starter") {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        return runtime.unwrap().block_on(starter());
    }
    let Some(machine) = Machine::boot() else { return };
    print!("{}", machine.run(machine::TESTS, &["inside"]));
    println!();
}

fn inside() {
    assert_inside();
    fs::create_dir_all("/etc/wqcontroller").unwrap();
    fs::write(TEMPLATE, "#!/bin/sh\nexec sleep 1000000\n").unwrap();
    fs::set_permissions(TEMPLATE, fs::Permissions::from_mode(0o755)).unwrap();
    let configuration = format!("max_clients = 1000\ntemplate_path = {TEMPLATE:?}\n");
    fs::write("/etc/wqcontroller/wqcontroller.toml", configuration).unwrap();
    // The bare job: the same unit under another name, by which the controller does not know it.
    fs::copy(format!("{UNITS}/wqclient@.service"), format!("{UNITS}/wqbare@.service")).unwrap();
    let rules = fs::read_to_string(format!("{RULES}/50-wqcontroller.rules")).unwrap();
    fs::write(format!("{RULES}/51-bare.rules"), rules.replace("wqclient", "wqbare")).unwrap();
    systemctl(&["daemon-reload"]);
    systemctl(&["start", "wqcontroller.service"]);
    let mut bare = Bare::new(None);
    let mut asked = Bare::new(Some("wqcontroller"));

    // In turn, so that what else this machine does meets both.
    let (mut bare_starts, mut asked_starts, mut client_starts) = (Vec::new(), Vec::new(), Vec::new());
    for n in 0..SEQUENTIAL + 1 {
        let client = start_clients(&[format!("c{n}")]);
        let bare = bare.start(&[format!("s{n}")]);
        let asked = asked.start(&[format!("a{n}")]);
        // The first ones read files that the others find in memory.
        if n > 0 {
            client_starts.push(client);
            bare_starts.push(bare);
            asked_starts.push(asked);
        }
    }
    stop_all();
    println!("{} x {}", nproc(), model());
    println!("{:<58} {:>9} {:>9} {:>9}", "one after the other", "p50", "p90", "most");
    let bare_p50 = row("StartUnit by root, until the job is done", &mut bare_starts);
    let asked_p50 = row("StartUnit by the controller's user, whom polkit lets", &mut asked_starts);
    let client_p50 = row("start_client, until its answer", &mut client_starts);
    ratios("ratios of p50, to root's and to the user's", client_p50, bare_p50, asked_p50);

    let (mut bare_rates, mut asked_rates, mut client_rates) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..=ROUNDS {
        let names =
            |kind: &str| -> Vec<String> { (0..AT_ONCE).map(|n| format!("{kind}{round}_{n}")).collect() };
        let bare_rate = AT_ONCE as f64 / bare.start(&names("s")).as_secs_f64();
        stop_all();
        let asked_rate = AT_ONCE as f64 / asked.start(&names("a")).as_secs_f64();
        stop_all();
        let client_rate = AT_ONCE as f64 / start_clients(&names("c")).as_secs_f64();
        stop_all();
        if round > 0 {
            bare_rates.push(bare_rate);
            asked_rates.push(asked_rate);
            client_rates.push(client_rate);
        }
    }
    println!("{:<58} {:>9} {:>9} {:>9}", format!("{AT_ONCE} at once, per second"), "median", "least", "most");
    let bare_rate = rates("StartUnit by root", &mut bare_rates);
    let asked_rate = rates("StartUnit by the controller's user", &mut asked_rates);
    let client_rate = rates("start_client", &mut client_rates);
    ratios("ratios of medians", client_rate, bare_rate, asked_rate);

    let fleet: Vec<String> = (0..FLEET).map(|n| format!("f{n}")).collect();
    for part in fleet.chunks(AT_ONCE) {
        start_clients(part);
    }
    let pids = main_pids();
    assert_eq!(pids.len(), FLEET);
    let (mut ready, mut whole) = (Vec::new(), Vec::new());
    for _ in 0..RESTARTS {
        let began = Instant::now();
        systemctl(&["restart", "wqcontroller.service"]);
        whole.push(began.elapsed());
        let at = |name: &str| micros(&show("wqcontroller.service", name));
        ready.push(at("ActiveEnterTimestampMonotonic") - at("ExecMainStartTimestampMonotonic"));
        assert_eq!(get("check_client").matches("\"phase\":\"up\"").count(), FLEET);
        assert_eq!(main_pids(), pids, "a client is another process");
    }
    println!(
        "{:<58} {:>9} {:>9} {:>9}",
        format!("{FLEET} clients, {RESTARTS} restarts"),
        "p50",
        "p90",
        "most"
    );
    row("from execution to READY", &mut ready);
    row("systemctl restart as a whole", &mut whole);
}

/// A program of its own that starts units as any can.
struct Bare {
    child: Child,
    orders: ChildStdin,
    told: BufReader<ChildStdout>,
}

impl Bare {
    /// As this user, or else as root.
    fn new(user: Option<&str>) -> Self {
        let mut command = match user {
            Some(user) => {
                let mut command = Command::new("setpriv");
                command.args(["--reuid", user, "--regid", user, "--clear-groups", machine::TESTS]);
                command
            }
            None => Command::new(machine::TESTS),
        };
        let mut child = command.arg("starter").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (orders, told) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        Self { child, orders, told }
    }

    /// Starts all of these at once: the time until the last one's job was done.
    fn start(&mut self, ids: &[String]) -> Duration {
        for id in ids {
            let file = format!("GENERATION=1\0TEMPLATE={TEMPLATE}\0MOJO_WEBQQ_ACCOUNT={id}\0");
            fs::write(Path::new(LAUNCHES).join(id), file).unwrap();
        }
        writeln!(self.orders, "{}", ids.join(" ")).unwrap();
        let mut line = String::new();
        self.told.read_line(&mut line).unwrap();
        micros(line.trim())
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What [`Bare`] runs: for each line of IDs says how many microseconds it took until all their jobs were done.
async fn starter() {
    let connection = zbus::connection::Builder::system().max_queued(QUEUE).build().await.unwrap();
    let rule = MatchRule::builder().msg_type(Type::Signal).sender(SYSTEMD).member("JobRemoved");
    let mut messages =
        MessageStream::for_match_rule(rule.build().unwrap(), &connection, Some(QUEUE)).await.unwrap();
    manager(&connection, "Subscribe", &()).await;
    for line in std::io::stdin().lines() {
        let units: Vec<String> = line.unwrap().split(' ').map(|id| format!("wqbare@{id}.service")).collect();
        let began = Instant::now();
        let mut calls = tokio::task::JoinSet::new();
        let mut jobs: HashSet<String> = units.iter().cloned().collect();
        for unit in units {
            let connection = connection.clone();
            calls.spawn(async move { manager(&connection, "StartUnit", &(&unit, "fail")).await });
        }
        while !jobs.is_empty() {
            let message = poll_fn(|context| Pin::new(&mut messages).poll_next(context)).await;
            let message = message.unwrap().unwrap();
            let body = message.body();
            let (_, _, unit, result): (u32, OwnedObjectPath, &str, &str) = body.deserialize().unwrap();
            if jobs.remove(unit) {
                assert_eq!(result, "done", "{unit}");
            }
        }
        println!("{}", began.elapsed().as_micros());
        calls.join_all().await;
    }
}

async fn manager<B>(connection: &Connection, member: &str, body: &B)
where
    B: serde::Serialize + zbus::Type + Sync,
{
    let path = "/org/freedesktop/systemd1";
    let interface = "org.freedesktop.systemd1.Manager";
    connection.call_method(Some(SYSTEMD), path, Some(interface), member, body).await.unwrap();
}

/// Starts all of these at once: the time until the last one's answer.
fn start_clients(names: &[String]) -> Duration {
    let began = Instant::now();
    std::thread::scope(|scope| {
        for name in names {
            scope.spawn(move || {
                let reply = get(&format!("start_client?client={name}"));
                assert!(reply.contains("\"status\":\"success\""), "{reply}");
            });
        }
    });
    began.elapsed()
}

/// Ends all units of both kinds, in order that no round bears what an earlier one left.
fn stop_all() {
    let list = get("check_client");
    for part in list.split("\"account\":\"").skip(1) {
        get(&format!("stop_client?async=1&client={}", part.split('"').next().unwrap()));
    }
    systemctl(&["stop", "wqbare@*.service"]);
    while get("check_client").contains("account") {
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn get(path: &str) -> String {
    let mut answer = ureq::get(format!("http://127.0.0.1:4000/openqq/{path}")).call().unwrap();
    answer.body_mut().read_to_string().unwrap()
}

fn systemctl(arguments: &[&str]) {
    assert!(Command::new("systemctl").args(arguments).status().unwrap().success(), "{arguments:?}");
}

fn show(unit: &str, property: &str) -> String {
    let output = Command::new("systemctl").args(["show", "--value", "--property", property, unit]).output();
    String::from_utf8(output.unwrap().stdout).unwrap().trim().to_owned()
}

fn micros(text: &str) -> Duration {
    Duration::from_micros(text.parse().unwrap())
}

/// The main processes of all clients.
fn main_pids() -> Vec<String> {
    let pids = show("wqclient@*.service", "MainPID");
    pids.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

fn nproc() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn model() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap();
    let line = info.lines().find_map(|line| line.strip_prefix("model name"));
    line.unwrap_or_default().trim_start_matches([' ', '\t', ':']).to_owned()
}

/// Prints a line of times; the p50 in ms.
fn row(name: &str, times: &mut [Duration]) -> f64 {
    times.sort_unstable();
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize].as_secs_f64() * 1000.0;
    println!("{name:<58} {:>6.1} ms {:>6.1} ms {:>6.1} ms", at(0.5), at(0.9), at(1.0));
    at(0.5)
}

/// Prints how much `ours` is of what it is without us.
fn ratios(name: &str, ours: f64, by_root: f64, by_user: f64) {
    println!("{name:<58} {:>9.2} {:>9.2}", ours / by_root, ours / by_user);
}

/// Prints a line of rates; their median.
fn rates(name: &str, rates: &mut [f64]) -> f64 {
    rates.sort_unstable_by(f64::total_cmp);
    let median = rates[rates.len() / 2];
    println!("{name:<58} {median:>9.1} {:>9.1} {:>9.1}", rates[0], rates[rates.len() - 1]);
    median
}
