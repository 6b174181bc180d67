//! The page's files, and signing in there.

use serde_json::json;

use super::{ask, problem};
use crate::fixture::{Answer, Builder, Controller, write_file};

const KEY: &str = "a-word-that-writes";
const EYE: &str = "a-word-that-reads";

fn with_tokens() -> Builder {
    let builder = Builder::new();
    let (key, eye) = (builder.write_file("key", KEY, 0o600), builder.write_file("eye", EYE, 0o600));
    builder.config(&format!(
        "[[auth.tokens]]\nname = 'key'\nfile = {key:?}\n[[auth.tokens]]\nname = 'eye'\nfile = {eye:?}\naccess = 'read-only'"
    ))
}

fn sign_in(controller: &Controller, token: &str, headers: &[(&str, &str)]) -> Answer {
    let request = ureq::http::Request::post(controller.url("/v1/session"));
    let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    let request = request.header("content-type", "application/json");
    controller.send(request.body(json!({ "token": token }).to_string()).unwrap())
}

/// The cookie of an answer, as a browser sends it back.
fn cookie(answer: &Answer) -> String {
    assert_eq!(answer.status, 204, "{answer:?}");
    answer.header("set-cookie").unwrap().split(';').next().unwrap().to_owned()
}

#[test]
fn page_needs_no_token_and_is_never_framed() {
    let controller = with_tokens().start();
    let page = controller.get("/");
    assert_eq!((page.status, page.header("content-type")), (200, Some("text/html; charset=utf-8")));
    let policy = page.header("content-security-policy").unwrap();
    assert!(policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'"), "{policy}");
    assert!(page.text().contains("page/app.js"));
    for file in ["/page/app.js", "/page/style.css", "/page/icon.svg"] {
        let found = controller.get(file);
        assert_eq!((found.status, found.header("x-content-type-options")), (200, Some("nosniff")), "{file}");
        let tag = found.header("etag").unwrap().to_owned();
        assert_eq!(ask(&controller, file, &[("if-none-match", &tag)]).status, 304);
    }
    assert_eq!(controller.get("/page/secret").status, 404);
    assert_eq!(ask(&controller, "/", &[("host", "evil.example")]).status, 421);
    // A link on a page of another site may lead here.
    assert_eq!(ask(&controller, "/", &[("sec-fetch-site", "cross-site")]).status, 200);
}

#[test]
fn there_is_no_page_where_other_machines_need_no_token() {
    let open = Builder::new().config("listen = '0.0.0.0:0'\nauth.allow_unauthenticated = true").start();
    let host = [("host", "127.0.0.1")];
    for path in ["/", "/page/app.js"] {
        assert_eq!(ask(&open, path, &host).status, 403, "{path}");
    }
    assert_eq!(ask(&open, "/v1/session", &host).json(), json!({ "access": "full", "login": false }));
}

#[test]
fn token_is_shown_once_and_a_cookie_stands_for_it() {
    let controller = with_tokens().built_in();
    assert_eq!(problem(&controller.get("/v1/session")), (401, "token_needed".into()));
    assert_eq!(problem(&sign_in(&controller, "a-word-that-is-wrong", &[])), (401, "token_wrong".into()));
    let signed_in = sign_in(&controller, KEY, &[]);
    let whole = signed_in.header("set-cookie").unwrap();
    for part in ["; Path=/v1;", "; HttpOnly", "; SameSite=Strict"] {
        assert!(whole.contains(part), "{whole}");
    }
    assert!(!whole.contains("Secure") && !whole.contains(KEY), "{whole}");
    let over_tls = sign_in(&controller, KEY, &[("origin", "https://localhost"), ("host", "localhost")]);
    assert!(over_tls.header("set-cookie").unwrap().ends_with("; Secure"));
    let cookie = cookie(&signed_in);
    let with = |path: &str| ask(&controller, path, &[("cookie", &cookie)]);
    assert_eq!(with("/v1/session").json(), json!({ "access": "full", "login": true }));
    assert_eq!(with("/v1/clients").status, 200);
    // It opens the API of the page only, and no page of another site gets it used.
    assert_eq!(with("/openqq/check_client").status, 401);
    let foreign = ask(&controller, "/v1/clients", &[("cookie", &cookie), ("sec-fetch-site", "cross-site")]);
    assert_eq!(problem(&foreign), (403, "not_allowed".into()));

    let put = |cookie: &str| {
        let request = ureq::http::Request::put(controller.url("/v1/clients/bot")).header("cookie", cookie);
        controller.send(request.header("content-type", "application/json").body("{}".to_owned()).unwrap())
    };
    assert_eq!(put(&cookie).status, 201);
    let eye = self::cookie(&sign_in(&controller, EYE, &[]));
    assert_eq!(
        ask(&controller, "/v1/session", &[("cookie", &eye)]).json(),
        json!({ "access": "read-only", "login": true })
    );
    assert_eq!(problem(&put(&eye)), (403, "not_allowed".into()));

    let out = ureq::http::Request::delete(controller.url("/v1/session")).header("cookie", &cookie);
    let out = controller.send(out.body(()).unwrap());
    assert!(out.status == 204 && out.header("set-cookie").unwrap().contains("Max-Age=0"), "{out:?}");
    assert_eq!(with("/v1/session").status, 401);
}

#[test]
fn session_lasts_over_a_reload_and_ends_with_its_token() {
    let controller = with_tokens().start();
    let cookie = cookie(&sign_in(&controller, KEY, &[]));
    let status = || ask(&controller, "/v1/session", &[("cookie", &cookie)]).status;
    controller.reload();
    assert_eq!(status(), 200);
    write_file(&controller.path("key"), "another-word-that-writes", 0o600);
    controller.reload();
    assert_eq!(status(), 401, "the token is another one by now");
}

#[test]
fn sign_in_is_bounded_and_strict() {
    let controller = with_tokens().start();
    let raw = |kind: &str, body: String| {
        let request = ureq::http::Request::post(controller.url("/v1/session")).header("content-type", kind);
        problem(&controller.send(request.body(body).unwrap()))
    };
    assert_eq!(raw("application/x-www-form-urlencoded", format!("token={KEY}")), (415, "no_json".into()));
    assert_eq!(raw("application/json", "{\"token\":7}".into()), (400, "invalid_body".into()));
    assert_eq!(raw("application/json", "x".repeat(20 << 20)).0, 413);
    assert_eq!(problem(&sign_in(&controller, "", &[])), (401, "token_wrong".into()));
    // Tokens that are not text, or huge.
    assert_eq!(problem(&sign_in(&controller, &"小".repeat(10_000), &[])), (401, "token_wrong".into()));
}
