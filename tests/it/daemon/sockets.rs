//! Where it listens.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;

use rustix::process::Signal;

use super::{get, unix_get};
use crate::fixture::{Builder, Controller, freeze};
use crate::output::run;

/// What `check_client` answers where there are no clients.
const NOBODY: &str = r#"{"client":[],"code":0}"#;

#[test]
fn a_unix_socket_is_a_door_like_any_other_and_gone_at_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("door");
    let config = format!("listen = \"unix:{}\"", socket.display());
    let mut controller = Builder::new().config(&config).start();
    assert_eq!(controller.listening(), [format!("unix:{}", socket.display())]);
    assert_eq!(std::fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
    let started = unix_get(&socket, "/openqq/start_client?client=a").unwrap();
    assert!(
        started.starts_with("HTTP/1.1 200 OK\r\n") && started.contains(r#""status":"success""#),
        "{started}"
    );
    let stopped = unix_get(&socket, "/openqq/stop_client?client=a").unwrap();
    assert!(stopped.contains(r#""status":"success""#), "{stopped}");
    assert_eq!(controller.end().code(), Some(0));
    assert!(!socket.exists());
}

#[test]
fn a_socket_of_a_killed_controller_is_replaced_and_one_of_a_living_one_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("door");
    let config = format!("listen = \"unix:{}\"", socket.display());
    let mut killed = Builder::new().config(&config).start();
    killed.signal(Signal::KILL);
    killed.wait();
    assert!(socket.exists());
    let _living = Builder::new().config(&config).start();
    let late = Builder::new().config(&config);
    let (status, _, complaint) = run(&mut late.command(None));
    assert_eq!(status, Some(1));
    let why = format!("wqcontroller: can't listen on unix:{}: ", socket.display());
    assert!(complaint.contains(&why) && complaint.to_lowercase().contains("in use"), "{complaint}");
    assert!(unix_get(&socket, "/openqq/check_client").unwrap().ends_with(NOBODY), "the first goes on");
}

#[test]
fn all_addresses_of_a_list_are_listened_on() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("door");
    let config = format!(
        "listen = [\"127.0.0.1:0\", \"[::1]:0\", {{ host = \"127.0.0.1\", port = 0 }}, \"unix:{}\"]",
        socket.display()
    );
    let controller = Builder::new().config(&config).start();
    let listening = controller.listening();
    assert_eq!(listening.len(), 4);
    assert!(listening[1].starts_with("[::1]:"), "{listening:?}");
    assert_eq!(listening[3], format!("unix:{}", socket.display()));
    for address in &listening[..3] {
        let answer = get(TcpStream::connect(address).unwrap(), "/openqq/check_client");
        assert!(answer.ends_with(NOBODY), "{address}: {answer}");
    }
    assert!(unix_get(&socket, "/openqq/check_client").unwrap().ends_with(NOBODY));
}

#[test]
fn a_port_in_use_is_named_and_nothing_else_is_touched() {
    let controller = Controller::new();
    let address = controller.address;
    for listen in [format!("\"{address}\""), format!("[\"127.0.0.1:0\", \"{address}\"]")] {
        // It has the folder of the one that runs.
        let tmpdir = controller.folder.path().to_str().unwrap();
        let second = Builder::new().config(&format!("listen = {listen}\ntmpdir = {tmpdir:?}"));
        let (status, _, complaint) = run(&mut second.command(None));
        assert_eq!(status, Some(1));
        let why = format!("wqcontroller: can't listen on {address}: Address already in use");
        assert!(complaint.contains(&why), "{complaint}");
        assert!(!complaint.contains("ready; "), "{complaint}");
        let pid_file = controller.path("mojo_webqq_controller_process.pid");
        assert_eq!(std::fs::read_to_string(pid_file).unwrap(), format!("{}\n", controller.pid()));
    }
    assert_eq!(controller.clients().len(), 0);
}

#[test]
fn a_port_in_use_on_one_address_of_a_name_is_no_half_success() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let builder = Builder::new().config(&format!("listen = \"localhost:{port}\""));
    let (status, _, complaint) = run(&mut builder.command(None));
    assert_eq!(status, Some(1), "{complaint}");
    assert!(
        complaint.contains(&format!("can't listen on localhost:{port}: Address already in use")),
        "{complaint}"
    );
}

#[test]
fn an_address_that_is_not_ours_is_named() {
    // An address for documentation, which no machine has.
    let builder = Builder::new().config("listen = \"192.0.2.1:4000\"\nauth.allow_unauthenticated = true");
    let (status, _, complaint) = run(&mut builder.command(None));
    assert_eq!(status, Some(1));
    assert!(
        complaint.contains("can't listen on 192.0.2.1:4000: Cannot assign requested address"),
        "{complaint}"
    );
}

#[test]
fn who_calls_just_when_it_ends_is_still_answered_for_the_last_time() {
    let mut controller = Controller::new();
    let mut callers: Vec<TcpStream> = (0..32).map(|_| controller.connect()).collect();
    let call = |caller: &mut TcpStream| {
        caller.write_all(b"GET /openqq/check_client HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    };
    let hear = |caller: &mut TcpStream| {
        let mut answer = Vec::new();
        while !answer.ends_with(NOBODY.as_bytes()) {
            let mut some = [0; 1024];
            let length = caller.read(&mut some).unwrap();
            assert!(length > 0, "closed without an answer: {:?}", String::from_utf8_lossy(&answer));
            answer.extend_from_slice(&some[..length]);
        }
    };
    for caller in &mut callers {
        call(caller);
        hear(caller);
    }
    // The order to end and the calls are there at the same time.
    freeze(controller.pid());
    controller.signal(Signal::TERM);
    callers.iter_mut().for_each(call);
    controller.signal(Signal::CONT);
    for caller in &mut callers {
        hear(caller);
        assert_eq!(caller.read(&mut [0]).unwrap(), 0, "it is closed afterwards");
    }
    assert_eq!(controller.wait().code(), Some(0));
}
