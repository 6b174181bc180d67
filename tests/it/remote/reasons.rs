//! Why an account is `loading`: check_client says it, for every cause, and what puts it right ends the pause.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;

use super::implementation::Manner;
use super::server::{Refusal, Server};
use super::{reason, setup, variable};
use crate::client::process::{Client, Setup, request};
use crate::fixture::free_port;

/// A server that answers every connection with these bytes.
fn answers(bytes: &'static [u8]) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(bytes);
        }
    });
    port
}

fn with_url(url: &str, more: &[(&str, &str)]) -> Client {
    with_url_of(Manner::Strict, url, more)
}

fn with_url_of(manner: Manner, url: &str, more: &[(&str, &str)]) -> Client {
    let url = (variable(manner, "REMOTE_URL"), url);
    let mut setup = Setup::new(&[("BACKEND", manner.backend()), (&url.0, url.1)]);
    for (name, value) in more {
        setup.set(name, value);
    }
    setup.start()
}

#[test]
fn reason_shows_a_refused_connection() {
    for manner in Manner::NETWORKS {
        let port = free_port();
        let server = Server::away(manner, port);
        let client = setup(&server, &[]).start();
        let why = reason(&client, "Connection refused");
        assert!(why.contains(&format!("no connection to 127.0.0.1 port {port}")), "{why}");
        server.listen(TcpListener::bind(("127.0.0.1", port)).unwrap());
        client.setup.until_state("running");
        assert!(client.setup.report().unwrap().fields().get("reason").is_none());
        // The implementation ends, too.
        server.hang_up();
        reason(&client, "the connection was lost: ");
    }
}

#[test]
fn reason_shows_a_wrong_path_or_port() {
    let listen = format!("127.0.0.1:{}", free_port());
    let not_found = answers(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
    let page = answers(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 6\r\n\r\n<html>");
    let other = answers(b"SSH-2.0-OpenSSH_9.2\r\n");
    for (url, why) in [
        (
            format!("ws://127.0.0.1:{not_found}/wrong"),
            "HTTP 404 Not Found instead of a WebSocket at the path /wrong",
        ),
        (format!("ws://127.0.0.1:{page}/"), "HTTP 200 OK instead of a WebSocket at the path /"),
        (format!("ws://127.0.0.1:{other}/"), "HTTP"),
    ] {
        reason(&with_url(&url, &[]), why);
    }
    for (url, why) in [
        (
            format!("http://127.0.0.1:{not_found}/"),
            "HTTP 404: it has no such call, or the path of onebot_url",
        ),
        (format!("http://127.0.0.1:{page}/"), "HTTP 200 OK, and it is not JSON"),
        ("http://127.0.0.1:1/".to_owned(), "not running there, or not logged in yet"),
    ] {
        reason(&with_url(&url, &[("ONEBOT_LISTEN", &listen)]), why);
    }
    let neither = "its event stream is neither a WebSocket nor SSE";
    for (url, why) in [
        (
            format!("http://127.0.0.1:{not_found}/wrong"),
            format!("{neither} (HTTP 404): the path of milky_url is not that"),
        ),
        (format!("http://127.0.0.1:{page}/"), format!("{neither} (HTTP 200)")),
        (format!("http://127.0.0.1:{other}/"), "HTTP".to_owned()),
    ] {
        reason(&with_url_of(Manner::Milky, &url, &[]), &why);
    }
}

#[test]
fn reason_shows_a_too_large_list() {
    let huge = || Some(super::implementation::ok(serde_json::json!(["x".repeat(33 * 1024 * 1024)])));
    let server = Server::new(Manner::Strict);
    server.answer("get_friend_list", move |_| huge());
    reason(&setup(&server, &[]).start(), "it sends more at once than the 32 MiB");
    let server = Server::new(Manner::Milky);
    server.answer("get_friend_list", move |_| {
        Some(super::implementation::ok(serde_json::json!([{ "nickname": "x".repeat(33 * 1024 * 1024) }])))
    });
    reason(&setup(&server, &[]).start(), "it is larger than the 32 MiB");
    let server = Server::away(Manner::Strict, 1);
    server.answer("get_friend_list", move |_| huge());
    let (url, listen) = (server.by_http(None), format!("127.0.0.1:{}", free_port()));
    reason(&with_url(&url, &[("ONEBOT_LISTEN", &listen)]), "it is larger than the 32 MiB");
}

#[test]
fn reason_shows_missing_or_refused_reverse_connections() {
    let (server, listen) = (Server::away(Manner::Strict, 1), free_port());
    let address = format!("127.0.0.1:{listen}");
    let mut setup = Setup::new(&[("BACKEND", "onebot"), ("ONEBOT_LISTEN", &address)]);
    let token = write_token(&setup, "geheim");
    setup.set("ONEBOT_TOKEN_FILE", &token);
    let client = setup.start();
    reason(&client, &format!("waiting for the OneBot implementation to connect to {address}"));
    assert!(server.call_back(listen, None, "Universal").is_err());
    reason(&client, "was refused: it shows no token");
    assert!(server.call_back(listen, Some("falsch"), "Universal").is_err());
    reason(&client, "was refused: its token is not the one of token_file");
    // A caller that is no implementation does not change the reason.
    assert_eq!(request(listen, "GET /", "", "").unwrap().status, 426);
    server.call_back(listen, Some("geheim"), "Universal").unwrap();
    client.setup.until_state("running");
    server.hang_up();
    reason(&client, &format!("waiting for the OneBot implementation to connect to {address}"));
}

fn write_token(setup: &Setup, token: &str) -> String {
    let path = setup.path("token");
    std::fs::write(&path, token).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    path.to_str().unwrap().to_owned()
}

// The pause after a refused token is longer than a test waits.
#[test]
fn changed_token_file_or_relogin_ends_the_pause() {
    for manner in Manner::NETWORKS {
        for relogin in [false, true] {
            let server = Server::new(manner);
            server.want_token("geheim", Refusal::Http(401));
            let mut setup = setup(&server, &[]);
            let token = write_token(&setup, if relogin { "geheim" } else { "falsch" });
            setup.set(&super::variable(manner, "REMOTE_TOKEN_FILE"), &token);
            if relogin {
                // Milky has no frame for it.
                let refusal = if manner == Manner::Milky { Refusal::Http(401) } else { Refusal::Frame };
                server.want_token("another", refusal);
            }
            let client = setup.start();
            reason(&client, "the token is refused");
            if relogin {
                server.want_token("geheim", Refusal::Http(401));
                assert_eq!(client.get("/openqq/relogin").json()["code"], 0);
            } else {
                write_token(&client.setup, "geheim");
            }
            client.setup.until_state("running");
        }
    }
}
