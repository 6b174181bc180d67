//! The fleet's rules over random runs of a simulated machine: callers, processes, a disk, and controllers that are killed at
//! any moment.

mod world;

use proptest::prelude::*;

use super::*;
use crate::model::client::{Exit, ParamValue, STOP_ASKED};
use world::{Checked, FleetWorld};

const NAMES: [&str; 5] = ["a", "b", "c", "d", "e"];

#[derive(Clone, Debug)]
enum Step {
    Start(usize),
    Stop(usize, bool),
    StopAndKeep(usize),
    /// A start with parameters of its own.
    StartWith(usize, bool),
    Register(usize),
    /// Something that was asked for is done; how it goes.
    Work(usize, bool),
    /// A process ends.
    Exit(usize, Exit),
    /// An operator starts the unit of a client without a process.
    Readopt(usize),
    Wait(u64),
    Announce(usize),
    /// The login of an account asks for a new start, or for none.
    Relaunch(usize, bool),
    /// The controller is killed and another one started; whether the machine went down with it.
    Crash(bool),
    Shutdown,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => (0..5usize).prop_map(Step::Start),
        5 => (0..5usize, any::<bool>()).prop_map(|(who, wait)| Step::Stop(who, wait)),
        3 => (0..5usize).prop_map(Step::StopAndKeep),
        1 => (0..5usize).prop_map(Step::Register),
        2 => (0..5usize, any::<bool>()).prop_map(|(who, other)| Step::StartWith(who, other)),
        24 => (0..9usize, prop::bool::weighted(0.85)).prop_map(|(at, lucky)| Step::Work(at, lucky)),
        4 => (0..5usize, exits()).prop_map(|(at, exit)| Step::Exit(at, exit)),
        1 => (0..5usize).prop_map(Step::Readopt),
        4 => (0..9_000u64).prop_map(Step::Wait),
        1 => (0..5usize).prop_map(Step::Announce),
        1 => (0..5usize, any::<bool>()).prop_map(|(who, again)| Step::Relaunch(who, again)),
        2 => any::<bool>().prop_map(Step::Crash),
        1 => Just(Step::Shutdown),
    ];
    prop::collection::vec(step, 0..150)
}

fn exits() -> impl Strategy<Value = Exit> {
    prop_oneof![
        2 => Just(Exit::Code(0)),
        4 => Just(Exit::Signal(9)),
        1 => Just(Exit::Signal(15)),
        1 => Just(Exit::Code(STOP_ASKED.into())),
        1 => Just(Exit::Unusable),
        1 => Just(Exit::Stopped),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases.max(3_000), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn rules_hold_in_random_runs(
        steps in steps(),
        closes in prop::bool::weighted(0.1),
        outlive in any::<bool>(),
    ) {
        run(steps, closes, outlive)?;
    }
}

fn run(steps: Vec<Step>, closes: bool, outlive: bool) -> Checked {
    let mut world = FleetWorld::new(Rules { clients_outlive_controller: outlive, ..RULES });
    for step in steps {
        match step {
            Step::Start(who) => {
                world.call(who, |request, name| Input::Start(request, spec(name.as_str())))?
            }
            Step::Stop(who, wait) => {
                let mode = if wait { StopMode::Wait } else { StopMode::NoWait };
                world.call(who, |request, name| Input::Stop(request, name, mode))?;
            }
            Step::StartWith(who, other) => world.call(who, |request, name| {
                let mut spec = (*spec(name.as_str())).clone();
                if other {
                    let value = ParamValue { text: "1".into(), secret: false, path: None };
                    spec.params.insert("other".into(), value);
                }
                Input::StartWith(request, Arc::new(spec))
            })?,
            Step::StopAndKeep(who) => {
                world.keeps_next();
                world.call(who, Input::StopAndKeep)?;
            }
            Step::Register(who) => {
                world.keeps_next();
                world.call(who, |request, name| Input::Register(request, spec(name.as_str())))?
            }
            Step::Work(at, lucky) => world.work(at, lucky)?,
            Step::Exit(at, exit) => {
                world.exit(at, exit)?;
                world.bury()?;
            }
            Step::Readopt(who) => world.readopt(who)?,
            Step::Wait(time) => {
                world.now = world.now.after(Duration::from_millis(time));
                world.tell(Input::Tick)?;
            }
            Step::Announce(who) => {
                let name = ClientName::new(NAMES[who]).unwrap();
                let generation = world.fleet.get(&name).map(|record| record.generation);
                let settled = world.waiting.values().all(|waiting| *waiting != name);
                if let Some(generation) = generation.filter(|_| settled) {
                    world.promises.remove(&name);
                    world.tell(Input::StopAccepted(Launch { name, generation }))?;
                }
            }
            Step::Relaunch(who, again) => {
                let name = ClientName::new(NAMES[who]).unwrap();
                // What was stopped may run again, because a person asked for a login.
                world.forget_calls(&name);
                world.tell(if again {
                    Input::Relaunch(name)
                } else {
                    Input::Hold(name, "no login code was scanned".into())
                })?;
            }
            Step::Crash(reboot) => world.crash(reboot)?,
            Step::Shutdown if closes && !world.closing => {
                world.closing = true;
                let shutdown = if outlive { Shutdown::KeepClients } else { Shutdown::EndClients };
                world.tell(Input::Shutdown(shutdown))?;
            }
            Step::Shutdown => {}
        }
    }
    world.settle()?;
    prop_assert!(world.waiting.is_empty(), "somebody still waits");
    if world.closing {
        prop_assert!(world.fleet.is_settled(), "a shutdown never ends: {:?}", world.fleet);
        // The next controller has everything that was promised.
        world.crash(false)?;
        world.settle()?;
    }
    for record in world.fleet.records() {
        let understood = match record.phase {
            Phase::Up => world.processes.contains_key(&record.pid().unwrap_or(0)),
            Phase::Gone(_) => record.history.held,
            Phase::Reserved | Phase::Starting | Phase::Stopping => false,
        };
        prop_assert!(understood, "stuck: {record:?}");
    }
    let (_, mut image) = world.fleet.image();
    // Not written: when the next controller starts clients is its own plan.
    image
        .clients
        .iter_mut()
        .chain(&mut world.disk.clients)
        .for_each(|client| client.history.next_start = None);
    prop_assert_eq!(&world.disk.clients, &image.clients, "the disk has something else");
    prop_assert_eq!(image.clients.len(), world.fleet.records().count());
    Ok(())
}
