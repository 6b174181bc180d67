//! What [limits] does to units.

use crate::machine::{Machine, Plan};
use crate::service::UNIT;

const ALL: &str =
    "[limits]\nmemory_max = \"256M\"\nmemory_high = \"200M\"\ncpu_quota = \"150%\"\ntasks_max = 100\n";

/// What systemd says of the limits of a unit.
fn shown(machine: &Machine, unit: &str) -> [String; 4] {
    ["MemoryMax", "MemoryHigh", "CPUQuotaPerSecUSec", "TasksMax"].map(|name| machine.property(unit, name))
}

#[test]
fn limits_are_set_at_each_start() {
    // Where there is only cgroup v2 the kernel has a file for each of them.
    let Some(machine) = Plan::new().unified().boot() else { return };
    machine.configure(ALL);
    machine.start_service();
    machine.start_client("a", &[]);
    let all = [(256u32 << 20).to_string(), (200u32 << 20).to_string(), "1.500000s".into(), "100".into()];
    assert_eq!(shown(&machine, "wqclient@a"), all);
    // What an operator has set goes, too: the configuration wins.
    machine.systemctl(&["set-property", "--runtime", "wqclient@a", "MemoryHigh=1G", "CPUQuota=10%"]);
    machine.call("stop_client", &["client=a"]);
    machine.start_client("a", &[]);
    assert_eq!(shown(&machine, "wqclient@a"), all);

    machine.configure("");
    machine.systemctl(&["reload", UNIT]);
    machine.call("stop_client", &["client=a"]);
    machine.start_client("a", &[]);
    assert_eq!(shown(&machine, "wqclient@a"), ["infinity", "infinity", "infinity", "512"]);
}

#[test]
#[cfg(debug_assertions)]
fn unknown_limit_is_skipped_and_logged_once() {
    const TRANSIENT: &str = "[supervisor]\nmode = \"systemd\"\n[systemd]\nunit = \"transient\"\n";
    for (kind, prefix, user) in
        [("", "wqclient@", ""), (TRANSIENT, "wqclient-", "User=root\nGroup=wqclients\n")]
    {
        let Some(machine) = Machine::boot() else { return };
        machine.drop_in(&format!("[Service]\nEnvironment=WQCONTROLLER_TEST_PROPERTY=1\n{user}"));
        machine.configure(&format!("{kind}{ALL}"));
        machine.start_service();
        for name in ["a", "b", "c"] {
            machine.start_client(name, &[]);
            assert_eq!(machine.property(&format!("{prefix}{name}"), "TasksMax"), "100");
        }
        let words = "this version of systemd does not know NoSuchLimit; clients run without it";
        machine.wait_for_log(words);
        assert_eq!(machine.journal(&["--unit", UNIT]).matches(words).count(), 1, "{prefix}");
    }
}
