//! Listeners of `GET /v1/events`, all on one thread: with a thread each, waking them would be most of what is measured.

use std::net::SocketAddr;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;

/// An account as a listener was told of it.
#[derive(Debug)]
pub struct Told {
    pub name: String,
    pub state: String,
    /// That of the client's process.
    pub phase: String,
    /// When it had arrived.
    pub at: Instant,
}

/// Listeners that listen until this is dropped.
pub struct Listeners {
    told: Receiver<Told>,
    ends: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// The longest time without an event that is expected.
const PATIENCE: Duration = Duration::from_secs(60);

impl Listeners {
    /// Returns when each of them has heard the first event.
    pub fn start(address: SocketAddr, count: usize) -> Self {
        let (sender, told) = mpsc::channel();
        let (ends, ended) = oneshot::channel::<()>();
        let (is_ready, ready) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                for _ in 0..count {
                    tokio::spawn(listen(address, sender.clone(), is_ready.clone()));
                }
                // An error is the end as well: what waited for it is gone.
                let _ = ended.await;
            });
        });
        for _ in 0..count {
            ready.recv_timeout(PATIENCE).unwrap();
        }
        Self { told, ends: Some(ends), thread: Some(thread) }
    }

    /// The next that any of them was told.
    pub fn next(&self) -> Told {
        self.told.recv_timeout(PATIENCE).unwrap_or_else(|error| panic!("no event: {error}"))
    }

    /// When this was told to so many of them.
    pub fn until(&self, count: usize, is_so: impl Fn(&Told) -> bool) -> Vec<Instant> {
        std::iter::repeat_with(|| self.next()).filter(is_so).take(count).map(|told| told.at).collect()
    }

    /// Takes what comes until nothing comes for a while.
    pub fn until_quiet(&self) -> usize {
        let mut count = 0;
        loop {
            match self.told.recv_timeout(Duration::from_millis(500)) {
                Ok(_) => count += 1,
                Err(RecvTimeoutError::Timeout) => return count,
                Err(RecvTimeoutError::Disconnected) => panic!("all listeners have ended"),
            }
        }
    }
}

impl Drop for Listeners {
    fn drop(&mut self) {
        drop(self.ends.take());
        let ended = self.thread.take().map(JoinHandle::join);
        // A panic during another one would hide the first.
        assert!(std::thread::panicking() || matches!(ended, Some(Ok(()))), "a listener has failed");
    }
}

/// Asks for the events.
pub async fn connect(address: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    // In version 1.0 there are no chunks in between.
    stream.write_all(b"GET /v1/events HTTP/1.0\r\nHost: localhost\r\n\r\n").await.unwrap();
    stream
}

async fn listen(address: SocketAddr, told: mpsc::Sender<Told>, is_ready: mpsc::Sender<()>) {
    let mut stream = connect(address).await;
    let mut text = Vec::new();
    loop {
        let count = stream.read_buf(&mut text).await.unwrap();
        assert_ne!(count, 0, "the stream has ended");
        let at = Instant::now();
        let mut read = 0;
        while let Some(length) = text[read..].windows(2).position(|two| two == b"\n\n") {
            let event = std::str::from_utf8(&text[read..read + length]).unwrap();
            read += length + 2;
            let ready = event.contains("event: ready");
            assert!(!event.contains("event: missed"), "a listener that reads misses nothing");
            if ready {
                is_ready.send(()).unwrap();
            } else if event.contains("event: account") {
                let word = |key: &str| {
                    let (_, rest) = event.split_once(&format!("\"{key}\":\"")).unwrap();
                    rest.split_once('"').unwrap().0.to_owned()
                };
                let (name, state, phase) = (word("name"), word("state"), word("phase"));
                // Nobody takes it any more once the benchmark is over.
                let _ = told.send(Told { name, state, phase, at });
            }
        }
        text.drain(..read);
    }
}
