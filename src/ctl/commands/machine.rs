//! What other programs of the machine say, bounded in time and size.

use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

/// How long such a program may take.
const PATIENCE: Duration = Duration::from_secs(15);
/// How much of what it says is kept.
const MAX_BYTES: u64 = 256 * 1024;

/// What a program prints; in a few words why not, where it can't be run.
pub(super) fn said(mut command: Command) -> String {
    let name = command.get_program().to_string_lossy().into_owned();
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    match command.spawn() {
        Ok(child) => output(child, &name),
        Err(error) => format!("({name}: {error})\n"),
    }
}

/// The same for a program with arguments.
pub(super) fn said_by(program: &str, arguments: &[&str]) -> String {
    let mut command = Command::new(program);
    command.args(arguments).env("LC_ALL", "C.UTF-8").env("SYSTEMD_PAGER", "");
    said(command)
}

/// What it prints until it ends, or its time is over.
fn output(mut child: Child, name: &str) -> String {
    let (sender, receiver) = mpsc::channel();
    let mut readers = 0;
    let streams = [
        child.stdout.take().map(|out| Box::new(out) as Box<dyn Read + Send>),
        child.stderr.take().map(|out| Box::new(out) as _),
    ];
    for (place, stream) in streams.into_iter().enumerate() {
        let Some(stream) = stream else { continue };
        let sender = sender.clone();
        readers += 1;
        std::thread::spawn(move || {
            let mut content = Vec::new();
            let _ = stream.take(MAX_BYTES).read_to_end(&mut content);
            let _ = sender.send((place, content));
        });
    }
    let mut parts = [Vec::new(), Vec::new()];
    let mut is_late = false;
    for _ in 0..readers {
        match receiver.recv_timeout(PATIENCE) {
            Ok((place, content)) => {
                parts.get_mut(place).into_iter().for_each(|part| part.clone_from(&content))
            }
            Err(_) => is_late = true,
        }
    }
    // It has ended, or is not waited for any longer.
    let _ = child.kill();
    let _ = child.wait();
    let mut text: String = parts.iter().map(|part| String::from_utf8_lossy(part)).collect();
    if is_late {
        text += &format!("({name} took longer than {} s)\n", PATIENCE.as_secs());
    }
    text
}
