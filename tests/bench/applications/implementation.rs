//! [`Implementation`]: an implementation of OneBot v11 that is played, for any number of accounts and for applications that come to it
//! directly. It is quick, so that what is measured is not its own time: a thread for each connection, and frames that are poured are
//! written as they are.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;

use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::{self, Message};

/// The group and the person of all accounts.
pub(super) const GROUP: u64 = 5;
pub(super) const PERSON: u64 = 8;

/// What a connection's thread may use. There may be a thousand.
const STACK: usize = 256 * 1024;

/// Listens until the process ends.
pub(super) struct Implementation {
    address: SocketAddr,
    sockets: Arc<Sockets>,
}

/// The WebSockets that are open, in the order in which they were opened.
#[derive(Default)]
struct Sockets(Mutex<Vec<Arc<Mutex<TcpStream>>>>, Condvar);

impl Implementation {
    pub(super) fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, sockets) = (listener.local_addr().unwrap(), Arc::<Sockets>::default());
        let all = sockets.clone();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (stream, all) = (stream.unwrap(), all.clone());
                let connection = thread::Builder::new().stack_size(STACK);
                connection.spawn(move || serve(stream, &all)).unwrap();
            }
        });
        Self { address, sockets }
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The URL of the WebSocket of this account.
    pub(super) fn websocket(&self, number: u64) -> String {
        format!("ws://{}/{number}", self.address)
    }

    /// Waits for the WebSocket that is opened as this one, from 0 on, to write events to.
    pub(super) fn socket(&self, place: usize) -> EventSink {
        let Sockets(all, opened) = &*self.sockets;
        let all = opened.wait_while(all.lock().unwrap(), |all| all.len() <= place).unwrap();
        EventSink(all[place].clone())
    }
}

/// Where events are written to.
pub(super) struct EventSink(Arc<Mutex<TcpStream>>);

impl EventSink {
    /// Writes one frame, at once.
    pub(super) fn pour(&self, frame: &[u8]) {
        self.0.lock().unwrap().write_all(frame).unwrap();
    }
}

/// A frame of a server with a text (RFC 6455, 5.2).
pub(super) fn text_frame(text: &str) -> Vec<u8> {
    let length = text.len();
    let mut frame = vec![0x81];
    match u8::try_from(length) {
        Ok(short @ ..126) => frame.push(short),
        _ => {
            frame.push(126);
            frame.extend(u16::try_from(length).unwrap().to_be_bytes());
        }
    }
    frame.extend(text.as_bytes());
    frame
}

/// A message of the group, of the size that NapCat's have.
pub(super) fn message(account: u64, number: usize, time: u64) -> String {
    let words = format!("第{number}条：今天晚上八点在老地方见，带上伞，天气预报说有雨");
    format!(
        r#"{{"self_id":{account},"user_id":{PERSON},"time":{time},"message_id":{number},"message_seq":{number},"real_id":{number},"message_type":"group","sender":{{"user_id":{PERSON},"nickname":"小红","card":"","role":"member"}},"raw_message":"{words}","font":14,"sub_type":"normal","message":[{{"type":"text","data":{{"text":"{words}"}}}}],"message_format":"array","post_type":"message","group_id":{GROUP}}}"#
    )
}

/// The number of a message, in its event.
pub(super) fn number_in(event: &[u8]) -> Option<usize> {
    const KEY: &[u8] = b"\"message_id\":";
    let start = event.windows(KEY.len()).position(|part| part == KEY)? + KEY.len();
    let digits = event[start..].iter().take_while(|byte| byte.is_ascii_digit());
    Some(digits.fold(0, |number, digit| number * 10 + usize::from(digit - b'0')))
}

fn serve(stream: TcpStream, all: &Sockets) {
    stream.set_nodelay(true).unwrap();
    let mut begin = [0; 64];
    // The first line is enough, and comes in one piece.
    let read = stream.peek(&mut begin).unwrap_or(0);
    let path = String::from_utf8_lossy(&begin[..read]).split(' ').nth(1).unwrap_or_default().to_owned();
    match path.trim_start_matches('/').parse() {
        Ok(account) => talk(stream, account, all),
        Err(_) => answer_requests(stream),
    }
}

/// A stream whose writes are whole, whichever thread makes them.
struct Shared {
    reads: TcpStream,
    writes: Arc<Mutex<TcpStream>>,
}

impl Read for Shared {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.reads.read(bytes)
    }
}

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.writes.lock().unwrap().write_all(bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Answers what comes on a WebSocket, until it ends.
fn talk(stream: TcpStream, account: u64, all: &Sockets) {
    let writes = Arc::new(Mutex::new(stream.try_clone().unwrap()));
    let Ok(mut socket) = tungstenite::accept(Shared { reads: stream, writes: writes.clone() }) else {
        return;
    };
    all.0.lock().unwrap().push(writes);
    all.1.notify_all();
    loop {
        match socket.read() {
            Ok(Message::Text(text)) => {
                let call: Value = serde_json::from_str(&text).unwrap();
                let mut answer = answer(account, call["action"].as_str().unwrap());
                answer["echo"] = call["echo"].clone();
                if socket.send(Message::text(answer.to_string())).is_err() {
                    return;
                }
            }
            Ok(_) => {}
            Err(_) => return,
        }
    }
}

/// Answers requests by HTTP, until there is none.
fn answer_requests(stream: TcpStream) {
    let mut stream = BufReader::new(stream);
    loop {
        let (mut head, mut length) = (String::new(), 0);
        while !head.ends_with("\r\n\r\n") {
            let from = head.len();
            if stream.read_line(&mut head).unwrap_or(0) == 0 {
                return;
            }
            let line = head[from..].to_ascii_lowercase();
            length =
                line.strip_prefix("content-length:").map_or(length, |value| value.trim().parse().unwrap());
        }
        stream.read_exact(&mut vec![0; length]).unwrap();
        let path = head.split(' ').nth(1).unwrap();
        let body = answer(0, path.trim_start_matches('/')).to_string();
        let whole = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        if stream.get_mut().write_all(whole.as_bytes()).is_err() {
            return;
        }
    }
}

/// The answer to an action.
fn answer(account: u64, action: &str) -> Value {
    let person = json!({ "user_id": PERSON, "nickname": "小红", "remark": "", "card": "", "role": "member", "sex": "female" });
    let data = match action {
        "get_login_info" => json!({ "user_id": account, "nickname": "机器人" }),
        "get_status" => json!({ "online": true, "good": true }),
        "get_friend_list" => json!([person]),
        "get_group_list" => {
            json!([{ "group_id": GROUP, "group_name": "老地方", "member_count": 2, "max_member_count": 200 }])
        }
        "get_group_member_list" => {
            json!([person, { "user_id": account, "nickname": "机器人", "card": "", "role": "member" }])
        }
        "get_group_member_info" | "get_stranger_info" => person,
        "send_group_msg" => json!({ "message_id": 7 }),
        _ => return json!({ "status": "failed", "retcode": 1404, "data": null, "message": "no such action" }),
    };
    json!({ "status": "ok", "retcode": 0, "data": data, "message": "" })
}
