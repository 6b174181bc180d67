//! A new user with two machines and the package on both: README's commands lead to start, scan and answer on the second one.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;
use std::process::Stdio;

use super::{Fleet, answer_yes, ask, is_reachable_and_running};
use crate::machine::{Machine, Plan, wait_until};
use crate::network::Network;
use crate::package::{PACKAGE, package};

/// One machine's turn: whether that is tokyo, and what is typed there.
type Turn = (bool, Vec<String>);

/// README's commands for several machines, word for word, without its comments.
fn turns(readme: &str) -> Vec<Turn> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(readme);
    let readme = std::fs::read_to_string(path).unwrap();
    let blocks = readme.split("```sh\n").skip(1).map(|block| block.split("```").next().unwrap());
    let block = blocks.into_iter().find(|block| block.contains("examples/door")).unwrap();
    let mut turns: Vec<Turn> = Vec::new();
    for line in block.lines() {
        match line.strip_prefix("# ") {
            Some(place) => {
                turns.push((place.starts_with("on tokyo") || place.starts_with("在 tokyo 上"), vec![]))
            }
            None => turns.last_mut().unwrap().1.push(line.split("   # ").next().unwrap().to_owned()),
        }
    }
    turns
}

/// The account of README, with a made-up login: LLBot needs a network.
fn made_up(command: &str) -> String {
    let start = command.replace("implementation=llbot uin=123456789", "sandbox_login=scan");
    assert_ne!(start, command, "it starts an account of llbot");
    start
}

/// The code that waits at the door, scanned and confirmed on tokyo, where the made-up phone is.
fn scan(fleet: &Fleet, account: &str) {
    let (door, tokyo) = (fleet.door(), fleet.machine(1));
    let path = format!("http://127.0.0.1:4000/openqq/get_qrcode?client={account}");
    let mut image = Vec::new();
    wait_until("there is a code", || {
        let answer = door.try_run("curl", &["--silent", "--fail", &path]);
        image = answer.stdout;
        answer.status.success()
    });
    let mut reader = png::Decoder::new(std::io::Cursor::new(&image[..])).read_info().unwrap();
    let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
    let info = reader.next_frame(&mut pixels).unwrap();
    let (width, height) = (info.width as usize, info.height as usize);
    let mut image = rqrr::PreparedImage::prepare_from_greyscale(width, height, |x, y| pixels[y * width + x]);
    let url = image.detect_grids()[0].decode().unwrap().1;
    tokyo.run("curl", &["--silent", "--fail", &url]);
    tokyo.run("curl", &["--silent", "--fail", "--request", "POST", &url]);
}

/// What both machines have of an account's folders, below `/var/lib/private`.
fn folders(machine: &Machine, id: &str) -> String {
    machine.shell(&format!("cd /var/lib/private; ls -d wqclient/{id} wqimpl/{id} 2>/dev/null || true"))
}

#[test]
fn commands_of_readme_lead_from_two_packages_to_start_scan_and_answer() {
    let Some(package) = package() else { return };
    let boot = || {
        let machine = Plan::bare().bind(&package, PACKAGE).boot()?;
        machine.run("apt-get", &["install", "--yes", "--quiet", PACKAGE]);
        Some(machine)
    };
    let Some(network) = Network::new() else { return };
    let Some(fleet) = Fleet::of(network, &["door", "tokyo"], boot) else { return };
    let (door, tokyo) = (fleet.door(), fleet.machine(1));

    let told = turns("README.md");
    assert_eq!(told, turns("README.zh-CN.md"));
    let [(false, key), (true, user), (false, connect)] = &told[..] else { panic!("{told:?}") };
    let [make_key] = &key[..] else { panic!("{key:?}") };
    let printed = door.shell(make_key);
    tokyo.shell(&user.join("\n").replace("KEY", &printed));
    let [by_hand, configure, start, call] = &connect[..] else { panic!("{connect:?}") };
    let said = answer_yes(door, by_hand);
    assert!(said.contains("This account is currently not available."), "{said}");
    door.shell(configure);

    // At a terminal, at once, while the door is connecting.
    let mut typed = door.command("script");
    let typed =
        typed.args(["-qec", &made_up(start), "/dev/null"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut typed = typed.spawn().unwrap();
    let mut shown = typed.stdout.take().unwrap();
    let shown = std::thread::spawn(move || {
        let mut text = Vec::new();
        shown.read_to_end(&mut text).unwrap();
        String::from_utf8_lossy(&text).into_owned()
    });
    wait_until("it waits for a scan, or wqctl has ended", || {
        shown.is_finished() || fleet.door().clients().iter().any(|one| one["state"] == "scaning")
    });
    if !shown.is_finished() {
        // A person elsewhere scans by a link, which leads to the door.
        let link =
            door.shell("curl --silent --fail -X POST http://127.0.0.1:4000/v1/clients/mybot/scan-link");
        let link: BTreeMap<String, serde_json::Value> = serde_json::from_str(&link).unwrap();
        let url = link["url"].as_str().unwrap();
        assert!(url.starts_with("http://127.0.0.1:4000/"), "{url}");
        let page = door.run("curl", &["--silent", "--fail", "--header", "Accept: text/html", url]);
        assert!(page.contains("<html"), "{page}");
        scan(&fleet, "mybot");
    }
    let is_ok = typed.wait().unwrap().success();
    let shown = shown.join().unwrap();
    println!("---- {start}\n{shown}\n----");
    assert!(is_ok && shown.contains("mybot runs") && shown.contains('█'), "{shown}");
    let answer = door.shell(call);
    assert!(answer.contains("\"id\""), "{answer}");
    assert_eq!(tokyo.client("mybot")["state"], "running");
    let list = door.run("wqctl", &["list"]);
    println!("{list}");
    assert!(list.lines().any(|line| line.contains("mybot") && line.contains("tokyo")), "{list}");

    move_there_and_back(&fleet);
    for machine in [door, tokyo] {
        assert_eq!(machine.systemctl(&["list-units", "--failed", "--plain", "--no-legend", "wq*"]), "");
    }
    fleet.print_log();
}

/// Moves README's account and one with an implementation here, and back to tokyo, by what the package installs.
fn move_there_and_back(fleet: &Fleet) {
    let (door, tokyo) = (fleet.door(), fleet.machine(1));
    let configure = |machine: &Machine| {
        machine.write("/opt/own.sh", "test -s login || echo secret >login\nexec sleep 3600\n");
        machine.configure(
            "[implementations.own]\nkind = 'command'\ncommand = '/bin/sh /opt/own.sh {port}'\nurl = 'ws://127.0.0.1:{port}/'\n",
        );
        machine.systemctl(&["reload", crate::service::UNIT]);
    };
    // An account has the implementations of its own machine.
    configure(tokyo);
    door.run(
        "wqctl",
        &["start", "own", "--no-wait", "--machine", "tokyo", "implementation=own", "uin=10001"],
    );
    let login = "/var/lib/private/wqimpl/own/login";
    wait_until("it has its login", || tokyo.try_run("test", &["-s", login]).status.success());
    let refused = door.try_run("wqctl", &["move", "own", "local"]);
    let refused =
        format!("{}{}", String::from_utf8_lossy(&refused.stdout), String::from_utf8_lossy(&refused.stderr));
    println!("{refused}");
    assert!(refused.contains("own") && !refused.contains("has moved"), "{refused}");
    assert_eq!(fleet.shown("own")["machine"], "tokyo");
    configure(door);
    tokyo.shell("echo report >/var/lib/private/wqclient/mybot/kept");

    for (to, from, at) in [("local", tokyo, door), ("tokyo", door, tokyo)] {
        for account in ["mybot", "own"] {
            let said = door.run("wqctl", &["move", account, to]);
            println!("{said}");
            assert!(said.starts_with(&format!("{account} has moved from ")), "{said}");
            assert_eq!(fleet.shown(account)["machine"] == "tokyo", to == "tokyo", "{account}");
            assert_eq!(folders(from, account), "", "nothing of {account} is left");
        }
        assert_eq!(at.shell("cat /var/lib/private/wqclient/mybot/kept"), "report");
        assert_eq!(at.shell(&format!("cat {login}")), "secret");
    }
    // A client in the sandbox keeps no login, so each start of it has a code.
    scan(fleet, "mybot");
    fleet.wait_until_shown("runs after both moves", "mybot", is_reachable_and_running);
    assert_eq!(ask(door, "/openqq/get_friend_info?client=mybot").0, 200);
}
