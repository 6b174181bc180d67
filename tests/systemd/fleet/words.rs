//! What an operator reads when a machine can't be reached by ssh: one line each, which says what to do.

use super::Fleet;
use crate::service::UNIT;

/// What sshd refuses and what it fails at, it tells ssh in the same words.
const NOT_CONNECTED: &str =
    "sshd on tokyo does not connect the user wq to /run/wqcontroller.sock: start the controller there";

impl Fleet {
    /// Has the door connect anew, and waits until its log has one more line with these words.
    fn is_told(&self, words: &str) {
        let door = self.door();
        // A machine that did not let it in is tried again after half a minute; one that is new at once.
        let file = "/etc/wqcontroller/wqcontroller.toml.d/tokyo.toml";
        let count = || door.journal(&["--unit", UNIT]).matches(words).count();
        let before = count();
        door.shell(&format!(
            "mv {file} /root; systemctl reload wqcontroller; mv /root/tokyo.toml {file}; systemctl reload wqcontroller"
        ));
        crate::machine::wait_until(format!("the log says {words:?} once more"), || count() > before);
        let log = door.journal(&["--unit", UNIT, "--output=cat"]);
        let line = log.lines().rfind(|line| line.contains(words)).unwrap();
        println!("{line}");
        assert!(line.starts_with("tokyo: its controller can't be reached: "), "{line}");
    }
}

#[test]
fn each_refusal_of_ssh_is_a_line_that_says_what_to_do() {
    let Some(fleet) = Fleet::of_two() else { return };
    let (door, tokyo) = (fleet.door(), fleet.machine(1));
    let known = "/var/lib/wqcontroller/.ssh/known_hosts";
    let drop_in = "/etc/ssh/sshd_config.d/50-wqcontroller-door.conf";
    let sshd = |change: &str| tokyo.shell(&format!("{change}; sshd -t; systemctl restart ssh"));

    door.shell(&format!("mv {known} /root/known_hosts"));
    fleet.is_told("its host key is not known: run `ssh wq@tokyo` once as the user of this controller");
    assert!(!door.try_run("test", &["-e", known]).status.success(), "none was accepted");

    door.shell(&format!(
        "ssh-keygen -q -t ed25519 -N '' -f /root/other; (printf 'tokyo '; cut -d' ' -f1,2 /root/other.pub) >{known}; \
         chown wqcontroller {known}"
    ));
    fleet.is_told("tokyo shows another host key than the one that is known");
    door.shell(&format!("mv /root/known_hosts {known}"));

    let keys = "/var/lib/wq/.ssh/authorized_keys";
    tokyo.shell(&format!("mv {keys} /root/keys"));
    fleet.is_told("tokyo does not accept the key of this controller's user");
    tokyo.shell(&format!("sed 's/port-forwarding/no-pty/' /root/keys >{keys}; chown wq {keys}"));
    fleet.is_told(NOT_CONNECTED);
    tokyo.shell(&format!("cp -p /root/keys {keys}"));

    sshd(&format!(
        "cp {drop_in} /root/drop-in; sed -i 's/StreamLocalForwarding local/StreamLocalForwarding no/' {drop_in}"
    ));
    fleet.is_told(NOT_CONNECTED);
    sshd(&format!("sed 's/TcpForwarding local/TcpForwarding no/' /root/drop-in >{drop_in}"));
    fleet.is_told(NOT_CONNECTED);
    sshd(&format!("cp /root/drop-in {drop_in}"));

    tokyo.systemctl(&["stop", "wqcontroller.socket", "wqcontroller-unix.socket", UNIT]);
    fleet.is_told(NOT_CONNECTED);
    tokyo.shell("gpasswd --delete wq wqctl");
    tokyo.systemctl(&["start", "wqcontroller-unix.socket", UNIT]);
    fleet.is_told(NOT_CONNECTED);
    tokyo.shell("usermod --append --groups wqctl wq");

    tokyo.systemctl(&["stop", "ssh"]);
    fleet.is_told("ssh: connect to host tokyo port 22: Connection refused");
    tokyo.systemctl(&["start", "ssh"]);
    door.shell("sed -i /tokyo/d /etc/hosts");
    fleet.is_told("ssh: Could not resolve hostname tokyo");
    door.shell("echo 10.4.0.2 tokyo >>/etc/hosts");
    door.shell("mv /usr/bin/ssh /usr/bin/ssh-away");
    fleet.is_told("ssh is not installed (package openssh-client)");
    door.shell("mv /usr/bin/ssh-away /usr/bin/ssh");
    // The reason is mended, and nothing else is done.
    let reached = "tokyo: its controller is reached";
    crate::machine::wait_until("it is reached again", || {
        door.journal(&["--unit", UNIT]).matches(reached).count() > 1
    });
    let log = door.journal(&["--unit", UNIT, "--output=cat"]);
    println!("---- all that the door says\n{log}\n----");
}
