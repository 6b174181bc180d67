//! What one account takes from the machine, or puts where the controller reads it.

use super::{CURL, MALLORY, MALLORYS_FOLDER, Machine, Plan, TEMPLATE, UNIT, is_running, wait_until};

#[test]
fn fork_bomb_and_endless_output_are_bounded() {
    let Some(machine) = Machine::boot_with_mallory(Plan::new()) else { return };
    let pids = machine.pids();
    let usage = || -> u64 {
        machine.run("journalctl", &["--sync"]);
        machine.shell("du -sk /var/log/journal | cut -f1").parse().unwrap()
    };
    let before = usage();
    // Lines that can't be compressed: 256 MB of them, in place of 10 GiB.
    let flood = "head -c 256000000 /dev/urandom | base64 -w 4000 >&3";
    assert_eq!(machine.mallory(flood).status, 0);
    let grown = usage() - before;
    assert!(grown < 64 * 1024, "the journal grew by {grown} KiB");
    // journald says so with the first line that it takes again.
    wait_until("it is said what was left out", || {
        assert_eq!(machine.mallory("echo more >&3").status, 0);
        let journal = machine.journal(&[]);
        journal.lines().any(|line| line.contains("Suppressed") && line.contains("wqclient"))
    });
    machine.assert_unharmed(&pids);

    let limit: u64 = machine.property(MALLORY, "TasksMax").parse().unwrap();
    assert_eq!(limit, 512);
    // It stays as large as it can be.
    machine.begin(MALLORYS_FOLDER, "perl -e 'for (1..5000) { my $pid = fork; if (defined $pid && !$pid) { sleep 600; exit } } sleep 600'");
    wait_until("it is as large as it can be", || {
        machine.property(MALLORY, "TasksCurrent") == limit.to_string()
    });
    machine.assert_unharmed(&pids);
    assert_eq!(machine.call("stop_client", &["client=mallory"])["status"], "success");
    wait_until("nothing is left of it", || machine.property(MALLORY, "TasksCurrent") == "[not set]");
    machine.assert_unharmed(&pids);
}

#[test]
fn full_disk_of_one_account_stops_no_other() {
    let Some(machine) = Plan::new().boot() else { return };
    // What lasts, of all, on a small disk; /run is one by itself.
    machine.shell(
        "mkdir -p /mnt/small /var/lib/private /var/lib/wqcontroller; mount -t tmpfs -o size=16m tmpfs /mnt/small; \
         mkdir -m 700 /mnt/small/private; mkdir /mnt/small/wqcontroller; \
         mount --bind /mnt/small/private /var/lib/private; mount --bind /mnt/small/wqcontroller /var/lib/wqcontroller; \
         mount -o remount,size=48m /run",
    );
    machine.write("/etc/wqcontroller/template", TEMPLATE);
    machine.run("chmod", &["755", "/etc/wqcontroller/template"]);
    machine.configure("template_path = \"/etc/wqcontroller/template\"\n");
    machine.start_service();
    machine.start_client("good", &[]);
    machine.start_client("mallory", &[]);
    machine.wait_for_client("good", "runs", is_running);
    let pids = machine.pids();
    for (place, other) in [("STATE_DIRECTORY", "RUNTIME_DIRECTORY"), ("RUNTIME_DIRECTORY", "STATE_DIRECTORY")]
    {
        // In the background: where its own folder is full it can't even say that it has ended.
        let fill =
            format!("(head -c 100000000 /dev/zero >${place}/full) 2>${other}/said & echo ${place} ${other}");
        let places = machine.mallory(&fill).said;
        let (full, said) = places.split_once(' ').unwrap();
        wait_until(format!("{full} is full"), || {
            machine.shell(&format!("cat {said}/said")).contains("No space left")
        });
        machine.assert_unharmed(&pids);
        // What can't be written down is not begun, and that is said.
        let refused = machine.call("start_client", &["client=new"]);
        assert_ne!(refused["code"], 0, "{place}: {refused}");
        let reason = refused["reason"].as_str().unwrap_or_default();
        assert!(reason.contains("No space left"), "{place}: {refused}");
        machine.shell(&format!("rm {full}/full {said}/said"));
        machine.call("stop_client", &["client=new"]);
        machine.assert_unharmed(&pids);
    }
    machine.start_client("new", &[]);
}

#[test]
fn hostile_qrcode_and_state_files_harm_nobody() {
    let Some(machine) = Machine::boot_with_mallory(Plan::new()) else { return };
    let pids = machine.pids();
    machine.shell(
        "printf '\\211PNG\\r\\n\\032\\nsecret' >/etc/wqcontroller/secret.png; chmod 644 /etc/wqcontroller/secret.png",
    );
    let (qrcode, state) = ("mojo_webqq_qrcode_mallory.jpg", "mojo_webqq_state_mallory.json");
    let memory =
        || machine.shell(&format!("sed -n 's/^VmHWM:[^0-9]*\\([0-9]*\\).*/\\1/p' /proc/{}/status", pids[0]));
    let before: u64 = memory().parse().unwrap();
    for (what, make) in [
        (
            "1 GiB",
            "sparse() { truncate -s 1G \"$1\"; printf '\\211PNG\\r\\n\\032\\n' | dd of=\"$1\" conv=notrunc status=none; }; sparse",
        ),
        ("a pipe", "mkfifo"),
        ("a folder", "mkdir"),
        (
            "a socket",
            "perl -MIO::Socket::UNIX -e 'IO::Socket::UNIX->new(Local => $ARGV[0], Listen => 1) or die'",
        ),
        ("a link to a device", "link() { ln -s /dev/zero \"$1\"; }; link"),
        ("a link to a file of root", "link() { ln -s /etc/wqcontroller/secret.png \"$1\"; }; link"),
        (
            "a link to the registry",
            "link() { ln -s /var/lib/wqcontroller/mojo_webqq_controller_backend.dat \"$1\"; }; link",
        ),
        (
            "a link to the state of another",
            "link() { ln -s /run/wqclient/good/mojo_webqq_state_good.json \"$1\"; }; link",
        ),
        ("a link to itself", "link() { ln -s \"$1\" \"$1\"; }; link"),
    ] {
        for file in [qrcode, state] {
            let made = machine.mallory(&format!("rm -rf {file}; {make} {file}"));
            assert_eq!(made.status, 0, "{what}: {}", made.said);
        }
        let image =
            machine.shell(&format!("{CURL} 'http://127.0.0.1:4000/openqq/get_qrcode?client=mallory'"));
        assert_eq!(image.trim(), "404", "{what}");
        assert_eq!(machine.client("mallory")["state"], "init", "{what}");
        machine.assert_unharmed(&pids);
    }
    let grown = memory().parse::<u64>().unwrap() - before;
    assert!(grown < 64 * 1024, "the controller grew by {grown} KiB");
    let log = machine.journal(&["--unit", UNIT]);
    for said in ["larger than 1048576 bytes", "not a regular file"] {
        assert!(log.contains(said), "{said}");
    }
}
