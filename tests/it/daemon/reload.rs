//! SIGHUP: the configuration is read again while clients go on.

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::fixture::{Builder, Controller, RELOADED, wait_until};

/// The pids of all clients.
fn pids(controller: &Controller) -> Vec<Value> {
    controller.clients().iter().map(|client| client["pid"].clone()).collect()
}

fn environment(controller: &Controller, client: &str) -> String {
    controller.wait_for_listening(client);
    controller.get(&format!("/openqq/env?client={client}")).text()
}

#[test]
fn a_change_applies_to_what_comes_and_leaves_living_clients_alone() {
    let controller = Builder::new().config("max_clients = 1").start();
    let config = controller.read_config();
    controller.start_client("a");
    assert_eq!(controller.start_client_with("b", "")["status"], "max clients exceed");
    let (before, living) = (environment(&controller, "a"), pids(&controller));

    controller.write_config(
        &config.replace("max_clients = 1", "max_clients = 2\npost_api = \"http://h/p\"\nlog_level = \"msg\""),
    );
    controller.reload();
    controller.start_client("b");
    let new = environment(&controller, "b");
    assert!(new.contains("MOJO_WEBQQ_PLUGIN_OPENQQ_POST_API=http://h/p?client=b\n"), "{new}");
    assert!(new.contains("MOJO_WEBQQ_LOG_LEVEL=msg\n"), "{new}");
    assert_eq!(environment(&controller, "a"), before);
    assert_eq!(pids(&controller)[0], living[0], "the one that was there goes on");
    assert_eq!(controller.start_client_with("c", "")["status"], "max clients exceed");

    // Back again: both stay, though one is too many now.
    controller.write_config(&config);
    controller.reload();
    assert_eq!(pids(&controller).len(), 2);
    controller.stop_client("b");
    assert_eq!(controller.start_client_with("c", "")["status"], "max clients exceed");
}

#[test]
fn another_template_is_run_from_the_next_start_on() {
    let builder = Builder::new();
    let other = crate::fake::template().replace("exec ", "export WHICH=other\nexec ");
    builder.write_file("other", &other, 0o755);
    let controller = builder.start();
    controller.start_client("a");
    controller.write_config(&controller.read_config().replace("/template\"", "/other\""));
    controller.reload();
    controller.start_client("b");
    assert!(!environment(&controller, "a").contains("WHICH"));
    assert!(environment(&controller, "b").contains("WHICH=other\n"));
}

#[test]
fn another_stop_timeout_counts_for_clients_that_live_already() {
    let config = "[supervisor]\nstop_timeout = 86400";
    let controller = Builder::new().config(config).start();
    let started = controller.start_client_with("a", "fake_ignore_term=1");
    controller.wait_for_listening("a");
    controller.write_config(&controller.read_config().replace("86400", "0.01"));
    controller.reload();
    assert_eq!(controller.stop_client("a"), started, "in no day");
}

#[test]
fn log_level_counts_at_once() {
    let mut controller = Builder::new().config("max_clients = 1").start();
    let config = controller.read_config();
    let print = |client: &str, line: &str| {
        controller.start_client_with(client, &format!("fake_print={line}"));
        controller.wait_for_listening(client);
    };
    print("a", "%3C7%3Ea+whisper");
    controller.write_config(&config.replace("max_clients = 1", "max_clients = 2\nlog_level = \"debug\""));
    controller.reload();
    print("b", "%3C7%3Eanother+whisper");
    let log = controller.log.wait_for("\n<7>b: another whisper");
    assert!(!log.contains("\n<7>a: a whisper"), "{log}");

    // At this level not even the reload is told, so it is seen by what it does.
    controller.write_config(&config.replace("max_clients = 1", "max_clients = 3\nlog_level = \"error\""));
    controller.signal(Signal::HUP);
    wait_until("there may be three", || {
        controller.start_client_with("c", "fake_listen_delay=1")["code"] == 0
    });
    controller.stop_client("c");
    print("d", "%3C3%3Ea+cry");
    controller.log.wait_for("<3>d: a cry");
    controller.stop_client("d");
    controller.end();
    // What others printed before may come only now.
    let log = controller.log.to_the_end();
    let of_d: Vec<&str> = log.lines().filter(|line| line.contains(">d: ")).collect();
    assert_eq!(of_d, ["<3>d: a cry"], "{log}");
}

#[test]
fn a_bad_file_is_refused_by_file_and_line_and_the_old_one_stays() {
    let controller = Builder::new().config("max_clients = 1").start();
    controller.start_client("a");
    let (config, living) = (controller.read_config(), pids(&controller));
    let path = controller.path("wqcontroller.toml");
    let refused = "the new configuration is refused, the old one stays";
    let mut times = 0;
    let mut refuse = |text: &str, why: &str| {
        controller.write_config(text);
        controller.signal(Signal::HUP);
        times += 1;
        let log = controller.log.wait_for_times(refused, times);
        let line = log.lines().rfind(|line| line.contains(refused)).unwrap();
        assert!(
            line.starts_with("<3>") && line.contains(&format!("{refused}: {}{why}", path.display())),
            "{line}"
        );
    };
    let changed = config.replace("max_clients = 1", "max_clients = 9");
    refuse(&format!("bad = 1\n{changed}"), ":1: unknown key `bad`");
    refuse(&format!("{changed}max_clients = 2\n"), ":7: not valid TOML: duplicate key");
    refuse(&format!("post_api = \"hunter2\"\n{changed}"), ":1: `post_api` must be");
    assert_eq!(controller.start_client_with("b", "")["status"], "max clients exceed", "as it was before");
    assert_eq!((pids(&controller), controller.log.count(RELOADED)), (living, 0));
    assert!(!controller.log.text().contains("hunter2"));

    std::fs::remove_file(&path).unwrap();
    controller.signal(Signal::HUP);
    controller.log.wait_for(&format!("cannot read the configuration file {}: No such file", path.display()));
    controller.write_config(&changed);
    controller.reload();
    controller.start_client("b");
}

#[test]
fn options_that_need_a_restart_are_named_and_the_others_apply() {
    let controller = Builder::new().config("max_clients = 1\n[http]\nmax_connections = 1024").start();
    let config = controller.read_config();
    let tmpdir = controller.folder.path().to_str().unwrap();
    let changed = config
        .replace("listen = \"127.0.0.1:0\"", "listen = \"127.0.0.1:1\"")
        .replace(
            &format!("tmpdir = {tmpdir:?}"),
            "tmpdir = \"/elsewhere\"\npid_path = \"/x\"\nlog_path = \"/x\"",
        )
        .replace("max_clients = 1", "max_clients = 2")
        .replace("1024", "1");
    controller.write_config(&changed);
    controller.reload();
    let log = controller.log.text();
    let mut named: Vec<&str> =
        log.lines().filter_map(|line| line.split("the option ").nth(1)?.split(' ').next()).collect();
    named.sort_unstable();
    assert_eq!(named, ["http.max_connections", "listen", "log_path", "pid_path", "tmpdir"]);
    assert!(log.contains("restart wqcontroller for it to take effect"), "{log}");
    controller.start_client("a");
    assert_eq!(controller.start_client("b")["code"], json!(0));
    assert!(controller.path("mojo_webqq_controller_process.pid").exists(), "what stays, stays");
}
