//! Clients as instances of wqclient@.service, under the service as it is installed.

use serde_json::Value;

use crate::machine::{Machine, Plan, wait_until};
use crate::service::UNIT;

impl Machine {
    /// What `check_client` says of one client.
    pub fn client(&self, name: &str) -> Value {
        let reply = self.call("check_client", &[&format!("client={name}")]);
        reply["client"][0].clone()
    }

    /// What `check_client` says of all clients.
    pub fn clients(&self) -> Vec<Value> {
        self.call("check_client", &[])["client"].as_array().unwrap().clone()
    }

    pub fn wait_for_client(&self, name: &str, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        let mut seen = Value::Null;
        wait_until(format!("{name}: {what}"), || {
            seen = self.client(name);
            is_so(&seen)
        });
        seen
    }

    pub fn main_pid(&self, unit: &str) -> Value {
        self.property(unit, "MainPID").parse::<u32>().unwrap().into()
    }

    /// Waits until the controller's log has this.
    pub fn wait_for_log(&self, text: &str) {
        wait_until(format!("the log says {text:?}"), || self.journal(&["--unit", UNIT]).contains(text));
    }

    pub fn is_active(&self, unit: &str) -> bool {
        self.property(unit, "ActiveState") == "active"
    }

    pub fn start_service(&self) {
        self.systemctl(&["start", UNIT]);
    }
}

pub fn is_running(client: &Value) -> bool {
    client["state"] == "running"
}

#[test]
fn client_is_unit_with_own_user_and_outlives_controller() {
    let Some(machine) = Machine::boot() else { return };
    machine.start_service();
    assert_eq!(machine.property(UNIT, "StatusText"), "no clients; template units");
    machine.wait_for_log("clients run as template units: template units can be started");
    let a = machine.start_client("a", &["sandbox_login=scan"]);
    let ming = machine.start_client("小明", &[]);
    let ming_unit = "wqclient@-df3ea25a4369305a.service";
    assert_eq!((&a["pid"], &ming["pid"]), (&machine.main_pid("wqclient@a"), &machine.main_pid(ming_unit)));
    machine.wait_for_client("小明", "its state file is read", is_running);
    machine.wait_for_client("a", "it shows a code", |client| client["state"] == "scaning");
    machine.shell("curl -sf 'http://127.0.0.1:4000/openqq/get_qrcode?client=a' | head -c4 | grep -q PNG");
    machine.start_client("韩梅梅", &[]);
    machine.wait_for_client("韩梅梅", "runs", is_running);
    let sent = machine.call("send_friend_message", &["client=韩梅梅", "uid=10001", "content=hello"]);
    assert_eq!(sent["code"], 0, "clients of the sandbox meet, though they are different users: {sent}");
    let alone =
        machine.shell("journalctl --no-pager --quiet | grep 'cannot reach the other clients' || true");
    assert!(alone.is_empty(), "{alone}");
    machine.call("stop_client", &["client=韩梅梅"]);
    let friends = machine.call("get_friend_info", &["client=小明"]);
    assert!(friends.as_array().is_some_and(|friends| !friends.is_empty()), "the proxy reaches it: {friends}");

    // Users, names and places.
    let uid = |pid: &Value| machine.shell(&format!("stat -c %u /proc/{pid}"));
    let controller = machine.main_pid(UNIT);
    assert!(
        uid(&a["pid"]) != uid(&ming["pid"]) && uid(&a["pid"]) != uid(&controller) && uid(&a["pid"]) != "0"
    );
    assert_eq!(machine.shell(&format!("tr '\\0' ' ' </proc/{}/cmdline", ming["pid"])), "wqclient(小明)");
    assert_eq!(machine.shell("stat -c %a /run/wqclient/a /var/lib/private/wqclient/a"), "750\n700");
    assert_eq!(
        machine.shell("cat /sys/fs/cgroup/*/wqclient.slice/*/cgroup.procs | sort -u | wc -l"),
        "3",
        "and a relay"
    );
    assert_eq!(machine.property("wqclient@a", "TasksMax"), "512");

    // A restart, a kill and an end of the controller are nothing to them.
    machine.systemctl(&["restart", UNIT]);
    assert_eq!(machine.client("a")["pid"], a["pid"]);
    machine.shell("kill -9 $(systemctl show --value --property MainPID wqcontroller)");
    wait_until("it is back", || machine.property(UNIT, "NRestarts") == "1" && machine.is_active(UNIT));
    machine.systemctl(&["stop", UNIT]);
    machine.systemctl(&["start", UNIT]);
    for (name, reply, unit) in [("a", &a, "wqclient@a"), ("小明", &ming, ming_unit)] {
        assert_eq!((&machine.main_pid(unit), &machine.client(name)["pid"]), (&reply["pid"], &reply["pid"]));
        assert_eq!(machine.client(name)["exits"], 0);
    }
    let stopped = machine.call("stop_client", &["client=小明"]);
    assert_eq!((&stopped["status"], &stopped["pid"]), (&"success".into(), &ming["pid"]));
    assert_eq!(machine.property(ming_unit, "ActiveState"), "inactive");
    assert_eq!(machine.clients().len(), 1);
}

/// Whether a client has tried to reach its OneBot implementation, which is not there.
fn is_looking(client: &Value) -> bool {
    client["state"] == "loading"
        && client["reason"].as_str().is_some_and(|why| why.contains("Connection refused"))
}

#[test]
fn template_unit_gets_token_in_private_file() {
    const TOKEN: &str = "sehr-geheimes-wort";
    let Some(machine) = Machine::boot() else { return };
    machine.configure(
        "[onebot]\nclients = [{ client = \"bot\", token_file = \"/etc/wqcontroller/bot.token\" }]\n",
    );
    machine.shell(&format!(
        "echo {TOKEN} | install -m 600 -o wqcontroller /dev/stdin /etc/wqcontroller/bot.token"
    ));
    machine.start_service();
    let bot = machine.start_client("bot", &["backend=onebot", "onebot_url=ws://127.0.0.1:1/"]);
    let uid = machine.shell(&format!("stat -c %u /proc/{}", bot["pid"]));
    for _ in 0..2 {
        let pid = machine.main_pid("wqclient@bot");
        // No program listens there; a token that could not be read would be reported first.
        machine.wait_for_client("bot", "it looks for its implementation", |client| {
            client["pid"] == pid && is_looking(client)
        });
        assert_eq!(machine.shell("stat -c '%a %u' /run/wqclient/bot/onebot_token"), format!("600 {uid}"));
        assert_eq!(machine.shell("cat /run/wqclient/bot/onebot_token"), TOKEN);
        let shown = machine.shell(
            "cat /proc/$(systemctl show --value --property MainPID wqclient@bot)/environ | tr '\\0' '\\n'",
        );
        assert!(shown.contains("MOJO_WEBQQ_ONEBOT_TOKEN_FILE=/run/wqclient/bot/onebot_token"), "{shown}");
        assert!(!shown.contains(TOKEN) && !machine.shell("systemctl show wqclient@bot").contains(TOKEN));
        machine.systemctl(&["restart", "wqclient@bot"]);
    }
    assert!(!machine.journal(&[]).contains(TOKEN));
    machine.call("stop_client", &["client=bot"]);
    machine.shell("chmod 640 /etc/wqcontroller/bot.token");
    let refused =
        machine.call("start_client", &["client=bot", "backend=onebot", "onebot_url=ws://127.0.0.1:1/"]);
    assert_eq!(refused["code"], 3, "{refused}");
    assert!(refused["reason"].as_str().unwrap().contains("bot.token"), "{refused}");
}

#[test]
fn operator_stop_and_restart_are_respected() {
    let Some(machine) = Machine::boot() else { return };
    machine.configure("[supervisor]\nrestart = \"always\"\n[limits]\nmemory_max = \"256M\"\n");
    machine.start_service();
    for name in ["a", "b", "c"] {
        machine.start_client(name, &[]);
        machine.wait_for_client(name, "runs", is_running);
    }
    assert_eq!(machine.property("wqclient@a", "MemoryMax"), (256u64 << 20).to_string());

    // stop: held, whatever the policy, also by the next controller.
    machine.systemctl(&["stop", "wqclient@a"]);
    let gone = |client: &Value| client["phase"] == "gone";
    let a = machine.wait_for_client("a", "is gone", gone);
    assert_eq!((&a["held"], &a["last_exit"]), (&true.into(), &"was stopped through systemd".into()));
    machine.systemctl(&["restart", UNIT]);
    let a = machine.client("a");
    assert_eq!((&a["phase"], &a["held"], &a["next_start"]), (&"gone".into(), &true.into(), &Value::Null));
    machine.configure("[supervisor]\nrestart = \"always\"\n");
    machine.systemctl(&["reload", UNIT]);
    machine.wait_for_log("configuration reloaded");
    machine.start_client("a", &[]);
    assert_eq!(machine.property("wqclient@a", "MemoryMax"), "infinity", "a limit that is gone does not stay");

    // restart: the same client with another process.
    let before = machine.client("b");
    machine.systemctl(&["restart", "wqclient@b"]);
    let b = machine.wait_for_client("b", "is another process", |client| client["pid"] != before["pid"]);
    assert_eq!((&b["pid"], &b["port"]), (&machine.main_pid("wqclient@b"), &before["port"]));
    let b = machine.wait_for_client("b", "its new state file is read", is_running);
    assert_eq!((&b["exits"], &b["phase"]), (&0.into(), &"up".into()));

    // kill: an end like any other.
    machine.systemctl(&["kill", "--signal=KILL", "wqclient@c"]);
    let c = machine.wait_for_client("c", "was seen to end", |client| client["exits"] == 1);
    assert_eq!(c["last_exit"], "was ended by signal 9");
    machine.wait_for_client("c", "is started again", |client| client["phase"] == "up");

    // All at once.
    machine.systemctl(&["stop", "wqclients.target"]);
    wait_until("all are gone", || machine.clients().iter().all(gone));
    assert!(machine.clients().iter().all(|client| client["held"] == true));
    let before: Vec<Value> = ["a", "b"].map(|name| machine.start_client(name, &[])["pid"].clone()).into();
    machine.systemctl(&["restart", "wqclients.target"]);
    for (name, before) in ["a", "b"].into_iter().zip(before) {
        let anew = |client: &Value| client["phase"] == "up" && client["pid"] != before;
        let client = machine.wait_for_client(name, "was restarted", anew);
        assert_eq!(client["pid"], machine.main_pid(&format!("wqclient@{name}")));
    }
    assert_eq!(machine.client("c")["phase"], "gone", "who does not run is not started");
}

#[test]
fn secrets_stay_private_and_polkit_allows_only_client_units() {
    let Some(machine) = Machine::boot() else { return };
    machine.start_service();
    machine.start_client("a", &["pwd=hunter2"]);
    machine.wait_for_client("a", "runs", is_running);
    let path = "/org/freedesktop/systemd1/unit/wqclient_40a_2eservice";
    let told = [
        machine.systemctl(&["show", "wqclient@a", "wqcontroller"]),
        machine.shell(&format!(
            "runuser -u nobody -- busctl call org.freedesktop.systemd1 {path} \
                                org.freedesktop.DBus.Properties GetAll s ''"
        )),
        machine.run("ps", &["-e", "-o", "args"]),
        machine.journal(&[]),
    ];
    assert!(told.iter().all(|text| text.len() > 100 && !text.contains("hunter2")));
    assert_eq!(machine.shell("stat -c '%a %U' /run/wqcontroller/launch/a"), "600 wqcontroller");
    let reads = |user: &str, path: &str| {
        machine.try_run("runuser", &["-u", user, "--", "cat", path]).status.success()
    };
    assert!(!reads("nobody", "/run/wqcontroller/launch/a"));
    // Who made a folder before its client does would have what that writes.
    assert_eq!(machine.shell("stat -c '%a %U' /run/wqclient"), "755 root");
    // Other clients see neither the launch files nor one's folders nor one's processes.
    machine.start_client("b", &[]);
    let inside = |script: &str| {
        let enter = format!(
            "nsenter -t $(systemctl show --value -p MainPID wqclient@b) -m --setgid $(stat -c %g \
                             /run/wqclient/b) --setuid $(stat -c %u /run/wqclient/b) sh -c '{script}'"
        );
        machine.try_run("sh", &["-c", &enter])
    };
    let list =
        String::from_utf8(inside("ls /run/wqclient /run/wqcontroller; ls /proc | grep -c ^[0-9]").stdout)
            .unwrap();
    assert!(list.contains("b\n") && !list.contains("a\n"), "{list}");
    // Not even one that broke out of its user.
    let as_root = "nsenter -t $(systemctl show --value -p MainPID wqclient@b) -m ls -A /run/wqcontroller";
    assert_eq!(machine.shell(as_root), "");
    assert!(!inside("kill -9 $(cat /run/wqclient/*/*.pid | grep -v x) && kill -0 1").status.success());

    let user_may = |user: &str, verb: &str, unit: &str| {
        machine
            .try_run("runuser", &["-u", user, "--", "systemctl", "--no-ask-password", verb, unit])
            .status
            .success()
    };
    let may = |verb: &str, unit: &str| user_may("wqcontroller", verb, unit);
    assert!(!user_may("nobody", "stop", "wqclient@b.service"), "nor anybody else's");
    assert!(may("reload", "wqclient@a.service") && machine.is_active("wqclient@a"));
    assert!(may("kill", "wqclient@a.service"), "its own units are its business");
    assert!(may("stop", "wqclient@b.service"));
    for (verb, unit) in [
        ("stop", "dbus.service"),
        ("reload", "dbus.service"),
        ("reload", "wqcontroller.service"),
        ("start", "systemd-journal-flush.service"),
        ("restart", "wqcontroller.service"),
        ("start", "wqclient@a/../x.service"),
        ("stop", "wqclients.target"),
        ("restart", "wqclient@a.service"),
        ("freeze", "wqclient@a.service"),
    ] {
        assert!(!may(verb, unit), "{verb} {unit}");
    }
    let transient =
        ["-u", "wqcontroller", "--", "systemd-run", "--no-ask-password", "--unit=wqclient@x", "true"];
    assert!(!machine.try_run("runuser", &transient).status.success(), "that is as good as root");
}

#[test]
fn failed_start_gives_reason_and_leaves_no_unit() {
    let Some(machine) = Machine::boot() else { return };
    machine.start_service();
    machine.systemctl(&["mask", "--runtime", "wqclient@a.service"]);
    let refused = machine.call("start_client", &["client=a"]);
    assert_eq!((&refused["code"], &refused["status"]), (&3.into(), &"failure".into()));
    assert!(refused["reason"].as_str().unwrap().contains("masked"), "{refused}");
    machine.systemctl(&["unmask", "--runtime", "wqclient@a.service"]);
    machine.start_client("a", &[]);

    // The state folder can't be made.
    machine.shell("touch /var/lib/private/wqclient/full");
    let refused = machine.call("start_client", &["client=full"]);
    assert!(refused["reason"].as_str().unwrap().contains("STATE_DIRECTORY"), "{refused}");
    assert!(!machine.try_run("test", &["-e", "/run/wqcontroller/launch/full"]).status.success());
    machine.shell("rm /var/lib/private/wqclient/full");
    machine.start_client("full", &[]);

    // The unit of another program.
    machine.shell("systemd-run --quiet --unit=wqclient-x --collect sleep 600");
    machine.systemctl(&["restart", UNIT]);
    machine.wait_for_log("runs and belongs to no account in the registry; left alone");
    assert!(machine.is_active("wqclient-x"));
}

#[test]
fn perl_template_of_original_runs_as_unit() {
    let perl = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/perl");
    let template = "/etc/wqcontroller/mojo_webqq_controller_template.pl";
    let plan = Plan::new().bind(perl, "/usr/share/stand-in").install(
        format!("{perl}/mojo_webqq_controller_template.pl"),
        template,
        0o644,
    );
    let Some(machine) = plan.boot() else { return };
    machine.configure(&format!("template_path = \"{template}\"\n"));
    let environment = "[Service]\nEnvironment=PERL5LIB=/usr/share/stand-in/lib\n";
    machine.write("/etc/systemd/system/wqclient@.service.d/50-perl.conf", environment);
    machine.systemctl(&["daemon-reload"]);
    machine.start_service();
    let started = machine.start_client("小明", &["pwd=a \"b\" $c", "LD_PRELOAD=x"]);
    let notes = "/run/wqclient/-df3ea25a4369305a/notes_小明";
    wait_until("it runs", || machine.try_run("grep", &["-q", "^{\"run\"", notes]).status.success());
    let run = machine.run("grep", &["^{\"run\"", notes]);
    let run: Value = serde_json::from_str(&run).unwrap();
    assert_eq!(run["run"]["pid"], started["pid"].to_string());
    let environment = &run["run"]["environment"];
    for (name, value) in [
        ("MOJO_WEBQQ_PWD", "a \"b\" $c"),
        ("MOJO_WEBQQ_LD_PRELOAD", "x"),
        ("MOJO_WEBQQ_TMPDIR", "/run/wqclient/-df3ea25a4369305a"),
        ("MOJO_WEBQQ_STATE_DIRECTORY", "/var/lib/wqclient/-df3ea25a4369305a"),
        ("MOJO_WEBQQ_COOKIE_PATH", "/var/lib/wqclient/-df3ea25a4369305a/mojo_webqq_cookie_小明.dat"),
        ("PERL5LIB", "/usr/share/stand-in/lib"),
    ] {
        assert_eq!(environment[name], value, "{environment}");
    }
    assert!(environment.get("LD_PRELOAD").is_none() && environment.get("CREDENTIALS_DIRECTORY").is_none());
    assert_eq!(machine.shell(&format!("tr -d '\\0' </proc/{}/cmdline", started["pid"])), "wqclient(小明)");
    assert_eq!(machine.call("stop_client", &["client=小明"])["status"], "success");

    // One that others may write is refused before anything is started.
    machine.shell(&format!("chmod 666 {template}"));
    let refused = machine.call("start_client", &["client=a"]);
    assert!(refused["reason"].as_str().unwrap().contains("others may write it"), "{refused}");
    // So is one that the unit's user may not run, and one that no user can run.
    machine.shell(&format!("chmod 600 {template}"));
    let refused = machine.call("start_client", &["client=a"]);
    let reason = refused["reason"].as_str().unwrap();
    assert_eq!(refused["code"], 3, "{refused}");
    assert!(reason.contains("has mode 0600") && reason.contains("chmod 755"), "{refused}");
    machine.shell("echo 'exec true' >/etc/wqcontroller/plain; chmod 644 /etc/wqcontroller/plain");
    machine.configure("template_path = \"/etc/wqcontroller/plain\"\n");
    machine.systemctl(&["reload", "wqcontroller"]);
    let refused = machine.call("start_client", &["client=a"]);
    assert!(refused["reason"].as_str().unwrap().contains("is not executable"), "{refused}");
    assert!(machine.call("check_client", &["client=a"])["code"] == 1);
}

#[test]
fn transient_unit_gets_token_in_private_file() {
    const TOKEN: &str = "sehr-geheimes-wort";
    let Some(machine) = Machine::boot() else { return };
    machine.shell("useradd --create-home lin && loginctl enable-linger lin");
    wait_until("its bus is there", || {
        machine.try_run("sh", &["-c", "test -S /run/user/$(id -u lin)/bus"]).status.success()
    });
    let config = "listen = \"127.0.0.1:4000\"\n[supervisor]\nmode = \"systemd\"\n[systemd]\nmanager = \"user\"\n\
                  unit = \"transient\"\n[onebot]\n\
                  clients = [{ client = \"bot\", token_file = \"/home/lin/bot.token\" }]\n";
    machine.write("/home/lin/wq.toml", config);
    machine.shell(&format!("echo {TOKEN} | install -m 600 -o lin /dev/stdin /home/lin/bot.token"));
    let as_lin = |command: &str| {
        machine.shell(&format!("runuser -u lin -- env XDG_RUNTIME_DIR=/run/user/$(id -u lin) {command}"))
    };
    as_lin(
        "systemd-run --user --quiet --unit=wq -p Type=notify /usr/sbin/wqcontroller --config /home/lin/wq.toml",
    );
    let bot = machine.start_client("bot", &["backend=onebot", "onebot_url=ws://127.0.0.1:1/"]);
    machine.wait_for_client("bot", "it looks for its implementation", is_looking);
    let environment = machine.shell(&format!("tr '\\0' '\\n' </proc/{}/environ", bot["pid"]));
    let path =
        environment.lines().find_map(|line| line.strip_prefix("MOJO_WEBQQ_ONEBOT_TOKEN_FILE=")).unwrap();
    assert!(path.starts_with("/run/user/"), "{path}");
    assert_eq!(machine.shell(&format!("stat -c '%a %U' {path}")), "600 lin");
    assert_eq!(machine.shell(&format!("cat {path}")), TOKEN);
    let shown = as_lin("systemctl --user show wqclient-bot.service wqclient@bot.service");
    assert!(!environment.contains(TOKEN) && !shown.contains(TOKEN) && !machine.journal(&[]).contains(TOKEN));
    assert_eq!(machine.call("stop_client", &["client=bot"])["status"], "success");
    assert!(!machine.try_run("test", &["-e", path]).status.success(), "it goes with its unit");
}

#[test]
fn lingering_user_runs_clients_as_own_units() {
    let Some(machine) = Machine::boot() else { return };
    machine.shell("useradd --create-home lin && loginctl enable-linger lin");
    wait_until("its bus is there", || {
        machine.try_run("sh", &["-c", "test -S /run/user/$(id -u lin)/bus"]).status.success()
    });
    let config = "listen = \"127.0.0.1:4000\"\n[supervisor]\nmode = \"systemd\"\n[systemd]\nmanager = \"user\"\n\
                  unit = \"transient\"\n";
    machine.write("/home/lin/wq.toml", config);
    let as_lin = |command: &str| {
        machine.shell(&format!("runuser -u lin -- env XDG_RUNTIME_DIR=/run/user/$(id -u lin) {command}"))
    };
    as_lin(
        "systemd-run --user --quiet --unit=wq -p Type=notify /usr/sbin/wqcontroller --config /home/lin/wq.toml",
    );
    let started = machine.start_client("小明", &["pwd=hunter2"]);
    machine.wait_for_client("小明", "runs", is_running);
    let main_pid = as_lin("systemctl --user show --value -p MainPID wqclient--df3ea25a4369305a.service");
    assert_eq!(main_pid, started["pid"].to_string());
    assert!(!as_lin("systemctl --user show wqclient--df3ea25a4369305a.service").contains("hunter2"));
    // A user's manager adds no fields, so the relay puts the name on each line.
    wait_until("its output has its name in the journal", || {
        let unit = "_SYSTEMD_USER_UNIT=wqclient--df3ea25a4369305a.service";
        !machine.journal(&["WQ_CLIENT=小明", "SYSLOG_IDENTIFIER=wqclient", unit]).is_empty()
    });
    as_lin("systemctl --user restart wq");
    assert_eq!(machine.client("小明")["pid"], started["pid"]);
    as_lin("systemctl --user stop wqclient--df3ea25a4369305a.service");
    machine.wait_for_client("小明", "is held", |client| client["held"] == true);
    let started = machine.start_client("小明", &[]);
    // The machine's manager knows nothing of it, and would have it started twice.
    machine.write("/home/lin/wq.toml", &config.replace("manager = \"user\"\n", ""));
    as_lin("systemctl --user restart wq");
    assert_eq!(machine.client("小明")["pid"], started["pid"]);
    let status = as_lin("systemctl --user show --value -p StatusText wq");
    let kept = "transient units of the user (clients of the registry are transient units of the user, and live; stop them and \
                restart the controller to change that)";
    assert!(status.ends_with(kept), "{status}");
    assert_eq!(machine.call("stop_client", &["client=小明"])["status"], "success");
}
