//! Tells the applications whose account it is, and whether it is logged in.

use std::sync::Arc;

use tokio::sync::watch;

use super::hub::{AccountStatus, Hub};
use crate::client::backend::Backend;
use crate::model::state::ClientState;

/// Follows the client's state until that is dropped.
pub(in crate::client) async fn follow_status<B: Backend>(
    hub: Hub,
    backend: Arc<B>,
    mut state: watch::Receiver<ClientState>,
) {
    let mut number = None;
    loop {
        let is_online = *state.borrow_and_update() == ClientState::Running;
        if is_online && let Ok(user) = backend.user().await {
            number = user.uid.parse().ok().or(number);
        }
        hub.set_status(AccountStatus { number, is_online });
        if state.changed().await.is_err() {
            return;
        }
    }
}
