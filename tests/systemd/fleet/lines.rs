//! Bad lines between a door and a machine: slow ones, and those that lose packets.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use super::{Fleet, ask, is_reachable_and_running};
use crate::machine::{Machine, TESTS, assert_inside, say_not_run, wait_until};
use crate::service::UNIT;

/// By how much the relay delays what goes through it, in each direction.
const DELAY: Duration = Duration::from_millis(300);

/// What the relay listens on, at the door.
const RELAY: &str = "127.0.0.1:2200";

/// Copies what comes, each piece after the delay. It is sent in time however much there is before it.
fn copy_late(mut from: TcpStream, mut to: TcpStream) {
    let (late, due) = mpsc::sync_channel::<(Instant, Vec<u8>)>(4096);
    let sending = std::thread::spawn(move || {
        for (when, piece) in due {
            std::thread::sleep(when.saturating_duration_since(Instant::now()));
            if to.write_all(&piece).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Write);
    });
    let mut piece = vec![0; 16 * 1024];
    while let Ok(length @ 1..) = from.read(&mut piece) {
        if late.send((Instant::now() + DELAY, piece[..length].to_vec())).is_err() {
            break;
        }
    }
    drop(late);
    sending.join().unwrap();
}

#[test]
#[ignore = "runs inside of a machine"]
fn inside_relay_is_slow() {
    assert_inside();
    for stream in TcpListener::bind(RELAY).unwrap().incoming() {
        let near = stream.unwrap();
        let Ok(far) = TcpStream::connect(("tokyo", 22)) else { continue };
        let (back, forth) = (near.try_clone().unwrap(), far.try_clone().unwrap());
        std::thread::spawn(move || copy_late(near, far));
        std::thread::spawn(move || copy_late(forth, back));
    }
}

/// Sends what the door has to say to tokyo through the relay from now on.
fn make_slow(door: &Machine) {
    let unit = "systemd-run --quiet --unit=relay --setenv=WQ_MACHINE=door";
    door.shell(&format!(
        "{unit} {TESTS} --exact fleet::lines::inside_relay_is_slow --ignored --test-threads=1"
    ));
    wait_until("the relay listens", || {
        let connect = format!("exec 3<>/dev/tcp/{}", RELAY.replace(':', "/"));
        door.try_run("bash", &["-c", &connect]).status.success()
    });
    // As an operator names another port and another name for the known host: in the configuration of ssh.
    door.write(
        "/var/lib/wqcontroller/.ssh/config",
        "Host tokyo\n  HostName 127.0.0.1\n  Port 2200\n  HostKeyAlias tokyo\n  CheckHostIP no\n",
    );
    door.shell("chown wqcontroller /var/lib/wqcontroller/.ssh/config");
    let count = || door.journal(&["--unit", UNIT]).matches("tokyo: its controller is reached").count();
    let before = count();
    door.systemctl(&["restart", UNIT]);
    wait_until("it is reached through the relay", || count() > before);
}

#[test]
fn machine_behind_slow_line_is_used_as_any() {
    let Some(fleet) = Fleet::of_two() else { return };
    let door = fleet.door();
    door.start_client("far", &["machine=tokyo"]);
    fleet.wait_until_shown("runs", "far", is_reachable_and_running);
    make_slow(door);
    // One call there and back, at the least; and many at once wait no longer, for none waits for another one.
    let asked = Instant::now();
    assert_eq!(ask(door, "/openqq/get_user_info?client=far").0, 200);
    let took = asked.elapsed();
    println!("one call through a line of {DELAY:?} each way: {:.2} s", took.as_secs_f64());
    assert!(took >= 2 * DELAY, "it did not go through the relay");
    let many = "for n in $(seq 50); do \
                curl --silent --output /dev/null --write-out '%{http_code}\\n' \
                'http://127.0.0.1:4000/openqq/get_user_info?client=far' & done; wait";
    let asked = Instant::now();
    let answers = door.shell(many);
    println!("50 calls at once: {:.2} s", asked.elapsed().as_secs_f64());
    assert_eq!(answers.lines().filter(|line| *line == "200").count(), 50, "{answers}");
    // The list needs no question there.
    let asked = Instant::now();
    assert!(is_reachable_and_running(&fleet.shown("far")));
    println!("the list: {:.2} s", asked.elapsed().as_secs_f64());
    door.call("stop_client", &["client=far"]);
    super::reach::call_everything(&fleet, None);
    // All the while it was never lost.
    let log = door.journal(&["--unit", UNIT, "--output=cat"]);
    assert_eq!(log.matches("its controller can't be reached").count(), 0, "{log}");
}

#[test]
fn machine_behind_lossy_line_is_used_as_any() {
    let Some(fleet) = Fleet::of_two() else { return };
    let (door, tokyo) = (fleet.door(), fleet.machine(1));
    // Each of them may be missing in the kernel; both are forgotten with the machine.
    let ways = [
        "tc qdisc add dev eth0 root netem loss 10%",
        "nft add table ip lossy; nft add chain ip lossy in '{ type filter hook input priority 0; }'; \
         nft add rule ip lossy in iif eth0 numgen random mod 10 0 drop",
        "iptables -A INPUT -i eth0 -m statistic --mode random --probability 0.1 -j DROP",
    ];
    let lose = |machine: &Machine| {
        ways.iter().find(|way| machine.try_run("sh", &["-ec", way]).status.success()).copied()
    };
    let (Some(way), Some(_)) = (lose(tokyo), lose(door)) else {
        // A matter of the kernel that the tests run on, which has to be said and is no mistake.
        return say_not_run(
            "this kernel loses no packets on demand (neither netem nor nftables nor iptables)",
        );
    };
    println!("packets are lost by: {way}");
    super::reach::call_everything(&fleet, None);
}
