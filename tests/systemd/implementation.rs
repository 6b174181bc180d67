//! Implementations as instances of wqimpl@.service, beside the clients that reach them.

use serde_json::Value;

use crate::machine::{Machine, wait_until};
use crate::service::UNIT;

/// What is said of the implementation of an account.
fn implementation(machine: &Machine, name: &str) -> Value {
    machine.client(name)["implementation"].clone()
}

fn until_implementation(machine: &Machine, name: &str, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
    let mut seen = Value::Null;
    wait_until(format!("the implementation of {name}: {what}"), || {
        seen = implementation(machine, name);
        is_so(&seen)
    });
    seen
}

/// A machine with an implementation of the kind `command`, which does what the script says.
fn with_script(script: &str) -> Option<Machine> {
    let machine = Machine::boot()?;
    configure(&machine, script, "");
    machine.start_service();
    Some(machine)
}

fn configure(machine: &Machine, script: &str, more: &str) {
    machine.write("/opt/own/own.sh", script);
    machine.write("/opt/own/own.template", "port={port}\ntoken={token}\nuin={uin}\n");
    machine.write(
        "/etc/wqcontroller/wqcontroller.toml.d/50-own.toml",
        &format!(
            "{more}[implementations.own]\nkind = 'command'\ncommand = '/bin/sh /opt/own/own.sh {{port}}'\n\
             url = 'ws://127.0.0.1:{{port}}/'\nfile = 'own.conf'\nfile_template = '/opt/own/own.template'\n"
        ),
    );
}

const START: [&str; 2] = ["implementation=own", "uin=10001"];

#[test]
fn implementation_is_unit_with_own_user_and_both_outlive_controller() {
    let Some(machine) = with_script("echo up $1 in $PWD\nsleep 3600 & echo child $!\nwait\n") else {
        return;
    };
    machine.start_client("bob", &START);
    machine.start_client("小明", &START);
    let bob = implementation(&machine, "bob");
    assert_eq!((&bob["phase"], &bob["unit"]), (&"up".into(), &"wqimpl@bob.service".into()), "{bob}");
    assert_eq!(bob["pid"], machine.main_pid("wqimpl@bob"));
    let lines = || machine.journal(&["WQ_CLIENT=bob", "--identifier=wqimpl"]);
    wait_until("it says who it is", || lines().contains("up 15000 in /var/lib/private/wqimpl/bob"));
    // A hashed name is on its lines as well.
    wait_until("the lines of 小明", || {
        let lines = machine.journal(&["WQ_CLIENT=小明", "--identifier=wqimpl"]);
        lines.contains("in /var/lib/private/wqimpl/-df3ea25a4369305a")
    });

    // The login, the configuration and the token are its own user's alone.
    let mode = |path: &str| machine.run("stat", &["--format=%a %u", path]).trim().to_owned();
    assert_eq!(machine.property("wqimpl@bob", "User"), "wqi-bob");
    let user = machine.run("stat", &["--format=%u", &format!("/proc/{}", bob["pid"])]);
    let user = user.trim();
    assert!(user.parse::<u32>().unwrap() >= 61_184, "{user} is no dynamic user");
    assert_eq!(mode("/var/lib/private/wqimpl/bob"), format!("700 {user}"));
    assert_eq!(mode("/var/lib/private/wqimpl/bob/own.conf"), format!("600 {user}"));
    assert_eq!(mode("/run/wqimpl/bob"), format!("750 {user}"));
    let config = machine.shell("cat /var/lib/private/wqimpl/bob/own.conf");
    let token = config.lines().find_map(|line| line.strip_prefix("token=")).unwrap();
    assert_eq!(token.len(), 64);
    assert!(!machine.shell("systemctl show wqimpl@bob; ps -eo args").contains(token));

    let client = machine.client("bob")["pid"].clone();
    machine.systemctl(&["kill", "--signal=KILL", UNIT]);
    wait_until("the next controller is ready", || {
        machine.property(UNIT, "NRestarts") == "1" && machine.is_active(UNIT)
    });
    assert_eq!(machine.client("bob")["pid"], client);
    assert_eq!(implementation(&machine, "bob")["pid"], bob["pid"]);
    machine.systemctl(&["restart", UNIT]);
    assert_eq!(
        (&implementation(&machine, "bob")["pid"], &machine.client("bob")["pid"]),
        (&bob["pid"], &client)
    );

    let child =
        lines().lines().find_map(|line| line.split_once("child ").map(|(_, pid)| pid.to_owned())).unwrap();
    assert_eq!(machine.call("stop_client", &["client=bob"])["code"], 0);
    assert_eq!(machine.property("wqimpl@bob", "ActiveState"), "inactive");
    assert_eq!(machine.property("wqclient@bob", "ActiveState"), "inactive");
    assert!(!machine.try_run("test", &["-d", &format!("/proc/{child}")]).status.success());
    assert_eq!(machine.systemctl(&["list-units", "--failed", "--plain", "--no-legend"]), "");
}

#[test]
fn operator_commands_on_wqimpl_units_are_respected() {
    let Some(machine) = with_script("exec sleep 3600\n") else { return };
    machine.start_client("a", &START);
    let first = implementation(&machine, "a");
    machine.systemctl(&["kill", "--signal=KILL", "wqimpl@a"]);
    let second = until_implementation(&machine, "a", "started again", |held| {
        held["phase"] == "up" && held["pid"] != first["pid"]
    });
    assert_eq!((&second["exits"], &second["last_exit"]), (&1.into(), &"was ended by signal 9".into()));
    machine.systemctl(&["stop", "wqimpl@a"]);
    until_implementation(&machine, "a", "held", |found| found["held"] == true);
    machine.systemctl(&["start", "wqimpl@a"]);
    let third = until_implementation(&machine, "a", "started", |found| found["phase"] == "up");
    assert_eq!(third["pid"], machine.main_pid("wqimpl@a"));
    assert_eq!(third["port"], first["port"]);
    assert_eq!(machine.client("a")["exits"], 0, "its client was not touched");
}

/// Prints why it fails, with a trace behind it.
const FAILING: &str = "sleep 1\necho 'no signature service' >&2\nprintf '\\tat main\\n\\n' >&2\nexit 1\n";

#[test]
fn last_line_is_the_reason_of_an_exit() {
    let Some(machine) = with_script(FAILING) else { return };
    machine.start_client("a", &START);
    let found = until_implementation(&machine, "a", "it failed", |found| found["reason"].is_string());
    assert_eq!(found["reason"], "no signature service", "{found}");
    machine.wait_for_log(": no signature service");
    machine.run("journalctl", &["--update-catalog"]);
    for (message, subject) in [
        ("a: own: started (pid ", "The implementation of client a was started"),
        ("a: own: exited with status 1 (pid ", "The implementation of client a failed"),
    ] {
        let entry = machine.entry(&["--unit", UNIT], message);
        let id = format!("MESSAGE_ID={}", entry["MESSAGE_ID"].as_str().unwrap());
        let text = machine.journal(&["--catalog", &id]);
        assert!(text.contains(subject), "{text}");
    }
}

/// Ends, and leaves a process behind that ignores the signal by which it is to end.
const LEAVING: &str = "(trap '' INT; exec sleep 1000) &\nsleep 1\nexit 3\n";

#[test]
fn process_that_is_left_behind_puts_off_no_new_start() {
    let Some(machine) = with_script(LEAVING) else { return };
    machine.start_client("a", &START);
    let found = until_implementation(&machine, "a", "it failed", |found| found["exits"].as_u64() >= Some(2));
    assert!(found["last_exit"].as_str().unwrap().contains("status 3"), "{found}");
}

#[test]
fn implementations_are_transient_units_of_the_machine_too() {
    let Some(machine) = Machine::boot() else { return };
    machine.drop_in("[Service]\nUser=root\nGroup=wqclients\n");
    let script =
        format!("echo up in $PWD\n[ -e $HOME/once ] && exec sleep 3600\ntouch $HOME/once\n{FAILING}");
    configure(&machine, &script, "[supervisor]\nmode = 'systemd'\n[systemd]\nunit = 'transient'\n");
    machine.start_service();
    machine.start_client("bob", &START);
    let found = until_implementation(&machine, "bob", "it is there again", |found| {
        found["exits"] == 1 && found["phase"] == "up"
    });
    assert_eq!(found["unit"], "wqimpl-bob.service", "{found}");
    assert_eq!(found["pid"], machine.main_pid("wqimpl-bob"));
    assert_eq!(machine.property("wqimpl-bob", "User"), "wqi-bob");
    machine.wait_for_log("bob: own: exited with status 1");
    let lines = machine.journal(&["WQ_CLIENT=bob", "--identifier=wqimpl"]);
    assert!(lines.contains("up in /var/lib/private/wqimpl/bob"), "{lines}");
    machine.systemctl(&["restart", UNIT]);
    assert_eq!(implementation(&machine, "bob")["pid"], found["pid"]);
    assert_eq!(machine.call("stop_client", &["client=bob"])["code"], 0);
    assert!(!machine.is_active("wqimpl-bob"));
}

#[test]
fn implementations_are_units_of_a_user_too() {
    let Some(machine) = Machine::boot() else { return };
    machine.shell("useradd --create-home lin && loginctl enable-linger lin");
    wait_until("its bus is there", || {
        machine.try_run("sh", &["-c", "test -S /run/user/$(id -u lin)/bus"]).status.success()
    });
    machine.write("/home/lin/own.sh", "echo up in $PWD\nexec sleep 3600\n");
    machine.write("/home/lin/own.template", "{token}");
    machine.write(
        "/home/lin/wq.toml",
        "listen = '127.0.0.1:4000'\n[supervisor]\nmode = 'systemd'\n[systemd]\nmanager = 'user'\nunit = 'transient'\n\
         [implementations.own]\nkind = 'command'\ncommand = '/bin/sh /home/lin/own.sh'\nurl = 'ws://127.0.0.1:{port}/'\n\
         file = 'own.conf'\nfile_template = '/home/lin/own.template'\n",
    );
    machine.shell("chown -R lin: /home/lin");
    let as_lin = |command: &str| {
        machine.shell(&format!("runuser -u lin -- env XDG_RUNTIME_DIR=/run/user/$(id -u lin) {command}"))
    };
    as_lin(
        "systemd-run --user --quiet --unit=wq -p Type=notify /usr/sbin/wqcontroller --config /home/lin/wq.toml",
    );
    machine.start_client("小明", &START);
    let found = implementation(&machine, "小明");
    let unit = "wqimpl--df3ea25a4369305a.service";
    assert_eq!((&found["phase"], &found["unit"]), (&"up".into(), &unit.into()), "{found}");
    assert_eq!(as_lin(&format!("systemctl --user show --value -p MainPID {unit}")), found["pid"].to_string());
    wait_until("its output has its name in the journal", || {
        let unit = format!("_SYSTEMD_USER_UNIT={unit}");
        machine.journal(&["WQ_CLIENT=小明", "SYSLOG_IDENTIFIER=wqimpl", &unit]).contains("up in /home/lin/")
    });
    as_lin("systemctl --user restart wq");
    assert_eq!(implementation(&machine, "小明")["pid"], found["pid"]);
    assert_eq!(machine.call("stop_client", &["client=小明"])["code"], 0);
    assert!(!machine.try_run("pgrep", &["--full", "sleep 3600"]).status.success());
}

#[test]
fn launch_files_and_files_of_the_controller_choose_no_program() {
    let Some(machine) = with_script("exec sleep 3600\n") else { return };
    machine.start_client("a", &START);
    // What took over the controller can write these.
    machine.write(
        "/run/wqcontroller/wqcontroller.toml",
        "[implementations.own]\nkind = 'command'\ncommand = '/bin/sh -c \"echo taken over; exec sleep 3600\"'\n",
    );
    machine.shell(
        "cd /run/wqcontroller/launch-implementation\n\
         tr '\\0' '\\n' <a | sed '$aMOJO_WEBQQ_IMPLEMENTATION_PROGRAM=/bin/echo' | tr '\\n' '\\0' >b\n\
         chown wqcontroller: b; mv b a; systemctl restart wqimpl@a",
    );
    assert_eq!(machine.main_pid("wqimpl@a"), implementation(&machine, "a")["pid"]);
    assert!(!machine.journal(&["WQ_CLIENT=a"]).contains("taken over"));
    machine.shell("printf 'LD_PRELOAD=/x\\0' >>/run/wqcontroller/launch-implementation/a");
    let restarted = machine.try_run("systemctl", &["restart", "wqimpl@a"]);
    assert!(!restarted.status.success() || machine.property("wqimpl@a", "ExecMainStatus") == "203");
}

#[test]
fn unit_of_an_implementation_is_confined() {
    let Some(machine) = with_script("exec sleep 3600\n") else { return };
    machine.start_client("a", &START);
    machine.start_client("b", &START);
    let pid = implementation(&machine, "a")["pid"].to_string();
    let inside = |command: &str| {
        let user = machine.run("stat", &["--format=%u", &format!("/proc/{pid}")]);
        let output = machine.try_run(
            "nsenter",
            &[
                "--target",
                &pid,
                "--mount",
                "setpriv",
                "--reuid",
                user.trim(),
                "--regid",
                "wqclients",
                "--clear-groups",
                "sh",
                "-c",
                command,
            ],
        );
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    assert_eq!(
        inside("ls /run/wqimpl /var/lib/private/wqimpl")
            .split_whitespace()
            .filter(|word| !word.ends_with(':'))
            .collect::<Vec<_>>(),
        ["a", "a"]
    );
    for hidden in ["/run/wqclient", "/var/lib/private/wqclient", "/run/wqclient-world", "/run/wqcontroller"] {
        assert_eq!(inside(&format!("ls {hidden} 2>/dev/null")), "", "{hidden}");
    }
    let door = inside(
        "curl --silent --show-error --max-time 60 http://127.0.0.1:4000/openqq/check_client 2>&1 || echo refused",
    );
    assert!(door.contains("may not call here"), "{door}");
    let port = machine.client("b")["port"].to_string();
    let sibling = inside(&format!(
        "curl --silent --max-time 60 http://127.0.0.1:{port}/openqq/get_user_info 2>&1 || echo refused"
    ));
    assert!(sibling.contains("may not call here"), "{sibling}");
    let score = machine.shell("systemd-analyze security --no-pager wqimpl@a.service | tail -n 1");
    println!("{score}");
    let score: f32 = score.split_whitespace().find_map(|word| word.parse().ok()).unwrap();
    assert!(score <= 2.5, "{score}");
}
