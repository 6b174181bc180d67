//! wqcontroller-api(7) has every path, parameter, code, event and key, and its curl lines do what they say.

use std::collections::BTreeSet;
use std::process::{Command, Stdio};

use super::page::{Page, code, literals, macros};
use crate::fixture::{Builder, Controller, program};
use crate::readme::log_in;
use wqcontroller::wire::calls::{ApiCall, CLIENT_CALLS, CONTROLLER_CALLS, CallAccess, Methods, ROOT};

fn paths<H>(table: &[ApiCall<H>]) -> BTreeSet<String> {
    table.iter().map(|call| format!("{ROOT}{}", call.name)).collect()
}

fn items(section: &str) -> Vec<(String, String)> {
    let items = section.split(".It Pa ").skip(1).map(|item| item.split_once('\n').unwrap());
    items.map(|(path, text)| (path.to_owned(), text.to_owned())).collect()
}

fn listed(section: &str) -> BTreeSet<String> {
    items(section).into_iter().map(|(path, _)| path).collect()
}

#[test]
fn manual_lists_every_path() {
    let page = Page::read("wqcontroller-api.7");
    let (client, controller) = (paths(&CLIENT_CALLS), paths(&CONTROLLER_CALLS));
    assert_eq!(listed(page.section("A CLIENT'S CALLS")), client);
    assert_eq!(listed(page.section("THE CONTROLLER'S CALLS")), controller);
    for name in super::page::ALL {
        for path in Page::read(name).text.split("/openqq/").skip(1) {
            let path: String = path.chars().take_while(|c| c.is_ascii_lowercase() || *c == '_').collect();
            let path = format!("/openqq/{path}");
            assert!(
                path == "/openqq/" || client.contains(&path) || controller.contains(&path),
                "{name}: {path}"
            );
        }
    }
}

/// What the manual says of each call in a section, beside what the table says.
fn compare<H>(section: &str, table: &[ApiCall<H>]) {
    for (path, text) in items(section) {
        let call = table.iter().find(|call| format!("{ROOT}{}", call.name) == path).unwrap();
        let said = text.lines().find(|line| line.starts_with("GET")).unwrap();
        assert_eq!(said.starts_with("GET or POST"), call.methods == Methods::GetOrPost, "{path}");
        assert_eq!(said.contains(", read."), call.access == CallAccess::Read, "{path}");
    }
}

#[test]
fn manual_tells_methods_and_access_of_the_table() {
    let page = Page::read("wqcontroller-api.7");
    compare(page.section("A CLIENT'S CALLS"), &CLIENT_CALLS);
    compare(page.section("THE CONTROLLER'S CALLS"), &CONTROLLER_CALLS);
}

#[test]
fn manual_lists_every_parameter_and_property() {
    let page = Page::read("wqcontroller-api.7");
    let named: BTreeSet<String> = page.macros("Cm").into_iter().collect();
    let mut known = BTreeSet::new();
    for file in ["messages", "moderation", "process", "check_event", "people", "compose", "deeds"] {
        let code = code(&format!("src/client/openqq/{file}.rs"));
        for beginning in [".get(\"", ".remove(\"", "is_given(\"", "list(\"", "is_set(\"", "(\""] {
            known.extend(code.split(beginning).skip(1).filter_map(|rest| {
                let (name, rest) = rest.split_once('"')?;
                (beginning != "(\"" || rest.starts_with(", &") || rest.starts_with(", display"))
                    .then(|| name.to_owned())
            }));
        }
    }
    assert!(known.len() >= 12, "{known:?}");
    for name in &known {
        assert!(named.contains(name), "the parameter {name} is missing");
    }
    let items = page.section("A CLIENT'S CALLS").lines().filter(|line| line.starts_with(".It Cm "));
    for name in items.flat_map(|item| macros(item, "Cm")) {
        assert!(known.contains(&name), "there is no parameter {name}");
    }
    let told = page.plain();
    let keys = |file: &str, from: &str, to: &str| {
        let code = code(file);
        let part = code.split_once(from).unwrap().1.split_once(to).unwrap().0.to_owned();
        literals(&part).into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    let mut all = keys("src/wire/client_list.rs", "pub fn client_object", "object.insert");
    all.extend(keys("src/client/openqq/process.rs", "fn client_info", "fn will_stop"));
    all.extend(keys(
        "src/client/backend/message.rs",
        "fn to_json(&self) -> Value {\n        let (post_type",
        "\n    }\n",
    ));
    let objects = code("src/client/backend/objects.rs");
    all.extend(
        objects
            .lines()
            .filter_map(|line| line.trim().strip_prefix("pub ")?.split_once(": "))
            .map(|(name, _)| name.to_owned()),
    );
    // Not the names of Rust and cargo.
    all.retain(|key| key.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'));
    assert!(all.len() > 100, "{all:?}");
    for key in all {
        let is_told = told.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| word == key);
        assert!(is_told, "{key} is missing");
    }
}

/// The codes of a table of the page.
fn codes(page: &Page, heading: &str) -> BTreeSet<i32> {
    let part = page.text.split_once(&format!(".Ss {heading}\n")).unwrap().1.split("\n.El").next().unwrap();
    part.lines().filter_map(|line| line.strip_prefix(".It Li ")).map(|code| code.parse().unwrap()).collect()
}

#[test]
fn manual_lists_every_code() {
    let page = Page::read("wqcontroller-api.7");
    let ours = code("src/wire/reply.rs") + &code("src/wire/outcome.rs") + &code("src/wire/machines.rs");
    let mut known = BTreeSet::from([0]);
    for call in ours.split("Self::new(").skip(1) {
        let mut numbers = call.split(',').map(|word| word.trim().parse::<i32>());
        if let (Some(Ok(_)), Some(Ok(code))) = (numbers.next(), numbers.next()) {
            known.insert(code);
        }
    }
    for call in ours.split("Self::refused").skip(1) {
        known.extend(call.split(',').nth(1).and_then(|code| code.trim().parse::<i32>().ok()));
    }
    assert_eq!(codes(&page, "Codes of the controller"), known);

    let theirs = code("src/client/openqq/reply.rs");
    let mut known: BTreeSet<i32> = BTreeSet::new();
    let of_messages = code("src/client/outbox/error.rs");
    let lines = theirs.lines().chain(of_messages.lines());
    for line in lines.filter(|line| line.contains("const ") && line.contains(": i32 = ")) {
        known.insert(line.split(" = ").nth(1).unwrap().trim_end_matches(';').parse().unwrap());
    }
    for line in theirs.lines().filter(|line| line.contains("NotFound::") && line.contains("=> (")) {
        known.insert(line.split("=> (").nth(1).unwrap().split(',').next().unwrap().parse().unwrap());
    }
    assert_eq!(codes(&page, "Codes of a client"), known);

    let told = page.plain();
    for words in [
        "client already exists",
        "client not found",
        "client not exists",
        "no available port",
        "client pid not ok",
        "max clients exceed",
        "api not found",
    ] {
        assert!(ours.contains(words) && told.contains(words), "{words}");
    }
    let words = literals(&theirs);
    let words = words
        .iter()
        .filter(|text| text.ends_with("not found") || text.ends_with("empty") || text.ends_with("error"));
    for words in words.filter(|text| !text.contains('{')) {
        assert!(told.contains(*words), "{words}");
    }
}

#[test]
fn manual_lists_every_event() {
    let page = Page::read("wqcontroller-api.7");
    let events = page.text.split_once(".Ss Events\n").unwrap().1;
    let (posted, others) = events.split_once("Only if they are listed:").unwrap();
    let names = |part: &str| -> BTreeSet<String> {
        let items = part.lines().filter_map(|line| line.strip_prefix(".It Li "));
        items.flat_map(|item| item.split(" , ")).map(str::to_owned).collect()
    };
    let choice = code("src/client_settings/event_filter.rs");
    let table = choice.split_once("const EVENTS").unwrap().1.split_once("];").unwrap().0;
    let of = |wanted: &str| -> BTreeSet<String> {
        let lines = table.lines().filter(|line| line.trim_end().ends_with(wanted));
        lines.map(|line| line.split('"').nth(1).unwrap().to_owned()).collect()
    };
    assert_eq!((names(posted), names(others.split(".Sh ").next().unwrap())), (of("true),"), of("false),")));
}

/// The commands of the page, in its order: the lines of its displays that begin with a call.
fn commands(page: &Page) -> Vec<String> {
    let mut found = Vec::new();
    for display in page.text.split(".Bd -literal").skip(1) {
        let body = display.split_once('\n').unwrap().1.split("\n.Ed").next().unwrap();
        if body.contains("curl ") {
            found.push(body.replace("\\e", "\\"));
        }
    }
    found
}

/// Runs a command of the page; what it prints.
fn execute(controller: &Controller, command: &str) -> serde_json::Value {
    let command = command.replace("127.0.0.1:4000", &controller.address.to_string());
    let command = command.replace("curl ", "curl --silent --show-error --fail ");
    let mut shell = Command::new("sh");
    shell.args(["-euc", &command]).current_dir(controller.folder.path()).stderr(Stdio::inherit());
    let output = shell.output().unwrap();
    assert!(output.status.success(), "{command}");
    serde_json::from_slice(&output.stdout).unwrap_or_default()
}

#[test]
fn manual_curl_examples_work() {
    let all = commands(&Page::read("wqcontroller-api.7"));
    let called = |path: &str, line: &String| line.contains(&format!("/openqq/{path}"));
    for path in paths(&CLIENT_CALLS).iter().chain(&paths(&CONTROLLER_CALLS)) {
        assert!(all.iter().any(|line| line.contains(path.as_str())), "{path} has no curl line");
    }
    // Seconds between messages would only make the test slow, and a login that went on by itself would not wait for its
    // code to be fetched.
    let template = format!(
        "#!/bin/sh\nexport MOJO_WEBQQ_SEND_INTERVAL=0 MOJO_WEBQQ_SANDBOX_LOGIN=${{MOJO_WEBQQ_SANDBOX_LOGIN-scan}}\n\
         exec '{}' client\n",
        program()
    );
    let controller = Builder::new().template(&template).start();
    let own = |line: &&String| {
        called("start_client", line)
            || called("check_client", line)
            || called("get_qrcode", line)
            || (called("stop_client", line) && !line.contains("POST"))
    };
    let (own, theirs): (Vec<&String>, Vec<&String>) = all.iter().partition(own);
    assert_eq!(execute(&controller, own[0])["code"], 0);
    assert_eq!(execute(&controller, own[1])["client"][0]["account"], "alice");
    controller.wait_for_state("alice", "scaning");
    execute(&controller, own[2]);
    log_in(&controller);
    controller.wait_for_state("alice", "running");
    // The others are about the client. An implementation is started anew in tests/it/implementation, and a request is answered in
    // tests/it/client/old_api.rs, as somebody has to make it.
    let apart = ["relogin", "relogin_client", "stop_client", "approve_request"];
    for line in theirs.iter().filter(|line| !apart.iter().any(|path| called(path, line))) {
        let answer = execute(&controller, line);
        let is_good = answer.is_array() || answer["code"] == 0 || answer["uid"].is_string();
        assert!(is_good, "{line}: {answer}");
    }
    assert_eq!(execute(&controller, own[3])["code"], 0);
    for path in ["relogin", "stop_client"] {
        controller.start_client_with("alice", "sandbox_login=auto&sandbox_login_time=0");
        controller.wait_for_state("alice", "running");
        let line = theirs.iter().find(|line| called(path, line) && !called("relogin_client", line)).unwrap();
        assert_eq!(execute(&controller, line)["code"], 0);
        controller.stop_client("alice");
    }
}
