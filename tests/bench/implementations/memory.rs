//! What our processes take beside an implementation.

use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::fixture::{Builder, Controller, program};
use crate::{account, controller, figure, implementation_pid, is_well, log_in, until};

/// Yogurt as `tests/run` fetches it.
const YOGURT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/target/yogurt/package/yogurt.kexe");
/// How long processes are left alone before they are looked at.
const REST: Duration = Duration::from_secs(10);

pub fn measure() {
    let controller = controller("llbot", "");
    let alone = pss(controller.pid());
    for count in [1, 20] {
        for n in 0..count {
            let name = format!("c{n}");
            if account(&controller, &name).is_null() {
                log_in(&controller, &name);
            }
        }
        until(|| controller.clients().iter().all(|account| is_well(account, "llbot")));
        std::thread::sleep(REST);
        let ours = ours();
        let clients: f64 = ours.iter().filter(|pid| **pid != controller.pid()).map(|pid| pss(*pid)).sum();
        let all: f64 = ours.iter().map(|pid| pss(*pid)).sum();
        let each = |memory: f64| format!("{:.2} MiB", memory / f64::from(count));
        let what = format!("PSS beside an implementation, {count} of them, each");
        figure(&format!("{what}: {} processes of ours", ours.len() - 1), &each(clients), "6 MiB");
        figure("    with what the controller has grown by", &each(all - alone), "6 MiB");
    }
    figure("PSS of an implementation that Python plays", &of_implementation(&controller, "c0"), "");
    drop(controller);
    measure_yogurt();
}

fn measure_yogurt() {
    let path = std::env::var("YOGURT").unwrap_or_else(|_| YOGURT.to_owned());
    if !Path::new(&path).exists() {
        return println!("PSS of Yogurt: NOT MEASURED, there is no {path}");
    }
    let builder = Builder::new();
    let first = builder.first_port() + 20;
    let controller = builder
        .config(&format!(
            "implementation_start_port = {first}\n[implementations.own]\nkind = 'yogurt'\nprogram = '{path}'\n\
             sign_url = 'http://127.0.0.1:9/'\nversion = '46494'\n"
        ))
        .built_in();
    let answer = controller.start_client_with("a", crate::START);
    assert_eq!(answer["code"], 0, "{answer}");
    std::thread::sleep(REST);
    figure("PSS of Yogurt before its login", &of_implementation(&controller, "a"), "");
    let clients: f64 = ours().iter().filter(|pid| **pid != controller.pid()).map(|pid| pss(*pid)).sum();
    figure("    and of our processes beside it", &format!("{clients:.2} MiB"), "6 MiB");
}

fn of_implementation(controller: &Controller, name: &str) -> String {
    let pid = implementation_pid(&account(controller, name)).unwrap();
    format!("{:.2} MiB", pss(u32::try_from(pid).unwrap()))
}

/// All processes that run the executable under test in the network of this benchmark.
fn ours() -> Vec<u32> {
    let program = fs::canonicalize(program()).unwrap();
    let entries = fs::read_dir("/proc").unwrap();
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    let link = |process: &str, name: &str| fs::read_link(format!("/proc/{process}/{name}")).ok();
    let network = link("self", "ns/net");
    let is_ours = |pid: &u32| {
        let pid = pid.to_string();
        link(&pid, "exe").as_ref() == Some(&program) && link(&pid, "ns/net") == network
    };
    pids.filter(is_ours).collect()
}

/// The memory of a process, with its share of what others use as well, in MiB.
pub fn pss(pid: u32) -> f64 {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<f64>().unwrap() / 1024.0
}
