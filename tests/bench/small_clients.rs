//! A controller with many small clients, and how it is asked and watched: for fleet.rs and cockpit.rs.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A client that is no more than a state file of the usual size and a process.
const TEMPLATE: &str = r#"#!/bin/sh
printf '{"state":"running","account":"%s","pid":%s,"plugin":[{"name":"Mojo::Webqq::Plugin::Openqq","priority":98,"auto_call":null,"call_on_load":1}],"tmpdir":"%s","state_path":"%s","qrcode_path":"%s","pid_path":"%s","log_level":"info","log_path":null,"log_encoding":"utf8","http_debug":"0","os":"linux","start_time":"1477273654","version":"1.2.2","mode":null,"keep_cookie":1,"ua_retry_times":5,"qrcode_count_max":10,"previous_state":"updating"}' \
  "$MOJO_WEBQQ_ACCOUNT" $$ "$MOJO_WEBQQ_TMPDIR" "$MOJO_WEBQQ_STATE_PATH" "$MOJO_WEBQQ_QRCODE_PATH" "$MOJO_WEBQQ_PID_PATH" > "$MOJO_WEBQQ_STATE_PATH"
exec sleep 3600
"#;

/// A controller and its clients, which are named `client0` and so on.
pub struct Fleet {
    pub folder: tempfile::TempDir,
    pub address: SocketAddr,
    pub controller: Child,
    config: PathBuf,
    clients: usize,
}

impl Fleet {
    /// A controller that may have so many clients, without one.
    pub fn new(clients: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let template = folder.path().join("template");
        fs::write(&template, TEMPLATE).unwrap();
        fs::set_permissions(&template, fs::Permissions::from_mode(0o755)).unwrap();
        let config = folder.path().join("wqcontroller.toml");
        let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let text = format!(
            "listen = \"{address}\"\ntmpdir = {:?}\ntemplate_path = {:?}\nmax_clients = {clients}\nbackend_start_port = 20000\n\
             log_level = \"warn\"\nlog_path = {:?}\n[supervisor]\nclients_outlive_controller = true\n",
            folder.path(),
            template,
            folder.path().join("log")
        );
        fs::write(&config, text).unwrap();
        let (controller, _) = start(&config, folder.path(), address);
        Self { folder, address, controller, config, clients }
    }

    /// Starts all clients, one after the other, and waits until they run; how long each start took.
    pub fn start_clients(&self) -> Vec<Duration> {
        let starts = (0..self.clients).map(|n| {
            time(|| {
                let reply = get(self.address, &format!("/openqq/start_client?client=client{n}"));
                assert!(reply.contains("\"success\""), "{reply}");
            })
        });
        let starts = starts.collect();
        self.until_all_run();
        starts
    }

    /// Waits until all clients run.
    pub fn until_all_run(&self) {
        while get(self.address, "/openqq/check_client").matches("\"running\"").count() < self.clients {
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Kills the controller and starts the next one; how long it takes until that serves.
    pub fn restart(&mut self) -> Duration {
        self.kill();
        let (controller, took) = start(&self.config, self.folder.path(), self.address);
        self.controller = controller;
        took
    }

    /// The state file of a client.
    pub fn state_file(&self, n: usize) -> PathBuf {
        self.folder.path().join(format!("mojo_webqq_state_client{n}.json"))
    }

    fn kill(&mut self) {
        self.controller.kill().unwrap();
        self.controller.wait().unwrap();
    }
}

/// Ends all clients and the controller, also where a benchmark fails.
impl Drop for Fleet {
    fn drop(&mut self) {
        for n in 0..self.clients {
            get(self.address, &format!("/openqq/stop_client?client=client{n}&async=1"));
        }
        while get(self.address, "/openqq/check_client").contains("account") {
            std::thread::sleep(Duration::from_millis(20));
        }
        self.kill();
    }
}

/// Starts a controller; returns when it serves, and how long that took. Its registry is in the folder, not that of the user.
fn start(config: &Path, folder: &Path, address: SocketAddr) -> (Child, Duration) {
    let began = Instant::now();
    let mut command = Command::new(env!("CARGO_BIN_EXE_wqcontroller"));
    command.env_remove("STATE_DIRECTORY").env("XDG_STATE_HOME", folder.join("state-home"));
    let child = command.arg("--config").arg(config).stdin(Stdio::null()).spawn().unwrap();
    while ureq::get(format!("http://{address}/openqq/check_client")).call().is_err() {
        std::thread::sleep(Duration::from_millis(1));
    }
    (child, began.elapsed())
}

fn get(address: SocketAddr, path: &str) -> String {
    let mut answer = ureq::get(format!("http://{address}{path}")).call().unwrap();
    answer.body_mut().with_config().limit(1 << 26).read_to_string().unwrap()
}

/// A connection that is kept. By no library: of half a megabyte, one takes longer than the controller.
pub struct Connection(BufReader<TcpStream>);

/// An answer.
pub struct Answer {
    pub head: String,
    pub body: Vec<u8>,
}

impl Connection {
    pub fn new(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        Self(BufReader::with_capacity(1 << 16, stream))
    }

    /// The answer with status 200 or 304. `headers` are lines that end.
    pub fn get(&mut self, path: &str, headers: &str) -> Answer {
        write!(self.0.get_mut(), "GET {path} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n").unwrap();
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert_ne!(self.0.read_line(&mut head).unwrap(), 0, "{path}: the connection has ended: {head}");
        }
        assert!(head.starts_with("HTTP/1.1 200 ") || head.starts_with("HTTP/1.1 304 "), "{path}: {head}");
        let mut answer = Answer { head, body: Vec::new() };
        let length = answer.header("content-length").map_or(0, |length| length.parse().unwrap());
        answer.body.resize(length, 0);
        self.0.read_exact(&mut answer.body).unwrap();
        answer
    }
}

impl Answer {
    /// The value of a header, whose name is in small letters.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.find_map(|(of, value)| of.eq_ignore_ascii_case(name).then_some(value))
    }
}

pub fn time(work: impl FnOnce()) -> Duration {
    let began = Instant::now();
    work();
    began.elapsed()
}

/// Resident memory of a process, in MiB.
pub fn resident(pid: u32) -> f64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<f64>().unwrap() / 1024.0
}

pub fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

/// A line of the table: half, 99 % and all of these times are no longer.
pub fn row(name: &str, times: &mut [Duration]) {
    times.sort_unstable();
    let at = |share: f64| ms(times[((times.len() - 1) as f64 * share) as usize]);
    println!("{name:<60} {:>6.2} ms {:>6.2} ms {:>6.2} ms", at(0.5), at(0.99), at(1.0));
}
