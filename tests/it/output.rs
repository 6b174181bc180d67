//! What processes print.

use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use crate::fixture::PATIENCE;

/// What a process printed so far.
#[derive(Clone, Default)]
pub struct Log(Arc<(Mutex<(String, bool)>, Condvar)>);

impl Log {
    pub fn follow(&self, stream: impl Read + Send + 'static) {
        let shared = self.0.clone();
        std::thread::spawn(move || {
            let mut stream = BufReader::new(stream);
            let mut line = Vec::new();
            // Not as text: Control-C empties a terminal's queue, in the middle of a character, too.
            while stream.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
                let text = String::from_utf8_lossy(&line);
                shared.0.lock().unwrap().0.push_str(&text.replace("\r\n", "\n"));
                shared.1.notify_all();
                line.clear();
            }
            shared.0.lock().unwrap().1 = true;
            shared.1.notify_all();
        });
    }

    pub fn text(&self) -> String {
        self.0.0.lock().unwrap().0.clone()
    }

    /// Waits until `text` was printed.
    pub fn wait_for(&self, text: &str) -> String {
        self.wait_for_times(text, 1)
    }

    /// Waits until `text` was printed as many times.
    pub fn wait_for_times(&self, text: &str, times: usize) -> String {
        let state = self.wait_while(|printed| printed.matches(text).count() < times);
        assert!(
            state.matches(text).count() >= times,
            "{text:?} was not printed {times} times, but:\n{state}"
        );
        state
    }

    /// How often `text` was printed so far.
    pub fn count(&self, text: &str) -> usize {
        self.text().matches(text).count()
    }

    /// All that was printed, when all writers have gone.
    pub fn to_the_end(&self) -> String {
        let text = self.wait_while(|_| true);
        assert!(self.0.0.lock().unwrap().1, "somebody still holds the stream:\n{text}");
        text
    }

    fn wait_while(&self, waiting: impl Fn(&str) -> bool) -> String {
        let state = self.0.0.lock().unwrap();
        let (state, _) =
            self.0.1.wait_timeout_while(state, PATIENCE, |(text, ended)| !*ended && waiting(text)).unwrap();
        state.0.clone()
    }
}

/// Runs a program that ends by itself: its exit status, what it printed, what it complained about.
pub fn run(command: &mut Command) -> (Option<i32>, String, String) {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut process = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let (printed, complained) = (Log::default(), Log::default());
    printed.follow(process.stdout.take().unwrap());
    complained.follow(process.stderr.take().unwrap());
    let deadline = Instant::now() + PATIENCE;
    let status = loop {
        match process.try_wait().unwrap() {
            Some(status) => break status,
            None if Instant::now() > deadline => {
                process.kill().unwrap();
                process.wait().unwrap();
                panic!("{command:?} does not end:\n{}", complained.text());
            }
            None => std::thread::sleep(Duration::from_millis(5)),
        }
    };
    (status.code(), printed.to_the_end(), complained.to_the_end())
}

/// A configuration file with this content: its folder, and its path.
pub fn configuration(content: &str) -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("wq.toml");
    std::fs::write(&path, content).unwrap();
    let path = path.to_str().unwrap().to_owned();
    (folder, path)
}
