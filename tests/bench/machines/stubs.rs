//! Controllers of other machines that this process plays, each at a port of its own on loopback: what a door asks of them.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{broadcast, oneshot, watch};
use tokio::task::JoinSet;

/// How a machine is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    Up,
    /// Its controller is gone: nothing listens, and its connections are closed.
    Gone,
    /// Its cable is out: its connections are open, and nothing comes.
    Silent,
}

/// A machine.
pub struct Stub {
    pub name: String,
    pub url: String,
    listener: Mutex<Option<std::net::TcpListener>>,
    port: u16,
    told: Mutex<Told>,
    events: broadcast::Sender<Arc<str>>,
    mode: watch::Sender<Mode>,
}

/// What it has told.
struct Told {
    /// Its run, and the number of its last event.
    run: u64,
    number: u64,
    /// Its accounts in the order of their names, each with a number that its changes count up.
    accounts: Vec<(String, u64)>,
}

/// All of them, with the thread that plays them.
pub struct Stubs {
    pub all: Vec<Arc<Stub>>,
    ends: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

/// How often a controller tells a door how its machine is.
const HEALTH: Duration = Duration::from_secs(5);

/// An account as a controller tells it whose processes are units and whose login is held by an implementation: all there is to tell,
/// in 1.2 KiB.
fn account(name: &str, changes: u64) -> String {
    format!(
        r#"{{"name":"{name}","id":"{name}","state":"running","since":1790000000,"desired":"running","reason":null,"needs_person":false,"client":{{"phase":"up","since":1790000000,"pid":41234,"port":5123,"unit":"wqclient@{name}.service","frozen":false,"held":false,"exits":{changes},"last_exit":null,"next_start":null}},"implementation":{{"name":"llbot","kind":"llbot","process":{{"phase":"up","since":1790000000,"pid":41200,"port":5124,"unit":"wqimplementation@{name}.service","frozen":false,"held":false,"exits":0,"last_exit":null,"next_start":null}},"reason":null}},"login":{{"state":"online","since":1790000100,"reason":null,"uin":"1234567890","nickname":"小明","put_out":null}},"parameters":{{"backend":"onebot","implementation":"llbot","post_api":"http://127.0.0.1:8080/report","uin":"1234567890"}},"queues":{{"reports":0,"messages":0}},"backend":"onebot","limits":{{"memory_max":268435456,"memory_high":null,"cpu_quota":null,"tasks_max":64}},"usage":{{"memory":123456789,"cpu":12.345678,"at":1790000200}}}}"#
    )
}

impl Stub {
    fn new(n: usize, accounts: Vec<String>) -> Arc<Self> {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let port = listener.local_addr().unwrap().port();
        let accounts = accounts.into_iter().map(|name| (name, 0)).collect();
        Arc::new(Self {
            name: format!("m{n:03}"),
            url: format!("http://127.0.0.1:{port}"),
            listener: Mutex::new(Some(listener)),
            port,
            told: Mutex::new(Told { run: 1, number: 0, accounts }),
            events: broadcast::Sender::new(1 << 15),
            mode: watch::Sender::new(Mode::Up),
        })
    }

    pub fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }

    /// Its controller is another one from now on, which knows nothing of the events before.
    pub fn restart(&self) {
        let mut told = self.told.lock().unwrap();
        (told.run, told.number) = (told.run + 1, 0);
    }

    pub fn count(&self) -> usize {
        self.told.lock().unwrap().accounts.len()
    }

    /// Has an account change; its name, and when the event was on its way.
    pub fn change(&self, n: usize) -> (String, Instant) {
        let mut told = self.told.lock().unwrap();
        told.number += 1;
        let (name, changes) = &mut told.accounts[n];
        *changes += 1;
        let (name, text) = (name.clone(), account(name, *changes));
        let event = format!("event: account\nid: {}-{}\ndata: {text}\n\n", told.run, told.number);
        let began = Instant::now();
        // Where none listens, the list says it.
        let _ = self.events.send(event.into());
        (name, began)
    }

    async fn run(self: Arc<Self>) {
        let mut mode = self.mode.subscribe();
        loop {
            let kept = self.listener.lock().unwrap().take();
            let listener = match kept {
                Some(kept) => TcpListener::from_std(kept).unwrap(),
                None => TcpListener::bind(("127.0.0.1", self.port)).await.unwrap(),
            };
            let mut connections = JoinSet::new();
            loop {
                tokio::select! {
                    accepted = listener.accept() => drop(connections.spawn(self.clone().serve(accepted.unwrap().0))),
                    Some(_) = connections.join_next() => {}
                    changed = mode.wait_for(|mode| *mode == Mode::Gone) => { changed.unwrap(); break }
                }
            }
            drop((connections, listener));
            mode.wait_for(|mode| *mode != Mode::Gone).await.unwrap();
        }
    }

    async fn serve(self: Arc<Self>, mut stream: TcpStream) {
        stream.set_nodelay(true).unwrap();
        let mut mode = self.mode.subscribe();
        loop {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                match stream.read_buf(&mut head).await {
                    Ok(0) | Err(_) => return,
                    Ok(_) => {}
                }
            }
            mode.wait_for(|mode| *mode != Mode::Silent).await.unwrap();
            let head = String::from_utf8(head).unwrap();
            let path = head.split(' ').nth(1).unwrap();
            let body = match path {
                "/v1/events" => {
                    let mut lines = head.lines().filter_map(|line| line.split_once(": ")).rev();
                    let last = lines.find(|(key, _)| key.eq_ignore_ascii_case("last-event-id"));
                    return self.tell(stream, last.map(|(_, id)| id)).await;
                }
                "/v1/machine" => {
                    format!(r#"{{"version":"0.1.0","accounts":{},"free_memory":4000000000}}"#, self.count())
                }
                list => self.page(list),
            };
            let answer = format!(
                "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            );
            if stream.write_all(answer.as_bytes()).await.is_err() {
                return;
            }
        }
    }

    fn page(&self, path: &str) -> String {
        let after = path.split_once("after=").map_or(String::new(), |(_, after)| after.replace("%2D", "-"));
        let told = self.told.lock().unwrap();
        let from = told.accounts.partition_point(|(name, _)| *name <= after);
        let page = &told.accounts[from..told.accounts.len().min(from + 1000)];
        let accounts: Vec<_> = page.iter().map(|(name, changes)| account(name, *changes)).collect();
        let next = match from + page.len() < told.accounts.len() {
            true => format!("\"{}\"", page.last().unwrap().0),
            false => "null".to_owned(),
        };
        let (accounts, total) = (accounts.join(","), told.accounts.len());
        format!(r#"{{"accounts":[{accounts}],"total":{total},"next":{next}}}"#)
    }

    /// Tells its events until the connection ends.
    async fn tell(&self, mut stream: TcpStream, last: Option<&str>) {
        let (mut events, mut mode) = (self.events.subscribe(), self.mode.subscribe());
        let (run, number) = {
            let told = self.told.lock().unwrap();
            (told.run, told.number)
        };
        let mut text = format!(
            "event: ready\nid: {run}-{number}\ndata: {{\"run\":\"{run}\"}}\n\n{}",
            match last.is_some_and(|last| !last.starts_with(&format!("{run}-"))) {
                true => format!("event: missed\nid: {run}-{number}\ndata: {{}}\n\n"),
                false => String::new(),
            }
        );
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
        if stream.write_all(head.as_bytes()).await.is_err() {
            return;
        }
        let mut health = tokio::time::interval(HEALTH);
        loop {
            let piece = format!("{:x}\r\n{text}\r\n", text.len());
            if stream.write_all(piece.as_bytes()).await.is_err() {
                return;
            }
            let mut end = [0; 1];
            text = tokio::select! {
                event = events.recv() => event.unwrap().to_string(),
                _ = health.tick() => "event: health\ndata: {\"free_memory\":4000000000}\n\n".to_owned(),
                _ = stream.read(&mut end) => return,
            };
            mode.wait_for(|mode| *mode != Mode::Silent).await.unwrap();
        }
    }
}

impl Stubs {
    /// So many accounts on so many machines: a thousand on the first one, as many on each other one.
    pub fn start(machines: usize, accounts: usize) -> Self {
        let large = 1000.min(accounts / 2);
        let mut names = vec![Vec::new(); machines];
        for n in 0..accounts {
            // In the order of names they lie in all machines: lists have to merge them.
            let machine = match n * large / accounts == (n + 1) * large / accounts {
                true => 1 + n % (machines - 1),
                false => 0,
            };
            names[machine].push(format!("account-{n:05}"));
        }
        let all: Vec<_> = names.into_iter().enumerate().map(|(n, names)| Stub::new(n, names)).collect();
        let (ends, ended) = oneshot::channel::<()>();
        let played = all.clone();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                for stub in played {
                    tokio::spawn(stub.run());
                }
                // An error is the end as well: what waited for it is gone.
                let _ = ended.await;
            });
        });
        Self { all, ends: Some(ends), thread: Some(thread) }
    }
}

impl Drop for Stubs {
    fn drop(&mut self) {
        drop(self.ends.take());
        let _ = self.thread.take().map(std::thread::JoinHandle::join);
    }
}
