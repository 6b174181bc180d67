//! Where new accounts start, and names that are given twice.

use super::stub::{Stub, answer, json_answer, path};
use super::*;

/// A door with these machines, each by its name, which it has reached.
fn door_to(machines: &[(&str, &Controller)], more: &str) -> Controller {
    let tables =
        machines.iter().map(|(name, machine)| format!("[machines.{name}]\nurl = '{}'\n", machine.url("")));
    let door = Builder::new().config(&(more.to_owned() + "\n" + &tables.collect::<String>())).built_in();
    for (name, _) in machines {
        door.log.wait_for(&format!("{name}: its controller is reached"));
    }
    door
}

fn machine(more: &str) -> Controller {
    Builder::new().config(&format!("listen = '127.0.0.1:{}'\n{more}", free_port())).built_in()
}

/// What plays a machine with so much memory and so many accounts. It may not be controlled, if that is so.
fn roomy(free: u64, accounts: usize, refuses: bool) -> Stub {
    let accounts: Vec<_> = (0..accounts).map(|number| json!({ "name": format!("a{number}") })).collect();
    Stub::new(move |line, stream| match path(line) {
        "/v1/machine" => {
            json_answer(stream, &json!({ "free_memory": free, "takes_accounts": !refuses }).to_string());
        }
        "/v1/events" => super::stub::events(stream, ""),
        path if path.starts_with("/v1/clients?") => {
            json_answer(stream, &json!({ "accounts": accounts, "next": null }).to_string());
        }
        _ if refuses => answer(stream, "403 Forbidden", "X-Wqcontroller-Refused: read-only\r\n", "{}"),
        _ => json_answer(stream, r#"{"code":0,"status":"success"}"#),
    })
}

const GIB: u64 = 1 << 30;

#[test]
fn new_accounts_are_spread_by_the_memory_that_is_free() {
    // More than any machine of a test has, so that the door itself is the last one.
    let (small, large, away) =
        (roomy(4096 * GIB, 0, false), roomy(16_384 * GIB, 2, false), roomy(65_536 * GIB, 0, true));
    let machines = [("small", &small), ("large", &large), ("refuses", &away)];
    let tables = machines.map(|(name, stub)| format!("[machines.{name}]\nurl = '{}'\n", stub.url));
    let door = Builder::new().config(&("placement = 'spread'\n".to_owned() + &tables.concat())).built_in();
    for (name, _) in machines {
        door.log.wait_for(&format!("{name}: its controller is reached"));
    }
    let place = |name: &str| {
        assert_eq!(door.start_client_with(name, "")["code"], 0);
        door.get(&format!("/v1/clients/{name}")).json()["machine"].clone()
    };
    // 16384 / 3, then / 4, which is as good as 4096 / 1, and the first by name of two; then 4096.
    let places: Vec<_> = ["b1", "b2", "b3", "b4"].map(place).into();
    assert_eq!(places, ["large", "large", "small", "large"]);
    assert_eq!(away.count("/openqq/"), 0, "it may not be controlled");
    // By PUT as well, and the machine that is named wins.
    let put = ureq::http::Request::put(door.url("/v1/clients/b5?machine=small")).body(()).unwrap();
    door.send(put);
    assert_eq!(small.heard.lock().unwrap().iter().filter(|heard| heard.line.starts_with("PUT ")).count(), 1);
}

#[test]
fn start_that_a_machine_refuses_leaves_the_name_free() {
    let (tokyo, osaka) = (machine("max_clients = 1"), machine(""));
    let door = door_to(&[("tokyo", &tokyo), ("osaka", &osaka)], "");
    let start = |name: &str, machine: &str| {
        door.start_client_with(name, &format!("sandbox_login_time=0&machine={machine}"))
    };
    assert_eq!(start("one", "tokyo")["code"], 0);
    let full = start("two", "tokyo");
    assert_eq!(full["code"], 5, "{full}");
    assert_eq!(door.get("/v1/clients/two").status, 404);
    // So that nothing is placed there.
    let takes = |machine: &Controller| machine.get("/v1/machine").json()["takes_accounts"].clone();
    assert_eq!((takes(&tokyo), takes(&osaka)), (json!(false), json!(true)));
    assert_eq!(start("two", "osaka")["code"], 0);
    assert_eq!(door.get("/v1/clients/two").json()["machine"], "osaka");
    let wrong = door.start_client_with("three", "machine=tokyo&backend=none");
    assert_ne!(wrong["code"], 0, "{wrong}");
    assert_eq!(start("three", "osaka")["code"], 0);
}

#[test]
fn name_that_would_be_one_of_a_machine_is_refused() {
    let tokyo = machine("");
    let door = door_to(&[("tokyo", &tokyo)], "");
    for name in ["far@tokyo", "far@local"] {
        let refused = door.start_client_with(name, "");
        assert_eq!(refused["code"], 6, "{refused}");
        let place = name.split('@').nth(1).unwrap();
        assert!(
            refused["status"].as_str().unwrap().contains(&format!("call it far, with machine={place}")),
            "{refused}"
        );
        let put = ureq::http::Request::put(door.url(&format!("/v1/clients/{name}"))).body(()).unwrap();
        assert_eq!(door.send(put).json()["code"], "name_taken");
    }
    // Of no machine that is known.
    assert_eq!(door.start_client_with("far@home", "sandbox_login_time=0")["code"], 0);
}

#[test]
fn one_of_two_callers_who_start_a_name_at_once_has_it() {
    let (tokyo, osaka) = (machine(""), machine(""));
    let door = door_to(&[("tokyo", &tokyo), ("osaka", &osaka)], "");
    for round in 0..5 {
        let name = format!("bot{round}");
        let start = |machine: &str| {
            let path = match machine {
                "local" => format!("/openqq/start_client?client={name}&sandbox_login_time=0&machine=local"),
                _ => format!("/openqq/start_client?client={name}&sandbox_login_time=0&machine={machine}"),
            };
            door.get(&path).json()
        };
        let answers = std::thread::scope(|scope| {
            let all =
                ["tokyo", "osaka", "local"].map(|machine| scope.spawn(move || (machine, start(machine))));
            all.map(|one| one.join().unwrap())
        });
        let won: Vec<_> = answers.iter().filter(|(_, answer)| answer["code"] == 0).collect();
        assert_eq!(won.len(), 1, "{answers:?}");
        for (_, lost) in answers.iter().filter(|(_, answer)| answer["code"] != 0) {
            assert_eq!(lost["code"], 6, "{lost}");
            let why = lost["status"].as_str().unwrap();
            assert!(why.contains(&format!("on the machine {}", won[0].0)), "{why} {won:?}");
        }
        let known = door.get(&format!("/v1/clients/{name}")).json();
        let place = known.get("machine").and_then(Value::as_str).unwrap_or("local");
        assert_eq!(place, won[0].0, "{known}");
    }
    assert_eq!(door.get("/v1/clients").json()["total"], 5);
}

#[test]
fn name_that_was_given_twice_is_one_again_when_one_is_forgotten() {
    let (tokyo, osaka) = (machine(""), machine(""));
    let door = door_to(&[("tokyo", &tokyo), ("osaka", &osaka)], "");
    // By the operators there, at the same moment.
    std::thread::scope(|scope| {
        for machine in [&tokyo, &osaka] {
            scope.spawn(move || {
                assert_eq!(machine.start_client_with("bot", "sandbox_login_time=0")["code"], 0)
            });
        }
    });
    let names = || {
        let listed = door.get("/v1/clients").json();
        let names = listed["accounts"].as_array().unwrap().iter();
        names.map(|one| one["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    wait_until("both are listed", || names() == ["bot@osaka", "bot@tokyo"]);
    let checked = door.get("/openqq/check_client").json();
    let checked: Vec<_> =
        checked["client"].as_array().unwrap().iter().map(|one| one["account"].clone()).collect();
    assert_eq!(checked, ["bot@osaka", "bot@tokyo"]);
    let refused = door.get("/openqq/get_user_info?client=bot");
    assert_eq!(refused.status, 409);
    assert!(refused.text().contains("bot@osaka, bot@tokyo"), "{refused:?}");
    assert_eq!(door.start_client_with("bot", "")["code"], 409);
    assert_eq!(door.start_client_with("bot", "machine=osaka")["code"], 409);
    let ambiguous =
        ["", "/explain", "/log", "/qrcode"].map(|rest| door.get(&format!("/v1/clients/bot{rest}")).status);
    assert_eq!(ambiguous, [409; 4]);
    assert_eq!(door.stop_client("bot@osaka")["code"], 0);
    wait_until("it is one again", || names() == ["bot"]);
    assert_eq!(door.get("/v1/clients/bot").json()["machine"], "tokyo");
    wait_until("it answers", || door.get("/openqq/get_user_info?client=bot").status == 200);
    assert_eq!(osaka.get("/v1/clients").json()["total"], 0);
}

#[test]
fn unknown_name_is_not_started_while_a_machine_is_away() {
    let (mut tokyo, osaka) = (machine(""), machine(""));
    let door = door_to(&[("tokyo", &tokyo), ("osaka", &osaka)], "placement = 'spread'");
    assert_eq!(door.start_client_with("there", "sandbox_login_time=0&machine=osaka")["code"], 0);
    tokyo.kill();
    door.log.wait_for("tokyo: its controller can't be reached");
    for more in ["", "machine=osaka", "machine=local"] {
        let refused = door.start_client_with("new", more);
        assert_eq!(refused["code"], 6, "{more} {refused}");
        assert!(
            refused["status"].as_str().unwrap().contains("the machine tokyo can't be reached"),
            "{refused}"
        );
    }
    let refused = door.start_client_with("new", "machine=tokyo");
    assert_eq!((&refused["code"], &refused["machine"]), (&json!(503), &json!("tokyo")));
    let put = ureq::http::Request::put(door.url("/v1/clients/new")).body(()).unwrap();
    assert_eq!(door.send(put).json()["code"], "name_taken");
    // One that is known is started and stopped as ever.
    assert_eq!(door.get("/openqq/start_client?client=there").json()["status"], "client already exists");
    assert_eq!(door.stop_client("there")["code"], 0);
    tokyo.start_again();
    wait_until("it is back", || {
        door.start_client_with("new", "sandbox_login_time=0&machine=osaka")["code"] == 0
    });
}
