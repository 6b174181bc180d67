//! Calls to `poll_api` while the client is running. A program that cannot connect to this machine answers them with a
//! redirect to the client's own API.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::sleep;

use crate::config::Endpoint;
use crate::http_client::Poller;
use crate::model::state::ClientState;
use crate::peers::PeerPolicy;

/// Calls `endpoint` while `state` is `running`, and again `interval` after each answer. Returns when the sender of `state`
/// is dropped.
pub(crate) async fn poll(endpoint: Endpoint, interval: Duration, mut state: watch::Receiver<ClientState>) {
    let is_running = |state: &ClientState| *state == ClientState::Running;
    // A redirect of the poll_api commands this client, so no other account's client may answer in its place.
    let mut poller = Poller::new(&endpoint, PeerPolicy::of_client);
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
