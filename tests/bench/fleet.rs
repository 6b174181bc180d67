//! A thousand small clients: how long `check_client` of all and a scrape of `/metrics` take, how long a restart of the
//! controller does, and what the controller takes while nothing happens. `cargo bench --profile dist --bench fleet` prints a table; no figure is asserted.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const CLIENTS: usize = 1000;
const IDLE: Duration = Duration::from_secs(100);

/// A client that is no more than a state file of the usual size and a process.
const TEMPLATE: &str = r#"#!/bin/sh
printf '{"state":"running","account":"%s","pid":%s,"plugin":[{"name":"Mojo::Webqq::Plugin::Openqq","priority":98,"auto_call":null,"call_on_load":1}],"tmpdir":"%s","state_path":"%s","qrcode_path":"%s","pid_path":"%s","log_level":"info","log_path":null,"log_encoding":"utf8","http_debug":"0","os":"linux","start_time":"1477273654","version":"1.2.2","mode":null,"keep_cookie":1,"ua_retry_times":5,"qrcode_count_max":10,"previous_state":"updating"}' \
  "$MOJO_WEBQQ_ACCOUNT" $$ "$MOJO_WEBQQ_TMPDIR" "$MOJO_WEBQQ_STATE_PATH" "$MOJO_WEBQQ_QRCODE_PATH" "$MOJO_WEBQQ_PID_PATH" > "$MOJO_WEBQQ_STATE_PATH"
exec sleep 3600
"#;

fn main() {
    let folder = tempfile::tempdir().unwrap();
    let template = folder.path().join("template");
    fs::write(&template, TEMPLATE).unwrap();
    fs::set_permissions(&template, fs::Permissions::from_mode(0o755)).unwrap();
    let config = folder.path().join("wqcontroller.toml");
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let text = format!(
        "listen = \"{address}\"\ntmpdir = {:?}\ntemplate_path = {:?}\nmax_clients = {CLIENTS}\nbackend_start_port = 20000\n\
         log_level = \"warn\"\nlog_path = {:?}\n[supervisor]\nclients_outlive_controller = true\n",
        folder.path(),
        template,
        folder.path().join("log")
    );
    fs::write(&config, text).unwrap();

    let (mut controller, _) = start(&config, address);
    let began = Instant::now();
    let mut starts: Vec<Duration> = (0..CLIENTS)
        .map(|n| {
            let began = Instant::now();
            let reply = get(address, &format!("/openqq/start_client?client=client{n}"));
            assert!(reply.contains("\"success\""), "{reply}");
            began.elapsed()
        })
        .collect();
    let all_started = began.elapsed();
    while get(address, "/openqq/check_client").matches("\"running\"").count() < CLIENTS {
        std::thread::sleep(Duration::from_millis(20));
    }

    let mut checks: Vec<Duration> =
        (0..200).map(|_| time(|| drop(get(address, "/openqq/check_client")))).collect();
    let mut scrapes: Vec<Duration> = (0..200).map(|_| time(|| drop(scrape(address)))).collect();
    let scraped = scrape(address).len();
    let mut reads: Vec<Duration> = (0..20).map(|_| time(|| read_state_files(folder.path()))).collect();

    std::thread::sleep(Duration::from_secs(2));
    let busy = cpu_time(controller.id());
    std::thread::sleep(IDLE);
    let idle = (cpu_time(controller.id()) - busy).as_secs_f64() / IDLE.as_secs_f64();
    let memory = resident(controller.id());

    controller.kill().unwrap();
    controller.wait().unwrap();
    let (mut controller, restart) = start(&config, address);
    let first = get(address, "/openqq/check_client");
    assert_eq!(
        first.matches("\"phase\":\"up\"").count(),
        CLIENTS,
        "all are taken up before the first answer"
    );

    println!("{CLIENTS} clients, one controller");
    println!("{:<52} {:>9} {:>9} {:>9}", "", "p50", "p99", "most");
    row("start_client, one after the other", &mut starts);
    row("check_client of all", &mut checks);
    row("the same by reading all state files (for comparison)", &mut reads);
    row(&format!("/metrics, {} KiB", scraped / 1024), &mut scrapes);
    println!("{:<52} {:>6.0} ms", "kill -9 and start, until it serves all", ms(restart));
    println!("{:<52} {:>6.1} s", "all started", all_started.as_secs_f64());
    println!("{:<52} {:>5.1} MiB", "resident memory, idle", memory);
    println!("{:<52} {:>6.3} %", "of one core, idle", idle * 100.0);

    for n in 0..CLIENTS {
        get(address, &format!("/openqq/stop_client?client=client{n}&async=1"));
    }
    while get(address, "/openqq/check_client").contains("account") {
        std::thread::sleep(Duration::from_millis(20));
    }
    controller.kill().unwrap();
    controller.wait().unwrap();
}

/// Starts a controller; returns when it serves, and how long that took.
fn start(config: &Path, address: SocketAddr) -> (Child, Duration) {
    let began = Instant::now();
    let mut command = Command::new(env!("CARGO_BIN_EXE_wqcontroller"));
    let child = command.arg("--config").arg(config).stdin(Stdio::null()).spawn().unwrap();
    while ureq::get(format!("http://{address}/openqq/check_client")).call().is_err() {
        std::thread::sleep(Duration::from_millis(1));
    }
    (child, began.elapsed())
}

fn get(address: SocketAddr, path: &str) -> String {
    let mut answer = ureq::get(format!("http://{address}{path}")).call().unwrap();
    answer.body_mut().read_to_string().unwrap()
}

/// The metrics, by no library: of half a megabyte, one takes longer than the controller.
fn scrape(address: SocketAddr) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = Vec::with_capacity(1 << 20);
    stream.read_to_end(&mut answer).unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 200 "));
    answer
}

fn time(work: impl FnOnce()) -> Duration {
    let began = Instant::now();
    work();
    began.elapsed()
}

fn read_state_files(folder: &Path) {
    let all: String = (0..CLIENTS)
        .map(|n| fs::read_to_string(folder.join(format!("mojo_webqq_state_client{n}.json"))).unwrap())
        .collect();
    assert!(all.len() > CLIENTS);
}

/// The processor time of a process, those of its threads that ended included: utime and stime of proc_pid_stat(5), in
/// hundredths of a second.
fn cpu_time(pid: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    let ticks: u64 = fields[11..13].iter().map(|field| field.parse::<u64>().unwrap()).sum();
    Duration::from_millis(ticks * 10)
}

/// Resident memory of a process, in MiB.
fn resident(pid: u32) -> f64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<f64>().unwrap() / 1024.0
}

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

fn row(name: &str, times: &mut [Duration]) {
    times.sort_unstable();
    let at = |share: f64| ms(times[((times.len() - 1) as f64 * share) as usize]);
    println!("{name:<52} {:>6.2} ms {:>6.2} ms {:>6.2} ms", at(0.5), at(0.99), at(1.0));
}
