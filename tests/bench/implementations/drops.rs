//! How soon `check_client` shows that a login or a process was lost.

use std::time::Duration;

use crate::played::happen_to;
use crate::{account, controller, implementation_pid, is_well, log_in, spread, times, until};

/// Losses of the login, and of the process, for each kind.
const DROPS: usize = 12;
const ENDS: usize = 4;
/// The controller asks that often, so a loss comes at each time in between.
const BETWEEN_QUESTIONS: Duration = Duration::from_secs(5);

pub fn measure() {
    let kinds = ["llbot", "napcat", "yogurt", "command"];
    let measured: Vec<_> = std::thread::scope(|scope| {
        let running = kinds.map(|kind| scope.spawn(move || of_kind(kind)));
        running.into_iter().map(|measuring| measuring.join().unwrap()).collect()
    });
    for (kind, (mut drops, mut ends)) in kinds.into_iter().zip(measured) {
        times(&format!("{kind}: a drop of the login is shown"), &mut drops, "5 s");
        times(&format!("{kind}: the end of the process is shown"), &mut ends, "at once");
    }
}

fn of_kind(kind: &str) -> (Vec<Duration>, Vec<Duration>) {
    let controller = controller(kind, "");
    log_in(&controller, "a");
    let mut drops = Vec::new();
    for round in 0..DROPS {
        until(|| is_well(&account(&controller, "a"), kind));
        std::thread::sleep(spread(round, BETWEEN_QUESTIONS));
        happen_to(&controller, "a", "offline");
        drops.push(until(|| account(&controller, "a")["login"]["state"] == "offline"));
        happen_to(&controller, "a", "online");
    }
    let mut ends = Vec::new();
    for _ in 0..ENDS {
        until(|| is_well(&account(&controller, "a"), kind));
        let pid = implementation_pid(&account(&controller, "a")).unwrap();
        let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        ends.push(until(|| account(&controller, "a")["login"]["state"] != "online"));
    }
    (drops, ends)
}
