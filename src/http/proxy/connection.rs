//! [`UpstreamConnection`]: an HTTP/1.1 connection to a client, which carries one request at a time.
//!
//! It has no task of its own. The task that waits for the response drives it, and dropping that future closes
//! it, which the client notices. An idle connection is not polled; whether it is still open is checked before it
//! is used again.

use std::io;
use std::net::Ipv4Addr;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_util::io::poll_read_buf;

use super::body_decoder::BodyDecoder;
use super::headers::ResponseHead;
use super::request_writer::{RequestWriter, WriteError};
use super::upstream_stream::UpstreamStream;
use crate::http::body::BodyError;
use crate::http::timer::Deadline;

/// How much is read at once, at first and at most, in bytes.
const READ: [usize; 2] = [4 * 1024, 64 * 1024];

/// The most informational responses before the final one.
const MAX_INFORMATIONAL: usize = 32;

/// A request to a client.
pub(super) struct UpstreamRequest {
    pub(super) method: Method,
    /// The request; none while a connection has it.
    pub(super) writer: Option<RequestWriter>,
    /// An empty map whose memory is reused for the headers of the response.
    pub(super) spare: HeaderMap,
}

/// A connection to a client.
pub(super) struct UpstreamConnection {
    stream: UpstreamStream,
    /// Bytes that are read and not taken yet.
    read: BytesMut,
    /// How much is read at once.
    read_size: usize,
    /// What remains of the response.
    decoder: BodyDecoder,
    /// The last request, which may not be written completely yet.
    writer: Option<RequestWriter>,
    /// Whether writing it failed.
    write_failed: bool,
    /// The number of responses so far.
    responses: u64,
    /// Whether the client closed the connection, or it failed.
    closed: bool,
    pub(super) deadline: Deadline,
}

/// Why there is no response.
pub(super) enum ExchangeError {
    /// The connection was closed before a byte of the request was written, so the request can be sent again.
    Unsent(io::Error),
    /// The client may have received the request, or a part of it.
    Sent(io::Error),
    /// The response is ambiguous or malformed.
    Ambiguous(&'static str),
    /// The caller's side failed.
    Downstream(BodyError),
    /// For too long, the client neither read the request nor responded.
    TimedOut,
}

impl UpstreamConnection {
    /// Connects to `port` on loopback, within `limit`.
    pub(super) async fn connect(port: u16, limit: Duration) -> io::Result<Box<Self>> {
        let connected = timeout(limit, TcpStream::connect((Ipv4Addr::LOCALHOST, port))).await;
        let stream = connected.map_err(|_| io::ErrorKind::TimedOut)??;
        // Fails only on a socket that is already dead; the first write reports that.
        let _ = stream.set_nodelay(true);
        Ok(Self::over(UpstreamStream::Client(stream), limit))
    }

    /// A connection by this stream, whose requests have this limit, more or less.
    pub(super) fn over(stream: UpstreamStream, limit: Duration) -> Box<Self> {
        Box::new(Self {
            stream,
            read: BytesMut::new(),
            read_size: READ[0],
            decoder: BodyDecoder::idle(),
            writer: None,
            write_failed: false,
            responses: 0,
            closed: false,
            deadline: Deadline::new(Instant::now() + limit),
        })
    }

    /// The stream, if it leads to a client.
    pub(super) fn to_client(&self) -> Option<&TcpStream> {
        match &self.stream {
            UpstreamStream::Client(stream) => Some(stream),
            UpstreamStream::Machine(_) => None,
        }
    }

    /// Sends a request and waits for the head of the response, at most `limit` of the time that the client
    /// needs. Informational responses go to `on_informational`. If not a byte was written, `request` is
    /// unchanged.
    pub(super) async fn send(
        &mut self,
        request: &mut UpstreamRequest,
        limit: Duration,
        on_informational: impl Fn(&ResponseHead),
    ) -> Result<ResponseHead, ExchangeError> {
        self.writer = request.writer.take();
        // Why writing failed, and the number of informational responses.
        let (mut unwritten, mut informational) = (None, 0);
        std::future::poll_fn(|context| {
            match self.poll_write(context) {
                Poll::Ready(Err(WriteError::Downstream(error))) => {
                    return Poll::Ready(Err(ExchangeError::Downstream(error)));
                }
                Poll::Ready(Err(WriteError::Client(error))) => {
                    request.writer = self.writer.take_if(|request| request.is_unsent());
                    if request.writer.is_some() {
                        return Poll::Ready(Err(ExchangeError::Unsent(error)));
                    }
                    // The client may have responded all the same.
                    unwritten = Some(error);
                }
                Poll::Ready(Ok(())) | Poll::Pending => {}
            }
            loop {
                match ResponseHead::take(&mut self.read, &mut request.spare) {
                    // One above the limit falls through to the next arm, which refuses it as ambiguous.
                    Ok(Some(head)) if head.is_informational() && informational < MAX_INFORMATIONAL => {
                        informational += 1;
                        on_informational(&head);
                    }
                    Ok(Some(head)) => {
                        let decoder =
                            BodyDecoder::of(&head, &request.method).filter(|_| !head.is_informational());
                        let Some(decoder) = decoder else {
                            return Poll::Ready(Err(ExchangeError::Ambiguous(
                                "the client's answer has no clear end",
                            )));
                        };
                        self.responses += 1;
                        self.decoder = decoder;
                        return Poll::Ready(Ok(head));
                    }
                    Err(_) => {
                        return Poll::Ready(Err(ExchangeError::Ambiguous(
                            "the client's answer is malformed",
                        )));
                    }
                    Ok(None) => match self.poll_read(context) {
                        Poll::Pending => break,
                        Poll::Ready(Ok(())) if !self.closed => {}
                        Poll::Ready(closed) => {
                            let error = closed.err().unwrap_or_else(|| io::ErrorKind::UnexpectedEof.into());
                            return Poll::Ready(Err(ExchangeError::Sent(unwritten.take().unwrap_or(error))));
                        }
                    },
                }
            }
            let client_pending_since = self.writer.as_ref().and_then(RequestWriter::client_pending_since);
            // While the request waits for the caller, only the caller's own timer runs.
            let due = client_pending_since.unwrap_or_else(Instant::now) + limit;
            self.deadline.poll(due, context).map(|()| Err(ExchangeError::TimedOut))
        })
        .await
    }

    /// The next piece of the response body that is already read.
    pub(super) fn take(&mut self) -> io::Result<Option<Bytes>> {
        self.decoder.take(&mut self.read).map_err(io::Error::other)
    }

    /// The next piece of the response body; none at its end. Meanwhile also writes the rest of the request.
    pub(super) fn poll_body(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Option<Bytes>>> {
        loop {
            if let Some(part) = self.take()? {
                return Poll::Ready(Ok(Some(part)));
            }
            if self.decoder.is_done() {
                return Poll::Ready(Ok(None));
            }
            // A client that reads no more of the request may still finish its response.
            let _ = self.poll_write(context);
            ready!(self.poll_read(context))?;
            if self.closed {
                self.decoder.close().map_err(io::Error::other)?;
            }
        }
    }

    /// Since when the client is waited for, at the earliest since `since`; none while the request waits for the
    /// caller.
    pub(super) fn client_pending_since(&self, since: Instant) -> Option<Instant> {
        match &self.writer {
            Some(writer) if !self.write_failed => {
                writer.client_pending_since().map(|client_pending_since| client_pending_since.max(since))
            }
            _ => Some(since),
        }
    }

    /// Whether the response is complete.
    pub(super) fn is_done(&self) -> bool {
        self.decoder.is_done()
    }

    /// How many bytes of the response body remain, if that is known.
    pub(super) fn remaining(&self) -> Option<u64> {
        self.decoder.remaining()
    }

    /// Whether another request may be sent: the last exchange is complete on both sides, and nothing else has
    /// arrived. After this no task is woken for the connection.
    pub(super) fn is_free(&mut self) -> bool {
        let is_written = self.writer.as_ref().is_none_or(RequestWriter::is_written);
        is_written && !self.write_failed && self.decoder.is_done() && self.is_silent()
    }

    /// Whether it is known to be closed.
    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }

    /// Whether an idle connection is still open and silent.
    pub(super) fn is_quiet(&mut self) -> bool {
        // Some clients close after every response without saying so. After the first response the kernel is
        // asked, which knows before tokio does.
        if self.responses == 1
            && let Some(has_arrived) = self.stream.has_arrived()
        {
            return !has_arrived;
        }
        self.is_silent()
    }

    fn is_silent(&mut self) -> bool {
        // No task waits for an idle connection: `checkout` looks at it before it is used again.
        let mut no_waker = Context::from_waker(Waker::noop());
        self.read.is_empty() && !self.closed && self.poll_read(&mut no_waker).is_pending()
    }

    /// The socket after a protocol switch, and the bytes that were read already.
    pub(super) async fn into_tunnel(mut self) -> io::Result<(UpstreamStream, Bytes)> {
        std::future::poll_fn(|context| self.poll_write(context))
            .await
            .map_err(|_| io::ErrorKind::BrokenPipe)?;
        Ok((self.stream, self.read.freeze()))
    }

    /// Writes the rest of the request.
    fn poll_write(&mut self, context: &mut Context<'_>) -> Poll<Result<(), WriteError>> {
        match &mut self.writer {
            Some(writer) if !self.write_failed => {
                let written = ready!(writer.poll_write(&mut self.stream, context));
                self.write_failed = written.is_err();
                Poll::Ready(written)
            }
            _ => Poll::Ready(Ok(())),
        }
    }

    /// Reads what has arrived, and notices the end.
    fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Pieces that were taken share the buffer. While they live, `reserve` allocates a new one; else it
        // reuses this one.
        if self.read.capacity() - self.read.len() < READ[0] / 4 {
            self.read.reserve(self.read_size);
        }
        let size = ready!(poll_read_buf(Pin::new(&mut self.stream), context, &mut self.read));
        if size.as_ref().map_or(true, |size| *size == 0) {
            self.closed = true;
        }
        if self.read.len() == self.read.capacity() {
            self.read_size = (self.read_size * 2).min(READ[1]);
        }
        Poll::Ready(size.map(drop))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::proxy::request_writer::RequestBody;
    use rustix::net::sockopt::set_socket_linger;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    const SOON: Duration = Duration::from_secs(20);

    /// A connection, and the client's end of it.
    async fn connected(listener: &TcpListener) -> (Box<UpstreamConnection>, TcpStream) {
        let port = listener.local_addr().unwrap().port();
        let (connection, accepted) = tokio::join!(UpstreamConnection::connect(port, SOON), listener.accept());
        (connection.unwrap(), accepted.unwrap().0)
    }

    #[tokio::test]
    async fn unsent_request_can_be_sent_on_another_connection() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let head = b"GET / HTTP/1.1\r\n\r\n";
        let writer = RequestWriter::new(head.to_vec(), RequestBody::Whole("body".into()), Instant::now());
        let mut request =
            UpstreamRequest { method: Method::GET, writer: Some(writer), spare: HeaderMap::new() };

        // The client resets the connection, and that is known before the first byte is written.
        let (mut connection, theirs) = connected(&listener).await;
        set_socket_linger(&theirs, Some(Duration::ZERO)).unwrap();
        drop(theirs);
        std::future::poll_fn(|context| connection.poll_read(context)).await.unwrap_err();
        let failed = connection.send(&mut request, SOON, |_| {}).await;
        assert!(matches!(failed, Err(ExchangeError::Unsent(_))));

        let (mut connection, mut theirs) = connected(&listener).await;
        let (answer, read) = tokio::join!(connection.send(&mut request, SOON, |_| {}), async {
            let mut read = vec![0; head.len() + 4];
            theirs.read_exact(&mut read).await.unwrap();
            theirs.write_all(b"HTTP/1.1 204 x\r\n\r\n").await.unwrap();
            read
        });
        assert_eq!(
            (answer.ok().unwrap().parts.status.as_u16(), &read[..]),
            (204, &b"GET / HTTP/1.1\r\n\r\nbody"[..])
        );

        // A byte of this request was written, so it can't be known what the client made of it.
        request.writer = Some(RequestWriter::new(head.to_vec(), RequestBody::Empty, Instant::now()));
        let closed = tokio::join!(connection.send(&mut request, SOON, |_| {}), async {
            theirs.read_exact(&mut [0]).await.unwrap();
            drop(theirs);
        });
        assert!(matches!(closed.0, Err(ExchangeError::Sent(_))) && request.writer.is_none());
    }
}
