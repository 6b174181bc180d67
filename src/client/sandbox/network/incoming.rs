//! What other clients say and do, as far as they may.

use std::io;

use tracing::debug;

use crate::client::backend::BackendEvent;
use crate::client::backend::event::AccountEvent;
use crate::client::process::unix_seconds;
use crate::client::sandbox::SandboxState;
use crate::client::sandbox::news::News;
use crate::client::sandbox::view::changes::WorldChange;
use crate::client::sandbox::view::{Outcome, PeerMessage};

/// Takes a message of the client of `uid`. Returns why it is refused, if it is.
pub(super) async fn hear(
    uid: &str,
    message: PeerMessage,
    shared: &SandboxState,
    news: &News,
) -> io::Result<Option<String>> {
    // In a block of its own: the guard must not live until the `await` below.
    let heard = {
        let mut view = shared.view();
        let heard = view.receive(uid, message, shared.next_id(), unix_seconds());
        heard.map(|message| (view.sender_of(&message), message))
    };
    match heard {
        Ok((sender, message)) => {
            let own = shared.own_uid();
            news.message(&own, sender, message).await.map_err(io::Error::other)?;
            Ok(None)
        }
        Err(refused) => Ok(Some(refused.to_string())),
    }
}

/// Applies a change by the client of `uid`, if it may be made.
pub(super) async fn change(
    uid: &str,
    made: WorldChange,
    shared: &SandboxState,
    news: &News,
) -> io::Result<()> {
    if made.by != uid && !shared.view().has_no_client(&made.by) {
        // Not a reason to end the connection: that client may be so new that the other did not know of it.
        debug!("{uid} decides in the name of {}, who has a client; nothing is done", made.by);
        return Ok(());
    }
    let outcome = shared.view().apply(&made, unix_seconds()).unwrap_or_default();
    report(news, &shared.own_uid(), outcome).await
}

/// Tells what follows from a change.
pub(crate) async fn report(news: &News, own: &str, outcome: Outcome) -> io::Result<()> {
    news.outcome(own, outcome).await.map_err(io::Error::other)
}

pub(crate) async fn emit(news: &News, own: &str, events: Vec<AccountEvent>) -> io::Result<()> {
    for event in events {
        news.tell(own, BackendEvent::Account(Box::new(event))).await.map_err(io::Error::other)?;
    }
    Ok(())
}
