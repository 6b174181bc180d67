//! The bot of the README: two clients that hold a conversation through the controller.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use crate::fixture::Builder;

#[test]
fn two_clients_count_together() {
    let bot = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/bot.py");
    let mut bot = Command::new(bot).args(["0", "5"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(bot.stdout.take().unwrap()).lines().map(Result::unwrap);
    let first = lines.next().unwrap();
    let port = first.strip_prefix("listening on ").unwrap();
    let controller = Builder::new().built_in();
    // 小红 and 李雷, who are friends in the world that is built in.
    let (hong, lei) = ("%E5%B0%8F%E7%BA%A2", "%E6%9D%8E%E9%9B%B7");
    for name in [hong, lei] {
        let more = format!("post_api=http://127.0.0.1:{port}/&send_interval=0&sandbox_login_time=0");
        assert_eq!(controller.start_client_with(name, &more)["code"], 0);
    }
    controller.wait_for_state("小红", "running");
    controller.wait_for_state("李雷", "running");
    crate::fixture::wait_until("they see each other", || {
        let found = controller.get(&format!("/openqq/search_friend?client={hong}&uid=10002")).json();
        found[0]["state"] == "online"
    });
    let sent =
        controller.get(&format!("/openqq/send_friend_message?client={hong}&uid=10002&content=1")).json();
    assert_eq!(sent["code"], 0, "{sent}");
    let said: Vec<String> = lines.take(5).collect();
    let expected = ["李雷: 红红: 1", "小红: 李雷: 2", "李雷: 红红: 3", "小红: 李雷: 4", "李雷: 红红: 5"];
    bot.kill().unwrap();
    bot.wait().unwrap();
    assert_eq!(said, expected);
}

#[test]
fn a_world_of_ones_own_is_named_by_a_start_parameter() {
    let controller = Builder::new().built_in();
    // Beside the clients' other files, where paths that callers name must be.
    let world = controller.path("world.toml");
    let people = "[[people]]\nuid = \"1\"\nname = \"a\"\n[[people]]\nuid = \"2\"\nname = \"b\"\n";
    std::fs::write(&world, people).unwrap();
    let (world, apart) = (world.display().to_string(), controller.path("apart").display().to_string());
    for (name, more) in [
        ("a", format!("sandbox_world={world}")),
        ("b", format!("sandbox_world={world}")),
        // In the same world, but somewhere else.
        ("c", format!("sandbox_world={world}&sandbox_network={apart}")),
    ] {
        let more = format!("{more}&sandbox_login_time=0&send_interval=0");
        assert_eq!(controller.start_client_with(name, &more)["code"], 0);
    }
    for name in ["a", "b", "c"] {
        controller.wait_for_state(name, "running");
    }
    let friends = |name: &str| {
        let all = controller.get(&format!("/openqq/get_friend_info?client={name}")).json();
        let mut all: Vec<String> = all
            .as_array()
            .unwrap()
            .iter()
            .map(|friend| {
                format!("{} {}", friend["name"].as_str().unwrap(), friend["state"].as_str().unwrap())
            })
            .collect();
        all.sort();
        all
    };
    crate::fixture::wait_until("a and b see each other", || {
        friends("a").contains(&"b online".to_owned()) && friends("b").contains(&"a online".to_owned())
    });
    assert_eq!(friends("a").len(), 1, "c is elsewhere: {:?}", friends("a"));
    assert_eq!(friends("c").len(), 2);
    let elsewhere = controller.start_client_with("d", "sandbox_world=/etc/hostname");
    assert_eq!(elsewhere["code"], 6, "{elsewhere}");
}
