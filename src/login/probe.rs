//! [`Prober`]: asks one implementation about its login, and looks at the image of its login code.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use ring::digest::{SHA256, digest};
use serde_json::{Value, json};
use tokio::time::timeout;
use tracing::debug;

use super::connection::{AskError, Owner, ask_socket, post};
use crate::backends::Secret;
use crate::files::read_secret;
use crate::implementations::{ImplementationKind, LoginQuestion, PageQuestion};
use crate::model::error_chain::ErrorChain;
use crate::model::login::LoginAnswer;
use crate::peers::PeerPolicy;

/// How long an implementation may take for an answer. It is asked every five seconds.
const PATIENCE: Duration = Duration::from_secs(4);

/// What a probe found.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// The answer; none where there is none, or none that its kind gives.
    pub(super) answer: Option<LoginAnswer>,
    /// When the image of its login code was written, in Unix seconds, where there is one.
    pub(super) code_written: Option<u64>,
    /// The credential for the next probe.
    pub(super) credential: Option<Arc<str>>,
}

/// What a probe needs to know about an implementation that runs.
#[derive(Clone, Debug)]
pub(super) struct Prober {
    /// Its kind.
    pub(super) kind: ImplementationKind,
    /// The port of its API.
    pub(super) port: u16,
    /// The folder of what it shows.
    pub(super) runtime: PathBuf,
    /// The file with its token.
    pub(super) token: PathBuf,
    /// Its unit, where it is one.
    pub(super) unit: Option<Arc<str>>,
    /// Tells whose a port is.
    pub(super) policy: Option<Arc<PeerPolicy>>,
    /// The credential that its web page gave last.
    pub(super) credential: Option<Arc<str>>,
}

impl Prober {
    /// Asks.
    pub(super) async fn ask(self) -> Found {
        let contract = self.kind.contract();
        let code_file = contract.code_file().map(|name| self.runtime.join(name));
        let (token, runtime) = (self.token.clone(), self.runtime.clone());
        let needs_token =
            matches!(contract.login_question(), LoginQuestion::Api { .. } | LoginQuestion::Page(_));
        // The folder may be on a disk that hangs.
        let looked = tokio::task::spawn_blocking(move || {
            let code_written = code_file.and_then(|file| {
                // A link is not followed: only the implementation's own file counts, and `get_qrcode` reads no other one.
                let written =
                    fs::symlink_metadata(file).ok().filter(fs::Metadata::is_file)?.modified().ok()?;
                Some(written.duration_since(UNIX_EPOCH).ok()?.as_secs())
            });
            let token = needs_token.then(|| read_secret(&token, true, Secret::MAX_BYTES));
            let owner = fs::metadata(runtime).ok().map(|folder| folder.uid());
            let token =
                token.transpose().map(|token| token.map(|text| String::from_utf8_lossy(&text).into_owned()));
            (code_written, owner, token)
        });
        let asked = async {
            // The task fails only when the runtime ends.
            let Ok((code_written, owner, token)) = looked.await else { return Found::default() };
            let mut found = Found { code_written, ..Found::default() };
            let answered = match token {
                Ok(token) => {
                    self.put_question(&token.unwrap_or_default(), owner, &mut found.credential).await
                }
                Err(error) => {
                    debug!(error = %ErrorChain(&error), "can't ask for a login: {}", ErrorChain(&error));
                    return found;
                }
            };
            found.answer = match answered {
                Ok(Some((status, info))) => contract.login_answer(&status, info.as_ref()),
                Ok(None) => None,
                Err(error) => {
                    debug!(error = %ErrorChain(&error), "no answer about a login: {}", ErrorChain(&error));
                    None
                }
            };
            found
        };
        timeout(PATIENCE, asked).await.unwrap_or_default()
    }

    /// Puts the question of the kind. Returns the answers; none where the kind answers nothing.
    async fn put_question(
        &self,
        token: &str,
        folder_owner: Option<u32>,
        credential: &mut Option<Arc<str>>,
    ) -> Result<Option<(Value, Option<Value>)>, AskError> {
        let owner = Owner { policy: self.policy.as_deref(), unit: self.unit.as_deref() };
        match self.kind.contract().login_question() {
            LoginQuestion::OfClient => Ok(None),
            LoginQuestion::Socket { name, line } => {
                let Some(owner) = folder_owner else { return Ok(None) };
                Ok(Some((ask_socket(&self.runtime.join(name), owner, line).await?, None)))
            }
            LoginQuestion::Api { path } => {
                Ok(Some((post(self.port, owner, path, Some(token), &json!({})).await?, None)))
            }
            LoginQuestion::Page(page) => self.ask_page(page, owner, token, credential).await.map(Some),
        }
    }

    async fn ask_page(
        &self,
        page: &'static PageQuestion,
        owner: Owner<'_>,
        token: &str,
        credential: &mut Option<Arc<str>>,
    ) -> Result<(Value, Option<Value>), AskError> {
        let port = self.port.saturating_add(1);
        let ask = async |path, credential: &str| post(port, owner, path, Some(credential), &json!({})).await;
        // A page limits how often a credential is given, so one is used as long as it is good.
        let kept = match &self.credential {
            Some(kept) => ask(page.status, kept).await.ok().filter(|answer| answer["code"] == 0),
            None => None,
        };
        let (status, kept) = match (kept, &self.credential) {
            (Some(status), Some(kept)) => (status, kept.clone()),
            _ => {
                let hash = digest(&SHA256, format!("{token}{}", page.salt).as_bytes());
                let hash: String = hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
                let given = post(port, owner, page.login, None, &json!({ "hash": hash })).await?;
                let new = given.pointer(page.credential).and_then(Value::as_str).unwrap_or_default();
                let new: Arc<str> = new.into();
                (ask(page.status, &new).await?, new)
            }
        };
        let info = ask(page.info, &kept).await.ok();
        *credential = Some(kept);
        Ok((status, info))
    }
}
