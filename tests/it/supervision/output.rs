//! What clients print.

use std::io::Write;

use rustix::process::Signal;

use super::{group, pid, read_when_there, send, template};
use crate::fixture::{Builder, wait_until};

#[test]
fn output_is_logged_line_by_line() {
    let script = r"#!/bin/sh
printf 'out one\nout two\r\n\n   \n'
printf '<3>broken\n<4>odd\n<7>chatter\n<9>plain\n'
printf '\033[31mred\000\377 \346\230\216\n'
printf 'no end of line'
printf 'err one\nerr two' >&2
exit 3
";
    let controller = Builder::new().template(script).start();
    controller.start_client_with("a", "");
    let log = controller.log.wait_for("exited with status 3");
    let said = log.split("exited with").next().unwrap();
    for line in [
        "<6>a: out one\n",
        "<6>a: out two\n",
        "<3>a: broken\n",
        "<4>a: odd\n",
        "<6>a: <9>plain\n",
        "<6>a: \\u{1b}[31mred\\u{0}\u{fffd} 明\n",
        "<6>a: no end of line\n",
        "<6>a: err one\n",
        "<6>a: err two\n",
    ] {
        assert!(said.contains(line), "{line:?} is missing in:\n{log}");
    }
    assert!(!log.contains("chatter"), "that is not worth a line at this level");
}

#[test]
fn endless_output_line_is_cut() {
    let script = template("head -c 100000 /dev/zero | tr '\\0' '#'; echo; echo after");
    let controller = Builder::new().template(&script).start();
    controller.start_client("a");
    let log = controller.log.wait_for("a: after");
    assert_eq!(log.matches('#').count(), 100_000, "nothing of it is lost");
    assert!(log.lines().all(|line| line.len() < 9000));
}

#[test]
fn output_flood_is_limited() {
    let flood = "case \"$MOJO_WEBQQ_ACCOUNT\" in\n\
                 flood) seq 200000 & seq 200000 >&2; wait ;;\n\
                 endless) yes 'no end of it' & ;;\n\
                 esac";
    let controller = Builder::new().template(&template(flood)).start();
    controller.start_client("calm");
    controller.wait_for_listening("calm");
    controller.start_client("flood");
    // When it listens all of that is said.
    wait_until("the flood is over", || {
        assert_eq!(controller.get("/openqq/ping?client=calm").text(), "pong");
        assert_eq!(controller.start_client("other")["code"], 0);
        assert_eq!(controller.stop_client("other")["code"], 0);
        assert_eq!(controller.clients().len(), 2);
        controller.get("/openqq/ping?client=flood").status == 200
    });
    let endless = pid(&controller.start_client("endless"));
    controller.wait_for_listening("endless");
    assert_eq!(controller.get("/openqq/ping?client=calm").text(), "pong");
    assert_eq!(controller.stop_client("endless")["code"], 0);
    assert_eq!(group(endless).len(), 0);
    let status = std::fs::read_to_string(format!("/proc/{}/status", controller.pid())).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let peak: usize = peak.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(peak < 100 * 1024, "the controller took {peak} KiB");
}

#[test]
fn output_without_a_controller_is_logged_by_the_next() {
    let script = "(until test -e \"$MOJO_WEBQQ_TMPDIR/go\"; do sleep 0.05; done; echo '<4>while nobody read') &\n\
                  echo hello; printf 'half '";
    let outlive = "[supervisor]\nclients_outlive_controller = true\n";
    let mut controller = Builder::new().template(&template(script)).config(outlive).start();
    let leader = pid(&controller.start_client("a"));
    controller.log.wait_for("<6>a: hello\n");
    // Not before it is a whole line.
    controller.log.wait_for("<6>a: half \n");
    // A controller that is killed between the two leaves the line to be logged once more, rather than never.
    wait_until("what is logged is written down", || {
        let mark = std::fs::read_to_string(controller.path("mojo_webqq_output_a.log.read")).unwrap();
        mark.trim().parse::<usize>().unwrap() >= "hello\n".len()
    });
    controller.kill();
    std::fs::write(controller.path("go"), "").unwrap();
    let printed = |words: &str| {
        let output = std::fs::read_to_string(controller.path("mojo_webqq_output_a.log")).unwrap();
        output.contains(words)
    };
    wait_until("it has printed", || printed("while nobody read\n"));
    controller.start_again();
    let log = controller.log.wait_for("<4>a: while nobody read\n");
    assert!(log.contains("the following lines were printed while no controller was there"), "{log}");
    assert!(!log.contains("hello"), "what was logged is not logged again: {log}");
    // Its last words, though it ends while no controller runs.
    controller.end();
    let mut output = std::fs::OpenOptions::new();
    let mut output = output.append(true).open(controller.path("mojo_webqq_output_a.log")).unwrap();
    output.write_all(b"<3>farewell, with no end of line").unwrap();
    send(leader, Signal::KILL);
    wait_until("it is gone", || !super::is_running(leader));
    controller.start_again();
    controller.log.wait_for("<3>a: farewell, with no end of line\n");
    assert_eq!(controller.stop_client("a")["code"], 0);
}

#[test]
fn exit_is_seen_while_another_process_holds_the_output() {
    // In a session of its own it is not in the client's group.
    let escape = "setsid sh -c 'echo $$ >\"$MOJO_WEBQQ_TMPDIR/new\"; mv \"$MOJO_WEBQQ_TMPDIR/new\" \
                  \"$MOJO_WEBQQ_TMPDIR/escaped\"; exec sleep 3600' &";
    let controller = Builder::new().template(&template(escape)).start();
    controller.start_client("a");
    controller.wait_for_listening("a");
    let escaped = String::from_utf8(read_when_there(&controller.path("escaped"))).unwrap();
    let escaped: u32 = escaped.trim().parse().unwrap();
    assert_eq!(controller.get("/openqq/die?client=a").status, 502);
    controller.log.wait_for("exited with status 7");
    assert!(super::is_running(escaped));
    send(escaped, Signal::KILL);
}
