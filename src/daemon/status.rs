//! The line that `systemctl status` shows: the clients, how they are run, and what somebody has to look at.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::sleep;

use crate::model::summary::summary;
use crate::registry::Registry;
use crate::service::notify;
use crate::supervisor::AnySupervisor;

/// The least time between two lines: a fleet that starts has hundreds of changes a second.
const PAUSE: Duration = Duration::from_millis(100);
/// How often it is looked at where nothing tells of a change.
const INTERVAL: Duration = Duration::from_secs(2);

/// What is said besides the clients.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Remark {
    /// Nothing.
    #[default]
    None,
    /// The configuration that was to be loaded has mistakes.
    Refused,
    /// The end has begun.
    Ending,
}

/// Knows the line.
#[derive(Clone, Debug)]
pub(super) struct Status {
    registry: Registry,
    supervisor: Arc<AnySupervisor>,
    /// Why clients are run in another way than the configuration prefers.
    why_so: Option<String>,
    remark: watch::Sender<Remark>,
}

impl Status {
    pub(super) fn new(registry: Registry, supervisor: Arc<AnySupervisor>, why_so: Option<String>) -> Self {
        Self { registry, supervisor, why_so, remark: watch::Sender::default() }
    }

    /// Adds this to what is said, in the place of what was added before.
    pub(super) fn remark(&self, remark: Remark) {
        self.remark.send_replace(remark);
    }

    /// The line as it is now.
    pub(super) fn line(&self) -> String {
        let snapshot = self.registry.snapshot();
        let clients = summary(snapshot.iter().map(|view| &view.record));
        let mut line = format!("{clients}; {}", self.supervisor.way());
        if let Some(why) = &self.why_so {
            // In brackets, for there are semicolons and colons enough.
            line = format!("{line} ({why})");
        }
        match *self.remark.borrow() {
            Remark::None => line,
            Remark::Refused => {
                format!("{line}; the new configuration was refused, the old one holds: see the journal")
            }
            Remark::Ending => format!("ending; {line}"),
        }
    }

    /// Tells the service manager each line that differs from the one before. Where there is none it never ends, and does
    /// nothing.
    pub(super) async fn follow(self) {
        if !notify::is_heard() {
            return std::future::pending().await;
        }
        let (mut clients, mut remark) = (self.registry.changes(), self.remark.subscribe());
        let mut told = String::new();
        loop {
            // Before the look: what changes afterwards wakes us again.
            clients.mark_unchanged();
            remark.mark_unchanged();
            let line = self.line();
            if line != told {
                notify::status(line.clone()).await;
                told = line;
            }
            sleep(PAUSE).await;
            tokio::select! {
                // The registry is gone only when the controller is about to be.
                Ok(()) = clients.changed() => {}
                Ok(()) = remark.changed() => {}
                () = sleep(INTERVAL) => {}
            }
        }
    }
}
