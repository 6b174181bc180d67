//! What the log says of clients: the story that an operator reads, each event once.

use std::collections::HashSet;

use tracing::{debug, error, info, warn};

use crate::model::client::{ClientRecord, Handle, Moment, Phase};
use crate::model::fleet::{Fleet, Input, Launch, PortState};
use crate::model::name::ClientName;
use crate::model::saved::Found;
use crate::model::state::{ClientState, StateReport};
use crate::service::events;

/// Launches that an earlier controller made, whose state was not seen yet: as it is it is no news.
pub(super) type Unseen = HashSet<Launch>;

/// Says in the log what happened to a client, seen from what was known before.
pub(super) fn note(fleet: &Fleet, input: &Input, unseen: &mut Unseen) {
    let launch = match input {
        Input::Restored(saved, found) => {
            let name = &saved.spec.name;
            match found {
                Found::Running(handle) => {
                    unseen.insert(Launch { name: name.clone(), generation: saved.generation });
                    debug!(client = %name, pid = handle.pid(), unit = handle.unit(), "client is still there");
                }
                // As it was; what follows says that it still is.
                _ if saved.history.held => debug!(client = %name, "client was held before"),
                Found::Gone { .. } => info!(client = %name, "client should run, but its process is gone"),
                Found::Ended(exit) if exit.is_imposed() => warn!(client = %name, "client is gone: it {exit}"),
                Found::Ended(exit) => {
                    let unit = saved.handle.as_ref().and_then(Handle::unit);
                    warn!(
                        name: events::CLIENT_FAILED, client = %name, unit,
                        "client ended unexpectedly while no controller was there: it {exit}"
                    );
                }
            }
            return;
        }
        Input::Launched(launch, _)
        | Input::LaunchFailed(launch, _)
        | Input::Exited(launch, _)
        | Input::Replaced(launch, _)
        | Input::Frozen(launch, _)
        | Input::StopFailed(launch, _)
        | Input::StopAnnounced(launch)
        | Input::Report(launch, _)
        | Input::Probed(launch, _) => launch,
        _ => return,
    };
    let Launch { name, generation } = launch;
    // What is about an earlier process will be dropped, so it is not worth a line.
    let Some(record) = fleet.get(name).filter(|record| record.generation == *generation) else {
        return;
    };
    let (port, pid, unit) = (record.port, record.pid(), record.unit());
    match input {
        Input::Launched(_, handle) => {
            info!(
                name: events::CLIENT_STARTED,
                client = %name, %generation, pid = handle.pid(), port, unit = handle.unit(), "client started"
            );
        }
        Input::LaunchFailed(_, why) => {
            error!(name: events::CLIENT_FAILED, client = %name, error = %why, "client could not be started")
        }
        Input::Exited(_, exit) => match record.phase {
            Phase::Stopping => info!(client = %name, pid, "client stopped: it {exit}"),
            _ if exit.is_success() => info!(client = %name, pid, "client ended by itself: it {exit}"),
            _ if exit.is_imposed() => info!(client = %name, pid, "client ended: it {exit}"),
            _ => {
                warn!(
                    name: events::CLIENT_FAILED, client = %name, pid, unit,
                    "client ended unexpectedly: it {exit}"
                )
            }
        },
        Input::Replaced(_, handle) if !fleet.may_rejoin(launch) => {
            warn!(
                client = %name, pid = handle.pid(), port,
                "client was started through systemd, but its port is another client's by now; it is left alone"
            );
        }
        Input::Replaced(_, handle) if matches!(record.phase, Phase::Gone(_)) => {
            info!(
                name: events::CLIENT_STARTED,
                client = %name, %generation, pid = handle.pid(), port, unit = handle.unit(), "client was started through systemd"
            );
        }
        Input::Replaced(_, handle) => {
            info!(client = %name, %generation, pid = handle.pid(), port, "client was started anew through systemd");
        }
        Input::Frozen(_, true) => warn!(client = %name, pid, "client was frozen through systemd"),
        Input::Frozen(_, false) => info!(client = %name, pid, "client was thawed through systemd"),
        Input::StopFailed(_, why) => {
            error!(client = %name, pid, error = %why, "client could not be stopped")
        }
        Input::StopAnnounced(_) => info!(client = %name, pid, "client was told to stop"),
        Input::Report(_, report) => {
            let is_news = !unseen.remove(launch) || report.state != ClientState::Running;
            if is_news {
                note_state((name, unit), record.report.as_deref(), &report.state);
            }
        }
        Input::Probed(_, PortState::Taken) => {
            debug!(client = %name, port, "another program has this port")
        }
        _ => {}
    }
}

/// Says what follows when a client is gone but still wanted.
pub(super) fn note_plan(record: &ClientRecord, now: Moment) {
    let history = &record.history;
    let (client, failures) = (&record.spec.name, history.failures);
    match history.next_start {
        _ if !matches!(record.phase, Phase::Gone(_)) => {}
        Some(at) => {
            let pause = at.since(now);
            info!(%client, failures, "client is to be started again, in {:.1} s", pause.as_secs_f64());
        }
        None if history.held && matches!(record.phase, Phase::Gone(exit) if exit.is_imposed()) => {
            info!(
                name: events::CLIENT_HELD, %client,
                "client is held: it stays stopped until somebody starts its unit or calls start_client, or the machine boots"
            );
        }
        None if history.held => {
            let failures = (failures > 0).then_some(failures);
            warn!(name: events::CLIENT_HELD, %client, failures, "client is held: it is not started again until somebody calls start_client");
        }
        None => {}
    }
}

/// Says what a client does now, if that is new.
fn note_state((client, unit): (&ClientName, Option<&str>), before: Option<&StateReport>, now: &ClientState) {
    let before = before.map(|report| &report.state);
    if before == Some(now) {
        return;
    }
    let was_running = before == Some(&ClientState::Running);
    match now {
        ClientState::Running => {
            info!(name: events::CLIENT_RUNNING, %client, state = %now, "client is logged in");
        }
        ClientState::Scaning => {
            info!(name: events::CLIENT_NEEDS_SCAN, %client, state = %now, unit, "client waits for a scan of its code");
        }
        ClientState::Stop => info!(%client, state = %now, "client says that it ends"),
        _ if was_running => {
            warn!(name: events::CLIENT_OFFLINE, %client, state = %now, unit, "client is offline, it logs in again");
        }
        // Its way to being logged in, which with many clients would hide all else.
        ClientState::Init | ClientState::Loading | ClientState::Confirming | ClientState::Updating => {
            debug!(%client, state = %now, "client has a new state");
        }
        ClientState::Other(_) => info!(%client, state = %now, "client has a new state"),
    }
}
