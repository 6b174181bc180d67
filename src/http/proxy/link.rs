//! [`Link`]: one HTTP/1.1 connection to a client, which carries one request at a time.
//!
//! It has no task of its own. Whoever waits for its answer, or for a part of that, drives it; who goes away drops it, and
//! so the client can tell. While it is idle nobody looks at it, and the next user sees first whether it still is one.

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, OwnedFd};
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http1::{Builder, Connection, SendRequest};
use hyper_util::rt::TokioIo;
use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use super::body::{Alarm, RequestBody};

/// The most that is read at once, and the largest head of an answer, in bytes.
const BUFFER: usize = 64 * 1024;

/// A connection to a client.
pub(super) struct Link {
    sender: SendRequest<RequestBody>,
    wire: Wire,
    /// The same socket, to look at it without going through hyper.
    socket: OwnedFd,
    pub(super) alarm: Alarm,
}

/// The connection underneath.
struct Wire {
    /// None once it was let go.
    connection: Option<Connection<TokioIo<TcpStream>, RequestBody>>,
    ended: bool,
}

/// Why there is no answer. Only what holds the request can be sent again.
pub(super) enum Failure {
    /// The connection had ended before a single byte of the request was written. It is as if nothing had happened.
    Unsent(Box<Request<RequestBody>>, hyper::Error),
    /// The client may have seen it, or some of it.
    Sent(hyper::Error),
    /// Neither an answer came nor was the request taken, for too long.
    TimedOut,
}

impl Link {
    /// Connects to `port` on this machine, within `limit`.
    pub(super) async fn connect(port: u16, limit: Duration) -> io::Result<Box<Self>> {
        let connected = timeout(limit, TcpStream::connect((Ipv4Addr::LOCALHOST, port))).await;
        let stream = connected.map_err(|_| io::ErrorKind::TimedOut)??;
        // Only ever fails on a socket that is already dead, which the first write will say.
        let _ = stream.set_nodelay(true);
        let socket = stream.as_fd().try_clone_to_owned()?;
        let mut builder = Builder::new();
        // Programs of 2016 look for names as the original wrote them.
        let builder = builder.title_case_headers(true).max_buf_size(BUFFER).writev(false);
        let (sender, connection) = builder.handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
        let wire = Wire { connection: Some(connection), ended: false };
        Ok(Box::new(Self { sender, wire, socket, alarm: Alarm::new(Instant::now() + limit) }))
    }

    /// Sends a request and waits for the head of its answer, at most `limit` while it is the client's turn.
    pub(super) async fn send(
        &mut self,
        request: Request<RequestBody>,
        limit: Duration,
    ) -> Result<Response<Incoming>, Failure> {
        let (began, turn) = (Instant::now(), request.body().turn());
        let mut answer = pin!(self.sender.try_send_request(request));
        let (wire, alarm) = (&mut self.wire, &mut self.alarm);
        std::future::poll_fn(|context| {
            let answer = wire.drive_for(context, |context| answer.as_mut().poll(context));
            match answer {
                Poll::Ready(Ok(answer)) => return Poll::Ready(Ok(answer)),
                Poll::Ready(Err(mut error)) => {
                    return Poll::Ready(Err(match error.take_message() {
                        Some(request) => Failure::Unsent(Box::new(request), error.into_error()),
                        None => Failure::Sent(error.into_error()),
                    }));
                }
                Poll::Pending => {}
            }
            let since = turn.as_ref().map_or(Some(began), |turn| turn.get());
            alarm.poll(since.unwrap_or_else(Instant::now) + limit, context).map(|()| Err(Failure::TimedOut))
        })
        .await
    }

    /// Writes and reads what can be, for the sake of `wanted`, which gets its answer from that alone.
    pub(super) fn drive_for<T>(
        &mut self,
        context: &mut Context<'_>,
        wanted: impl FnMut(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        self.wire.drive_for(context, wanted)
    }

    /// Whether it can take another request: the last one is over on both sides and nothing else has come since. From
    /// now on nobody is woken for it.
    pub(super) fn is_free(&mut self) -> bool {
        self.wire.drive(&mut Context::from_waker(Waker::noop()));
        !self.wire.ended && self.sender.is_ready()
    }

    /// Whether it is known to be over.
    pub(super) fn has_ended(&self) -> bool {
        self.wire.ended
    }

    /// Whether the client has neither closed it nor said anything since it was free. Asked of the kernel just before it
    /// is used again: some clients close after every answer, unannounced, and that is known there before tokio hears.
    pub(super) fn is_quiet(&self) -> bool {
        let mut byte = [0; 1];
        let looked = recv(&self.socket, &mut byte[..], RecvFlags::PEEK | RecvFlags::DONTWAIT);
        looked.is_err_and(|error| error == Errno::WOULDBLOCK)
    }

    /// The socket, and what has come on it already, after the client changed the protocol.
    pub(super) async fn into_tunnel(mut self) -> Option<(TcpStream, Bytes)> {
        std::future::poll_fn(|context| {
            self.wire.drive(context);
            if self.wire.ended { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
        let parts = self.wire.connection?.into_parts();
        Some((parts.io.into_inner(), parts.read_buf))
    }
}

impl Wire {
    fn drive(&mut self, context: &mut Context<'_>) {
        if let (Some(connection), false) = (&mut self.connection, self.ended) {
            // Whoever waits for something is told of an error.
            self.ended = connection.poll_without_shutdown(context).is_ready();
        }
    }

    fn drive_for<T>(
        &mut self,
        context: &mut Context<'_>,
        mut wanted: impl FnMut(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        self.drive(context);
        // Only what was done just now can have brought it, so nobody has to be woken for it.
        let mut nobody = Context::from_waker(Waker::noop());
        let polled = wanted(&mut nobody);
        if polled.is_ready() || !self.ended {
            return polled;
        }
        // Whoever still waits is told when the connection is dropped, and then gets a request back that is still whole.
        self.connection = None;
        wanted(&mut nobody)
    }
}
