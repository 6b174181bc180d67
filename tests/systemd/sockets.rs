//! Sockets that systemd holds: who reaches them, and that nobody notices a restart.

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
fn a_call_starts_the_service_and_both_sockets_are_served() {
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
        ["listening on 127.0.0.1:4000", "listening on unix:/run/wqcontroller.sock", "`listen` does not count"]
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
fn what_is_really_listened_on_decides_who_is_let_in() {
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

#[test]
fn nobody_notices_twenty_restarts() {
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
}

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
fn who_calls_a_controller_that_can_t_start_is_told() {
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
        assert_eq!(told(&machine, socket), r#"{"client":[],"code":0} 200"#);
    }
    for unit in [SOCKET, UNIX_SOCKET] {
        assert_eq!(machine.property(unit, "ActiveState"), "active", "{unit}");
    }
}

#[test]
fn who_mends_the_configuration_can_start_it_though_callers_do_so_all_the_time() {
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
fn the_service_starts_those_of_its_sockets_that_are_enabled() {
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

/// Calls until it is told to stop: what failed. Nothing is tried again.
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
    let mut stream = match kept {
        Some(stream) => stream,
        None => {
            let stream = TcpStream::connect("127.0.0.1:4000").map_err(failed("connect"))?;
            stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
            BufReader::new(stream)
        }
    };
    let request = format!("GET /openqq/{path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    stream.get_mut().write_all(request.as_bytes()).map_err(failed("write"))?;
    let (mut length, mut last, mut line) = (0, false, String::new());
    if stream.read_line(&mut line).map_err(failed("read"))? == 0 {
        return Err(format!("{state} connection: no answer"));
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
