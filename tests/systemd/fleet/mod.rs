//! A door and other machines, on one network, with a real sshd and a real reverse proxy.

mod away;
mod closed;
mod door;
mod lines;
mod reach;
mod readme;
mod tls;
mod words;

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::machine::{Machine, Plan, not_run};
use crate::network::Network;
use crate::service::UNIT;

/// What the package has as examples for this.
const EXAMPLE: &str = "etc/ssh/sshd_config.d/50-wqcontroller-door.conf";

/// Machines on one network. The first is the door; the address of each ends with its place, from 1 on.
pub struct Fleet {
    names: Vec<&'static str>,
    machines: Vec<Machine>,
    network: Network,
}

/// The manual's commands for tokyo: at the machine itself and at the door, by turns.
pub fn commands() -> Vec<Vec<String>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("man/wqcontroller.8");
    let manual = std::fs::read_to_string(path).unwrap();
    let section = manual.split(".Ss Other machines\n").nth(1).unwrap().split(".Ss ").next().unwrap();
    let blocks = section.split(".Bd -literal -offset indent\n").skip(1);
    let lines = |block: &str| {
        let lines = block.split(".Ed\n").next().unwrap().lines();
        lines.map(|line| line.replace("\\e", "\\")).collect()
    };
    blocks.map(lines).collect()
}

impl Fleet {
    /// Boots a machine for each name, with the controller running on all of them. Where that can't be done, that is said and the test
    /// has to end.
    pub fn boot(names: &[&'static str]) -> Option<Self> {
        let network = Network::new()?;
        let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/examples/door").join(EXAMPLE);
        let installed = format!("/usr/share/doc/wqcontroller/examples/door/{EXAMPLE}");
        let boot = || Plan::new().install(&example, &installed, 0o644).boot();
        Self::of(network, names, boot)
    }

    /// The same of machines that `boot` boots, and on which a controller is installed already.
    pub fn of(
        network: Network,
        names: &[&'static str],
        boot: impl Fn() -> Option<Machine> + Sync,
    ) -> Option<Self> {
        // A boot waits more than it computes.
        let machines: Vec<_> = std::thread::scope(|scope| {
            let boots: Vec<_> = names.iter().map(|_| scope.spawn(&boot)).collect();
            boots.into_iter().map(|one| one.join().unwrap()).collect()
        });
        let machines = machines.into_iter().collect::<Option<Vec<_>>>()?;
        if !machines[0].try_run("test", &["-x", "/usr/sbin/sshd"]).status.success() {
            not_run("sshd is not installed (package openssh-server)");
            return None;
        }
        let fleet = Self { names: names.to_vec(), machines, network };
        for (place, machine) in fleet.machines.iter().enumerate() {
            fleet.plug(place);
            let hosts: String =
                names.iter().enumerate().map(|(n, name)| format!("10.4.0.{} {name}\n", n + 1)).collect();
            machine.shell(&format!(
                "printf '{hosts}' >>/etc/hosts; mkdir -p /etc/wqcontroller/wqcontroller.toml.d"
            ));
            // All of them are made of one system, with its keys.
            machine.shell(
                "rm -f /etc/ssh/ssh_host_*; ssh-keygen -q -t ed25519 -N '' -f /etc/ssh/ssh_host_ed25519_key; \
                 systemctl enable --quiet --now ssh",
            );
            let units = ["wqcontroller.socket", "wqcontroller-unix.socket", UNIT];
            machine.systemctl(&[&["enable", "--quiet", "--now"][..], &units].concat());
        }
        Some(fleet)
    }

    /// Two machines: the first is the door to the second, tokyo, as the manual makes it so.
    pub fn of_two() -> Option<Self> {
        let fleet = Self::boot(&["door", "tokyo"])?;
        fleet.follow_the_manual(0, 1);
        fleet.wait_until_reached(0, "tokyo");
        Some(fleet)
    }

    pub fn door(&self) -> &Machine {
        &self.machines[0]
    }

    pub fn machine(&self, place: usize) -> &Machine {
        &self.machines[place]
    }

    pub fn plug(&self, place: usize) {
        self.network.plug(&self.machines[place], u8::try_from(place + 1).unwrap());
    }

    pub fn cable(&self, place: usize, is_in: bool) {
        self.network.cable(&self.machines[place], is_in);
    }

    /// Does what the manual says, word for word, for the machine at this place and with one of them as its door.
    pub fn follow_the_manual(&self, door: usize, place: usize) {
        let (name, door, machine) = (self.names[place], &self.machines[door], &self.machines[place]);
        let [user, key, allow, connect] = <[Vec<String>; 4]>::try_from(commands()).unwrap();
        let lines = |lines: &[String]| lines.join("\n").replace("tokyo", name);
        // A second door comes as the same user.
        if !machine.try_run("id", &["wq"]).status.success() {
            machine.shell(&lines(&user));
        }
        if !door.try_run("test", &["-e", "/var/lib/wqcontroller/.ssh/id_ed25519"]).status.success() {
            door.shell(&lines(&key[..1]));
        }
        let key = door.shell(&key[1]);
        let before = machine.shell("cat /var/lib/wq/.ssh/authorized_keys 2>/dev/null || true");
        let printed = machine.shell(&lines(&allow).replace("KEY", &key));
        machine.shell(&format!("echo '{before}' >>/var/lib/wq/.ssh/authorized_keys"));
        let fingerprint = printed.split_whitespace().nth(1).unwrap();
        assert!(fingerprint.starts_with("SHA256:"), "{printed}");
        let [by_hand, rest @ ..] = &connect[..] else { panic!("{connect:?}") };
        let told = answer_yes(door, &by_hand.replace("tokyo", name));
        assert!(told.contains(fingerprint), "{told}");
        assert!(told.contains("This account is currently not available."), "{told}");
        // wqctl is not on these machines.
        let [configure, reload, list] = rest else { panic!("{rest:?}") };
        assert_eq!(list, "wqctl list");
        door.shell(&format!("{}\n{reload}", configure.replace("tokyo", name)));
    }

    /// Waits until a door says that it reaches a machine.
    pub fn wait_until_reached(&self, door: usize, name: &str) {
        self.machines[door].wait_for_log(&format!("{name}: its controller is reached"));
    }

    /// What the door shows of an account.
    pub fn shown(&self, account: &str) -> Value {
        self.door().client(account)
    }

    /// Prints what the door says of its machines.
    pub fn print_log(&self) {
        let log = self.door().journal(&["--unit", UNIT, "--output=short-precise", "--grep=reached"]);
        println!("---- what the door says of it\n{log}\n----");
    }

    /// Starts the accounts `one` and `two` on tokyo, and `near` at the door.
    fn start_three(&self) {
        for account in ["one", "two"] {
            self.door().start_client(account, &["machine=tokyo"]);
            self.wait_until_shown("runs", account, is_reachable_and_running);
        }
        self.door().start_client("near", &[]);
    }

    /// Waits until the door shows an account so, and prints how long that took.
    pub fn wait_until_shown(&self, what: &str, account: &str, is_so: impl Fn(&Value) -> bool) -> Duration {
        let began = Instant::now();
        self.door().wait_for_client(account, what, is_so);
        let took = began.elapsed();
        println!("{account}: {what} after {:.2} s", took.as_secs_f64());
        took
    }
}

/// A call at the door, whatever it answers: its status of HTTP and its body.
pub fn ask(machine: &Machine, path: &str) -> (u16, Value) {
    let url = format!("http://127.0.0.1:4000{path}");
    let printed = machine.run(
        "curl",
        &["--silent", "--show-error", "--max-time", "120", "--write-out", "\n%{http_code}", &url],
    );
    let (body, status) = printed.rsplit_once('\n').unwrap();
    (status.parse().unwrap(), serde_json::from_str(body).unwrap_or(Value::Null))
}

pub fn is_unreachable(account: &Value) -> bool {
    account["machine_state"] == "unreachable"
}

pub fn is_reachable_and_running(account: &Value) -> bool {
    account["machine_state"] != "unreachable" && account["state"] == "running"
}

/// Types a command of ssh at a terminal, and `yes` where it asks for the host: what it printed.
fn answer_yes(machine: &Machine, command: &str) -> String {
    let mut typing = machine.command("script");
    let mut typing = typing
        .args(["-qec", command, "/dev/null"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut printed = BufReader::new(typing.stdout.take().unwrap());
    let (mut told, mut keyboard) = (Vec::new(), typing.stdin.take().unwrap());
    while !String::from_utf8_lossy(&told).contains("(yes/no") {
        assert_ne!(printed.read_until(b'o', &mut told).unwrap(), 0, "{}", String::from_utf8_lossy(&told));
    }
    keyboard.write_all(b"yes\n").unwrap();
    printed.read_to_end(&mut told).unwrap();
    typing.wait().unwrap();
    String::from_utf8_lossy(&told).into_owned()
}
