//! One account against another: the client `mallory` was taken over, and tries what a program in its unit can try. The
//! controller and the client `good` serve throughout.

mod harm;
mod implementation;

use serde_json::Value;

use crate::machine::{Machine, Plan, wait_until};
use crate::service::UNIT;
use crate::units::is_running;

const MALLORY: &str = "wqclient@mallory.service";
const MALLORYS_FOLDER: &str = "/run/wqclient/mallory";
const GOOD: &str = "wqclient@good.service";

/// The template. Mallory's client runs the scripts that it finds in its folder (their descriptor 3 is its journal), a client whose name begins with `mute` does
/// nothing at all, and all others are the built-in one.
const TEMPLATE: &str = r#"#!/bin/sh
case $MOJO_WEBQQ_ACCOUNT in
  mallory) ;;
  mute*) exec sleep infinity ;;
  *) exec /usr/sbin/wqcontroller client ;;
esac
cd "$RUNTIME_DIRECTORY"
while :; do
  for order in *.order; do
    [ -e "$order" ] || continue
    name=${order%.order}
    mv "$order" "$name.script"
    sh "$name.script" 3>&1 >"$name.out" 2>&1
    echo $? >"$name.new"
    mv "$name.new" "$name.status"
  done
  sleep 0.02
done
"#;

/// What came of a script of mallory's.
struct Tried {
    status: i32,
    said: String,
}

impl Tried {
    fn is_refused(&self) -> bool {
        self.status != 0
    }
}

/// Prints the status and the body of an answer.
const CURL: &str = "curl --silent --max-time 60 --write-out ' %{http_code}'";

impl Machine {
    fn boot_with_mallory(plan: Plan) -> Option<Self> {
        let machine = plan.boot()?;
        machine.write("/etc/wqcontroller/template", TEMPLATE);
        machine.run("chmod", &["755", "/etc/wqcontroller/template"]);
        machine.configure("template_path = \"/etc/wqcontroller/template\"\n");
        machine.start_service();
        machine.start_client("good", &["pwd=hunter2"]);
        machine.start_client("mallory", &[]);
        machine.wait_for_client("good", "runs", is_running);
        Some(machine)
    }

    /// Has mallory's client run a script, and waits for its end.
    fn mallory(&self, script: &str) -> Tried {
        self.taken_over(MALLORYS_FOLDER, script)
    }

    /// Has the process that runs the scripts of this folder run one, and waits for its end.
    fn taken_over(&self, folder: &str, script: &str) -> Tried {
        let path = self.begin(folder, script);
        let status = format!("{path}.status");
        wait_until(format!("it has run {script:?}"), || {
            self.try_run("test", &["-e", &status]).status.success()
        });
        let status = self.run("cat", &[&status]).parse().unwrap();
        Tried { status, said: self.run("cat", &[&format!("{path}.out")]) }
    }

    /// Has the process that runs the scripts of this folder run one: where what it says will be, but for the ending.
    fn begin(&self, folder: &str, script: &str) -> String {
        use std::sync::atomic::{AtomicU32, Ordering};
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let path = format!("{folder}/{}", COUNT.fetch_add(1, Ordering::Relaxed));
        self.write(&format!("{path}.new"), script);
        self.run("mv", &[&format!("{path}.new"), &format!("{path}.order")]);
        path
    }

    fn port(&self, name: &str) -> u64 {
        self.client(name)["port"].as_u64().unwrap()
    }

    /// Asserts that nothing happened to the others: the controller answers, and `good` is the same process and works.
    fn assert_unharmed(&self, pids: &[Value; 2]) {
        let good = self.client("good");
        assert_eq!([self.main_pid(UNIT), good["pid"].clone()], *pids, "{good}");
        let info = self.call("get_user_info", &["client=good"]);
        assert!(info["uid"].is_string() || info["uid"].is_number(), "{info}");
    }

    fn pids(&self) -> [Value; 2] {
        [self.main_pid(UNIT), self.main_pid(GOOD)]
    }
}

#[test]
fn other_account_is_refused_by_controller_and_clients() {
    let Some(machine) = Machine::boot_with_mallory(Plan::new()) else { return };
    let (pids, port) = (machine.pids(), machine.port("good"));
    let door = "http://127.0.0.1:4000/openqq";
    for url in [
        format!("{door}/check_client"),
        format!("{door}/start_client?client=new"),
        format!("{door}/stop_client?client=good"),
        format!("{door}/stop_client?client=mallory"),
        format!("{door}/get_user_info?client=good"),
        format!("http://127.0.0.1:{port}/openqq/get_user_info"),
        format!("http://127.0.0.1:{port}/openqq/stop_client"),
    ] {
        for from in ["", "--interface 127.0.0.9 "] {
            let tried = machine.mallory(&format!("{CURL} {from}'{url}'"));
            let expected = r#"{"code":403,"status":"the client of another account may not call here"} 403"#;
            assert_eq!(tried.said, expected, "{url} {from}");
        }
    }
    machine.wait_for_log("refused: it is from the client of another account, user wqc-mallory");
    machine.assert_unharmed(&pids);
    assert_eq!(machine.clients().len(), 2);
    let of_good = machine.journal(&["--unit", GOOD]);
    assert!(of_good.contains("it is from the client of another account, user wqc-mallory"), "{of_good}");

    // Everybody else is let in: root, other users, a bot of the operator's with a dynamic user, and each client by itself.
    let client = format!("http://127.0.0.1:{port}/openqq/get_user_info");
    for url in [format!("{door}/check_client"), client] {
        for caller in [
            "",
            "runuser -u nobody --",
            "systemd-run --quiet --wait --pipe -p DynamicUser=yes -p User=opbot --",
        ] {
            let answer = machine.shell(&format!("{caller} {CURL} '{url}'"));
            assert!(answer.ends_with(" 200"), "{caller} {url}: {answer}");
        }
    }
    // However often it calls, and though it holds what it has.
    let crowd = machine.mallory(
        "perl -MIO::Socket::INET -e 'for (1..1500) { push @all, IO::Socket::INET->new(PeerAddr => \"127.0.0.1:4000\") or die } sleep 600' \
         >/dev/null 2>&1 & sleep 0",
    );
    assert_eq!(crowd.status, 0);
    for _ in 0..50 {
        machine.assert_unharmed(&pids);
    }
    let own = machine.mallory("perl -MIO::Socket::INET -e 'print IO::Socket::INET->new(Listen => 1, LocalAddr => \"127.0.0.1\") ? 1 : 0'");
    assert_eq!(own.said, "1", "it can use sockets of its own");
}

#[test]
fn caller_that_closes_before_accept_is_refused() {
    let Some(machine) = Machine::boot_with_mallory(Plan::new()) else { return };
    let pids = machine.pids();
    for (unit, port, request) in [
        (UNIT, 4000, "GET /openqq/stop_client?client=good HTTP/1.1"),
        (GOOD, machine.port("good"), "GET /openqq/stop_client HTTP/1.1"),
    ] {
        let pid = machine.property(unit, "MainPID");
        machine.run("kill", &["-STOP", &pid]);
        let sent = machine.mallory(&format!(
            "bash -c \"exec 3<>/dev/tcp/127.0.0.1/{port}; printf '{request}\\r\\nHost: 127.0.0.1\\r\\n\\r\\n' >&3\""
        ));
        machine.run("kill", &["-CONT", &pid]);
        assert_eq!(sent.status, 0, "{}", sent.said);
        wait_until(format!("{unit} refuses it"), || {
            machine.journal(&["--unit", unit]).contains("refused: its user is unknown")
        });
    }
    machine.assert_unharmed(&pids);
}

#[test]
fn callers_are_identified_without_netlink_and_user_links() {
    let Some(machine) = Plan::new().boot() else { return };
    // systemd makes it for the first of them, and what is not there can't be denied.
    machine.run("mkdir", &["-p", "/run/systemd/dynamic-uid"]);
    for unit in ["wqclient@.service.d", "wqcontroller.service.d"] {
        machine.write(
            &format!("/etc/systemd/system/{unit}/50-test.conf"),
            "[Service]\nRestrictAddressFamilies=\nRestrictAddressFamilies=AF_UNIX AF_INET AF_INET6\n\
             InaccessiblePaths=/run/systemd/dynamic-uid\n",
        );
    }
    machine.systemctl(&["daemon-reload"]);
    machine.write("/etc/wqcontroller/template", TEMPLATE);
    machine.run("chmod", &["755", "/etc/wqcontroller/template"]);
    machine.configure("template_path = \"/etc/wqcontroller/template\"\nlog_level = \"debug\"\n");
    machine.start_service();
    machine.start_client("good", &[]);
    machine.start_client("mallory", &[]);
    machine.wait_for_client("good", "runs", is_running);
    machine.wait_for_log("/proc/net/tcp, because netlink cannot be used");
    let (pids, port) = (machine.pids(), machine.port("good"));
    for port in [4000, port] {
        let tried =
            machine.mallory(&format!("{CURL} http://127.0.0.1:{port}/openqq/stop_client?client=good"));
        assert!(tried.said.ends_with(" 403"), "{}", tried.said);
    }
    machine.assert_unharmed(&pids);
}

#[test]
fn unix_socket_refuses_other_account() {
    let Some(machine) = Plan::new().boot() else { return };
    machine
        .write("/etc/systemd/system/wqcontroller-unix.socket.d/50-test.conf", "[Socket]\nSocketMode=0666\n");
    machine.write("/etc/wqcontroller/template", TEMPLATE);
    machine.run("chmod", &["755", "/etc/wqcontroller/template"]);
    machine.configure("template_path = \"/etc/wqcontroller/template\"\n");
    machine.systemctl(&["daemon-reload"]);
    machine.systemctl(&["start", "wqcontroller-unix.socket", "wqcontroller.socket", UNIT]);
    machine.start_client("mallory", &[]);
    let call = format!("{CURL} --unix-socket /run/wqcontroller.sock http://localhost/openqq/check_client");
    assert!(machine.mallory(&call).said.ends_with(" 403"));
    assert!(machine.shell(&format!("runuser -u nobody -- {call}")).ends_with(" 200"));
}

#[test]
fn client_port_taken_by_other_account_is_not_proxied() {
    let Some(machine) = Machine::boot_with_mallory(Plan::new()) else { return };
    machine.start_client("mute", &[]);
    let port = machine.port("mute");
    // It answers everything, until it is ended with its unit.
    let server = format!(
        "perl -MIO::Socket::INET -e '$l = IO::Socket::INET->new(Listen => 9, LocalAddr => \"127.0.0.1:{port}\") or die; \
         while ($c = $l->accept) {{ sysread $c, $b, 9999; print $c \"HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\n\\r\\nxx\"; close $c }}' \
         </dev/null >/dev/null 2>&1 &"
    );
    assert_eq!(machine.mallory(&server).status, 0);
    wait_until("it listens", || {
        machine.shell("cat /proc/net/tcp").contains(&format!(":{port:04X} 00000000:0000 0A"))
    });
    let call = format!("{CURL} 'http://127.0.0.1:4000/openqq/get_user_info?client=mute'");
    let answer = machine.shell(&call);
    assert!(
        answer.contains("the client of another account, user wqc-mallory, listens at its port"),
        "{answer}"
    );
    assert!(answer.ends_with(" 502"), "{answer}");
    machine.wait_for_log("the client of another account, user wqc-mallory, listens at its port");
    // A client of its own answers as ever.
    machine.call("get_user_info", &["client=good"]);
}

#[test]
fn other_account_is_denied_bus_files_and_processes() {
    let Some(machine) = Machine::boot_with_mallory(Plan::new()) else { return };
    let pids = machine.pids();
    let good = &pids[1];
    let manager =
        "busctl call org.freedesktop.systemd1 /org/freedesktop/systemd1 org.freedesktop.systemd1.Manager";
    let path = "/org/freedesktop/systemd1/unit/wqclient_40good_2eservice";
    let attempts = [
        format!("{manager} StartUnit ss wqclient@new.service replace"),
        format!("{manager} StopUnit ss {GOOD} replace"),
        format!("{manager} StopUnit ss {MALLORY} replace"),
        format!("{manager} StopUnit ss {UNIT} replace"),
        format!("{manager} KillUnit ssi {GOOD} all 9"),
        format!("{manager} FreezeUnit s {GOOD}"),
        format!("{manager} SetUnitProperties 'sba(sv)' {MALLORY} true 1 TasksMax t 99999"),
        format!("{manager} SetUnitProperties 'sba(sv)' {GOOD} true 1 TasksMax t 1"),
        format!("{manager} StartTransientUnit 'ssa(sv)a(sa(sv))' x.service fail 1 User s root 0"),
        format!(
            "busctl call org.freedesktop.systemd1 {path} org.freedesktop.systemd1.Service BindMount ssbb /etc /mnt 0 0"
        ),
        format!("busctl call org.freedesktop.systemd1 {path} org.freedesktop.systemd1.Unit Stop s replace"),
        "systemctl daemon-reload".into(),
        // The registry, what systemd starts clients with, and what the others keep.
        "cat /var/lib/wqcontroller/* /var/lib/private/wqcontroller/*".into(),
        "ls /run/wqcontroller/launch".into(),
        "cat /run/wqcontroller/launch/good".into(),
        "ls /run/wqclient/good".into(),
        "ls /var/lib/private/wqclient/good".into(),
        "ls /var/lib/wqclient/good/".into(),
        "touch /etc/wqcontroller/wqcontroller.toml.d/99-mine.toml".into(),
        "touch /etc/wqcontroller/template".into(),
        "rm /run/wqclient-world/*".into(),
        "mknod \"$RUNTIME_DIRECTORY/disk\" b 254 0".into(),
        "mount --bind /etc /mnt".into(),
        "unshare --user true".into(),
        // What the others are.
        format!("cat /proc/{good}/environ"),
        format!("kill -STOP {good}"),
        format!("kill -9 {}", pids[0]),
        format!("ls /proc/{good}/root/"),
        "cat /etc/shadow".into(),
    ];
    for attempt in &attempts {
        let tried = machine.mallory(attempt);
        assert!(tried.is_refused(), "{attempt}: {}", tried.said);
    }
    // Not every bus takes dynamic users at all. One that does tells them what it tells all other users.
    for attempt in attempts.iter().filter(|attempt| attempt.starts_with("busctl")) {
        let tried = machine.try_run("runuser", &["-u", "nobody", "--", "sh", "-c", attempt]);
        assert!(!tried.status.success(), "{attempt}");
        let why = String::from_utf8_lossy(&tried.stderr);
        let denied = why.contains("authentication required") || why.contains("Access denied");
        assert!(denied, "{attempt}: {why}");
    }
    let seen = machine.shell(&format!("runuser -u nobody -- systemctl show {GOOD} {UNIT}"));
    assert!(seen.contains("wqclient@good") && !seen.contains("hunter2"), "{seen}");
    let world = machine.shell("ls -A /run/wqclient-world");
    assert!(!world.is_empty(), "the sockets of others are still there");
    machine.assert_unharmed(&pids);
}

#[test]
fn other_account_cannot_read_or_forge_journal() {
    let Some(machine) = Machine::boot_with_mallory(Plan::new()) else { return };
    let read = machine.mallory(
        "journalctl --no-pager --quiet; cat /var/log/journal/*/* /run/log/journal/*/* | head -c 100",
    );
    assert!(!read.said.contains("good") && !read.said.contains("LPKSHHRH"), "{}", read.said);
    machine.shell(&format!("journalctl --sync; journalctl --quiet --unit {GOOD} | grep -q ."));
    // By the native protocol it can say everything but the fields that begin with an underline. The journal looks who has
    // sent it, so it must live for a while.
    let entry = "MESSAGE=forged by mallory\\nPRIORITY=3\\nWQ_CLIENT=good\\nUNIT=wqclient\\@good.service\\n\
                 OBJECT_SYSTEMD_UNIT=wqclient\\@good.service\\n_SYSTEMD_UNIT=wqclient\\@good.service\\nSYSLOG_IDENTIFIER=wqcontroller\\n";
    let send = format!(
        "perl -MIO::Socket::UNIX -e '$s = IO::Socket::UNIX->new(Type => SOCK_DGRAM, Peer => \"/run/systemd/journal/socket\"); \
         $s->send(\"{entry}\") or die; sleep 600' >/dev/null 2>&1 &"
    );
    assert_eq!(machine.mallory(&send).status, 0);
    let of = |matches: &[&str]| machine.journal(&[matches, &["--output=export"]].concat());
    wait_until("it is there", || of(&["--unit", MALLORY]).contains("forged by mallory"));
    for trusted in [&["--unit", GOOD][..], &["--unit", UNIT], &["_SYSTEMD_UNIT=wqclient@good.service"]] {
        assert!(!of(trusted).contains("forged by mallory"), "{trusted:?}");
    }
    // Which is why the manual says that only the unit is to be trusted.
    let claimed = of(&["WQ_CLIENT=good"]);
    let entry = claimed.split("\n\n").find(|entry| entry.contains("forged by mallory")).unwrap();
    assert!(entry.contains("\n_SYSTEMD_UNIT=wqclient@mallory.service\n"), "{entry}");
}

#[test]
fn gate_covers_all_local_addresses_and_no_remote_ones() {
    let Some(machine) = Plan::new().boot() else { return };
    machine.configure(
        "listen = [\"0.0.0.0:4000\", \"[::]:4001\"]\n[auth]\nallow_unauthenticated = true\n[supervisor]\nmode = \"systemd\"\n",
    );
    machine.shell(
        "ip link set lo up; ip addr add 10.9.8.7/24 dev lo; ip addr add 10.9.8.9/24 dev lo; ip -6 addr add fd00::7/64 dev lo nodad; \
         ip netns add far; ip link add near type veth peer name far netns far; ip addr add 10.1.1.1/24 dev near; \
         ip link set near up; ip -n far addr add 10.1.1.2/24 dev far; ip -n far link set far up",
    );
    machine.start_service();
    let evil = "systemd-run --quiet --wait --pipe -p DynamicUser=yes -p User=wqc-mallory";
    for (from, to) in [
        ("10.9.8.7", "10.9.8.7:4000"),
        // A second address of one network, and addresses that only this machine can call from.
        ("10.9.8.9", "10.9.8.7:4000"),
        ("127.0.0.1", "10.9.8.9:4000"),
        ("10.1.1.1", "127.0.0.1:4000"),
        ("10.9.8.9", "10.9.8.9:4001"),
        ("127.0.0.3", "127.0.0.2:4001"),
        ("::1", "[::1]:4001"),
        ("fd00::7", "[fd00::7]:4001"),
        ("::1", "[fd00::7]:4001"),
    ] {
        let call = format!("{CURL} --interface {from} 'http://{to}/openqq/check_client'");
        let answer = machine.shell(&format!("{evil} {call}"));
        assert!(answer.ends_with(" 403"), "{from} to {to}: {answer}");
        let answer = machine.shell(&format!("runuser -u nobody -- {call}"));
        assert!(answer.ends_with(" 200"), "{from} to {to}: {answer}");
    }
    for port in [4000, 4001] {
        let call = format!("ip netns exec far {CURL} http://10.1.1.1:{port}/openqq/check_client");
        assert!(machine.shell(&call).ends_with(" 200"));
    }
}
