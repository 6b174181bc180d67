//! How a client begins, goes on and ends.

use std::net::TcpListener;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};

use rustix::process::Signal;

use super::process::{ACCOUNT, Client, PROGRAM, Setup, mode, request, scan, until};

#[test]
fn client_goes_through_all_states() {
    let mut client = Setup::new(&[("SANDBOX_LOGIN_TIME", "0.5")]).start();
    let mut seen: Vec<String> = Vec::new();
    // As fast as can be: a file that is half written at any time would be noticed here.
    let report = until("running", || {
        let mut reports = (0..100).filter_map(|_| client.setup.report());
        reports.find(|report| {
            let state = report.state.to_string();
            if seen.last() != Some(&state) {
                seen.push(state);
            }
            report.state.as_str() == "running"
        })
    });
    let order = ["init", "loading", "scaning", "confirming", "updating", "running"];
    let places: Vec<_> =
        seen.iter().map(|seen| order.iter().position(|state| state == seen).unwrap()).collect();
    assert!(places.is_sorted(), "{seen:?}");

    let fields = report.fields();
    let keys = "account version start_time mode http_debug log_encoding log_path log_level log_console \
                disable_color tmpdir cookie_path qrcode_path pid_path state_path keep_cookie ua_retry_times \
                qrcode_count_max state previous_state pid os plugin";
    for key in keys.split(' ') {
        assert!(fields.contains_key(key), "{key}");
    }
    assert_eq!(fields["account"], ACCOUNT);
    assert_eq!(fields["pid"], client.pid());
    assert_eq!(fields["previous_state"], "updating");
    assert_eq!(fields["plugin"][0]["name"], "Mojo::Webqq::Plugin::Openqq");
    assert!(fields["start_time"].is_string());
    let state_path = fields["state_path"].as_str().unwrap();
    assert_eq!(mode(state_path.as_ref()), 0o640);
    assert_eq!(std::fs::read_to_string(client.setup.pid_file()).unwrap(), format!("{}\n", client.pid()));

    client.signal(Signal::TERM);
    assert_eq!(client.until_exit().signal(), Some(Signal::TERM.as_raw()));
    assert_eq!(client.setup.report().unwrap().state.as_str(), "stop");
    assert!(!client.setup.pid_file().exists());
}

#[test]
fn login_code_is_removed_at_the_end() {
    for signal in [Signal::TERM, Signal::HUP] {
        let mut client = Setup::new(&[("SANDBOX_LOGIN_TIME", "3600")]).start();
        client.setup.until_state("scaning");
        let content = scan(&std::fs::read(client.setup.image()).unwrap());
        assert!(
            content.starts_with(&format!("http://127.0.0.1:{}/sandbox/", client.setup.port)),
            "{content}"
        );
        assert_eq!(mode(&client.setup.image()), 0o640);
        client.signal(signal);
        assert_eq!(client.until_exit().signal(), Some(signal.as_raw()));
        assert_eq!(client.setup.report().unwrap().state.as_str(), "stop");
        assert!(!client.setup.image().exists() && !client.setup.pid_file().exists());
        let left: Vec<_> = std::fs::read_dir(client.setup.folder.path()).unwrap().collect();
        assert_eq!(left.len(), 2, "more than the log and the state file: {left:?}");
    }
}

#[test]
fn login_code_is_removed_when_confirmed() {
    let client = Client::running(&[]);
    until("the log line", || client.setup.log().contains("login code written to").then_some(()));
    assert!(!client.setup.image().exists());
}

#[test]
fn process_title_names_the_account() {
    let client = Client::running(&[]);
    let cmdline = std::fs::read(format!("/proc/{}/cmdline", client.pid())).unwrap();
    assert_eq!(String::from_utf8(cmdline).unwrap(), format!("wqclient({ACCOUNT})\0"));
    let comm = std::fs::read(format!("/proc/{}/comm", client.pid())).unwrap();
    assert!(comm.starts_with(b"wqclient("));
}

#[test]
fn sigint_without_a_terminal_is_ignored() {
    let mut client = Client::running(&[]);
    client.signal(Signal::INT);
    until("the log line", || client.setup.log().contains("ignored SIGINT").then_some(()));
    client.signal(Signal::TERM);
    assert_eq!(client.until_exit().signal(), Some(Signal::TERM.as_raw()));
    assert!(client.setup.log().contains("received SIGTERM"));
}

#[test]
fn one_client_per_account() {
    let mut client = Client::running(&[]);
    let mut second = Setup::new(&[]);
    second.set("PID_PATH", client.setup.pid_file().to_str().unwrap());
    let (status, said) = second.run();
    assert_eq!(status, Some(1));
    assert!(said.contains(&format!("locked by process {}", client.pid())), "{said}");
    assert!(second.report().is_none(), "a client that may not run has touched the state file");

    // A file without a lock holds up no other client.
    client.signal(Signal::KILL);
    client.until_exit();
    assert!(client.setup.pid_file().exists());
    let mut third = second.start();
    third.setup.until_state("running");
    third.signal(Signal::TERM);
    assert_eq!(third.until_exit().signal(), Some(Signal::TERM.as_raw()));
}

#[test]
fn failed_start_prints_the_reason() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let (status, said) = Setup::new(&[("PLUGIN_OPENQQ_PORT", &port.to_string())]).run();
    assert_eq!(status, Some(1));
    assert!(said.contains(&format!("cannot listen on 127.0.0.1:{port}: ")), "{said}");

    let (status, said) = Setup::new(&[("PLUGIN_OPENQQ_PORT", "many"), ("PWD", "hush")]).run();
    assert_eq!(status, Some(2));
    assert!(said.contains("MOJO_WEBQQ_PLUGIN_OPENQQ_PORT must be a port"), "{said}");
    assert!(!said.contains("hush"));

    let (status, said) = Setup::new(&[("TMPDIR", "/proc/nonexistent")]).run();
    assert_eq!(status, Some(1));
    assert!(said.contains("/proc/nonexistent/mojo_webqq_pid_"), "{said}");
}

#[test]
fn client_ends_with_its_parent() {
    let setup = Setup::new(&[]);
    let script = r#"MOJO_WEBQQ_CONTROLLER_PID=$$ "$0" client & wait"#;
    let mut parent = setup.command("/bin/sh").args(["-c", script, PROGRAM]).spawn().unwrap();
    setup.until_state("running");
    parent.kill().unwrap();
    parent.wait().unwrap();
    setup.until_state("stop");
    until("the pid file's end", || (!setup.pid_file().exists()).then_some(()));
    let why = "the controller that started this client is gone";
    until("the reason in the log", || setup.log().contains(why).then_some(()));
    until("the port", || request(setup.port, "GET /", "", "").is_none().then_some(()));
}

#[test]
fn client_ends_at_once_under_another_parent() {
    let mut stranger = Command::new("sleep").arg("600").stdout(Stdio::null()).spawn().unwrap();
    let mut client = Setup::new(&[("CONTROLLER_PID", &stranger.id().to_string())]).start();
    assert_eq!(client.until_exit().code(), Some(1));
    assert_eq!(client.setup.report().unwrap().state.as_str(), "stop");
    stranger.kill().unwrap();
    stranger.wait().unwrap();
}

#[test]
fn log_goes_to_a_file_if_configured() {
    let mut setup = Setup::new(&[("LOG_LEVEL", "info")]);
    let path = setup.path("own.log");
    setup.set("LOG_PATH", path.to_str().unwrap());
    let mut client = setup.start();
    client.setup.until_state("running");
    client.signal(Signal::TERM);
    client.until_exit();
    let logged = std::fs::read_to_string(&path).unwrap();
    assert!(logged.lines().last().unwrap().contains("received SIGTERM"), "{logged}");
    assert_eq!(mode(&path), 0o640);
    assert_eq!(client.setup.log(), "");
}

#[test]
fn log_level_limits_the_log() {
    for (level, says) in [("info", true), ("warn", false), ("error", false)] {
        let mut client = Client::running(&[("LOG_LEVEL", level)]);
        client.signal(Signal::TERM);
        client.until_exit();
        assert_eq!(client.setup.log().contains("listening on 127.0.0.1:"), says, "{}", client.setup.log());
        assert!(!client.setup.log().contains("<7>"));
    }
}
