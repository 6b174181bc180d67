//! An implementation that was taken over: it runs what an attacker wants, as the unit `wqimpl@evil`. The controller, the account
//! `good` and its implementation serve throughout.

mod lies;

use serde_json::Value;

use super::{CURL, Machine, Plan, Tried, UNIT, wait_until};

const EVIL: &str = "wqimpl@evil.service";
const FOLDER: &str = "/run/wqimpl/evil";

/// The program. That of `evil` runs the scripts that it finds in its folder (their descriptor 3 is its journal). That of `good`
/// shows a login code, and says at its socket that it waits for a scan.
const PROGRAM: &str = r#"#!/bin/sh
cd "$RUNTIME_DIRECTORY"
case $STATE_DIRECTORY in
  */evil) ;;
  *)
    printf '\211PNG\r\n\032\ncode of good' >temp/login-qrcode.png
    exec perl -MIO::Socket::UNIX -e '
      $l = IO::Socket::UNIX->new(Local => "login.socket", Listen => 9) or die; $SIG{PIPE} = "IGNORE";
      while ($c = $l->accept) { <$c>; print $c "{\"data\":{\"state\":\"need_qrcode\"}}\n"; close $c }' ;;
esac
while [ ! -e end ]; do
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
exit 3
"#;

impl Machine {
    fn boot_with_evil() -> Option<Self> {
        let machine = Plan::new().boot()?;
        machine.write(
            "/etc/systemd/system/wqcontroller-unix.socket.d/50-test.conf",
            "[Socket]\nSocketMode=0666\n",
        );
        machine.write("/opt/own/own.sh", PROGRAM);
        machine.write("/etc/wqcontroller/site.token", "site");
        machine.configure(
            "log_level = 'debug'\n[supervisor]\nstop_timeout = 2\n[implementations.own]\nkind = 'llbot'\n\
             program = '/opt/own/own.sh'\nscript = '/opt/own/own.js'\nauth_token_file = '/etc/wqcontroller/site.token'\n",
        );
        machine.shell(
            "chmod 755 /opt/own/own.sh; chown wqcontroller: /etc/wqcontroller/site.token; chmod 600 /etc/wqcontroller/site.token",
        );
        machine.systemctl(&["daemon-reload"]);
        machine.systemctl(&["start", "wqcontroller-unix.socket", "wqcontroller.socket", UNIT]);
        machine.start_client("good", &["implementation=own", "uin=10001", "pwd=hunter2"]);
        machine.start_client("evil", &["implementation=own", "uin=10002"]);
        wait_until("the code of good is shown", || machine.code("good").ends_with("code of good 200"));
        Some(machine)
    }

    /// Has the implementation of `evil` run a script, and waits for its end.
    fn evil(&self, script: &str) -> Tried {
        self.taken_over(FOLDER, script)
    }

    fn implementation(&self, name: &str) -> Value {
        self.client(name)["implementation"].clone()
    }

    fn implementation_port(&self, name: &str) -> u64 {
        self.implementation(name)["port"].as_u64().unwrap()
    }

    /// What `get_qrcode` answers, with the HTTP status behind it.
    fn code(&self, name: &str) -> String {
        let url = format!("http://127.0.0.1:4000/openqq/get_qrcode?client={name}");
        let answer = self.try_run("sh", &["-c", &format!("{CURL} '{url}'")]);
        String::from_utf8_lossy(&answer.stdout).into_owned()
    }

    /// The processes of the controller and of `good`.
    fn good_pids(&self) -> [Value; 3] {
        let good = self.client("good");
        [self.main_pid(UNIT), good["pid"].clone(), good["implementation"]["pid"].clone()]
    }

    /// Asserts that nothing happened to the others.
    fn assert_good(&self, pids: &[Value; 3]) {
        assert_eq!(self.good_pids(), *pids);
        assert!(self.code("good").ends_with("code of good 200"));
    }
}

#[test]
fn taken_over_implementation_is_refused_by_door_bus_files_and_processes() {
    let Some(machine) = Machine::boot_with_evil() else { return };
    let pids = machine.good_pids();
    let (own, good) = (machine.port("evil"), machine.port("good"));
    let door = "http://127.0.0.1:4000/openqq";
    let change = r#"--data '{"event":"put_out"}'"#;
    for call in [
        format!("'{door}/start_client?client=new'"),
        format!("'{door}/stop_client?client=good'"),
        format!("'{door}/relogin_client?client=good&forget=1'"),
        format!("'{door}/get_qrcode?client=good'"),
        format!("--unix-socket /run/wqcontroller.sock '{door}/stop_client?client=good'"),
        // Its own client as little as any other: it could end it, or have it post what is not so.
        format!("http://127.0.0.1:{own}/openqq/stop_client"),
        format!("{change} http://127.0.0.1:{own}/wqcontroller/login_change"),
        format!("{change} http://127.0.0.1:{good}/wqcontroller/login_change"),
        format!("--interface 127.0.0.9 http://127.0.0.1:{good}/openqq/stop_client"),
    ] {
        let tried = machine.evil(&format!("{CURL} {call}"));
        let expected = r#"{"code":403,"status":"the client of another account may not call here"} 403"#;
        assert_eq!(tried.said, expected, "{call}");
    }

    let manager =
        "busctl call org.freedesktop.systemd1 /org/freedesktop/systemd1 org.freedesktop.systemd1.Manager";
    let [controller, client, implementation] = &pids;
    let own_client = machine.client("evil")["pid"].clone();
    let attempts = [
        format!("{manager} StartUnit ss wqimpl@new.service replace"),
        format!("{manager} StopUnit ss wqimpl@good.service replace"),
        format!("{manager} StopUnit ss wqclient@evil.service replace"),
        format!("{manager} KillUnit ssi wqimpl@good.service all 9"),
        format!("{manager} SetUnitProperties 'sba(sv)' {EVIL} true 1 TasksMax t 99999"),
        format!("{manager} StartTransientUnit 'ssa(sv)a(sa(sv))' x.service fail 1 User s root 0"),
        "busctl call org.freedesktop.login1 /org/freedesktop/login1 org.freedesktop.login1.Manager PowerOff b false"
            .into(),
        // What it is started with, and what all others are.
        "cat /run/wqcontroller/launch-implementation/evil".into(),
        "ls /run/wqcontroller".into(),
        "cat /var/lib/wqcontroller/* /var/lib/private/wqcontroller/*".into(),
        "cat /etc/wqcontroller/site.token".into(),
        "touch /etc/wqcontroller/wqcontroller.toml.d/99-mine.toml".into(),
        "touch /opt/own/own.sh".into(),
        "cat /run/wqimpl/good/temp/login-qrcode.png".into(),
        "ls /var/lib/private/wqimpl/good".into(),
        "ls /var/lib/wqimpl/good/".into(),
        "ls /run/wqclient/evil".into(),
        "ls /var/lib/private/wqclient/evil".into(),
        format!("cat /proc/{implementation}/environ"),
        format!("ls /proc/{implementation}/root/"),
        format!("kill -9 {implementation}"),
        format!("kill -9 {client}"),
        format!("kill -9 {controller}"),
        format!("kill -9 {own_client}"),
    ];
    for attempt in &attempts {
        let tried = machine.evil(attempt);
        assert!(tried.is_refused(), "{attempt}: {}", tried.said);
    }
    // The launch file is gone with the launcher, and nothing of it is in the environment.
    let inherited =
        machine.evil("readlink /proc/$PPID/fd/0; tr '\\0' '\\n' </proc/$PPID/environ; ls /proc/$PPID/fd");
    assert!(inherited.said.starts_with("/dev/null\n"), "{}", inherited.said);
    for left in ["MOJO_WEBQQ", "NOTIFY_SOCKET", "TOKEN", "site"] {
        assert!(!inherited.said.contains(left), "{left}: {}", inherited.said);
    }
    machine.assert_good(&pids);
    assert_eq!(machine.clients().len(), 2);
    assert_eq!(machine.client("evil")["pid"], own_client);
}

/// Listens at a port, and notes all that comes there in a file. It runs until it is ended.
fn listener(port: u64, file: &str) -> String {
    format!(
        "perl -MIO::Socket::INET -e '$l = IO::Socket::INET->new(Listen => 9, LocalAddr => \"127.0.0.1:{port}\", ReuseAddr => 1) or die; \
         open F, \">>\", \"{file}\"; F->autoflush; print F \"listening\\n\"; \
         while ($c = $l->accept) {{ sysread $c, $b, 9999; print F $b; \
         print $c \"HTTP/1.1 200 OK\\r\\nContent-Length: 0\\r\\nConnection: close\\r\\n\\r\\n\"; close $c }}' \
         </dev/null >/dev/null 2>&1 3>&- & echo $! >{file}.pid\n"
    )
}

#[test]
fn port_of_absent_program_gives_other_account_no_token_and_no_report() {
    let Some(machine) = Machine::boot_with_evil() else { return };
    // Neither implementation serves an API, and nothing listens at the receiver's port yet.
    let (api, receiver) = (machine.implementation_port("good"), 7777);
    let token =
        machine.shell("grep -o '[0-9a-f]\\{64\\}' /var/lib/private/wqimpl/good/data/config_10001.json");
    assert_eq!(token.len(), 64, "{token}");
    for port in [api, receiver] {
        assert_eq!(machine.evil(&listener(port, &format!("{FOLDER}/{port}"))).status, 0);
        wait_until("it listens", || {
            machine.shell(&format!("cat {FOLDER}/{port} || :")).starts_with("listening")
        });
    }
    let url = format!("http://127.0.0.1:{receiver}/");
    machine.start_client("talker", &["backend=sandbox", &format!("post_api={url}")]);
    let why = "the client of another account, user wqi-evil, listens at its port";
    for unit in ["wqclient@good", "wqclient@talker"] {
        wait_until(format!("{unit} sees who listens there"), || {
            machine.journal(&["--unit", unit]).contains(why)
        });
    }
    let reason = machine.client("good")["reason"].clone();
    assert!(reason.as_str().is_some_and(|reason| reason.contains(why)), "{reason}");
    for port in [api, receiver] {
        assert_eq!(machine.run("cat", &[&format!("{FOLDER}/{port}")]), "listening", "{port}");
    }

    // Where root listens in its place both are shown what they are to have.
    for (port, expected) in [(api, format!("Bearer {token}")), (receiver, "state_change".into())] {
        machine.shell(&format!("kill $(cat {FOLDER}/{port}.pid); while [ -e /proc/$(cat {FOLDER}/{port}.pid) ]; do sleep 0.02; done"));
        let file = format!("/root/{port}");
        machine.shell(&listener(port, &file));
        wait_until(format!("what is for {port} has come"), || {
            machine.shell(&format!("cat {file} || :")).contains(&expected)
        });
        machine.shell(&format!("kill $(cat {file}.pid)"));
    }
}

#[test]
fn hostile_login_code_and_socket_of_implementation_show_nothing_of_others() {
    let Some(machine) = Machine::boot_with_evil() else { return };
    let pids = machine.good_pids();
    machine.shell("printf '\\211PNG\\r\\n\\032\\nsecret' >/etc/wqcontroller/login-qrcode.png");
    let answer = r#"perl -MIO::Socket::UNIX -e '
        $l = IO::Socket::UNIX->new(Local => "login.socket", Listen => 9) or die;
        while ($c = $l->accept) { <$c>; print $c "{\"data\":{\"state\":\"need_qrcode\"}}\n"; close $c }' </dev/null >/dev/null 2>&1 3>&- &
        echo $! >answer.pid"#;
    assert_eq!(machine.evil(answer).status, 0);
    wait_until("a code is expected of it", || machine.client("evil")["login"]["state"] == "code");
    let memory =
        || machine.shell(&format!("sed -n 's/^VmHWM:[^0-9]*\\([0-9]*\\).*/\\1/p' /proc/{}/status", pids[0]));
    let before: u64 = memory().parse().unwrap();
    let code = "temp/login-qrcode.png";
    for (what, make) in [
        (
            "1 GiB",
            format!(
                "truncate -s 1G {code}; printf '\\211PNG\\r\\n\\032\\n' | dd of={code} conv=notrunc status=none"
            ),
        ),
        ("a pipe", format!("mkfifo {code}")),
        ("a folder", format!("mkdir {code}")),
        ("a page", format!("echo '<script>' >{code}")),
        ("a link to a device", format!("ln -s /dev/zero {code}")),
        ("a link to a file of root", format!("ln -s /etc/wqcontroller/login-qrcode.png {code}")),
        ("a link to the code of another", format!("ln -s /run/wqimpl/good/temp/login-qrcode.png {code}")),
        ("a link to the folder of another", "rmdir temp; ln -s /run/wqimpl/good/temp temp".into()),
        ("a link to a folder of root", "rmdir temp; ln -s /etc/wqcontroller temp".into()),
    ] {
        let made = machine.evil(&format!("rm -rf temp; mkdir temp; {make}"));
        assert_eq!(made.status, 0, "{what}: {}", made.said);
        assert_eq!(machine.code("evil").trim(), "404", "{what}");
        machine.assert_good(&pids);
    }
    // The image is not decoded, so one that would be huge is only passed on.
    let bomb = "rm -rf temp; mkdir temp; printf '\\211PNG\\r\\n\\032\\n\\0\\0\\0\\015IHDR\\377\\377\\377\\377\\377\\377\\377\\377' >temp/login-qrcode.png";
    assert_eq!(machine.evil(bomb).status, 0);
    assert!(machine.code("evil").ends_with(" 200"));

    // A socket that is another program's is not spoken to, though the controller may connect to it and the implementation may not.
    let link = "kill $(cat answer.pid); rm login.socket; ln -s /run/wqimpl/good/login.socket login.socket";
    assert_eq!(machine.evil(link).status, 0);
    machine.wait_for_log(
        "no answer about a login: what has the name of its socket is none, but perhaps a link to one",
    );
    // Nor is an answer read that has no end, or that nests without end.
    let lies = r#"rm login.socket; perl -MIO::Socket::UNIX -e '
        $l = IO::Socket::UNIX->new(Local => "login.socket", Listen => 9) or die; $SIG{PIPE} = "IGNORE";
        while ($c = $l->accept) { <$c>; if ($n++ % 2) { print $c "[" x 900000 . "\n" } else { 1 while print $c "x" x 65536 } close $c }' </dev/null >/dev/null 2>&1 3>&- &"#;
    assert_eq!(machine.evil(lies).status, 0);
    machine.wait_for_log("no answer about a login: its answer is longer than 1048576 bytes, or broke off");
    machine.wait_for_log("no answer about a login: its answer is no JSON: recursion limit exceeded");
    assert_ne!(machine.client("evil")["login"]["state"], "online");
    let grown = memory().parse::<u64>().unwrap() - before;
    assert!(grown < 64 * 1024, "the controller grew by {grown} KiB");
    machine.assert_good(&pids);
}
