//! `sandbox`: a controller of its own, with a made-up world and one account in it, for as long as this command runs: what a bot is tried
//! against.

use std::fs::DirBuilder;
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use futures_util::StreamExt;
use http::Method;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGTERM};
use signal_hook_tokio::Signals;
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use super::configuration::ITSELF;
use crate::ctl::account::Account;
use crate::ctl::arguments::Sandbox as Arguments;
use crate::ctl::client::{Client, path_of};
use crate::ctl::failure::{Failure, Kind, Outcome, quoted};
use crate::ctl::screen::{complain, print, print_json};

/// The account.
const NAME: &str = "bot";

/// How long the start may take, and the interval at which it is looked at.
const PATIENCE: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(50);

/// How often the removal of the temporary folder is tried.
const REMOVALS: u32 = 100;

/// The failure of what is told here.
fn failed(what: &str) -> impl Fn(io::Error) -> Failure {
    let what = what.to_owned();
    move |error| Failure::refused(format!("{what}: {error}"))
}

pub(super) async fn sandbox(arguments: &Arguments, json: bool) -> Outcome {
    check_port(arguments.port)?;
    // Before there is a folder or a process that a signal could leave behind.
    let signals = Signals::new([SIGINT, SIGTERM, SIGHUP, SIGCHLD]);
    let mut signals = signals.map_err(failed("signals can't be waited for"))?;
    let Some(given) = &arguments.folder else {
        let made = tempfile::Builder::new().prefix("wqctl-sandbox-").tempdir();
        let temporary = made.map_err(failed("no temporary folder can be made"))?;
        let ended = run(temporary.path(), arguments, json, &mut signals).await;
        remove(temporary).await;
        return ended;
    };
    run(&own_folder(given)?, arguments, json, &mut signals).await
}

/// Removes the folder. A client whose controller was killed notices that and ends, and may be writing to it meanwhile.
async fn remove(temporary: TempDir) {
    let folder = temporary.keep();
    for _ in 0..REMOVALS {
        // What is wrong shows in what is left: an error may be about a file that its client removed meanwhile.
        let _ = std::fs::remove_dir_all(&folder);
        if !folder.exists() {
            return;
        }
        sleep(LOOK).await;
    }
    complain(&format!("{} could not be removed", folder.display()));
}

/// Runs it in this folder, until it is to end.
async fn run(folder: &Path, arguments: &Arguments, json: bool, signals: &mut Signals) -> Outcome {
    let (port, connect) = (arguments.port, arguments.connect.as_slice());
    let config = folder.join("wqcontroller.toml");
    std::fs::write(&config, configuration(folder, port)?)
        .map_err(failed("the configuration can't be written"))?;
    let mut controller = Controller::start(&config, folder)?;
    let client = Client::new(Some(&format!("http://127.0.0.1:{port}")), None)?;
    let starting = async {
        controller.is_there(&folder.join("pid")).await?;
        let own = begin(&client, connect).await?;
        if json {
            return print_json(&told(port, &own, folder));
        }
        print(&instructions(port, own["uid"].as_str().unwrap_or_default(), connect, &own_command()))
    };
    let ended = tokio::select! {
        // The controller's own end is noticed while it starts.
        started = starting => started,
        () = asked(signals) => return controller.end(signals).await,
    };
    ended?;
    controller.stay(signals).await
}

/// Waits until this command is asked to end.
async fn asked(signals: &mut Signals) {
    while signals.next().await.is_some_and(|signal| signal == SIGCHLD) {}
}

fn check_port(port: u16) -> Outcome {
    match TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
        Ok(_) => Ok(()),
        Err(error) => {
            let other = if port == u16::MAX { 4001 } else { port + 1 };
            let why = match error.kind() {
                io::ErrorKind::AddrInUse => format!("port {port} is taken by another program"),
                _ => format!("port {port} can't be listened on: {error}"),
            };
            Err(Failure::refused(why).next(format!("wqctl sandbox --port {other}")))
        }
    }
}

/// The folder that is named, made if it is not there. Nobody else is to read what is in it.
fn own_folder(folder: &Path) -> Outcome<PathBuf> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
    let found = made.and_then(|()| folder.canonicalize());
    found.map_err(|error| Failure::usage(format!("{} can't be used: {error}", folder.display())))
}

/// The controller's configuration: all that it has is in the folder.
fn configuration(folder: &Path, port: u16) -> Outcome<String> {
    let text = |path: PathBuf| match path.to_str() {
        // A string of JSON is one of TOML.
        Some(path) => Ok(json!(path).to_string()),
        None => Err(Failure::usage(format!("{} is not UTF-8", path.display()))),
    };
    Ok(format!(
        "listen = \"127.0.0.1:{port}\"\ntmpdir = {}\npid_path = {}\nbackend_path = {}\n\n[supervisor]\nmode = \"direct\"\n",
        text(folder.to_owned())?,
        text(folder.join("pid"))?,
        text(folder.join("accounts.json"))?,
    ))
}

/// The controller. It ends with this value.
struct Controller {
    child: Child,
    pid: Pid,
}

impl Controller {
    fn start(config: &Path, folder: &Path) -> Outcome<Self> {
        let mut command = Command::new(ITSELF);
        command.arg0("wqcontroller").arg("--config").arg(config);
        // What a service of systemd hands its processes is not for this one.
        for name in
            ["STATE_DIRECTORY", "RUNTIME_DIRECTORY", "CACHE_DIRECTORY", "LOGS_DIRECTORY", "NOTIFY_SOCKET"]
        {
            command.env_remove(name);
        }
        command.env("XDG_STATE_HOME", folder).stdin(Stdio::null()).stdout(Stdio::null());
        // Control-C reaches a whole group of processes, and it is this command that ends the controller.
        command.process_group(0);
        // Of an earlier run, which may have been killed.
        let _ = std::fs::remove_file(folder.join("pid"));
        let not_started = |why: String| Failure::refused(format!("the controller can't be started: {why}"));
        let mut child = command.spawn().map_err(|error| not_started(error.to_string()))?;
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        let Some(pid) = pid else {
            let _ = child.kill().and_then(|()| child.wait());
            return Err(not_started("it has no process ID".to_owned()));
        };
        Ok(Self { child, pid })
    }

    /// Its exit status, once it has ended.
    fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Waits until it listens, which it does before it writes the file with its process ID: what answers at the port before may be
    /// another program.
    async fn is_there(&mut self, pid_file: &Path) -> Outcome {
        let own = self.child.id().to_string();
        let deadline = Instant::now() + PATIENCE;
        while std::fs::read_to_string(pid_file).ok().is_none_or(|pid| pid.trim() != own) {
            if let Some(status) = self.ended() {
                return Err(Failure::refused(format!("the controller ended ({status}); why stands above")));
            }
            if Instant::now() > deadline {
                return Err(Failure::refused("the controller does not get ready"));
            }
            sleep(LOOK).await;
        }
        Ok(())
    }

    fn signal(&mut self, signal: Signal) {
        // Once it is waited for, another process may have its ID.
        if self.ended().is_none() {
            let _ = kill_process(self.pid, signal);
        }
    }

    /// Waits for a signal, and ends it; or for its own end.
    async fn stay(&mut self, signals: &mut Signals) -> Outcome {
        while let Some(signal) = signals.next().await {
            if signal != SIGCHLD {
                return self.end(signals).await;
            }
            if let Some(status) = self.ended() {
                return Err(Failure::refused(format!("the controller ended by itself ({status})")));
            }
        }
        self.end(signals).await
    }

    /// Ends it, and all that it started. Being asked again is passed on: then nothing is waited for.
    async fn end(&mut self, signals: &mut Signals) -> Outcome {
        self.signal(Signal::TERM);
        while self.ended().is_none() {
            if signals.next().await.is_some_and(|signal| signal != SIGCHLD) {
                self.signal(Signal::INT);
            }
        }
        Ok(())
    }
}

impl Drop for Controller {
    fn drop(&mut self) {
        // Where it could not get ready. It ends its accounts, for which it has a limit.
        self.signal(Signal::TERM);
        let _ = self.child.wait();
    }
}

/// Has the account run, connected to these bots. Returns what the world knows of it.
async fn begin(client: &Client, connect: &[String]) -> Outcome<Value> {
    let path = path_of(NAME, "");
    match client.get(&path).await {
        // A folder of an earlier run: its parameters may have been changed.
        Ok(_) if connect.is_empty() => client.act(Method::POST, &path_of(NAME, "/start"), None).await?,
        Err(failure) if failure.kind != Kind::NoAccount => return Err(failure),
        _ => {
            let mut parameters = json!({ "backend": "sandbox", "sandbox_login_time": "0" });
            if !connect.is_empty() {
                parameters["onebot_server_connect"] = connect.join(",").into();
            }
            let body = json!({ "parameters": parameters, "desired": "running" });
            client.act(Method::PUT, &path, Some(body)).await?
        }
    };
    let deadline = Instant::now() + PATIENCE;
    loop {
        let account = Account::of(&client.get(&path).await?)?;
        if let Some(port) = account.client.port.filter(|_| account.is_running()) {
            let own = Client::new(Some(&format!("http://127.0.0.1:{port}")), None)?;
            return Ok(own.get("/sandbox/world").await?["self"].take());
        }
        if account.is_held() || Instant::now() > deadline {
            return Err(Failure::refused(format!("{NAME} does not run: {}", account.reason())));
        }
        sleep(LOOK).await;
    }
}

/// The WebSocket of the account for bots.
fn socket(port: u16) -> String {
    format!("ws://127.0.0.1:{port}/clients/{NAME}/onebot/v11/ws")
}

/// The chat page of the account.
fn chat(port: u16) -> String {
    format!("http://127.0.0.1:{port}/#/chat/{NAME}")
}

/// Where all is, for programs.
fn told(port: u16, own: &Value, folder: &Path) -> Value {
    let page = format!("http://127.0.0.1:{port}/");
    json!({
        "account": NAME, "uid": own["uid"], "websocket": socket(port), "page": page, "chat": chat(port), "folder": folder,
    })
}

/// How this program is called from any folder. A build that is not installed is in no PATH.
fn own_command() -> String {
    let called = std::env::args().next().unwrap_or_default();
    match called.contains('/').then(|| std::path::absolute(&called)) {
        Some(Ok(path)) => quoted(&path.display().to_string()),
        _ => "wqctl".to_owned(),
    }
}

/// Where all is, and what is to be pasted where.
fn instructions(port: u16, uid: &str, connect: &[String], wqctl: &str) -> String {
    let (socket, chat) = (socket(port), chat(port));
    let for_bots = match connect {
        [] => format!(
            "\
NoneBot, in the .env file that has DRIVER:
  DRIVER=~websockets
  ONEBOT_WS_URLS='[\"{socket}\"]'

Koishi, in koishi.yml below plugins:
  adapter-onebot:
    selfId: '{uid}'
    protocol: ws
    endpoint: {socket}

For a bot that waits for connections, start this anew with its address:
  --connect ws://127.0.0.1:8080/onebot/v11/ws   NoneBot with DRIVER=~fastapi
  --connect ws://127.0.0.1:5140/onebot          Koishi with protocol: ws-reverse
"
        ),
        _ => format!(
            "\
The bot is connected to at the latest 15 s after it is there.

NoneBot, in the .env file that has DRIVER:
  DRIVER=~fastapi

Koishi, in koishi.yml below plugins:
  adapter-onebot:
    selfId: '{uid}'
    protocol: ws-reverse
"
        ),
    };
    format!(
        "\
The sandbox runs, with the account {NAME} ({uid}). Control-C ends it.

Chat with the bot:   {chat}
All accounts:        http://127.0.0.1:{port}/
OneBot v11:          {socket}

{for_bots}
A test of the bot:
  {wqctl} --url http://127.0.0.1:{port} scene FILE

"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn configuration_is_one() {
        let text = configuration(Path::new("/a \"b\""), 4000).unwrap();
        let table: toml::Table = text.parse().unwrap();
        assert_eq!(table["pid_path"].as_str(), Some("/a \"b\"/pid"));
        assert_eq!(table["listen"].as_str(), Some("127.0.0.1:4000"));
        assert_eq!(table["supervisor"]["mode"].as_str(), Some("direct"));
    }
}
