//! What our processes take beside an implementation that is a unit, on a machine of its own with systemd.

use std::time::Duration;

use serde_json::Value;

use crate::machine::{Machine, Plan};
use crate::{figure, until};

const PLAYED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/implementation.py");
/// Prints how many processes run our program, and their memory in KiB, the controller first and then all.
const SUMS: &str = "main=$(systemctl show --value --property MainPID wqcontroller.service)\n\
    for process in /proc/[0-9]*; do\n\
      [ \"$(readlink $process/exe)\" = \"$(readlink /proc/$main/exe)\" ] || continue\n\
      echo \"${process#/proc/} $(sed -n 's/^Pss: *\\([0-9]*\\) kB/\\1/p' $process/smaps_rollup)\"\n\
    done | awk -v main=$main '{ all += $2; if ($1 == main) controller = $2 } END { print NR, controller, all }'";
const REST: Duration = Duration::from_secs(10);

pub fn measure() {
    let Some(machine) = Plan::new().install(PLAYED, "/opt/own/implementation.py", 0o644).boot() else {
        return;
    };
    machine.write(
        "/opt/own/own.sh",
        "exec python3 -IS /opt/own/implementation.py command $1 \"$HOME\" \"$RUNTIME_DIRECTORY\" $(cat token)\n",
    );
    machine.write("/opt/own/token", "{token}");
    machine.write(
        "/etc/wqcontroller/wqcontroller.toml.d/50-own.toml",
        "[implementations.own]\nkind = 'command'\ncommand = '/bin/sh /opt/own/own.sh {port}'\n\
         url = 'ws://127.0.0.1:{port}/'\nfile = 'token'\nfile_template = '/opt/own/token'\n",
    );
    machine.systemctl(&["start", "wqcontroller.service"]);
    let [_, alone, _] = sums(&machine);
    let call = |path: &str| machine.shell(&format!("curl -sSf 'http://127.0.0.1:4000/openqq/{path}'"));
    let mut started = 0;
    for count in [1, 20] {
        for n in started..count {
            let answer = call(&format!("start_client?client=c{n}&implementation=own&uin=10001"));
            assert!(answer.contains("\"success\""), "{answer}");
            let listed: Value = serde_json::from_str(&call("check_client")).unwrap();
            let name = format!("c{n}");
            let account =
                listed["client"].as_array().unwrap().iter().find(|client| client["account"] == name);
            let port = &account.unwrap()["implementation"]["port"];
            machine.shell(&format!(
                "until cd /var/lib/private/wqimpl/c{n} 2>/dev/null; do sleep 0.1; done; until [ -e token ] && curl -s 127.0.0.1:{port} >/dev/null; \
                 do sleep 0.1; done; echo online >event.new; mv event.new event"
            ));
        }
        started = count;
        until(|| call("check_client").matches("\"state\":\"running\"").count() == count);
        std::thread::sleep(REST);
        let [processes, controller, all] = sums(&machine);
        let each = |memory: u64| format!("{:.2} MiB", memory as f64 / 1024.0 / count as f64);
        let what = format!("PSS beside an implementation that is a unit, {count} of them, each");
        figure(&format!("{what}: {} processes of ours", processes - 1), &each(all - controller), "6 MiB");
        figure("    with what the controller has grown by", &each(all - alone), "6 MiB");
    }
}

fn sums(machine: &Machine) -> [u64; 3] {
    let text = machine.shell(SUMS);
    let numbers: Vec<u64> = text.split(' ').map(|word| word.parse().unwrap()).collect();
    numbers.try_into().unwrap()
}
