//! What a taken-over implementation tells systemd and the journal, what it takes of the machine, and that it ends nevertheless.

use super::{EVIL, FOLDER, Machine, UNIT, wait_until};

/// Sends a message to a socket of systemd or of the journal. They look who has sent it, so the sender lives for a while. A shell has
/// what it starts in the background ignore SIGINT, and systemd would wait for it.
fn send(socket: &str, message: &str) -> String {
    format!(
        "perl -MIO::Socket::UNIX -e '$SIG{{INT}} = \"DEFAULT\"; \
         $s = IO::Socket::UNIX->new(Type => SOCK_DGRAM, Peer => \"{socket}\") or die; \
         $s->send(\"{message}\") or die; sleep 600' </dev/null >/dev/null 2>&1 3>&- &"
    )
}

const NOTIFY: &str = "/run/systemd/notify";

impl Machine {
    /// Has the implementation of `evil` end by a script, for the `exits`th time. Returns what is logged of that when it runs again.
    fn end_of_evil(&self, exits: usize, script: &str) -> String {
        self.begin(FOLDER, script);
        let mut said = None;
        wait_until("it is known why it ended", || {
            let log = self.journal(&["--unit", UNIT, "--output=cat", "--all"]);
            let mut ends =
                log.lines().filter(|line| line.contains("evil: own: ") && line.contains("status 3"));
            said = ends.nth(exits - 1).map(str::to_owned);
            said.is_some()
        });
        wait_until("it is there again", || {
            let found = self.implementation("evil");
            found["exits"] == exits && found["phase"] == "up"
        });
        said.unwrap()
    }
}

#[test]
fn lies_to_systemd_and_journal_change_nothing_for_others() {
    let Some(machine) = Machine::boot_with_evil() else { return };
    let pids = machine.good_pids();
    let own = machine.implementation("evil")["pid"].clone();

    // Its unit lets it speak. It is one message, so systemd has read all of it where it has read the status.
    let lie = format!(
        "MAINPID={}\\nREADY=1\\nFDSTORE=1\\nWATCHDOG_USEC=99999999\\nSTATUS=\\033[2Jall is well\\033]0;x\\007\\n",
        pids[2]
    );
    assert_eq!(machine.evil(&send(NOTIFY, &lie)).status, 0);
    wait_until("systemd has read it", || machine.property(EVIL, "StatusText").contains("all is well"));
    assert_eq!(machine.main_pid(EVIL), own);
    assert_eq!(machine.implementation("evil")["pid"], own);
    for state in ["RELOADING=1", "STOPPING=1"] {
        assert_eq!(machine.evil(&send(NOTIFY, &format!("{state}\\nSTATUS={state}"))).status, 0);
        wait_until("systemd has read it", || machine.property(EVIL, "StatusText") == state);
        let shown = machine.implementation("evil");
        assert_eq!((&shown["phase"], &shown["pid"]), (&"up".into(), &own), "{state}: {shown}");
    }

    // By the native protocol it can say everything but the fields that begin with an underline.
    let entry = "MESSAGE=forged by evil\\nPRIORITY=3\\nWQ_CLIENT=good\\nUNIT=wqimpl\\@good.service\\n\
                 OBJECT_SYSTEMD_UNIT=wqimpl\\@good.service\\n_SYSTEMD_UNIT=wqimpl\\@good.service\\nSYSLOG_IDENTIFIER=wqcontroller\\n";
    assert_eq!(machine.evil(&send("/run/systemd/journal/socket", entry)).status, 0);
    wait_until("it is there", || machine.journal(&["--unit", EVIL]).contains("forged by evil"));
    for trusted in ["wqimpl@good", "wqclient@good", UNIT] {
        assert!(!machine.journal(&["--unit", trusted]).contains("forged by evil"), "{trusted}");
    }

    // Its last line becomes the reason of its exit: here one of five megabytes, with what a terminal obeys and a line of another's.
    let last = "(printf '\\033[2J\\033]0;x\\007<1>good: ended by signal 9\\r'; head -c 5000000 /dev/zero | tr '\\0' x) >&3; touch end";
    let reason = machine.end_of_evil(1, last);
    assert!(reason.contains("xxx…") && reason.len() <= 700, "{reason}");
    // And what it says to systemd itself, where it has printed nothing.
    assert_eq!(machine.evil(&send(NOTIFY, "STATUS=\\033[2Jnothing \\342\\200\\256happened\\007")).status, 0);
    wait_until("systemd has read it", || machine.property(EVIL, "StatusText").contains("happened"));
    let reason = machine.end_of_evil(2, "touch end");
    assert!(reason.contains("happened") && !reason.contains(char::is_control), "{reason}");
    let log = machine.journal(&["--unit", UNIT, "--output=cat", "--all"]);
    assert!(log.contains("happened") && !log.contains('\u{1b}') && !log.contains('\u{7}'), "{log}");
    machine.assert_good(&pids);
}

#[test]
fn greedy_implementation_is_bounded_and_ends_with_all_of_its_processes() {
    let Some(machine) = Machine::boot_with_evil() else { return };
    let pids = machine.good_pids();
    // Lines that can't be compressed, through the relay.
    let flood = "head -c 100000000 /dev/urandom | base64 -w 4000 >&3";
    let usage = || -> u64 {
        machine.run("journalctl", &["--sync"]);
        machine.shell("du -sk /var/log/journal | cut -f1").parse().unwrap()
    };
    let before = usage();
    assert_eq!(machine.evil(flood).status, 0);
    let grown = usage() - before;
    println!("the journal grew by {grown} KiB");
    assert!(grown < 64 * 1024, "the journal grew by {grown} KiB");
    machine.assert_good(&pids);

    // Its folder in memory is full, and so is that of all others: what can't be written down is not begun.
    machine.shell("mount -o remount,size=48m /run");
    machine.begin(FOLDER, "head -c 100000000 /dev/zero >full 2>\"$STATE_DIRECTORY/said\"; rm full");
    wait_until("it is full", || {
        machine.shell("cat /var/lib/private/wqimpl/evil/said 2>/dev/null || :").contains("No space left")
    });
    machine.assert_good(&pids);

    // It stays as large as it can be, hears no signal, and has processes in sessions of their own.
    let limit = machine.property(EVIL, "TasksMax");
    assert_eq!(limit, "512");
    machine.begin(
        FOLDER,
        "perl -MPOSIX -MIO::Socket::UNIX -e '$SIG{$_} = \"IGNORE\" for qw(INT TERM HUP QUIT PIPE); \
         $s = IO::Socket::UNIX->new(Type => SOCK_DGRAM, Peer => \"/run/systemd/notify\"); \
         if (!fork) { while (1) { $s->send(\"EXTEND_TIMEOUT_USEC=600000000\\nWATCHDOG=1\"); select undef, undef, undef, 0.1 } } \
         for (1..5000) { my $pid = fork; if (defined $pid && !$pid) { setsid; fork and exit; sleep 600; exit } } sleep 600'",
    );
    wait_until("it is as large as it can be", || machine.property(EVIL, "TasksCurrent") == limit);
    machine.assert_good(&pids);
    let uid = machine.run("stat", &["--format=%u", &format!("/proc/{}", machine.main_pid(EVIL))]);
    assert_eq!(machine.call("stop_client", &["client=evil"])["status"], "success");
    assert_eq!(machine.property(EVIL, "ActiveState"), "inactive");
    assert!(!machine.try_run("pgrep", &["--uid", uid.trim()]).status.success(), "something is left of it");
    machine.assert_good(&pids);
    machine.start_client("evil", &["implementation=own", "uin=10002"]);
}
