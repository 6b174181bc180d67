//! A client that does what a test tells it: this test binary itself, run by a template.
//!
//! `start_client` parameters beginning with `fake_` say how it behaves, the paths below `/openqq/` what it answers.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::{Command, Stdio, exit};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, OnceLock};
use std::time::Duration;

/// Set where this binary is to be a client.
const MARK: &str = "WQ_FAKE_CLIENT";

/// A template that runs this binary as a client.
pub fn template() -> String {
    let binary = std::env::current_exe().unwrap();
    // With one thread, as where there is one processor, the harness begins a line that the client's first would end.
    let arguments = "--exact fake::client --nocapture --test-threads=2";
    format!("#!/bin/sh\nexport {MARK}=1\nexec '{}' {arguments}\n", binary.display())
}

/// Not a test: the client's `main`, where the template started it.
#[test]
fn client() {
    if std::env::var_os(MARK).is_some() {
        Client::new().run();
    }
}

fn setting(name: &str) -> Option<String> {
    std::env::var(format!("MOJO_WEBQQ_{name}")).ok()
}

fn milliseconds(name: &str) -> Option<Duration> {
    setting(name).map(|value| Duration::from_millis(value.parse().unwrap()))
}

#[derive(Default)]
struct Client {
    /// How many requests came, but for those that ask for this.
    requests: AtomicUsize,
    /// How many callers wait now for an answer that never comes.
    held: AtomicUsize,
    /// How many requests broke off.
    broken: AtomicUsize,
    /// How many bytes of bodies have come in, and gone out by `pour`.
    received: AtomicUsize,
    poured: AtomicUsize,
    /// Raised by a call of `/openqq/go`; `stream` and `stalled_upload` wait for it.
    go: (Mutex<bool>, Condvar),
    listener: OnceLock<TcpListener>,
}

impl Client {
    fn new() -> Arc<Self> {
        Arc::default()
    }

    fn run(self: Arc<Self>) {
        if let Some(line) = setting("FAKE_PRINT") {
            println!("{line}");
            eprintln!("to stderr: {line}");
        }
        if let Some(status) = setting("FAKE_EXIT") {
            exit(status.parse().unwrap());
        }
        if setting("FAKE_IGNORE_TERM").is_some() {
            signal_hook::flag::register(signal_hook::consts::SIGTERM, Arc::default()).unwrap();
        }
        if setting("FAKE_CHILD").is_some() {
            // Left behind in the same process group; refuses SIGTERM.
            #[expect(clippy::zombie_processes, reason = "to be left behind is what it is for")]
            let child = Command::new("/bin/sh")
                .args(["-c", "trap '' TERM; while :; do sleep 1; done"])
                .stdin(Stdio::null())
                .spawn()
                .unwrap();
            println!("my child is {}.", child.id());
        }
        if let Some(text) = setting("FAKE_STATE_TEXT") {
            fs::write(setting("STATE_PATH").unwrap(), text).unwrap();
        } else if let Some(state) = setting("FAKE_STATE") {
            let report = serde_json::json!({"state": state, "account": "a lie", "pid": 1, "port": 1, "log_path": null});
            fs::write(setting("STATE_PATH").unwrap(), report.to_string()).unwrap();
        }
        if let Some(delay) = milliseconds("FAKE_LISTEN_DELAY") {
            std::thread::sleep(delay);
        }
        let port: u16 = setting("PLUGIN_OPENQQ_PORT").unwrap().parse().unwrap();
        let listener = self.listener.get_or_init(|| TcpListener::bind(("127.0.0.1", port)).unwrap());
        println!("listening");
        while let Ok((stream, _)) = listener.accept() {
            let client = self.clone();
            std::thread::spawn(move || {
                if client.converse(stream).is_err() {
                    client.broken.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        // Deaf, but there.
        loop {
            std::thread::park();
        }
    }

    fn converse(&self, stream: TcpStream) -> std::io::Result<()> {
        let mut reader = BufReader::new(stream.try_clone()?);
        let mut writer = stream;
        while let Some(head) = Head::read(&mut reader)? {
            let path = head.target.split('?').next().unwrap_or_default().to_owned();
            let name = path.rsplit('/').next().unwrap_or_default();
            if name != "requests" {
                self.requests.fetch_add(1, Ordering::SeqCst);
            }
            match name {
                "ping" => reply(&mut writer, "200 OK", "", "pong")?,
                // The request as it came, byte for byte.
                "echo" => {
                    let mut text = head.raw.clone();
                    self.read_body(&head, &mut reader, &mut text)?;
                    let start = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", text.len());
                    writer.write_all(&[start.as_bytes(), &text].concat())?;
                }
                // These bytes, and the end.
                "answer" => {
                    let raw = head.target.split_once("raw=").unwrap().1;
                    writer.write_all(&percent_encoding::percent_decode_str(raw).collect::<Vec<u8>>())?;
                    return writer.shutdown(Shutdown::Both);
                }
                // An answer before the request is there; then the rest of that is read.
                "early" => {
                    reply(&mut writer, "413 Content Too Large", "Connection: close\r\n", "too much")?;
                    writer.shutdown(Shutdown::Write)?;
                    std::io::copy(&mut reader, &mut std::io::sink())?;
                    return Ok(());
                }
                "env" => {
                    let mut text = String::new();
                    for (name, value) in std::env::vars() {
                        let _ = writeln!(text, "{name}={value}");
                    }
                    reply(&mut writer, "200 OK", "", &text)?;
                }
                // No answer, or no end of it, until the caller goes away.
                "hang" => self.hold(&mut reader)?,
                "hang_midway" => {
                    writer.write_all(FIRST_PART)?;
                    self.hold(&mut reader)?;
                }
                "requests" => tell(&mut writer, &self.requests)?,
                "held" => tell(&mut writer, &self.held)?,
                "broken" => tell(&mut writer, &self.broken)?,
                "received" => tell(&mut writer, &self.received)?,
                "poured" => tell(&mut writer, &self.poured)?,
                "stop_client" => {
                    reply(&mut writer, "200 OK", "", r#"{"code":0}"#)?;
                    exit(0);
                }
                "die" => exit(7),
                "deaf" => {
                    reply(&mut writer, "200 OK", "", "")?;
                    rustix::net::shutdown(self.listener.get().unwrap(), rustix::net::Shutdown::Both)?;
                }
                "state" => {
                    let state = head.target.rsplit('=').next().unwrap_or_default();
                    fs::write(setting("STATE_PATH").unwrap(), format!(r#"{{"state":"{state}"}}"#))?;
                    reply(&mut writer, "200 OK", "", "")?;
                }
                "stream" => {
                    writer.write_all(FIRST_PART)?;
                    self.wait_for_go();
                    writer.write_all(b"4\r\nlast\r\n0\r\n\r\n")?;
                }
                // An answer that begins before the request is there and ends after it.
                "around" => {
                    writer.write_all(FIRST_PART)?;
                    self.read_body(&head, &mut reader, &mut std::io::sink())?;
                    writer.write_all(b"4\r\nlast\r\n0\r\n\r\n")?;
                }
                "pour" => {
                    let size: usize = head.target.rsplit('=').next().unwrap().parse().unwrap();
                    writer
                        .write_all(format!("HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n").as_bytes())?;
                    let block = [b'x'; 64 * 1024];
                    let mut left = size;
                    while left > 0 {
                        let now = left.min(block.len());
                        writer.write_all(&block[..now])?;
                        self.poured.fetch_add(now, Ordering::SeqCst);
                        left -= now;
                    }
                }
                "upload" | "stalled_upload" => {
                    if name == "stalled_upload" {
                        self.wait_for_go();
                    }
                    let length = self.read_body(&head, &mut reader, &mut std::io::sink())?;
                    reply(&mut writer, "200 OK", "", &length.to_string())?;
                }
                "go" => {
                    *self.go.0.lock().unwrap() = true;
                    self.go.1.notify_all();
                    reply(&mut writer, "200 OK", "", "")?;
                }
                _ => reply(&mut writer, "403 Forbidden", "Content-Type: text/plain\r\n", "api not found")?,
            }
        }
        Ok(())
    }

    fn wait_for_go(&self) {
        let go = self.go.0.lock().unwrap();
        drop(self.go.1.wait_while(go, |go| !*go).unwrap());
    }

    /// Waits until the caller goes away.
    fn hold(&self, reader: &mut impl BufRead) -> std::io::Result<()> {
        self.held.fetch_add(1, Ordering::SeqCst);
        let gone = std::io::copy(reader, &mut std::io::sink());
        self.held.fetch_sub(1, Ordering::SeqCst);
        gone.map(drop)
    }

    /// Reads the whole body of a request; its length. One that breaks off is an error.
    fn read_body(
        &self,
        head: &Head,
        reader: &mut impl BufRead,
        body: &mut impl Write,
    ) -> std::io::Result<usize> {
        if let Some(length) = head.headers.get("content-length") {
            return self.read_part(length.parse().unwrap(), reader, body);
        }
        if !head.headers.contains_key("transfer-encoding") {
            return Ok(0);
        }
        let mut all = 0;
        loop {
            let mut size = String::new();
            reader.read_line(&mut size)?;
            let size = usize::from_str_radix(size.trim(), 16).map_err(std::io::Error::other)?;
            all += self.read_part(size, reader, body)?;
            reader.read_line(&mut String::new())?;
            if size == 0 {
                return Ok(all);
            }
        }
    }

    fn read_part(
        &self,
        size: usize,
        reader: &mut impl BufRead,
        body: &mut impl Write,
    ) -> std::io::Result<usize> {
        let mut left = size;
        while left > 0 {
            let part = reader.fill_buf()?;
            let part = &part[..part.len().min(left)];
            if part.is_empty() {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            body.write_all(part)?;
            self.received.fetch_add(part.len(), Ordering::SeqCst);
            left -= part.len();
            let read = part.len();
            reader.consume(read);
        }
        Ok(size)
    }
}

/// An answer up to where it pauses.
const FIRST_PART: &[u8] = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n";

fn reply(writer: &mut TcpStream, status: &str, headers: &str, body: &str) -> std::io::Result<()> {
    let length = body.len();
    writer
        .write_all(format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {length}\r\n\r\n{body}").as_bytes())
}

fn tell(writer: &mut TcpStream, count: &AtomicUsize) -> std::io::Result<()> {
    reply(writer, "200 OK", "", &count.load(Ordering::SeqCst).to_string())
}

/// A request up to its empty line.
struct Head {
    raw: Vec<u8>,
    target: String,
    headers: HashMap<String, String>,
}

impl Head {
    fn read(reader: &mut impl BufRead) -> std::io::Result<Option<Self>> {
        let mut raw = Vec::new();
        while !raw.ends_with(b"\r\n\r\n") {
            if reader.read_until(b'\n', &mut raw)? == 0 {
                return Ok(None);
            }
        }
        let text = String::from_utf8_lossy(&raw).into_owned();
        let mut lines = text.lines();
        let target = lines.next().unwrap_or_default().split(' ').nth(1).unwrap_or_default().to_owned();
        let pairs = lines.filter_map(|line| line.split_once(": "));
        let headers = pairs.map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned())).collect();
        Ok(Some(Self { raw, target, headers }))
    }
}
