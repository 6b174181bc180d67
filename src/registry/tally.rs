//! [`tally`]: what of an input is counted for `/metrics`, seen from what is known before it is applied.

use crate::metrics::{EndCause, Metrics, ProcessKind};
use crate::model::client::{Exit, Phase};
use crate::model::fleet::{Fleet, Input, ProcessEvent, Readoption};

/// Counts a start or an end. What ended while no controller was there is not counted: the one before may have seen it.
pub(super) fn tally(metrics: &Metrics, kind: ProcessKind, fleet: &Fleet, input: &Input) {
    let launch = match input {
        Input::Launched(launch, _) | Input::LaunchFailed(launch, _) | Input::LaunchRefused(launch, _) => {
            launch
        }
        Input::Process(event) => event.launch(),
        _ => return,
    };
    // The fleet drops events of earlier processes.
    let Some(record) = fleet.get(&launch.name).filter(|record| record.generation == launch.generation) else {
        return;
    };
    let is_gone = matches!(record.phase, Phase::Gone(_));
    match input {
        Input::Launched(..) => metrics.started(kind),
        // A stop wins over a launch, which then is no failure.
        Input::LaunchFailed(..) | Input::LaunchRefused(..) if record.phase != Phase::Stopping => {
            metrics.ended(kind, EndCause::of(Exit::NotLaunched, false));
        }
        Input::Process(ProcessEvent::Exited(_, exit)) if !is_gone => {
            let was_asked = record.phase == Phase::Stopping || !fleet.is_wanted(&launch.name);
            metrics.ended(kind, EndCause::of(*exit, was_asked));
        }
        Input::Process(ProcessEvent::Replaced(..)) => {
            // Of a restart through systemd nothing else tells that there was an end.
            if !is_gone && fleet.readoption(launch) != Readoption::Replace {
                metrics.ended(kind, EndCause::Stopped);
            }
            metrics.started(kind);
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::client::{ClientSpec, Generation, Handle, Moment};
    use crate::model::fleet::{Effect, Launch, PortState, RequestId, Revision, Rules, StopMode};
    use crate::model::name::ClientName;
    use crate::model::restart::RestartPolicy;
    use std::time::Duration;

    const KIND: ProcessKind = ProcessKind::Client;

    struct Run {
        fleet: Fleet,
        metrics: Metrics,
        revision: Option<Revision>,
    }

    impl Run {
        fn new() -> Self {
            let rules = Rules {
                max_clients: 3,
                first_port: 5000,
                ports_each: 1,
                keeps_port: false,
                restart: RestartPolicy::OnFailure,
                restart_limit: 9,
                start_interval: Duration::from_secs(1),
                restore: true,
                clients_outlive_controller: true,
            };
            Self { fleet: Fleet::new(rules, Generation(0)), metrics: Metrics::default(), revision: None }
        }

        fn apply(&mut self, input: Input) {
            tally(&self.metrics, KIND, &self.fleet, &input);
            for effect in self.fleet.apply(Moment(0), input) {
                if let Effect::Save(revision) = effect {
                    self.revision = Some(revision);
                }
            }
        }

        fn save(&mut self) {
            if let Some(revision) = self.revision.take() {
                self.apply(Input::Saved(revision));
            }
        }

        fn launch(&self) -> Launch {
            let name = ClientName::new("a").unwrap();
            let generation = self.fleet.get(&name).unwrap().generation;
            Launch { name, generation }
        }

        fn handle(pid: u32) -> Handle {
            Handle::Direct { pid, start_ticks: 1, boot_id: "boot".into() }
        }

        /// Starts the client, as far as its launch.
        fn begin(&mut self) {
            self.apply(Input::Start(RequestId(1), ClientSpec::example("a", "/run/wq")));
            self.apply(Input::Probed(self.launch(), PortState::Free));
            self.save();
        }

        fn start(&mut self) {
            self.begin();
            self.apply(Input::Launched(self.launch(), Self::handle(7)));
            self.save();
        }

        fn counted(&self, cause: EndCause) -> (u64, u64) {
            self.metrics.counted(KIND, cause)
        }
    }

    #[test]
    fn each_start_and_end_is_counted_once() {
        let mut run = Run::new();
        run.start();
        assert_eq!(run.counted(EndCause::Signal), (1, 0));
        let exited: Input = ProcessEvent::Exited(run.launch(), Exit::Signal(9)).into();
        let other = Launch { generation: Generation(99), ..run.launch() };
        run.apply(ProcessEvent::Exited(other, Exit::Signal(9)).into());
        assert_eq!(run.counted(EndCause::Signal), (1, 0), "that of another launch is none");
        run.apply(exited);
        assert_eq!(run.counted(EndCause::Signal), (1, 1));
        // systemd may tell of it again.
        run.apply(ProcessEvent::Exited(run.launch(), Exit::Signal(9)).into());
        assert_eq!(run.counted(EndCause::Signal), (1, 1));
    }

    #[test]
    fn end_by_a_stop_is_no_failure() {
        let mut run = Run::new();
        run.start();
        let launch = run.launch();
        run.apply(Input::Stop(RequestId(2), launch.name.clone(), StopMode::Wait));
        run.save();
        run.apply(ProcessEvent::Exited(launch, Exit::Signal(15)).into());
        assert_eq!((run.counted(EndCause::Stopped), run.counted(EndCause::Signal)), ((1, 1), (1, 0)));
    }

    #[test]
    fn failed_launch_is_no_start() {
        let mut run = Run::new();
        run.begin();
        run.apply(Input::LaunchFailed(run.launch(), "no such file".into()));
        assert_eq!(run.counted(EndCause::NotLaunched), (0, 1));
    }

    #[test]
    fn restart_through_systemd_is_an_end_and_a_start() {
        let mut run = Run::new();
        run.start();
        run.apply(ProcessEvent::Replaced(run.launch(), Run::handle(8)).into());
        assert_eq!(run.counted(EndCause::Stopped), (2, 1));
    }
}
