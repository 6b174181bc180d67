//! `check_event`: a long poll for what happens.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::sleep;

use super::reply::Reply;
use crate::client::reports::Recent;
use crate::model::state::ClientState;

/// How long a caller waits where nothing happens.
const WAIT: Duration = Duration::from_secs(30);

/// The events that wait, else the next one, else none. Dropped before it returns it has taken no event: the server
/// drops it as soon as its caller hangs up.
pub(super) async fn wait(recent: &Recent, mut state: watch::Receiver<ClientState>) -> Reply {
    tokio::select! {
        // Where events and the end come together, the events are told.
        biased;
        events = recent.take() => Reply::array(events),
        () = sleep(WAIT) => nothing(),
        _ = state.wait_for(|state| *state == ClientState::Stop) => nothing(),
    }
}

/// No events.
pub(super) fn nothing() -> Reply {
    Reply::array("[]".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::Instant;

    #[tokio::test(start_paused = true)]
    async fn an_empty_list_after_half_a_minute_or_at_the_end() {
        let (recent, state) = (Recent::new(20), watch::Sender::new(ClientState::Running));
        let start = Instant::now();
        assert_eq!(wait(&recent, state.subscribe()).await.json(), "[]");
        assert_eq!(start.elapsed(), WAIT);
        let start = Instant::now();
        let (reply, _) =
            tokio::join!(wait(&recent, state.subscribe()), async { state.send_replace(ClientState::Stop) });
        assert_eq!((reply.json(), start.elapsed()), ("[]", Duration::ZERO));
    }
}
