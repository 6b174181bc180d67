//! Logins: by scan, again, and as they are lost.

use std::os::unix::net::UnixDatagram;

use serde_json::json;

use super::process::{Answer, Client, PATIENCE, Setup, scan, until};
use super::receiver::Receiver;

/// What the code in the image leads to: the path of its URL.
fn scanned(client: &Client) -> String {
    let image = until("the image", || std::fs::read(client.setup.image()).ok());
    let url = scan(&image);
    url.strip_prefix(&format!("http://127.0.0.1:{}", client.setup.port)).unwrap().to_owned()
}

fn is_gone(answer: &Answer) {
    assert_eq!((answer.status, answer.header("content-type")), (410, Some("text/html; charset=utf-8")));
}

#[test]
fn login_waits_for_scan_and_confirmation() {
    let client = Setup::new(&[("SANDBOX_LOGIN", "scan")]).start();
    client.setup.until_state("scaning");
    let path = scanned(&client);
    is_gone(&client.get("/sandbox/login/0123"));
    is_gone(&client.get("/sandbox/login/"));
    assert_eq!(client.call("HEAD", &path).status, 403);
    assert_eq!(client.setup.report().unwrap().state.as_str(), "scaning");
    let page = client.get(&path);
    assert_eq!(page.status, 200);
    assert!(
        page.body.contains("小明 &amp; co") && page.body.contains(&format!("action=\"{path}\"")),
        "{page:?}"
    );
    client.setup.until_state("confirming");
    assert_eq!(client.post(&path, "").status, 200);
    client.setup.until_state("running");
    is_gone(&client.get(&path));
}

#[test]
fn unscanned_codes_are_renewed_up_to_the_limit() {
    let mut client = Setup::new(&[
        ("SANDBOX_LOGIN", "scan"),
        ("QRCODE_EXPIRE", "0.05"),
        ("QRCODE_COUNT_MAX", "3"),
        // A receiver may miss one, whose place in the queue a newer code takes.
        ("PLUGIN_OPENQQ_POST_STDOUT", "1"),
    ])
    .start();
    assert_eq!(client.until_exit().code(), Some(0));
    let log = client.setup.log();
    assert!(log.contains("none of the login codes was scanned"));
    let reports = log.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let codes = reports.filter(|report| report["event"] == "input_qrcode");
    let mut images: Vec<_> = codes.map(|report| report["params"][1].as_str().unwrap().to_owned()).collect();
    images.dedup();
    assert_eq!(images.len(), 3, "not three different codes");
    assert_eq!(client.setup.report().unwrap().fields()["qrcode_count_max"], 3);
}

#[test]
fn relogin_logs_in_again() {
    let receiver = Receiver::new(|_| String::new());
    let client = Client::running(&[("PLUGIN_OPENQQ_POST_API", &receiver.url)]);
    assert_eq!(client.call("POST", "/openqq/relogin").status, 403);
    let began = std::time::Instant::now();
    let answer = client.get("/openqq/relogin?client=x").json();
    let status = format!("success, client({}) will relogin in 3 seconds", client.pid());
    assert_eq!(answer, json!({ "code": 0, "account": super::process::ACCOUNT, "status": status }));
    let changes = |old: &str, new: &str| loop {
        let report = receiver.next().json;
        if report["params"] == json!([old, new]) {
            return;
        }
    };
    changes("running", "loading");
    assert!(began.elapsed() > std::time::Duration::from_millis(2900), "not after 3 seconds, as it said");
    changes("loading", "scaning");
    changes("updating", "running");
    assert_eq!(receiver.next().json["params"], json!([1]));
}

#[test]
fn lost_connection_needs_no_scan_but_an_expired_login_does() {
    for (fault, scan) in [("SANDBOX_FAULT_DROP", 0), ("SANDBOX_FAULT_EXPIRE", 1)] {
        let receiver = Receiver::new(|_| String::new());
        let _client = Client::running(&[(fault, "0.2"), ("PLUGIN_OPENQQ_POST_API", &receiver.url)]);
        let login = || loop {
            let report = receiver.next().json;
            if report["event"] == "login" {
                return report["params"][0].clone();
            }
        };
        assert_eq!((login(), login()), (json!(1), json!(scan)), "{fault}");
    }
}

#[test]
fn sandbox_fault_fails_some_messages() {
    let client = Client::running(&[("SANDBOX_FAULT_FAIL", "3"), ("SANDBOX_FAULT_DELAY", "0.05")]);
    let begin = std::time::Instant::now();
    let send = || client.get("/openqq/send_friend_message?uid=10001&content=x").json();
    for n in 1..=6 {
        let answer = send();
        assert_eq!(answer["status"] == "发送失败", n % 3 == 0, "{answer}");
    }
    // However fast everything else was.
    assert!(begin.elapsed() >= std::time::Duration::from_millis(6 * 50));
}

#[test]
fn systemd_status_shows_the_state() {
    let mut setup = Setup::new(&[]);
    let path = setup.path("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    setup.environment("NOTIFY_SOCKET", path.to_str().unwrap());
    let mut client = setup.start();
    let mut heard = String::new();
    let mut until_word = |word: &str| {
        while !heard.contains(word) {
            let mut buffer = [0; 256];
            let length = socket.recv(&mut buffer).unwrap();
            heard.push_str(std::str::from_utf8(&buffer[..length]).unwrap());
        }
    };
    until_word("STATUS=scaning");
    until_word("STATUS=running\nREADY=1");
    client.signal(rustix::process::Signal::TERM);
    until_word("STATUS=stop\nSTOPPING=1");
    client.until_exit();
}
