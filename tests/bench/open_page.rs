//! [`OpenPage`]: the requests of the web page while nothing happens, without a browser. They are those of src/http/page: store.js
//! fetches the list each 30 s, account.js the account each 5 s, and there are streams of events and, in the view of an account, of its
//! log.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::small_clients::Connection;

/// `REFRESH_EVERY` of store.js.
const LIST_EVERY: Duration = Duration::from_secs(30);
/// `REFRESH_EVERY` of account.js.
const ACCOUNT_EVERY: Duration = Duration::from_secs(5);

/// What the page shows.
#[derive(Clone, Copy)]
pub enum View {
    List,
    Account(&'static str),
}

/// A page that is open and looked at.
pub struct OpenPage {
    close: mpsc::Sender<()>,
    requests: JoinHandle<Counts>,
    streams: Vec<(TcpStream, JoinHandle<()>)>,
}

#[derive(Default)]
struct Counts {
    lists: usize,
    unchanged: usize,
    accounts: usize,
}

impl OpenPage {
    /// Opens it, with what a page asks for at first.
    pub fn open(address: SocketAddr, view: View) -> Self {
        let mut paths = vec!["/v1/events".to_owned()];
        if let View::Account(name) = view {
            paths.push(format!("/v1/clients/{name}/log?lines=200&follow=1"));
        }
        let mut connection = Connection::new(address);
        connection.get("/v1/session", "");
        let streams = paths.iter().map(|path| stream(address, path)).collect();
        let (close, closed) = mpsc::channel();
        let requests = std::thread::spawn(move || {
            let mut requests = Requests { address, tag: None, counts: Counts::default() };
            requests.list();
            requests.counts = Counts::default();
            let now = Instant::now();
            let (mut list, mut account) = (now + LIST_EVERY, now + ACCOUNT_EVERY);
            loop {
                let next = match view {
                    View::List => list,
                    View::Account(_) => list.min(account),
                };
                match closed.recv_timeout(next.saturating_duration_since(Instant::now())) {
                    Err(RecvTimeoutError::Timeout) => {}
                    _ => return requests.counts,
                }
                match view {
                    View::Account(name) if next == account => {
                        // Kept: it is asked for more often than idle connections are closed.
                        connection.get(&format!("/v1/clients/{name}"), "Accept: application/json\r\n");
                        requests.counts.accounts += 1;
                        account += ACCOUNT_EVERY;
                    }
                    _ => {
                        requests.list();
                        list += LIST_EVERY;
                    }
                }
            }
        });
        Self { close, requests, streams }
    }

    /// Closes it; what it asked for since it was open.
    pub fn close(self) -> String {
        self.close.send(()).unwrap();
        let counts = self.requests.join().unwrap();
        for (stream, thread) in self.streams {
            stream.shutdown(std::net::Shutdown::Both).unwrap();
            thread.join().unwrap();
        }
        format!(
            "(asked for {} lists, {} of them unchanged, and {} accounts)",
            counts.lists, counts.unchanged, counts.accounts
        )
    }
}

struct Requests {
    address: SocketAddr,
    tag: Option<String>,
    counts: Counts,
}

impl Requests {
    /// Browsers keep the list, which is `no-cache`, and ask with its tag.
    fn list(&mut self) {
        // The controller has closed a connection that was idle for so long, and the browser opens the next one.
        let mut connection = Connection::new(self.address);
        let tag = self.tag.as_ref().map(|tag| format!("If-None-Match: {tag}\r\n")).unwrap_or_default();
        let answer = connection.get("/v1/clients", &format!("Accept: application/json\r\n{tag}"));
        self.counts.lists += 1;
        self.counts.unchanged += usize::from(answer.head.starts_with("HTTP/1.1 304 "));
        self.tag = answer.header("etag").map(str::to_owned);
    }
}

/// A stream that is read until it is shut down.
fn stream(address: SocketAddr, path: &str) -> (TcpStream, JoinHandle<()>) {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n").unwrap();
    let mut reader = stream.try_clone().unwrap();
    let thread = std::thread::spawn(move || {
        let mut some = [0; 4096];
        let count = reader.read(&mut some).unwrap();
        assert!(some[..count].starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(&some[..count]));
        while reader.read(&mut some).is_ok_and(|count| count > 0) {}
    });
    (stream, thread)
}
