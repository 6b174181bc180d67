//! What clients report, and that each report says whose it is.

use std::collections::HashMap;

use serde_json::{Value, json};

use super::{NAME, STATES};
use crate::fixture::{Builder, Controller, wait_until};
use crate::server::{OK, Server};

/// The environment of a client, as far as it is of the contract.
fn environment(controller: &Controller, client: &str) -> HashMap<String, String> {
    controller.wait_for_listening(client);
    let text = controller.get(&format!("/openqq/env?client={client}")).text();
    let pairs = text.lines().filter_map(|line| line.strip_prefix("MOJO_WEBQQ_")?.split_once('='));
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

#[test]
fn each_client_reports_with_its_own_name() {
    let server = Server::new(|_, _| OK.to_owned());
    let config = format!("post_api = {:?}", server.url("/post_message"));
    let controller = Builder::new().config(&config).built_in();
    for name in [NAME, "webqq_client_02"] {
        controller.start_client_with(name, "sandbox_login_time=0.05");
        controller.wait_for_state(name, "running");
        controller.stop_client(name);
    }
    for name in [NAME, "webqq_client_02"] {
        let line = format!("POST /post_message?client={name} HTTP/1.1");
        let reports = || {
            let mine = server.requests().into_iter().filter(|request| request.line == line);
            mine.map(|request| serde_json::from_slice(&request.body).unwrap()).collect::<Vec<Value>>()
        };
        wait_until("the last report", || reports().iter().any(|report| report["event"] == "stop"));
        let reports = reports();
        let changes = reports.iter().filter(|report| report["event"] == "state_change");
        let changes: Vec<&Value> = changes.map(|report| &report["params"]).collect();
        let expected: Vec<Value> = STATES.windows(2).map(|pair| json!(pair)).collect();
        assert_eq!(changes, expected.iter().collect::<Vec<_>>(), "the states of the seed, in its order");
    }
    assert!(
        server.requests().iter().all(|request| request.line.starts_with("POST /post_message?client=webqq"))
    );
}

#[test]
fn post_api_of_the_configuration_gets_the_name_and_poll_api_stays_the_controllers() {
    let config = "post_api = \"http://127.0.0.1:1/post?client=nobody&k=%2F&%63lient=x#end\"\n\
                  poll_api = \"http://127.0.0.1:1/poll\"\npoll_interval = 86400";
    let controller = Builder::new().config(config).start();
    controller.start_client("%E5%B0%8F+%E6%98%8E%26%25");
    let got = environment(&controller, "%E5%B0%8F+%E6%98%8E%26%25");
    assert_eq!(got["ACCOUNT"], "小 明&%");
    let me = "client=%E5%B0%8F%20%E6%98%8E%26%25";
    assert_eq!(got["PLUGIN_OPENQQ_POST_API"], format!("http://127.0.0.1:1/post?{me}&k=%2F#end"));
    assert!(!got.contains_key("PLUGIN_OPENQQ_POLL_API"), "a client polls only what its own start names");
}

#[test]
fn a_url_of_the_call_wins_over_the_configuration_and_gets_the_name_too() {
    let controller = Builder::new().config("post_api = \"http://127.0.0.1:1/configured\"").start();
    let more =
        "post_api=http%3A%2F%2F127.0.0.1%3A2%2Fp%3Fclient%3Dx%26k%3D1&plugin_openqq_poll_api=http://h/q";
    assert_eq!(controller.start_client_with("a", more)["code"], 0);
    let got = environment(&controller, "a");
    assert_eq!(got["PLUGIN_OPENQQ_POST_API"], "http://127.0.0.1:2/p?client=a&k=1");
    assert_eq!(got["PLUGIN_OPENQQ_POLL_API"], "http://h/q?client=a");
    assert_eq!(got["POST_API"], "http://127.0.0.1:2/p?client=x&k=1", "the parameter itself stays as it is");
    // An empty one counts as none, as in the template of the seed.
    assert_eq!(controller.start_client_with("b", "post_api=")["code"], 0);
    let got = environment(&controller, "b");
    assert_eq!(got["PLUGIN_OPENQQ_POST_API"], "http://127.0.0.1:1/configured?client=b");
    assert!(!got.contains_key("PLUGIN_OPENQQ_POLL_API"));
}
