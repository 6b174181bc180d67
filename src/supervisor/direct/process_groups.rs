//! [`ProcessGroups`]: whether a process group is empty. That takes a walk over `/proc`, which clients that exit at the same time
//! share.

use std::collections::HashSet;
use std::io;

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tracing::warn;

use crate::supervisor::proc;

type GroupQuery = (u32, oneshot::Sender<bool>);

/// Answers questions about process groups.
#[derive(Debug)]
pub(super) struct ProcessGroups {
    questions: mpsc::Sender<GroupQuery>,
    walker: JoinHandle<()>,
}

impl ProcessGroups {
    /// Starts the task that walks over `/proc`.
    pub(super) fn new() -> Self {
        let (questions, asked) = mpsc::channel(256);
        Self { questions, walker: tokio::spawn(walk(asked)) }
    }

    /// Whether the group of the dead `leader` has other processes. True if that is unknown: signals to an empty group do no harm.
    pub(super) async fn has_other_members(&self, leader: u32) -> bool {
        let (answer, answered) = oneshot::channel();
        if self.questions.send((leader, answer)).await.is_err() {
            return true;
        }
        answered.await.unwrap_or(true)
    }
}

impl Drop for ProcessGroups {
    fn drop(&mut self) {
        self.walker.abort();
    }
}

async fn walk(mut asked: mpsc::Receiver<GroupQuery>) {
    let mut failing = false;
    let mut questions = Vec::new();
    // All questions that wait share a walk. One that comes during a walk waits for the next, as the walk may be past its group.
    while asked.recv_many(&mut questions, 256).await > 0 {
        let found =
            tokio::task::spawn_blocking(proc::groups).await.unwrap_or_else(|end| Err(io::Error::other(end)));
        let found = match found {
            Ok(found) => {
                failing = false;
                Some(found.into_iter().map(|(pid, stat)| (pid, stat.group)).collect::<HashSet<_>>())
            }
            Err(error) => {
                if !failing {
                    warn!(%error, "can't read /proc ({error}); signalling every process group that a client leaves");
                }
                // Logged once and not at each walk: clients exit all the time.
                failing = true;
                None
            }
        };
        for (leader, answer) in questions.drain(..) {
            let others = found.as_ref().is_none_or(|all| {
                // If a living process has the leader's pid, the number belongs to another group.
                !all.iter().any(|(pid, _)| *pid == leader) && all.iter().any(|(_, group)| *group == leader)
            });
            // The watcher may be gone.
            let _ = answer.send(others);
        }
    }
}
