//! The login code.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::{ask, problem};
use crate::fixture::{Builder, wait_until};

#[test]
fn code_is_an_image_a_text_or_json() {
    let controller = Builder::new().built_in();
    let path = "/v1/clients/bot/qrcode";
    assert_eq!(problem(&controller.get(path)), (404, "no_such_account".into()));
    controller.start_client_with("bot", "sandbox_login=scan&qrcode_expire=300");
    controller.wait_for_state("bot", "scaning");
    let code = |accept: &str| {
        let mut found = None;
        wait_until("there is a code", || {
            let answer = ask(&controller, path, &[("accept", accept)]);
            let is_there = answer.status == 200;
            found = Some(answer);
            is_there
        });
        let found = found.unwrap();
        assert_eq!(found.header("cache-control"), Some("no-store"));
        found
    };
    let image = code("image/*");
    assert_eq!(image.header("content-type"), Some("image/png"));
    assert_eq!(image.body, controller.get("/openqq/get_qrcode?client=bot").body);
    let json = code("application/json").json();
    let (_, encoded) = json["image"].as_str().unwrap().split_once("data:image/png;base64,").unwrap();
    assert_eq!(STANDARD.decode(encoded).unwrap(), image.body);
    let (since, expires) = (json["since"].as_u64().unwrap(), json["expires"].as_u64().unwrap());
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    assert!(since <= now && now < since + 300 && expires == since + 300, "{json}");
    let text = code("text/plain");
    assert_eq!(text.header("content-type"), Some("text/plain; charset=utf-8"));
    let text = text.text();
    let lines: Vec<_> = text.lines().collect();
    assert!(
        lines.len() > 10 && lines.iter().all(|line| line.chars().count() == lines[0].chars().count()),
        "{text}"
    );
    assert!(text.chars().all(|c| "█▀▄ \n".contains(c)), "{text}");
}

#[test]
fn account_without_a_code_has_none() {
    let controller = Builder::new().built_in();
    controller.start_client_with("bot", "sandbox_login_time=0");
    controller.wait_for_state("bot", "running");
    for accept in ["*/*", "text/plain", "application/json"] {
        let none = ask(&controller, "/v1/clients/bot/qrcode", &[("accept", accept)]);
        assert_eq!(problem(&none), (404, "no_code".into()), "{accept}");
    }
}
