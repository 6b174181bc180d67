//! What comes to the actor unasked, in the order in which it happened.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::timeout;
use tracing::warn;

use crate::model::fleet::Input;
use crate::statefile::{Reported, StateFiles};
use crate::supervisor::Event;

/// How many events are passed on together.
const BATCH: usize = 64;
/// How long what clients said last is waited for. It is a look at small files; more means that their disk does not answer.
const PATIENCE: Duration = Duration::from_secs(1);

/// What comes to the registry unasked.
#[derive(Debug)]
pub enum News {
    /// From the supervisor.
    Event(Event),
    /// From a client.
    Reported(Reported),
}

impl From<Reported> for News {
    fn from(reported: Reported) -> Self {
        Self::Reported(reported)
    }
}

impl From<News> for Input {
    fn from(news: News) -> Self {
        match news {
            News::Event(Event::Ended(launch, exit)) => Self::Exited(launch, exit),
            News::Event(Event::Replaced(launch, handle)) => Self::Replaced(launch, handle),
            News::Event(Event::Frozen(launch, frozen)) => Self::Frozen(launch, frozen),
            News::Reported(Reported { launch, report }) => Self::Report(launch, report),
        }
    }
}

/// Passes on what the supervisor tells; before a client's end, what the client said last: whoever sees that it is gone is to see
/// its reason.
pub(super) async fn pass_on(
    mut events: mpsc::Receiver<Event>,
    state_files: StateFiles,
    news: mpsc::Sender<News>,
) {
    let mut batch = Vec::with_capacity(BATCH);
    while events.recv_many(&mut batch, BATCH).await > 0 {
        if batch.iter().any(|event| matches!(event, Event::Ended(..)))
            && timeout(PATIENCE, state_files.catch_up()).await.is_err()
        {
            warn!(
                "clients' state files can't be read just now, so what a client said before its end may come late"
            );
        }
        for event in batch.drain(..) {
            if news.send(News::Event(event)).await.is_err() {
                return;
            }
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
    async fn an_end_is_told_though_the_state_files_can_not_be_read() {
        let launch = Launch { name: ClientName::new("a").unwrap(), generation: Generation(1) };
        let (supervisor, events) = mpsc::channel(8);
        let (told, mut news) = mpsc::channel(8);
        // Nobody looks at these.
        tokio::spawn(pass_on(events, StateFiles::open(), told));
        let began = Instant::now();
        supervisor.send(Event::Frozen(launch.clone(), true)).await.unwrap();
        assert!(matches!(news.recv().await, Some(News::Event(Event::Frozen(..)))));
        assert_eq!(began.elapsed(), Duration::ZERO, "only before an end is something waited for");
        supervisor.send(Event::Ended(launch, Exit::Code(1))).await.unwrap();
        assert!(matches!(news.recv().await, Some(News::Event(Event::Ended(..)))));
        assert_eq!(began.elapsed(), PATIENCE);
    }
}
