//! A call whose body or answer is a stream.

use bytes::Bytes;
use http::header::HeaderMap;
use http::{Method, Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;

use super::target::{CallFailure, Target};

impl Target {
    /// Makes a call on a connection of its own, and returns its answer. How long that takes is for the caller.
    ///
    /// # Errors
    /// There is no answer. The call may have been carried out all the same, unless there was no connection.
    pub async fn exchange<B>(
        &self,
        method: Method,
        path: &str,
        headers: HeaderMap,
        body: B,
    ) -> Result<Response<Incoming>, CallFailure>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let stream = self.connect().await.map_err(|_| CallFailure::NoConnection)?;
        let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = handshake.map_err(|error| CallFailure::broke(&error))?;
        // It ends with the response.
        tokio::spawn(connection);
        let mut request = Request::new(body);
        *request.method_mut() = method;
        *request.headers_mut() = headers;
        self.complete(&mut request, path).map_err(|error| CallFailure::broke(&error))?;
        sender.send_request(request).await.map_err(|error| CallFailure::broke(&error))
    }
}
