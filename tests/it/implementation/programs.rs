//! What the operator and callers can say about the program, and what its ends mean.

use super::{PATIENT, implementation, pid, until_implementation, with_script};
use crate::fixture::Builder;

#[test]
fn calls_choose_among_the_implementations_of_the_configuration() {
    let controller =
        with_script(PATIENT).config("[onebot.clients.taken]\nurl = 'ws://127.0.0.1:1/'\n").built_in();
    for (client, call, why) in [
        ("a", "implementation=other", "must be one of [implementations] in the configuration: own"),
        ("a", "implementation=own&uin=../x", "\"uin\" must be a QQ number"),
        ("taken", "implementation=own", "has no use for an account of [onebot]"),
        ("a", "implementation=own&backend=sandbox", "\"backend\" is sandbox, and own speaks onebot"),
        ("a", "implementation=own&onebot_url=ws://127.0.0.1:1/", "\"onebot_url\" follows from own"),
    ] {
        let answer = controller.start_client_with(client, call);
        let status = answer["status"].as_str().unwrap();
        assert!(answer["code"] == 6 && status.contains(why), "{call}: {answer}");
    }
    assert!(controller.clients().is_empty());
}

/// An implementation of a kind whose ends are known, with a script for its program.
fn yogurt(script: &str) -> Builder {
    let builder = Builder::new();
    let program = builder.write_file("yogurt", &format!("#!/bin/sh\n{script}"), 0o700);
    let first = builder.first_port() + 20;
    builder.config(&format!(
        "implementation_start_port = {first}\n[implementations.yogurt]\nkind = 'yogurt'\nprogram = '{}'\n\
         sign_url = 'http://127.0.0.1:9/'\n",
        program.display()
    ))
}

#[test]
fn misconfigured_implementation_is_held_after_three_ends_and_says_why() {
    let controller = yogurt("echo '无法启动服务器' >&2\nexit 134\n").built_in();
    let client = pid(&controller.start_client_with("a", "implementation=yogurt&uin=10001"));
    let found = until_implementation(&controller, "a", "held", |found| found["held"] == true);
    assert_eq!((&found["exits"], &found["reason"]), (&3.into(), &"无法启动服务器".into()), "{found}");
    assert!(found["last_exit"].as_str().unwrap().contains("status 134: its configuration"), "{found}");
    controller.log.wait_for("; held, not started again until start_client is called");
    // A call starts it again at once, and the client stays.
    let answer = controller.start_client_with("a", "");
    assert_eq!((answer["status"].as_str(), pid(&answer)), (Some("client already exists"), client));
    until_implementation(&controller, "a", "tried again", |found| {
        found["exits"] == 3 && found["held"] == true
    });
}

#[test]
fn status_0_is_no_success() {
    let controller = yogurt("exit 0\n").built_in();
    controller.start_client_with("a", "implementation=yogurt&uin=10001");
    until_implementation(&controller, "a", "started again", |found| found["exits"].as_u64() >= Some(2));
    assert_eq!(implementation(&controller, "a")["held"], false);
}

#[test]
fn start_fails_with_the_reason_of_the_implementation() {
    let builder = with_script(PATIENT);
    let controller = builder
        .config(
            "[implementations.llbot]\nkind = 'llbot'\nprogram = '/usr/bin/node'\nscript = '/opt/llbot.js'\n\
             auth_token_file = '/nonexistent/token'\n",
        )
        .built_in();
    let answer = controller.start_client_with("a", "implementation=llbot&uin=10001");
    assert_eq!(answer["code"], 3, "{answer}");
    let reason = answer["reason"].as_str().unwrap();
    assert!(reason.starts_with("its implementation could not be started: can't read the token"), "{reason}");
    assert!(controller.clients().is_empty());
}

#[test]
fn program_that_is_not_there_is_told() {
    let controller = yogurt("exit 0\n").built_in();
    std::fs::remove_file(controller.path("yogurt")).unwrap();
    controller.start_client_with("a", "implementation=yogurt&uin=10001");
    let found = until_implementation(&controller, "a", "ended", |found| found["exits"].as_u64() >= Some(1));
    let gone = until_implementation(&controller, "a", "waits", |found| found["reason"].is_string());
    assert!(gone["reason"].as_str().unwrap().contains("can't execute"), "{found} {gone}");
    controller.log.wait_for("<3>a: yogurt: can't start: can't execute");
}
