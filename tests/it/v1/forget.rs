//! An account leaves the list with what it kept on disk.

use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};

use super::actions::send;
use super::{names, problem};
use crate::fixture::{Answer, Builder, Controller, wait_until};

fn forget(controller: &Controller, name: &str) -> Answer {
    send(controller, "DELETE", &format!("/v1/clients/{name}?forget=1"), &Value::Null)
}

fn stop(controller: &Controller, name: &str) {
    let stopped = send(controller, "POST", &format!("/v1/clients/{name}/stop"), &Value::Null);
    assert_eq!(stopped.status, 200, "{stopped:?}");
}

/// The paths in the folder that have the name in them.
fn files_of(controller: &Controller, name: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![controller.folder.path().to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            if entry.file_name().to_str().unwrap().contains(name) {
                found.push(entry.path());
            } else if entry.file_type().unwrap().is_dir() {
                folders.push(entry.path());
            }
        }
    }
    found
}

/// A controller whose clients leave files of every kind.
fn controller() -> Controller {
    Builder::new().config("[supervisor]\nclients_outlive_controller = true").built_in()
}

#[test]
fn forgotten_account_leaves_no_file_and_others_keep_theirs() {
    let controller = controller();
    let named = controller.path("its-own-bob.json");
    let elsewhere = format!("state_path={}&sandbox_login_time=0", named.display());
    controller.start_client_with("bob", &elsewhere);
    controller.start_client_with("bobby", "sandbox_login_time=0");
    for name in ["bob", "bobby"] {
        controller.wait_for_state(name, "running");
        let state = controller.path(&format!("clients/{name}"));
        fs::create_dir_all(&state).unwrap();
        fs::write(state.join("more"), "x").unwrap();
    }
    fs::write(controller.path("mojo_webqq_qrcode_bob.jpg"), "x").unwrap();
    assert_eq!(problem(&forget(&controller, "bob")), (409, "still_running".into()));
    assert!(named.exists() && controller.path("clients/bob/more").exists());

    stop(&controller, "bob");
    let others = files_of(&controller, "bobby");
    assert!(others.len() > 3, "{others:?}");
    let gone = forget(&controller, "bob");
    assert_eq!((gone.status, gone.body.len()), (204, 0));
    assert_eq!(names(&controller.get("/v1/clients")), ["bobby"]);
    let mut left = files_of(&controller, "bob");
    left.retain(|path| !others.contains(path));
    assert!(left.is_empty(), "{left:?}");
    assert_eq!(files_of(&controller, "bobby"), others);
    assert_eq!(
        problem(&forget(&controller, "bob")),
        (404, "no_such_account".into()),
        "there is nothing left"
    );
    // It begins anew.
    controller.start_client_with("bob", "sandbox_login_time=0");
    controller.wait_for_state("bob", "running");
    assert!(!controller.path("clients/bob/more").exists());
}

#[test]
fn files_of_an_account_that_left_the_list_are_removed() {
    let controller = controller();
    controller.start_client_with("bob", "sandbox_login_time=0");
    controller.wait_for_state("bob", "running");
    assert_eq!(send(&controller, "DELETE", "/v1/clients/bob", &Value::Null).status, 204);
    assert!(!files_of(&controller, "bob").is_empty(), "without forget they stay");
    assert_eq!(forget(&controller, "bob").status, 204);
    assert!(files_of(&controller, "bob").is_empty());
    assert_eq!(problem(&forget(&controller, "bob")), (404, "no_such_account".into()));
}

#[test]
fn files_of_others_and_of_the_controller_stay_whatever_parameters_say() {
    let controller = controller();
    controller.start_client_with("other", "sandbox_login_time=0");
    controller.wait_for_state("other", "running");
    let registry = controller.path("mojo_webqq_controller_backend.dat");
    let state = controller.path("mojo_webqq_state_other.json");
    let parameters = json!({ "state_path": state, "qrcode_path": registry });
    let body = json!({ "parameters": parameters, "desired": "stopped" });
    assert_eq!(send(&controller, "PUT", "/v1/clients/thief", &body).status, 201);
    // A link in the place of its folder.
    fs::create_dir_all(controller.path("clients")).unwrap();
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("precious"), "x").unwrap();
    std::os::unix::fs::symlink(outside.path(), controller.path("clients/thief")).unwrap();
    assert_eq!(forget(&controller, "thief").status, 204);
    assert!(registry.exists() && state.exists() && outside.path().join("precious").exists());
    assert!(controller.path("clients/thief").symlink_metadata().is_err(), "the link itself is gone");
}

#[test]
fn account_that_is_to_be_started_again_is_not_forgotten() {
    let controller = Builder::new().template("#!/bin/sh\nsleep 0.2; exit 3\n").start();
    controller.start_client_with("bob", "");
    wait_until("it has ended", || controller.is_gone("bob"));
    assert_eq!(problem(&forget(&controller, "bob")), (409, "still_running".into()));
    stop(&controller, "bob");
    assert_eq!(forget(&controller, "bob").status, 204);
}
