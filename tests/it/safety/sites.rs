//! Web pages: those that were made to lead here, and those that try what a browser lets them.

use super::{KEY, ask, with_client, with_tokens};
use crate::fixture::{Builder, Controller};
use crate::output::run;

const CALL: &str = "GET /openqq/check_client HTTP/1.1";

fn with_sites() -> Controller {
    Builder::new()
        .config("[http]\nhosts = [\"Bots.example.org\"]\nallowed_origins = [\"https://console.example\"]")
        .start()
}

#[test]
fn dns_rebinding_is_refused() {
    let controller = with_sites();
    let port = controller.address.port();
    for head in [
        format!("{CALL}\r\nHost: evil.example:{port}"),
        format!("{CALL}\r\nHost: evil.example:{port}\r\nSec-Fetch-Site: same-origin"),
        format!("{CALL}\r\nHost: 127.0.0.1.evil.example"),
        "GET http://evil.example/openqq/check_client HTTP/1.1\r\nHost: evil.example".to_owned(),
        "GET /openqq/check_client HTTP/1.0\r\nHost: evil.example".to_owned(),
        "OPTIONS /openqq/check_client HTTP/1.1\r\nHost: evil.example".to_owned(),
        "POST /openqq/send_friend_message?client=a HTTP/1.1\r\nHost: evil.example\r\nContent-Length: 0"
            .to_owned(),
        "GET / HTTP/1.1\r\nHost: evil.example".to_owned(),
    ] {
        ask(&controller, &head).is_refused(421, "have the name added to hosts in [http]");
    }
    for host in [
        "127.0.0.1:4000",
        "localhost",
        "LocalHost:1",
        "bots.example.org:443",
        "[::1]:4000",
        "192.0.2.7:8080",
        "[2001:db8::7]:80",
    ] {
        assert_eq!(ask(&controller, &format!("{CALL}\r\nHost: {host}")).status, 200, "{host}");
    }
    assert_eq!(ask(&controller, "GET /openqq/check_client HTTP/1.0\r\nUser-Agent: old").status, 200);
    for (target, host) in
        [("localhost", "evil.example"), ("evil.example", "localhost"), ("evil.example", "evil.example")]
    {
        let head = format!("GET http://{target}/openqq/check_client HTTP/1.1\r\nHost: {host}");
        let refused = ask(&controller, &head);
        assert!([400, 421].contains(&refused.status), "{refused:?}");
    }
    assert_eq!(
        ask(&controller, "GET http://localhost/openqq/check_client HTTP/1.1\r\nHost: localhost").status,
        200
    );
}

/// A browser sends no `Origin` and no `Sec-Fetch-Site` there, and Linux connects it to loopback.
#[test]
fn address_leading_to_loopback_is_refused() {
    let controller = with_sites();
    let port = controller.address.port();
    for host in ["0.0.0.0", "[::]", "[::ffff:0.0.0.0]", "[::ffff:127.0.0.1]", "[::ffff:7f01:203]"] {
        let refused = ask(&controller, &format!("{CALL}\r\nHost: {host}:{port}"));
        refused.is_refused(421, "have the name added to hosts in [http]");
        let refused = ask(
            &controller,
            &format!("GET http://{host}:{port}/openqq/check_client HTTP/1.1\r\nHost: {host}:{port}"),
        );
        refused.is_refused(421, "have the name added to hosts in [http]");
    }
}

#[test]
fn hosts_change_on_reload() {
    let controller = with_sites();
    let new = format!("{CALL}\r\nHost: new.example");
    ask(&controller, &new).is_refused(421, "new.example");
    controller.write_config(&controller.read_config().replace("Bots.example.org", "new.example"));
    controller.reload();
    assert_eq!(ask(&controller, &new).status, 200);
    ask(&controller, &format!("{CALL}\r\nHost: bots.example.org")).is_refused(421, "bots.example.org");
}

#[test]
fn pages_of_other_sites_are_refused() {
    let controller = with_sites();
    let host = format!("Host: {}", controller.address);
    for marks in [
        "Sec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: navigate",
        "Sec-Fetch-Site: cross-site\r\nSec-Fetch-Dest: image",
        "Sec-Fetch-Site: same-site\r\nOrigin: http://127.0.0.1:3000",
        "Origin: https://evil.example",
        "Origin: null",
    ] {
        let why = "a browser sent this for another web site";
        ask(&controller, &format!("{CALL}\r\n{host}\r\n{marks}")).is_refused(403, why);
        let form = format!(
            "POST /openqq/send_friend_message HTTP/1.1\r\n{host}\r\n{marks}\r\n\
             Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 0"
        );
        ask(&controller, &form).is_refused(403, why);
    }
    for marks in [
        "Sec-Fetch-Site: none",
        "Sec-Fetch-Site: same-origin",
        &format!("Origin: http://{}", controller.address),
    ] {
        assert_eq!(ask(&controller, &format!("{CALL}\r\n{host}\r\n{marks}")).status, 200, "{marks}");
    }
}

/// A client says `Access-Control-Allow-Origin: *` to all; that must open nothing.
#[test]
fn cors_headers_of_client_admit_no_page() {
    let controller = with_client(with_tokens(
        Builder::new().config("[http]\nallowed_origins = [\"https://console.example\"]"),
    ));
    let raw =
        "HTTP/1.1%20200%20OK%0D%0AAccess-Control-Allow-Origin:%20*%0D%0AContent-Length:%200%0D%0A%0D%0A";
    let target = format!("/openqq/answer?client=a&raw={raw}");
    let preflight = |origin: &str| {
        format!(
            "OPTIONS {target} HTTP/1.1\r\nHost: localhost\r\nOrigin: {origin}\r\nSec-Fetch-Site: cross-site\r\n\
             Access-Control-Request-Method: GET\r\nAccess-Control-Request-Headers: authorization"
        )
    };
    let refused = ask(&controller, &preflight("https://evil.example"));
    refused.is_refused(403, "another web site");
    assert!(!refused.head.to_lowercase().contains("access-control"), "{refused:?}");

    let allowed = ask(&controller, &preflight("https://console.example"));
    assert_eq!(allowed.status, 204);
    for line in [
        "Access-Control-Allow-Origin: https://console.example\r\n",
        "Access-Control-Allow-Headers: Authorization, Content-Type",
        "Access-Control-Allow-Methods: GET, HEAD, POST",
        "Vary: Origin\r\n",
    ] {
        assert!(allowed.head.contains(line), "{allowed:?}");
    }
    let page = "Host: localhost\r\nOrigin: https://console.example\r\nSec-Fetch-Site: cross-site";
    let answer = ask(&controller, &format!("GET {target} HTTP/1.1\r\n{page}\r\nAuthorization: Bearer {KEY}"));
    assert_eq!(answer.status, 200);
    assert_eq!(answer.head.matches("Access-Control-Allow-Origin").count(), 1);
    assert!(answer.head.contains("Access-Control-Allow-Origin: https://console.example\r\n"), "{answer:?}");
    // It is allowed to read that it needs a token.
    let needed = ask(&controller, &format!("GET {target} HTTP/1.1\r\n{page}"));
    needed.is_refused(401, "a token is needed");
    assert!(needed.head.contains("Access-Control-Allow-Origin: https://console.example\r\n"), "{needed:?}");
}

#[test]
fn allowed_origin_is_no_pattern() {
    let builder = Builder::new().config("[http]\nallowed_origins = [\"*\"]");
    let (status, _, complaint) = run(&mut builder.command(None));
    assert_eq!(status, Some(78));
    assert!(complaint.contains("`http.allowed_origins` entry 1 is \"*\", must be the scheme"), "{complaint}");
}
