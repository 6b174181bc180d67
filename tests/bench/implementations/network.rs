//! How soon one account is online again after ten seconds without network.

use std::time::{Duration, Instant};

use crate::fixture::Controller;
use crate::played::happen_to;
use crate::{
    account, controller, figure, implementation_pid, is_well, log_in, set_network, spread, times, until,
};

const ROUNDS: usize = 6;
const WITHOUT: Duration = Duration::from_secs(10);
/// A program that was without network for ten seconds tries it again at least that often: LLBot each 5 s, Yogurt after 1, 2, 4 and 8.
const TRIES: Duration = Duration::from_secs(5);

pub fn measure() {
    let kinds = ["llbot", "napcat", "yogurt"];
    let controllers = kinds.map(|kind| {
        let controller = controller(kind, "");
        log_in(&controller, "a");
        controller
    });
    let all: Vec<&Controller> = controllers.iter().collect();
    let is_online = |place: usize| is_well(&account(&controllers[place], "a"), kinds[place]);
    let pids = || all.iter().map(|controller| implementation_pid(&account(controller, "a")));
    let before: Vec<_> = pids().collect();
    let mut measured = [const { Vec::new() }; 3];
    for round in 0..ROUNDS {
        until(|| (0..3).all(is_online));
        lose(&all);
        let restored = restore(&all);
        let took = std::thread::scope(|scope| {
            let running = [0, 1, 2].map(|place| {
                let controller = &controllers[place];
                scope.spawn(move || {
                    std::thread::sleep(spread(round * 3 + place, TRIES));
                    happen_to(controller, "a", "online");
                    until(|| is_online(place));
                    restored.elapsed()
                })
            });
            running.map(|measuring| measuring.join().unwrap())
        });
        for (times, took) in measured.iter_mut().zip(took) {
            times.push(took);
        }
    }
    let restarts = before.into_iter().zip(pids()).filter(|(before, now)| before != now).count();
    for (kind, mut took) in kinds.iter().zip(measured) {
        let name = format!("{kind}: online after 10 s without network; it tries again within 5 s");
        times(&name, &mut took, "by itself");
    }
    figure("    new starts of them in all rounds", &restarts.to_string(), "0");

    // One that stays offline until it is started anew, as LLBot 7 may.
    let stuck = &controllers[0];
    let before = implementation_pid(&account(stuck, "a"));
    lose(&all[..1]);
    let restored = restore(&all[..1]);
    until(|| is_online(0));
    times("one that never tries again", &mut [restored.elapsed()], "by itself");
    let is_new = implementation_pid(&account(stuck, "a")) != before;
    figure("    new starts of it", &u8::from(is_new).to_string(), "1");
}

/// Has the network go and waits until all accounts are known to be offline, and for ten seconds in all.
fn lose(controllers: &[&Controller]) {
    let began = Instant::now();
    set_network(controllers, false);
    for controller in controllers {
        happen_to(controller, "a", "offline");
    }
    until(|| controllers.iter().all(|controller| account(controller, "a")["login"]["state"] == "offline"));
    std::thread::sleep(WITHOUT.saturating_sub(began.elapsed()));
}

fn restore(controllers: &[&Controller]) -> Instant {
    set_network(controllers, true);
    Instant::now()
}
