//! [`Link`]: one HTTP/1.1 connection to a client, which carries one request at a time.
//!
//! It has no task of its own. Whoever waits for its answer, or for a part of that, drives it; who goes away drops it, and
//! so the client can tell. While it is idle nobody looks at it, and the next user sees first whether it still is one.

use std::io;
use std::net::Ipv4Addr;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_util::io::poll_read_buf;

use super::headers::Head;
use super::incoming::Decoder;
use super::order::Asked;
use super::outgoing::{Broken, Outgoing};
use crate::http::alarm::Alarm;
use crate::http::answer::BodyError;

/// How much is read at once at first, and at most, in bytes.
const READ: [usize; 2] = [4 * 1024, 64 * 1024];

/// The most announcements of one answer: a client that goes on announcing never comes to it.
const MAX_INTERIM: usize = 32;

/// A connection to a client.
pub(super) struct Link {
    stream: TcpStream,
    /// What was read, and not taken yet.
    read: BytesMut,
    /// How much is read at once.
    at_once: usize,
    /// What is still to come of the answer.
    decoder: Decoder,
    /// The last request, of which something may still have to be written.
    outgoing: Option<Outgoing>,
    /// Whether not all of that can be written any more.
    spoiled: bool,
    /// How many answers it brought.
    answers: u64,
    /// The client closed it, or it broke.
    ended: bool,
    pub(super) alarm: Alarm,
}

/// Why there is no answer.
pub(super) enum Failure {
    /// The connection had ended before a single byte of the request was written. It is as if nothing had happened.
    Unsent(io::Error),
    /// The client may have seen it, or some of it.
    Sent(io::Error),
    /// The answer can be understood in more than one way, or not at all.
    Unclear(&'static str),
    /// The caller broke off.
    Caller(BodyError),
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
        Ok(Box::new(Self {
            stream,
            read: BytesMut::new(),
            at_once: READ[0],
            decoder: Decoder::idle(),
            outgoing: None,
            spoiled: false,
            answers: 0,
            ended: false,
            alarm: Alarm::new(Instant::now() + limit),
        }))
    }

    /// Sends a request and waits for the head of its answer, at most `limit` while it is the client's turn. What announces
    /// the answer goes to `announced`. The request is still in `asked` when not a byte of it was written.
    pub(super) async fn send(
        &mut self,
        asked: &mut Asked,
        limit: Duration,
        announced: impl Fn(&Head),
    ) -> Result<Head, Failure> {
        self.outgoing = asked.outgoing.take();
        // Why nothing more can be written, and how often the answer was announced.
        let (mut unwritten, mut interim) = (None, 0);
        std::future::poll_fn(|context| {
            match self.poll_write(context) {
                Poll::Ready(Err(Broken::Caller(error))) => return Poll::Ready(Err(Failure::Caller(error))),
                Poll::Ready(Err(Broken::Client(error))) => {
                    asked.outgoing = self.outgoing.take_if(|request| request.is_untouched());
                    if asked.outgoing.is_some() {
                        return Poll::Ready(Err(Failure::Unsent(error)));
                    }
                    // It may have answered all the same.
                    unwritten = Some(error);
                }
                Poll::Ready(Ok(())) | Poll::Pending => {}
            }
            loop {
                match Head::take(&mut self.read, &mut asked.spare) {
                    Ok(Some(head)) if head.is_interim() && interim < MAX_INTERIM => {
                        interim += 1;
                        announced(&head);
                    }
                    Ok(Some(head)) => {
                        let decoder = Decoder::of(&head, &asked.method).filter(|_| !head.is_interim());
                        let Some(decoder) = decoder else {
                            return Poll::Ready(Err(Failure::Unclear(
                                "the client's answer has no clear end",
                            )));
                        };
                        self.answers += 1;
                        self.decoder = decoder;
                        return Poll::Ready(Ok(head));
                    }
                    Err(_) => return Poll::Ready(Err(Failure::Unclear("the client's answer is malformed"))),
                    Ok(None) => match self.poll_read(context) {
                        Poll::Pending => break,
                        Poll::Ready(Ok(())) if !self.ended => {}
                        Poll::Ready(ended) => {
                            let error = ended.err().unwrap_or_else(|| io::ErrorKind::UnexpectedEof.into());
                            return Poll::Ready(Err(Failure::Sent(unwritten.take().unwrap_or(error))));
                        }
                    },
                }
            }
            let turn = self.outgoing.as_ref().and_then(Outgoing::turn);
            let due = turn.unwrap_or_else(Instant::now) + limit;
            self.alarm.poll(due, context).map(|()| Err(Failure::TimedOut))
        })
        .await
    }

    /// The next part of the answer that was read already.
    pub(super) fn take(&mut self) -> io::Result<Option<Bytes>> {
        self.decoder.take(&mut self.read).map_err(io::Error::other)
    }

    /// The next part of the answer, none when it is over. Writes what is left of the request meanwhile.
    pub(super) fn poll_body(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Option<Bytes>>> {
        loop {
            if let Some(part) = self.take()? {
                return Poll::Ready(Ok(Some(part)));
            }
            if self.decoder.is_done() {
                return Poll::Ready(Ok(None));
            }
            // A client that takes no more of the request may still end its answer.
            let _ = self.poll_write(context);
            ready!(self.poll_read(context))?;
            if self.ended {
                self.decoder.close().map_err(io::Error::other)?;
            }
        }
    }

    /// Since when the client is waited for, where more of the answer has been since `since`; none while its caller is, of
    /// whose request something is still to come.
    pub(super) fn turn(&self, since: Instant) -> Option<Instant> {
        match &self.outgoing {
            Some(outgoing) if !self.spoiled => outgoing.turn().map(|turn| turn.max(since)),
            _ => Some(since),
        }
    }

    /// Whether the answer is over.
    pub(super) fn is_done(&self) -> bool {
        self.decoder.is_done()
    }

    /// How many bytes of the answer are to come, where that is known.
    pub(super) fn remaining(&self) -> Option<u64> {
        self.decoder.remaining()
    }

    /// Whether it can take another request: the last one is over on both sides and nothing else has come since. From
    /// now on nobody is woken for it.
    pub(super) fn is_free(&mut self) -> bool {
        let is_written = self.outgoing.as_ref().is_none_or(Outgoing::is_written);
        is_written && !self.spoiled && self.decoder.is_done() && self.hears_nothing()
    }

    /// Whether it is known to be over.
    pub(super) fn has_ended(&self) -> bool {
        self.ended
    }

    /// Whether the client has neither closed it nor said anything since it was free.
    pub(super) fn is_quiet(&mut self) -> bool {
        // Some clients close after every answer, unannounced, and that is known to the kernel before it is told here.
        if self.answers == 1 {
            let looked = recv(&self.stream, &mut [0; 1][..], RecvFlags::PEEK | RecvFlags::DONTWAIT);
            return looked.is_err_and(|error| error == Errno::WOULDBLOCK);
        }
        self.hears_nothing()
    }

    fn hears_nothing(&mut self) -> bool {
        let mut nobody = Context::from_waker(Waker::noop());
        self.read.is_empty() && !self.ended && self.poll_read(&mut nobody).is_pending()
    }

    /// The socket, and what has come on it already, after the client changed the protocol.
    pub(super) async fn into_tunnel(mut self) -> io::Result<(TcpStream, Bytes)> {
        std::future::poll_fn(|context| self.poll_write(context))
            .await
            .map_err(|_| io::ErrorKind::BrokenPipe)?;
        Ok((self.stream, self.read.freeze()))
    }

    /// Writes what is left of the request.
    fn poll_write(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        match &mut self.outgoing {
            Some(outgoing) if !self.spoiled => {
                let written = ready!(outgoing.poll_write(&mut self.stream, context));
                self.spoiled = written.is_err();
                Poll::Ready(written)
            }
            _ => Poll::Ready(Ok(())),
        }
    }

    /// Reads what is there, and sees whether that is the end.
    fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        // A buffer that is shared with what was taken from it gives way to a new one, else it is used again.
        if self.read.capacity() - self.read.len() < READ[0] / 4 {
            self.read.reserve(self.at_once);
        }
        let size = ready!(poll_read_buf(Pin::new(&mut self.stream), context, &mut self.read));
        if size.as_ref().map_or(true, |size| *size == 0) {
            self.ended = true;
        }
        if self.read.len() == self.read.capacity() {
            self.at_once = (self.at_once * 2).min(READ[1]);
        }
        Poll::Ready(size.map(drop))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::proxy::outgoing::RequestBody;
    use http::{HeaderMap, Method};
    use rustix::net::sockopt::set_socket_linger;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    const SOON: Duration = Duration::from_secs(20);

    /// A connection, and the client's end of it.
    async fn connected(listener: &TcpListener) -> (Box<Link>, TcpStream) {
        let port = listener.local_addr().unwrap().port();
        let (link, accepted) = tokio::join!(Link::connect(port, SOON), listener.accept());
        (link.unwrap(), accepted.unwrap().0)
    }

    #[tokio::test]
    async fn a_request_of_which_nothing_was_written_is_whole_for_another_connection() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let head = b"GET / HTTP/1.1\r\n\r\n";
        let outgoing = Outgoing::new(head.to_vec(), RequestBody::Whole("body".into()), Instant::now());
        let mut asked = Asked { method: Method::GET, outgoing: Some(outgoing), spare: HeaderMap::new() };

        // The client resets it, and that is known before the first byte could be written.
        let (mut link, theirs) = connected(&listener).await;
        set_socket_linger(&theirs, Some(Duration::ZERO)).unwrap();
        drop(theirs);
        std::future::poll_fn(|context| link.poll_read(context)).await.unwrap_err();
        let failed = link.send(&mut asked, SOON, |_| {}).await;
        assert!(matches!(failed, Err(Failure::Unsent(_))));

        let (mut link, mut theirs) = connected(&listener).await;
        let (answer, read) = tokio::join!(link.send(&mut asked, SOON, |_| {}), async {
            let mut read = vec![0; head.len() + 4];
            theirs.read_exact(&mut read).await.unwrap();
            theirs.write_all(b"HTTP/1.1 204 x\r\n\r\n").await.unwrap();
            read
        });
        assert_eq!(
            (answer.ok().unwrap().parts.status.as_u16(), &read[..]),
            (204, &b"GET / HTTP/1.1\r\n\r\nbody"[..])
        );

        // Of the next one something was written: nobody can know what the client made of it.
        asked.outgoing = Some(Outgoing::new(head.to_vec(), RequestBody::Empty, Instant::now()));
        let ended = tokio::join!(link.send(&mut asked, SOON, |_| {}), async {
            theirs.read_exact(&mut [0]).await.unwrap();
            drop(theirs);
        });
        assert!(matches!(ended.0, Err(Failure::Sent(_))) && asked.outgoing.is_none());
    }
}
