//! Which supervisor runs the clients: as the configuration says, except that what lives is never left behind.

use std::io;
use std::path::{Path, PathBuf};

use tokio::sync::mpsc;

use super::direct::Direct;
use super::systemd::{BusError, Units, UnusableError};
use super::{AnySupervisor, Event, adopt, proc, systemd};
use crate::config::{Mode, Settings, SystemdSettings};
use crate::model::chain::Chain;
use crate::model::client::Handle;
use crate::model::saved::{Saved, SavedClient};

/// What was chosen, and why.
#[derive(Debug)]
pub struct Choice {
    /// Runs the clients.
    pub supervisor: AnySupervisor,
    /// The reason, for people.
    pub reason: String,
}

/// Why clients can't be run as configured.
#[derive(Debug, thiserror::Error)]
pub enum ChooseError {
    /// Child processes can't be told apart.
    #[error("can't read /proc, without which processes can't be told apart")]
    Proc(#[source] io::Error),
    /// Units are wanted and can't be used.
    #[error("clients can't be units, as mode = \"systemd\" in [supervisor] has it")]
    Units(#[source] UnusableError),
    /// Units may run, and systemd can't be asked.
    #[error("clients of the registry are units, and systemd can't be asked about them")]
    Unreachable(#[source] BusError),
}

/// What the choice depends on besides the settings.
#[derive(Debug)]
pub struct Circumstances<'a> {
    /// The registry.
    pub saved: &'a Saved,
    /// The runtime directory of our user.
    pub user_runtime: &'a Path,
    /// This program.
    pub executable: PathBuf,
}

/// Chooses. Events go to `events`. Must be called within a tokio runtime.
pub async fn choose(
    settings: &Settings,
    circumstances: Circumstances<'_>,
    events: mpsc::Sender<Event>,
) -> Result<Choice, ChooseError> {
    let Circumstances { saved, user_runtime, executable } = circumstances;
    let boot_id = proc::boot_id().map_err(ChooseError::Proc)?;
    let same_boot = saved.boot_id.as_ref() == Some(&boot_id);
    let direct = |reason: String| {
        let supervisor = Direct::new(events.clone()).map_err(ChooseError::Proc)?;
        Ok(Choice { supervisor: AnySupervisor::Direct(supervisor), reason })
    };
    let connect = async |systemd: SystemdSettings| {
        Units::connect(systemd, user_runtime, executable.clone(), events.clone()).await
    };
    let mode = settings.supervisor.mode;

    // What lives stays what it is.
    if let Some(unit) = saved.clients.iter().filter(|_| same_boot).find_map(unit_of) {
        let kind = systemd::kind_of(unit).unwrap_or(settings.systemd.unit);
        let wanted = SystemdSettings { unit: kind, ..settings.systemd.clone() };
        let units = connect(wanted.clone()).await.map_err(ChooseError::Unreachable)?;
        let live = units.any_alive(saved).await.map_err(ChooseError::Unreachable)?;
        if live && (mode == Mode::Direct || kind != settings.systemd.unit) {
            let reason = format!("clients of the registry are {}, and live", units.describe());
            return Ok(Choice { supervisor: AnySupervisor::Units(units), reason });
        }
        if live {
            return Ok(Choice { reason: as_before(&units), supervisor: AnySupervisor::Units(units) });
        }
    }
    let children: Vec<SavedClient> = saved
        .clients
        .iter()
        .filter(|client| matches!(client.handle, Some(Handle::Direct { .. })))
        .cloned()
        .collect();
    if mode != Mode::Direct && adopt::any_alive(children, boot_id).await {
        return direct(
            "clients of the registry are child processes of an earlier controller, and live".into(),
        );
    }

    match mode {
        Mode::Direct => direct("mode = \"direct\"".into()),
        Mode::Systemd => {
            let units = connect(settings.systemd.clone()).await;
            let units = units.map_err(|error| ChooseError::Units(error.into()))?;
            units.check().await.map_err(ChooseError::Units)?;
            let reason = "mode = \"systemd\"".to_owned();
            Ok(Choice { supervisor: AnySupervisor::Units(units), reason })
        }
        Mode::Auto if settings.tmpdir.is_some() => {
            direct("tmpdir is set, and units have folders of their own".into())
        }
        Mode::Auto => {
            let units = match connect(settings.systemd.clone()).await {
                Ok(units) => units,
                Err(error) => return direct(format!("units can't be used: {}", Chain(&error))),
            };
            if !units.is_service().await {
                return direct("this controller is no service of systemd itself".into());
            }
            match units.check().await {
                Ok(()) => {
                    let reason = format!("{} can be started", units.describe());
                    Ok(Choice { supervisor: AnySupervisor::Units(units), reason })
                }
                Err(error) => direct(format!("units can't be used: {}", Chain(&error))),
            }
        }
    }
}

fn as_before(units: &Units) -> String {
    format!("clients of the registry are {}", units.describe())
}

fn unit_of(client: &SavedClient) -> Option<&str> {
    match &client.handle {
        Some(Handle::Unit { name, .. }) => Some(name),
        _ => None,
    }
}
