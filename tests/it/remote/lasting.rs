//! Many events over many connections, and an account that knows many people.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::implementation::{Manner, OWN, ok};
use super::running;
use super::server::Server;
use crate::client::process::{PATIENCE, until};

/// How many messages each connection carries, and how many connections there are. Fewer over Milky, where the same code counts.
///
/// Together they are more than the 4,096 events that the client remembers, so repeats are recognized by the memory of the
/// last ones. Each message costs a report by HTTP, half a millisecond in a debug build: ten times as many take a minute, and
/// prove nothing more.
const LASTING: [(Manner, usize, usize); 2] = [(Manner::Strict, 1_000, 10), (Manner::Milky, 500, 3)];

/// Takes reports on one connection after another, as fast as can be, and passes on what the messages say.
fn contents() -> (String, Receiver<usize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let (sender, contents) = channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let stream = stream.unwrap();
            stream.set_nodelay(true).unwrap();
            let mut reader = BufReader::new(stream);
            loop {
                let mut head = String::new();
                while reader.read_line(&mut head).unwrap_or(0) > 2 {}
                let Some(length) = head.lines().find_map(|line| line.strip_prefix("content-length: ")) else {
                    break;
                };
                let mut body = vec![0; length.parse().unwrap()];
                reader.read_exact(&mut body).unwrap();
                let report: Value = serde_json::from_slice(&body).unwrap();
                reader.get_mut().write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").unwrap();
                if let Some(content) = report["content"].as_str()
                    && sender.send(content.parse().unwrap()).is_err()
                {
                    return;
                }
            }
        }
    });
    (url, contents)
}

#[test]
fn events_over_lost_connections_are_reported_once() {
    for (manner, each, connections) in LASTING {
        report_over_lost_connections(manner, each, connections);
    }
}

/// Messages in order, over connections that are lost: how long it takes until each is reported, once.
pub(super) fn report_over_lost_connections(manner: Manner, each: usize, connections: usize) -> Duration {
    let server = Server::new(manner);
    let (url, contents) = contents();
    let vars = [
        ("PLUGIN_OPENQQ_POST_API", url.as_str()),
        ("POST_EVENT", "0"),
        ("POST_QUEUE", "100000"),
        ("LOG_LEVEL", "warn"),
    ];
    let _client = running(&server, &vars);
    let event = |n: usize| {
        json!({
            "post_type": "message", "message_type": "private", "sub_type": "friend", "user_id": 7,
            "message_id": n, "message": n.to_string(), "sender": { "nickname": "小红" },
        })
    };
    let begin = Instant::now();
    for connection in 0..connections {
        let first = connection * each;
        // The implementation does not know whether the last ones arrived, and repeats them.
        for n in first.saturating_sub(3)..first + each {
            server.tell(event(n));
        }
        server.hang_up();
    }
    for n in 0..each * connections {
        assert_eq!(contents.recv_timeout(PATIENCE).expect("lost"), n);
    }
    let took = begin.elapsed();
    server.tell(event(each * connections));
    assert_eq!(contents.recv_timeout(PATIENCE).unwrap(), each * connections);
    assert_eq!(server.connected(), connections + 1);
    took
}

/// The most that a process held in memory, in MiB.
pub(super) fn peak(pid: u32) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<f64>().unwrap() / 1024.0
}

#[cfg_attr(test, allow(dead_code, reason = "the benchmark shows all of it"))]
/// What an account of 5,000 friends and groups of 2,000 takes.
pub(super) struct LargeAccount {
    /// The first `get_friend_info`.
    pub(super) first: Duration,
    /// Half of those after it took at most this.
    pub(super) p50: Duration,
    /// Nearly all of those after it took at most this.
    pub(super) p99: Duration,
    /// The most memory with the lists, in MiB.
    pub(super) with_lists: f64,
    /// The most memory with all members asked for, in MiB.
    pub(super) with_members: f64,
}

#[test]
fn account_with_many_people_fits_into_150_mib() {
    for manner in Manner::NETWORKS {
        // More members than are kept.
        let taken = large_account(manner, 100);
        assert!(taken.with_members <= 150.0, "{manner:?}: {} MiB", taken.with_members);
    }
}

pub(super) fn large_account(manner: Manner, groups: u64) -> LargeAccount {
    const FRIENDS: u64 = 5_000;
    const MEMBERS: u64 = 2_000;
    let server = Server::new(manner);
    let friend = |n: u64| json!({ "user_id": 1_000_000 + n, "nickname": format!("朋友{n}"), "remark": format!("备注{n}") });
    *server.friends() = (0..FRIENDS).map(friend).collect();
    // Milky has each friend's category in the list of friends, OneBot in another one.
    let categories: Value = ["我的好友", "同学"]
        .into_iter()
        .enumerate()
        .map(|(number, name)| {
            let friends: Value = (0..FRIENDS).filter(|n| n % 2 == number as u64).map(friend).collect();
            json!({ "categoryId": number, "categoryName": name, "buddyList": friends })
        })
        .collect();
    server.answer("get_friends_with_category", move |_| Some(ok(categories.clone())));
    let group = |n: u64| json!({ "group_id": 2_000_000 + n, "group_name": format!("群{n}"), "max_member_count": MEMBERS });
    *server.groups() = (0..groups).map(group).collect();
    server.answer("get_group_member_list", |params| {
        let member = |n: u64| {
            let uid = if n == 0 { OWN } else { 3_000_000 + n };
            json!({
                "group_id": params["group_id"], "user_id": uid, "nickname": format!("成员{n}"), "card": format!("名片{n}"),
                "role": "member", "sex": "unknown", "join_time": 1, "last_sent_time": 2, "level": "1",
            })
        };
        Some(ok((0..MEMBERS).map(member).collect()))
    });
    server.answer("get_group_member_info", |params| {
        Some(ok(json!({ "group_id": params["group_id"], "user_id": params["user_id"], "role": "admin" })))
    });
    let client = running(&server, &[("LOG_LEVEL", "warn")]);
    // The first time, and the others.
    let mut took = Vec::new();
    for _ in 0..100 {
        let begin = Instant::now();
        let friends = client.get("/openqq/get_friend_info");
        took.push(begin.elapsed());
        assert_eq!(friends.json().as_array().unwrap().len() as u64, FRIENDS);
    }
    let first = took[0];
    took.sort_unstable();
    until("the own roles", || {
        let groups = client.get("/openqq/get_group_basic_info").json();
        groups.as_array().unwrap().iter().all(|group| group["role"] == "manage").then_some(())
    });
    let with_lists = peak(client.pid());
    let mut answer =
        crate::client::process::send_request(client.setup.port, "GET /openqq/get_group_info", "", "")
            .unwrap();
    let (mut read, mut buffer) = (0, vec![0; 64 * 1024]);
    loop {
        match answer.read(&mut buffer).unwrap() {
            0 => break,
            some => read += some,
        }
    }
    assert!(read as u64 > groups * MEMBERS * 200, "{read} bytes");
    assert!(server.calls("get_group_member_list").len() as u64 == groups);
    LargeAccount { first, p50: took[50], p99: took[98], with_lists, with_members: peak(client.pid()) }
}
