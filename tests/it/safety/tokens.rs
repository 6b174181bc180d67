//! Tokens: what they open, and that they stay secret.

use std::os::unix::fs::PermissionsExt;

use rustix::process::Signal;

use super::{EYE, KEY, Wire, ask, wire, with_client, with_tokens};
use crate::fixture::{Builder, Controller};
use crate::output::run;

fn guarded() -> Controller {
    with_client(with_tokens(Builder::new().config("log_level = \"debug\"")))
}

fn get(controller: &Controller, target: &str, headers: &str) -> Wire {
    ask(controller, &format!("GET {target} HTTP/1.1\r\nHost: localhost{headers}"))
}

#[test]
fn token_is_not_forwarded_to_client() {
    let controller = guarded();
    for (target, headers) in [
        (format!("/openqq/echo?client=a&x=%41&token={KEY}"), String::new()),
        (format!("/openqq/echo?%74oken={KEY}&client=a&x=%41"), String::new()),
        ("/openqq/echo?client=a&x=%41".into(), format!("\r\nAuthorization: Bearer {KEY}")),
        ("/openqq/echo?client=a&x=%41".into(), format!("\r\nauthorization: bearer   {KEY}")),
        (format!("/openqq/echo?client=a&x=%41&token={KEY}"), format!("\r\nAuthorization: Bearer {KEY}")),
        (format!("http://localhost/openqq/echo?client=a&x=%41&token={KEY}"), String::new()),
    ] {
        let referer = format!("\r\nReferer: http://localhost/x?token={KEY}");
        let answer = get(&controller, &target, &(headers + &referer));
        assert_eq!(answer.status, 200, "{target} {answer:?}");
        assert!(answer.body.starts_with("GET /openqq/echo?x=%41 HTTP/1.1\r\n"), "{answer:?}");
        let seen = answer.body.to_lowercase();
        for secret in [KEY, "token", "authorization", "referer"] {
            assert!(!seen.contains(secret), "{answer:?}");
        }
    }
    assert!(!controller.log.text().contains(KEY), "{}", controller.log.text());
}

#[test]
fn token_is_no_start_parameter() {
    let controller = guarded();
    let started = get(&controller, &format!("/openqq/start_client?client=b&token={KEY}&x=1"), "");
    assert_eq!(started.json()["status"], "success");
    assert!(!started.body.contains(KEY) && started.json().get("token").is_none(), "{started:?}");
    let env = || get(&controller, &format!("/openqq/env?client=b&token={KEY}"), "");
    crate::fixture::wait_until("b listens", || env().status == 200);
    let env = env().body;
    assert!(
        env.contains("MOJO_WEBQQ_X=1\n") && !env.contains("MOJO_WEBQQ_TOKEN") && !env.contains(KEY),
        "{env}"
    );
    let registry = std::fs::read_to_string(controller.path("mojo_webqq_controller_backend.dat")).unwrap();
    assert!(!registry.contains(KEY), "{registry}");
}

#[test]
fn without_tokens_authorization_is_forwarded() {
    let controller = Controller::new();
    controller.start_client_with("a", "token=mine");
    controller.wait_for_listening("a");
    let env = controller.get("/openqq/env?client=a").text();
    assert!(env.contains("MOJO_WEBQQ_TOKEN=mine\n"), "{env}");
    let echo = get(&controller, "/openqq/echo?client=a&token=mine", "\r\nAuthorization: Basic bWU6bWU=");
    assert!(echo.body.starts_with("GET /openqq/echo?token=mine HTTP/1.1\r\n"), "{echo:?}");
    assert!(echo.body.contains("Authorization: Basic bWU6bWU=\r\n"), "{echo:?}");
}

#[test]
fn wrong_or_missing_token_gets_401() {
    let controller = guarded();
    for (target, headers, status, why) in [
        ("/openqq/echo?client=a", "", 401, "a token is needed"),
        ("/openqq/nothing", "", 401, "a token is needed"),
        ("/other", "", 401, "a token is needed"),
        ("/openqq/echo?client=a&Token=0123456789abcdef-key", "", 401, "a token is needed"),
        ("/openqq/echo?client=a&token=", "", 401, "a token is needed"),
        ("/openqq/echo?client=a", "\r\nAuthorization: Basic 0123456789abcdef-key", 401, "a token is needed"),
        ("/openqq/echo?client=a", "\r\nAuthorization: Bearer", 401, "a token is needed"),
        ("/openqq/echo?client=a", "\r\nX-Auth-Token: 0123456789abcdef-key", 401, "a token is needed"),
        ("/openqq/echo?client=a", "\r\nCookie: token=0123456789abcdef-key", 401, "a token is needed"),
        ("/openqq/echo?client=a&token=0123456789abcdef-kez", "", 401, "the token is not known"),
        (
            "/openqq/echo?client=a",
            "\r\nAuthorization: Bearer 0123456789abcdef-ke",
            401,
            "the token is not known",
        ),
        (
            "/openqq/echo?client=a&token=x",
            "\r\nAuthorization: Bearer 0123456789abcdef-key",
            400,
            "is not the one",
        ),
        ("/openqq/echo?client=a&token=0123456789abcdef-key&tok%65n=x", "", 400, "given twice"),
        (
            "/openqq/echo?client=a",
            "\r\nAuthorization: Bearer 0123456789abcdef-key\r\nAuthorization: Bearer 0123456789abcdef-key",
            400,
            "two Authorization headers",
        ),
    ] {
        get(&controller, target, headers).is_refused(status, why);
    }
    let long = format!("/openqq/echo?client=a&token={}", "x".repeat(10_000));
    get(&controller, &long, "").is_refused(401, "the token is not known");
    ask(&controller, "GET /openqq/check_client HTTP/1.0").is_refused(401, "a token is needed");
    let body = format!("client=a&token={KEY}");
    let form = format!(
        "POST /openqq/echo HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-www-form-urlencoded\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    wire(&controller.raw(form.as_bytes())).is_refused(401, "a token is needed");
    assert!(!controller.log.text().contains(KEY), "{}", controller.log.text());
}

#[test]
fn read_only_token_opens_reads_only() {
    let controller = guarded();
    let call = |method: &str, call: &str| {
        ask(
            &controller,
            &format!(
                "{method} /openqq/{call}?client=a HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {EYE}"
            ),
        )
    };
    assert_eq!(call("GET", "check_client").status, 200);
    assert_eq!(call("GET", "get_qrcode").status, 404, "there is none");
    // The fake client does not know it, so that it was asked.
    for path in ["get_friend_info", "get_friend_info/", "get_friend_info//", "%67et_friend_info"] {
        assert_eq!(call("GET", path).body, "api not found");
    }
    for (method, name) in [
        ("GET", "stop_client"),
        ("GET", "start_client"),
        ("GET", "send_friend_message"),
        ("GET", "%73top_client"),
        ("GET", "stop_client/"),
        ("GET", "%2573top_client"),
        ("GET", "%%373top_client"),
        ("GET", "%2567et_friend_info"),
        ("GET", "stop_client//"),
        ("GET", "get_friend_info%2f"),
        ("GET", "get_friend_info/%2e%2e/stop_client"),
        ("GET", "get_friend_info/../die"),
        ("POST", "get_friend_info"),
        ("POST", "stop_client"),
        ("OPTIONS", "get_friend_info"),
    ] {
        call(method, name).is_refused(403, "the token is read-only");
    }
    // A client that reads no body with GET would take this one for a request.
    let hidden = "GET /openqq/stop_client HTTP/1.1\r\nHost: x\r\n\r\n";
    for framing in [
        format!("Content-Length: {}\r\n\r\n{hidden}", hidden.len()),
        format!("Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{hidden}\r\n0\r\n\r\n", hidden.len()),
    ] {
        let head = format!(
            "GET /openqq/get_friend_info?client=a HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {EYE}\r\n"
        );
        wire(&controller.raw((head + &framing).as_bytes())).is_refused(403, "the token is read-only");
    }
    controller.log.wait_for("its token eye is read-only");
    assert!(!controller.log.text().contains(EYE));
}

#[test]
fn refused_tokens_are_logged_within_limit() {
    let controller = guarded();
    let refused = "refused: its token is unknown";
    for _ in 0..50 {
        get(&controller, "/openqq/check_client?token=0123456789abcdef-wrong", "")
            .is_refused(401, "not known");
    }
    let log = controller.log.wait_for_times(refused, 10);
    assert!(log.contains("request from 127.0.0.1:") && !log.contains("-wrong"), "{log}");
    // What is logged after them is there, so all of them are as well.
    controller.reload();
    assert!(controller.log.count(refused) <= 20, "{}", controller.log.text());
}

#[test]
fn token_file_is_read_on_reload() {
    let controller = guarded();
    let status = |token: &str| get(&controller, &format!("/openqq/check_client?token={token}"), "").status;
    let new = "another-token-of-ours";
    std::fs::write(controller.path("key"), new).unwrap();
    assert_eq!((status(KEY), status(new)), (200, 401));
    controller.reload();
    assert_eq!((status(KEY), status(new), status(EYE)), (401, 200, 200));

    std::fs::set_permissions(controller.path("key"), std::fs::Permissions::from_mode(0o644)).unwrap();
    controller.signal(Signal::HUP);
    let log = controller.log.wait_for("the new configuration is refused, the old one stays");
    assert!(log.contains("can't use the file of token key") && log.contains("chmod go="), "{log}");
    assert_eq!(status(new), 200);
}

#[test]
fn invalid_token_file_fails_start_with_78() {
    for (content, mode, why) in [
        (KEY, 0o644, "not private (mode 0644); run chmod go= on it"),
        (KEY, 0o660, "not private (mode 0660)"),
        (
            "hunter2",
            0o600,
            "token key has 7 bytes, must have at least 16; for example, make one with: openssl rand",
        ),
        ("hunter2hunter2 hunter2", 0o600, "not visible ASCII"),
    ] {
        let builder = with_tokens(Builder::new());
        builder.write_file("key", content, mode);
        let (status, _, complaint) = run(&mut builder.command(None));
        assert_eq!(status, Some(78), "{complaint}");
        assert!(complaint.contains(why) && complaint.contains("/key: "), "{complaint}");
        assert!(!complaint.contains("hunter2") && !complaint.contains(KEY), "{complaint}");
    }
    let builder = with_tokens(Builder::new());
    std::fs::remove_file(builder.path("key")).unwrap();
    let (status, _, complaint) = run(&mut builder.command(None));
    assert_eq!(status, Some(78));
    assert!(complaint.contains("/key: No such file"), "{complaint}");
}

#[test]
fn systemd_credential_is_a_token() {
    let credential = "[[auth.tokens]]\nname = \"key\"\ncredential = \"the.token\"";
    let builder = Builder::new().config(credential);
    // As systemd leaves it where it lets the service's user read by an access list.
    builder.write_file("the.token", KEY, 0o440);
    let folder = builder.folder().to_str().unwrap().to_owned();
    let controller = builder.env("CREDENTIALS_DIRECTORY", &folder).start();
    get(&controller, "/openqq/check_client", "").is_refused(401, "a token is needed");
    assert_eq!(get(&controller, &format!("/openqq/check_client?token={KEY}"), "").status, 200);

    let builder = Builder::new().config(credential);
    let mut command = builder.command(None);
    let (status, _, complaint) = run(command.env_remove("CREDENTIALS_DIRECTORY"));
    assert_eq!(status, Some(78));
    assert!(
        complaint.contains("token key is a credential") && complaint.contains("LoadCredential="),
        "{complaint}"
    );
}
