//! An account of today's network behind the service: README's commands, word for word.

#[path = "../it/remote/implementation.rs"]
#[allow(dead_code, reason = "the tests of the bridge itself, in tests/it, use the rest")]
mod implementation;
#[path = "../it/remote/milky.rs"]
mod milky;
#[path = "../it/remote/schemas.rs"]
#[allow(dead_code, reason = "the tests of the bridge itself, in tests/it, use the rest")]
mod schemas;
#[path = "../it/remote/server.rs"]
#[allow(dead_code, reason = "the tests of the bridge itself, in tests/it, use the rest")]
mod server;

use std::net::TcpListener;
use std::path::Path;
use std::time::Duration;

use crate::machine::{Machine, TESTS, assert_inside, wait_until};
use crate::service::UNIT;
use crate::units::is_running;
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
fn readme_commands_connect_onebot_account() {
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

/// A controller with an account `bot`, whose implementation takes other tokens in the course of a test.
struct Renewal {
    machine: Machine,
    implementation: std::process::Child,
    unit: &'static str,
    /// The user who the controller runs as.
    user: &'static str,
    configuration: &'static str,
    pid: serde_json::Value,
}

impl Renewal {
    fn begin(unit: &'static str, user: &'static str, configuration: &'static str) -> Option<Self> {
        let machine = Machine::boot()?;
        machine.shell("echo TOKEN-1 >/run/wanted");
        let implementation = machine
            .command(TESTS)
            .args(["--exact", "onebot::inside_changing_implementation", "--ignored", "--nocapture"])
            .spawn()
            .unwrap();
        if user == "root" {
            machine.drop_in("[Service]\nUser=root\nGroup=wqclients\n");
        }
        let mut this = Self { machine, implementation, unit, user, configuration, pid: 0.into() };
        this.token_file("first.token", "TOKEN-1");
        this.configure("first.token");
        this.machine.start_service();
        let url = "onebot_url=ws://127.0.0.1:3001/";
        this.pid = this.machine.start_client("bot", &["backend=onebot", url])["pid"].clone();
        this.is_running("with its first token");
        Some(this)
    }

    fn token_file(&self, name: &str, token: &str) {
        let user = self.user;
        self.machine.shell(&format!(
            "echo {token} | install -D -m 600 -o {user} /dev/stdin /etc/wqcontroller/{name}"
        ));
    }

    fn configure(&self, token_file: &str) {
        let account = format!("[onebot.clients.\"bot\"]\ntoken_file = \"/etc/wqcontroller/{token_file}\"\n");
        self.machine.configure(&format!("{}{account}", self.configuration));
    }

    /// How often the client was let in.
    fn logins(&self) -> u32 {
        self.machine.shell("cat /run/logins").parse().unwrap_or(0)
    }

    /// From now on the implementation takes this token only.
    fn want(&self, token: &str) {
        self.machine.shell(&format!("echo {token} >/run/wanted"));
        self.machine.wait_for_client("bot", "its token is refused", |client| client["state"] == "loading");
    }

    fn is_running(&self, when: &str) {
        self.machine.wait_for_client("bot", when, is_running);
    }

    /// It runs with its new token, and was not started again for it.
    fn has_renewed(&self, when: &str) {
        self.is_running(when);
        let client = self.machine.client("bot");
        assert_eq!((&client["pid"], &client["exits"]), (&self.pid, &0.into()), "{when}: {client}");
        assert_eq!(self.machine.main_pid(self.unit), self.pid, "{when}");
        // An API call leads to a login with the new token, too.
        let logins = self.logins();
        assert_eq!(self.machine.call("relogin", &["client=bot"])["code"], 0, "{when}");
        wait_until(format!("it has logged in anew {when}"), || self.logins() > logins);
        self.is_running("after a relogin");
    }

    fn log(&self) -> String {
        self.machine.journal(&["--unit", UNIT])
    }

    fn end(mut self) {
        self.machine.shell("touch /run/over");
        assert!(self.implementation.wait().unwrap().success());
        let said = self.machine.journal(&[]);
        assert!(!said.contains("TOKEN-"), "{said}");
        assert_eq!(self.machine.call("stop_client", &["client=bot"])["status"], "success");
    }
}

/// What is true of units of every kind.
fn token_of_running_unit_is_renewed(renewal: &Renewal) {
    const TAKEN: &str = "bot: its token file changed; its unit has the new token";
    let machine = &renewal.machine;
    // The file changes.
    renewal.want("TOKEN-2");
    machine.shell("echo TOKEN-2 >/etc/wqcontroller/first.token");
    renewal.has_renewed("when its file had changed");
    assert_eq!(renewal.log().matches(TAKEN).count(), 1);
    // The configuration names another.
    renewal.want("TOKEN-3");
    renewal.token_file("other.token", "TOKEN-3");
    renewal.configure("other.token");
    machine.systemctl(&["reload", UNIT]);
    renewal.has_renewed("when the configuration had changed");
    assert_eq!(renewal.log().matches(TAKEN).count(), 2);
    // One that can't be read changes nothing, and is said once.
    // One change: two would be said twice where the controller looks in between.
    machine.shell(&format!(
        "echo TOKEN-4 | install -m 644 -o {} /dev/stdin /etc/wqcontroller/next.token && \
         mv /etc/wqcontroller/next.token /etc/wqcontroller/other.token",
        renewal.user
    ));
    machine.wait_for_log("bot: can't read its new token: /etc/wqcontroller/other.token: not private");
    renewal.has_renewed("with an unreadable file");
    renewal.want("TOKEN-4");
    machine.shell("chmod 600 /etc/wqcontroller/other.token");
    renewal.has_renewed("when its file can be read");
    assert_eq!(renewal.log().matches("can't read its new token").count(), 1);
    // It changes while the controller is away, or is killed before it reloads the unit: the launch file is newer than the copy.
    machine.systemctl(&["stop", UNIT]);
    machine.shell("echo TOKEN-5 >/run/wanted; echo TOKEN-5 >/etc/wqcontroller/other.token");
    machine.shell("sed -i s/TOKEN-4/TOKEN-5/ /run/wqcontroller/launch/bot");
    machine.shell(&format!("chown {} /run/wqcontroller/launch/bot", renewal.user));
    machine.start_service();
    wait_until("it has the token", || machine.shell("cat /run/wqclient/bot/onebot_token") == "TOKEN-5");
    renewal.has_renewed("after a restart of the controller");
    // An operator's restart uses the new one.
    machine.systemctl(&["restart", renewal.unit]);
    let pid = machine.main_pid(renewal.unit);
    machine.wait_for_client("bot", "was restarted", |client| client["pid"] == pid && is_running(client));
    assert_eq!(machine.shell("cat /run/wqclient/bot/onebot_token"), "TOKEN-5");
}

#[test]
fn template_unit_that_runs_takes_new_token() {
    let Some(mut renewal) = Renewal::begin("wqclient@bot.service", "wqcontroller", "") else { return };
    token_of_running_unit_is_renewed(&renewal);
    // Of a unit file of one's own from before.
    let machine = &renewal.machine;
    machine.client_drop_in("[Service]\nExecReload=\n");
    renewal.want("TOKEN-6");
    machine.shell("echo TOKEN-6 >/etc/wqcontroller/other.token");
    machine.wait_for_log("for the new one: systemctl restart wqclient@bot.service");
    machine.systemctl(&["restart", renewal.unit]);
    renewal.pid = renewal.machine.main_pid(renewal.unit);
    renewal.has_renewed("after a restart of its unit");
    assert_eq!(renewal.log().matches("keeps the old token, as it was started without").count(), 1);
    renewal.end();
}

#[test]
fn transient_unit_that_runs_takes_new_token() {
    let configuration = "[supervisor]\nmode = \"systemd\"\n[systemd]\nunit = \"transient\"\n";
    let Some(renewal) = Renewal::begin("wqclient-bot.service", "root", configuration) else { return };
    token_of_running_unit_is_renewed(&renewal);
    renewal.end();
}

#[test]
#[ignore = "runs inside of a machine"]
fn inside_changing_implementation() {
    assert_inside();
    let read = || std::fs::read_to_string("/run/wanted").unwrap().trim().to_owned();
    let server = Server::away(Manner::Strict, 3001);
    let (mut wanted, mut logins) = (read(), usize::MAX);
    server.want_token(&wanted, Refusal::Http(401));
    server.listen(TcpListener::bind(("127.0.0.1", 3001)).unwrap());
    // However long the test takes; the machine ends with it.
    while !Path::new("/run/over").exists() {
        let now = read();
        if now != wanted && !now.is_empty() {
            wanted = now;
            server.want_token(&wanted, Refusal::Http(401));
            server.hang_up();
        }
        if logins != server.connected() {
            logins = server.connected();
            std::fs::write("/run/logins", logins.to_string()).unwrap();
        }
        std::thread::sleep(Duration::from_millis(20));
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
