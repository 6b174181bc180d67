//! What is listened on, and for whom.

use std::net::ToSocketAddrs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::process::Command;

use rustix::process::Signal;

use super::{KEY, ask, path, wire, with_tokens};
use crate::fixture::{Builder, Controller, program};
use crate::output::run;

const OLD_STAYS: &str = "the new configuration is refused, the old one stays";

#[test]
fn public_listen_address_without_token_is_refused() {
    for listen in ["0.0.0.0:0", "[::]:0", "192.0.2.1:4000", "[::ffff:0.0.0.0]:0"] {
        let builder = Builder::new().config(&format!("listen = [\"127.0.0.1:0\", {listen:?}]"));
        let config = builder.write_config(None);
        let config = config.to_str().unwrap();
        for arguments in [&["--config", config][..], &["--check-config", "--config", config]] {
            let (status, printed, complaint) = run(Command::new(program()).args(arguments));
            assert_eq!((status, printed.as_str()), (Some(78), ""), "{listen}: {complaint}");
            let place = format!("{config}:4: `listen` opens {listen} to the network");
            assert!(complaint.starts_with(&place), "{complaint}");
            for way in [
                "[[auth.tokens]] with name and file",
                "`allow_unauthenticated = true` in [auth]",
                "127.0.0.1",
            ] {
                assert!(complaint.contains(way), "{complaint}");
            }
        }
    }
}

#[test]
fn listen_address_is_judged_by_its_resolution() {
    let name = rustix::system::uname().nodename().to_str().unwrap().to_owned();
    let address = (name.as_str(), 0).to_socket_addrs().ok().and_then(|mut found| found.next());
    let open = address.is_some_and(|address| !address.ip().is_loopback());
    let builder = Builder::new().config(&format!("listen = \"{name}:0\""));
    let checked =
        run(Command::new(program()).arg("--check-config").arg("--config").arg(builder.write_config(None)));
    assert_eq!(checked.0, Some(0), "a name is not known before it is asked for");
    if open {
        let (status, _, complaint) = run(&mut builder.command(None));
        assert_eq!(status, Some(78), "{complaint}");
        assert!(
            complaint.contains("wqcontroller: `listen` opens ") && !complaint.contains("ready; "),
            "{complaint}"
        );
    } else {
        // This machine has no name of its own in a network.
        drop(builder.start());
    }
}

#[test]
fn public_listen_address_needs_token_or_consent() {
    let consenting =
        Builder::new().config("listen = \"0.0.0.0:0\"\n[auth]\nallow_unauthenticated = true").start();
    assert_eq!(reach(&consenting, "").status, 200);
    let guarded = with_tokens(Builder::new().config("listen = \"0.0.0.0:0\"")).start();
    reach(&guarded, "").is_refused(401, "a token is needed");
    assert_eq!(reach(&guarded, &format!("?token={KEY}")).status, 200);
}

/// Asks a controller that listens on every address through loopback.
fn reach(controller: &Controller, query: &str) -> super::Wire {
    use std::io::{Read, Write};
    let port = controller.address.port();
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(crate::fixture::PATIENCE)).unwrap();
    let request = format!(
        "GET /openqq/check_client{query} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    wire(&answer)
}

#[test]
fn reload_never_opens_a_public_listener() {
    let controller = with_tokens(Builder::new().config("listen = \"0.0.0.0:0\"")).start();
    let config = controller.read_config();
    let without = config.split("[[auth.tokens]]").next().unwrap().to_owned();
    // By its words, and by what is really open whatever they say now.
    for (times, text) in [(1, without.clone()), (2, without.replace("0.0.0.0:0", "127.0.0.1:0"))] {
        controller.write_config(&text);
        controller.signal(Signal::HUP);
        let log = controller.log.wait_for_times(OLD_STAYS, times);
        let line = log.lines().rfind(|line| line.contains(OLD_STAYS)).unwrap();
        assert!(line.starts_with("<3>") && line.contains("opens 0.0.0.0:"), "{line}");
        reach(&controller, "").is_refused(401, "a token is needed");
        assert_eq!(reach(&controller, &format!("?token={KEY}")).status, 200);
    }
    controller.write_config(&format!("{without}[auth]\nallow_unauthenticated = true\n"));
    controller.reload();
    assert_eq!(reach(&controller, "").status, 200, "said so");
    controller.write_config(&format!("{without}[auth]\nallow_unauthenticated = false\n"));
    controller.signal(Signal::HUP);
    controller.log.wait_for_times(OLD_STAYS, 3);
    assert_eq!(reach(&controller, "").status, 200);
}

/// The answer to a GET through a Unix socket.
fn unix(socket: &std::path::Path, target: &str) -> super::Wire {
    use std::io::{Read, Write};
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.set_read_timeout(Some(crate::fixture::PATIENCE)).unwrap();
    write!(stream, "GET {target} HTTP/1.1\r\nHost: whatever.example\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    wire(&answer)
}

#[test]
fn unix_socket_has_mode_and_group() {
    let folder = tempfile::tempdir().unwrap();
    let (open, strict) = (path(&folder, "open"), path(&folder, "strict"));
    let gid = rustix::process::getegid().as_raw();
    let listen = format!(
        "listen = [\"127.0.0.1:0\", {{ unix = {open:?}, mode = \"0660\", group = \"{gid}\" }}, \
         {{ unix = {strict:?}, require_token = true }}]"
    );
    let controller = with_tokens(Builder::new().config(&listen)).start();
    let metadata = |path| std::fs::metadata(path).unwrap();
    assert_eq!(metadata(&open).permissions().mode() & 0o7777, 0o660);
    assert_eq!(metadata(&open).gid(), gid);
    assert_eq!(metadata(&strict).permissions().mode() & 0o7777, 0o600);
    assert_eq!(unix(&open, "/openqq/check_client").status, 200);
    unix(&strict, "/openqq/check_client").is_refused(401, "a token is needed");
    assert_eq!(unix(&strict, &format!("/openqq/check_client?token={KEY}")).status, 200);
    ask(&controller, "GET /openqq/check_client HTTP/1.1\r\nHost: localhost")
        .is_refused(401, "a token is needed");
}

#[test]
fn unix_socket_requiring_token_needs_one_configured() {
    let folder = tempfile::tempdir().unwrap();
    let listen = format!("listen = {{ unix = {:?}, require_token = true }}", path(&folder, "s"));
    let (status, _, complaint) = run(&mut Builder::new().config(&listen).command(None));
    assert_eq!(status, Some(78));
    assert!(complaint.contains("with require_token, and no token is configured"), "{complaint}");
}
