//! Actions through the controller's door and the client, in turn with the same ones at the implementation itself.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::{self, Message, WebSocket};

use super::implementation::{GROUP, Implementation};
use super::{at, figure, heading, load, one_account, times};

const ROUNDS: usize = 3000;
/// Calls that are not measured, so that all has been used once.
const FIRST: usize = 100;

pub(super) fn measure() -> String {
    let implementation = Implementation::new();
    let controller = one_account(&implementation, "");
    let (ours, theirs) = (controller.address, implementation.address());
    let message = json!({ "group_id": GROUP, "message": "今天晚上八点在老地方见" });
    heading();
    for (action, params) in [("get_status", json!({})), ("send_group_msg", message)] {
        let mut by_http = [
            Requests::new(theirs, format!("/{action}"), &params),
            Requests::new(ours, format!("/clients/a/onebot/v11/{action}"), &params),
        ];
        let [direct, through] = in_turn(|place| by_http[place].call());
        lines(&format!("{action} by HTTP"), direct, through);
        let mut by_websocket = [
            Calls::new(theirs, "/10000", action, &params),
            Calls::new(ours, "/clients/a/onebot/v11/ws", action, &params),
        ];
        let [direct, through] = in_turn(|place| by_websocket[place].call());
        lines(&format!("{action} by WebSocket"), direct, through);
    }
    load()
}

/// How long each call of the first and of the second took, made in turn.
fn in_turn(mut call: impl FnMut(usize)) -> [Vec<Duration>; 2] {
    let mut taken = [const { Vec::new() }; 2];
    for round in 0..FIRST + ROUNDS {
        for (place, taken) in taken.iter_mut().enumerate() {
            let began = Instant::now();
            call(place);
            if round >= FIRST {
                taken.push(began.elapsed());
            }
        }
    }
    taken
}

fn lines(name: &str, mut direct: Vec<Duration>, mut through: Vec<Duration>) {
    times(&format!("{name}, at the implementation itself"), &mut direct, "");
    times(&format!("{name}, through door and client"), &mut through, "");
    let more = at(&through, 0.5) - at(&direct, 0.5);
    figure("    p50 more", &format!("{more:+.2} ms"), "+0.5 ms");
}

/// Requests on one connection that is kept.
struct Requests {
    stream: BufReader<TcpStream>,
    request: String,
}

impl Requests {
    fn new(address: SocketAddr, path: String, params: &Value) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        let body = params.to_string();
        let request = format!(
            "POST {path} HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        Self { stream: BufReader::new(stream), request }
    }

    fn call(&mut self) {
        self.stream.get_mut().write_all(self.request.as_bytes()).unwrap();
        let (mut head, mut length) = (String::new(), 0);
        while !head.ends_with("\r\n\r\n") {
            let from = head.len();
            assert_ne!(self.stream.read_line(&mut head).unwrap(), 0, "the connection has ended: {head}");
            let line = head[from..].to_ascii_lowercase();
            length =
                line.strip_prefix("content-length:").map_or(length, |value| value.trim().parse().unwrap());
        }
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).unwrap();
        let answer: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(answer["status"], "ok", "{head}{answer}");
    }
}

/// Calls on one WebSocket.
struct Calls {
    socket: WebSocket<TcpStream>,
    call: String,
}

impl Calls {
    fn new(address: SocketAddr, path: &str, action: &str, params: &Value) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        let (socket, _) = tungstenite::client(format!("ws://{address}{path}"), stream).unwrap();
        Self { socket, call: json!({ "action": action, "params": params, "echo": "e" }).to_string() }
    }

    fn call(&mut self) {
        self.socket.send(Message::text(self.call.clone())).unwrap();
        loop {
            let frame = self.socket.read().unwrap();
            if !frame.is_text() {
                continue;
            }
            let answer: Value = serde_json::from_str(frame.to_text().unwrap()).unwrap();
            // Events of the connection come as well.
            if answer["echo"] == "e" {
                assert_eq!(answer["status"], "ok", "{answer}");
                return;
            }
        }
    }
}
