//! A thousand accounts, each of whose clients has opened a WebSocket to one application, while nothing happens.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::fixture::Builder;
use super::hearing::Applications;
use super::implementation::Implementation;
use super::processor_time::processor_time;
use super::{figure, from_environment, load, pid, pss, start};

/// How many clients may be starting at a time: others use this machine as well.
const AT_A_TIME: usize = 4;
/// How long they are left alone before they are looked at.
const REST: Duration = Duration::from_secs(20);
/// How long all starts may take.
const PATIENCE: Duration = Duration::from_secs(1200);

pub(super) fn measure() -> String {
    let count = usize::try_from(from_environment("WQ_BENCH_CLIENTS", 1000)).unwrap();
    let watched = Duration::from_secs(if count < 1000 { 10 } else { 60 });
    let (implementation, applications) = (Implementation::new(), Applications::new());
    let (address, open) = applications.accept_all();
    let config = format!("max_clients = {count}");
    let mut controller = Builder::new().first_port_is(20_000).config(&config).built_in();
    let (began, more) = (Instant::now(), format!("&onebot_server_connect=ws://{address}/"));
    for n in 0..count {
        start(&controller, &implementation, &format!("client{n}"), 10_001 + n as u64, &more);
        while open.load(Ordering::SeqCst) + AT_A_TIME <= n {
            assert!(began.elapsed() < PATIENCE, "client{n}: those before it have not connected");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
    while open.load(Ordering::SeqCst) < count {
        assert!(began.elapsed() < PATIENCE, "not all have connected");
        std::thread::sleep(Duration::from_millis(20));
    }
    figure(
        &format!("{count} accounts started and connected, {AT_A_TIME} at a time"),
        &seconds(began.elapsed()),
        "",
    );

    let accounts = controller.clients();
    let pids: BTreeSet<u32> = accounts.iter().map(pid).collect();
    assert_eq!(pids.len(), count, "each has a process");
    std::thread::sleep(REST);
    let running = controller.clients().iter().filter(|account| account["state"] == "running").count();
    let clients: Vec<u64> = pids.iter().map(|pid| u64::from(*pid)).collect();
    let used = || [processor_time(&[controller.pid().into()]), processor_time(&clients)];
    let (before, began) = (used(), Instant::now());
    std::thread::sleep(watched);
    let (after, took) = (used(), began.elapsed().as_secs_f64());
    let share = |place: usize| (after[place] - before[place]) / took * 100.0;
    let mut memory: Vec<f64> = pids.iter().map(|pid| pss(*pid)).collect();
    memory.sort_by(f64::total_cmp);
    let still_open = open.load(Ordering::SeqCst);

    figure(
        "running, and connected after that time",
        &format!("{running}, {still_open}"),
        &format!("{count}, {count}"),
    );
    figure(
        &format!("the controller, idle for {}, of a core", seconds(watched)),
        &format!("{:.3} %", share(0)),
        "0.1 %",
    );
    figure("all clients in that time, of a core", &format!("{:.2} %", share(1)), "");
    let mean = memory.iter().sum::<f64>() / count as f64;
    let most = memory.last().unwrap();
    figure(
        "PSS of a client beside its fellows, mean and most",
        &format!("{mean:.2} MiB, {most:.2} MiB"),
        "2 MiB",
    );
    figure("PSS of the controller", &format!("{:.1} MiB", pss(controller.pid())), "");
    // Before they all end at once.
    let load = load();
    controller.end();
    load
}

fn seconds(time: Duration) -> String {
    format!("{:.0} s", time.as_secs_f64())
}
