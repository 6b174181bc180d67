//! The API below `/v1`, and the paths that tell how the controller is.

pub mod actions;
mod events;
mod explain;
mod forget;
mod log;
mod qrcode;
mod scan;
mod session;
mod specification;

use serde_json::{Value, json};

use crate::fixture::{Answer, Builder, Controller, wait_until};

fn ask(controller: &Controller, path: &str, headers: &[(&str, &str)]) -> Answer {
    let request = ureq::http::Request::get(controller.url(path));
    let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    controller.send(request.body(()).unwrap())
}

/// A problem, with its status and code.
fn problem(answer: &Answer) -> (u16, String) {
    assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{answer:?}");
    let problem = answer.json();
    assert_eq!(problem["status"], answer.status);
    assert!(
        !problem["title"].as_str().unwrap().is_empty() && !problem["detail"].as_str().unwrap().is_empty()
    );
    (answer.status, problem["code"].as_str().unwrap().to_owned())
}

fn problem_code(answer: &Answer) -> Option<String> {
    let is_problem = answer.header("content-type") == Some("application/problem+json");
    is_problem.then(|| problem(answer).1)
}

/// An account without what it uses, which is another number each time.
fn without_usage(mut account: Value) -> Value {
    account.as_object_mut().unwrap().remove("usage");
    account
}

fn names(answer: &Answer) -> Vec<String> {
    assert_eq!(answer.status, 200, "{answer:?}");
    let accounts = answer.json()["accounts"].clone();
    accounts.as_array().unwrap().iter().map(|account| account["name"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn accounts_are_listed_with_types() {
    let controller = Builder::new().built_in();
    assert_eq!(controller.get("/v1/clients").json(), json!({ "accounts": [], "total": 0, "next": null }));
    let started = controller.start_client_with("bot", "log_level=debug&sandbox_login_time=0");
    controller.wait_for_state("bot", "running");
    let account = without_usage(controller.get("/v1/clients/bot").json());
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    for since in [&account["since"], &account["client"]["since"]] {
        assert!((now - 600..=now).contains(&since.as_u64().unwrap()), "{account}");
    }
    assert_eq!(
        account,
        json!({
            "name": "bot", "id": account["id"], "state": "running", "since": account["since"], "desired": "running",
            "reason": null, "needs_person": false,
            "client": {
                "phase": "up", "since": account["client"]["since"], "pid": started["pid"], "port": started["port"], "unit": null, "frozen": false, "held": false,
                "exits": 0, "last_exit": null, "next_start": null,
            },
            "implementation": null, "login": null,
            "parameters": { "log_level": "debug", "sandbox_login_time": "0" },
            "queues": { "reports": null, "messages": 0 }, "backend": "sandbox",
        })
    );
    assert_eq!(without_usage(controller.get("/v1/clients").json()["accounts"][0].take()), account);
}

#[test]
fn lists_are_filtered_and_paged() {
    let controller = Builder::new().built_in();
    let all = ["a b", "bot-1", "bot-2", "小明"];
    for name in all {
        controller.start_client_with(&name.replace(' ', "%20"), "sandbox_login_time=0");
        wait_until("it runs", || {
            controller.get("/v1/clients?state=running").json()["accounts"].to_string().contains(name)
        });
    }
    let list = |query: &str| controller.get(&format!("/v1/clients{query}"));
    assert_eq!(names(&list("")), all);
    assert_eq!(names(&list("?q=bot")), ["bot-1", "bot-2"]);
    assert_eq!(names(&list("?q=%E6%98%8E&needs_person=false")), ["小明"]);
    assert_eq!(names(&list("?login=online")), [""; 0]);
    let first = list("?limit=3");
    assert_eq!(
        (names(&first), &first.json()["total"]),
        (all[..3].iter().map(|name| (*name).to_owned()).collect(), &json!(4))
    );
    let next = first.json()["next"].as_str().unwrap().to_owned();
    let last = list(&format!("?limit=3&after={next}"));
    assert_eq!((names(&last), &last.json()["next"]), (vec!["小明".to_owned()], &Value::Null));
    assert_eq!(problem(&list("?limit=0")), (400, "invalid_parameter".into()));
    assert_eq!(problem(&list("?page=1")), (400, "invalid_parameter".into()));
    for name in ["a%20b", "%E5%B0%8F%E6%98%8E"] {
        assert_eq!(controller.get(&format!("/v1/clients/{name}")).status, 200, "{name}");
    }
}

#[test]
fn account_that_needs_a_person_is_found() {
    let controller = Builder::new().config("[supervisor]\nrestart = 'no'").built_in();
    controller.start_client_with("waits", "sandbox_login=scan");
    controller.wait_for_state("waits", "scaning");
    controller.start_client_with("runs", "sandbox_login_time=0");
    controller.wait_for_state("runs", "running");
    assert_eq!(names(&controller.get("/v1/clients?needs_person=true")), ["waits"]);
    assert_eq!(names(&controller.get("/v1/clients?needs_person=false")), ["runs"]);
}

#[test]
fn unchanged_answer_is_not_sent_again() {
    let controller = Builder::new().built_in();
    controller.start_client_with("bot", "sandbox_login_time=0");
    controller.wait_for_state("bot", "running");
    // What it uses is in the list once that is found out, and then stays for a while.
    wait_until("it is known what it uses", || controller.get("/v1/clients").text().contains("\"usage\""));
    for path in ["/v1/clients", "/v1/clients/bot", "/v1/openapi.json"] {
        let tag = controller.get(path).header("etag").unwrap().to_owned();
        let again = ask(&controller, path, &[("if-none-match", &tag)]);
        assert_eq!((again.status, again.body.len()), (304, 0), "{path}");
    }
    let tag = controller.get("/v1/clients").header("etag").unwrap().to_owned();
    controller.get("/openqq/stop_client?client=bot");
    assert_eq!(ask(&controller, "/v1/clients", &[("if-none-match", &tag)]).status, 200);
}

#[test]
fn mistakes_are_problems() {
    let controller = Controller::new();
    assert_eq!(problem(&controller.get("/v1/clients/nobody")), (404, "no_such_account".into()));
    assert_eq!(problem(&controller.get("/v1/clients/a%2Fb")), (404, "no_such_account".into()));
    assert_eq!(problem(&controller.get("/v1/nothing")), (404, "no_such_path".into()));
    let deleted = ureq::http::Request::delete(controller.url("/v1/clients")).body(()).unwrap();
    let refused = controller.send(deleted);
    assert_eq!(
        (problem(&refused), refused.header("allow")),
        ((405, "wrong_method".into()), Some("GET, HEAD"))
    );
    // The older API keeps its own.
    assert_eq!(controller.get("/openqq/").status, 403);
}

#[test]
fn tokens_hold_and_health_needs_none() {
    let builder = Builder::new();
    let (key, eye) = (
        builder.write_file("key", "a-word-that-writes", 0o600),
        builder.write_file("eye", "a-word-that-reads", 0o600),
    );
    let controller = builder
        .config(&format!(
            "[[auth.tokens]]\nname = 'key'\nfile = {key:?}\n[[auth.tokens]]\nname = 'eye'\nfile = {eye:?}\naccess = 'read-only'"
        ))
        .start();
    let refused = controller.get("/v1/clients");
    assert_eq!(
        (problem(&refused), refused.header("www-authenticate")),
        ((401, "token_needed".into()), Some("Bearer realm=\"wqcontroller\""))
    );
    for token in ["Bearer a-word-that-reads", "Bearer a-word-that-writes"] {
        for path in ["/v1/clients", "/v1/openapi.json"] {
            assert_eq!(ask(&controller, path, &[("authorization", token)]).status, 200, "{token}");
        }
    }
    assert_eq!(
        problem(&ask(&controller, "/v1/nothing", &[("authorization", "Bearer a-word-that-reads")])),
        (403, "not_allowed".into())
    );
    assert_eq!(
        problem(&ask(&controller, "/v1/clients", &[("host", "evil.example")])),
        (421, "foreign_host".into())
    );
    for path in ["/healthz", "/readyz"] {
        let answer = controller.get(path);
        assert_eq!((answer.status, answer.body.len()), (200, 0), "{path}");
    }
}

#[test]
fn usage_is_shown() {
    let controller = Builder::new().built_in();
    controller.start_client_with("bot", "sandbox_login_time=0");
    controller.wait_for_state("bot", "running");
    let check = |usage: &Value| {
        let memory = usage["memory"].as_u64().unwrap();
        assert!((1 << 20..1 << 30).contains(&memory), "{usage}");
        let cpu = usage["cpu"].as_f64().unwrap();
        assert!((0.0..60.0).contains(&cpu), "{usage}");
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
        assert!((now - 60..=now).contains(&usage["at"].as_u64().unwrap()), "{usage}");
    };
    check(&controller.get("/v1/clients/bot").json()["usage"]);
    let mut listed = Value::Null;
    wait_until("it is known what it uses", || {
        listed = controller.get("/v1/clients").json()["accounts"][0]["usage"].clone();
        !listed.is_null()
    });
    check(&listed);
    // The sample is as it was.
    assert_eq!(controller.get("/v1/clients").json()["accounts"][0]["usage"], listed);
    actions::send(&controller, "POST", "/v1/clients/bot/stop", &Value::Null);
    for answer in
        [controller.get("/v1/clients").json()["accounts"][0].take(), controller.get("/v1/clients/bot").json()]
    {
        assert!(answer["usage"].is_null(), "it has no process: {answer}");
    }
}

#[test]
fn secrets_are_not_shown() {
    let controller = Builder::new().built_in();
    controller.start_client_with("bot", "pwd=geheimes-wort&post_api=http://u:geheimes-wort@127.0.0.1:1/");
    let account = controller.get("/v1/clients/bot").text();
    assert!(!account.contains("geheimes-wort"), "{account}");
}

#[test]
fn specification_lists_what_there_is() {
    let controller = Builder::new().built_in();
    controller.start_client("bot");
    let specification = controller.get("/v1/openapi.json").json();
    assert_eq!(specification["openapi"], "3.1.0");
    let mut operations = 0;
    for (path, methods) in specification["paths"].as_object().unwrap() {
        for method in methods.as_object().unwrap().keys() {
            operations += 1;
            // A stream would not end.
            if path != "/v1/events" {
                let (method, path) = (method.to_uppercase(), path.replace("{name}", "none"));
                let answer = actions::send(&controller, &method, &path, &Value::Null);
                let known = methods[method.to_lowercase()]["responses"].as_object().unwrap();
                assert!(known.contains_key(&answer.status.to_string()), "{method} {path}: {answer:?}");
                assert_ne!(problem_code(&answer).as_deref(), Some("no_such_path"), "{method} {path}");
            }
        }
    }
    assert!(operations > 8, "{operations}");
    // Every key of an account is described.
    let account = controller.get("/v1/clients/bot").json();
    let described = &specification["components"]["schemas"]["Account"]["properties"];
    for key in account.as_object().unwrap().keys() {
        assert!(described[key].is_object(), "{key}: {described}");
    }
}
