//! Sockets that systemd holds: who reaches them, and that callers do not notice a restart.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use crate::machine::{Machine, assert_inside, wait_until};
use crate::service::UNIT;

const SOCKET: &str = "wqcontroller.socket";
const UNIX_SOCKET: &str = "wqcontroller-unix.socket";

impl Machine {
    /// Adds lines to the unit of a socket.
    fn socket_drop_in(&self, unit: &str, text: &str) {
        self.write(&format!("/etc/systemd/system/{unit}.d/50-test.conf"), text);
        self.systemctl(&["daemon-reload"]);
    }

    /// Whether a call through the Unix socket works for this user.
    fn reaches_unix_socket(&self, user: &str) -> bool {
        let call = [
            "--silent",
            "--fail",
            "--unix-socket",
            "/run/wqcontroller.sock",
            "http://localhost/openqq/check_client",
        ];
        let arguments = [&["--reuid", user, "--regid", user, "--init-groups", "curl"][..], &call].concat();
        self.try_run("setpriv", &arguments).status.success()
    }
}

#[test]
fn socket_activation_starts_service_on_both_sockets() {
    let Some(machine) = Machine::boot() else { return };
    machine.configure("listen = \"127.0.0.1:4001\"\n");
    machine.shell("groupadd bots; useradd --groups bots bot; useradd stranger");
    machine.socket_drop_in(UNIX_SOCKET, "[Socket]\nSocketGroup=bots\n");
    machine.systemctl(&["start", SOCKET, UNIX_SOCKET]);
    assert_eq!(machine.property(UNIT, "ActiveState"), "inactive");
    machine.call("check_client", &[]);
    wait_until("it is up", || machine.is_active(UNIT));
    assert!(machine.reaches_unix_socket("bot"));
    assert!(!machine.reaches_unix_socket("stranger"));
    for words in
        ["listening on 127.0.0.1:4000", "listening on unix:/run/wqcontroller.sock", "`listen` has no effect"]
    {
        machine.wait_for_log(words);
    }
    assert!(!machine.try_run("curl", &["--silent", "http://127.0.0.1:4001/"]).status.success());

    // They are not its own to take along.
    machine.systemctl(&["restart", UNIT]);
    assert!(machine.reaches_unix_socket("bot"));
    machine.systemctl(&["stop", SOCKET, UNIX_SOCKET, UNIT]);
    assert!(!machine.try_run("test", &["-e", "/run/wqcontroller.sock"]).status.success());

    // Without them the configuration counts.
    machine.systemctl(&["start", UNIT]);
    machine.run("curl", &["--silent", "--fail", "http://127.0.0.1:4001/openqq/check_client"]);
}

#[test]
fn access_depends_on_address_of_activated_socket() {
    let Some(machine) = Machine::boot() else { return };
    machine.socket_drop_in(SOCKET, "[Socket]\nListenStream=\nListenStream=0.0.0.0:4000\n");
    machine.systemctl(&["start", SOCKET]);
    let refused = |why: &str| {
        assert!(!machine.try_run("systemctl", &["start", UNIT]).status.success());
        assert_eq!(machine.property(UNIT, "ExecMainStatus"), "78");
        let status = machine.property(UNIT, "StatusText");
        assert!(status.contains(why), "{status}");
    };
    refused("opens 0.0.0.0:4000 to the network");
    machine.write("/etc/wqcontroller/token", "0123456789abcdef0123\n");
    machine.shell("chown wqcontroller /etc/wqcontroller/token; chmod 600 /etc/wqcontroller/token");
    machine.configure("[[auth.tokens]]\nname = \"bot\"\nfile = \"/etc/wqcontroller/token\"\n");
    machine.systemctl(&["start", SOCKET, UNIT]);
    let status = |token: &str| {
        let url = format!("http://127.0.0.1:4000/openqq/check_client{token}");
        machine.run("curl", &["--silent", "--output", "/dev/null", "--write-out", "%{http_code}", &url])
    };
    assert_eq!((status("").as_str(), status("?token=0123456789abcdef0123").as_str()), ("401", "200"));

    machine.systemctl(&["stop", SOCKET, UNIT]);
    machine.socket_drop_in(SOCKET, "[Socket]\nFileDescriptorName=door\n");
    machine.systemctl(&["start", SOCKET]);
    refused("a socket with the name \"door\"");
    machine.systemctl(&["stop", SOCKET]);
    machine.socket_drop_in(SOCKET, "[Socket]\nListenStream=\nListenDatagram=127.0.0.1:4000\n");
    machine.systemctl(&["start", SOCKET]);
    refused("the socket \"api\" that the service manager hands over is no TCP or Unix stream socket");
}

/// The commands that the manual has for another address, and what is to be written in the editor.
fn recipe() -> (Vec<String>, String) {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("man/wqcontroller.8");
    let manual = std::fs::read_to_string(path).unwrap();
    let mut blocks =
        manual.split(".Bd -literal -offset indent\n").map(|rest| rest.split(".Ed\n").next().unwrap());
    let commands = blocks.find(|block| block.starts_with("systemctl edit wqcontroller.socket\n")).unwrap();
    let drop_in = blocks.next().unwrap();
    (commands.lines().map(str::to_owned).collect(), drop_in.to_owned())
}

impl Machine {
    /// Types a command at a terminal; the editor that it opens is left with this text.
    fn type_with_editor(&self, command: &str, text: &str) {
        self.write("/root/text", text);
        // Newer versions of systemd name a line before the file.
        self.write("/root/editor", "#!/bin/sh\nfor file; do :; done\ncat /root/text >\"$file\"\n");
        let typed =
            format!("chmod 755 /root/editor; SYSTEMD_EDITOR=/root/editor script -qec '{command}' /dev/null");
        self.shell(&typed);
    }

    fn answers_at(&self, port: u16) -> bool {
        let url = format!("http://127.0.0.1:{port}/openqq/check_client");
        self.try_run("curl", &["--silent", "--fail", &url]).status.success()
    }
}

#[test]
fn socket_address_change_of_manual_works() {
    let Some(machine) = Machine::boot() else { return };
    let (commands, drop_in) = recipe();
    machine.systemctl(&["enable", "--now", SOCKET, UNIX_SOCKET, UNIT]);
    assert!(machine.answers_at(4000));
    let [edit, restart] = &commands[..] else { panic!("{commands:?}") };
    machine.type_with_editor(edit, &drop_in);
    machine.shell(restart);
    assert!(machine.answers_at(4001) && !machine.answers_at(4000));
    wait_until("the service is up", || machine.property(UNIT, "SubState") == "running");
    assert_eq!(told(&machine, &["--unix-socket", "/run/wqcontroller.sock"]), NOBODY);
    assert_eq!(machine.systemctl(&["list-units", "--failed", "--no-legend", "--plain"]), "");
}

#[test]
fn service_fails_when_socket_unit_does_not_listen() {
    let Some(machine) = Machine::boot() else { return };
    machine.systemctl(&["enable", "--now", SOCKET, UNIX_SOCKET, UNIT]);
    let words = "wqcontroller.socket was changed while it was active and no longer listens: run `systemctl restart \
                 wqcontroller.socket`, then `systemctl start wqcontroller`";
    // By a restart, as an upgrade does it, and by a crash.
    for (port, way) in [(4001, &["restart", UNIT][..]), (4002, &["kill", "--signal=KILL", UNIT])] {
        let drop_in = format!("[Socket]\nListenStream=\nListenStream=127.0.0.1:{port}\n");
        machine.socket_drop_in(SOCKET, &drop_in);
        machine.try_run("systemctl", way);
        wait_until("it has failed", || machine.property(UNIT, "ActiveState") == "failed");
        assert_eq!(machine.property(UNIT, "ExecMainStatus"), "78");
        assert_eq!(machine.property(UNIT, "StatusText"), words);
        let log = machine.journal(&["--unit", UNIT, "--priority=err"]);
        assert!(log.contains(words), "{log}");
        // As it says.
        machine.systemctl(&["restart", SOCKET]);
        machine.systemctl(&["start", UNIT]);
        assert!(machine.answers_at(port));
    }
}

#[test]
fn service_waits_for_enabled_socket_with_taken_address() {
    let Some(machine) = Machine::boot() else { return };
    machine.systemctl(&["enable", SOCKET, UNIX_SOCKET]);
    machine.write("/etc/systemd/system/other.socket", "[Socket]\nListenStream=127.0.0.1:4000\n");
    machine.write("/etc/systemd/system/other.service", "[Service]\nExecStart=sleep 1000000\n");
    machine.systemctl(&["start", "other.socket"]);
    assert!(!machine.try_run("systemctl", &["start", UNIT]).status.success());
    wait_until("it says so", || {
        let status = machine.property(UNIT, "StatusText");
        status.contains("wqcontroller.socket is enabled but failed, so its address would refuse connections")
    });
    // It is tried again until it works.
    machine.systemctl(&["stop", "other.socket"]);
    wait_until("it is up", || machine.property(UNIT, "SubState") == "running");
    assert!(machine.answers_at(4000));

    // An operator can do without it.
    machine.systemctl(&["disable", "--now", SOCKET]);
    machine.systemctl(&["start", UNIT]);
    assert!(!machine.answers_at(4000));
    assert_eq!(told(&machine, &["--unix-socket", "/run/wqcontroller.sock"]), NOBODY);
}

#[test]
fn twenty_restarts_drop_no_call() {
    let Some(machine) = Machine::boot() else { return };
    machine.configure("[supervisor]\nclients_outlive_controller = true\n");
    machine.drop_in("[Service]\nKillMode=process\n");
    machine.systemctl(&["start", SOCKET, UNIT]);
    let pid = machine.start_client("a", &[])["pid"].clone();
    machine.wait_for_status("1 client: 1 running; template units");
    println!("{}", machine.run_test("sockets::inside_twenty_restarts"));
    assert_eq!(machine.call("check_client", &[])["client"][0]["pid"], pid, "nor does the client");
}

#[test]
#[ignore = "runs inside of a machine"]
fn inside_twenty_restarts() {
    assert_inside();
    let (stop, done) = (AtomicBool::new(false), AtomicUsize::new(0));
    let paths = ["check_client", "get_user_info?client=a"];
    let failures: Vec<String> = std::thread::scope(|scope| {
        let callers: Vec<_> = (0..8)
            .map(|n| {
                let (stop, done) = (&stop, &done);
                // Some keep their connection, some make a new one for each call.
                scope.spawn(move || call_again_and_again(paths[n % 2], n < 6, stop, done))
            })
            .collect();
        let stopping = Stopping(&stop);
        for _ in 0..20 {
            let before = done.load(Ordering::Relaxed);
            assert!(Command::new("systemctl").args(["restart", UNIT]).status().unwrap().success());
            wait_until("the next one has work to do", || done.load(Ordering::Relaxed) > before + 50);
        }
        drop(stopping);
        callers.into_iter().flat_map(|caller| caller.join().unwrap()).collect()
    });
    println!("{} requests", done.load(Ordering::Relaxed));
    let mut kinds = BTreeMap::<_, usize>::new();
    for failure in failures {
        *kinds.entry(failure).or_default() += 1;
    }
    assert!(kinds.is_empty(), "of {} requests failed: {kinds:#?}", done.load(Ordering::Relaxed));
    // The controller ends 120 kept connections, and waits for a last request on each. None crosses on a quiet machine.
    let crossings = CROSSINGS.load(Ordering::Relaxed);
    assert!(crossings <= 12, "{crossings} requests crossed the end of their connection");
}

/// What is answered where there are no clients.
const NOBODY: &str = r#"{"client":[],"code":0} 200"#;

/// What is said of a call, through whichever socket.
fn told(machine: &Machine, socket: &[&str]) -> String {
    let call = [
        "--silent",
        "--show-error",
        "--write-out",
        " %{http_code}",
        "http://localhost:4000/openqq/check_client",
    ];
    machine.run("curl", &[socket, &call].concat())
}

#[test]
fn callers_are_answered_when_controller_cannot_start() {
    let Some(machine) = Machine::boot() else { return };
    let by_unix = ["--unix-socket", "/run/wqcontroller.sock"];
    let refused =
        r#"{"code":503,"status":"the controller can't start; systemctl status wqcontroller says why"} 503"#;
    machine.configure("max_clients = 0\n");
    machine.systemctl(&["start", SOCKET, UNIX_SOCKET]);
    // More than systemd would start the service for.
    for _ in 0..40 {
        assert_eq!(told(&machine, &[]), refused);
        assert_eq!(told(&machine, &by_unix), refused);
    }
    let status = machine.property(UNIT, "StatusText");
    assert!(status.contains("`max_clients` is 0"), "{status}");
    wait_until("the service has failed", || machine.property(UNIT, "ActiveState") == "failed");
    assert_eq!(machine.property(UNIT, "ExecMainStatus"), "78");

    // The same where the configuration is right, and systemd tries again.
    machine.configure("backend_path = \"/proc/nowhere/backend\"\n");
    for _ in 0..40 {
        assert_eq!(told(&machine, &[]), refused);
    }
    machine.configure("");
    machine.systemctl(&["restart", UNIT]);
    for socket in [&[][..], &by_unix] {
        assert_eq!(told(&machine, socket), NOBODY);
    }
    for unit in [SOCKET, UNIX_SOCKET] {
        assert_eq!(machine.property(unit, "ActiveState"), "active", "{unit}");
    }
}

#[test]
fn fixed_configuration_starts_service_despite_constant_callers() {
    let Some(machine) = Machine::boot() else { return };
    machine.systemctl(&["start", SOCKET]);
    for _ in 0..3 {
        machine.configure("max_clients = 0\n");
        // Each call has systemd start the service, and a start by hand is made one with that.
        let mut callers = machine.command("sh");
        callers.args([
            "-c",
            "until test -e /run/enough; do curl -s http://127.0.0.1:4000/openqq/check_client; done >/run/told",
        ]);
        let mut callers = callers.spawn().unwrap();
        wait_until("they are told", || machine.try_run("grep", &["-q", "503", "/run/told"]).status.success());
        machine.configure("");
        machine.systemctl(&["start", UNIT]);
        assert_eq!(machine.property(UNIT, "ActiveState"), "active");
        machine.shell("touch /run/enough");
        callers.wait().unwrap();
        machine.shell("rm /run/enough");
        machine.systemctl(&["stop", UNIT]);
    }
}

#[test]
fn service_starts_its_enabled_sockets() {
    let Some(machine) = Machine::boot() else { return };
    machine.systemctl(&["enable", UNIX_SOCKET]);
    machine.systemctl(&["start", UNIT]);
    assert_eq!(machine.property(UNIX_SOCKET, "ActiveState"), "active");
    assert_eq!(machine.property(SOCKET, "ActiveState"), "inactive");
    machine.wait_for_log("listening on unix:/run/wqcontroller.sock");
}

/// Stops callers when dropped: also when the test fails, which else would wait for them for ever.
pub struct Stopping<'a>(pub &'a AtomicBool);

impl Drop for Stopping<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// How many requests went out on a kept connection while the controller ended it, and were made once more.
static CROSSINGS: AtomicUsize = AtomicUsize::new(0);

/// Makes calls until `stop` is set, and returns the failures. A call is repeated only if the end of its kept connection crossed it.
pub fn call_again_and_again(path: &str, keep: bool, stop: &AtomicBool, done: &AtomicUsize) -> Vec<String> {
    let mut failures = Vec::new();
    let mut connection = None;
    while !stop.load(Ordering::Relaxed) {
        match call(path, connection.take()) {
            Ok(kept) => connection = kept.filter(|_| keep),
            Err(why) => failures.push(why),
        }
        done.fetch_add(1, Ordering::Relaxed);
    }
    failures
}

/// One call: the connection, if it can be used again.
fn call(path: &str, kept: Option<BufReader<TcpStream>>) -> Result<Option<BufReader<TcpStream>>, String> {
    let state = if kept.is_some() { "kept" } else { "new" };
    let failed =
        |what: &'static str| move |error: std::io::Error| format!("{state} connection, {what}: {error}");
    let is_kept = kept.is_some();
    let mut stream = match kept {
        Some(stream) => stream,
        None => {
            let stream = TcpStream::connect("127.0.0.1:4000").map_err(failed("connect"))?;
            stream.set_read_timeout(Some(Duration::from_secs(300))).unwrap();
            BufReader::new(stream)
        }
    };
    let request = format!("GET /openqq/{path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    stream.get_mut().write_all(request.as_bytes()).map_err(failed("write"))?;
    let (mut length, mut last, mut line) = (0, false, String::new());
    if stream.read_line(&mut line).map_err(failed("read"))? == 0 {
        // The end of the connection and the request can cross each other where the machine stops the controller in between. Every
        // HTTP client then makes another connection (RFC 9112, 9.3.1). On that one there is no such excuse.
        return match is_kept {
            true => {
                CROSSINGS.fetch_add(1, Ordering::Relaxed);
                call(path, None)
            }
            false => Err(format!("{state} connection: no answer")),
        };
    }
    let status = line.trim_end().to_owned();
    loop {
        line.clear();
        stream.read_line(&mut line).map_err(failed("read the headers"))?;
        let header = line.trim_end().to_ascii_lowercase();
        match header.split_once(": ") {
            Some(("content-length", value)) => length = value.parse().unwrap(),
            Some(("connection", value)) => last = value == "close",
            Some(_) => {}
            None => break,
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).map_err(failed("read the body"))?;
    if !status.starts_with("HTTP/1.1 200 ") || !body.starts_with(b"{") {
        return Err(format!("{status}: {}", String::from_utf8_lossy(&body)));
    }
    Ok((!last).then_some(stream))
}
