//! An HTTP server on this machine that answers as a test says: whom controller and clients call.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Instant;

use crate::fixture::PATIENCE;

/// The answer that says nothing.
pub const OK: &str = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";

/// A server that goes on until the end of the tests.
pub struct Server {
    pub address: SocketAddr,
    requests: Arc<(Mutex<Vec<Request>>, Condvar)>,
}

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Request {
    /// Such as `GET /path HTTP/1.1`.
    pub line: String,
    /// Its headers, one a line.
    pub headers: String,
    pub body: Vec<u8>,
    pub came: Instant,
}

impl Server {
    /// `answer` gets the number of the request, from 0, and gives all bytes of the answer; with none the connection
    /// is closed. It may take its time: each connection has a thread of its own.
    pub fn new(answer: impl Fn(usize, &Request) -> String + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let requests: Arc<(Mutex<Vec<Request>>, Condvar)> = Arc::default();
        let (shared, answer) = (requests.clone(), Arc::new(answer));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (shared, answer) = (shared.clone(), answer.clone());
                std::thread::spawn(move || {
                    let mut stream = stream.unwrap();
                    // None where a caller was ended in the middle.
                    let Some(request) = Request::read(&stream) else { return };
                    let number = {
                        let mut requests = shared.0.lock().unwrap();
                        requests.push(request.clone());
                        shared.1.notify_all();
                        requests.len() - 1
                    };
                    let _ = stream.write_all(answer(number, &request).as_bytes());
                });
            }
        });
        Self { address, requests }
    }

    /// A URL of this server; `path` begins with `/`.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// What came so far.
    pub fn requests(&self) -> Vec<Request> {
        self.requests.0.lock().unwrap().clone()
    }

    /// Waits until at least as many requests came.
    pub fn wait_for(&self, count: usize) -> Vec<Request> {
        let requests = self.requests.0.lock().unwrap();
        let fewer = |requests: &mut Vec<Request>| requests.len() < count;
        let (requests, _) = self.requests.1.wait_timeout_while(requests, PATIENCE, fewer).unwrap();
        assert!(requests.len() >= count, "not {count} requests came, but {requests:#?}");
        requests.clone()
    }

    /// Waits for as many requests more.
    pub fn wait_for_more(&self, count: usize) -> Vec<Request> {
        self.wait_for(self.requests().len() + count)
    }
}

impl Request {
    fn read(stream: &TcpStream) -> Option<Self> {
        let mut reader = BufReader::new(stream);
        let (mut line, mut headers) = (String::new(), String::new());
        reader.read_line(&mut line).ok()?;
        let came = Instant::now();
        while reader.read_line(&mut headers).ok()? > 2 {}
        let length = |line: &str| {
            let (name, value) = line.split_once(": ")?;
            name.eq_ignore_ascii_case("content-length").then(|| value.parse().unwrap())
        };
        let mut body = vec![0; headers.lines().find_map(length).unwrap_or(0)];
        reader.read_exact(&mut body).ok()?;
        (!line.is_empty()).then(|| Self { line: line.trim_end().to_owned(), headers, body, came })
    }
}
