//! The registry of implementations: the same parts as that of clients, with rules and files of its own.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use tokio::sync::{mpsc, watch};

use super::controller::INPUTS;
use super::restore::restore;
use super::setup::implementation_rules;
use crate::client_dirs::ClientDirs;
use crate::config::{ManagerKind, Settings};
use crate::metrics::Metrics;
use crate::model::client::{ClientFiles, ClientSpec};
use crate::model::persisted::PersistedState;
use crate::paths::Paths;
use crate::registry::{ImplementationLauncher, Launcher, Registry, WorkerContext};
use crate::statefile::StateFiles;
use crate::store::Store;
use crate::supervisor::direct::Direct;
use crate::supervisor::{AnySupervisor, EventSender};

/// The parts that run implementations.
pub(super) struct Implementations {
    pub(super) registry: Registry,
    pub(super) supervisor: Arc<AnySupervisor>,
    pub(super) store: Arc<Store>,
    /// The parent of the folders with what each of them shows.
    pub(super) runtime: Arc<Path>,
}

/// What the controller knows already when it makes them.
pub(super) struct Given<'a> {
    pub(super) settings: watch::Receiver<Arc<Settings>>,
    pub(super) paths: &'a Paths,
    pub(super) user_runtime: &'a Path,
    pub(super) launcher: ImplementationLauncher,
    /// How clients run.
    pub(super) clients: &'a AnySupervisor,
    pub(super) client_dirs: Arc<ClientDirs>,
    pub(super) boot_id: Arc<str>,
    pub(super) run_id: Arc<str>,
    pub(super) metrics: Arc<Metrics>,
}

impl Implementations {
    /// Takes over those of an earlier controller. The second value runs their registry.
    pub(super) async fn start(
        given: Given<'_>,
        (store, saved): (Arc<Store>, PersistedState),
    ) -> anyhow::Result<(Self, impl Future<Output = ()> + Send + use<>)> {
        let Given { settings, paths, user_runtime, launcher, clients, client_dirs, boot_id, run_id, metrics } =
            given;
        let (inputs, queued_inputs) = mpsc::channel(INPUTS);
        let supervisor =
            supervisor(clients, user_runtime, launcher.config.clone(), EventSender::new(inputs.clone()))
                .await?;
        // Where systemd makes `RuntimeDirectory=wqimpl/%i` of wqimpl@.service (systemd.exec(5)).
        let runtime: Arc<Path> = match supervisor.manager() {
            Some(ManagerKind::System) => Path::new("/run/wqimpl").into(),
            Some(ManagerKind::User) => user_runtime.join("wqimpl").into(),
            None => paths.implementations_runtime.as_path().into(),
        };
        let resettled = |spec: &ClientSpec| {
            let files = ClientFiles::in_folder(runtime.join(spec.id.as_str()), &spec.name);
            ClientSpec { files, ..spec.clone() }
        };
        let restored =
            restore(saved, (&supervisor, "implementations"), &client_dirs, resettled, &boot_id, run_id).await;
        let rules = implementation_rules(&settings.borrow(), &supervisor);
        let supervisor = Arc::new(supervisor);
        let context = WorkerContext {
            supervisor: supervisor.clone(),
            settings,
            launcher: Launcher::Implementation(launcher),
            client_dirs,
            boot_id,
            // Their state is asked for, and not read from files.
            state_files: StateFiles::none(),
            metrics,
        };
        let (registry, actor) =
            Registry::new(rules, context, store.clone(), restored, (inputs, queued_inputs));
        Ok((Self { registry, supervisor, store, runtime }, actor))
    }
}

/// Implementations run as clients do.
async fn supervisor(
    clients: &AnySupervisor,
    user_runtime: &Path,
    config: Option<PathBuf>,
    events: EventSender,
) -> anyhow::Result<AnySupervisor> {
    if let AnySupervisor::Units(units) = clients {
        let units = units.of_implementations(user_runtime, config, events).await;
        return Ok(AnySupervisor::Units(units.context("can't connect to systemd for implementations")?));
    }
    let direct = Direct::of_implementations(events).context("can't read /proc")?;
    // The same value for both, so that both registries judge alike whether there was a reboot.
    Ok(AnySupervisor::Direct(direct.with_started(clients.started())))
}
