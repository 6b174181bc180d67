//! Who else is in a process group. The answer needs a walk over all of `/proc`, so when many clients end at once
//! they share a walk.

use std::collections::HashSet;
use std::io;

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tracing::warn;

use super::proc;

type Question = (u32, oneshot::Sender<bool>);

/// Asks for walks over the process table.
#[derive(Debug)]
pub(super) struct Groups {
    questions: mpsc::Sender<Question>,
    walker: JoinHandle<()>,
}

impl Groups {
    /// Starts the task that walks.
    pub(super) fn new() -> Self {
        let (questions, asked) = mpsc::channel(256);
        Self { questions, walker: tokio::spawn(walk(asked)) }
    }

    /// Whether a process other than the dead leader is in the group of `leader`. When that cannot be found out the
    /// answer is yes: then the group is ended with signals, which harms nobody if it is empty.
    pub(super) async fn has_others(&self, leader: u32) -> bool {
        let (answer, answered) = oneshot::channel();
        if self.questions.send((leader, answer)).await.is_err() {
            return true;
        }
        answered.await.unwrap_or(true)
    }
}

impl Drop for Groups {
    fn drop(&mut self) {
        self.walker.abort();
    }
}

async fn walk(mut asked: mpsc::Receiver<Question>) {
    let mut failing = false;
    let mut questions = Vec::new();
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
                    warn!(%error, "the process table can't be read, so left-over processes are ended unseen");
                }
                failing = true;
                None
            }
        };
        for (leader, answer) in questions.drain(..) {
            let others = found.as_ref().is_none_or(|all| {
                // A living process with the leader's pid means that the number is another one's by now.
                !all.iter().any(|(pid, _)| *pid == leader) && all.iter().any(|(_, group)| *group == leader)
            });
            // Who asked may have gone.
            let _ = answer.send(others);
        }
    }
}
