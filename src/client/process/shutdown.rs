//! [`ShutdownTriggers`]: what may end the client from outside.

use std::fmt;
use std::future::poll_fn;
use std::io::{self, IsTerminal};
use std::pin::Pin;
use std::time::Duration;

use futures_core::Stream;
use rustix::process::{Pid, PidfdFlags, getppid, pidfd_open};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::low_level::signal_name;
use signal_hook_tokio::Signals;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::async_fd::ReadableFd;

/// The delay between the answer to `stop_client` and the stop.
pub(crate) const STOP_DELAY: Duration = Duration::from_secs(3);

/// The delay between the answer to `relogin` and the end of the login.
pub(crate) const RELOGIN_DELAY: Duration = Duration::from_secs(3);

/// Why the client ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ShutdownReason {
    /// A signal.
    Signal(i32),
    /// `stop_client` was called.
    StopCalled,
    /// The controller that started the client is gone.
    Orphaned,
    /// None of the login codes was scanned.
    NotScanned,
    /// The account was logged out elsewhere, for this reason.
    PutOut(String),
}

impl ShutdownReason {
    /// The reason to show after the end; none if the exit status says everything.
    pub(crate) fn reason(&self) -> Option<String> {
        match self {
            Self::Signal(_) | Self::StopCalled => None,
            Self::Orphaned | Self::NotScanned | Self::PutOut(_) => Some(self.to_string()),
        }
    }
}

impl fmt::Display for ShutdownReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Signal(signal) => write!(f, "received {}", signal_name(*signal).unwrap_or("a signal")),
            Self::StopCalled => f.write_str("stop_client was called"),
            Self::Orphaned => f.write_str("the controller that started this client is gone"),
            Self::PutOut(why) => write!(f, "the account went offline: {why}"),
            Self::NotScanned => f.write_str("none of the login codes was scanned (qrcode_count_max)"),
        }
    }
}

/// Why the triggers cannot be watched.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ShutdownError {
    /// Signal handlers cannot be set.
    #[error("signals cannot be watched")]
    Signals(#[source] io::Error),
    /// The kernel gives no pidfd of the parent.
    #[error("the controller (process {0}) cannot be watched")]
    Parent(i32, #[source] io::Error),
}

/// Watches for what may end the client from outside.
pub(crate) struct ShutdownTriggers {
    signals: Signals,
    parent: Parent,
    asked: CancellationToken,
}

impl ShutdownTriggers {
    /// Watches signals, the parent if it has to be `controller`, and `asked`, which the API cancels. From here
    /// on no signal ends the process before it has cleaned up.
    ///
    /// # Errors
    /// Signals or the parent cannot be watched.
    pub(crate) fn watch(controller: Option<Pid>, asked: CancellationToken) -> Result<Self, ShutdownError> {
        // SIGHUP comes from the terminal of a client that was started by hand.
        let signals = Signals::new([SIGTERM, SIGHUP, SIGINT]).map_err(ShutdownError::Signals)?;
        let parent = match controller {
            None => Parent::Any,
            Some(pid) => {
                Parent::watch(pid).map_err(|e| ShutdownError::Parent(pid.as_raw_nonzero().get(), e))?
            }
        };
        Ok(Self { signals, parent, asked })
    }

    /// Waits for the first trigger.
    pub(crate) async fn first(mut self) -> ShutdownReason {
        let asked = async {
            self.asked.cancelled().await;
            tokio::time::sleep(STOP_DELAY).await;
        };
        tokio::select! {
            signal = ending_signal(&mut self.signals) => ShutdownReason::Signal(signal),
            () = self.parent.gone() => ShutdownReason::Orphaned,
            () = asked => ShutdownReason::StopCalled,
        }
    }
}

async fn ending_signal(signals: &mut Signals) -> i32 {
    loop {
        match poll_fn(|cx| Pin::new(&mut *signals).poll_next(cx)).await {
            Some(signal @ (SIGTERM | SIGHUP)) => return signal,
            // Ctrl-C in the controller's terminal reaches the whole process group. It is meant for the
            // controller, unless this client runs in the terminal itself.
            Some(SIGINT) if io::stdin().is_terminal() => return SIGINT,
            Some(_) => debug!("ignored SIGINT: standard input is no terminal"),
            // The stream ends only if its handle is closed, and there is none.
            None => std::future::pending().await,
        }
    }
}

/// The parent process.
enum Parent {
    /// It does not matter.
    Any,
    /// It is not the controller, or was gone already.
    Gone,
    /// The controller. The descriptor becomes readable when it ends.
    Controller(ReadableFd),
}

impl Parent {
    fn watch(pid: Pid) -> io::Result<Self> {
        // The descriptor first, then the comparison: the other way round the pid could be reused in between.
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
            // An error can only mean that the runtime ends.
            Self::Controller(process) => drop(process.readable().await),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn another_parent_counts_as_gone() {
        let own = Pid::from_raw(std::process::id().cast_signed()).unwrap();
        assert!(matches!(Parent::watch(own), Ok(Parent::Gone)));
        assert!(matches!(Parent::watch(getppid().unwrap()), Ok(Parent::Controller(_))));
        Parent::Gone.gone().await;
    }
}
