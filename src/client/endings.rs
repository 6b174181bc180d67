//! [`Endings`]: everything that may end the client from outside.

use std::fmt;
use std::future::poll_fn;
use std::io::{self, IsTerminal};
use std::pin::Pin;
use std::time::Duration;

use futures_core::Stream;
use rustix::process::{Pid, PidfdFlags, getppid, pidfd_open};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook_tokio::Signals;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::readable::ReadableFd;

/// How long after the answer to `stop_client` the client stops.
pub(super) const STOP_DELAY: Duration = Duration::from_secs(3);

/// How long after the answer to `relogin` the login is given up.
pub(super) const RELOGIN_DELAY: Duration = Duration::from_secs(3);

/// Why the client ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// This signal came.
    Signal(&'static str),
    /// `stop_client` was called.
    Asked,
    /// The controller that started us is no longer our parent.
    Orphaned,
    /// Nobody scanned any of the login codes.
    Unscanned,
    /// The account was put out, for this reason.
    Offline(String),
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Signal(name) => write!(f, "{name} came"),
            Self::Asked => f.write_str("stop_client was called"),
            Self::Orphaned => f.write_str("the controller that started this client is gone"),
            Self::Offline(why) => write!(f, "the account went offline: {why}"),
            Self::Unscanned => f.write_str("nobody scanned any of the login codes (qrcode_count_max)"),
        }
    }
}

/// Why the outside cannot be watched.
#[derive(Debug, thiserror::Error)]
pub(super) enum EndingsError {
    /// Signal handlers cannot be set.
    #[error("signals cannot be watched")]
    Signals(#[source] io::Error),
    /// The kernel gives no pidfd of our parent.
    #[error("the controller (process {0}) cannot be watched")]
    Parent(i32, #[source] io::Error),
}

/// Watches for everything that may end the client from outside.
pub(super) struct Endings {
    signals: Signals,
    parent: Parent,
    asked: CancellationToken,
}

impl Endings {
    /// Watches signals, our parent if it is to be `controller`, and `asked`, which the API cancels. From here on
    /// no signal ends the process before it has cleaned up.
    ///
    /// # Errors
    /// Signals or the parent cannot be watched.
    pub(super) fn watch(controller: Option<Pid>, asked: CancellationToken) -> Result<Self, EndingsError> {
        let signals = Signals::new([SIGTERM, SIGHUP, SIGINT]).map_err(EndingsError::Signals)?;
        let parent = match controller {
            None => Parent::Any,
            Some(pid) => {
                Parent::watch(pid).map_err(|e| EndingsError::Parent(pid.as_raw_nonzero().get(), e))?
            }
        };
        Ok(Self { signals, parent, asked })
    }

    /// Waits for the first of them.
    pub(super) async fn first(mut self) -> Ending {
        let asked = async {
            self.asked.cancelled().await;
            tokio::time::sleep(STOP_DELAY).await;
        };
        tokio::select! {
            signal = ending_signal(&mut self.signals) => Ending::Signal(signal),
            () = self.parent.gone() => Ending::Orphaned,
            () = asked => Ending::Asked,
        }
    }
}

async fn ending_signal(signals: &mut Signals) -> &'static str {
    loop {
        match poll_fn(|cx| Pin::new(&mut *signals).poll_next(cx)).await {
            Some(SIGTERM) => return "SIGTERM",
            Some(SIGHUP) => return "SIGHUP",
            // Ctrl-C in the controller's terminal reaches the whole process group: it is meant for the
            // controller, unless we are what runs in the terminal.
            Some(SIGINT) if io::stdin().is_terminal() => return "SIGINT",
            Some(_) => debug!("SIGINT is ignored, for there is no terminal."),
            // The stream ends only when its handle is closed, and nobody has that.
            None => std::future::pending().await,
        }
    }
}

/// What we know about our parent.
enum Parent {
    /// It need not be anybody.
    Any,
    /// It is not the controller, or was gone when we looked.
    Gone,
    /// The controller. The descriptor becomes readable when it ends.
    Controller(ReadableFd),
}

impl Parent {
    fn watch(pid: Pid) -> io::Result<Self> {
        // First the descriptor, then the comparison: the other way round the pid could be reused in between.
        let descriptor = match pidfd_open(pid, PidfdFlags::NONBLOCK) {
            Err(rustix::io::Errno::SRCH) => return Ok(Self::Gone),
            opened => opened?,
        };
        if getppid() != Some(pid) {
            return Ok(Self::Gone);
        }
        Ok(Self::Controller(ReadableFd::new(descriptor)?))
    }

    async fn gone(&self) {
        match self {
            Self::Any => std::future::pending().await,
            Self::Gone => {}
            // An error can only mean that the runtime ends, and we with it.
            Self::Controller(process) => drop(process.readable().await),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_parent_that_is_another_is_gone() {
        let own = Pid::from_raw(std::process::id().cast_signed()).unwrap();
        assert!(matches!(Parent::watch(own), Ok(Parent::Gone)));
        assert!(matches!(Parent::watch(getppid().unwrap()), Ok(Parent::Controller(_))));
        Parent::Gone.gone().await;
    }
}
