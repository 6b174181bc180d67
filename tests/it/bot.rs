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
