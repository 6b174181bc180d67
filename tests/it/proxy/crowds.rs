//! Many callers, slow ones, and the limits that keep them from delaying others.

use std::io::Read;

use rustix::process::Signal;

use super::{Caller, form, get, header, wait_for_count, with_client};
use crate::fixture::{freeze, wait_until};

#[test]
fn connection_over_limit_gets_503() {
    let controller = with_client("[http]\nmax_connections = 2");
    let mut held = Vec::new();
    wait_until("all places are taken", || {
        let mut caller = Caller::with(&controller, "GET /openqq/ping?client=a HTTP/1.1\r\nHost: x\r\n\r\n");
        // Those of the calls before this test may not be free yet.
        held.extend(caller.read_head().contains(" 200 ").then_some(caller));
        held.len() == 2
    });
    // It says more than anybody reads, all of it before it is refused, and yet gets its answer.
    freeze(controller.pid());
    let mut caller = Caller::with(&controller, form("POST", "/openqq/upload?client=a", vec![b'x'; 100_000]));
    controller.signal(Signal::CONT);
    let mut refused = String::new();
    caller.0.read_to_string(&mut refused).unwrap();
    assert!(refused.starts_with("HTTP/1.1 503 Service Unavailable\r\n"), "{refused}");
    assert_eq!((header(&refused, "retry-after"), header(&refused, "connection")), (Some("1"), Some("close")));
    drop(held.pop());
    wait_until("there is room again", || get(&controller, "/openqq/ping?client=a").head.contains(" 200 "));
}

#[test]
fn max_inflight_per_client_gives_503() {
    let controller = with_client("[http]\nmax_inflight_per_client = 3");
    let hang = "GET /openqq/hang?client=a HTTP/1.1\r\nHost: x\r\n\r\n";
    let mut waiting: Vec<Caller> = (0..2).map(|_| Caller::with(&controller, hang)).collect();
    wait_for_count(&controller, "held", |held| held == 2);
    waiting.push(Caller::with(&controller, hang));
    wait_for_count(&controller, "held", |held| held == 3);
    let refused = get(&controller, "/openqq/ping?client=a");
    refused.is_refused("503 Service Unavailable", "the client has 3 requests to answer already");
    assert_eq!(header(&refused.head, "retry-after"), Some("1"));
    controller.start_client("b");
    controller.wait_for_listening("b");
    drop(waiting);
    wait_until("there is room again", || {
        get(&controller, "/openqq/ping?client=a").status().contains(" 200 ")
    });
}

#[test]
fn slow_callers_do_not_delay_others() {
    let limit = 120;
    let controller = with_client(&format!("[http]\nmax_inflight_per_client = {limit}"));
    controller.start_client("b");
    controller.wait_for_listening("b");
    let upload = "POST /openqq/upload?client=a HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nx";
    let form = "POST /openqq/echo HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\n\
                Content-Length: 100\r\n\r\nclient=a&";
    let pour = "GET /openqq/pour?client=a&size=100000000 HTTP/1.1\r\nHost: x\r\n\r\n";
    let half = "GET /openqq/ping?client=a HTTP/1.1\r\nHost: x\r\nX-";
    let slow: Vec<Caller> = (0..50)
        .flat_map(|_| [upload, form, pour, half])
        .map(|part| Caller::with(&controller, part))
        .collect();
    wait_for_count(&controller, "received", |received| received >= 50);
    for _ in 0..100 {
        for client in ["a", "b"] {
            assert_eq!(get(&controller, &format!("/openqq/ping?client={client}")).text(), "pong");
        }
        assert_eq!(controller.clients().len(), 2);
    }
    assert_eq!(controller.start_client("c")["code"], 0);
    // As many more as the client may have of those who read nothing, and some for whom there is no place.
    let mut more: Vec<Caller> = (0..limit).map(|_| Caller::with(&controller, pour)).collect();
    wait_until("a is full", || {
        let is_full = get(&controller, "/openqq/ping?client=a").status().contains(" 503 ");
        if !is_full {
            // The question may have had the last place while all of these were refused.
            more.push(Caller::with(&controller, pour));
        }
        is_full
    });
    for _ in 0..100 {
        assert_eq!(get(&controller, "/openqq/ping?client=b").text(), "pong");
        assert_eq!(controller.clients().len(), 3);
    }
    drop((slow, more));
    wait_until("a has room", || get(&controller, "/openqq/ping?client=a").status().contains(" 200 "));
}
