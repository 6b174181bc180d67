//! An account of today's network behind the service: README's commands, word for word.

#[path = "../it/onebot/implementation.rs"]
#[allow(dead_code, reason = "the tests of the bridge itself, in tests/it, use the rest")]
mod implementation;
#[path = "../it/onebot/server.rs"]
#[allow(dead_code, reason = "the tests of the bridge itself, in tests/it, use the rest")]
mod server;

use std::net::TcpListener;
use std::path::Path;

use crate::machine::{Machine, TESTS, assert_inside, wait_until};
use implementation::Manner;
use server::{Refusal, Server};

/// For the server, which waits as the tests do that it was made for.
fn until<T>(name: &str, mut what: impl FnMut() -> Option<T>) -> T {
    let mut found = None;
    wait_until(name, || {
        found = what();
        found.is_some()
    });
    found.unwrap()
}

/// The commands of README's part about an account of today's QQ, for root.
fn commands(readme: &str) -> Vec<String> {
    let readme = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(readme)).unwrap();
    let blocks = readme.split("```sh\n").skip(1).map(|block| block.split("```").next().unwrap());
    let block = blocks.into_iter().find(|block| block.contains("backend=onebot")).unwrap();
    let commands = block.trim_end().replace("|\n", "| ").replace("sudo ", "");
    commands.lines().map(str::to_owned).collect()
}

#[test]
fn readmes_three_commands_put_an_account_behind_the_old_api() {
    let Some(machine) = Machine::boot() else { return };
    machine.start_service();
    for readme in ["README.md", "README.zh-CN.md"] {
        let mut implementation = machine
            .command(TESTS)
            .args(["--exact", "onebot::inside_implementation", "--ignored", "--nocapture"])
            .spawn()
            .unwrap();
        // 127.0.0.1:3001 as the kernel writes it: not every system has ss.
        wait_until("it listens", || {
            machine.shell("cat /proc/net/tcp").contains(" 0100007F:0BB9 00000000:0000 0A ")
        });
        let commands = commands(readme);
        assert_eq!(commands.len(), 3, "{commands:?}");
        let mut answer = String::new();
        for command in commands {
            answer = machine.shell(&command);
        }
        assert!(answer.contains("\"status\":\"success\""), "{answer}");
        wait_until("it is running", || {
            machine.call("check_client", &["client=mybot"])["client"][0]["state"] == "running"
        });
        let friends = machine.call("get_friend_info", &["client=mybot"]);
        assert_eq!(friends[0]["name"], "小红", "{friends}");
        let sent = machine.call("send_friend_message", &["client=mybot", "uid=7", "content=hello"]);
        assert_eq!(sent["code"], 0, "{sent}");
        machine.shell("touch /run/answered");
        assert!(implementation.wait().unwrap().success());
        assert_eq!(machine.call("stop_client", &["client=mybot"])["status"], "success");
        machine.shell("rm /run/answered /etc/wqcontroller/mybot.token /etc/wqcontroller/wqcontroller.toml.d/onebot.toml");
    }
}

#[test]
#[ignore = "runs inside of a machine"]
fn inside_implementation() {
    assert_inside();
    let server = Server::away(Manner::Strict, 3001);
    server.want_token("TOKEN", Refusal::Http(401));
    server.listen(TcpListener::bind(("127.0.0.1", 3001)).unwrap());
    let said = until("a message", || server.calls("send_private_msg").pop());
    assert_eq!(said["message"][0]["data"]["text"], "hello", "{said}");
    until("it was answered", || std::path::Path::new("/run/answered").exists().then_some(()));
    server.hang_up();
}
