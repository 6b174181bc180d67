//! [`Target`]: where the controller of a machine is reached, and a connection to it.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, HeaderMap, HeaderValue, USER_AGENT};
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Empty, Full, Limited};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::http_client::tls_config;
use crate::model::error_chain::ErrorChain;
use crate::wire::door::{DOOR, Said};

/// How long a connection may take, TLS included.
const CONNECT: Duration = Duration::from_secs(5);

/// How long an answer to a question of our own may take.
const ANSWER: Duration = Duration::from_secs(10);

/// How long an answer to a call may take that waits for processes. A controller gives up a start sooner.
const ACT: Duration = Duration::from_secs(600);

/// The largest answer that is read. A page of a thousand accounts has about one megabyte.
const MAX_ANSWER: usize = 32 * 1024 * 1024;

/// A connection: TCP, TLS or a Unix socket.
pub type Stream = Box<dyn AnyStream>;

/// What a connection can do.
pub trait AnyStream: AsyncRead + AsyncWrite + Send + Sync + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Sync + Unpin> AnyStream for S {}

/// Where to connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A socket on this machine, which leads there.
    Unix(PathBuf),
    /// An address.
    Tcp {
        /// Its host; IPv6 in brackets.
        host: String,
        /// Its port.
        port: u16,
        /// Whether by TLS.
        tls: bool,
    },
}

/// The controller of another machine.
#[derive(Clone, Debug)]
pub struct Target {
    /// Where it is reached.
    pub place: Place,
    /// What stands before every path.
    pub prefix: String,
    /// `Authorization`, if it wants a token.
    pub token: Option<HeaderValue>,
    /// By what TLS is spoken, where it is: what is to be trusted, read once for all connections, and their sessions, which the next
    /// ones resume.
    pub tls: Option<Arc<ClientConfig>>,
}

/// Why a question of our own has no answer.
#[derive(Debug, thiserror::Error)]
pub enum CallFailure {
    /// There is no connection, so nothing was sent.
    #[error("there is no connection")]
    NoConnection,
    /// There is no answer: the connection broke, or it takes too long.
    #[error("{0}")]
    Connection(String),
    /// There is no answer within this time, in seconds.
    #[error("no answer within {0} s")]
    Late(u64),
    /// It answers something else than success.
    #[error("it answers HTTP {0}")]
    Status(u16),
}

impl CallFailure {
    /// The connection failed for this reason. The system's number of it says nothing to people.
    pub(super) fn broke(error: &(dyn std::error::Error + 'static)) -> Self {
        let text = ErrorChain(error).to_string();
        Self::Connection(text.split(" (os error").next().unwrap_or_default().to_owned())
    }
}

impl Target {
    /// Connects.
    ///
    /// # Errors
    /// The connection fails, or takes too long.
    pub async fn connect(&self) -> io::Result<Stream> {
        let connecting = async {
            Ok(match &self.place {
                Place::Unix(path) => Box::new(UnixStream::connect(path).await?) as Stream,
                Place::Tcp { host, port, tls } => {
                    let bare = host.trim_matches(['[', ']']);
                    let stream = TcpStream::connect((bare, *port)).await?;
                    // Requests are small, and a pause after each would be seen.
                    stream.set_nodelay(true)?;
                    match tls {
                        false => Box::new(stream) as Stream,
                        true => {
                            let config = match &self.tls {
                                Some(config) => config.clone(),
                                None => tls_config().map_err(io::Error::other)?,
                            };
                            let connector = TlsConnector::from(config);
                            let name = ServerName::try_from(bare.to_owned()).map_err(io::Error::other)?;
                            Box::new(connector.connect(name, stream).await?)
                        }
                    }
                }
            })
        };
        timeout(CONNECT, connecting).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }

    /// For the header `Host`.
    pub fn host(&self) -> String {
        match &self.place {
            Place::Unix(_) => "localhost".to_owned(),
            Place::Tcp { host, port, .. } => format!("{host}:{port}"),
        }
    }

    /// Asks for a path and returns the answer, once it is known to be one of success.
    ///
    /// # Errors
    /// There is no such answer.
    pub(super) async fn get(
        &self,
        path: &str,
        headers: &HeaderMap,
    ) -> Result<Response<Incoming>, CallFailure> {
        let failed = |error: &(dyn std::error::Error + 'static)| CallFailure::broke(error);
        let asking = async {
            let stream = self.connect().await.map_err(|error| failed(&error))?;
            let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
            let (mut sender, connection) = handshake.map_err(|error| failed(&error))?;
            // It ends with the response.
            tokio::spawn(connection);
            let mut request = Request::new(Empty::<Bytes>::new());
            request.headers_mut().clone_from(headers);
            self.complete(&mut request, path).map_err(|error| failed(&error))?;
            sender.send_request(request).await.map_err(|error| failed(&error))
        };
        let response = match timeout(ANSWER, asking).await {
            Ok(response) => response?,
            Err(_) => return Err(CallFailure::Late(ANSWER.as_secs())),
        };
        match response.status() {
            status if status.is_success() => Ok(response),
            status => Err(CallFailure::Status(status.as_u16())),
        }
    }

    /// Makes a call and returns its answer, whatever that is. `form` is its body, url-encoded.
    ///
    /// # Errors
    /// There is no answer, or it is too large. The call may have been carried out all the same, unless there was no connection.
    pub async fn call(
        &self,
        method: Method,
        path: &str,
        form: String,
    ) -> Result<Response<Bytes>, CallFailure> {
        let failed = |error: &(dyn std::error::Error + 'static)| CallFailure::broke(error);
        let calling = async {
            let stream = self.connect().await.map_err(|_| CallFailure::NoConnection)?;
            let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
            let (mut sender, connection) = handshake.map_err(|error| failed(&error))?;
            // It ends with the response.
            tokio::spawn(connection);
            let has_body = !form.is_empty();
            let mut request = Request::new(Full::new(Bytes::from(form)));
            *request.method_mut() = method;
            self.complete(&mut request, path).map_err(|error| failed(&error))?;
            if has_body {
                let kind = HeaderValue::from_static("application/x-www-form-urlencoded");
                request.headers_mut().insert(CONTENT_TYPE, kind);
            }
            let (head, body) =
                sender.send_request(request).await.map_err(|error| failed(&error))?.into_parts();
            let body = Limited::new(body, MAX_ANSWER).collect().await.map_err(|error| failed(&*error))?;
            Ok(Response::from_parts(head, body.to_bytes()))
        };
        timeout(ACT, calling).await.unwrap_or_else(|_| Err(CallFailure::Late(ACT.as_secs())))
    }

    /// Gives a request of our own its path and headers.
    pub(super) fn complete<B>(&self, request: &mut Request<B>, path: &str) -> Result<(), http::Error> {
        *request.uri_mut() = http::Uri::try_from(format!("{}{path}", self.prefix))?;
        let headers = request.headers_mut();
        headers.insert(HOST, HeaderValue::try_from(self.host())?);
        headers.insert(
            USER_AGENT,
            HeaderValue::from_static(concat!("wqcontroller/", env!("CARGO_PKG_VERSION"))),
        );
        headers.insert(DOOR, HeaderValue::from_static(Said::Full.as_str()));
        headers.entry(ACCEPT).or_insert(HeaderValue::from_static("application/json"));
        if let Some(token) = &self.token {
            headers.insert(AUTHORIZATION, token.clone());
        }
        Ok(())
    }

    /// Asks for a path and reads the whole answer.
    ///
    /// # Errors
    /// There is no such answer, or it is too large.
    pub(super) async fn read(&self, path: &str) -> Result<Bytes, CallFailure> {
        let response = self.get(path, &HeaderMap::new()).await?;
        let body = timeout(ANSWER, Limited::new(response.into_body(), MAX_ANSWER).collect()).await;
        match body {
            Ok(Ok(body)) => Ok(body.to_bytes()),
            Ok(Err(error)) => Err(CallFailure::Connection(error.to_string())),
            Err(_) => Err(CallFailure::Late(ANSWER.as_secs())),
        }
    }
}
