//! The status line that `systemctl status` shows: the clients, how they run, and what an operator has to act on.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::sleep;

use crate::login::Logins;
use crate::model::client::ClientRecord;
use crate::model::summary::{implementations, summary};
use crate::registry::Registry;
use crate::service::notify::Notifier;
use crate::supervisor::AnySupervisor;

/// The least time between two updates: a fleet that starts has hundreds of changes a second.
const PAUSE: Duration = Duration::from_millis(100);
/// How often the line is checked where nothing signals a change.
const INTERVAL: Duration = Duration::from_secs(2);

/// What the line says besides the clients.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum StatusNote {
    /// Nothing.
    #[default]
    None,
    /// The configuration could not be reloaded.
    Refused,
    /// The controller is ending.
    Ending,
}

/// Makes the status line.
#[derive(Clone, Debug)]
pub(super) struct Status {
    registry: Registry,
    implementations: Registry,
    logins: watch::Receiver<Logins>,
    supervisor: Arc<AnySupervisor>,
    /// Why clients are run in another way than the configuration prefers.
    why_so: Option<String>,
    note: watch::Sender<StatusNote>,
    notifier: Notifier,
}

impl Status {
    pub(super) fn new(
        (registry, implementations): (Registry, Registry),
        logins: watch::Receiver<Logins>,
        supervisor: Arc<AnySupervisor>,
        why_so: Option<String>,
        notifier: Notifier,
    ) -> Self {
        Self {
            registry,
            implementations,
            logins,
            supervisor,
            why_so,
            note: watch::Sender::default(),
            notifier,
        }
    }

    /// Replaces the note.
    pub(super) fn set_note(&self, note: StatusNote) {
        self.note.send_replace(note);
    }

    /// The line as it is now.
    pub(super) fn line(&self) -> String {
        let snapshot = self.registry.snapshot();
        let logins = self.logins.borrow().clone();
        let state = |record: &ClientRecord| match logins.get(&record.spec.name) {
            Some(login) => login.client_state(record.state()),
            None => record.state(),
        };
        let clients = summary(snapshot.iter().map(|view| &view.record), state);
        let processes = self.implementations.snapshot();
        let implementations = implementations(processes.iter().map(|view| &view.record));
        let implementations = implementations.map(|all| format!("; {all}")).unwrap_or_default();
        let mut line = format!("{clients}{implementations}; {}", self.supervisor.describe());
        if let Some(why) = &self.why_so {
            // In brackets, as the line has semicolons and colons already.
            line = format!("{line} ({why})");
        }
        if let Some(why) = snapshot.write_error().or(processes.write_error()) {
            line = format!("{line}; no start or stop is accepted: {why}");
        }
        match *self.note.borrow() {
            StatusNote::None => line,
            StatusNote::Refused => {
                format!("{line}; the new configuration was refused, the old one holds: see the journal")
            }
            StatusNote::Ending => format!("ending; {line}"),
        }
    }

    /// Sends each new line to the service manager. Without a service manager it waits for ever.
    pub(super) async fn follow(self) {
        if !self.notifier.is_heard() {
            return std::future::pending().await;
        }
        let (mut clients, mut note) = (self.registry.changes(), self.note.subscribe());
        let mut implementations = self.implementations.changes();
        let mut logins = self.logins.clone();
        let mut sent = String::new();
        loop {
            // Before the line is made: a later change wakes us again.
            clients.mark_unchanged();
            implementations.mark_unchanged();
            logins.mark_unchanged();
            note.mark_unchanged();
            let line = self.line();
            if line != sent {
                self.notifier.status(&line).await;
                sent = line;
            }
            // After the line and not before it, so that a single change shows at once.
            sleep(PAUSE).await;
            tokio::select! {
                // The registry is gone only at the end of the controller.
                Ok(()) = clients.changed() => {}
                Ok(()) = implementations.changed() => {}
                Ok(()) = logins.changed() => {}
                Ok(()) = note.changed() => {}
                () = sleep(INTERVAL) => {}
            }
        }
    }
}
