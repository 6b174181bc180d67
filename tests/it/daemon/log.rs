//! The log: where it goes, and that nothing depends on a reader.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::process::{Command, Stdio};

use rustix::process::Signal;

use super::{Process, unix_get, wait_for_socket};
use crate::fixture::{Builder, RELOADED, wait_until};
use crate::output::run;

#[test]
fn a_log_file_is_used_and_opened_anew_after_it_was_moved_away() {
    let folder = tempfile::tempdir().unwrap();
    let (path, moved, socket) = ["log", "log.1", "door"].map(|name| folder.path().join(name)).into();
    let builder =
        Builder::new().config(&format!("log_path = {path:?}\nlisten = \"unix:{}\"", socket.display()));
    fs::write(&path, "an earlier line\n").unwrap();
    fs::remove_file(&path).unwrap();
    let template = builder.write_template();
    let mut command = builder.command(Some(&template));
    let mut process = Process::start(command.stderr(Stdio::piped()));
    wait_for_socket(&socket);
    let read = || fs::read_to_string(&path).unwrap_or_default();
    wait_until("it is ready", || read().contains(" ready; "));
    let mode = fs::metadata(&path).unwrap().mode();
    assert_eq!((mode & 0o137, mode & 0o600), (0, 0o600), "mode {mode:o}");

    fs::rename(&path, &moved).unwrap();
    process.signal(Signal::HUP);
    wait_until("the new file", || read().contains(RELOADED));
    let old = fs::read_to_string(&moved).unwrap();
    assert!(old.contains("wqcontroller starts") && !old.contains(RELOADED), "{old}");
    unix_get(&socket, "/openqq/start_client?client=a&fake_print=a+word").unwrap();
    wait_until("what a client prints", || read().contains("a: a word"));
    process.signal(Signal::TERM);
    assert_eq!(process.wait().code(), Some(0));
    assert!(read().contains("wqcontroller ends"), "the last word is written, too: {}", read());
    assert_eq!(fs::read_to_string(&moved).unwrap(), old);
    let printed = std::io::read_to_string(process.0.stderr.take().unwrap()).unwrap();
    assert_eq!(printed, "", "what is in the file is not on the terminal");
    assert!(!read().contains('\u{1b}'), "there are no colours in a file");
}

#[test]
fn a_log_file_goes_on_where_it_was() {
    let builder = Builder::new();
    let log = builder.write_file("log", "an earlier line\n", 0o600);
    let builder = builder.config(&format!(
        "log_path = {log:?}\nlisten = \"192.0.2.1:4000\"\nauth.allow_unauthenticated = true"
    ));
    let (status, _, complaint) = run(&mut builder.command(None));
    assert_eq!(status, Some(1));
    let logged = fs::read_to_string(&log).unwrap();
    assert!(logged.starts_with("an earlier line\n"), "{logged}");
    // The reason why it does not start is on standard error and in the log.
    for text in [complaint, logged] {
        assert!(text.contains("can't listen on 192.0.2.1:4000: Cannot assign"), "{text}");
    }
}

#[test]
fn a_log_file_that_cannot_be_opened_is_named() {
    let builder = Builder::new();
    let folder = builder.folder().to_owned();
    let link = builder.path("link");
    std::os::unix::fs::symlink("/dev/null", &link).unwrap();
    for (path, why) in [
        (folder.join("missing/log"), "No such file or directory"),
        (folder.clone(), "Is a directory"),
        (link, "Too many levels of symbolic links"),
    ] {
        let builder = Builder::new().config(&format!("log_path = {path:?}"));
        let (status, _, complaint) = run(&mut builder.command(None));
        assert_eq!(status, Some(1));
        assert!(
            complaint.contains(&format!("wqcontroller: can't open the log file {path:?}: {why}")),
            "{complaint}"
        );
    }
}

#[test]
fn a_log_file_that_cannot_be_opened_anew_costs_no_line() {
    let folder = tempfile::tempdir().unwrap();
    let sub = folder.path().join("sub");
    fs::create_dir(&sub).unwrap();
    let (path, socket) = (sub.join("log"), folder.path().join("door"));
    let builder =
        Builder::new().config(&format!("log_path = {path:?}\nlisten = \"unix:{}\"", socket.display()));
    let mut process = Process::start(&mut builder.command(None));
    wait_for_socket(&socket);
    let moved = folder.path().join("moved");
    fs::rename(&sub, &moved).unwrap();
    process.signal(Signal::HUP);
    let read = || fs::read_to_string(moved.join("log")).unwrap();
    wait_until("the reload", || read().contains(RELOADED));
    assert!(read().contains(&format!("the log file {} can't be opened", path.display())), "{}", read());
    process.signal(Signal::TERM);
    assert_eq!(process.wait().code(), Some(0));
}

/// A client that prints far more than fits into any pipe or queue before it listens.
fn flood() -> String {
    let start = "#!/bin/sh\nhead -c 4000000 /dev/zero | tr '\\0' x | fold -w 200\n";
    crate::fake::template().replacen("#!/bin/sh\n", start, 1)
}

/// Whether a controller does all it should with this as its standard error, up to its end.
fn works_with(shell: &str, stderr: Stdio) {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("door");
    let builder =
        Builder::new().config(&format!("listen = \"unix:{}\"", socket.display())).template(&flood());
    let template = builder.write_template();
    let inner = builder.command(Some(&template));
    let mut command = Command::new("/bin/sh");
    command.arg("-c").arg(shell).arg(inner.get_program()).args(inner.get_args());
    command.stdin(Stdio::null()).stderr(stderr);
    let mut process = Process::start(&mut command);
    wait_for_socket(&socket);
    let started = unix_get(&socket, "/openqq/start_client?client=a").unwrap();
    assert!(started.contains(r#""status":"success""#), "{started}");
    wait_until("the client listens", || {
        unix_get(&socket, "/openqq/ping?client=a").unwrap().ends_with("pong")
    });
    process.signal(Signal::HUP);
    let stopped = unix_get(&socket, "/openqq/stop_client?client=a").unwrap();
    assert!(stopped.contains(r#""status":"success""#), "{stopped}");
    process.signal(Signal::TERM);
    assert_eq!(process.wait().code(), Some(0));
    assert!(!socket.exists() && !builder.path("mojo_webqq_controller_process.pid").exists());
}

#[test]
fn a_closed_standard_error_hurts_nobody() {
    works_with("exec \"$0\" \"$@\" 2>&-", Stdio::null());
}

#[test]
fn all_standard_streams_closed_hurt_nobody() {
    works_with("exec \"$0\" \"$@\" 0<&- 1>&- 2>&-", Stdio::null());
}

#[test]
fn a_pipe_that_nobody_reads_hurts_nobody() {
    let (reader, writer) = std::io::pipe().unwrap();
    works_with("exec \"$0\" \"$@\"", writer.into());
    drop(reader);
}

#[test]
fn a_pipe_whose_reader_has_gone_hurts_nobody() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    works_with("exec \"$0\" \"$@\"", writer.into());
}

#[test]
fn a_start_that_fails_has_its_status_even_where_nobody_hears_why() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let builder = Builder::new().config(&format!("listen = \"{}\"", taken.local_addr().unwrap()));
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut process = Process::start(builder.command(None).stderr(writer));
    assert_eq!(process.wait().code(), Some(1));
}
