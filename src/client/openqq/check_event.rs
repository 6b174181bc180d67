//! `check_event`: a long poll for events.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::sleep;

use super::reply::ApiReply;
use crate::client::reports::RecentEvents;
use crate::model::state::ClientState;

/// How long a caller waits for an event.
const WAIT: Duration = Duration::from_secs(30);

/// Returns the waiting events, else the next one, else none. If it is dropped before, as the server does when
/// the caller hangs up, it has taken no event.
pub(crate) async fn wait(recent: &RecentEvents, mut state: watch::Receiver<ClientState>) -> ApiReply {
    tokio::select! {
        // If events and the end come together, the events are returned.
        biased;
        events = recent.take() => ApiReply::array(events),
        () = sleep(WAIT) => nothing(),
        _ = state.wait_for(|state| *state == ClientState::Stop) => nothing(),
    }
}

/// No events.
pub(crate) fn nothing() -> ApiReply {
    ApiReply::array("[]".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::Instant;

    #[tokio::test(start_paused = true)]
    async fn check_event_is_empty_after_the_timeout_or_at_the_end() {
        let (recent, state) = (RecentEvents::new(20), watch::Sender::new(ClientState::Running));
        let start = Instant::now();
        assert_eq!(wait(&recent, state.subscribe()).await.json(), "[]");
        assert_eq!(start.elapsed(), WAIT);
        let start = Instant::now();
        let (reply, _) =
            tokio::join!(wait(&recent, state.subscribe()), async { state.send_replace(ClientState::Stop) });
        assert_eq!((reply.json(), start.elapsed()), ("[]", Duration::ZERO));
    }
}
