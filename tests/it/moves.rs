//! Accounts that are moved between machines, here controllers at ports of their own. Units are tried on real machines.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::ctl::ran_at;
use crate::fixture::{Answer, Builder, Controller, free_port, wait_until, write_file};
use crate::page::browser::{Browser, Look};

/// The token of each other machine.
const TOKEN: &str = "of-the-other-machine-0123456789";

/// A parameter that only the account may see.
const SECRET: &str = "hunter2-of-the-account";

/// A machine that wants a token. `access` is what the door's may do.
fn machine(access: &str) -> Controller {
    let builder = Builder::new();
    let file = builder.write_file("token", &format!("{TOKEN}\n"), 0o600);
    // The same port after a restart.
    let config = format!(
        "listen = '127.0.0.1:{}'\n[auth]\ntokens = [{{ name = 'door', file = {file:?}, access = '{access}' }}]\n",
        free_port()
    );
    builder.config(&config).built_in()
}

struct Two {
    door: Controller,
    tokyo: Controller,
}

impl Two {
    fn new(access: &str) -> Self {
        let tokyo = machine(access);
        let builder = Builder::new();
        let token = builder.write_file("tokyo.token", &format!("{TOKEN}\n"), 0o600);
        let url = tokyo.url("");
        let config = format!(
            "listen = '127.0.0.1:{}'\n[machines.tokyo]\nurl = '{}'\ntoken_file = {token:?}\n",
            free_port(),
            url.trim_end_matches('/')
        );
        let two = Self { door: builder.config(&config).built_in(), tokyo };
        two.wait_until_reached();
        two
    }

    fn wait_until_reached(&self) {
        wait_until("the machine is reached", || {
            self.door.log.text().contains("tokyo: its controller is reached")
        });
    }

    fn call(&self, path: &str) -> Value {
        self.door.get(path).json()
    }

    fn move_to(&self, name: &str, machine: &str) -> Answer {
        let request = ureq::http::Request::post(self.door.url(&format!("/v1/clients/{name}/move")))
            .header("content-type", "application/json");
        self.door.send(request.body(json!({ "machine": machine }).to_string()).unwrap())
    }

    /// Starts an account at the door, with files in its folder.
    fn start(&self, name: &str) {
        let start = format!("/openqq/start_client?client={name}&sandbox_login_time=0&pwd={SECRET}");
        assert_eq!(self.call(&start)["code"], 0);
        self.wait_until_it_runs(name);
        write_files(&self.folder_at(None, name));
    }

    fn wait_until_it_runs(&self, name: &str) {
        wait_until("it runs", || self.row(name)["state"] == "running");
    }

    fn row(&self, name: &str) -> Value {
        self.call(&format!("/openqq/check_client?client={name}"))["client"][0].clone()
    }

    /// Where a machine keeps the files of an account's client.
    fn folder_at(&self, machine: Option<&str>, name: &str) -> PathBuf {
        let controller = if machine.is_some() { &self.tokyo } else { &self.door };
        controller.path(&format!("clients/{name}"))
    }

    /// How many accounts a machine itself has.
    fn accounts_at(&self, controller: &Controller) -> usize {
        let request = ureq::http::Request::get(controller.url("/v1/clients"))
            .header("x-wqcontroller-door", "full")
            .header("authorization", format!("Bearer {TOKEN}"));
        let page = controller.send(request.body(()).unwrap()).json();
        usize::try_from(page["total"].as_u64().unwrap()).unwrap()
    }

    fn is_being_moved(&self) -> bool {
        fs::read_to_string(self.door.path("moves.json")).is_ok_and(|text| text.contains("phase"))
    }
}

fn write_files(folder: &Path) {
    fs::create_dir_all(folder.join("deep/in")).unwrap();
    for (name, mode) in [("one", 0o600), ("deep/in/two", 0o640)] {
        write_file(&folder.join(name), &format!("content of {name}"), mode);
    }
}

fn has_files(folder: &Path) -> bool {
    ["one", "deep/in/two"].iter().all(|name| {
        fs::read_to_string(folder.join(name)).is_ok_and(|text| text == format!("content of {name}"))
    })
}

#[test]
fn account_moves_to_another_machine_and_back() {
    let two = Two::new("read-write");
    two.start("bot");
    let pid = two.row("bot")["pid"].clone();
    let (status, printed, complaint) = ran_at(&two.door.url(""), &["move", "bot", "tokyo"]);
    assert_eq!((status, complaint.as_str()), (Some(0), ""), "{printed}");
    assert_eq!(printed, "bot has moved from local to tokyo\n");
    two.wait_until_it_runs("bot");
    let row = two.row("bot");
    assert_eq!(row["machine"], "tokyo");
    assert_ne!(row["pid"], pid);
    assert!(has_files(&two.folder_at(Some("tokyo"), "bot")) && !two.folder_at(None, "bot").exists());
    assert_eq!((two.accounts_at(&two.door), two.accounts_at(&two.tokyo)), (0, 1));
    assert_eq!(two.call("/v1/clients")["total"], 1);
    assert!(!two.is_being_moved());
    // It has the parameters that it had, which no caller but a door sees.
    let asked = |controller: &Controller, door: bool| {
        let mut request = ureq::http::Request::post(controller.url("/v1/clients/bot/parameters"))
            .header("authorization", format!("Bearer {TOKEN}"));
        if door {
            request = request.header("x-wqcontroller-door", "full");
        }
        controller.send(request.body("").unwrap())
    };
    assert_eq!(asked(&two.tokyo, true).json()["parameters"]["pwd"], SECRET);
    assert_eq!(asked(&two.tokyo, false).status, 403);
    assert!(!two.door.get("/v1/clients/bot").text().contains(SECRET));
    // Stopped it moves, too, and stays stopped.
    assert_eq!(two.call("/openqq/stop_client?client=none")["code"], 1);
    assert_eq!(ran_at(&two.door.url(""), &["stop", "bot"]).0, Some(0));
    let moved = two.move_to("bot", "local").json();
    // A client that has ended does not say any more which network it is on.
    let expected = json!({
        "name": "bot", "from": "tokyo", "to": "local", "login": "held_elsewhere", "not_started": null
    });
    assert_eq!(moved, expected);
    assert!(has_files(&two.folder_at(None, "bot")) && !two.folder_at(Some("tokyo"), "bot").exists());
    let shown = two.call("/v1/clients/bot");
    assert_eq!((&shown["desired"], &shown["client"]["phase"]), (&json!("stopped"), &json!("gone")));
    for log in [two.door.log.text(), two.tokyo.log.text()] {
        assert!(!log.contains(SECRET) && !log.contains(TOKEN), "{log}");
    }
    assert!(two.door.log.text().contains("bot: it has been moved from local to tokyo"));
}

#[test]
fn account_that_can_not_be_moved_stays_and_runs() {
    let two = Two::new("read-write");
    two.start("bot");
    let problem = |machine: &str| {
        let answer = two.move_to("bot", machine);
        (
            answer.status,
            answer.json()["code"].as_str().unwrap().to_owned(),
            answer.json()["detail"].to_string(),
        )
    };
    assert_eq!(problem("local").1, "lives_there");
    assert_eq!((problem("osaka").0, problem("osaka").1.as_str()), (400, "no_such_machine"));
    assert_eq!(two.move_to("other", "tokyo").json()["code"], "no_such_account");
    let pid = two.row("bot")["pid"].clone();
    // Files of an earlier account of this name are there. They are not touched.
    let in_the_way = two.folder_at(Some("tokyo"), "bot");
    write_files(&in_the_way);
    let (status, code, why) = problem("tokyo");
    assert_eq!((status, code.as_str()), (409, "not_moved"));
    assert!(why.contains("tokyo: files of an earlier account"), "{why}");
    assert!(has_files(&in_the_way));
    assert_eq!(two.row("bot")["pid"], pid, "it was not even stopped");
    fs::remove_dir_all(&in_the_way).unwrap();
    // Its files can't be written there: no folder can be made where they would be.
    fs::remove_dir_all(two.tokyo.path("clients")).unwrap();
    symlink("/proc", two.tokyo.path("clients")).unwrap();
    let (status, code, why) = problem("tokyo");
    assert_eq!((status, code.as_str()), (409, "not_moved"), "{why}");
    assert!(why.contains("tokyo: ") && why.contains("No such file"), "{why}");
    two.wait_until_it_runs("bot");
    wait_until("nothing of it is left there", || two.accounts_at(&two.tokyo) == 0 && !two.is_being_moved());
    assert!(has_files(&two.folder_at(None, "bot")));
    // The machine does not let the door control it.
    let read_only = Two::new("read-only");
    read_only.start("bot");
    let (status, _, complaint) = ran_at(&read_only.door.url(""), &["move", "bot", "tokyo"]);
    assert_eq!(status, Some(1), "{complaint}");
    assert!(
        complaint.contains("bot: ") && complaint.contains("does not let this one control accounts"),
        "{complaint}"
    );
    read_only.wait_until_it_runs("bot");
    assert_eq!(read_only.accounts_at(&read_only.door), 1);
}

#[test]
fn calls_are_refused_while_it_moves_and_both_lists_show_it_once() {
    let two = Two::new("read-write");
    two.start("bot");
    // Its files are too many for an instant, and then the machine takes no more.
    let folder = two.folder_at(None, "bot");
    let content = vec![7; 1024 * 1024];
    for number in 0..200 {
        fs::write(folder.join(format!("large{number}")), &content).unwrap();
    }
    thread::scope(|scope| {
        let moving = scope.spawn(|| two.move_to("bot", "tokyo"));
        let arriving = two.folder_at(Some("tokyo"), "bot");
        wait_until("some of it is there", || {
            arriving.join("deep").exists() || arriving.join("large0").exists()
        });
        two.tokyo.signal(Signal::STOP);
        let refused = two.door.get("/openqq/get_user_info?client=bot");
        let shown = two.call("/v1/clients?q=bot");
        let second = two.move_to("bot", "tokyo");
        two.tokyo.signal(Signal::CONT);
        assert_eq!(refused.status, 503);
        let why = refused.json()["status"].to_string();
        assert!(why.contains("it is being moved from the machine local to tokyo"), "{why}");
        assert_eq!((&shown["total"], &shown["accounts"][0]["name"]), (&json!(1), &json!("bot")));
        assert_eq!(second.json()["code"], "moving");
        assert_eq!(moving.join().unwrap().status, 200);
    });
    two.wait_until_it_runs("bot");
    assert_eq!(two.row("bot")["machine"], "tokyo");
    let (mut own, mut there) = (0, 0);
    for number in 0..200 {
        own += usize::from(folder.join(format!("large{number}")).exists());
        let arrived = fs::read(two.folder_at(Some("tokyo"), "bot").join(format!("large{number}")));
        there += usize::from(arrived.is_ok_and(|arrived| arrived == content));
    }
    assert_eq!((own, there), (0, 200));
}

#[test]
fn door_that_is_killed_while_an_account_moves_goes_on() {
    let mut two = Two::new("read-write");
    two.start("bot");
    let folder = two.folder_at(None, "bot");
    for number in 0..20 {
        fs::write(folder.join(format!("large{number}")), vec![7; 1024 * 1024]).unwrap();
    }
    let (mut at, mut phases) = ("local", Vec::new());
    for round in 0..10u32 {
        let to = if at == "local" { "tokyo" } else { "local" };
        let url = two.door.url("/v1/clients/bot/move");
        let caller = thread::spawn(move || {
            let body = json!({ "machine": to }).to_string();
            // The door is killed meanwhile.
            let _ = ureq::post(&url).header("content-type", "application/json").send(body);
        });
        wait_until("it has begun", || {
            two.is_being_moved() || two.row("bot")["machine"].as_str().unwrap_or("local") == to
        });
        // Later in each round, so that each step is met.
        let began = Instant::now();
        while began.elapsed() < Duration::from_millis(25) * round && two.is_being_moved() {
            thread::yield_now();
        }
        two.door.kill();
        caller.join().unwrap();
        let text = fs::read_to_string(two.door.path("moves.json")).unwrap();
        phases.push(["copying", "leaving"].into_iter().find(|phase| text.contains(phase)).unwrap_or("over"));
        two.door.start_again();
        wait_until("its move is over", || !two.is_being_moved());
        two.wait_until_it_runs("bot");
        wait_until("it is on one machine", || two.accounts_at(&two.door) + two.accounts_at(&two.tokyo) == 1);
        at = if two.accounts_at(&two.door) == 1 { "local" } else { "tokyo" };
        let machine = Some(at).filter(|at| *at != "local");
        assert_eq!(two.row("bot")["machine"].as_str(), machine, "{phases:?}");
        assert!(has_files(&two.folder_at(machine, "bot")), "{phases:?}: its files are on {at}");
        let other = if at == "local" { Some("tokyo") } else { None };
        assert!(!two.folder_at(other, "bot").exists(), "{phases:?}: files are left");
    }
    println!("the door was killed while it was {phases:?}");
    assert!(phases.contains(&"copying"), "{phases:?}");
}

#[test]
fn account_is_moved_on_the_page() {
    let Some(browser) = Browser::start() else { return };
    let two = Two::new("read-write");
    two.start("bot");
    let about = two.call("/v1/machine");
    assert_eq!(
        (&about["machines"][0]["name"], &about["machines"][0]["state"]),
        (&json!("tokyo"), &json!("reachable"))
    );
    let mut tab = browser.tab(Look::default());
    tab.open(&two.door.url("/#/account/bot"));
    tab.until_text("Move…");
    tab.press("Move…");
    tab.until("it asks where to", "document.querySelector('dialog[open] select')?.value === 'tokyo'");
    tab.picture("move");
    tab.eval("document.querySelector('dialog[open] button.danger').click()");
    wait_until("it is there", || two.row("bot")["machine"] == "tokyo");
    two.wait_until_it_runs("bot");
    tab.until_text("tokyo");
    tab.until("it can be moved back", "[...document.querySelectorAll('button')].some(x => x.textContent === 'Move…' && x.getAttribute('aria-disabled') === 'false')");
    tab.picture("moved");
    // Without other machines there is nothing to choose.
    let mut alone = browser.tab(Look { language: "zh-CN", ..Look::default() });
    let controller = Builder::new().built_in();
    assert_eq!(controller.get("/openqq/start_client?client=one&sandbox_login_time=0").json()["code"], 0);
    alone.open(&controller.url("/#/account/one"));
    alone.until_text("重启");
    alone.until(
        "no button is there for it",
        "[...document.querySelectorAll('button')].find(x => x.textContent === '迁移…').hidden",
    );
}
