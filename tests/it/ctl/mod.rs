//! `wqctl`: the executable by that name, against a controller, and against what plays one where an answer is hard to come by.

mod access;
mod actions;
mod completions;
mod list;
mod report;
mod sandbox;
mod scene;
mod terminal;
mod waiting;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};

use serde_json::Value;

use crate::fixture::{Controller, program};
use crate::output::run;

/// The executable under its other name, with nothing of the machine that runs the tests.
pub fn wqctl() -> (tempfile::TempDir, Command) {
    let folder = tempfile::tempdir().unwrap();
    let link = folder.path().join("wqctl");
    std::os::unix::fs::symlink(program(), &link).unwrap();
    let mut command = Command::new(link);
    for name in ["WQCTL_TOKEN", "WQCTL_TOKEN_FILE", "NO_COLOR"] {
        command.env_remove(name);
    }
    command.env("WQCONTROLLER_TEST_DOORS", format!("{}/none 1", folder.path().display()));
    (folder, command)
}

/// What one run gave: status, standard output, standard error.
type Ran = (Option<i32>, String, String);

/// Runs it for the controller at this URL.
pub(crate) fn ran_at(url: &str, arguments: &[&str]) -> Ran {
    let (_folder, mut command) = wqctl();
    run(command.args(["--url", url]).args(arguments))
}

fn ran(controller: &Controller, arguments: &[&str]) -> Ran {
    ran_at(&controller.url(""), arguments)
}

/// What it prints where all goes well.
fn printed(controller: &Controller, arguments: &[&str]) -> String {
    let (status, printed, complaint) = ran(controller, arguments);
    assert_eq!((status, complaint.as_str()), (Some(0), ""), "{arguments:?}");
    printed
}

fn json(controller: &Controller, arguments: &[&str]) -> Value {
    let text = printed(controller, &[arguments, &["--json"]].concat());
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{arguments:?}: {error}: {text}"))
}

/// Checks a failure: its status, a part of what it says, and what it says to type next.
fn assert_fails((status, printed, complaint): Ran, expected: i32, why: &str, next: &str) {
    assert_eq!((status, printed.as_str()), (Some(expected), ""), "{complaint}");
    assert!(complaint.lines().all(|line| line.starts_with("wqctl: ")), "{complaint}");
    assert!(complaint.contains(why), "{complaint}");
    let told = complaint.lines().find_map(|line| line.strip_prefix("wqctl: next: "));
    assert!(told.is_some_and(|told| told.contains(next)), "{next}: {complaint}");
}

/// What plays a controller: it answers each request by its method and path with a status, a type and a body.
struct Played {
    url: String,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Played {
    fn new(answer: impl Fn(&str) -> (u16, &'static str, String) + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::<Mutex<Vec<String>>>::default();
        let heard = requests.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(stream) = stream else { return };
                let request = request(&stream);
                let (status, kind, body) = answer(&request);
                heard.lock().unwrap().push(request);
                let head = format!(
                    "HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                    body.len()
                );
                let _ = (&stream).write_all((head + &body).as_bytes());
            }
        });
        Self { url, requests }
    }

    /// One that answers every request with the same JSON.
    fn always(body: &str) -> Self {
        let body = body.to_owned();
        Self::new(move |_| (200, "application/json", body.clone()))
    }

    /// One that refuses every request with this problem.
    fn refusing(status: u16, code: &'static str, detail: &'static str) -> Self {
        Self::new(move |_| {
            let problem =
                serde_json::json!({ "code": code, "title": "x", "status": status, "detail": detail });
            (status, "application/problem+json", problem.to_string())
        })
    }

    fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

/// The method and the path of a request, and its body.
fn request(stream: &TcpStream) -> String {
    let mut reader = BufReader::new(stream);
    let (mut first, mut length) = (String::new(), 0);
    reader.read_line(&mut first).unwrap();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length: ") {
            length = value.trim().parse().unwrap();
        }
        if line.trim().is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    let first = first.trim_end().trim_end_matches(" HTTP/1.1");
    format!("{first} {}", String::from_utf8(body).unwrap()).trim_end().to_owned()
}

/// Runs it on a terminal of 80 by 24 that `script` makes; what `keys` the user types.
fn on_terminal(words: &[&str], environment: &[(&str, &str)], keys: &str) -> std::process::Child {
    let (folder, command) = wqctl();
    let program = command.get_program().to_str().unwrap().to_owned();
    // It has to outlive this function, and is in the tests' own temporary folder.
    let _ = folder.keep();
    let words: Vec<String> = [program.as_str()].iter().chain(words).map(|word| format!("'{word}'")).collect();
    let line = format!("stty cols 80 rows 24; exec {}", words.join(" "));
    let mut script = Command::new("script");
    script.args(["--quiet", "--return", "--command", &line, "/dev/null"]);
    script
        .env("SHELL", "/bin/sh")
        .env("TERM", "xterm")
        .env_remove("NO_COLOR")
        .envs(environment.iter().copied());
    script.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
    let mut child = script.spawn().unwrap();
    child.stdin.as_mut().unwrap().write_all(keys.as_bytes()).unwrap();
    child
}

/// The command of a shell that finds `wqctl`.
fn in_shell(folder: &Path) -> String {
    format!("{}:{}", folder.display(), std::env::var("PATH").unwrap())
}
