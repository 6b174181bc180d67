//! The specification, held against the controller by programs of others.

use std::io::Write;
use std::process::Command;

use crate::fixture::Builder;

/// A module of the Python packages that tests/run fetched; none where it did not.
fn module(name: &str) -> Option<Command> {
    let Some(packages) = std::env::var_os("WQCONTROLLER_OPENAPI") else {
        let test = std::thread::current().name().unwrap_or("a test").to_owned();
        writeln!(std::io::stderr().lock(), "NOT RUN: {test}, with {name}: WQCONTROLLER_OPENAPI is not set")
            .unwrap();
        return None;
    };
    let mut command = Command::new("/usr/bin/python3");
    command.args(["-m", name]).env("PYTHONPATH", packages).env("NO_PROXY", "*");
    Some(command)
}

#[test]
fn specification_is_valid_and_the_controller_is_as_it_says() {
    let Some(mut validator) = module("openapi_spec_validator") else { return };
    let controller = Builder::new().config("max_clients = 5\n").built_in();
    // The example of names, so that its world is there.
    controller.start_client_with("bot", "sandbox_login_time=0");
    controller.wait_for_state("bot", "running");
    let file = controller.path("openapi.json");
    std::fs::write(&file, controller.get("/v1/openapi.json").body).unwrap();
    let judged = validator.arg(&file).output().unwrap();
    assert!(judged.status.success(), "{}", String::from_utf8_lossy(&judged.stdout));

    // The world of an account that runs, before accounts are stopped: without a client there is only 502 and 503.
    let of_sandbox = ["--include-path-regex", "/sandbox/(world|file|people)"];
    let but_streams = ["--exclude-path-regex", "/v1/events|/log$|/sandbox/"];
    for paths in [of_sandbox, but_streams] {
        let Some(mut schemathesis) = module("schemathesis.cli") else { return };
        let folder = tempfile::tempdir().unwrap();
        let tried = schemathesis
            .current_dir(&folder)
            .args(["run", &controller.url("/v1/openapi.json")])
            // Streams do not end; they have tests of their own.
            .args(paths)
            // What is valid may still be refused: there may be five accounts, and not every name of a parameter is one.
            .args(["--checks", "all", "--exclude-checks", "positive_data_acceptance"])
            // Always the same calls, so that a run tells the same as the last one.
            .args(["--generation-deterministic", "--max-examples", "15", "--max-failures", "5", "--no-color"])
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&tried.stdout);
        assert!(tried.status.success(), "{said}\n{}", String::from_utf8_lossy(&tried.stderr));
        assert!(said.contains("generated"), "{said}");
    }
    // It did not end, and every account can still be ended.
    for account in controller.get("/v1/clients").json()["accounts"].as_array().unwrap() {
        let mut path = controller.url("/v1/clients/").parse::<url::Url>().unwrap();
        path.path_segments_mut().unwrap().pop_if_empty().push(account["name"].as_str().unwrap());
        let deleted = controller.send(ureq::http::Request::delete(path.as_str()).body(()).unwrap());
        assert_eq!(deleted.status, 204, "{account}");
    }
}
