//! [`AuditLog`]: what the log says about accounts, each event once. Messages do not name the account: the log writer puts it
//! in front of every line with a field `client`.

use std::collections::{HashMap, HashSet};

use tracing::{debug, error, info, warn};

use crate::environ::implementation_of;
use crate::model::client::{ClientRecord, ClientSpec, Exit, Handle, Moment, Phase, RestartHistory};
use crate::model::fleet::{Fleet, Input, Launch, PortState, ProcessEvent, Readoption, shown};
use crate::model::name::ClientName;
use crate::model::persisted::{PersistedClient, ProcessStatus};
use crate::model::state::{ClientState, StateReport};
use crate::service::events;

mod wording;

use wording::{
    HELD_BY_OPERATOR, held, in_words, is_held_by_operator, is_late_reason, is_new_plan, next_start,
    what_follows,
};

/// Logs an event that has one name for a client and another one for an implementation.
macro_rules! log_event {
    ($level:ident, $of_implementation:expr, [$of_client_name:ident, $other_name:ident], $($line:tt)+) => {
        // The name of an event has to be a constant.
        if $of_implementation {
            $level!(name: events::$other_name, $($line)+)
        } else {
            $level!(name: events::$of_client_name, $($line)+)
        }
    };
}

/// Logs what happens to accounts.
#[derive(Debug, Default)]
pub(super) struct AuditLog {
    /// Whether the processes are implementations. Their lines name them behind the account.
    of_implementations: bool,
    /// Launches of an earlier controller whose state was not seen yet. That they are logged in is no news.
    restored: HashSet<Launch>,
    /// What was last logged about the next start of each account, or needed no line.
    plans: HashMap<ClientName, RestartHistory>,
}

/// A line that is written once the fleet has decided what follows, because it ends with that.
#[derive(Debug)]
pub(super) struct Failure {
    name: ClientName,
    kind: FailureKind,
    pid: Option<u32>,
    unit: Option<String>,
    text: String,
    /// Why there is no process, or still one.
    error: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FailureKind {
    /// The process ended.
    Ended,
    /// There was no process.
    NotStarted,
    /// There was none, for a reason that passes.
    Postponed,
    /// The process could not be stopped.
    NotStopped,
}

impl AuditLog {
    pub(super) fn new(of_implementations: bool) -> Self {
        Self { of_implementations, ..Self::default() }
    }

    /// What stands before each message: nothing for a client, and `yogurt: ` for an implementation of that name.
    fn subject(&self, spec: &ClientSpec) -> String {
        let name = implementation_of(spec).filter(|_| self.of_implementations);
        name.map(|name| format!("{name}: ")).unwrap_or_default()
    }

    /// Logs an input, seen from what is known before it is applied. What is returned goes to [`AuditLog::log_failure`] when
    /// it is.
    pub(super) fn log_input(&mut self, fleet: &Fleet, input: &Input) -> Option<Failure> {
        let launch = match input {
            Input::Restored(client, status) => {
                self.log_restored(client, status);
                return None;
            }
            Input::Launched(launch, _)
            | Input::LaunchFailed(launch, _)
            | Input::LaunchPostponed(launch, _)
            | Input::LaunchRefused(launch, _)
            | Input::StopFailed(launch, _)
            | Input::StopAccepted(launch)
            | Input::Report(launch, _)
            | Input::Probed(launch, _) => launch,
            Input::Process(event) => event.launch(),
            _ => return None,
        };
        if let Input::Process(ProcessEvent::Replaced(_, handle)) = input
            && fleet.readoption(launch) == Readoption::Replace
        {
            let pid = handle.pid();
            warn!(
                client = %launch.name, pid,
                "started through systemd with a port that is another account's by now (pid {pid}); stopping it, then starting it \
                 again"
            );
            return None;
        }
        let Launch { name, generation } = launch;
        // The fleet drops events of earlier processes.
        let record = fleet.get(name).filter(|record| record.generation == *generation)?;
        let who = self.subject(&record.spec);
        let (port, pid, unit) = (record.port, record.pid(), record.unit());
        let known_pid = pid.unwrap_or(0);
        let failure = |kind, text: String, error: Option<&str>| Failure {
            name: name.clone(),
            kind,
            pid,
            unit: unit.map(str::to_owned),
            text: format!("{who}{text}"),
            error: error.map(str::to_owned),
        };
        match input {
            Input::Launched(_, handle) => {
                let pid = handle.pid();
                log_event!(
                    info, self.of_implementations, [CLIENT_STARTED, IMPLEMENTATION_STARTED],
                    client = %name, %generation, pid, port, unit = handle.unit(), "{who}started (pid {pid}, port {port})"
                );
            }
            Input::LaunchFailed(_, why) | Input::LaunchRefused(_, why) => {
                // Without the secrets among the parameters, which an error may quote.
                let why = shown(why, &record.spec);
                let text = format!("could not be started: {why}");
                return Some(failure(FailureKind::NotStarted, text, Some(&why)));
            }
            Input::LaunchPostponed(_, why) => {
                let why = shown(why, &record.spec);
                // During an outage each attempt fails in the same way.
                if record.history.reason.as_ref() == Some(&why) {
                    debug!(client = %name, error = %why, "{who}could not be started, as before: {why}");
                } else {
                    let text = format!("could not be started: {why}");
                    return Some(failure(FailureKind::Postponed, text, Some(&why)));
                }
            }
            Input::Process(ProcessEvent::Exited(_, exit)) => {
                // The fleet has not seen the exit yet, so phase and wish are those from before it.
                let was_expected = record.phase == Phase::Stopping || !fleet.is_wanted(name);
                let exit_text = in_words(*exit);
                if !exit.is_stopped_by_operator() && (was_expected || exit.is_stop_asked()) {
                    let next = match (record.history.stopped, fleet.is_wanted(name)) {
                        (true, _) => "; stays stopped until it is started",
                        // A call stopped it; what becomes of its implementation follows from that.
                        (false, false) if !self.of_implementations => "; it has left the list",
                        _ => "",
                    };
                    info!(client = %name, pid, "{who}stopped: {exit_text} (pid {known_pid}){next}");
                    return None;
                }
                let by_itself = if exit.is_success() { ", though nobody asked it to" } else { "" };
                return Some(failure(
                    FailureKind::Ended,
                    format!("{exit_text}{by_itself} (pid {known_pid})"),
                    None,
                ));
            }
            Input::Process(ProcessEvent::Replaced(_, handle)) if matches!(record.phase, Phase::Gone(_)) => {
                let pid = handle.pid();
                log_event!(
                    info, self.of_implementations, [CLIENT_STARTED, IMPLEMENTATION_STARTED],
                    client = %name, %generation, pid, port, unit = handle.unit(),
                    "{who}started through systemd (pid {pid}, port {port})"
                );
            }
            Input::Process(ProcessEvent::Replaced(_, handle)) => {
                let pid = handle.pid();
                info!(client = %name, %generation, pid, port, "{who}restarted through systemd (pid {pid}, port {port})");
            }
            Input::Process(ProcessEvent::Frozen(_, true)) => {
                let unit = unit.unwrap_or("its unit");
                warn!(client = %name, pid, "{who}frozen through systemd; to let it go on: systemctl thaw {unit}");
            }
            Input::Process(ProcessEvent::Frozen(_, false)) => {
                info!(client = %name, pid, "{who}thawed through systemd");
            }
            Input::StopFailed(_, why) => {
                let text = format!("could not be stopped: {why}");
                return Some(failure(FailureKind::NotStopped, text, Some(why)));
            }
            Input::StopAccepted(_) => {
                info!(client = %name, pid, "{who}told by a caller to stop (pid {known_pid})")
            }
            Input::Report(_, report) => {
                // A client that was logged in while no controller was there is no news, but one that waits for a scan needs a
                // person.
                let is_news = !self.restored.remove(launch) || report.state != ClientState::Running;
                // Of an account with an implementation the login is logged, by all that is known of it.
                if is_news && implementation_of(&record.spec).is_none() {
                    log_state((name, unit), record.report.as_deref(), &report.state);
                }
            }
            Input::Probed(_, PortState::TakenUpTo(last)) => {
                debug!(client = %name, port, last, "{who}other programs have the ports from {port} to {last}; trying the next one");
            }
            _ => {}
        }
        None
    }

    /// Logs a failure together with what the fleet decided to do about it.
    pub(super) fn log_failure(&mut self, fleet: &Fleet, failure: Failure, now: Moment) {
        let Failure { name: client, kind, pid, unit, mut text, error } = failure;
        let record = fleet.get(&client);
        // A stop that failed changes nothing in the history of restarts.
        let history = record.map(|record| &record.history).filter(|_| kind != FailureKind::NotStopped);
        if let Some(history) = history {
            // `log_plan`, which comes next, would log the same plan once more.
            self.plans.insert(client.clone(), history.clone());
        }
        let reason = history.and_then(|history| history.reason.as_deref()).filter(|_| error.is_none());
        text.extend(reason.map(|reason| format!(": {reason}")));
        text.extend(what_follows(fleet, record, kind, now).map(|next| format!("; {next}")));
        let failures = history.map(|history| history.failures).filter(|failures| *failures > 0);
        let is_held = history.is_some_and(|history| history.held);
        match kind {
            FailureKind::NotStarted if is_held => {
                log_event!(
                    error, self.of_implementations, [CLIENT_HELD, IMPLEMENTATION_HELD],
                    %client, failures, error, "{text}"
                );
            }
            FailureKind::NotStarted => {
                log_event!(
                    error, self.of_implementations, [CLIENT_FAILED, IMPLEMENTATION_FAILED],
                    %client, failures, error, "{text}"
                );
            }
            FailureKind::Postponed => warn!(%client, error, "{text}"),
            FailureKind::NotStopped => error!(%client, pid, error, "{text}"),
            FailureKind::Ended if record.is_some_and(is_held_by_operator) => {
                log_event!(
                    info, self.of_implementations, [CLIENT_HELD, IMPLEMENTATION_HELD],
                    %client, pid, unit, "{text}"
                );
            }
            FailureKind::Ended if is_held => {
                log_event!(
                    warn, self.of_implementations, [CLIENT_HELD, IMPLEMENTATION_HELD],
                    %client, pid, unit, failures, reason, "{text}"
                );
            }
            FailureKind::Ended => {
                log_event!(
                    warn, self.of_implementations, [CLIENT_FAILED, IMPLEMENTATION_FAILED],
                    %client, pid, unit, failures, reason, "{text}"
                );
            }
        }
    }

    /// Logs what follows for an account that has no process and should run, unless that was logged.
    pub(super) fn log_plan(&mut self, fleet: &Fleet, record: &ClientRecord, now: Moment) {
        let (client, history) = (&record.spec.name, &record.history);
        let before = self.plans.insert(client.clone(), history.clone());
        let is_gone = matches!(record.phase, Phase::Gone(_));
        if !is_gone || !is_new_plan(before.as_ref(), history) {
            return;
        }
        let who = self.subject(&record.spec);
        let limit = fleet.rules().restart_limit;
        let (failures, reason) = (history.failures, history.reason.as_deref());
        if let (Some(before), Some(reason)) = (&before, reason)
            && is_late_reason(before, history)
        {
            // The exit and what follows were logged before the process's last line came.
            info!(%client, reason, "{who}its last line was: {reason}");
        } else if let Some(plan) = next_start(history, limit, now) {
            let why = reason.map(|reason| format!("could not be started: {reason}; "));
            let why = why.filter(|_| record.phase == Phase::Gone(Exit::NotLaunched)).unwrap_or_default();
            info!(%client, failures, reason, "{who}{why}{plan}");
        } else if history.stopped {
            info!(%client, "{who}stopped by a call; stays stopped until it is started");
        } else if is_held_by_operator(record) {
            log_event!(
                info, self.of_implementations, [CLIENT_HELD, IMPLEMENTATION_HELD],
                %client, "{who}{HELD_BY_OPERATOR}"
            );
        } else if history.held {
            let why = reason.map(|reason| format!(" ({reason})")).unwrap_or_default();
            let (held, failures) = (held(history, limit), (failures > 0).then_some(failures));
            log_event!(
                warn, self.of_implementations, [CLIENT_HELD, IMPLEMENTATION_HELD],
                %client, failures, reason, "{who}{held}{why}"
            );
        }
    }

    /// The account left the list.
    pub(super) fn forget(&mut self, name: &ClientName) {
        self.plans.remove(name);
    }

    /// Logs what the controller found of an account of the registry file when it started.
    fn log_restored(&mut self, client: &PersistedClient, status: &ProcessStatus) {
        let (name, who) = (&client.spec.name, self.subject(&client.spec));
        match status {
            ProcessStatus::Running(handle) => {
                self.restored.insert(Launch { name: name.clone(), generation: client.generation });
                let pid = handle.pid();
                debug!(client = %name, pid, unit = handle.unit(), "{who}still running (pid {pid})");
            }
            _ if client.history.held => {
                debug!(client = %name, "{who}held, as before");
                self.plans.insert(name.clone(), client.history.clone());
            }
            // The controller before has logged how it ended.
            ProcessStatus::Ended(exit) if client.history.counted == Some(client.generation) => {
                debug!(client = %name, "{who}gone, as before: {}", in_words(*exit));
            }
            ProcessStatus::Gone { .. } => info!(client = %name, "{who}should run, but its process is gone"),
            ProcessStatus::Ended(exit) if exit.is_stopped_by_operator() => {
                warn!(client = %name, "{who}gone: {}", in_words(*exit));
            }
            ProcessStatus::Ended(exit) if exit.is_stop_asked() => {
                info!(client = %name, "{who}stopped while no controller was there: {}", in_words(*exit));
            }
            ProcessStatus::Ended(exit) => {
                let unit = client.handle.as_ref().and_then(Handle::unit);
                log_event!(
                    warn, self.of_implementations, [CLIENT_FAILED, IMPLEMENTATION_FAILED],
                    client = %name, unit,
                    "{who}{} while no controller was there", in_words(*exit)
                );
            }
        }
    }
}

/// Logs what a client says about itself, if that is new.
fn log_state((client, unit): (&ClientName, Option<&str>), before: Option<&StateReport>, now: &ClientState) {
    let before = before.map(|report| &report.state);
    if before == Some(now) {
        return;
    }
    let was_running = before == Some(&ClientState::Running);
    match now {
        ClientState::Running => info!(name: events::CLIENT_RUNNING, %client, state = %now, "logged in"),
        ClientState::Scaning => {
            info!(
                name: events::CLIENT_NEEDS_SCAN, %client, state = %now, unit,
                "waiting for its login code to be scanned; get_qrcode shows it"
            );
        }
        // The client logs the reason itself, and its exit is logged as well.
        ClientState::Stop => debug!(%client, state = %now, "says that it is stopping"),
        _ if was_running => {
            warn!(name: events::CLIENT_OFFLINE, %client, state = %now, unit, "offline (state {now}); logging in again");
        }
        // The steps of a login would hide all else where there are many clients.
        ClientState::Init | ClientState::Loading | ClientState::Confirming | ClientState::Updating => {
            debug!(%client, state = %now, "state {now}");
        }
        ClientState::Other(_) => {
            info!(%client, state = %now, "state {now}, which this controller does not know")
        }
    }
}
