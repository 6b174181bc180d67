//! What an account uses, from the cgroups of its units.

use serde_json::Value;

use crate::machine::{Machine, wait_until};

#[test]
fn usage_of_an_account_is_that_of_both_units() {
    let Some(machine) = Machine::boot() else { return };
    // 32 MiB, and a second of a processor.
    let script = "data=$(head -c 33554432 /dev/zero | tr '\\0' x); timeout 1 sh -c 'while :; do :; done'; echo done; sleep 3600; echo $data\n";
    machine.write("/opt/own.sh", script);
    machine.configure(
        "[implementations.own]\nkind = 'command'\ncommand = '/bin/sh /opt/own.sh {port}'\nurl = 'ws://127.0.0.1:{port}/'\n",
    );
    machine.start_service();
    machine.start_client("a", &["implementation=own", "uin=10001"]);
    let get = |path: &str| -> Value { serde_json::from_str(&machine.v1("GET", path).1).unwrap() };
    assert_eq!(get("clients/a")["limits"]["tasks_max"], 512);
    let mut usage = Value::Null;
    wait_until("its implementation has used a second", || {
        usage = get("clients/a")["usage"].clone();
        usage["cpu"].as_f64().is_some_and(|seconds| seconds > 0.5)
    });
    let memory = usage["memory"].as_u64().unwrap();
    assert!((32 << 20..1 << 30).contains(&memory), "{usage}");
    assert!(usage["cpu"].as_f64().unwrap() < 60.0 && usage["at"].as_u64() > Some(1_700_000_000), "{usage}");
    wait_until("it is in the list", || !get("clients")["accounts"][0]["usage"].is_null());
    assert_eq!(machine.v1("POST", "clients/a/stop").0, "200");
    assert!(get("clients/a")["usage"].is_null() && get("clients")["accounts"][0]["usage"].is_null());
}
