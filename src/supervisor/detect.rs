//! [`detect`]: which supervisor runs the clients. The configuration decides, unless clients of another kind still run.

use std::io;
use std::path::{Path, PathBuf};

use super::direct::Direct;
use super::direct::adopt;
use super::systemd::{BusError, Units, UnusableError};
use super::{AnySupervisor, EventSender, proc, systemd};
use crate::config::{Mode, Settings, SystemdSettings, UnitKind};
use crate::model::boot::Started;
use crate::model::client::{Handle, ManagerKind};
use crate::model::error_chain::ErrorChain;
use crate::model::persisted::{PersistedClient, PersistedState};

/// The supervisor, and why it is this one.
#[derive(Debug)]
pub struct Detected {
    /// Runs the clients.
    pub supervisor: AnySupervisor,
    /// The reason, for people.
    pub reason: String,
    /// Whether the configuration prefers another kind.
    pub is_second_best: bool,
}

/// Why clients cannot run as configured.
#[derive(Debug, thiserror::Error)]
pub enum DetectError {
    /// Child processes cannot be identified.
    #[error("can't read /proc, without which processes can't be told apart")]
    Proc(#[source] io::Error),
    /// Units are required and cannot be used.
    #[error("clients can't be units, as mode = \"systemd\" in [supervisor] has it")]
    Units(#[source] UnusableError),
    /// Units of the registry may run, and systemd cannot be asked.
    #[error("clients of the registry are units, and systemd can't be asked about them")]
    Unreachable(#[source] BusError),
}

/// What the decision depends on besides the settings.
#[derive(Debug)]
pub struct DetectionInput<'a> {
    /// The registry.
    pub saved: PersistedState,
    /// The runtime directory of the controller's user.
    pub user_runtime: &'a Path,
    /// This program.
    pub executable: PathBuf,
}

/// What is done where no unit of the registry lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Decision {
    /// Child processes, for this reason.
    Direct(&'static str),
    /// Units. It is an error if they cannot be used.
    Require,
    /// Units if they can be used, else child processes.
    Try,
}

/// Decides where no unit of the registry lives. Child processes that live stay child processes, since no other supervisor could adopt
/// them.
fn decide(settings: &Settings, children_live: bool) -> Decision {
    match settings.supervisor.mode {
        Mode::Direct => Decision::Direct("mode = \"direct\""),
        Mode::Auto | Mode::Systemd if children_live => Decision::Direct(
            "clients of the registry are child processes of an earlier controller, and live; stop them \
                 and restart the controller to change that",
        ),
        Mode::Systemd => Decision::Require,
        Mode::Auto if settings.tmpdir.is_some() => {
            Decision::Direct("tmpdir is set, and units have folders of their own")
        }
        Mode::Auto => Decision::Try,
    }
}

/// Makes the supervisor. It reports to `events`. Must be called within a tokio runtime.
pub async fn detect(
    settings: &Settings,
    environment: DetectionInput<'_>,
    events: EventSender,
) -> Result<Detected, DetectError> {
    let DetectionInput { saved, user_runtime, executable } = environment;
    let boot_id = proc::boot_id().map_err(DetectError::Proc)?;
    let direct = async |reason: String| {
        let supervisor = Direct::new(events.clone()).map_err(DetectError::Proc)?;
        let supervisor = supervisor.with_started(started().await);
        let is_second_best = settings.supervisor.mode != Mode::Direct;
        Ok(Detected { supervisor: AnySupervisor::Direct(supervisor), reason, is_second_best })
    };
    let chosen = |units, reason, is_second_best| {
        Ok(Detected { supervisor: AnySupervisor::Units(units), reason, is_second_best })
    };
    let connect = async |manager: ManagerKind, unit: UnitKind| {
        let systemd = SystemdSettings { manager, unit, ..settings.systemd.clone() };
        Units::connect(systemd, user_runtime, executable.clone(), events.clone()).await
    };

    let (manager, configured) = (settings.systemd.manager, settings.systemd.unit);
    // No unit outlives a boot of the machine. After a reboot of a container, which keeps the boot ID, systemd is asked.
    let may_live = saved.boot_id.as_ref() == Some(&boot_id);
    if let Some(unit) = saved.clients.iter().filter(|_| may_live).find_map(unit_of) {
        // The kind is read from the unit's name and the manager from the file, since the configuration may have changed since.
        let (manager, kind) =
            (saved.manager.unwrap_or(manager), systemd::kind_of(unit).unwrap_or(configured));
        let units = connect(manager, kind).await.map_err(DetectError::Unreachable)?;
        if units.any_alive(&saved).await.map_err(DetectError::Unreachable)? {
            // They stay units of this kind and manager, since no other supervisor could adopt them.
            let is_configured = (manager, kind) == (settings.systemd.manager, configured);
            let as_configured = is_configured && settings.supervisor.mode != Mode::Direct;
            let and_live = match as_configured {
                true => "",
                false => ", and live; stop them and restart the controller to change that",
            };
            let reason = format!("clients of the registry are {}{and_live}", units.describe());
            return chosen(units, reason, !as_configured);
        }
    }
    let children_live = adopt::any_alive(children(&saved), boot_id).await;
    match decide(settings, children_live) {
        Decision::Direct(reason) => direct(reason.into()).await,
        Decision::Require => {
            let units =
                connect(manager, configured).await.map_err(|error| DetectError::Units(error.into()))?;
            units.check().await.map_err(DetectError::Units)?;
            chosen(units, "mode = \"systemd\"".to_owned(), false)
        }
        Decision::Try => {
            let units = match connect(manager, configured).await {
                Ok(units) => units,
                Err(error) => return direct(format!("units can't be used: {}", ErrorChain(&error))).await,
            };
            if !units.is_service().await {
                return direct("this controller is no service of systemd itself".into()).await;
            }
            match units.check().await {
                Ok(()) => {
                    let reason = format!("{} can be started", units.describe());
                    chosen(units, reason, false)
                }
                Err(error) => direct(format!("units can't be used: {}", ErrorChain(&error))).await,
            }
        }
    }
}

/// What started the machine or container, for child processes. Where that is systemd, only systemd is asked: `ProtectProc=`
/// hides its process, which moreover survives `systemctl soft-reboot`.
async fn started() -> Option<Started> {
    match systemd::is_booted() {
        true => systemd::machine_started().await,
        false => proc::init_start().ok().map(|ticks| Started::Init { ticks }),
    }
}

/// The clients that are, or were, child processes.
fn children(saved: &PersistedState) -> Vec<PersistedClient> {
    let direct = |client: &&PersistedClient| matches!(client.handle, Some(Handle::Direct { .. }));
    saved.clients.iter().filter(direct).cloned().collect()
}

fn unit_of(client: &PersistedClient) -> Option<&str> {
    match &client.handle {
        Some(Handle::Unit { name, .. }) => Some(name),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::client::ClientSpec;
    use crate::model::persisted::PersistedClient;
    use std::process::{Child, Command};
    use std::sync::Arc;
    use tokio::sync::mpsc;

    fn settings(mode: Mode) -> Settings {
        let mut settings = Settings::default();
        settings.supervisor.mode = mode;
        settings
    }

    #[test]
    fn running_child_processes_keep_their_supervisor() {
        for mode in [Mode::Auto, Mode::Direct, Mode::Systemd] {
            let decision = decide(&settings(mode), true);
            assert!(matches!(decision, Decision::Direct(_)), "{mode:?}: {decision:?}");
        }
    }

    #[test]
    fn configuration_decides_without_running_clients() {
        let decide = |settings: &Settings| decide(settings, false);
        assert_eq!(decide(&settings(Mode::Direct)), Decision::Direct("mode = \"direct\""));
        assert_eq!(decide(&settings(Mode::Systemd)), Decision::Require);
        assert_eq!(decide(&settings(Mode::Auto)), Decision::Try);
        let with_tmpdir = Settings { tmpdir: Some("/x".into()), ..settings(Mode::Auto) };
        assert!(matches!(decide(&with_tmpdir), Decision::Direct(reason) if reason.contains("tmpdir")));
    }

    fn saved(pid: u32, boot_id: &Arc<str>, handle: Option<Handle>) -> PersistedState {
        let start_ticks = proc::stat(pid).unwrap().start_ticks;
        let direct = Handle::Direct { pid, start_ticks, boot_id: boot_id.clone() };
        let spec = ClientSpec::example("a", "/nonexistent");
        let client = PersistedClient::example(spec, handle.or(Some(direct)));
        PersistedState { boot_id: Some(boot_id.clone()), clients: vec![client], ..PersistedState::default() }
    }

    /// A process that ends with the test.
    struct Process(Child);

    impl Drop for Process {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    async fn chosen(settings: &Settings, saved: PersistedState) -> Result<Detected, DetectError> {
        let environment = DetectionInput {
            saved,
            // There is no bus.
            user_runtime: Path::new("/nonexistent"),
            executable: "/usr/sbin/wqcontroller".into(),
        };
        detect(settings, environment, EventSender::new(mpsc::channel(8).0)).await
    }

    #[tokio::test]
    async fn running_child_processes_are_adopted_whatever_is_configured() {
        let process = Process(Command::new("sleep").arg("600").spawn().unwrap());
        let boot_id = proc::boot_id().unwrap();
        let saved = saved(process.0.id(), &boot_id, None);
        for mode in [Mode::Auto, Mode::Systemd] {
            let choice = chosen(&settings(mode), saved.clone()).await.unwrap();
            assert!(matches!(choice.supervisor, AnySupervisor::Direct(_)), "{choice:?}");
            assert!(choice.reason.contains("child processes of an earlier controller, and live; stop them"));
            assert!(choice.is_second_best);
        }
        drop(process);
        let choice = chosen(&settings(Mode::Direct), saved).await.unwrap();
        assert_eq!((choice.reason.as_str(), choice.is_second_best), ("mode = \"direct\"", false));
    }

    #[tokio::test]
    async fn units_of_an_earlier_boot_are_ignored() {
        let unit = Handle::Unit { name: "wqclient@a.service".into(), invocation_id: "0".into(), pid: 1 };
        let saved = saved(std::process::id(), &"an earlier boot".into(), Some(unit));
        let choice = chosen(&settings(Mode::Direct), saved).await.unwrap();
        assert!(matches!(choice.supervisor, AnySupervisor::Direct(_)), "{choice:?}");
    }
}
