//! No account is ever lost: what was acknowledged survives the controller, in whatever way that ends.

mod exits;
mod perl;

use std::collections::BTreeSet;
use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::process::{Pid, Signal};
use serde_json::Value;

use crate::fixture::{Builder, Controller, is_running, program, wait_until};
use crate::output::run;

const OUTLIVE: &str = "[supervisor]\nclients_outlive_controller = true\nstart_interval = 0\n";

fn pid_of(client: &Value) -> u32 {
    client["pid"].as_u64().unwrap() as u32
}

fn kill(pid: u32, signal: Signal) {
    rustix::process::kill_process(Pid::from_raw(pid.cast_signed()).unwrap(), signal).unwrap();
}

/// Living processes whose environment says that they are clients with files in the controller's folder.
fn client_processes(controller: &Controller) -> Vec<(String, u32)> {
    let tmpdir = format!("MOJO_WEBQQ_TMPDIR={}", controller.folder.path().display());
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap() {
        let Ok(pid) = entry.unwrap().file_name().to_string_lossy().parse::<u32>() else { continue };
        let Ok(environ) = fs::read(format!("/proc/{pid}/environ")) else { continue };
        let environ = String::from_utf8_lossy(&environ).into_owned();
        let variables: Vec<&str> = environ.split('\0').collect();
        if variables.contains(&tmpdir.as_str()) {
            let account = variables.iter().find_map(|variable| variable.strip_prefix("MOJO_WEBQQ_ACCOUNT="));
            found.push((account.unwrap().to_owned(), pid));
        }
    }
    found.sort();
    found
}

#[test]
fn outliving_clients_are_adopted() {
    let mut controller = Builder::new().config(OUTLIVE).start();
    let before: Vec<Value> =
        ["a", "小明", "c"].map(|name| controller.start_client_with(name, "fake_state=running")).into();
    for name in ["a", "小明", "c"] {
        controller.wait_for_state(name, "running");
    }
    let listed = controller.clients();
    // By which they would end with it: a Mojo::Webqq client does as soon as its parent is another.
    assert!(!controller.get("/openqq/env?client=a").text().contains("MOJO_WEBQQ_CONTROLLER_PID="));
    for end in ["kill", "term"] {
        if end == "kill" {
            controller.kill();
        } else {
            assert_eq!(controller.end().code(), Some(0));
        }
        assert!(before.iter().all(|client| is_running(pid_of(client))), "after {end}");
        controller.start_again();
        // All is right from the first moment, states too.
        assert_eq!(controller.clients(), listed, "after {end}");
        assert_eq!(controller.get("/openqq/ping?client=c").text(), "pong");
    }
    // It is watched as any other: its end is noticed, it is started again, and it can be stopped.
    kill(pid_of(&before[0]), Signal::KILL);
    wait_until("a is started again", || {
        let clients = controller.clients();
        clients[0]["exits"] == 1 && clients[0]["phase"] == "up" && clients[0]["pid"] != before[0]["pid"]
    });
    assert_eq!(controller.stop_client("小明")["code"], 0);
    assert!(!is_running(pid_of(&before[1])));
    for name in ["a", "c"] {
        assert_eq!(controller.stop_client(name)["code"], 0);
    }
    let output = fs::read_to_string(controller.path("mojo_webqq_output_c.log")).unwrap();
    assert!(output.contains("listening"), "{output}");
}

#[test]
fn clients_that_end_with_the_controller_are_restarted_by_the_next() {
    let mut controller = Builder::new().config("[supervisor]\nstart_interval = 0").start();
    let first = controller.start_client("a");
    controller.wait_for_listening("a");
    assert_eq!(controller.end().code(), Some(0));
    assert!(!is_running(pid_of(&first)), "they end with it");
    controller.start_again();
    controller.wait_for_listening("a");
    let second = controller.clients();
    assert_eq!((&second[0]["port"], &second[0]["exits"]), (&first["port"], &0.into()));
    // A fake client does not notice that its controller is killed, so the next one ends it.
    controller.kill();
    assert!(is_running(pid_of(&second[0])));
    controller.start_again();
    wait_until("a began anew", || {
        let clients = controller.clients();
        clients[0]["phase"] == "up" && clients[0]["pid"] != second[0]["pid"]
    });
    assert!(!is_running(pid_of(&second[0])));
    assert_eq!(client_processes(&controller).len(), 1);
    controller.stop_client("a");
    controller.end();
    controller.start_again();
    assert_eq!(controller.clients(), [] as [Value; 0], "what was stopped stays so");
}

/// When a process started, in clock ticks since boot: field 22 of proc_pid_stat(5).
fn start_ticks(pid: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    stat.rsplit_once(") ").unwrap().1.split(' ').nth(19).unwrap().parse().unwrap()
}

/// The time since boot in clock ticks, of which a second has 100 on every Linux that there is.
fn uptime_ticks() -> u64 {
    let uptime = fs::read_to_string("/proc/uptime").unwrap();
    let seconds: f64 = uptime.split(' ').next().unwrap().parse().unwrap();
    (seconds * 100.0) as u64
}

#[test]
fn reused_pid_is_neither_adopted_nor_killed() {
    let mut controller = Builder::new().config(OUTLIVE).start();
    let client = controller.start_client("a");
    controller.kill();
    kill(pid_of(&client), Signal::KILL);
    let registry = controller.path("mojo_webqq_controller_backend.dat");
    let text = fs::read_to_string(&registry).unwrap();
    // Pids come round again after minutes at the earliest; here it must be another tick of the clock at least.
    let known: Value = serde_json::from_str(&text).unwrap();
    let ticks = &known["clients"][0]["handle"]["direct"]["start_ticks"];
    wait_until("the clock has gone on", || uptime_ticks() > ticks.as_u64().unwrap() + 1);
    let mut stranger = Command::new("sleep").arg("1000").spawn().unwrap();
    assert!(start_ticks(stranger.id()) > ticks.as_u64().unwrap());
    let bent = text.replace(&format!("\"pid\":{}", pid_of(&client)), &format!("\"pid\":{}", stranger.id()));
    assert_ne!(bent, text);
    fs::write(&registry, bent).unwrap();
    controller.start_again();
    wait_until("a is started anew", || controller.clients()[0]["phase"] == "up");
    assert_ne!(pid_of(&controller.clients()[0]), stranger.id());
    controller.stop_client("a");
    assert!(stranger.try_wait().unwrap().is_none(), "the stranger lives");
    stranger.kill().unwrap();
    stranger.wait().unwrap();
}

#[test]
fn failing_client_is_restarted_until_held() {
    let controller = Builder::new().config("[supervisor]\nrestart_limit = 2").start();
    let first = controller.start_client("a");
    controller.wait_for_listening("a");
    controller.get("/openqq/die?client=a");
    let mut again = Value::Null;
    wait_until("a is started again", || {
        again = controller.clients()[0].clone();
        again["exits"] == 1 && again["phase"] == "up"
    });
    assert_eq!(
        (&again["port"], &again["last_exit"], &again["held"]),
        (&first["port"], &"exited with status 7".into(), &false.into())
    );
    controller.wait_for_listening("a");
    controller.get("/openqq/die?client=a");
    wait_until("a is held", || controller.clients()[0]["held"] == true);
    let log = controller.log.wait_for("not started again until start_client is called");
    let lines: Vec<&str> =
        log.lines().filter(|line| line.contains("exited with") || line.contains("held")).collect();
    let pid = pid_of(&again);
    let end = format!("<4>a: exited with status 7 (pid {pid})");
    assert!(lines.len() == 2 && lines[1].starts_with(&end), "one line for each end: {log}");
    assert!(lines[1].contains("; held after 2 failures in a row, not started again"), "{log}");
    assert_eq!(controller.clients()[0]["next_start"], Value::Null);
    // A call starts it again.
    controller.start_client("a");
    assert_eq!(controller.clients()[0]["exits"], 0);
}

#[test]
fn client_waiting_for_restart_is_down() {
    let mut controller = Builder::new().config(OUTLIVE).start();
    controller.start_client("a");
    controller.wait_for_listening("a");
    controller.kill();
    // After so many failures it waits for minutes, so that nothing here can come too late.
    let registry = controller.path("mojo_webqq_controller_backend.dat");
    let text = fs::read_to_string(&registry).unwrap();
    let bent = text.replace("\"failures\":0", "\"failures\":8");
    assert_ne!(bent, text);
    fs::write(&registry, bent).unwrap();
    controller.start_again();
    controller.get("/openqq/die?client=a");
    wait_until("a waits", || controller.clients()[0]["phase"] == "gone");
    let waiting = &controller.clients()[0];
    assert_eq!(
        (&waiting["state"], &waiting["pid"], &waiting["held"]),
        (&"stop".into(), &Value::Null, &false.into())
    );
    assert!(waiting["next_start"].as_u64().unwrap() > 1_700_000_000);
    let answer = controller.get("/openqq/ping?client=a");
    assert_eq!((answer.status, &answer.json()["status"]), (502, &"the client is down".into()));
}

#[test]
fn exited_client_is_shown_with_its_reason() {
    // It ends only when its start was answered, which tells of an end that comes before.
    let script = "#!/bin/sh\nwhile [ ! -e \"$MOJO_WEBQQ_TMPDIR/go\" ]; do sleep 0.01; done\n\
                  printf '{\"state\":\"stop\",\"reason\":\"%s\"}' $$ >\"$MOJO_WEBQQ_STATE_PATH\"\nexit 77\n";
    let controller = Builder::new().config("log_level = \"debug\"").template(script).start();
    for _ in 0..20 {
        let pid = controller.start_client("a")["pid"].to_string();
        fs::write(controller.path("go"), "").unwrap();
        let mut client = Value::Null;
        wait_until("a is held", || {
            client = controller.clients()[0].clone();
            client["held"] == true
        });
        assert_eq!(client["reason"], pid, "{client}");
        fs::remove_file(controller.path("go")).unwrap();
    }
    let log = controller.log.wait_for("exited with status 77");
    let place = |words| log.find(words).unwrap();
    assert!(place("says that it is stopping") < place("exited with status 77"), "{log}");
}

/// What the system was asked for, one call a line without its process, as strace(1) tells it.
fn calls(trace: &str) -> Vec<String> {
    let calls = trace.lines().map(|line| line.trim_start_matches(|c: char| c.is_ascii_digit() || c == ' '));
    calls.filter(|call| !call.starts_with("<...")).map(str::to_owned).collect()
}

#[test]
fn acknowledged_changes_are_on_disk_first() {
    let builder = Builder::new().template("#!/bin/sh\nexec sleep 3600\n");
    let template = builder.write_template();
    let plain = builder.command(Some(&template));
    let trace = builder.path("trace");
    let mut command = Command::new("strace");
    command.args([
        "-f",
        "-y",
        "-s",
        "4096",
        "-e",
        "trace=fsync,rename,renameat,renameat2,execve,kill,pidfd_send_signal",
        "-o",
    ]);
    command.arg(&trace).arg("--").arg(plain.get_program()).args(plain.get_args());
    for (name, value) in plain.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command.stdin(std::process::Stdio::null()).stdout(std::process::Stdio::null());
    let mut controller = builder.launch(command);
    controller.start_client("a");
    controller.stop_client("a");
    // strace passes no signal on, so its child is asked to end.
    let task = format!("/proc/{0}/task/{0}/children", controller.pid());
    let child: u32 = fs::read_to_string(task).unwrap().trim().parse().unwrap();
    kill(child, Signal::TERM);
    assert_eq!(controller.wait().code(), Some(0));

    let text = fs::read_to_string(&trace).unwrap();
    let folder = controller.folder.path().to_str().unwrap();
    let registry = format!("{folder}/mojo_webqq_controller_backend.dat");
    // Each writing has three steps: the new file, its name, its folder.
    let step = |call: &str| {
        let (name, rest) = call.split_once('(')?;
        if name == "fsync" && rest.contains(&format!("<{folder}/.wqcontroller-")) {
            Some("content")
        } else if name.starts_with("rename") && rest.contains(&format!("\"{registry}\"")) {
            Some("name")
        } else if name == "fsync" && rest.contains(&format!("<{folder}>")) {
            Some("folder")
        } else if name == "execve" && rest.contains("/template\"") {
            Some("LAUNCH")
        } else if name == "pidfd_send_signal" || name == "kill" {
            rest.contains("SIGTERM").then_some("END")
        } else {
            None
        }
    };
    let steps: Vec<&str> = calls(&text).iter().filter_map(|call| step(call)).collect();
    let written = ["content", "name", "folder"];
    // That it shall run, it is launched, which process it is; that it shall not, it is ended, it is gone.
    let expected = [&written[..], &["LAUNCH"], &written, &written, &["END"], &written].concat();
    assert_eq!(steps, expected, "{text}");
}

#[test]
fn unreadable_registry_stops_the_start_and_is_left_unchanged() {
    let mut controller = Controller::new();
    controller.start_client("a");
    controller.end();
    let path = controller.path("mojo_webqq_controller_backend.dat");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
    let good = fs::read_to_string(&path).unwrap();
    let newer = good.replace("\"version\":3", "\"version\":7");
    for (content, why) in
        [(&good[..good.len() / 2], "damaged"), ("", "damaged"), ("{}", "damaged"), (&newer, "version 7")]
    {
        fs::write(&path, content).unwrap();
        let mut command = Command::new(program());
        let (status, _, said) = run(command.arg("--config").arg(controller.path("wqcontroller.toml")));
        assert_eq!(status, Some(1), "{said}");
        assert!(
            said.contains(why) && said.contains(path.to_str().unwrap()) && said.contains("move it away"),
            "{said}"
        );
        assert_eq!(fs::read_to_string(&path).unwrap(), content);
    }
    fs::write(&path, good).unwrap();
    controller.start_again();
    assert_eq!(controller.clients().len(), 1);
}

#[test]
fn second_controller_in_the_same_folder_is_refused() {
    let controller = Controller::new();
    controller.start_client("a");
    let mut command = Command::new(program());
    let (status, _, said) = run(command.arg("--config").arg(controller.path("wqcontroller.toml")));
    assert_eq!(status, Some(1), "{said}");
    assert!(said.contains(&format!("another wqcontroller (process {})", controller.pid())), "{said}");
    let pid_file = fs::read_to_string(controller.path("mojo_webqq_controller_process.pid")).unwrap();
    assert_eq!(pid_file.trim(), controller.pid().to_string(), "the first one's pid file is left alone");
    assert_eq!(controller.clients().len(), 1);
}

#[test]
fn unwritable_registry_refuses_starts_and_clients_go_on() {
    let builder = Builder::new();
    let folder = builder.path("registry");
    let config = format!("backend_path = {:?}", folder.join("backend.dat").to_str().unwrap());
    let controller = builder.config(&config).start();
    let running = controller.start_client("a");
    controller.wait_for_listening("a");
    // What a full disk and a folder that is gone have in common: no new file can be written.
    let away = controller.path("away");
    fs::rename(&folder, &away).unwrap();
    fs::write(&folder, "in its place").unwrap();
    let refused = controller.start_client_with("b", "");
    assert_eq!(refused["code"], 3, "{refused}");
    assert!(refused["reason"].as_str().unwrap().contains("the registry file can't be written"), "{refused}");
    let refused = controller.stop_client("a");
    assert_eq!(refused["code"], 3, "{refused}");
    assert!(is_running(pid_of(&running)));
    assert_eq!(controller.get("/openqq/ping?client=a").text(), "pong");
    assert_eq!(controller.clients().len(), 1);
    let trouble = || controller.get("/v1/clients").json()["trouble"].clone();
    assert!(trouble().as_str().unwrap().contains("the registry file can't be written"));
    let told = controller.get("/v1/clients/a/explain").text();
    assert!(!told.contains("A call stopped it"), "it was refused: {told}");
    fs::remove_file(&folder).unwrap();
    fs::rename(&away, &folder).unwrap();
    controller.start_client("b");
    assert_eq!(controller.stop_client("a")["code"], 0);
    assert!(trouble().is_null());
}

/// A small random number generator, so that a run can be repeated.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

/// What the last answer about an account said; none where a call was under way when the controller was killed.
type Acknowledged = Mutex<std::collections::BTreeMap<String, Option<bool>>>;

#[test]
fn two_hundred_controller_kills_lose_no_client() {
    const NAMES: u64 = 12;
    const CALLERS: u64 = 4;
    let mut controller = Builder::new().config(OUTLIVE).start();
    let acknowledged = Acknowledged::default();
    let mut dice = Dice(0x5eed);
    for round in 0..200 {
        let over = AtomicBool::new(false);
        let seed = dice.roll(u64::MAX);
        // Somewhere between the first call and the moment when all have had a few.
        let moment = Duration::from_micros(dice.roll(40_000));
        let address = controller.address;
        std::thread::scope(|scope| {
            for caller in 0..CALLERS {
                let (acknowledged, over) = (&acknowledged, &over);
                scope.spawn(move || call_at_random(address, caller, seed, acknowledged, over));
            }
            std::thread::sleep(moment);
            controller.kill();
            over.store(true, Ordering::SeqCst);
        });
        controller.start_again();
        check(&controller, &acknowledged, round);
    }
    for client in controller.clients() {
        controller.stop_client(client["account"].as_str().unwrap());
    }
    assert_eq!(client_processes(&controller), []);

    /// Starts and stops accounts that no other caller touches, until the controller is gone.
    fn call_at_random(
        address: std::net::SocketAddr,
        caller: u64,
        seed: u64,
        acknowledged: &Acknowledged,
        over: &AtomicBool,
    ) {
        let mut dice = Dice(seed ^ (caller + 1) << 32 | 1);
        while !over.load(Ordering::SeqCst) {
            let name = format!("c{}", dice.roll(NAMES / CALLERS) * CALLERS + caller);
            let start = dice.roll(2) == 0;
            let call = if start { "start_client" } else { "stop_client" };
            acknowledged.lock().unwrap().insert(name.clone(), None);
            let answer = ureq::get(format!("http://{address}/openqq/{call}?client={name}")).call();
            let Ok(text) = answer.and_then(|mut answer| answer.body_mut().read_to_string()) else { return };
            let reply: Value = serde_json::from_str(&text).unwrap();
            let known = match reply["status"].as_str().unwrap() {
                "success" | "client already exists" if start => Some(true),
                "success" | "client not exists" if !start => Some(false),
                _ => panic!("{call} {name}: {reply}"),
            };
            acknowledged.lock().unwrap().insert(name, known);
        }
    }

    fn check(controller: &Controller, acknowledged: &Acknowledged, round: u32) {
        wait_until("every client is up", || {
            controller.clients().iter().all(|client| client["phase"] == "up")
        });
        let clients = controller.clients();
        let listed: BTreeSet<String> =
            clients.iter().map(|client| client["account"].as_str().unwrap().to_owned()).collect();
        for (name, known) in acknowledged.lock().unwrap().iter() {
            if let Some(runs) = known {
                assert_eq!(listed.contains(name), *runs, "round {round}: {name} in {listed:?}");
            }
        }
        let ports: BTreeSet<u64> = clients.iter().map(|client| client["port"].as_u64().unwrap()).collect();
        assert_eq!(ports.len(), clients.len(), "round {round}: a port twice");
        let mut expected: Vec<(String, u32)> = clients
            .iter()
            .map(|client| (client["account"].as_str().unwrap().to_owned(), pid_of(client)))
            .collect();
        expected.sort();
        // A process has no environment while it executes another program, as the script of a template does.
        wait_until(&format!("round {round}: {expected:?}"), || client_processes(controller) == expected);
        // From here on every account is known again.
        let mut acknowledged = acknowledged.lock().unwrap();
        for (name, known) in acknowledged.iter_mut() {
            *known = Some(listed.contains(name));
        }
    }
}
