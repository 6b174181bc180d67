//! Calls to `poll_api` while the client is running: the way in for somebody who cannot connect to this machine, but can
//! answer with a redirect to our own API.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::sleep;

use crate::config::Endpoint;
use crate::model::state::ClientState;
use crate::outbound::Poller;

/// The shortest pause between calls, so that no mistake makes a storm.
const SHORTEST_PAUSE: Duration = Duration::from_millis(10);

/// Calls `endpoint` whenever `state` is `running`, and again `interval` after each answer. Returns when nobody changes
/// the state any more.
pub(super) async fn poll(endpoint: Endpoint, interval: Duration, mut state: watch::Receiver<ClientState>) {
    let is_running = |state: &ClientState| *state == ClientState::Running;
    let Some(mut poller) = Poller::new(&endpoint) else { return std::future::pending().await };
    let interval = interval.max(SHORTEST_PAUSE);
    while state.wait_for(is_running).await.is_ok() {
        let calls = async {
            loop {
                poller.call().await;
                sleep(interval).await;
            }
        };
        tokio::select! {
            () = calls => {}
            _ = state.wait_for(|state| !is_running(state)) => {}
        }
    }
}
