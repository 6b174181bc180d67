//! The controller's own heartbeat: it calls `poll_api`, follows where the answer leads, and calls again, for ever.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::fixture::{Builder, Controller, wait_until};
use crate::server::{OK, Server};

/// What the log says when calls begin to fail.
const TROUBLE: &str = "poll_api failed: ";
/// What it says when they work again.
const MENDED: &str = "poll_api works again";

fn redirect(to: &str) -> String {
    format!("HTTP/1.1 302 Found\r\nLocation: {to}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
}

fn status(status: &str) -> String {
    format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: 4\r\n\r\nbody")
}

/// A controller that calls `url` without much of a pause.
fn calling(url: &str) -> Controller {
    Builder::new().config(&format!("poll_api = {url:?}\npoll_interval = 0.001")).start()
}

#[test]
fn heartbeat_redirect_to_own_api_starts_client() {
    let order: Arc<Mutex<Option<String>>> = Arc::default();
    let given = order.clone();
    let server =
        Server::new(move |_, _| given.lock().unwrap().take().map_or(OK.to_owned(), |to| redirect(&to)));
    let controller = calling(&server.url("/poll"));
    server.wait_for(1);
    assert!(controller.clients().is_empty());
    *order.lock().unwrap() = Some(controller.url("/openqq/start_client?client=a&note=from+outside"));
    wait_until("the client is there", || controller.clients().len() == 1);
    assert_eq!(controller.start_client_with("a", "")["note"], "from outside");
    server.wait_for_more(1);
    *order.lock().unwrap() = Some(controller.url("/openqq/stop_client?client=a"));
    wait_until("the client is gone", || controller.clients().is_empty());
    assert_eq!(controller.log.count(TROUBLE), 0);
}

#[test]
fn heartbeat_is_get_with_user_agent_and_continues_after_errors() {
    let answers = [
        OK.to_owned(),
        status("204 No Content").replace("Content-Length: 4\r\n\r\nbody", "\r\n"),
        status("404 Not Found"),
        status("500 Internal Server Error"),
        String::new(),
        "this is no HTTP\r\n\r\n".to_owned(),
        "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf".to_owned(),
        redirect("/poll?k=%2F&v=+"),
        redirect("ftp://127.0.0.1/x"),
        redirect("http://127.0.0.1:0/"),
        redirect("\u{7f}"),
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n".to_owned(),
        format!("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{}", "x".repeat(1_000_000)),
    ];
    let count = answers.len();
    let server = Server::new(move |number, _| answers[number % answers.len()].clone());
    let controller = calling(&server.url("/poll?k=%2F&v=+"));
    let requests = server.wait_for(count * 3);
    for request in &requests {
        assert_eq!(request.line, "GET /poll?k=%2F&v=+ HTTP/1.1");
        assert!(request.body.is_empty());
        assert!(request.headers.contains("wqcontroller/"), "{}", request.headers);
    }
    assert_eq!(controller.start_client("a")["code"], 0, "and nothing else suffers");
}

#[test]
fn heartbeat_interval_counts_from_response() {
    const INTERVAL: Duration = Duration::from_millis(200);
    let answered: Arc<Mutex<Vec<Instant>>> = Arc::default();
    let noted = answered.clone();
    let server = Server::new(move |_, _| {
        noted.lock().unwrap().push(Instant::now());
        OK.to_owned()
    });
    let config = format!("poll_api = {:?}\npoll_interval = 0.2", server.url("/"));
    let _controller = Builder::new().config(&config).start();
    let requests = server.wait_for(4);
    let answered = answered.lock().unwrap();
    for (answer, request) in answered.iter().zip(&requests[1..]) {
        assert!(request.came.duration_since(*answer) >= INTERVAL, "it came too early");
    }
}

#[test]
fn heartbeat_waits_for_slow_response() {
    let go: Arc<(Mutex<bool>, Condvar)> = Arc::default();
    let gate = go.clone();
    let server = Server::new(move |_, _| {
        drop(gate.1.wait_while(gate.0.lock().unwrap(), |go| !*go).unwrap());
        OK.to_owned()
    });
    let controller = calling(&server.url("/"));
    server.wait_for(1);
    // The controller has time for others, and none for a second call.
    for name in ["a", "b", "c"] {
        controller.start_client(name);
        controller.wait_for_listening(name);
    }
    assert_eq!(server.requests().len(), 1);
    *go.0.lock().unwrap() = true;
    go.1.notify_all();
    server.wait_for(3);
    assert_eq!(controller.log.count(TROUBLE), 0);
}

#[test]
fn shutdown_does_not_wait_for_heartbeat() {
    let server = Server::new(|_, _| {
        std::thread::park();
        String::new()
    });
    let mut controller = calling(&server.url("/"));
    server.wait_for(1);
    assert_eq!(controller.end().code(), Some(0));
}

#[test]
fn heartbeat_failure_and_recovery_are_logged_once() {
    let answer: Arc<Mutex<String>> = Arc::default();
    let given = answer.clone();
    let server = Server::new(move |_, _| given.lock().unwrap().clone());
    let controller = calling(&server.url("/poll?token=hunter2"));
    let told = || (controller.log.count(TROUBLE), controller.log.count(MENDED));
    // Two more calls: the first may have had the answer before.
    controller.log.wait_for_times(TROUBLE, 1);
    server.wait_for_more(3);
    assert_eq!(told(), (1, 0));
    *answer.lock().unwrap() = OK.to_owned();
    controller.log.wait_for_times(MENDED, 1);
    server.wait_for_more(3);
    assert_eq!(told(), (1, 1));
    *answer.lock().unwrap() = status("500 Internal Server Error");
    let log = controller.log.wait_for_times(TROUBLE, 2);
    assert!(log.contains("500 Internal Server Error"), "{log}");
    server.wait_for_more(3);
    assert_eq!(told(), (2, 1));
    // Another trouble is news.
    *answer.lock().unwrap() = status("404 Not Found");
    let log = controller.log.wait_for_times(TROUBLE, 3);
    assert!(log.contains("404 Not Found"), "{log}");
    server.wait_for_more(3);
    assert_eq!(told(), (3, 1));
    *answer.lock().unwrap() = OK.to_owned();
    controller.log.wait_for_times(MENDED, 2);
    assert!(!controller.log.text().contains("hunter2"));
}

#[test]
fn heartbeat_url_secrets_are_not_logged() {
    let bad = Arc::new(AtomicBool::new(true));
    let is_bad = bad.clone();
    let server = Server::new(move |number, request| match (is_bad.load(Ordering::SeqCst), number % 4) {
        (true, 0) => String::new(),
        (true, 1) => redirect(request.line.split(' ').nth(1).unwrap()),
        (true, 2) => redirect("ftp://hunter2@127.0.0.1/?hunter2"),
        (true, _) => status("403 Forbidden"),
        (false, _) => OK.to_owned(),
    });
    let url = |path: &str| format!("http://me:hunter2@{}{path}?token=hunter2", server.address);
    let config = format!("log_level = \"debug\"\npoll_api = {:?}\npoll_interval = 0.001", url("/poll"));
    let controller = Builder::new().config(&config).start();
    let requests = server.wait_for(8);
    assert_eq!(requests[0].line, "GET /poll?token=hunter2 HTTP/1.1", "it is sent, all of it");
    assert!(requests[0].headers.contains("Basic bWU6aHVudGVyMg=="), "{}", requests[0].headers);
    controller.write_config(&controller.read_config().replace("/poll?", "/other?"));
    controller.reload();
    bad.store(false, Ordering::SeqCst);
    controller.log.wait_for(&format!("poll_api at http://***@{}/other?***", server.address));
    server.wait_for_more(3);
    let told = |headers: &str| headers.lines().any(|line| line.to_lowercase().starts_with("referer:"));
    assert!(
        !server.requests().iter().any(|request| told(&request.headers)),
        "where a redirect leads to, nobody is told where it came from"
    );
    let log = controller.log.text();
    assert!(log.contains(TROUBLE) && log.contains("poll_api answered"), "the log is worth looking at: {log}");
    assert!(!log.contains("hunter2") && !log.contains("bWU6aHVudGVyMg"), "{log}");
}

#[test]
fn heartbeat_url_changes_on_reload() {
    let (first, second) = (Server::new(|_, _| OK.to_owned()), Server::new(|_, _| OK.to_owned()));
    let controller = Builder::new().config("poll_interval = 0.001").start();
    let without = controller.read_config();
    let point_to = |url: &str| {
        controller.write_config(&format!("poll_api = {url:?}\n{without}"));
        controller.reload();
    };
    point_to(&first.url("/"));
    first.wait_for(2);
    point_to(&second.url("/"));
    second.wait_for(2);
    let old = first.requests().len();
    second.wait_for_more(20);
    // One may have been on its way when its call was given up.
    assert!(first.requests().len() <= old + 1, "only one is called");
    // None, and then another again: in between there were no calls.
    controller.write_config(&without);
    controller.reload();
    controller.log.wait_for("poll_api is no longer called");
    let old = second.requests().len();
    point_to(&first.url("/again"));
    wait_until("it is called again", || {
        first.requests().last().is_some_and(|request| request.line.starts_with("GET /again "))
    });
    assert!(second.requests().len() <= old + 1, "nobody was called");
}

#[test]
fn heartbeat_interval_changes_on_reload() {
    let server = Server::new(|_, _| OK.to_owned());
    let config = format!("poll_api = {:?}\npoll_interval = 86400", server.url("/"));
    let controller = Builder::new().config(&config).start();
    server.wait_for(1);
    controller.write_config(&controller.read_config().replace("86400", "0.001"));
    controller.reload();
    server.wait_for(3);
}

/// A certificate that is good where it is trusted, and only there.
const CERTIFICATE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/tls/certificate.pem");

/// An HTTPS server that says yes to all; the number of its answers.
fn secure_server() -> (std::net::SocketAddr, Arc<AtomicUsize>) {
    let pem = |name: &str| format!("{}/tests/it/tls/{name}.pem", env!("CARGO_MANIFEST_DIR"));
    let certificate = CertificateDer::from_pem_file(pem("certificate")).unwrap();
    let key = PrivateKeyDer::from_pem_file(pem("key")).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config =
        rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = Arc::new(config.with_no_client_auth().with_single_cert(vec![certificate], key).unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, answers) = (listener.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
    let counted = answers.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let session = rustls::ServerConnection::new(config.clone()).unwrap();
            let mut stream = rustls::StreamOwned::new(session, stream.unwrap());
            // A caller that does not trust it says so instead.
            if stream.read(&mut [0; 4096]).is_ok_and(|size| size > 0) {
                counted.fetch_add(1, Ordering::SeqCst);
                let _ = stream.write_all(OK.as_bytes());
            }
        }
    });
    (address, answers)
}

#[test]
fn heartbeat_follows_redirect_to_https() {
    let calling = |secure: std::net::SocketAddr, trusted: &str| {
        let server = Server::new(move |_, _| redirect(&format!("https://{secure}/")));
        let config = format!("poll_api = {:?}\npoll_interval = 0.001", server.url("/poll"));
        Builder::new().env("SSL_CERT_FILE", trusted).config(&config).start()
    };
    let (secure, answers) = secure_server();
    let controller = calling(secure, CERTIFICATE);
    wait_until("it was followed a few times", || answers.load(Ordering::SeqCst) > 2);
    assert_eq!(controller.log.count(TROUBLE), 0);
    // A server whose certificate is not trusted gets no request.
    let (secure, answers) = secure_server();
    let controller = calling(secure, "/dev/null");
    wait_until("that is said", || controller.log.count(TROUBLE) > 0);
    assert_eq!(answers.load(Ordering::SeqCst), 0);
}

/// With no certificates but those of `SSL_CERT_FILE`.
fn without_certificates(builder: Builder) -> Builder {
    let empty = builder.path("no-certificates");
    std::fs::create_dir(&empty).unwrap();
    builder.env("SSL_CERT_DIR", empty.to_str().unwrap())
}

#[test]
fn certificates_that_come_later_are_used() {
    let (secure, answers) = secure_server();
    let builder = Builder::new();
    let trusted = builder.write_file("trusted.pem", "", 0o644);
    let config = format!("poll_api = \"https://{secure}/\"\npoll_interval = 0.001");
    let controller =
        without_certificates(builder.env("SSL_CERT_FILE", trusted.to_str().unwrap())).config(&config).start();
    controller.log.wait_for("poll_api failed: cannot set up TLS (");
    controller.log.wait_for("retrying at the next interval");
    std::fs::copy(CERTIFICATE, &trusted).unwrap();
    wait_until("it is called", || answers.load(Ordering::SeqCst) > 0);
}

#[test]
fn http_url_in_upper_case_needs_no_certificates() {
    let server = Server::new(|_, _| OK.to_owned());
    let url = server.url("/").replacen("http:", "HTTP:", 1);
    let config = format!("poll_api = {url:?}\npoll_interval = 0.001");
    let builder = Builder::new().env("SSL_CERT_FILE", "/dev/null");
    let _controller = without_certificates(builder).config(&config).start();
    server.wait_for(1);
}
