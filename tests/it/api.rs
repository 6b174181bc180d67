//! The controller's four calls, row by row.

use serde_json::{Value, json};

use crate::fixture::{Builder, Controller, is_alive, wait_until};

/// A reply without the facts that differ from run to run.
fn without(mut reply: Value, keys: &[&str]) -> Value {
    for key in keys {
        assert!(reply.as_object_mut().unwrap().remove(*key).is_some(), "{key} is missing in {reply}");
    }
    reply
}

#[test]
fn start_and_stop_match_the_original() {
    let controller = Controller::new();
    let answer = controller.get("/openqq/start_client?client=webqq_client_01");
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/json")));
    let started = answer.json();
    let pid = started["pid"].as_u64().unwrap();
    let expected = json!({"account": "webqq_client_01", "client": "webqq_client_01", "code": 0, "pid": pid, "port": controller.first_port, "status": "success"});
    assert_eq!(started, expected);
    assert!(is_alive(pid as u32));
    assert_eq!(controller.stop_client("webqq_client_01"), expected);
    assert!(!is_alive(pid as u32), "the answer comes when the process is gone");
    assert_eq!(controller.clients(), [] as [Value; 0]);
}

#[test]
fn start_echoes_parameters_without_secrets() {
    let controller = Builder::new().config("[client]\nsecret_params = [\"cookie\"]").start();
    let more = "log_level=debug&pwd=geheim&Cookie=geheim&code=9&status=x&pid=1&port=1&note=%E5%B0%8F+%2B";
    let started = controller.start_client_with("a", more);
    let expected = json!({"account": "a", "client": "a", "code": 0, "status": "success", "log_level": "debug", "note": "小 +"});
    assert_eq!(without(started.clone(), &["pid", "port"]), expected);
    assert_eq!(started["port"], controller.first_port);
    controller.wait_for_listening("a");
    let env = controller.get("/openqq/env?client=a").text();
    for line in
        ["MOJO_WEBQQ_PWD=geheim", "MOJO_WEBQQ_COOKIE=geheim", "MOJO_WEBQQ_NOTE=小 +", "MOJO_WEBQQ_CODE=9"]
    {
        assert!(env.lines().any(|there| there == line), "{line} in {env}");
    }
    assert!(env.contains(&format!("MOJO_WEBQQ_PLUGIN_OPENQQ_PORT={}\n", controller.first_port)));
    assert_eq!(without(controller.stop_client("a"), &["pid", "port"]), expected);
    assert!(!controller.log.text().contains("geheim"));
}

#[test]
fn check_client_with_empty_name_lists_no_client() {
    let controller = Controller::new();
    controller.start_client("a");
    let nobody = json!({"code": 1, "status": "client not exists"});
    assert_eq!(controller.get("/openqq/check_client?client=").json(), nobody);
    assert_eq!(controller.get("/openqq/check_client").json()["client"].as_array().unwrap().len(), 1);
}

#[test]
fn jquery_cache_breaker_is_ignored() {
    let controller = Controller::new();
    let started = controller.get("/openqq/start_client?client=a&_=1479112345").json();
    assert_eq!((&started["code"], started.get("_")), (&json!(0), None), "{started}");
    controller.wait_for_listening("a");
    let env = controller.get("/openqq/env?client=a").text();
    assert!(!env.contains("1479112345"), "{env}");
    assert_eq!(controller.get("/openqq/check_client?client=a&_=1").json()["code"], 0);
    assert_eq!(controller.get("/openqq/stop_client?client=a&_=2").json()["code"], 0);
}

#[test]
fn missing_and_unknown_client_are_refused() {
    let controller = Controller::new();
    for path in ["start_client", "stop_client", "get_qrcode", "get_user_info", "whatever"] {
        for query in ["", "?", "?client=", "?other=1"] {
            let answer = controller.get(&format!("/openqq/{path}{query}"));
            assert_eq!(answer.status, 200, "{path}{query}");
            assert_eq!(answer.json(), json!({"code": 1, "status": "client not found"}), "{path}{query}");
        }
    }
    for path in ["stop_client", "check_client", "get_qrcode", "get_user_info"] {
        let answer = controller.get(&format!("/openqq/{path}?client=nobody"));
        assert_eq!(
            (answer.status, answer.json()),
            (200, json!({"code": 1, "status": "client not exists"})),
            "{path}"
        );
    }
}

#[test]
fn second_start_says_already_exists() {
    let controller = Controller::new();
    let first = controller.start_client("a");
    let mut expected = first.clone();
    expected["status"] = "client already exists".into();
    assert_eq!(controller.start_client_with("a", ""), expected);
    // The parameters are those of the client that runs, not those of the call that changed nothing.
    assert_eq!(controller.start_client_with("a", "log_level=debug"), expected);
}

#[test]
fn unknown_path_is_refused() {
    let controller = Controller::new();
    for path in [
        "/other",
        "/openqq",
        "/openqq/",
        "/openqqq/start_client",
        "/favicon.ico",
        "/openwx/start_client?client=a",
    ] {
        let answer = controller.get(path);
        assert_eq!(
            (answer.status, answer.json()),
            (403, json!({"code": -1, "status": "api not found"})),
            "{path}"
        );
    }
}

#[test]
fn head_is_get_without_body() {
    let controller = Controller::new();
    for path in ["/openqq/start_client?client=a", "/openqq/check_client", "/openqq/stop_client?client=a"] {
        let answer = controller.send(ureq::http::Request::head(controller.url(path)).body(()).unwrap());
        assert_eq!((answer.status, answer.body.len()), (200, 0), "{path}");
        assert!(answer.header("content-length").unwrap().parse::<u64>().unwrap() > 0, "{path}");
    }
    assert_eq!(controller.clients().len(), 0, "they did what GET does");
}

#[test]
fn max_clients_admits_exactly_as_many() {
    let controller = Builder::new().config("max_clients = 2").start();
    controller.start_client("a");
    let second = controller.start_client("b");
    let refused = json!({"client": "c", "code": 5, "status": "max clients exceed"});
    assert_eq!(controller.start_client_with("c", ""), refused);
    assert_eq!(without(controller.start_client_with("b", ""), &["status"]), without(second, &["status"]));
    controller.stop_client("a");
    controller.start_client("c");
}

#[test]
fn start_without_free_port_is_refused() {
    // The highest port is the only one, and another program has it.
    let _other_program = std::net::TcpListener::bind(("127.0.0.1", u16::MAX)).unwrap();
    let controller = Builder::new().first_port_is(u16::MAX).start();
    let refused = json!({"client": "b", "code": 2, "status": "no available port"});
    assert_eq!(controller.start_client_with("b", ""), refused);
}

#[test]
fn failed_launch_says_why() {
    let controller = Builder::new().template("#!/no/such/interpreter\n").start();
    let failed = controller.start_client_with("a", "log_level=debug");
    assert_eq!(
        without(failed.clone(), &["reason"]),
        json!({"client": "a", "code": 3, "status": "failure", "log_level": "debug"})
    );
    let reason = failed["reason"].as_str().unwrap();
    assert!(reason.contains("template") && reason.contains("No such file"), "{reason}");
    controller.log.wait_for("could not be started");
    assert_eq!(controller.clients(), [] as [Value; 0]);
    assert_eq!(controller.start_client_with("a", "")["code"], 3, "it can be tried again");
}

#[test]
fn client_names_of_all_kinds_are_accepted() {
    let controller = Controller::new();
    let names = ["小明", "a b", "a.b", "50%", "a-b", "+", "&=", "?#", "\"quoted\"", "...", "wqclient@x"];
    for name in names {
        let encoded: String = url::form_urlencoded::byte_serialize(name.as_bytes()).collect();
        let started = controller.start_client_with(&encoded, "fake_state=running");
        assert_eq!((&started["client"], &started["code"]), (&name.into(), &0.into()), "{name}");
        controller.wait_for_listening(&encoded);
        controller.wait_for_state(name, "running");
        let one = controller.get(&format!("/openqq/check_client?client={encoded}")).json();
        assert_eq!(one["client"][0]["account"], name);
        assert_eq!(one["client"].as_array().unwrap().len(), 1);
    }
    let mut listed: Vec<String> =
        controller.clients().iter().map(|client| client["account"].as_str().unwrap().to_owned()).collect();
    listed.sort();
    let mut expected = names.map(str::to_owned);
    expected.sort();
    assert_eq!(listed, expected);
    for name in names {
        let encoded: String = url::form_urlencoded::byte_serialize(name.as_bytes()).collect();
        assert_eq!(controller.stop_client(&encoded)["code"], 0, "{name}");
    }
    assert_eq!(controller.start_client_with("%E5%B0%8F%E6%98%8E", "")["client"], "小明");
}

#[test]
fn invalid_names_and_parameters_are_refused() {
    let controller = Controller::new();
    let long = "x".repeat(49);
    for (query, why) in [
        ("client=a%2Fb", "slash"),
        ("client=..", ". or .."),
        ("client=a%0Ab", "control character"),
        ("client=a%00", "control character"),
        (&format!("client={long}"), "longer than 48 bytes"),
        ("client=%ff", "not UTF-8"),
        ("client=a&client=a", "given twice"),
        ("client=a&x=1&x=2", "\"x\" is given twice"),
        ("client=a&x=%ff", "\"x\" is not UTF-8"),
        ("client=a&1x=1", "\"1x\""),
        ("client=a&x=a%0Ab", "without line breaks"),
        ("client=a&state_path=/etc/passwd", "/etc/passwd: outside of"),
        ("client=a&log_path=../x", "absolute path"),
        ("client=a&post_api=x", "http or https URL"),
    ] {
        let answer = controller.get(&format!("/openqq/start_client?{query}"));
        let reply = answer.json();
        assert_eq!((answer.status, &reply["code"]), (200, &json!(6)), "{query}: {reply}");
        assert!(reply["status"].as_str().unwrap().contains(why), "{query}: {reply}");
    }
    for path in ["stop_client", "check_client", "get_qrcode", "get_user_info"] {
        for query in ["client=..", "client=a&client=b"] {
            assert_eq!(
                controller.get(&format!("/openqq/{path}?{query}")).json()["code"],
                6,
                "{path}?{query}"
            );
        }
    }
    let many: String = (0..65).map(|n| format!("&p{n}=1")).collect();
    assert_eq!(controller.get(&format!("/openqq/start_client?client=a{many}")).json()["code"], 6);
    assert_eq!(controller.clients(), [] as [Value; 0], "nothing was started");
}

#[test]
fn file_parameters_stay_in_allowed_folders() {
    let allowed = tempfile::tempdir().unwrap();
    let config = format!("[client]\nallowed_dirs = [{:?}]", allowed.path().to_str().unwrap());
    let controller = Builder::new().config(&config).start();
    std::os::unix::fs::symlink("/etc", allowed.path().join("out")).unwrap();
    let (good, bad) = (allowed.path().join("sub/state.json"), allowed.path().join("out/state.json"));
    let refused = controller.start_client_with("a", &format!("state_path={}", bad.display()));
    assert_eq!(refused["code"], 6);
    let started =
        controller.start_client_with("a", &format!("fake_state=running&state_path={}", good.display()));
    assert_eq!(started["code"], 0, "{started}");
    controller.wait_for_state("a", "running");
    assert!(good.exists());
}

#[test]
fn check_client_is_consistent_with_garbled_state_files() {
    let controller = Controller::new();
    let port = |n: u16| controller.first_port + n;
    let silent = controller.start_client("silent");
    controller.start_client_with("broken", &format!("fake_state_text={}", "%7B%22state%22%3A%22runn"));
    controller.start_client_with("liar", "fake_state=running");
    controller.wait_for_state("liar", "running");
    let clients = controller.clients();
    let names: Vec<&str> = clients.iter().map(|client| client["account"].as_str().unwrap()).collect();
    assert_eq!(names, ["broken", "liar", "silent"]);
    let known = json!({"account": "silent", "state": "init", "pid": silent["pid"], "port": port(0), "phase": "up",
                       "exits": 0, "last_exit": null, "held": false, "frozen": false, "next_start": null,
                       "unit": null});
    let ours = ["pid", "phase", "exits", "last_exit", "held", "frozen", "next_start", "unit"];
    assert_eq!(clients[2], known);
    assert_eq!(
        without(clients[0].clone(), &ours),
        json!({"account": "broken", "state": "init", "port": port(1)})
    );
    assert_eq!(
        without(clients[1].clone(), &ours),
        json!({"account": "liar", "state": "running", "port": port(2), "log_path": null})
    );
    assert!(clients[1]["pid"].as_u64().unwrap() > 1);
    // A state changes, then its file breaks: the last good report stays.
    controller.wait_for_listening("liar");
    controller.get("/openqq/state?client=liar&to=scaning");
    controller.wait_for_state("liar", "scaning");
    std::fs::write(controller.path("mojo_webqq_state_liar.json"), "{").unwrap();
    controller.wait_for_listening("liar");
    assert_eq!(controller.state("liar").unwrap(), "scaning");
}

#[test]
fn state_of_earlier_process_is_ignored() {
    let controller = Controller::new();
    let path = controller.path("mojo_webqq_state_a.json");
    std::fs::write(&path, r#"{"state":"running"}"#).unwrap();
    controller.start_client("a");
    controller.wait_for_listening("a");
    assert_eq!(controller.state("a").unwrap(), "init");
}

#[test]
fn stop_answers_at_once_or_after_exit() {
    let controller = Controller::new();
    let slow = controller.start_client_with("slow", "fake_ignore_term=1");
    controller.wait_for_listening("slow");
    let answer = controller.get("/openqq/stop_client?client=slow&async=1").json();
    assert_eq!((&answer["code"], &answer["pid"]), (&json!(0), &slow["pid"]));
    assert!(is_alive(slow["pid"].as_u64().unwrap() as u32), "it refuses SIGTERM");
    assert_eq!(controller.clients().len(), 1, "it is there until it is gone");
}

#[test]
fn concurrent_starts_get_distinct_ports() {
    let builder = Builder::new();
    let taken = builder.first_port() + 5;
    let _other_program = std::net::TcpListener::bind(("127.0.0.1", taken)).unwrap();
    let controller = builder.start();
    let replies: Vec<Value> = std::thread::scope(|scope| {
        let start = |n: u16| {
            let controller = &controller;
            // None of them listens while the others are started.
            scope.spawn(move || controller.start_client_with(&format!("c{n}"), "fake_listen_delay=3600000"))
        };
        let threads: Vec<_> = (0..20).map(start).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let mut ports: Vec<u64> = replies.iter().map(|reply| reply["port"].as_u64().unwrap()).collect();
    ports.sort_unstable();
    let expected: Vec<u64> = (0..21)
        .map(|n| u64::from(controller.first_port + n))
        .filter(|port| *port != u64::from(taken))
        .collect();
    assert_eq!(ports, expected, "{replies:?}");
    let starting = controller.get("/openqq/ping?client=c1");
    assert_eq!(starting.status, 503);
    assert_eq!(starting.header("retry-after"), Some("1"));
    assert_eq!(starting.json(), json!({"client": "c1", "code": 503, "status": "client is starting"}));
}

#[test]
fn port_is_reused_after_client_is_gone() {
    let controller = Controller::new();
    controller.start_client("a");
    let second = controller.start_client("b");
    controller.stop_client("a");
    assert_eq!(controller.start_client("c")["port"], controller.first_port);
    controller.wait_for_listening("b");
    // A POST goes to the client itself, which ends.
    controller
        .send(ureq::http::Request::post(controller.url("/openqq/stop_client?client=b")).body(()).unwrap());
    wait_until("b is gone", || controller.state("b").is_none());
    assert_eq!(controller.start_client("b")["port"], second["port"]);
}

#[test]
fn qr_image_is_served_with_etag() {
    let controller = Controller::new();
    controller.start_client("a");
    let get = || controller.get("/openqq/get_qrcode?client=a");
    let none = get();
    assert_eq!((none.status, none.body.len()), (404, 0));
    let path = controller.path("mojo_webqq_qrcode_a.jpg");
    let png = [&b"\x89PNG\r\n\x1a\n"[..], &[7; 1000]].concat();
    std::fs::write(&path, &png).unwrap();
    let image = get();
    assert_eq!((image.status, &image.body), (200, &png));
    assert_eq!(image.header("content-type"), Some("image/png"));
    assert_eq!(image.header("cache-control"), Some("no-cache"));
    assert_eq!(image.header("content-length"), Some("1008"));
    let tag = image.header("etag").unwrap().to_owned();
    let again = ureq::http::Request::get(controller.url("/openqq/get_qrcode?client=a"));
    let again = controller.send(again.header("if-none-match", &tag).body(()).unwrap());
    assert_eq!((again.status, again.body.len(), again.header("etag")), (304, 0, Some(&*tag)));

    let jpeg = b"\xff\xd8\xff\xe0 and so on...";
    std::fs::write(&path, jpeg).unwrap();
    let image = get();
    assert_eq!((image.header("content-type"), &image.body[..]), (Some("image/jpeg"), &jpeg[..]));
    assert_ne!(image.header("etag"), Some(&*tag));
    let head = controller
        .send(ureq::http::Request::head(controller.url("/openqq/get_qrcode?client=a")).body(()).unwrap());
    assert_eq!((head.status, head.header("content-length"), head.body.len()), (200, Some("17"), 0));
}

#[test]
fn invalid_qr_image_is_not_served() {
    let controller = Controller::new();
    controller.start_client("a");
    let path = controller.path("mojo_webqq_qrcode_a.jpg");
    let get = || controller.get("/openqq/get_qrcode?client=a").status;
    std::fs::write(&path, "<html>").unwrap();
    assert_eq!(get(), 404);
    std::fs::write(&path, [&b"\x89PNG\r\n\x1a\n"[..], &vec![0; 1024 * 1024]].concat()).unwrap();
    assert_eq!(get(), 404);
    std::fs::remove_file(&path).unwrap();
    let secret = controller.path("secret.png");
    std::fs::write(&secret, b"\x89PNG\r\n\x1a\nsecret").unwrap();
    std::os::unix::fs::symlink(&secret, &path).unwrap();
    assert_eq!(get(), 404);
    std::fs::remove_file(&path).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, &path, rustix::fs::Mode::from_raw_mode(0o600)).unwrap();
    assert_eq!(get(), 404, "and it does not wait for a writer");
    controller.log.wait_for("QR image");
}

#[test]
fn qr_image_of_earlier_process_is_not_served() {
    let controller = Controller::new();
    std::fs::write(controller.path("mojo_webqq_qrcode_a.jpg"), b"\x89PNG\r\n\x1a\nstale").unwrap();
    controller.start_client("a");
    assert_eq!(controller.get("/openqq/get_qrcode?client=a").status, 404);
}
