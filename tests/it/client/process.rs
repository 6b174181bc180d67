//! [`Client`]: a running client with a folder of its own, and [`until`], which waits for what must come.

use std::fs::File;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;
use wqcontroller::model::state::StateReport;

use crate::fixture::free_port;

/// How long anything may take before a test gives up. Nothing is fast enough or too slow by this.
pub(crate) const PATIENCE: Duration = Duration::from_secs(180);

/// Asks `what` again and again until it has an answer.
pub(crate) fn until<T>(name: &str, mut what: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = what() {
            return answer;
        }
        assert!(Instant::now() < deadline, "waited in vain for {name}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The folder, port and environment of a client that may be started.
pub(crate) struct Setup {
    pub(crate) folder: TempDir,
    pub(crate) port: u16,
    vars: Vec<(String, String)>,
}

impl Setup {
    /// A client that logs in at once and sends without a pause, but for what `vars` say (names without prefix).
    pub(crate) fn new(vars: &[(&str, &str)]) -> Self {
        let (folder, port) = (tempfile::tempdir().unwrap(), free_port());
        let mut setup = Self { port, vars: Vec::new(), folder };
        let tmpdir = setup.folder.path().to_str().unwrap().to_owned();
        setup.set("ACCOUNT", ACCOUNT);
        setup.set("PLUGIN_OPENQQ_PORT", &port.to_string());
        setup.set("TMPDIR", &tmpdir);
        setup.set("LOG_LEVEL", "debug");
        setup.set("SANDBOX_LOGIN_TIME", "0");
        setup.set("SEND_INTERVAL", "0");
        for (name, value) in vars {
            setup.set(name, value);
        }
        setup
    }

    /// Sets one more variable.
    pub(crate) fn set(&mut self, name: &str, value: &str) {
        self.vars.push((format!("MOJO_WEBQQ_{name}"), value.to_owned()));
    }

    /// Sets a variable that is not one of ours.
    pub(crate) fn environment(&mut self, name: &str, value: &str) {
        self.vars.push((name.to_owned(), value.to_owned()));
    }

    /// The command, with output that goes to the log, and nothing of our own environment.
    pub(crate) fn command(&self, program: &str) -> Command {
        let log = File::options().create(true).append(true).open(self.path("log")).unwrap();
        let mut command = Command::new(program);
        command.env_clear().envs(self.vars.iter().cloned()).stdin(std::process::Stdio::null());
        command.stdout(log.try_clone().unwrap()).stderr(log);
        command
    }

    /// Starts the client.
    pub(crate) fn start(self) -> Client {
        let child = self.command(PROGRAM).arg("client").spawn().unwrap();
        Client { child, setup: self }
    }

    /// Runs a client that ends by itself: its status and what it said.
    pub(crate) fn run(&self) -> (Option<i32>, String) {
        let mut command = self.command(PROGRAM);
        let mut child = command.arg("client").stderr(std::process::Stdio::piped()).spawn().unwrap();
        let mut stderr = child.stderr.take().unwrap();
        // It says little, but a full pipe would hold it up.
        let said = std::thread::spawn(move || {
            let mut said = String::new();
            stderr.read_to_string(&mut said).map(|_| said)
        });
        let deadline = Instant::now() + PATIENCE;
        let status = loop {
            match child.try_wait().unwrap() {
                Some(status) => break status,
                None if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(5)),
                None => {
                    child.kill().unwrap();
                    child.wait().unwrap();
                    panic!("a client that should end by itself runs on:\n{}", self.log());
                }
            }
        };
        (status.code(), said.join().unwrap().unwrap())
    }

    /// The same client for another account.
    pub(crate) fn account(mut self, account: &str) -> Self {
        self.set("ACCOUNT", account);
        // The names of the files, as the other tests look for them.
        for (name, path) in [
            ("STATE_PATH", format!("mojo_webqq_state_{ACCOUNT}.json")),
            ("QRCODE_PATH", format!("mojo_webqq_qrcode_{ACCOUNT}.jpg")),
        ] {
            let path = self.path(&path).to_str().unwrap().to_owned();
            self.set(name, &path);
        }
        self
    }

    /// A file in the client's folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The state file, if it is there. It must never be half of one.
    pub(crate) fn report(&self) -> Option<StateReport> {
        let content = std::fs::read(self.path(&format!("mojo_webqq_state_{ACCOUNT}.json"))).ok()?;
        Some(StateReport::parse(&content).unwrap())
    }

    /// Waits for a state.
    pub(crate) fn until_state(&self, state: &str) {
        until(state, || self.report().filter(|report| report.state.as_str() == state));
    }

    /// The image of the login code.
    pub(crate) fn image(&self) -> PathBuf {
        self.path(&format!("mojo_webqq_qrcode_{ACCOUNT}.jpg"))
    }

    /// The pid file.
    pub(crate) fn pid_file(&self) -> PathBuf {
        self.path(&format!("mojo_webqq_pid_{ACCOUNT}.pid"))
    }

    /// What was logged so far.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.path("log")).unwrap_or_default()
    }
}

pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_wqcontroller");

/// The account of every client here: a name that a careless program would stumble over.
pub(crate) const ACCOUNT: &str = "小明 & co";

/// A client that runs. Dropped, it is killed.
pub(crate) struct Client {
    child: Child,
    pub(crate) setup: Setup,
}

impl Client {
    /// A client that has reached the state `running`.
    pub(crate) fn running(vars: &[(&str, &str)]) -> Self {
        let client = Setup::new(vars).start();
        client.setup.until_state("running");
        client
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_raw(self.child.id().cast_signed()).unwrap(), signal).unwrap();
    }

    /// Starts it once more, after it ended, and waits until its API can be used.
    pub(crate) fn start_again(&mut self) {
        self.child = self.setup.command(PROGRAM).arg("client").spawn().unwrap();
        let port = self.setup.port;
        until("the API of the next client", || {
            request(port, "GET /openqq/get_user_info", "", "").filter(|answer| answer.status == 200)
        });
    }

    /// Ends it as a shutdown of the machine does, if it has not ended yet, and starts it once more.
    pub(crate) fn restart(&mut self) {
        if self.child.try_wait().unwrap().is_none() {
            self.signal(Signal::TERM);
        }
        self.until_exit();
        self.child = self.setup.command(PROGRAM).arg("client").spawn().unwrap();
    }

    /// Waits for the end of the process.
    pub(crate) fn until_exit(&mut self) -> ExitStatus {
        until("the end of the client", || self.child.try_wait().unwrap())
    }

    /// Sends a GET request.
    pub(crate) fn get(&self, path: &str) -> Answer {
        request(self.setup.port, &format!("GET {path}"), "", "").unwrap()
    }

    /// Sends a POST request with a form.
    pub(crate) fn post(&self, path: &str, form: &str) -> Answer {
        let form_type = "Content-Type: application/x-www-form-urlencoded\r\n";
        request(self.setup.port, &format!("POST {path}"), form_type, form).unwrap()
    }

    /// Sends a request with a method of its own, without a body.
    pub(crate) fn call(&self, method: &str, path: &str) -> Answer {
        request(self.setup.port, &format!("{method} {path}"), "", "").unwrap()
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("the client's log:\n{}", self.setup.log());
        }
    }
}

/// The answer to a request.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    head: String,
    pub(crate) body: String,
}

impl Answer {
    /// The value of a header.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let named = |line: &&str| line.split(':').next().is_some_and(|n| n.eq_ignore_ascii_case(name));
        self.head.lines().find(named).map(|line| line[name.len() + 1..].trim())
    }

    /// The body as JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// One request on a connection of its own. `what` is the method and the path. None: no program listens.
pub(crate) fn request(port: u16, what: &str, headers: &str, body: &str) -> Option<Answer> {
    Some(read_answer(send_request(port, what, headers, body)?))
}

/// Sends a request, as [`request`] does, and leaves the answer for later.
pub(crate) fn send_request(port: u16, what: &str, headers: &str, body: &str) -> Option<TcpStream> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    let length = body.len();
    let head =
        format!("{what} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nContent-Length: {length}\r\n");
    // A server that refuses the request need not read all of it.
    let _ = stream.write_all(format!("{head}{headers}\r\n{body}").as_bytes());
    Some(stream)
}

/// Reads the answer to a request that was sent.
pub(crate) fn read_answer(mut stream: TcpStream) -> Answer {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut answer = Vec::new();
    let read = stream.read_to_end(&mut answer);
    let answer = String::from_utf8(answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{read:?}: {answer:?}"));
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer { status, head: head.to_owned(), body: body.to_owned() }
}

/// Reads the code in an image with a decoder that has nothing in common with the encoder.
pub(crate) fn scan(image: &[u8]) -> String {
    let mut reader = png::Decoder::new(std::io::Cursor::new(image)).read_info().unwrap();
    let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
    let info = reader.next_frame(&mut pixels).unwrap();
    let (width, height) = (info.width as usize, info.height as usize);
    let mut image = rqrr::PreparedImage::prepare_from_greyscale(width, height, |x, y| pixels[y * width + x]);
    let grids = image.detect_grids();
    assert_eq!(grids.len(), 1);
    grids[0].decode().unwrap().1
}

/// The permission bits of a file.
pub(crate) fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(path).unwrap().permissions().mode() & 0o7777
}
