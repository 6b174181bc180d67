//! [`Bot`]: a bot in a framework that nobody here wrote. tests/bots has their few lines.

use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use super::ACCOUNT_NUMBER;
use crate::fixture::{free_port, wait_until};
use crate::output::Log;

/// A framework.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framework {
    NoneBot,
    Aiocqhttp,
    Koishi,
    Napcat,
}

use Framework::{Aiocqhttp, Koishi, Napcat, NoneBot};

/// How a bot and its account find each other.
#[derive(Debug)]
pub(super) enum Way<'a> {
    /// The bot opens a WebSocket at this URL.
    Forward { url: &'a str },
    /// The account opens one at the bot's.
    Reverse,
    /// The account posts, and the bot calls actions below this URL.
    Posts { actions: &'a str },
}

/// The token that an application shows, and what signs posts.
pub(super) const TOKEN: &str = "of-the-bot";
pub(super) const SECRET: &str = "of-the-posts";

impl Framework {
    /// What the bot says in its answer to `ping`, with characters that CQ codes escape.
    pub(super) fn pong(self) -> &'static str {
        match self {
            NoneBot => "pong [nonebot] & co",
            Aiocqhttp => "pong [aiocqhttp] & co",
            Koishi => "pong [koishi] & co",
            Napcat => "pong [napcat] & co",
        }
    }

    /// Where the framework takes WebSockets, or posts.
    fn path(self, way: &Way<'_>) -> &'static str {
        match (self, way) {
            (NoneBot, Way::Reverse) => "/onebot/v11/ws",
            (NoneBot, _) => "/onebot/v11/",
            (Aiocqhttp, Way::Reverse) => "/ws/",
            (Aiocqhttp, _) => "/",
            (Koishi | Napcat, _) => "/onebot",
        }
    }

    /// The program; none where tests/run did not fetch the framework.
    fn program(self) -> Option<Command> {
        let (variable, program, file) = match self {
            NoneBot => ("WQCONTROLLER_PYTHON_BOTS", "/usr/bin/python3", "nonebot/bot.py"),
            Aiocqhttp => ("WQCONTROLLER_PYTHON_BOTS", "/usr/bin/python3", "aiocqhttp/bot.py"),
            Koishi => ("WQCONTROLLER_NODE_BOTS", "node", "koishi/bot.mjs"),
            Napcat => ("WQCONTROLLER_NODE_BOTS", "node", "napcat/bot.mjs"),
        };
        let Some(packages) = std::env::var_os(variable) else {
            let test = std::thread::current().name().unwrap_or("a test").to_owned();
            let why = format!("{variable} is not set; CI=true tests/run fetches what it names");
            // Not by a macro, whose words are shown only when a test fails.
            writeln!(std::io::stderr().lock(), "NOT RUN: {test}, with {self:?}: {why}").unwrap();
            return None;
        };
        let packages = Path::new(&packages);
        let mut command = Command::new(program);
        let path = std::env::var_os("PATH").unwrap_or_default();
        // Without proxies, and without settings of the frameworks.
        command.env_clear().env("PATH", path).env("LANG", "C.UTF-8").current_dir(FOLDER);
        match self {
            NoneBot | Aiocqhttp => command.arg("-B").env("PYTHONPATH", packages),
            Koishi | Napcat => command.env("NODE_PATH", packages.join("node_modules")),
        };
        command.arg(Path::new(FOLDER).join(file));
        Some(command)
    }

    /// Sets what its users set.
    fn configure(self, command: &mut Command, way: &Way<'_>, port: u16) {
        match (self, way) {
            (NoneBot, _) => {
                command.env("DRIVER", "~fastapi+~httpx+~websockets").env("HOST", "127.0.0.1");
                command.env("PORT", port.to_string()).env("ONEBOT_ACCESS_TOKEN", TOKEN);
                match way {
                    Way::Forward { url } => command.env("ONEBOT_WS_URLS", json!([url]).to_string()),
                    Way::Reverse => command,
                    Way::Posts { actions } => command
                        .env("ONEBOT_API_ROOTS", json!({ ACCOUNT_NUMBER: actions }).to_string())
                        .env("ONEBOT_SECRET", SECRET),
                };
            }
            (Aiocqhttp, _) => {
                command.env("PORT", port.to_string()).env("ACCESS_TOKEN", TOKEN);
                if let Way::Posts { actions } = way {
                    command.env("API_ROOT", actions).env("SECRET", SECRET);
                }
            }
            (Koishi, _) => {
                let mut onebot = json!({ "selfId": ACCOUNT_NUMBER, "token": TOKEN, "path": self.path(way) });
                let (protocol, endpoint) = match way {
                    Way::Forward { url } => ("ws", *url),
                    Way::Reverse => ("ws-reverse", ""),
                    Way::Posts { actions } => ("http", *actions),
                };
                onebot["protocol"] = protocol.into();
                onebot["endpoint"] = endpoint.into();
                if matches!(way, Way::Forward { .. }) {
                    onebot["retryInterval"] = 200.into();
                    onebot["retryTimes"] = 1000.into();
                } else {
                    command.env("PORT", port.to_string());
                }
                command.env("ONEBOT", onebot.to_string());
            }
            (Napcat, Way::Forward { url }) => {
                command.env("URL", url).env("ACCESS_TOKEN", TOKEN);
            }
            (Napcat, _) => panic!("node-napcat-ts has no other way than to open a WebSocket"),
        }
    }
}

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/bots");

/// A bot that runs. Dropped, it is killed.
pub(super) struct Bot {
    framework: Framework,
    command: Command,
    process: Child,
    log: Log,
    /// How much of the log was looked at.
    seen: usize,
    /// Where the account connects or posts.
    pub(super) address: String,
}

impl Bot {
    /// Starts one; none where the framework is not there, which is said.
    pub(super) fn start(framework: Framework, way: &Way<'_>) -> Option<Self> {
        let (mut command, port) = (framework.program()?, free_port());
        framework.configure(&mut command, way, port);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let scheme = if matches!(way, Way::Posts { .. }) { "http" } else { "ws" };
        let address = format!("{scheme}://127.0.0.1:{port}{}", framework.path(way));
        let process = command.spawn().unwrap();
        let mut bot = Self { framework, command, process, log: Log::default(), seen: 0, address };
        bot.follow();
        Some(bot)
    }

    fn follow(&mut self) {
        self.log.follow(self.process.stdout.take().unwrap());
        self.log.follow(self.process.stderr.take().unwrap());
    }

    /// Kills it as nothing else does, and waits until it is gone.
    pub(super) fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// Starts it anew, after it was killed.
    pub(super) fn start_again(&mut self) {
        (self.log, self.seen) = (Log::default(), 0);
        self.process = self.command.spawn().unwrap();
        self.follow();
    }

    /// The next of these things that happens to it.
    pub(super) fn next(&mut self, what: &str) -> Value {
        let mut found = None;
        wait_until(&format!("{:?} says it is {what:?}", self.framework), || {
            let printed = self.log.text();
            while let Some(end) = printed[self.seen..].find('\n') {
                let line = &printed[self.seen..self.seen + end];
                self.seen += end + 1;
                let Some(event) = serde_json::from_str::<Value>(line).ok().filter(Value::is_object) else {
                    continue;
                };
                assert_ne!(event["what"], "failed", "{event}");
                if event["what"] == what {
                    found = Some(event);
                    return true;
                }
            }
            false
        });
        found.unwrap()
    }

    /// Waits until it has an account that says who it is.
    pub(super) fn connects_to(&mut self, name: &str) {
        let connected = self.next("connected");
        let login = &connected["login"];
        let told = if self.framework == Koishi { &login["name"] } else { &login["nickname"] };
        assert_eq!(told, name, "{connected}");
    }

    /// Waits until it hears these words; what it says of them.
    pub(super) fn hears(&mut self, words: &str) -> Value {
        loop {
            let heard = self.next("heard");
            // Others' answers in a group, too.
            if heard["words"] == words {
                return heard;
            }
        }
    }

    /// Fails where the framework has complained of anything.
    pub(super) fn is_content(&self) {
        let printed = self.log.text();
        let complains = |line: &&str| {
            ["[ERROR]", "[WARNING]", "[E]", "[W]", "Traceback", "Error:", "\"failed\"", "failed to parse"]
                .iter()
                .any(|sign| line.contains(sign))
        };
        let complaint = printed.lines().find(complains);
        assert_eq!(complaint, None, "{:?} dislikes something", self.framework);
    }
}

impl Drop for Bot {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        if std::thread::panicking() {
            eprintln!("---- what {:?} printed\n{}----", self.framework, self.log.text());
        }
    }
}
