//! Signals that come early, and a terminal that hangs up.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::process::Signal;

use super::{Process, send, unix_get, wait_for_socket};
use crate::fixture::{Builder, RELOADED, program, wait_until};
use crate::output::Log;

#[test]
fn sigterm_while_it_starts_ends_it_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("door");
    for _ in 0..20 {
        let builder = Builder::new().config(&format!("listen = \"unix:{}\"", socket.display()));
        let mut command = builder.command(None);
        let mut process = Process::start(command.stderr(Stdio::piped()));
        let mut log = BufReader::new(process.0.stderr.take().unwrap());
        let mut line = String::new();
        log.read_line(&mut line).unwrap();
        assert!(line.contains("wqcontroller starts"), "{line}");
        process.signal(Signal::TERM);
        let status = process.wait();
        let rest = std::io::read_to_string(log).unwrap();
        assert_eq!(status.code(), Some(0), "{status}: {rest}");
        assert!(rest.contains("wqcontroller ends"), "{rest}");
        assert!(!socket.exists() && !builder.path("mojo_webqq_controller_process.pid").exists());
    }
}

#[test]
fn sigterm_ends_it_while_the_configuration_cannot_be_read_yet() {
    let builder = Builder::new();
    let config = builder.path("pipe");
    rustix::fs::mkfifoat(rustix::fs::CWD, &config, rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR).unwrap();
    let mut process = Process::start(Command::new(program()).arg("--config").arg(config));
    process.signal(Signal::TERM);
    assert_eq!(process.wait().signal(), Some(15));
}

/// A process without a terminal of its own, so also in a session of its own.
#[test]
fn without_a_terminal_sighup_never_ends_it() {
    let builder = Builder::new();
    let inner = builder.command(None);
    let mut command = Command::new("setsid");
    command.arg(inner.get_program()).args(inner.get_args()).stdin(Stdio::null());
    // setsid itself becomes the controller, for it leads no group here.
    let mut controller = builder.launch(command);
    for _ in 0..3 {
        controller.reload();
    }
    assert_eq!(controller.end().code(), Some(0));
}

/// A controller on a terminal of its own. `script` holds the terminal; when it is killed the terminal hangs up.
struct OnTerminal {
    script: Process,
    screen: Log,
    controller: u32,
    builder: Builder,
    socket: std::path::PathBuf,
    // Holds its input open, whose end it would pass on.
    _keyboard: std::process::ChildStdin,
}

impl OnTerminal {
    /// `line` is for the shell that leads the session; `PROGRAM` in it stands for the controller and its arguments.
    fn start(config: &str, line: &str) -> Self {
        let builder = Builder::new();
        let socket = builder.path("door");
        let builder = builder.config(&format!("listen = \"unix:{}\"\n{config}", socket.display()));
        let inner = builder.command(None);
        let words = [inner.get_program()].into_iter().chain(inner.get_args());
        let words: Vec<String> = words.map(|word| format!("'{}'", word.to_str().unwrap())).collect();
        // Who runs the tests by nohup ignores the signal, and so would all that they start.
        let mut command = Command::new("env");
        command.args(["--default-signal=HUP", "script"]);
        command.args(["--quiet", "--return", "--command", &line.replace("PROGRAM", &words.join(" "))]);
        command.arg("/dev/null").env("SHELL", "/bin/sh").stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut script = Process::start(&mut command);
        let screen = Log::default();
        screen.follow(script.0.stdout.take().unwrap());
        let keyboard = script.0.stdin.take().unwrap();
        wait_for_socket(&socket);
        let pid = fs::read_to_string(builder.path("mojo_webqq_controller_process.pid")).unwrap();
        let controller = pid.trim().parse().unwrap();
        Self { script, screen, controller, builder, socket, _keyboard: keyboard }
    }

    fn get(&self, path: &str) -> String {
        unix_get(&self.socket, path).unwrap()
    }

    /// Starts a client that is there for good; its pid.
    fn start_client(&self) -> u32 {
        let started = self.get("/openqq/start_client?client=a&sandbox_login_time=86400");
        assert!(started.contains(r#""status":"success""#), "{started}");
        wait_until("the client scans", || self.get("/openqq/check_client").contains(r#""state":"scaning""#));
        let pid = fs::read_to_string(self.builder.path("mojo_webqq_pid_a.pid")).unwrap();
        pid.trim().parse().unwrap()
    }

    fn hang_up(&mut self) {
        self.script.signal(Signal::KILL);
        self.script.wait();
    }

    /// Checks that it ends, and that it does so in order.
    fn ends_with_its_clients(&self, client: u32) {
        wait_until("the controller ends", || !is_running(self.controller));
        assert!(!is_running(client));
        assert!(!self.socket.exists() && !self.builder.path("mojo_webqq_controller_process.pid").exists());
        assert!(!self.builder.path("mojo_webqq_pid_a.pid").exists());
        let state = fs::read_to_string(self.builder.path("mojo_webqq_state_a.json")).unwrap();
        assert!(state.contains(r#""state":"stop""#), "{state}");
    }
}

impl Drop for OnTerminal {
    fn drop(&mut self) {
        // Where a test fails. It is our own grandchild, and no other process has its pid as long as this is so.
        let ours = |path: &Path| fs::read_link(path).is_ok_and(|link| link == Path::new(program()));
        if ours(Path::new(&format!("/proc/{}/exe", self.controller))) {
            send(self.controller, Signal::KILL);
        }
        if std::thread::panicking() {
            eprintln!("---- the screen\n{}----", self.screen.text());
        }
    }
}

#[test]
fn the_log_has_colours_on_a_terminal() {
    let mut controller = OnTerminal::start("", "exec PROGRAM");
    let screen = controller.screen.wait_for("ready");
    assert!(screen.contains("\u{1b}[32m INFO\u{1b}[0m"), "{screen}");
    assert!(!screen.contains("<6>"), "{screen}");
    controller.hang_up();
    wait_until("the controller ends", || !is_running(controller.controller));
}

/// Whether there is such a process. A zombie is none: who should have waited for it may be gone.
fn is_running(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(") ").next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with('Z'))
}

fn parent(pid: u32) -> u32 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("PPid:")).unwrap();
    line.trim().parse().unwrap()
}

#[test]
fn where_its_terminal_hangs_up_it_ends_with_its_clients() {
    for line in ["exec PROGRAM", "PROGRAM; true", "PROGRAM & wait"] {
        let mut session = OnTerminal::start("", line);
        session.screen.wait_for(" ready;");
        let client = session.start_client();
        session.hang_up();
        session.ends_with_its_clients(client);
    }
}

#[test]
fn sighup_reloads_while_the_terminal_is_there() {
    let mut session = OnTerminal::start("", "PROGRAM; true");
    session.screen.wait_for(" ready;");
    let client = session.start_client();
    for times in 1..=3 {
        send(session.controller, Signal::HUP);
        session.screen.wait_for_times(RELOADED, times);
    }
    assert!(is_running(client));
    session.get("/openqq/check_client");
    session.hang_up();
    session.ends_with_its_clients(client);
}

#[test]
fn started_with_nohup_it_outlives_its_terminal() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let config = format!("log_path = {log:?}");
    let mut session = OnTerminal::start(&config, "nohup PROGRAM > /dev/null 2>&1 & wait");
    let client = session.start_client();
    let shell = parent(session.controller);
    session.hang_up();
    wait_until("the shell is gone", || parent(session.controller) != shell);
    send(session.controller, Signal::HUP);
    wait_until("a reload", || fs::read_to_string(&log).unwrap().contains(RELOADED));
    assert!(is_running(client));
    assert!(session.get("/openqq/check_client").contains(r#""account":"a""#));
    send(session.controller, Signal::TERM);
    session.ends_with_its_clients(client);
}

#[test]
fn ctrl_c_on_its_terminal_ends_it_with_its_clients() {
    let session = OnTerminal::start("", "exec PROGRAM");
    let client = session.start_client();
    // The kernel sends this to the foreground group, in which clients are not.
    send(session.controller, Signal::INT);
    session.ends_with_its_clients(client);
}
