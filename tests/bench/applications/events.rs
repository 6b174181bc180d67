//! Events of one account for three applications at once, and for a fourth that is at the implementation itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use super::hearing::{Applications, Heard, Poured};
use super::implementation::{EventSink, Implementation, message, text_frame};
use super::processor_time::processor_time;
use super::{figure, from_environment, heading, load, one_account, pid, pss, times};

/// Poured before anything is measured, so that all has been used once.
const FIRST: usize = 500;
/// How long all is given to arrive once the last event is poured.
const PATIENCE: Duration = Duration::from_secs(30);
/// The time between two looks at the memory.
const LOOK: Duration = Duration::from_millis(500);

pub(super) fn measure() -> String {
    let rate = from_environment("WQ_BENCH_RATE", 5000);
    let seconds = from_environment("WQ_BENCH_SECONDS", 20);
    let (implementation, applications) = (Implementation::new(), Applications::new());
    let poured = Poured::new(FIRST + usize::try_from(rate * seconds).unwrap());
    let (reverse, by_reverse) = applications.accept(&poured);
    let controller = one_account(&implementation, &format!("&onebot_server_connect=ws://{reverse}/"));
    let account = &controller.clients()[0];
    let own = account["port"].as_u64().unwrap();
    let own = format!("127.0.0.1:{own}").parse().unwrap();
    let through_door = applications.connect(controller.address, "/clients/a/onebot/v11/ws", &poured);
    let at_client = applications.connect(own, "/onebot/v11/ws", &poured);
    let to_client = implementation.socket(0);
    let direct = applications.connect(implementation.address(), "/10000", &poured);
    let to_direct = implementation.socket(1);
    let ours = [
        ("a WebSocket through the controller's door", through_door),
        ("a WebSocket to the client's port", at_client),
        ("a WebSocket that the client opened", by_reverse),
    ];
    let everyone: Vec<&Arc<Heard>> = ours.iter().map(|(_, heard)| heard).chain([&direct]).collect();

    let pids = [pid(account), controller.pid()];
    let sinks = [to_client, to_direct];
    until(|| ours.iter().all(|(_, heard)| heard.has_begun.load(Ordering::Acquire)));
    pour(&sinks, &poured, 0..FIRST, rate);
    until_heard(&everyone, FIRST);
    let before = pids.map(pss);
    let used = pids.map(|pid| processor_time(&[pid.into()]));
    let (most, took, late) = with_memory_watched(pids, || pour(&sinks, &poured, FIRST..poured.len(), rate));
    until_heard(&everyone, poured.len());
    let load = load();
    let used = [0, 1].map(|place| (processor_time(&[pids[place].into()]) - used[place]) / took.as_secs_f64());

    heading();
    let (mut direct_delays, mut late) = (measured(&direct), late);
    times("to an application at the implementation itself", &mut direct_delays, "");
    for (name, heard) in &ours {
        times(&format!("to {name}"), &mut measured(heard), "p99 10 ms");
    }
    times("    poured later than it was due, by", &mut late, "");
    for (name, heard) in &ours {
        let (lost, doubled) = heard.lost_and_doubled();
        figure(&format!("{name}: lost, doubled"), &format!("{lost}, {doubled}"), "0, 0");
    }
    let count = poured.len() - FIRST;
    let reached = format!("{count} events, {:.0} a second", count as f64 / took.as_secs_f64());
    figure("poured", &reached, "5000 a second");
    for (place, name) in ["the client", "the controller"].into_iter().enumerate() {
        let memory = format!("{:.1} MiB, {:.1} MiB more at most", before[place], most[place] - before[place]);
        figure(&format!("PSS of {name} before, and meanwhile"), &memory, "16 MiB more");
        figure(
            &format!("    processor time of {name}"),
            &format!("{:.0} % of a core", used[place] * 100.0),
            "",
        );
    }
    for heard in everyone {
        assert_eq!(heard.lost_and_doubled(), (0, 0), "events were lost or came twice");
    }
    load
}

/// The delays, without those of the first events.
fn measured(heard: &Heard) -> Vec<Duration> {
    heard.delays().split_off(FIRST)
}

/// Pours these events, each to all in turn. How long that took, and by how much each was late.
fn pour(
    sinks: &[EventSink],
    poured: &Poured,
    events: std::ops::Range<usize>,
    rate: u64,
) -> (Duration, Vec<Duration>) {
    let time = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs();
    let (began, first) = (Instant::now(), events.start);
    let mut late = Vec::with_capacity(events.len());
    for number in events {
        let frame = text_frame(&message(10_000, number, time));
        let due = began + Duration::from_secs_f64((number - first) as f64 / rate as f64);
        let pause = due.saturating_duration_since(Instant::now());
        if !pause.is_zero() {
            thread::sleep(pause);
        }
        late.push(due.elapsed());
        poured.note(number);
        // Who is first takes turns, as the others wait for the first write.
        for place in 0..sinks.len() {
            sinks[(place + number) % sinks.len()].pour(&frame);
        }
    }
    (began.elapsed(), late)
}

/// Waits until all of them heard so many events.
fn until_heard(everyone: &[&Arc<Heard>], count: usize) {
    until(|| everyone.iter().all(|heard| heard.events.load(Ordering::Acquire) >= count));
}

/// Waits until it is so, or for as long as that may take: what is missing is shown.
fn until(mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() && began.elapsed() < PATIENCE {
        thread::sleep(Duration::from_millis(20));
    }
}

/// The most memory that each of these processes has while this is done, and its result.
fn with_memory_watched(
    pids: [u32; 2],
    work: impl FnOnce() -> (Duration, Vec<Duration>),
) -> ([f64; 2], Duration, Vec<Duration>) {
    let is_done = AtomicBool::new(false);
    thread::scope(|scope| {
        let watching = scope.spawn(|| {
            let mut most = pids.map(pss);
            while !is_done.load(Ordering::Acquire) {
                thread::sleep(LOOK);
                for (most, pid) in most.iter_mut().zip(pids) {
                    *most = most.max(pss(pid));
                }
            }
            most
        });
        let (took, late) = work();
        is_done.store(true, Ordering::Release);
        (watching.join().unwrap(), took, late)
    })
}
