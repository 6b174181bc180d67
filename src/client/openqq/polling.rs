//! Calls to `poll_api` while the client is running. A program that cannot connect to this machine answers them with a
//! redirect to the client's own API.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::sleep;

use crate::config::Endpoint;
use crate::http_client::Poller;
use crate::model::state::ClientState;
use crate::peers::PeerPolicy;

/// The shortest pause between calls. It bounds the load where the interval is configured as 0.
const MIN_PAUSE: Duration = Duration::from_millis(10);

/// Calls `endpoint` while `state` is `running`, and again `interval` after each answer. Returns when the sender of `state`
/// is dropped.
pub(crate) async fn poll(endpoint: Endpoint, interval: Duration, mut state: watch::Receiver<ClientState>) {
    let is_running = |state: &ClientState| *state == ClientState::Running;
    // A redirect of the poll_api commands this client, so no other account's client may answer in its place.
    let mut poller = Poller::new(&endpoint, PeerPolicy::of_client);
    let interval = interval.max(MIN_PAUSE);
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
