//! Implementations that lie or flood: what becomes of their accounts, and of the controller.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use super::login::{START, account, happen, log_in, of_kind, until_login};
use crate::client::receiver::Receiver;
use crate::fixture::{Controller, free_port, wait_until};

/// Has this happen, and returns when it has.
fn happened(controller: &Controller, event: &str) {
    happen(controller, event);
    let word = controller.path("implementations/a/event");
    wait_until("it has read the word", || !word.exists());
}

fn until_running(controller: &Controller) {
    wait_until("its client is running", || account(controller)["state"] == "running");
}

/// The most memory that the controller has had, in KiB.
fn peak_memory(controller: &Controller) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", controller.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn lying_answers_are_not_believed_and_cost_little() {
    let controller = of_kind("llbot", "");
    controller.start_client_with("a", START);
    until_login(&controller, "code");
    happened(&controller, "lie name");
    happened(&controller, "online");
    let found = until_login(&controller, "online");
    let name = found["login"]["nickname"].as_str().unwrap();
    assert!(name.len() <= 200 && name.ends_with('小') && !name.contains(char::is_control), "{name}");
    until_running(&controller);
    let before = peak_memory(&controller);
    for lie in ["deep", "endless", "huge"] {
        happened(&controller, &format!("lie {lie}"));
        if lie == "huge" {
            // The client alone is answered so.
            controller.get("/openqq/send_friend_message?client=a&uid=7&content=x");
        }
        let found = until_login(&controller, "offline");
        assert_ne!(found["state"], "running", "{lie}");
        let reason = found["login"]["reason"].as_str().unwrap();
        let expected =
            if lie == "huge" { "it sends more at once than" } else { "its implementation does not answer" };
        assert!(reason.contains(expected), "{lie}: {reason}");
        happened(&controller, "lie");
        until_login(&controller, "online");
        until_running(&controller);
    }
    let grown = peak_memory(&controller) - before;
    assert!(grown < 32 * 1024, "the controller grew by {grown} KiB");
}

#[test]
fn redirect_of_a_page_is_not_followed() {
    // Such as a port of the controller's or of another account's.
    let other = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    other.set_nonblocking(true).unwrap();
    let controller = of_kind("napcat", "");
    log_in(&controller);
    happened(
        &controller,
        &format!("lie redirect http://{}/openqq/stop_client?client=a", other.local_addr().unwrap()),
    );
    let found = until_login(&controller, "offline");
    assert_eq!(found["login"]["reason"], "its implementation does not answer");
    assert_eq!(other.accept().unwrap_err().kind(), ErrorKind::WouldBlock, "it was called");
    happened(&controller, "lie");
    until_login(&controller, "online");
}

#[test]
fn login_of_another_account_is_not_used() {
    let controller = of_kind("llbot", "");
    controller.start_client_with("a", START);
    until_login(&controller, "code");
    happened(&controller, "lie other");
    happened(&controller, "online");
    wait_until("its client refuses it", || {
        account(&controller)["reason"].as_str().is_some_and(|reason| reason.contains("20002"))
    });
    let found = account(&controller);
    assert_ne!(found["state"], "running", "{found}");
    let sent = controller.get("/openqq/send_friend_message?client=a&uid=7&content=x").json();
    assert_ne!(sent["code"], 0, "{sent}");
}

#[test]
fn flood_is_bounded_and_calls_are_answered_meanwhile() {
    const KEPT: usize = 100;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
    let controller = of_kind("llbot", "");
    // The receiver is away, so that reports wait. A line for each message would use up what is logged of a client.
    controller.start_client_with(
        "a",
        &format!("{START}&post_queue={KEPT}&post_retry_max=1&log_level=warn&post_event=0&post_api=http://{address}/"),
    );
    until_login(&controller, "code");
    happened(&controller, "online");
    until_login(&controller, "online");
    until_running(&controller);
    happen(&controller, "flood");
    let call = |call: &str| controller.get(&format!("/openqq/{call}client=a")).json();
    let mut newest = String::new();
    while !newest.contains("flood 999") {
        assert_eq!(call("get_friend_info?")[0]["uid"], "7");
        let sent = call("send_friend_message?uid=7&content=hello&");
        assert_eq!(sent["code"], 0, "{sent}");
        newest = call("check_event?").to_string();
    }
    let found = account(&controller);
    assert_eq!((&found["login"]["state"], &found["state"]), (&"online".into(), &"running".into()), "{found}");

    let receiver = Receiver::on(address, |_| String::new());
    let mut got = Vec::new();
    while got.last().is_none_or(|last: &String| last != "flood 999") {
        let report = receiver.next_message();
        // Those of our own are between them.
        got.extend(report["content"].as_str().filter(|text| text.starts_with("flood")).map(str::to_owned));
    }
    // The one that was under way is kept besides.
    assert!((2..=KEPT + 1).contains(&got.len()), "{got:?}");
    let newest: Vec<_> = (1000 - (got.len() - 1)..1000).map(|number| format!("flood {number}")).collect();
    assert_eq!(got[1..], newest, "the newest are kept, in order");
    controller.log.wait_for("a: dropped reports to ");
    let log = controller.log.text();
    for said in ["dropping reports to ", "dropped reports to "] {
        assert_eq!(log.matches(said).count(), 1, "{said}: {log}");
    }
    assert!(!log.contains("the account is offline") && !log.contains("lost the connection"), "{log}");
}
