//! Another machine, as a move sees it: calls below `/v1` of its controller.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderValue, IF_NONE_MATCH};
use http::{Method, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use serde::Deserialize;
use serde_json::json;
use tokio::time::timeout;

use super::side::{LoginAfterwards, Seen, Side, SideError};
use crate::accounts::{KeptOf, KeptStream};
use crate::machines::{Machines, RemoteAccount, Target};
use crate::model::machine::MachineName;
use crate::model::name::ClientName;
use crate::wire::v1::problem::Problem;
use crate::wire::v1::requests::{DesiredState, Parameters};
use crate::wire::v1::routes;

/// How long a call may take that waits for processes. A controller gives up a start or a stop sooner.
const PATIENCE: Duration = Duration::from_secs(600);

/// The largest answer that is read, in bytes: the parameters of an account.
const MAX_ANSWER: usize = 16 * 1024 * 1024;

/// Another machine.
#[derive(Clone, Debug)]
pub(super) struct There {
    pub(super) machines: Machines,
    pub(super) machine: MachineName,
}

/// What is read of an account.
#[derive(Deserialize)]
struct Account {
    desired: DesiredState,
    implementation: Option<Implementation>,
    backend: Option<String>,
}

#[derive(Deserialize)]
struct Implementation {
    kind: Option<String>,
}

/// What is read of a refusal.
#[derive(Default, Deserialize)]
struct Refusal {
    #[serde(default)]
    code: String,
    #[serde(default)]
    detail: String,
}

#[derive(Deserialize)]
struct Keeps {
    client: bool,
    implementation: bool,
}

#[derive(Deserialize)]
struct WithParameters {
    parameters: Parameters,
}

/// What is sent.
enum Sent {
    Nothing,
    Json(serde_json::Value),
    Kept(KeptStream),
}

fn unclear(error: impl std::fmt::Display) -> SideError {
    SideError::Refused(format!("its answer can't be read: {error}"))
}

impl There {
    /// The account as its machine shows it.
    pub(super) async fn account(&self, name: &ClientName) -> Result<RemoteAccount, SideError> {
        let answer = self.call(Method::GET, name, "", Sent::Nothing).await?;
        RemoteAccount::of_json(&answer).map_err(unclear)
    }

    /// Makes a call and reads its answer, which is one of success.
    async fn call(
        &self,
        method: Method,
        name: &ClientName,
        rest: &str,
        sent: Sent,
    ) -> Result<Bytes, SideError> {
        let calling = async {
            let response = self.answer(method, name, rest, sent).await?;
            let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await;
            body.map(|body| body.to_bytes()).map_err(|error| broke(&*error))
        };
        timeout(PATIENCE, calling).await.unwrap_or_else(|_| Err(late()))
    }

    /// Makes a call and returns its answer, once it is known to be one of success.
    async fn answer(
        &self,
        method: Method,
        name: &ClientName,
        rest: &str,
        sent: Sent,
    ) -> Result<http::Response<Incoming>, SideError> {
        let target: Arc<Target> = self
            .machines
            .target(&self.machine)
            .map_err(|refusal| SideError::Unreachable(Problem::from(&refusal).detail))?;
        let mut headers = HeaderMap::new();
        let body = match sent {
            Sent::Nothing => Full::default().map_err(|never| match never {}).boxed_unsync(),
            Sent::Json(value) => {
                headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
                // Only a new account may come about.
                headers.insert(IF_NONE_MATCH, HeaderValue::from_static("*"));
                Full::from(value.to_string()).map_err(|never| match never {}).boxed_unsync()
            }
            Sent::Kept(content) => {
                headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
                content
            }
        };
        let path = routes::path_of(name, rest);
        let answered = target.exchange(method, &path, headers, body).await;
        let response = answered.map_err(|failure| SideError::Unreachable(failure.to_string()))?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await;
        let body = body.map(|body| body.to_bytes()).unwrap_or_default();
        let Refusal { code, detail } = serde_json::from_slice(&body).unwrap_or_default();
        Err(match (status, code.as_str()) {
            (StatusCode::CONFLICT, "still_running") => SideError::Running,
            (StatusCode::PRECONDITION_FAILED, _) => SideError::Exists,
            // It can't just now, or what stands before it can't reach it.
            (StatusCode::SERVICE_UNAVAILABLE | StatusCode::BAD_GATEWAY | StatusCode::GATEWAY_TIMEOUT, _) => {
                SideError::Unreachable(format!("its controller answers HTTP {status}: {detail}"))
            }
            (StatusCode::NOT_FOUND, "no_such_path") => SideError::Refused(
                "its controller is too old to move accounts: install the same version there".to_owned(),
            ),
            (StatusCode::FORBIDDEN | StatusCode::UNAUTHORIZED, _) => SideError::Refused(format!(
                "its controller does not let this one control accounts (token_file in [machines], auth.doors there): {detail}"
            )),
            (_, "no_such_account") => SideError::Missing,
            _ if detail.is_empty() => SideError::Refused(format!("its controller answers HTTP {status}")),
            _ => SideError::Refused(detail),
        })
    }

    async fn act(&self, method: Method, name: &ClientName, rest: &str) -> Result<(), SideError> {
        self.call(method, name, rest, Sent::Nothing).await.map(drop)
    }
}

fn broke(error: &(dyn std::error::Error + Send + Sync)) -> SideError {
    SideError::Unreachable(format!("the answer broke off: {error}"))
}

fn late() -> SideError {
    SideError::Unreachable(format!("no answer within {} s", PATIENCE.as_secs()))
}

impl Side for There {
    async fn look(&self, name: &ClientName) -> Result<Option<Seen>, SideError> {
        let answer = match self.call(Method::GET, name, "", Sent::Nothing).await {
            Err(SideError::Missing) => return Ok(None),
            answer => answer?,
        };
        let account: Account = serde_json::from_slice(&answer).map_err(unclear)?;
        let implementation = account.implementation.map(|one| one.kind.unwrap_or_default());
        let login = LoginAfterwards::of(implementation.as_deref(), account.backend.as_deref());
        Ok(Some(Seen { is_running: account.desired == DesiredState::Running, login }))
    }

    async fn keeps(&self, name: &ClientName, of: KeptOf) -> Result<bool, SideError> {
        let answer = self.call(Method::GET, name, "/kept", Sent::Nothing).await?;
        let keeps: Keeps = serde_json::from_slice(&answer).map_err(unclear)?;
        Ok(match of {
            KeptOf::Client => keeps.client,
            KeptOf::Implementation => keeps.implementation,
        })
    }

    async fn stop(&self, name: &ClientName) -> Result<(), SideError> {
        self.act(Method::POST, name, "/stop").await
    }

    async fn parameters(&self, name: &ClientName) -> Result<Parameters, SideError> {
        let answer = self.call(Method::POST, name, "/parameters", Sent::Nothing).await?;
        let WithParameters { parameters } = serde_json::from_slice(&answer).map_err(unclear)?;
        Ok(parameters)
    }

    async fn register(&self, name: &ClientName, parameters: Parameters) -> Result<(), SideError> {
        let account = json!({ "parameters": parameters, "desired": DesiredState::Stopped });
        self.call(Method::PUT, name, "", Sent::Json(account)).await.map(drop)
    }

    async fn take_out(&self, name: &ClientName, of: KeptOf) -> Result<Option<KeptStream>, SideError> {
        let path = format!("/kept/{}", of.as_str());
        let answering = timeout(PATIENCE, self.answer(Method::POST, name, &path, Sent::Nothing));
        let response = answering.await.unwrap_or_else(|_| Err(late()))?;
        if response.status() == StatusCode::NO_CONTENT {
            return Ok(None);
        }
        Ok(Some(response.into_body().map_err(io::Error::other).boxed_unsync()))
    }

    async fn put_in(&self, name: &ClientName, of: KeptOf, content: KeptStream) -> Result<(), SideError> {
        // How long it takes is for who watches the stream.
        let path = format!("/kept/{}", of.as_str());
        self.answer(Method::PUT, name, &path, Sent::Kept(content)).await.map(drop)
    }

    async fn forget(&self, name: &ClientName) -> Result<(), SideError> {
        match self.act(Method::DELETE, name, "?forget=1").await {
            Err(SideError::Missing) => Ok(()),
            forgotten => forgotten,
        }
    }

    async fn start(&self, name: &ClientName) -> Result<(), SideError> {
        self.act(Method::POST, name, "/start").await
    }
}
