//! Links for scanning of accounts on another machine, and their page.

use super::*;

fn asked(controller: &Controller, method: &str, path: &str) -> Answer {
    let request = ureq::http::Request::builder().method(method).uri(controller.url(path));
    controller.send(request.header("accept", "application/json").body(()).unwrap())
}

/// The path of a new link.
fn link(controller: &Controller, name: &str) -> String {
    let made = asked(controller, "POST", &format!("/v1/clients/{name}/scan-link"));
    assert_eq!(made.header("cache-control"), Some("no-store"));
    let url = made.json()["url"].as_str().unwrap().to_owned();
    url.strip_prefix(&controller.url("")).unwrap_or_else(|| panic!("{url} leads elsewhere")).to_owned()
}

fn code(answer: &Answer) -> (u16, String) {
    (answer.status, answer.json()["code"].as_str().unwrap_or_default().to_owned())
}

#[test]
fn link_of_another_machine_leads_to_the_door_and_ends_with_the_login() {
    // A phone would find nothing there.
    let mut two = Two::new("[http]\npublic_url = 'https://tokyo.example'");
    let start = "/openqq/start_client?client=far&machine=tokyo&sandbox_login=scan";
    assert_eq!(two.call(start)["code"], 0);
    wait_until("there is a code", || two.door.get("/v1/clients/far/qrcode").status == 200);
    let old = link(&two.door, "far");
    let page = two.door.get(&old);
    assert_eq!((page.status, page.header("content-type")), (200, Some("text/html; charset=utf-8")));
    assert_eq!(asked(&two.door, "GET", &old).text(), r#"{"name":"far"}"#);
    let shown = asked(&two.door, "POST", &old).json();
    assert!(shown["image"].as_str().unwrap().starts_with("data:image/png;base64,"), "{shown}");
    assert_eq!(shown["state"], "scaning");
    assert_eq!(asked(&two.door, "PUT", &old).status, 405);
    // Each knows its own links alone, and one of a door goes no further.
    assert_eq!(code(&asked(&two.tokyo, "POST", &old)), (404, "no_such_link".into()));
    let looped = ureq::http::Request::post(two.door.url(&old)).header("x-wqcontroller-door", "full");
    assert_eq!(two.door.send(looped.header("accept", "application/json").body(()).unwrap()).status, 404);
    // A new login there ends it.
    assert_eq!(asked(&two.door, "POST", "/v1/clients/far/restart").status, 200);
    assert_eq!(code(&asked(&two.door, "POST", &old)), (410, "link_ended".into()));
    assert_eq!(code(&asked(&two.door, "GET", &old)), (410, "link_ended".into()));
    let new = link(&two.door, "far@tokyo");
    assert_eq!(asked(&two.door, "POST", &new).status, 200);
    two.tokyo.kill();
    wait_until("the machine is away", || asked(&two.door, "POST", &new).status == 503);
    assert_eq!(code(&asked(&two.door, "POST", &new)).1, "machine_unreachable");
    assert_eq!(code(&asked(&two.door, "POST", "/v1/clients/far/scan-link")).1, "machine_unreachable");
    let log = two.door.log.text() + &two.tokyo.log.text();
    assert!(!log.contains(&new["/scan/".len()..]), "{log}");
}

#[test]
fn link_is_made_by_callers_who_control_the_account() {
    let two = Two::with("", "read-only", &[]);
    let started = two.at_tokyo("GET", "/openqq/start_client?client=far&sandbox_login=scan");
    assert_eq!(started.json()["code"], 0);
    wait_until("there is a code", || two.door.get("/v1/clients/far/qrcode").status == 200);
    let refused = asked(&two.door, "POST", "/v1/clients/far/scan-link");
    assert_eq!(code(&refused), (403, "machine_refuses".into()));
    assert_eq!(
        code(&asked(&two.door, "POST", "/v1/clients/none/scan-link")),
        (404, "no_such_account".into())
    );
}
