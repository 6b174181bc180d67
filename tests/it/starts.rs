//! A start that cannot work says so at once, with the parameter and what is allowed.

use std::fs;
use std::net::TcpListener;

use serde_json::json;

use crate::fixture::{Builder, free_port, wait_until};

#[test]
fn refused_parameter_is_code_6() {
    let controller = Builder::new().built_in();
    for (given, why) in [
        ("backend=onebot11", "parameter \"backend\" must be sandbox, onebot or milky"),
        ("backend=onebot", "parameter \"onebot_url\" is missing: ws://HOST:PORT/"),
        ("backend=onebot&onebot_url=127.0.0.1:3001", "parameter \"onebot_url\" must be ws://HOST:PORT/"),
        ("backend=onebot&onebot_listen=6001", "parameter \"onebot_listen\" must be an IP address"),
        ("send_interval=abc", "parameter \"send_interval\" must be a number of seconds, from 0 to 86400"),
        ("log_level=loud", "parameter \"log_level\" must be one of debug, info, msg, warn, error, fatal"),
        ("post_event_list=login,logout", "parameter \"post_event_list\" must be names of events"),
        ("sandbox_fault_fail=0", "parameter \"sandbox_fault_fail\" must be a whole number from 1 on"),
    ] {
        let reply = controller.start_client_with("a", given);
        assert_eq!(reply["code"], 6, "{given}: {reply}");
        assert!(reply["status"].as_str().unwrap().starts_with(why), "{given}: {reply}");
        assert!(controller.clients().is_empty(), "{given}");
    }
    assert_eq!(controller.start_client_with("a", "log_level=debug&own_thing=x&send_interval=")["code"], 0);
}

#[test]
fn foreign_template_accepts_other_values() {
    let controller = Builder::new().start();
    let reply = controller.start_client_with("a", "backend=onebot11&log_level=loud&send_interval=abc");
    assert_eq!(reply["code"], 0, "{reply}");
}

#[test]
fn unusable_template_is_a_failure_with_reason() {
    let builder = Builder::new();
    let template = builder.write_file("template", "exec true\n", 0o644);
    let command = builder.command(Some(&template));
    let controller = builder.launch(command);
    let reply = controller.start_client_with("a", "");
    assert_eq!((&reply["code"], &reply["status"]), (&json!(3), &json!("failure")), "{reply}");
    let reason = reply["reason"].as_str().unwrap();
    assert!(reason.contains("is not executable") && reason.contains("chmod 755"), "{reason}");
    assert!(controller.clients().is_empty());
}

#[test]
fn taken_onebot_listen_is_a_failure_with_reason() {
    let controller = Builder::new().built_in();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let params = format!("backend=onebot&onebot_listen={}", taken.local_addr().unwrap());
    let reply = controller.start_client_with("a", &params);
    assert_eq!((&reply["code"], &reply["status"]), (&json!(3), &json!("failure")), "{reply}");
    let reason = reply["reason"].as_str().unwrap();
    assert!(
        reason.starts_with(&format!("onebot_listen: can't listen on {}", taken.local_addr().unwrap())),
        "{reason}"
    );

    let listen = free_port();
    let params = format!("backend=onebot&onebot_listen=127.0.0.1:{listen}");
    assert_eq!(controller.start_client_with("a", &params)["code"], 0);
    wait_until("it listens", || TcpListener::bind(("127.0.0.1", listen)).is_err());
    assert_eq!(
        controller.start_client_with("a", &params)["status"],
        "client already exists",
        "it listens there itself"
    );
    assert_eq!(controller.start_client_with("b", &params)["code"], 3);
}

#[test]
fn restored_client_with_refused_parameters_is_held() {
    let mut controller = Builder::new().start();
    // What 0.1.0 accepted: here a template of an operator's own takes it, and is gone afterwards.
    assert_eq!(controller.start_client_with("a", "log_level=loud")["code"], 0);
    controller.kill();
    let config = controller.read_config();
    let without: String = config
        .lines()
        .filter(|line| !line.starts_with("template_path"))
        .map(|line| format!("{line}\n"))
        .collect();
    controller.write_config(&without);
    controller.start_again();
    controller.log.wait_for("parameter \"log_level\" must be one of debug");
    wait_until("it is held", || controller.clients()[0]["held"] == true);
    let client = &controller.clients()[0];
    assert_eq!((&client["phase"], &client["last_exit"]), (&json!("gone"), &json!("could not be launched")));
    // Still so for the next controller.
    assert_eq!(controller.end().code(), Some(0));
    assert!(
        fs::read_to_string(controller.path("mojo_webqq_controller_backend.dat")).unwrap().contains("loud")
    );
    controller.start_again();
    assert_eq!(controller.clients()[0]["held"], true);
    let started = controller.start_client_with("a", "log_level=debug");
    assert_eq!(started["code"], 0, "{started}");
}
