//! Applications that hear events: all on one thread, as waking a thread for each would be most of what is measured.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio_tungstenite::WebSocketStream;

use super::implementation::number_in;

/// When each event was poured, by its number, in nanoseconds since the beginning.
pub(super) struct Poured {
    began: Instant,
    times: Box<[AtomicU64]>,
}

impl Poured {
    pub(super) fn new(count: usize) -> Arc<Self> {
        Arc::new(Self { began: Instant::now(), times: (0..count).map(|_| AtomicU64::new(0)).collect() })
    }

    pub(super) fn len(&self) -> usize {
        self.times.len()
    }

    /// This event is poured now.
    pub(super) fn note(&self, number: usize) {
        self.times[number].store(self.now(), Ordering::Release);
    }

    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_nanos()).unwrap()
    }
}

/// What one application has heard.
pub(super) struct Heard {
    poured: Arc<Poured>,
    /// How often each event came.
    counts: Mutex<Vec<u8>>,
    delays: Mutex<Vec<Duration>>,
    /// How many different events came.
    pub(super) events: AtomicUsize,
    /// Whether the event came by which a connection begins: from then on none is missed.
    pub(super) has_begun: AtomicBool,
}

impl Heard {
    fn new(poured: Arc<Poured>) -> Arc<Self> {
        let (counts, delays) = (vec![0; poured.len()], Vec::with_capacity(poured.len()));
        let (counts, delays) = (counts.into(), delays.into());
        Arc::new(Self {
            poured,
            counts,
            delays,
            events: AtomicUsize::new(0),
            has_begun: AtomicBool::new(false),
        })
    }

    fn take(&self, frame: &[u8]) {
        let now = self.poured.now();
        let Some(number) = number_in(frame) else {
            // The beginning of the connection, and heartbeats.
            self.has_begun.store(true, Ordering::Release);
            return;
        };
        let poured = self.poured.times[number].load(Ordering::Acquire);
        self.delays.lock().unwrap().push(Duration::from_nanos(now - poured));
        let mut counts = self.counts.lock().unwrap();
        counts[number] += 1;
        if counts[number] == 1 {
            self.events.fetch_add(1, Ordering::Release);
        }
    }

    /// How many events did not come, and how many came more than once.
    pub(super) fn lost_and_doubled(&self) -> (usize, usize) {
        let counts = self.counts.lock().unwrap();
        let count = |is_so: fn(&u8) -> bool| counts.iter().filter(|count| is_so(count)).count();
        (count(|count| *count == 0), count(|count| *count > 1))
    }

    /// How long each took from its pouring on.
    pub(super) fn delays(&self) -> Vec<Duration> {
        self.delays.lock().unwrap().clone()
    }
}

/// Where applications live until this is dropped.
pub(super) struct Applications {
    handle: Handle,
    ends: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Applications {
    pub(super) fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let handle = runtime.handle().clone();
        let (ends, ended) = oneshot::channel::<()>();
        let thread = thread::spawn(move || {
            // An error is the end as well: what waited for it is gone.
            let _ = runtime.block_on(ended);
        });
        Self { handle, ends: Some(ends), thread: Some(thread) }
    }

    /// Connects to this WebSocket; returns once it is open.
    pub(super) fn connect(&self, address: SocketAddr, path: &str, poured: &Arc<Poured>) -> Arc<Heard> {
        let (heard, is_open) = (Heard::new(poured.clone()), mpsc::channel());
        let (url, of_task) = (format!("ws://{address}{path}"), heard.clone());
        self.handle.spawn(async move {
            let stream = TcpStream::connect(address).await.unwrap();
            let (socket, _) = tokio_tungstenite::client_async(url, stream).await.unwrap();
            is_open.0.send(()).unwrap();
            hear(socket, &of_task).await;
        });
        is_open.1.recv().unwrap();
        heard
    }

    /// Waits for one WebSocket at the address that is returned.
    pub(super) fn accept(&self, poured: &Arc<Poured>) -> (SocketAddr, Arc<Heard>) {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        listener.set_nonblocking(true).unwrap();
        let heard = Heard::new(poured.clone());
        let of_task = heard.clone();
        self.handle.spawn(async move {
            let listener = TcpListener::from_std(listener).unwrap();
            let (stream, _) = listener.accept().await.unwrap();
            hear(tokio_tungstenite::accept_async(stream).await.unwrap(), &of_task).await;
        });
        (address, heard)
    }

    /// Accepts any number of WebSockets at the address that is returned, and counts those that are open.
    pub(super) fn accept_all(&self) -> (SocketAddr, Arc<AtomicUsize>) {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        listener.set_nonblocking(true).unwrap();
        let count = Arc::new(AtomicUsize::new(0));
        let open = count.clone();
        self.handle.spawn(async move {
            let listener = TcpListener::from_std(listener).unwrap();
            loop {
                let (stream, open) = (listener.accept().await.unwrap().0, open.clone());
                tokio::spawn(async move {
                    let mut socket = tokio_tungstenite::accept_async(stream).await.unwrap();
                    open.fetch_add(1, Ordering::SeqCst);
                    // Reading is what answers pings.
                    while let Some(Ok(_)) = socket.next().await {}
                    open.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        (address, count)
    }
}

async fn hear<S: AsyncRead + AsyncWrite + Unpin>(mut socket: WebSocketStream<S>, heard: &Heard) {
    while let Some(Ok(message)) = socket.next().await {
        if message.is_text() {
            heard.take(&message.into_data());
        }
    }
}

impl Drop for Applications {
    fn drop(&mut self) {
        drop(self.ends.take());
        let ended = self.thread.take().map(JoinHandle::join);
        // A panic during another one would hide the first.
        assert!(thread::panicking() || matches!(ended, Some(Ok(()))), "the applications' thread has failed");
    }
}
