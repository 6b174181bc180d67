//! Links for scanning.

use serde_json::Value;

use super::actions::send;
use super::{ask, problem};
use crate::fixture::{Answer, Builder, Controller, wait_until};

fn link(controller: &Controller, name: &str, headers: &[(&str, &str)]) -> Answer {
    let request = ureq::http::Request::post(controller.url(&format!("/v1/clients/{name}/scan-link")));
    let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    controller.send(request.body(()).unwrap())
}

/// The path of a link.
fn path(answer: &Answer) -> String {
    let url = answer.json()["url"].as_str().unwrap().to_owned();
    url[url.find("/scan/").unwrap()..].to_owned()
}

fn press(controller: &Controller, path: &str) -> Answer {
    let request = ureq::http::Request::post(controller.url(path)).header("accept", "application/json");
    controller.send(request.body(()).unwrap())
}

fn scanning(controller: &Controller) {
    controller.start_client_with("bot", "sandbox_login=scan");
    controller.wait_for_state("bot", "scaning");
    wait_until("there is a code", || controller.get("/v1/clients/bot/qrcode").status == 200);
}

#[test]
fn link_shows_the_code_after_a_press_and_nothing_else() {
    let builder = Builder::new();
    let key = builder.write_file("key", "a-word-that-writes", 0o600);
    let controller = builder.config(&format!("[[auth.tokens]]\nname = 'key'\nfile = {key:?}")).built_in();
    let token = ("authorization", "Bearer a-word-that-writes");
    let start = "/openqq/start_client?client=bot&sandbox_login=scan";
    assert_eq!(ask(&controller, start, &[token]).status, 200);
    assert_eq!(problem(&link(&controller, "bot", &[])), (401, "token_needed".into()));
    let path = path(&link(&controller, "bot", &[token]));
    // Without a token from here on. A preview shows no code.
    let page = controller.get(&path);
    assert_eq!((page.status, page.header("content-type")), (200, Some("text/html; charset=utf-8")));
    assert_eq!(page.header("cache-control"), Some("no-store"));
    assert!(page.header("content-security-policy").is_some() && !page.text().contains("data:image"));
    let introduced = ask(&controller, &path, &[("accept", "application/json")]);
    assert_eq!(introduced.text(), r#"{"name":"bot"}"#);
    let mut shown = Value::Null;
    wait_until("the code is shown", || {
        shown = press(&controller, &path).json();
        shown["image"].is_string() && shown["state"] == "scaning"
    });
    assert!(shown["image"].as_str().unwrap().starts_with("data:image/png;base64,"));
    assert!(shown["expires"].as_u64().unwrap() > 1_700_000_000);
    // It opens nothing else.
    let put = ureq::http::Request::put(controller.url(&path)).body("x".to_owned()).unwrap();
    assert_eq!(controller.send(put).status, 405);
    assert_eq!(controller.get("/v1/clients/bot").status, 401);
    assert_eq!(problem(&press(&controller, "/scan/x")), (404, "no_such_link".into()));
    assert_eq!(problem(&press(&controller, &format!("{path}x"))), (404, "no_such_link".into()));
    let foreign = ureq::http::Request::post(controller.url(&path)).header("host", "evil.example");
    assert_eq!(controller.send(foreign.body(()).unwrap()).status, 421);
}

#[test]
fn link_ends_with_the_login_it_was_made_for() {
    let mut controller = Builder::new().built_in();
    scanning(&controller);
    let old = path(&link(&controller, "bot", &[]));
    assert_eq!(press(&controller, &old).status, 200);
    send(&controller, "POST", "/v1/clients/bot/restart", &Value::Null);
    assert_eq!(problem(&press(&controller, &old)), (410, "link_ended".into()));
    let new = path(&link(&controller, "bot", &[]));
    send(&controller, "DELETE", "/v1/clients/bot", &Value::Null);
    assert_eq!(problem(&press(&controller, &new)), (410, "link_ended".into()));
    controller.end();
    controller.start_again();
    assert_eq!(problem(&press(&controller, &new)), (404, "no_such_link".into()), "of another controller");
}

#[test]
fn link_leads_to_the_public_url() {
    let controller = Builder::new().config("[http]\npublic_url = 'https://bots.example.org/wq/'").built_in();
    scanning(&controller);
    let made = link(&controller, "bot", &[]).json();
    let url = made["url"].as_str().unwrap();
    assert!(url.starts_with("https://bots.example.org/wq/scan/"), "{url}");
    // By that name it is reached.
    let path = &url["https://bots.example.org/wq".len()..];
    assert_eq!(ask(&controller, path, &[("host", "bots.example.org")]).status, 200);
}
