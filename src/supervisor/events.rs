//! [`EventSender`]: how supervisors tell the registry what happens to processes.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::timeout;
use tracing::{debug, warn};

use crate::model::fleet::{Input, ProcessEvent};
use crate::statefile::StateFiles;

/// How long an exit waits for the client's state file. Reading it takes milliseconds; more means that the disk hangs.
const STATE_FILE_TIMEOUT: Duration = Duration::from_secs(1);

/// Sends events of processes to the registry. An exit is sent after everything that the client wrote to its state file, so
/// that the fleet knows the reason when it plans what follows.
#[derive(Clone, Debug)]
pub struct EventSender {
    inputs: mpsc::Sender<Input>,
    state_files: Option<StateFiles>,
}

impl EventSender {
    /// A sender without state files: exits are sent at once.
    pub fn new(inputs: mpsc::Sender<Input>) -> Self {
        Self { inputs, state_files: None }
    }

    /// Has exits wait until these files are read.
    pub fn after_state_files(self, state_files: StateFiles) -> Self {
        Self { state_files: Some(state_files), ..self }
    }

    /// Sends events in their order. Waits for state files once, if any of the events is an exit.
    pub async fn send(&self, events: Vec<ProcessEvent>) {
        let is_exit = |event: &ProcessEvent| matches!(event, ProcessEvent::Exited(..));
        if let Some(state_files) = &self.state_files
            && events.iter().any(is_exit)
            // On a disk that hangs the exit is sent without its reason: a client that is not started again is worse.
            && timeout(STATE_FILE_TIMEOUT, state_files.catch_up()).await.is_err()
        {
            for event in &events {
                if is_exit(event) {
                    warn!(
                        client = %event.launch().name,
                        "its state file could not be read within 1 s; the reason for its exit may be missing"
                    );
                }
            }
        }
        for event in events {
            // Fails only while the controller shuts down.
            let _ = self.inputs.send(event.into()).await;
        }
    }

    /// Sends an event that may be lost. Never waits: before the registry is restored, nothing empties its queue.
    pub(super) fn try_send(&self, event: ProcessEvent) {
        if let Err(error) = self.inputs.try_send(event.into()) {
            debug!(%error, "an event of a process was dropped: the registry's queue is full");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::client::{Exit, Generation};
    use crate::model::fleet::Launch;
    use crate::model::name::ClientName;
    use tokio::time::Instant;

    #[tokio::test(start_paused = true)]
    async fn exit_is_sent_though_state_files_cannot_be_read() {
        let launch = Launch { name: ClientName::new("a").unwrap(), generation: Generation(1) };
        let (inputs, mut received) = mpsc::channel(8);
        // Nothing runs the watcher of these, so a read never ends.
        let events = EventSender::new(inputs).after_state_files(StateFiles::open());
        let began = Instant::now();
        events.send(vec![ProcessEvent::Frozen(launch.clone(), true)]).await;
        assert!(matches!(received.recv().await, Some(Input::Process(ProcessEvent::Frozen(..)))));
        assert_eq!(began.elapsed(), Duration::ZERO, "only an exit waits for state files");
        events.send(vec![ProcessEvent::Exited(launch, Exit::Code(1))]).await;
        assert!(matches!(received.recv().await, Some(Input::Process(ProcessEvent::Exited(..)))));
        assert_eq!(began.elapsed(), STATE_FILE_TIMEOUT);
    }
}
