//! What an account keeps on disk, as a stream: how it is taken to another machine, and brought from one.
//!
//! It is in two folders, of the client and of the implementation, each open to its own user alone. Where they are units, a unit with the
//! same user reads and writes them; else their user is the controller's.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use futures_util::TryStreamExt;
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, StreamBody};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::timeout;
use tokio_util::io::ReaderStream;
use tracing::{info, warn};

use super::Accounts;
use super::forget::is_there;
use crate::archive::{self, Amount, Errand, Reply};
use crate::client_dirs::ClientDirs;
use crate::model::client::{ClientSpec, ParamValue};
use crate::model::error_chain::ErrorChain;
use crate::model::fleet::REGISTRATION;
use crate::model::name::{ClientName, UnitId};
use crate::supervisor::systemd::FolderError;

/// The content of a folder on its way.
pub type KeptStream = UnsyncBoxBody<Bytes, io::Error>;

/// How long the stream may stand still.
const SILENCE: Duration = Duration::from_secs(60);

/// How long a folder may take until all of it is on disk, once it is whole.
const TO_DISK: Duration = Duration::from_secs(600);

/// How much is read at a time, in bytes.
const PIECE: usize = 64 * 1024;

/// Which process of an account a folder belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeptOf {
    /// Its client: undelivered reports, cookies.
    Client,
    /// Its implementation: the login, the program's configuration.
    Implementation,
}

impl KeptOf {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Client, Self::Implementation];

    /// Its name in paths of `/v1`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Implementation => "implementation",
        }
    }
}

/// Why a folder is not taken or brought.
#[derive(Debug, thiserror::Error)]
pub enum KeptError {
    /// One of its processes runs, or is about to.
    #[error("it runs")]
    Running,
    /// There are files of an earlier account of this name.
    #[error("{0}")]
    NotEmpty(String),
    /// The controller can't do it just now.
    #[error("the controller is busy")]
    Busy,
    /// The unit that does it can't be used.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// A file can't be read or written, or the stream is not what it should be.
    #[error("{0}")]
    Failed(String),
}

/// What ended a stream into a folder before its end.
enum Interrupted {
    /// What should have come did not.
    Content(KeptError),
    /// The process that writes the folder takes no more.
    Folder(KeptError),
}

impl KeptError {
    /// What it was, with its cause.
    pub fn explain(&self) -> String {
        ErrorChain(self).to_string()
    }
}

fn broke(error: &io::Error) -> KeptError {
    KeptError::Failed(format!("the connection to the folder broke: {error}"))
}

impl Accounts {
    /// Whether something of an account is on disk.
    ///
    /// # Errors
    /// That can't be looked up just now.
    pub async fn keeps(&self, name: &ClientName, of: KeptOf) -> Result<bool, KeptError> {
        let folders = self.kept_folders(&self.kept_id(name), of);
        let looked = self.blocking.run(move || folders.iter().any(|folder| is_there(folder)));
        looked.await.map_err(|_| KeptError::Busy)
    }

    /// The start parameters of an account as they were given, with secrets.
    pub fn parameters(&self, name: &ClientName) -> Option<BTreeMap<String, String>> {
        let view = self.clients.client(name)?;
        // The registration is one of them: a client that has another one forgets which QQ account it belongs to.
        let given = view.record.spec.params.iter().map(|(name, value)| (name.clone(), value.text.clone()));
        Some(given.collect())
    }

    /// Gives an account that comes from another machine the registration that it had there.
    pub fn with_registration(mut spec: ClientSpec, registration: Option<String>) -> ClientSpec {
        if let Some(text) = registration {
            spec.params.insert(REGISTRATION.to_owned(), ParamValue { text, secret: true, path: None });
        }
        spec
    }

    /// All that an account keeps in a folder. None where there is none. It has to be stopped.
    ///
    /// # Errors
    /// See [`KeptError`]. The stream has an error of its own where it breaks, and no end then.
    pub async fn take_out(&self, name: &ClientName, of: KeptOf) -> Result<Option<KeptStream>, KeptError> {
        if self.is_running(name) {
            return Err(KeptError::Running);
        }
        if !self.keeps(name, of).await? {
            return Ok(None);
        }
        let mut stream = self.open_folder(name, of).await?;
        stream.write_all(Errand::Pack.line().as_bytes()).await.map_err(|error| broke(&error))?;
        let frames = ReaderStream::with_capacity(stream, PIECE).map_ok(Frame::data);
        Ok(Some(StreamBody::new(frames).boxed_unsync()))
    }

    /// Brings what an account kept in a folder elsewhere. Returns when all of it is on disk.
    ///
    /// # Errors
    /// See [`KeptError`]. Then the folder has nothing of it, unless who writes it was killed.
    pub async fn put_in<B>(&self, name: &ClientName, of: KeptOf, mut content: B) -> Result<Amount, KeptError>
    where
        B: http_body::Body<Data = Bytes> + Unpin,
        B::Error: std::fmt::Display,
    {
        if self.is_running(name) {
            return Err(KeptError::Running);
        }
        let (mut replies, mut stream) = self.open_folder(name, of).await?.into_split();
        let sending = async {
            let stream = &mut stream;
            let folder = |error: io::Error| Interrupted::Folder(broke(&error));
            stream.write_all(Errand::Unpack.line().as_bytes()).await.map_err(folder)?;
            loop {
                let Ok(frame) = timeout(SILENCE, content.frame()).await else {
                    return Err(Interrupted::Content(silent()));
                };
                let Some(frame) = frame else { break };
                let frame = frame.map_err(|error| {
                    Interrupted::Content(KeptError::Failed(format!("the stream broke: {error}")))
                })?;
                if let Ok(data) = frame.into_data() {
                    let Ok(written) = timeout(SILENCE, stream.write_all(&data)).await else {
                        return Err(Interrupted::Folder(silent()));
                    };
                    written.map_err(folder)?;
                }
            }
            stream.shutdown().await.map_err(folder)
        };
        let mut replying = std::pin::pin!(read_reply(&mut replies));
        let (sent, said) = tokio::select! {
            sent = sending => {
                // Also where that failed: it clears the folder before it answers.
                drop(stream);
                (sent, timeout(TO_DISK, replying).await.ok().flatten())
            }
            // It takes no more.
            said = &mut replying => (Ok(()), said),
        };
        match (sent, said) {
            (_, Some(Reply::NotEmpty(why))) => Err(KeptError::NotEmpty(why)),
            // What it says then is the consequence.
            (Err(Interrupted::Content(error)), _) => Err(error),
            // It takes no more, and says why.
            (_, Some(Reply::Failed(why))) => Err(KeptError::Failed(why)),
            (Err(Interrupted::Folder(error)), _) => Err(error),
            (Ok(()), Some(Reply::Done(amount))) => {
                let (entries, of) = (amount.entries, of.as_str());
                info!(client = %name, "{entries} files, folders and links of its {of} came from another machine");
                Ok(amount)
            }
            (Ok(()), None) => {
                let why = "what writes the folder has ended without a word; see the log";
                Err(KeptError::Failed(why.to_owned()))
            }
        }
    }

    /// The ID of its folders: that of the list, or that which it would have there.
    fn kept_id(&self, name: &ClientName) -> UnitId {
        let known = self.clients.client(name).map(|view| view.record.spec.id.clone());
        known.unwrap_or_else(|| self.client_dirs.new_id(name))
    }

    /// Where its folder can be.
    fn kept_folders(&self, id: &UnitId, of: KeptOf) -> Vec<PathBuf> {
        let parents: Vec<PathBuf> = match (&*self.client_dirs, of) {
            (ClientDirs::Shared { lasting, .. }, KeptOf::Client) => vec![lasting.clone()],
            (ClientDirs::Shared { .. }, KeptOf::Implementation) => {
                vec![self.kept.implementation_state.to_path_buf()]
            }
            (ClientDirs::Units { lasting, .. }, KeptOf::Client) => lasting.clone(),
            (ClientDirs::Units { lasting, .. }, KeptOf::Implementation) => {
                lasting.iter().filter_map(|folder| Some(folder.parent()?.join("wqimpl"))).collect()
            }
        };
        parents.into_iter().map(|parent| parent.join(id.as_str())).collect()
    }

    async fn open_folder(&self, name: &ClientName, of: KeptOf) -> Result<UnixStream, KeptError> {
        let id = self.kept_id(name);
        let registry = match of {
            KeptOf::Client => &self.clients,
            KeptOf::Implementation => &self.implementations,
        };
        if let Some(stream) = registry.open_folder(&id).await? {
            return Ok(stream);
        }
        let folders = self.kept_folders(&id, of);
        let folder = folders.into_iter().next().ok_or(KeptError::Busy)?;
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().map_err(|error| broke(&error))?;
        ours.set_nonblocking(true).map_err(|error| broke(&error))?;
        let (name, blocking) = (name.clone(), self.blocking.clone());
        // It ends with the connection: the other end is dropped with what is done with it.
        tokio::spawn(async move {
            let served = blocking.run(move || serve(&theirs, &folder)).await;
            if let Ok(Err(why)) = served {
                warn!(client = %name, "its files are not moved: {why}");
            }
        });
        UnixStream::from_std(ours).map_err(|error| broke(&error))
    }
}

/// Does an errand in a folder of the controller's own user. Blocks.
fn serve(stream: &std::os::unix::net::UnixStream, folder: &Path) -> Result<Amount, String> {
    // A peer that is stuck does not keep the thread.
    for set in [stream.set_read_timeout(Some(SILENCE)), stream.set_write_timeout(Some(SILENCE))] {
        set.map_err(|error| error.to_string())?;
    }
    archive::serve(stream, stream, folder).map_err(|error| ErrorChain(&error).to_string())
}

fn silent() -> KeptError {
    KeptError::Failed(format!("nothing came for {} s", SILENCE.as_secs()))
}

/// What is said at the end of an unpacking, if it is.
async fn read_reply(stream: &mut (impl tokio::io::AsyncRead + Unpin)) -> Option<Reply> {
    let mut said = Vec::new();
    let mut stream = stream.take(Reply::MAX_LINE as u64);
    // Before it there is nothing to read, and how long the sending takes is bounded there.
    // Where it breaks, what was said before counts.
    let _ = stream.read_to_end(&mut said).await;
    Reply::of_line(&String::from_utf8_lossy(&said))
}
