//! Which supervisor runs the clients: as the configuration says, except that what lives is never left behind.

use std::io;
use std::path::{Path, PathBuf};

use tokio::sync::mpsc;

use super::direct::Direct;
use super::systemd::{BusError, Units, UnusableError};
use super::{AnySupervisor, Event, adopt, proc, systemd};
use crate::config::{Mode, Settings, SystemdSettings, UnitKind};
use crate::model::chain::Chain;
use crate::model::client::{Handle, ManagerKind};
use crate::model::saved::{Saved, SavedClient};

/// What was chosen, and why.
#[derive(Debug)]
pub struct Choice {
    /// Runs the clients.
    pub supervisor: AnySupervisor,
    /// The reason, for people.
    pub reason: String,
    /// Whether it is something else than the configuration prefers, so that an operator may wonder.
    pub is_second_best: bool,
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
    pub saved: Saved,
    /// The runtime directory of our user.
    pub user_runtime: &'a Path,
    /// This program.
    pub executable: PathBuf,
}

/// The clients of the registry that live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Living {
    Nobody,
    Units(ManagerKind, UnitKind),
    Children,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Decision {
    /// Child processes, for this reason.
    Direct(&'static str),
    /// Units, or else it can't go on.
    Require,
    /// Units where they can be used.
    Try,
    /// Units of this kind and this manager, whatever the configuration says of them now.
    Keep(ManagerKind, UnitKind),
}

/// Decides. What lives stays what it is: nobody else could take it up.
fn decide(settings: &Settings, living: Living) -> Decision {
    match (living, settings.supervisor.mode) {
        (Living::Units(manager, kind), _) => Decision::Keep(manager, kind),
        (_, Mode::Direct) => Decision::Direct("mode = \"direct\""),
        (Living::Children, _) => {
            Decision::Direct("clients of the registry are child processes of an earlier controller, and live")
        }
        (Living::Nobody, Mode::Systemd) => Decision::Require,
        (Living::Nobody, Mode::Auto) if settings.tmpdir.is_some() => {
            Decision::Direct("tmpdir is set, and units have folders of their own")
        }
        (Living::Nobody, Mode::Auto) => Decision::Try,
    }
}

/// Chooses. Events go to `events`. Must be called within a tokio runtime.
pub async fn choose(
    settings: &Settings,
    circumstances: Circumstances<'_>,
    events: mpsc::Sender<Event>,
) -> Result<Choice, ChooseError> {
    let Circumstances { saved, user_runtime, executable } = circumstances;
    let boot_id = proc::boot_id().map_err(ChooseError::Proc)?;
    let direct = |reason: String| {
        let supervisor = Direct::new(events.clone()).map_err(ChooseError::Proc)?;
        let is_second_best = settings.supervisor.mode != Mode::Direct;
        Ok(Choice { supervisor: AnySupervisor::Direct(supervisor), reason, is_second_best })
    };
    let chosen = |units, reason, is_second_best| {
        Ok(Choice { supervisor: AnySupervisor::Units(units), reason, is_second_best })
    };
    let connect = async |manager: ManagerKind, unit: UnitKind| {
        let systemd = SystemdSettings { manager, unit, ..settings.systemd.clone() };
        Units::connect(systemd, user_runtime, executable.clone(), events.clone()).await
    };

    let (manager, configured) = (settings.systemd.manager, settings.systemd.unit);
    let mut living = Living::Nobody;
    let mut connected = None;
    // After a boot there are none, however they were called.
    let same_boot = saved.boot_id.as_ref() == Some(&boot_id);
    if let Some(unit) = saved.clients.iter().filter(|_| same_boot).find_map(unit_of) {
        let (manager, kind) =
            (saved.manager.unwrap_or(manager), systemd::kind_of(unit).unwrap_or(configured));
        let units = connect(manager, kind).await.map_err(ChooseError::Unreachable)?;
        if units.any_alive(&saved).await.map_err(ChooseError::Unreachable)? {
            living = Living::Units(manager, kind);
            connected = Some(units);
        }
    }
    if living == Living::Nobody && adopt::any_alive(children(&saved), boot_id).await {
        living = Living::Children;
    }
    match decide(settings, living) {
        Decision::Direct(reason) => direct(reason.into()),
        Decision::Keep(kept, kind) => {
            let units = match connected {
                Some(units) => units,
                None => connect(kept, kind).await.map_err(ChooseError::Unreachable)?,
            };
            let as_configured =
                (kept, kind) == (manager, configured) && settings.supervisor.mode != Mode::Direct;
            let and_live = if as_configured { "" } else { ", and live" };
            let reason = format!("clients of the registry are {}{and_live}", units.describe());
            chosen(units, reason, !as_configured)
        }
        Decision::Require => {
            let units =
                connect(manager, configured).await.map_err(|error| ChooseError::Units(error.into()))?;
            units.check().await.map_err(ChooseError::Units)?;
            chosen(units, "mode = \"systemd\"".to_owned(), false)
        }
        Decision::Try => {
            let units = match connect(manager, configured).await {
                Ok(units) => units,
                Err(error) => return direct(format!("units can't be used: {}", Chain(&error))),
            };
            if !units.is_service().await {
                return direct("this controller is no service of systemd itself".into());
            }
            match units.check().await {
                Ok(()) => {
                    let reason = format!("{} can be started", units.describe());
                    chosen(units, reason, false)
                }
                Err(error) => direct(format!("units can't be used: {}", Chain(&error))),
            }
        }
    }
}

/// The clients that are, or were, child processes.
fn children(saved: &Saved) -> Vec<SavedClient> {
    let direct = |client: &&SavedClient| matches!(client.handle, Some(Handle::Direct { .. }));
    saved.clients.iter().filter(direct).cloned().collect()
}

fn unit_of(client: &SavedClient) -> Option<&str> {
    match &client.handle {
        Some(Handle::Unit { name, .. }) => Some(name),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::client::{ClientFiles, ClientSpec, Generation, History};
    use crate::model::name::ClientName;
    use crate::model::saved::Desired;
    use std::process::{Child, Command};
    use std::sync::Arc;

    fn settings(mode: Mode) -> Settings {
        let mut settings = Settings::default();
        settings.supervisor.mode = mode;
        settings
    }

    #[test]
    fn what_lives_stays_what_it_is() {
        for mode in [Mode::Auto, Mode::Direct, Mode::Systemd] {
            for kind in [UnitKind::Template, UnitKind::Transient] {
                for manager in [ManagerKind::System, ManagerKind::User] {
                    let decision = decide(&settings(mode), Living::Units(manager, kind));
                    assert_eq!(decision, Decision::Keep(manager, kind), "{mode:?}");
                }
            }
            let decision = decide(&settings(mode), Living::Children);
            assert!(matches!(decision, Decision::Direct(_)), "{mode:?}: {decision:?}");
        }
    }

    #[test]
    fn where_nobody_lives_the_configuration_decides() {
        let decide = |settings: &Settings| decide(settings, Living::Nobody);
        assert_eq!(decide(&settings(Mode::Direct)), Decision::Direct("mode = \"direct\""));
        assert_eq!(decide(&settings(Mode::Systemd)), Decision::Require);
        assert_eq!(decide(&settings(Mode::Auto)), Decision::Try);
        let with_tmpdir = Settings { tmpdir: Some("/x".into()), ..settings(Mode::Auto) };
        assert!(matches!(decide(&with_tmpdir), Decision::Direct(reason) if reason.contains("tmpdir")));
    }

    fn saved(pid: u32, boot_id: &Arc<str>, handle: Option<Handle>) -> Saved {
        let name = ClientName::new("a").unwrap();
        let files = ClientFiles::in_folder("/nonexistent".into(), &name);
        let start_ticks = proc::stat(pid).unwrap().start_ticks;
        let direct = Handle::Direct { pid, start_ticks, boot_id: boot_id.clone() };
        let client = SavedClient {
            spec: Arc::new(ClientSpec { name, params: [].into(), files }),
            port: 5000,
            generation: Generation(1),
            desired: Desired::Running,
            handle: handle.or(Some(direct)),
            history: History::default(),
        };
        Saved { boot_id: Some(boot_id.clone()), clients: vec![client], ..Saved::default() }
    }

    /// A process that ends with the test.
    struct Process(Child);

    impl Drop for Process {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    async fn chosen(settings: &Settings, saved: Saved) -> Result<Choice, ChooseError> {
        let circumstances = Circumstances {
            saved,
            // Nobody has a bus there.
            user_runtime: Path::new("/nonexistent"),
            executable: "/usr/sbin/wqcontroller".into(),
        };
        choose(settings, circumstances, mpsc::channel(8).0).await
    }

    #[tokio::test]
    async fn child_processes_that_live_are_taken_up_whatever_is_configured() {
        let process = Process(Command::new("sleep").arg("600").spawn().unwrap());
        let boot_id = proc::boot_id().unwrap();
        let saved = saved(process.0.id(), &boot_id, None);
        for mode in [Mode::Auto, Mode::Systemd] {
            let choice = chosen(&settings(mode), saved.clone()).await.unwrap();
            assert!(matches!(choice.supervisor, AnySupervisor::Direct(_)), "{choice:?}");
            assert!(choice.reason.contains("child processes of an earlier controller, and live"));
            assert!(choice.is_second_best);
        }
        drop(process);
        let choice = chosen(&settings(Mode::Direct), saved).await.unwrap();
        assert_eq!((choice.reason.as_str(), choice.is_second_best), ("mode = \"direct\"", false));
    }

    #[tokio::test]
    async fn units_of_an_earlier_boot_are_none_and_systemd_is_not_asked() {
        let unit = Handle::Unit { name: "wqclient@a.service".into(), invocation_id: "0".into(), pid: 1 };
        let saved = saved(std::process::id(), &"an earlier boot".into(), Some(unit));
        let choice = chosen(&settings(Mode::Direct), saved).await.unwrap();
        assert!(matches!(choice.supervisor, AnySupervisor::Direct(_)), "{choice:?}");
    }
}
