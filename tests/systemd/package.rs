//! The package for Debian: what it leaves when it is installed, upgraded and removed. `tests/run` builds it, and says
//! in `WQCONTROLLER_DEB` where it is and in `WQCONTROLLER_DEBIAN_13` where a Debian 13 is, if there is one.

mod confinement;
mod examples;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::machine::{Machine, Plan, assert_inside, not_run, say_not_run, wait_until};
use crate::service::UNIT;
use crate::sockets::{Stopping, call_again_and_again};

/// Where packages are inside.
pub const PACKAGE: &str = "/root/package.deb";
const HIGHER: &str = "/root/higher.deb";

/// The account of README's examples.
const ACCOUNT: &str = "webqq_client_01";
const CLIENT_UNIT: &str = "wqclient@webqq_client_01.service";

/// The package that was built, if one was.
pub fn package() -> Option<PathBuf> {
    let found = std::env::var_os("WQCONTROLLER_DEB").map(PathBuf::from);
    if found.is_none() {
        not_run("WQCONTROLLER_DEB names no package; tests/run builds one, and so does `make deb`");
    }
    found
}

/// The same files with a higher version.
pub fn higher(package: &Path, folder: &Path) -> PathBuf {
    let (tree, built) = (folder.join("tree"), folder.join("higher.deb"));
    let run = |command: &mut Command| assert!(command.status().unwrap().success(), "{command:?}");
    run(Command::new("dpkg-deb").arg("--raw-extract").arg(package).arg(&tree));
    run(Command::new("sed").args(["-i", "s/^Version: .*/&+1/"]).arg(tree.join("DEBIAN/control")));
    run(Command::new("dpkg-deb").args(["--root-owner-group", "-Znone", "--build"]).arg(&tree).arg(&built));
    built
}

/// A machine of this system, or of the one in `root`, on which the package can be installed.
fn machine(root: Option<PathBuf>) -> Option<Machine> {
    let package = package()?;
    let mut plan = Plan::bare().bind(package, PACKAGE);
    if let Some(root) = root {
        plan = plan.root(root);
    }
    plan.boot()
}

/// The commands of README's first screen.
fn curl_lines() -> Vec<String> {
    let readme = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    let lines = readme.lines().filter(|line| {
        line.starts_with("curl ") && line.contains(ACCOUNT_OR_ALL) && !line.contains("client=mybot")
    });
    lines.map(str::to_owned).collect()
}

/// README's command that makes a token, for root.
fn token_line() -> String {
    let readme = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    let line = readme.lines().find(|line| line.starts_with("echo TOKEN | ")).unwrap();
    line.replace("sudo ", "")
}

/// In the calls of the first screen; those of the bot come later and have other names.
const ACCOUNT_OR_ALL: &str = "'http://127.0.0.1:4000/openqq/";

impl Machine {
    fn install(&self, package: &str) {
        self.run("apt-get", &["install", "--yes", "--quiet", package]);
    }

    /// A line of a manual or README, word for word.
    fn follow(&self, line: &str) -> String {
        self.shell(&format!("cd /tmp; {}", line.replacen("curl ", "curl --silent --show-error --fail ", 1)))
    }

    fn wait_for_state(&self, account: &str, state: &str) {
        wait_until(format!("{account} is {state}"), || {
            let list = self.call("check_client", &[&format!("client={account}")]);
            list["client"][0]["state"] == state
        });
    }

    /// Has the pages of the manual formatted by this machine's man, which must have nothing to complain of.
    fn read_the_manual(&self) {
        for (section, page) in
            [("8", "wqcontroller"), ("8", "wqclient"), ("5", "wqcontroller.toml"), ("7", "wqcontroller-api")]
        {
            // As lintian has it done.
            let man =
                "LC_ALL=C.UTF-8 MANWIDTH=80 man --warnings -E UTF-8 -Tutf8 -Z \"$1\" \"$0\" 2>&1 >/tmp/page";
            assert_eq!(self.run("sh", &["-euc", man, page, section]), "", "{page}");
            assert_eq!(self.run("test", &["-s", "/tmp/page"]), "");
        }
    }

    /// What there is of us: files, users, units and processes.
    fn traces(&self) -> String {
        // Not the folders of the machine that this one is made of, where this project may lie.
        let files = "find /etc /usr /var/lib /var/cache /var/spool /run /tmp /srv /opt /home \\( -name '*wqc*' -o -nouser -o \
                     -nogroup \\) -not -path /usr/libexec/wqcontroller-tests";
        let users = "getent passwd; getent group";
        let units = "systemctl list-units --all --no-legend --plain; systemctl list-unit-files --no-legend";
        self.shell(&format!(
            "{files}; ({users}; {units}; ps -e -o args) | grep '[w]qc' | grep -v -e 'find /etc' -e tests || true"
        ))
    }
}

/// From the installation to the last trace.
fn from_beginning_to_end(root: Option<PathBuf>) {
    let is_made_for_us = root.is_some();
    let Some(mut machine) = machine(root) else { return };
    assert_eq!(machine.traces(), "");
    machine.install(PACKAGE);
    for unit in [UNIT, "wqcontroller.socket", "wqcontroller-unix.socket"] {
        assert_eq!(machine.property(unit, "ActiveState"), "active", "{unit}");
        assert_eq!(machine.systemctl(&["is-enabled", unit]), "enabled", "{unit}");
    }
    assert_eq!(machine.property(UNIT, "User"), "wqcontroller");
    machine.wait_for_status("no clients; template units");
    if is_made_for_us {
        // The system that the tests run on may have no man, or, as a container's, be told to install no pages.
        machine.read_the_manual();
    }

    // Slow machines need more time.
    const SLOWER: &str = "/run/systemd/system/wqclient@.service.d";
    machine.write(
        &format!("{SLOWER}/50-test.conf"),
        "[Service]\nEnvironment=MOJO_WEBQQ_SANDBOX_LOGIN_TIME=20\n",
    );
    machine.systemctl(&["daemon-reload"]);
    let lines = curl_lines();
    assert_eq!(lines.len(), 6);
    let started = machine.follow(&lines[0]);
    assert!(started.contains("\"status\":\"success\""), "{started}");
    assert!(machine.follow(&lines[1]).contains(ACCOUNT));
    machine.wait_for_state(ACCOUNT, "scaning");
    machine.follow(&lines[2]);
    assert_eq!(machine.shell("head -c 4 /tmp/qrcode.png | tail -c 3"), "PNG");
    machine.wait_for_state(ACCOUNT, "running");
    assert!(machine.follow(&lines[3]).contains("10001"));
    assert!(machine.follow(&lines[4]).contains("发送成功"));
    machine.shell(&format!("rm -r {SLOWER}; systemctl daemon-reload"));

    // The same by the socket, for a group only.
    machine.shell("useradd --groups wqctl bot; useradd stranger");
    let call =
        "curl --silent --fail --unix-socket /run/wqcontroller.sock http://localhost/openqq/check_client";
    let by = |user: &str| machine.try_run("runuser", &["-u", user, "--", "sh", "-c", call]).status.success();
    assert!(by("bot") && !by("stranger"));

    // systemd, the journal and the API tell the same.
    assert_eq!(machine.property(CLIENT_UNIT, "ActiveState"), "active");
    let pid = machine.call("check_client", &[])["client"][0]["pid"].to_string();
    assert_eq!(machine.property(CLIENT_UNIT, "MainPID"), pid);
    let told = machine.journal(&[
        &format!("WQ_CLIENT={ACCOUNT}"),
        "--output=cat",
        "--output-fields=_SYSTEMD_UNIT,MESSAGE",
    ]);
    for (who, unit) in [("the controller", UNIT), ("the client", CLIENT_UNIT)] {
        assert!(told.contains(unit), "{who} says nothing: {told}");
    }
    machine.check_confinement(UNIT, CLIENT_UNIT);

    machine.reboot();
    assert_eq!(machine.property(UNIT, "ActiveState"), "active");
    machine.wait_for_state(ACCOUNT, "running");

    // One that an administrator stopped, and that is to stay so.
    machine.start_client("stopped", &[]);
    machine.systemctl(&["stop", "wqclient@stopped"]);
    machine.wait_for_client("stopped", "is held", |client| client["held"] == true);

    // What an administrator made is theirs, and what a client kept is there until the package is purged.
    machine.shell("echo limits.tasks_max = 400 >/etc/wqcontroller/wqcontroller.toml.d/50-local.toml");
    // A caller that goes on calling meanwhile starts nothing again.
    let calls = "until [ -e /tmp/removed ]; do \
                 curl --silent --output /dev/null http://127.0.0.1:4000/openqq/check_client; \
                 curl --silent --output /dev/null --unix-socket /run/wqcontroller.sock http://localhost/; done";
    let mut caller = machine.command("sh").args(["-c", calls]).spawn().unwrap();
    machine.run("apt-get", &["remove", "--yes", "--quiet", "wqcontroller"]);
    machine.shell(": >/tmp/removed");
    caller.wait().unwrap();
    assert_eq!(machine.shell("ps -e -o args | grep -c '[w]qc' || true"), "0");
    assert!(
        machine
            .try_run("test", &["-s", "/var/lib/wqcontroller/mojo_webqq_controller_backend.dat"])
            .status
            .success()
    );
    machine.install(PACKAGE);
    assert_eq!(machine.property(UNIT, "ActiveState"), "active");
    machine.wait_for_state(ACCOUNT, "running");
    assert_eq!(machine.client("stopped")["held"], true, "it is known, and waits");
    machine.call("stop_client", &["client=stopped"]);
    let stopped = machine.follow(&lines[5]);
    assert!(stopped.contains("\"status\":\"success\""), "{stopped}");

    machine.follow(&lines[0]);
    machine.shell("rm -r /etc/wqcontroller/wqcontroller.toml.d");
    machine.shell("userdel bot; userdel stranger");
    machine.follow(&token_line());
    // And what others have shared with it.
    machine.shell("install -m 640 -o nobody -g wqcontroller /dev/null /etc/wqcontroller/shared");
    // Changes must not go through it to the files of another user.
    machine
        .shell("touch /root/other && chown nobody /root/other && ln -s /root/other /etc/wqcontroller/link");
    machine.shell("chown -h wqcontroller:wqcontroller /etc/wqcontroller/link");
    machine.run("apt-get", &["purge", "--yes", "--quiet", "wqcontroller"]);
    // The next user with the same number must not get the token.
    for (file, who) in [
        ("/etc/wqcontroller/mybot.token", "root root 600"),
        ("/etc/wqcontroller/shared", "nobody root 640"),
        ("/etc/wqcontroller/link", "root root 777"),
        ("/root/other", "nobody root 644"),
    ] {
        assert_eq!(machine.run("stat", &["--format", "%U %G %a", file]), who, "{file}");
    }
    machine.shell("rm -r /etc/wqcontroller");
    assert_eq!(machine.traces(), "");
    machine.install(PACKAGE);
    assert_eq!(machine.property(UNIT, "ActiveState"), "active");
    assert_eq!(
        machine.call("check_client", &[])["client"].as_array().unwrap().len(),
        0,
        "its accounts are forgotten"
    );
}

#[test]
fn package_install_use_reboot_remove_purge_reinstall() {
    from_beginning_to_end(None);
}

#[test]
fn package_on_debian_13() {
    let Some(root) = std::env::var_os("WQCONTROLLER_DEBIAN_13") else {
        // It comes from a mirror, which can't be reached everywhere.
        say_not_run("WQCONTROLLER_DEBIAN_13 names no system; tests/run makes one with CI=true");
        return;
    };
    from_beginning_to_end(Some(root.into()));
}

#[test]
fn package_installs_without_running_bus() {
    let Some(machine) = machine(None) else { return };
    // As on a system to which the package brings it.
    machine.systemctl(&["stop", "dbus.socket", "dbus.service"]);
    machine.install(PACKAGE);
    assert_eq!(machine.property(UNIT, "ActiveState"), "active");
    machine.start_client("a", &[]);
    machine.wait_for_status("1 client: 1 running; template units");
}

#[test]
fn package_upgrade_drops_no_call() {
    let Some(package) = package() else { return };
    let folder = tempfile::tempdir().unwrap();
    let higher = higher(&package, folder.path());
    let Some(machine) = Plan::bare().bind(package, PACKAGE).bind(higher, HIGHER).boot() else { return };
    machine.install(PACKAGE);
    for account in ["a", "b", "c"] {
        machine.start_client(account, &[]);
        machine.wait_for_state(account, "running");
    }
    let seen = || -> Vec<String> {
        let units = ["wqclient@a.service", "wqclient@b.service", "wqclient@c.service"];
        let sockets = ["wqcontroller.socket", "wqcontroller-unix.socket"];
        let pids = units.map(|unit| machine.property(unit, "MainPID"));
        pids.into_iter().chain(sockets.map(|unit| machine.property(unit, "InvocationID"))).collect()
    };
    let (before, controller) = (seen(), machine.property(UNIT, "MainPID"));
    println!("{}", machine.run_test("package::inside_upgrade"));
    assert_eq!(seen(), before, "clients and sockets are what they were");
    assert_ne!(machine.property(UNIT, "MainPID"), controller, "the controller is the new one");
    let version = machine.run("dpkg-query", &["--show", "--showformat", "${Version}", "wqcontroller"]);
    assert_eq!(version, format!("{}+1", env!("CARGO_PKG_VERSION")));
    let log = machine.journal(&["--unit", UNIT]);
    assert!(log.contains("finishing open requests, clients keep running"), "{log}");
    machine.wait_for_status("3 clients: 3 running; template units");
}

#[test]
#[ignore = "runs inside of a machine"]
fn inside_upgrade() {
    assert_inside();
    let (stop, done) = (AtomicBool::new(false), AtomicUsize::new(0));
    let paths =
        ["check_client", "get_user_info?client=a", "get_user_info?client=b", "get_user_info?client=c"];
    let failures: Vec<String> = std::thread::scope(|scope| {
        let callers: Vec<_> = (0..32)
            .map(|n| {
                let (stop, done) = (&stop, &done);
                scope.spawn(move || call_again_and_again(paths[n % 4], n < 24, stop, done))
            })
            .collect();
        let stopping = Stopping(&stop);
        let more = || {
            let before = done.load(Ordering::Relaxed);
            wait_until("more was answered", || done.load(Ordering::Relaxed) > before + 500);
        };
        more();
        let upgrade = ["install", "--yes", "--quiet", HIGHER];
        let upgraded = Command::new("apt-get").args(upgrade).output().unwrap();
        more();
        drop(stopping);
        assert!(upgraded.status.success(), "{upgraded:?}");
        callers.into_iter().flat_map(|caller| caller.join().unwrap()).collect()
    });
    println!("{} requests", done.load(Ordering::Relaxed));
    let kinds: std::collections::BTreeSet<_> = failures.iter().collect();
    assert!(failures.is_empty(), "{} failed: {kinds:#?}", failures.len());
}

#[test]
fn configuration_error_shows_in_unit_status() {
    let Some(machine) = machine(None) else { return };
    machine.install(PACKAGE);
    machine.configure("max_client = 1\n");
    assert!(!machine.try_run("systemctl", &["restart", UNIT]).status.success());
    let told = machine.try_run("systemctl", &["status", "--no-pager", "--full", UNIT]).stdout;
    let told = String::from_utf8(told).unwrap();
    for words in [
        "status=78/CONFIG",
        "50-test.toml:1: unknown key `max_client` (did you mean `max_clients`?)",
        "man:wqcontroller(8)",
    ] {
        assert!(told.contains(words), "{words} is missing in {told}");
    }

    // Nor are clients something else in silence where they can't be units.
    machine.configure("");
    machine.shell("rm /usr/share/polkit-1/rules.d/50-wqcontroller.rules; systemctl restart polkit");
    // The next try would begin with a status of its own.
    machine.drop_in("[Service]\nRestart=no\n");
    assert!(!machine.try_run("systemctl", &["restart", UNIT]).status.success());
    let status = machine.property(UNIT, "StatusText");
    assert!(status.contains("clients can't be units, as mode = \"systemd\""), "{status}");

    machine.shell("rm -r /etc/systemd/system/wqcontroller.service.d; systemctl daemon-reload");
    // What failed is not told of for ever once the package is gone.
    machine.configure("max_client = 1\n");
    assert!(!machine.try_run("systemctl", &["restart", UNIT]).status.success());
    assert_eq!(machine.property(UNIT, "ActiveState"), "failed");
    // Nor what a move left, whose other end is no socket here.
    machine.shell(
        "cd /run/wqcontroller; mkdir -p move-client; : >move-client/a; systemctl start wqmove-client@a || true",
    );
    wait_until("a move fails", || machine.property("wqmove-client@a", "ActiveState") == "failed");
    machine.run("apt-get", &["purge", "--yes", "--quiet", "wqcontroller"]);
    machine.shell("rm -r /etc/wqcontroller");
    assert_eq!(machine.traces(), "");
}
