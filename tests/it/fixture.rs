//! A controller for one test: its own folder, its own ports, ended with the test.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use rustix::net::{self, AddressFamily, SocketFlags, SocketType};
use serde_json::Value;

use crate::output::Log;

/// Bounds a test that fails. On two throttled cores, with everything beside it, what takes 1 s on its own has taken 60.
pub const PATIENCE: Duration = Duration::from_secs(180);

/// What the log says when the configuration was read again.
pub const RELOADED: &str = "configuration reloaded";

pub struct Controller {
    command: Command,
    process: Child,
    pub address: SocketAddr,
    pub folder: tempfile::TempDir,
    pub first_port: u16,
    pub log: Log,
    _ports: Ports,
}

/// Ports below those that the kernel gives to outgoing connections. No other program gets them, not even another run of these
/// tests beside this one: who has a name in the namespace of the ports has them.
struct Ports(u16, #[expect(dead_code, reason = "held, not used")] UnixDatagram);

impl Ports {
    const COUNT: u16 = 50;

    fn take() -> Self {
        // Begins after those given last, so that ports just left come into use again as late as can be.
        static NEXT: AtomicU16 = AtomicU16::new(0);
        let blocks = || (20_000..32_000).step_by(Self::COUNT.into());
        for _ in 0..blocks().len() {
            let turn = usize::from(NEXT.fetch_add(1, Ordering::Relaxed));
            let first = blocks().nth(turn % blocks().len()).unwrap();
            let name = format!("wqcontroller-test-ports-{first}");
            let name = std::os::unix::net::SocketAddr::from_abstract_name(name).unwrap();
            let Ok(held) = UnixDatagram::bind_addr(&name) else { continue };
            // A run that was killed may have left clients behind, on ports that no run claims any more.
            if (first..first + Self::COUNT).all(is_free) {
                return Self(first, held);
            }
        }
        panic!("all ports are taken");
    }
}

/// Whether a port is free. This does not listen there either: a child that another thread starts at the same time inherits the
/// socket, and a socket that does not listen does not take the port.
fn is_free(port: u16) -> bool {
    let socket =
        net::socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None).unwrap();
    net::sockopt::set_socket_reuseaddr(&socket, true).unwrap();
    net::bind(&socket, &SocketAddr::from((Ipv4Addr::LOCALHOST, port))).is_ok()
}

/// A port of a test's own until the tests end, whether anybody listens on it or not.
pub fn free_port() -> u16 {
    static GIVEN: Mutex<(Vec<Ports>, u16)> = Mutex::new((Vec::new(), 0));
    let mut given = GIVEN.lock().unwrap();
    let (blocks, count) = &mut *given;
    let place = *count % Ports::COUNT;
    if place == 0 {
        blocks.push(Ports::take());
    }
    *count += 1;
    blocks.last().unwrap().0 + place
}

pub struct Builder {
    folder: tempfile::TempDir,
    config: String,
    template: Option<String>,
    env: Vec<(String, String)>,
    first_port: u16,
    ports: Ports,
}

#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: ureq::http::HeaderMap,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {:?}", String::from_utf8_lossy(&self.body)))
    }

    pub fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }
}

impl Builder {
    pub fn new() -> Self {
        let ports = Ports::take();
        Self {
            folder: tempfile::tempdir().unwrap(),
            config: String::new(),
            template: None,
            env: Vec::new(),
            first_port: ports.0,
            ports,
        }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn first_port(&self) -> u16 {
        self.first_port
    }

    pub fn first_port_is(mut self, port: u16) -> Self {
        self.first_port = port;
        self
    }

    /// Adds lines to the configuration; top-level options first.
    pub fn config(mut self, lines: &str) -> Self {
        self.config.push_str(lines);
        self.config.push('\n');
        self
    }

    /// The content of the template. Without one the fake client is run.
    pub fn template(mut self, content: &str) -> Self {
        self.template = Some(content.to_owned());
        self
    }

    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The built-in client, by the template that the controller writes itself.
    pub fn built_in(self) -> Controller {
        let command = self.command(None);
        self.launch(command)
    }

    pub fn start(self) -> Controller {
        let template = self.write_template();
        let command = self.command(Some(&template));
        self.launch(command)
    }

    /// The template, as it is before the controller starts.
    pub fn write_template(&self) -> PathBuf {
        let content = self.template.clone().unwrap_or_else(crate::fake::template);
        self.write_file("template", &content, 0o755)
    }

    /// Writes a file in the folder of this controller.
    pub fn write_file(&self, name: &str, content: &str, mode: u32) -> PathBuf {
        let path = self.path(name);
        write_file(&path, content, mode);
        path
    }

    /// The configuration file, as it is before the controller starts.
    pub fn write_config(&self, template: Option<&Path>) -> PathBuf {
        let mut text = format!("backend_start_port = {}\n", self.first_port);
        for (name, value) in [("listen", "127.0.0.1:0"), ("tmpdir", self.folder.path().to_str().unwrap())] {
            if !self.config.lines().any(|line| line.starts_with(&format!("{name} "))) {
                text.push_str(&format!("{name} = {value:?}\n"));
            }
        }
        if let Some(template) = template {
            text.push_str(&format!("template_path = {:?}\n", template.to_str().unwrap()));
        }
        text.push_str(&named(&self.config));
        let path = self.path("wqcontroller.toml");
        fs::write(&path, text).unwrap();
        path
    }

    /// What starts the controller, for tests that change something about it.
    pub fn command(&self, template: Option<&Path>) -> Command {
        let config = self.write_config(template);
        let mut command = Command::new(program());
        // Not the registry of the user who runs the tests.
        command.env_remove("STATE_DIRECTORY").env("XDG_STATE_HOME", self.path("state-home"));
        command.arg("--config").arg(config).envs(self.env.iter().cloned());
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command
    }

    /// Starts it and waits until it is ready.
    pub fn launch(self, mut command: Command) -> Controller {
        let process = command.stderr(Stdio::piped()).spawn().unwrap();
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let (folder, first_port, log) = (self.folder, self.first_port, Log::default());
        // From here on it ends with the test, ready or not.
        let mut controller =
            Controller { command, process, address, folder, first_port, log, _ports: self.ports };
        controller.become_ready();
        controller
    }
}

/// The configuration, with the names by which tests call the controller where they do not matter, such as `Host: x`.
fn named(config: &str) -> String {
    const HOSTS: &str = "hosts = [\"x\", \"elsewhere\"]";
    if config.lines().any(|line| line.starts_with("hosts ")) {
        return config.to_owned();
    }
    match config.lines().any(|line| line == "[http]") {
        true => config.replacen("[http]\n", &format!("[http]\n{HOSTS}\n"), 1),
        false => format!("http.{HOSTS}\n{config}"),
    }
}

/// The executable under test.
pub fn program() -> &'static str {
    env!("CARGO_BIN_EXE_wqcontroller")
}

impl Controller {
    /// A controller that runs the fake client.
    pub fn new() -> Self {
        Builder::new().start()
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// `path` begins with `/`.
    pub fn get(&self, path: &str) -> Answer {
        self.send(ureq::http::Request::get(self.url(path)).body(()).unwrap())
    }

    pub fn send(&self, request: ureq::http::Request<impl ureq::AsSendBody>) -> Answer {
        let agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .timeout_global(Some(PATIENCE))
            .proxy(None)
            .build()
            .new_agent();
        let (parts, mut body) = agent.run(request).unwrap().into_parts();
        let body = body.with_config().limit(1 << 30).read_to_vec().unwrap();
        Answer { status: parts.status.as_u16(), headers: parts.headers, body }
    }

    /// Bytes as they are; the answer as it comes, until the other side closes.
    pub fn raw(&self, request: &[u8]) -> Vec<u8> {
        let mut stream = self.connect();
        stream.write_all(request).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        answer
    }

    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// Calls `start_client` with more parameters, a query without its first `&`.
    pub fn start_client_with(&self, name: &str, more: &str) -> Value {
        let more = if more.is_empty() { String::new() } else { format!("&{more}") };
        self.get(&format!("/openqq/start_client?client={name}{more}")).json()
    }

    /// Starts a client that must start.
    pub fn start_client(&self, name: &str) -> Value {
        let reply = self.start_client_with(name, "");
        assert_eq!((&reply["code"], &reply["status"]), (&0.into(), &"success".into()), "{reply}");
        reply
    }

    pub fn stop_client(&self, name: &str) -> Value {
        self.get(&format!("/openqq/stop_client?client={name}")).json()
    }

    /// The list of `check_client`.
    pub fn clients(&self) -> Vec<Value> {
        let reply = self.get("/openqq/check_client").json();
        assert_eq!(reply["code"], 0);
        reply["client"].as_array().unwrap().clone()
    }

    /// The state of one client by `check_client`; none where it is not in the list.
    pub fn state(&self, name: &str) -> Option<String> {
        let object = self.clients().into_iter().find(|client| client["account"] == name)?;
        Some(object["state"].as_str().unwrap().to_owned())
    }

    /// Whether it has no process, for good or for now.
    pub fn is_gone(&self, name: &str) -> bool {
        self.clients().iter().all(|client| client["account"] != name || client["phase"] == "gone")
    }

    pub fn wait_for_state(&self, name: &str, state: &str) {
        wait_until(&format!("{name} is {state}"), || self.state(name).as_deref() == Some(state));
    }

    /// Waits until its API answers.
    pub fn wait_for_listening(&self, name: &str) {
        wait_until(&format!("{name} listens"), || {
            self.get(&format!("/openqq/ping?client={name}")).status == 200
        });
    }

    /// What it listens on, in its own words.
    pub fn listening(&self) -> Vec<String> {
        let lines = self.log.text();
        let addresses = lines.lines().filter_map(|line| line.split("listening on ").nth(1));
        addresses.map(|address| address.trim().to_owned()).collect()
    }

    /// Replaces the configuration file, all of it.
    pub fn write_config(&self, text: &str) {
        fs::write(self.path("wqcontroller.toml"), text).unwrap();
    }

    pub fn read_config(&self) -> String {
        fs::read_to_string(self.path("wqcontroller.toml")).unwrap()
    }

    /// Has the configuration read again, which must go well.
    pub fn reload(&self) {
        let before = self.log.count(RELOADED);
        self.signal(rustix::process::Signal::HUP);
        self.log.wait_for_times(RELOADED, before + 1);
    }

    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_raw(i32::try_from(self.pid()).unwrap()).unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// Ends it as systemd does; its exit status.
    pub fn end(&mut self) -> ExitStatus {
        self.signal(rustix::process::Signal::TERM);
        self.wait()
    }

    /// Kills it as nothing else does, and waits until it is gone.
    pub fn kill(&mut self) {
        self.signal(rustix::process::Signal::KILL);
        self.wait();
    }

    /// Starts it anew, after it ended.
    pub fn start_again(&mut self) {
        self.process = self.command.spawn().unwrap();
        self.log = Log::default();
        self.become_ready();
    }

    fn become_ready(&mut self) {
        self.log.follow(self.process.stderr.take().unwrap());
        self.log.wait_for("ready; temporary files are in ");
        if let Some(address) = self.listening().iter().find_map(|address| address.parse().ok()) {
            self.address = address;
        }
    }

    /// Waits until it is gone.
    pub fn wait(&mut self) -> ExitStatus {
        let mut status = None;
        wait_until("the controller is gone", || {
            status = self.process.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

impl Drop for Controller {
    fn drop(&mut self) {
        if let Ok(None) = self.process.try_wait() {
            self.signal(rustix::process::Signal::TERM);
            // Fake clients may refuse SIGTERM; a test is not to wait for their time to run out.
            let deadline = Instant::now() + Duration::from_secs(20);
            while matches!(self.process.try_wait(), Ok(None)) && Instant::now() < deadline {
                self.signal(rustix::process::Signal::INT);
                std::thread::sleep(Duration::from_millis(20));
            }
            let _ = self.process.kill();
            let _ = self.process.wait();
        }
        if std::thread::panicking() {
            let log = self.log.text();
            // Its end, where a client printed more than anybody reads.
            let from = log.len().saturating_sub(50_000);
            let from = log[..from].rfind('\n').map_or(0, |line| line + 1);
            eprintln!("---- the controller's log\n{}----", &log[from..]);
        }
    }
}

/// Writes a file, by another process: a child that another thread starts at the same time inherits what this process has open,
/// and the kernel executes no file that is open for writing.
pub fn write_file(path: &Path, content: &str, mode: u32) {
    let mut install = Command::new("install");
    install.arg("-m").arg(format!("{mode:o}")).arg("/dev/stdin").arg(path);
    let mut installing = install.stdin(Stdio::piped()).spawn().unwrap();
    installing.stdin.take().unwrap().write_all(content.as_bytes()).unwrap();
    assert!(installing.wait().unwrap().success(), "{}", path.display());
}

/// Looks again and again until it is so; fails when it never is.
pub fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "it never came to this: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Whether there is such a process, zombies included.
pub fn is_alive(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

/// Whether there is such a process that is not a zombie. Whose parent is gone is buried by another, at some time.
pub fn is_running(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"));
    stat.is_ok_and(|stat| !stat.rsplit(')').next().unwrap().trim_start().starts_with('Z'))
}

/// Stops every thread of a process, until SIGCONT.
pub fn freeze(pid: u32) {
    let process = rustix::process::Pid::from_raw(pid.try_into().unwrap()).unwrap();
    rustix::process::kill_process(process, rustix::process::Signal::STOP).unwrap();
    // A thread that is just waking up goes on for a moment, and another signal that comes in it counts as well.
    wait_until("it is frozen", || {
        let threads = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
        // One that was just ending may be gone by now.
        let mut stats =
            threads.filter_map(|thread| fs::read_to_string(thread.ok()?.path().join("stat")).ok());
        stats.all(|stat| stat.rsplit_once(") ").unwrap().1.starts_with('T'))
    });
}
