//! Files that are removed under a running controller.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use crate::fixture::{Builder, Controller, is_running, wait_until};
use crate::output::run;

/// What the controller and a built-in client with a login code have in `files`.
const FILES: [&str; 6] = [
    "mojo_webqq_controller_process.pid",
    "mojo_webqq_controller_backend.dat",
    "mojo_webqq_controller_backend.dat.lock",
    "mojo_webqq_state_a.json",
    "mojo_webqq_pid_a.pid",
    "mojo_webqq_qrcode_a.jpg",
];

/// A controller with all its files in `files`, and a client that waits for a scan.
fn controller() -> Controller {
    let builder = Builder::new();
    let files = builder.path("files");
    let controller = builder.config(&format!("tmpdir = {:?}", files.to_str().unwrap())).built_in();
    controller.start_client_with("a", "sandbox_login=scan");
    controller.wait_for_state("a", "scaning");
    wait_until("all is there", || FILES.iter().all(|file| files.join(file).exists()));
    controller
}

#[test]
fn what_is_removed_is_made_again_and_said() {
    let mut controller = controller();
    let files = controller.path("files");
    let pid = controller.clients()[0]["pid"].clone();
    // One after the other, and then the folder with all of it.
    for file in FILES {
        fs::remove_file(files.join(file)).unwrap();
        wait_until(file, || files.join(file).exists());
    }
    fs::remove_dir_all(&files).unwrap();
    wait_until("all is there again", || FILES.iter().all(|file| files.join(file).exists()));
    for said in [
        "was removed; writing it again",
        "the lock of the registry file",
        "was removed; making it again",
        "the state file was removed; writing it again",
        "the pid file was removed; created it again",
        "the image of the login code was removed; wrote it again",
    ] {
        controller.log.wait_for(said);
    }
    assert_eq!(
        (controller.clients()[0]["pid"].clone(), controller.state("a").unwrap()),
        (pid, "scaning".into())
    );
    controller.start_client("b");
    controller.kill();
    controller.start_again();
    let known: Vec<_> = controller.clients().iter().map(|client| client["account"].clone()).collect();
    assert_eq!(known, ["a", "b"], "the next controller knows all");
}

#[test]
fn what_is_removed_lets_no_second_controller_and_no_second_client_in() {
    let mut controller = controller();
    let files = controller.path("files");
    let pid = controller.clients()[0]["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok()).unwrap();
    let config = controller.path("wqcontroller.toml");
    // Neither of the two gets time to make anything again.
    crate::fixture::freeze(controller.pid());
    crate::fixture::freeze(pid);
    fs::remove_dir_all(&files).unwrap();
    let mut second = std::process::Command::new(crate::fixture::program());
    second.arg("--config").arg(config).env_remove("STATE_DIRECTORY");
    let (_, said) = refused(second);
    assert!(said.contains("another wqcontroller (process "), "{said}");
    let mut client = std::process::Command::new(crate::fixture::program());
    client.arg("client").envs([
        ("MOJO_WEBQQ_ACCOUNT", "a"),
        ("MOJO_WEBQQ_TMPDIR", files.to_str().unwrap()),
        ("MOJO_WEBQQ_PID_PATH", files.join("mojo_webqq_pid_a.pid").to_str().unwrap()),
        ("MOJO_WEBQQ_PLUGIN_OPENQQ_PORT", "1"),
    ]);
    fs::create_dir_all(&files).unwrap();
    let (out, said) = refused(client);
    assert!(format!("{out}{said}").contains("another client runs this account already"), "{out}{said}");
    controller.signal(rustix::process::Signal::CONT);
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(pid.cast_signed()).unwrap(),
        rustix::process::Signal::CONT,
    )
    .unwrap();
    assert!(is_running(pid));
    // What was removed just before the end is there for the next controller.
    let registry = files.join("mojo_webqq_controller_backend.dat");
    let _ = fs::remove_file(&registry);
    assert_eq!(controller.end().code(), Some(0));
    assert!(registry.exists());
    controller.start_again();
    controller.wait_for_state("a", "scaning");
}

fn refused(mut command: std::process::Command) -> (String, String) {
    let (code, stdout, stderr) = run(&mut command);
    assert!(code.is_some_and(|code| code != 0), "{code:?} {stdout}{stderr}");
    (stdout, stderr)
}

#[test]
fn unix_socket_that_is_removed_is_listened_on_anew() {
    let builder = Builder::new();
    let socket = builder.path("door");
    let controller = builder
        .config(&format!("listen = [\"127.0.0.1:0\", {:?}]", format!("unix:{}", socket.display())))
        .start();
    for _ in 0..3 {
        let mut kept = UnixStream::connect(&socket).unwrap();
        fs::remove_file(&socket).unwrap();
        wait_until("it is there again", || UnixStream::connect(&socket).is_ok());
        assert!(super::unix_get(&socket, "/openqq/check_client").unwrap().contains("\"code\":0"));
        // Who was connected before is served as well.
        kept.write_all(b"GET /openqq/check_client HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        kept.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    }
    controller.log.wait_for("was removed; listening on a new one");
}
