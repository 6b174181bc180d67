//! Applications: the programs that speak OneBot v11 to this client, as they would to any implementation.
//!
//! Events go from the [`hub`] to each of them, actions from them to the backend.
//!
//! - `admission`: who an application is, and what it may do; `secrets`: the tokens that say so
//! - `hub`: which applications listen, and what waits for each
//! - `actions`: carries out what they ask for; `request`: how they ask
//! - `cq_code`: messages as one text; `bounded_json`: what they write, within bounds
//! - `conversation`: a WebSocket, opened by either side; `meta_event`: what it tells of itself
//! - `server`: `/onebot/v11/` on the client's port; `http_action`: actions by HTTP
//! - `reverse`: WebSockets that the client opens; `post`: events that it posts; `quick_operation`: what those are answered with
//! - `status`: whose account it is, and whether it is logged in

mod actions;
mod admission;
mod bounded_json;
mod conversation;
pub mod cq_code;
pub(super) mod http_action;
pub(super) mod hub;
mod meta_event;
mod post;
mod quick_operation;
mod request;
mod reverse;
mod secrets;
mod server;
mod status;

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use serde_json::{Map, Value};
use tokio_util::sync::CancellationToken;
use tracing::warn;

pub(super) use self::actions::ActionQueue;
use self::actions::Actions;
use self::admission::AppGuard;
use self::hub::Hub;
use self::request::ActionCall;
use self::secrets::{Signing, Tokens};
pub(super) use self::status::follow_status;
use super::backend::Backend;
use super::backend::action::{Answer, Refusal};
use super::settings::ApplicationSettings;
use crate::http::log_limit::LogRateLimiter;
use crate::http_client::ReceiverGuard;
use crate::peers::{OwnersUnavailable, PeerPolicy};

/// The applications of an account.
pub(crate) struct Applications<B> {
    actions: Actions<B>,
    hub: Hub,
    guard: AppGuard,
    /// The time between two heartbeats; zero: there are none.
    heartbeat: Duration,
    ending: CancellationToken,
    /// Limits what is logged of wrong tokens.
    refusals: LogRateLimiter,
}

/// How many wrong tokens are logged a minute.
const MAX_LOGGED: u32 = 10;

/// Makes the applications of an account, and the task of actions whose callers do not wait. `ending` is cancelled when the client
/// ends.
pub(super) fn open<B: Backend>(
    settings: &ApplicationSettings,
    backend: Arc<B>,
    hub: Hub,
    ending: CancellationToken,
) -> (Arc<Applications<B>>, ActionQueue<B>) {
    let (actions, queue) = actions::open(backend);
    let guard = AppGuard::new(Tokens::from(&settings.tokens));
    let heartbeat = settings.heartbeat;
    let refusals = LogRateLimiter::new(MAX_LOGGED);
    (Arc::new(Applications { actions, hub, guard, heartbeat, ending, refusals }), queue)
}

/// What a frame of an application asks for: the name of an action, its parameters, and what its answer repeats. None: it asks for
/// nothing.
///
/// # Errors
/// It can't be understood: the answer.
#[expect(clippy::type_complexity, reason = "for the fuzz targets alone")]
pub fn read_frame(frame: &[u8]) -> Result<Option<(String, Map<String, Value>, Option<Value>)>, Value> {
    let call = ActionCall::read(frame)?;
    Ok(call.map(|call| (call.action.name, call.action.params, call.echo)))
}

impl<B: Backend> Applications<B> {
    async fn call(&self, call: ActionCall) -> Answer {
        let own = self.hub.status().borrow().number;
        if quick_operation::is_of_another(&call.action, own) {
            let why = "the event in context is another account's: answer it on that account's connection";
            return Answer::refused(Refusal::BadParameter, why);
        }
        self.actions.call(call).await
    }

    /// Carries out an action for a caller of the API, by the same rules.
    pub(crate) async fn act_for_api(&self, name: &str, params: Map<String, Value>) -> Answer {
        self.call(ActionCall::new(name, params)).await
    }
}

/// The tasks that connect and post to the applications of the settings. Each ends by itself when the client ends. `policy` decides
/// whose programs on this machine may be reached.
pub(super) fn outgoing<B: Backend>(
    settings: &ApplicationSettings,
    applications: &Arc<Applications<B>>,
    policy: impl Fn() -> Result<Option<PeerPolicy>, OwnersUnavailable>,
) -> Vec<BoxFuture<'static, ()>> {
    let mut all = Vec::new();
    let checked = (!settings.connect.is_empty()).then(|| {
        let found = policy().inspect_err(|error| {
            warn!(
                "cannot tell who listens at the ports of onebot_server_connect ({error}); connecting anyway"
            );
        });
        found.ok().flatten().map(Arc::new)
    });
    let tokens = Arc::new(Tokens::from(&settings.connect_tokens));
    for (place, url) in settings.connect.iter().enumerate() {
        let (url, policy) = ((place, url.clone()), checked.clone().flatten());
        let connection = reverse::ReverseConnection::new(applications.clone(), url, tokens.clone(), policy);
        all.push(connection.run().boxed());
    }
    let signing = settings.secret.as_ref().map(|secret| Arc::new(Signing::from(secret)));
    for (place, url) in settings.post.iter().enumerate() {
        let guard = ReceiverGuard::of(url, &policy);
        let (posting, operations) =
            post::open(applications.clone(), (place, url.clone()), signing.clone(), guard);
        let ending = applications.ending.clone();
        let operations = async move {
            ending.run_until_cancelled(operations.run()).await;
        };
        let both = futures_util::future::join(posting.run(), operations);
        all.push(both.map(drop).boxed());
    }
    all
}
