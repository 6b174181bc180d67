//! What the user that a door comes as can do on the other machine: reach the controller's socket, and nothing else.

use std::process::Output;

use super::Fleet;
use crate::machine::Machine;

/// What ssh of the door's user does with these arguments.
fn ssh(door: &Machine, arguments: &str) -> Output {
    let command = format!("exec timeout 60 runuser -u wqcontroller -- ssh -o BatchMode=yes {arguments}");
    door.try_run("sh", &["-c", &command])
}

/// Forwards `/tmp/through` of the door by this option, and asks there with HTTP: what is answered, and what ssh says.
fn through(door: &Machine, option: &str, url: &str) -> (String, String) {
    let script = format!(
        "rm -f /tmp/through /tmp/said; cd /tmp
         runuser -u wqcontroller -- ssh -o BatchMode=yes -o ExitOnForwardFailure=yes -E /tmp/said -N {option} wq@tokyo &
         pid=$!
         trap 'kill $pid' EXIT
         until [ -S /tmp/through ] || ! kill -0 $pid 2>/dev/null; do sleep 0.1; done
         curl --silent --max-time 60 {url} || true"
    );
    let answer = String::from_utf8_lossy(&door.try_run("sh", &["-c", &script]).stdout).into_owned();
    (answer, door.shell("cat /tmp/said"))
}

/// Asks a socket of the other machine through a forward.
fn socket_there(door: &Machine, socket: &str) -> (String, String) {
    through(
        door,
        &format!("-L /tmp/through:{socket}"),
        "--unix-socket /tmp/through http://localhost/v1/machine",
    )
}

#[test]
fn user_of_door_reaches_socket_of_controller_and_nothing_else() {
    let Some(fleet) = Fleet::of_two() else { return };
    let (door, tokyo) = (fleet.door(), fleet.machine(1));
    let (answer, said) = socket_there(door, "/run/wqcontroller.sock");
    assert!(answer.contains("free_memory"), "{answer} {said}");

    // The same by its own group: a socket that all may open, one of its own manager of systemd, which would start programs for it, and
    // the system bus. The first shows that it is not the socket that refuses.
    tokyo.write(
        "/etc/systemd/system/open.socket",
        "[Socket]\nListenStream=/run/open.sock\nSocketMode=0666\nAccept=yes\n",
    );
    tokyo.write(
        "/etc/systemd/system/open@.service",
        "[Service]\nExecStart=/bin/sh /etc/answer\nStandardInput=socket\nStandardOutput=socket\n",
    );
    let answer = r"read -r line; while [ ${#line} -gt 1 ]; do read -r line; done; printf 'HTTP/1.0 200 OK\r\n\r\nopen to all'";
    tokyo.write("/etc/answer", answer);
    tokyo.shell("systemctl daemon-reload; systemctl start open.socket");
    let call = "curl --silent --unix-socket /run/open.sock http://localhost/";
    assert_eq!(tokyo.shell(&format!("runuser -u wq -- {call}")), "open to all");
    let own = tokyo.shell("echo /run/user/$(id -u wq)/systemd/private");
    for socket in ["/run/open.sock", &own, "/run/dbus/system_bus_socket"] {
        let (answer, said) = socket_there(door, socket);
        assert_eq!(answer, "", "{socket}");
        assert!(said.contains("open failed"), "{socket}: {said}");
        tokyo.wait_for_words(&format!(
            "Received request to connect to path {socket}, but the request was denied"
        ));
    }

    // A program of its own choice, a shell, a terminal, and files by either protocol.
    for command in ["wq@tokyo id", "wq@tokyo sh -c id", "-tt wq@tokyo", "wq@tokyo"] {
        let output = ssh(door, command);
        let printed = String::from_utf8_lossy(&output.stdout);
        assert!(!output.status.success() && !printed.contains("uid="), "{command}: {output:?}");
    }
    let files = "cd /tmp; echo x >x; chmod 644 x";
    let copy = |way: &str| {
        let command = format!(
            "{files}; timeout 60 runuser -u wqcontroller -- scp {way} -o BatchMode=yes x wq@tokyo:/tmp/copied"
        );
        assert!(!door.try_run("sh", &["-c", &command]).status.success(), "{way}");
        assert!(!tokyo.try_run("test", &["-e", "/tmp/copied"]).status.success(), "{way}");
    };
    copy("-s");
    copy("-O");

    // A TCP port of the machine, in either direction, and a socket of the door from there.
    let to = "127.0.0.1:4000";
    tokyo.run("curl", &["--silent", "--fail", &format!("http://{to}/openqq/check_client")]);
    let (answer, said) =
        through(door, &format!("-L /tmp/through:{to}"), "--unix-socket /tmp/through http://localhost/");
    assert_eq!(answer, "", "{said}");
    assert!(said.contains("open failed"), "{said}");
    assert!(!ssh(door, &format!("-W {to} wq@tokyo")).status.success());
    for remote in ["-R 5000:127.0.0.1:4000", "-R /tmp/back:/run/wqcontroller.sock", "-R 5000"] {
        let output = ssh(door, &format!("-N -o ExitOnForwardFailure=yes {remote} wq@tokyo"));
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains("remote port forwarding failed"), "{remote}: {said}");
    }

    // All others log in as before.
    let root = tokyo.run("sshd", &["-T", "-C", "user=root,host=door,addr=10.4.0.1"]);
    assert!(root.contains("allowtcpforwarding yes") && root.contains("forcecommand none"), "{root}");
}

impl Machine {
    /// Waits until the journal has these words.
    pub fn wait_for_words(&self, words: &str) {
        crate::machine::wait_until(format!("the journal says {words:?}"), || {
            self.journal(&[]).contains(words)
        });
    }
}
