//! `sandbox`: a controller, a world and an account in one command.

use std::collections::BTreeSet;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio_tungstenite::tungstenite::{self, Message};

use super::{assert_fails, wqctl};
use crate::fixture::{PATIENCE, free_port, is_running, wait_until};
use crate::output::{Log, run};

/// A sandbox that runs.
struct Sandbox {
    child: Child,
    out: Log,
    complaint: Log,
    temporary: tempfile::TempDir,
    _link: tempfile::TempDir,
}

impl Sandbox {
    fn start(arguments: &[&str]) -> Self {
        let (link, mut command) = wqctl();
        let temporary = tempfile::tempdir().unwrap();
        command.arg("sandbox").args(arguments).env("TMPDIR", temporary.path());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (out, complaint) = (Log::default(), Log::default());
        out.follow(child.stdout.take().unwrap());
        complaint.follow(child.stderr.take().unwrap());
        Self { child, out, complaint, temporary, _link: link }
    }

    /// The processes below it: controller and client.
    fn below(&self) -> BTreeSet<u32> {
        let mut all = BTreeSet::new();
        let mut next = vec![self.child.id()];
        while let Some(pid) = next.pop() {
            let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
            // The kernel lists children by thread, and a controller has many.
            let threads = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten();
            let listed = threads
                .filter_map(|thread| std::fs::read_to_string(thread.ok()?.path().join("children")).ok());
            let listed: Vec<String> = listed.chain(children.ok()).collect();
            for child in listed.iter().flat_map(|list| list.split_whitespace()) {
                let child = child.parse().unwrap();
                if all.insert(child) {
                    next.push(child);
                }
            }
        }
        all
    }

    fn end(&mut self, signal: Signal) -> ExitStatus {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
        let mut status = None;
        wait_until("the sandbox has ended", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.end(Signal::TERM);
        }
        if std::thread::panicking() {
            eprintln!("{}\n{}", self.out.text(), self.complaint.text());
        }
    }
}

/// Asks who the account is, by a WebSocket at this URL.
fn login_info(url: &str) -> Value {
    let authority = url.strip_prefix("ws://").unwrap().split('/').next().unwrap();
    let stream = TcpStream::connect(authority).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut socket = tungstenite::client(url, stream).unwrap().0;
    socket.send(Message::text(r#"{"action":"get_login_info","echo":7}"#)).unwrap();
    loop {
        let Message::Text(text) = socket.read().unwrap() else { continue };
        let answer: Value = serde_json::from_str(text.as_str()).unwrap();
        if answer["echo"] == 7 {
            return answer["data"].clone();
        }
    }
}

#[test]
fn sandbox_serves_the_address_that_it_prints_and_leaves_nothing() {
    let port = free_port().to_string();
    let mut sandbox = Sandbox::start(&["--port", &port]);
    let printed = sandbox.out.wait_for("scene FILE");
    let url = format!("ws://127.0.0.1:{port}/clients/bot/onebot/v11/ws");
    assert!(printed.contains(&format!("ONEBOT_WS_URLS='[\"{url}\"]'")), "{printed}");
    assert!(printed.contains(&format!("endpoint: {url}\n")), "{printed}");
    assert!(printed.contains(&format!("http://127.0.0.1:{port}/#/chat/bot\n")), "{printed}");
    let own = login_info(&url);
    assert!(printed.contains(&format!("selfId: '{}'", own["user_id"])), "{own}: {printed}");
    // What is printed can be typed in any folder.
    let scene = printed.lines().find(|line| line.ends_with("scene FILE")).unwrap();
    let program = Path::new(scene.split_whitespace().next().unwrap());
    assert!(program.is_absolute() && program.exists(), "{scene}");
    let processes = sandbox.below();
    assert!(processes.len() >= 2, "{processes:?}");
    // The door is shut to another one.
    let (_folder, mut second) = wqctl();
    let next: u16 = port.parse::<u16>().unwrap() + 1;
    let refused = run(second.args(["sandbox", "--port", &port]));
    let expected = format!("wqctl sandbox --port {next}");
    assert_fails(refused, 1, &format!("port {port} is taken by another program"), &expected);
    assert_eq!(sandbox.end(Signal::INT).code(), Some(0));
    for pid in processes {
        assert!(!is_running(pid), "{pid}: {:?}", std::fs::read(format!("/proc/{pid}/cmdline")));
    }
    assert!(TcpStream::connect(format!("127.0.0.1:{port}")).is_err(), "nothing listens any more");
    let left: Vec<_> = std::fs::read_dir(sandbox.temporary.path()).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn sandbox_connects_to_bots_that_wait() {
    let bots = [TcpListener::bind("127.0.0.1:0").unwrap(), TcpListener::bind("127.0.0.1:0").unwrap()];
    let urls: Vec<_> = bots.iter().map(|bot| format!("ws://{}/bot", bot.local_addr().unwrap())).collect();
    let port = free_port().to_string();
    let mut sandbox = Sandbox::start(&["--port", &port, "--connect", &urls[0], "--connect", &urls[1]]);
    let printed = sandbox.out.wait_for("scene FILE");
    assert!(printed.contains("DRIVER=~fastapi\n") && printed.contains("protocol: ws-reverse\n"), "{printed}");
    for bot in bots {
        let mut socket = tungstenite::accept(bot.accept().unwrap().0).unwrap();
        let first = socket.read().unwrap();
        assert!(first.to_text().unwrap().contains("connect"), "{first}");
    }
    assert_eq!(sandbox.end(Signal::TERM).code(), Some(0));
    let complaint = {
        let mut wrong = Sandbox::start(&["--port", &port, "--connect", "http://127.0.0.1:1/"]);
        let complaint = wrong.complaint.wait_for("ws or wss URLs");
        wait_until("it has ended", || wrong.child.try_wait().unwrap().is_some());
        complaint
    };
    assert!(complaint.contains("onebot_server_connect"), "{complaint}");
}

#[test]
fn sandbox_keeps_its_account_in_a_folder_that_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let kept = folder.path().join("a \"b\"");
    let port = free_port().to_string();
    let arguments = ["--port", port.as_str(), "--folder", kept.to_str().unwrap()];
    let set = |parameters: &[&str]| {
        let (_folder, mut command) = wqctl();
        run(command.args(["--url", &format!("http://127.0.0.1:{port}")]).args(parameters))
    };
    let mut sandbox = Sandbox::start(&arguments);
    sandbox.out.wait_for("scene FILE");
    let more = ["start", "bot", "backend=sandbox", "sandbox_login_time=0", "send_interval=7"];
    assert_eq!(set(&more).0, Some(0));
    assert_eq!(sandbox.end(Signal::TERM).code(), Some(0));
    assert!(is_private(&kept));
    let sandbox = Sandbox::start(&arguments);
    sandbox.out.wait_for("scene FILE");
    let shown: Value = serde_json::from_str(&set(&["show", "bot", "--json"]).1).unwrap();
    assert_eq!(shown["parameters"]["send_interval"], "7", "{shown}");
}

fn is_private(folder: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::metadata(folder).unwrap().permissions().mode() & 0o077 == 0
}

#[test]
fn sandbox_ends_with_a_controller_that_is_killed() {
    let port = free_port().to_string();
    let mut sandbox = Sandbox::start(&["--port", &port, "--json"]);
    let printed = sandbox.out.wait_for("\n}");
    let told: Value = serde_json::from_str(&printed).unwrap();
    assert_eq!(told["account"], "bot");
    let folder = told["folder"].as_str().unwrap().to_owned();
    let pid: u32 = std::fs::read_to_string(format!("{folder}/pid")).unwrap().trim().parse().unwrap();
    let killed = Command::new("kill").args(["-KILL", &pid.to_string()]).status().unwrap();
    assert!(killed.success());
    let mut status = None;
    wait_until("the sandbox has ended", || {
        status = sandbox.child.try_wait().unwrap();
        status.is_some()
    });
    assert_eq!(status.unwrap().code(), Some(1));
    sandbox.complaint.wait_for("wqctl: the controller ended by itself");
    assert!(!Path::new(&folder).exists());
}
