//! The seed: what its document promises of calls, states and files, on the client that is built in.

mod reports;
mod template;

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::fixture::{Builder, Controller, is_alive, wait_until};

/// The name that the seed gives to its first client.
const NAME: &str = "webqq_client_01";

/// The states in the order in which the seed has them.
const STATES: [&str; 7] = ["init", "loading", "scaning", "confirming", "updating", "running", "stop"];

/// The names of what is in a folder, in order, but for the configuration.
fn files(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    // A file that is about to take its place.
    names.retain(|name| name != "wqcontroller.toml" && !name.starts_with(".wqcontroller-"));
    names.sort();
    names
}

/// The one client that `check_client` lists.
fn check(controller: &Controller, call: &str) -> Value {
    let answer = controller.get(call);
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/json")), "{call}");
    let mut reply = answer.json();
    assert_eq!(reply["code"], 0, "{call}");
    assert_eq!(reply.as_object().unwrap().len(), 2, "code and client alone: {reply}");
    let clients = reply["client"].as_array_mut().unwrap();
    assert_eq!(clients.len(), 1, "{call}");
    clients.remove(0)
}

#[test]
fn the_example_calls_typed_as_they_stand_there_give_the_answers_of_the_seed() {
    let controller = Builder::new().built_in();
    let answer = controller.get("/openqq/start_client?client=webqq_client_01");
    let pid = answer.json()["pid"].as_u64().unwrap();
    let port = controller.first_port;
    let expected = format!(
        r#"{{"account":"webqq_client_01","client":"webqq_client_01","code":0,"pid":{pid},"port":{port},"status":"success"}}"#
    );
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/json")));
    assert_eq!(answer.text(), expected);
    assert!(is_alive(u32::try_from(pid).unwrap()));

    let again = controller.get("/openqq/start_client?client=webqq_client_01&log_level=debug").json();
    assert_eq!((&again["status"], &again["pid"]), (&json!("client already exists"), &json!(pid)));

    controller.wait_for_state(NAME, "running");
    let user = controller.get("/openqq/get_user_info?client=webqq_client_01");
    assert_eq!((user.status, user.header("content-type")), (200, Some("application/json")));
    for key in ["id", "uid", "name", "state"] {
        assert!(user.json()[key].is_string(), "{key}");
    }
    let nobody = controller.get("/openqq/send_friend_message?client=webqq_client_01&id=xxxx&content=hello");
    assert_eq!(nobody.json(), json!({"id": null, "code": 100, "status": "friend not found"}));
    let friend = controller.get("/openqq/get_friend_info?client=webqq_client_01").json()[0].clone();
    let id = friend["id"].as_str().unwrap();
    let call = format!("/openqq/send_friend_message?client=webqq_client_01&id={id}&content=hello");
    let sent = controller.get(&call).json();
    assert_eq!((&sent["code"], &sent["status"]), (&json!(0), &json!("发送成功")), "{sent}");

    assert_eq!(controller.get("/openqq/stop_client?client=webqq_client_01").text(), expected);
    assert!(!is_alive(u32::try_from(pid).unwrap()));
    assert_eq!(controller.get("/openqq/check_client").text(), r#"{"client":[],"code":0}"#);
}

#[test]
fn a_start_with_log_level_says_it_again_and_the_client_obeys() {
    let controller = Builder::new().config("log_level = \"msg\"").built_in();
    let started = controller.get("/openqq/start_client?client=webqq_client_01&log_level=debug").json();
    let (pid, port) = (started["pid"].clone(), controller.first_port);
    let expected = json!({"account": NAME, "client": NAME, "code": 0, "pid": pid, "port": port, "status": "success", "log_level": "debug"});
    assert_eq!(started, expected);
    wait_until("its own word", || controller.clients()[0]["log_level"] == "debug");
    assert_eq!(controller.stop_client(NAME), expected);
}

#[test]
fn check_client_has_every_key_of_the_example() {
    let controller = Builder::new().built_in();
    controller.start_client_with(NAME, "sandbox_login_time=86400");
    controller.wait_for_state(NAME, "scaning");
    let one = check(&controller, &format!("/openqq/check_client?client={NAME}"));
    assert_eq!(one, check(&controller, "/openqq/check_client"));

    let text = ["account", "state", "start_time", "http_debug", "log_level", "os", "version"];
    let paths = ["tmpdir", "cookie_path", "pid_path", "qrcode_path", "state_path"];
    for key in text.iter().chain(&paths) {
        assert!(one[key].is_string(), "{key} in {one}");
    }
    for key in ["log_encoding", "log_path"] {
        assert!(one.get(key).is_some_and(|value| value.is_string() || value.is_null()), "{key} in {one}");
    }
    assert_eq!(
        (&one["account"], &one["http_debug"], &one["os"]),
        (&json!(NAME), &json!("0"), &json!("linux"))
    );
    assert_eq!(one["port"], controller.first_port);
    assert!(one["pid"].is_u64() && one["start_time"].as_str().unwrap().parse::<u64>().is_ok());
    let plugins = one["plugin"].as_array().unwrap();
    let openqq = plugins.iter().find(|plugin| plugin["name"] == "Mojo::Webqq::Plugin::Openqq");
    assert_eq!(
        openqq,
        Some(
            &json!({"auto_call": null, "call_on_load": 1, "name": "Mojo::Webqq::Plugin::Openqq", "priority": 98})
        )
    );
}

#[test]
fn files_have_the_names_of_the_seed_and_go_when_their_program_ends() {
    let mut controller = Builder::new().built_in();
    let folder = controller.folder.path().to_owned();
    let pid_file = "mojo_webqq_controller_process.pid";
    assert_eq!(fs::read_to_string(folder.join(pid_file)).unwrap(), format!("{}\n", controller.pid()));
    let lock = "mojo_webqq_controller_backend.dat.lock";
    // Not of the seed: the original started no program of others.
    let implementations = "mojo_webqq_controller_backend.dat.implementations.lock";
    assert_eq!(files(&folder), [implementations, lock, pid_file]);

    let started = controller.start_client_with(NAME, "sandbox_login_time=86400");
    controller.wait_for_state(NAME, "scaning");
    let template = "mojo_webqq_controller_template.pl";
    let (state, qrcode) = ("mojo_webqq_state_webqq_client_01.json", "mojo_webqq_qrcode_webqq_client_01.jpg");
    let client_pid = "mojo_webqq_pid_webqq_client_01.pid";
    let registry = "mojo_webqq_controller_backend.dat";
    assert_eq!(
        files(&folder),
        [registry, implementations, lock, pid_file, template, client_pid, qrcode, state]
    );
    assert_eq!(fs::read_to_string(folder.join(client_pid)).unwrap(), format!("{}\n", started["pid"]));
    let one = check(&controller, "/openqq/check_client");
    for (key, file) in [("pid_path", client_pid), ("qrcode_path", qrcode), ("state_path", state)] {
        assert_eq!(one[key], folder.join(file).to_str().unwrap());
    }
    assert_eq!(one["tmpdir"], folder.to_str().unwrap());
    assert_eq!(one["cookie_path"], folder.join("mojo_webqq_cookie_webqq_client_01.dat").to_str().unwrap());

    let image = controller.get(&format!("/openqq/get_qrcode?client={NAME}"));
    assert_eq!((image.status, image.header("content-type")), (200, Some("image/png")));
    assert_eq!(image.header("cache-control"), Some("no-cache"));
    assert_eq!(image.header("content-length"), Some(&*image.body.len().to_string()));
    assert_eq!(image.body, fs::read(folder.join(qrcode)).unwrap());

    // What a client leaves is its last word; what a controller leaves is the template, which may have been changed.
    controller.stop_client(NAME);
    assert_eq!(files(&folder), [registry, implementations, lock, pid_file, template, state]);
    let last: Value = serde_json::from_slice(&fs::read(folder.join(state)).unwrap()).unwrap();
    assert_eq!(last["state"], "stop");
    controller.start_client_with("another", "sandbox_login_time=86400");
    controller.wait_for_state("another", "scaning");
    assert_eq!(controller.end().code(), Some(0));
    // The registry goes on where the next controller begins.
    assert_eq!(
        files(&folder),
        [registry, implementations, lock, template, "mojo_webqq_state_another.json", state]
    );
}

#[test]
fn every_state_is_seen_by_check_client() {
    // The process goes on after the client in it has stopped, so that its last state can be seen.
    let program = crate::fixture::program();
    let template = format!(
        "#!/bin/sh\nunset MOJO_WEBQQ_CONTROLLER_PID\n'{program}' client\n\
         while [ ! -e \"$MOJO_WEBQQ_TMPDIR/go\" ]; do sleep 0.02; done\n"
    );
    // At this level the log tells of every state, and of the first ones at no other.
    let controller = Builder::new().template(&template).config("log_level = \"debug\"").start();
    // Long enough for the first state, a twentieth of it, to be looked at where the machine is slow.
    controller.start_client_with(NAME, "sandbox_login_time=10");
    let mut seen = vec!["init".to_owned()];
    wait_until("running", || {
        let state = controller.state(NAME).unwrap();
        if seen.last() != Some(&state) {
            seen.push(state);
        }
        seen.last().unwrap() == "running"
    });
    // The client itself is told to stop, by the call that only it understands.
    let url = controller.url(&format!("/openqq/stop_client?client={NAME}"));
    let told = controller.send(ureq::http::Request::post(url).body(()).unwrap()).json();
    assert!(told["status"].as_str().unwrap().ends_with("will stop in 3 seconds"), "{told}");
    controller.wait_for_state(NAME, "stop");
    seen.push("stop".to_owned());
    let places: Vec<usize> =
        seen.iter().map(|seen| STATES.iter().position(|state| state == seen).unwrap()).collect();
    assert!(places.is_sorted(), "{seen:?}");
    // The log has them all: the first one from the controller, the others from the client.
    controller.log.wait_for("state init");
    for state in &STATES[1..] {
        controller.log.wait_for(&format!("state: {state}"));
    }
    fs::write(controller.path("go"), "").unwrap();
    wait_until("it is gone", || controller.clients().is_empty());
}
