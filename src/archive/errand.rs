//! What the two ends of a connection to a folder say. The controller sends a line that tells what to do; the archive follows, in one
//! direction or the other, and after an unpacking a line that tells how it went.

use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::Path;

use super::{Amount, ArchiveError, pack, unpack};
use crate::model::error_chain::ErrorChain;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Errand {
    /// To send what is in the folder.
    Pack,
    /// To put what is sent into the folder.
    Unpack,
}

impl Errand {
    /// Its line.
    pub const fn line(self) -> &'static str {
        match self {
            Self::Pack => "pack\n",
            Self::Unpack => "unpack\n",
        }
    }
}

/// How an unpacking went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// All of it is on disk.
    Done(Amount),
    /// There are files of an earlier account of this name.
    NotEmpty(String),
    /// It failed: why, for people.
    Failed(String),
}

impl Reply {
    /// The most bytes of its line.
    pub const MAX_LINE: usize = 4096;

    fn line(&self) -> String {
        let text = match self {
            Self::Done(Amount { entries, bytes }) => format!("done {entries} {bytes}"),
            Self::NotEmpty(why) => format!("not-empty {why}"),
            Self::Failed(why) => format!("failed {why}"),
        };
        let text: String = text.chars().filter(|c| !c.is_control()).take(Self::MAX_LINE / 4 - 1).collect();
        text + "\n"
    }

    /// Reads its line. None where it is none, so that the unpacking may have ended anyhow.
    pub fn of_line(line: &str) -> Option<Self> {
        let (word, rest) = line.strip_suffix('\n')?.split_once(' ')?;
        match word {
            "done" => {
                let (entries, bytes) = rest.split_once(' ')?;
                Some(Self::Done(Amount { entries: entries.parse().ok()?, bytes: bytes.parse().ok()? }))
            }
            "not-empty" => Some(Self::NotEmpty(rest.to_owned())),
            "failed" => Some(Self::Failed(rest.to_owned())),
            _ => None,
        }
    }
}

/// Does the errand that comes from `input`, in this folder.
///
/// # Errors
/// It failed, or is none.
pub fn serve(mut input: impl Read, output: impl Write, folder: &Path) -> Result<Amount, ArchiveError> {
    let mut output = BufWriter::with_capacity(64 * 1024, output);
    match errand(&mut input)? {
        Errand::Pack => pack(folder, &mut output),
        Errand::Unpack => {
            let unpacked = unpack(BufReader::with_capacity(64 * 1024, input), folder);
            let reply = match &unpacked {
                Ok(amount) => Reply::Done(*amount),
                Err(error @ ArchiveError::NotEmpty(_)) => Reply::NotEmpty(error.to_string()),
                Err(error) => Reply::Failed(ErrorChain(error).to_string()),
            };
            let said = output.write_all(reply.line().as_bytes()).and_then(|()| output.flush());
            unpacked.and_then(|amount| said.map(|()| amount).map_err(ArchiveError::Stream))
        }
    }
}

/// Reads the line byte by byte: what follows belongs to the archive.
fn errand(input: &mut impl Read) -> Result<Errand, ArchiveError> {
    let (mut line, mut byte) = (Vec::new(), [0]);
    while line.len() < MAX_LINE && !line.ends_with(b"\n") {
        match input.read(&mut byte) {
            Ok(0) => break,
            Ok(_) => line.extend(byte),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(ArchiveError::Stream(error)),
        }
    }
    let known = [Errand::Pack, Errand::Unpack].into_iter();
    known.into_iter().find(|errand| errand.line().as_bytes() == line).ok_or(ArchiveError::NoErrand)
}

/// The longest line that is read, in bytes. All errands are shorter.
const MAX_LINE: usize = 16;

/// Does the errand of the controller in a unit: what `wqcontroller carry` is. Standard input and output are the connection to it, the
/// folder is the state directory that systemd has made.
pub fn run() -> std::process::ExitCode {
    let folder = std::env::var_os("STATE_DIRECTORY").filter(|folder| !folder.is_empty());
    let Some(folder) = folder else {
        eprintln!(
            "STATE_DIRECTORY is not set: this command is for wqmove-client@.service and wqmove-impl@.service"
        );
        return std::process::ExitCode::FAILURE;
    };
    match serve(io::stdin().lock(), io::stdout().lock(), Path::new(&folder)) {
        Ok(Amount { entries, bytes }) => {
            eprintln!("{entries} entries with {bytes} bytes of content");
            std::process::ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{}", ErrorChain(&error));
            std::process::ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_are_read_as_they_are_written() {
        for reply in [
            Reply::Done(Amount { entries: 3, bytes: 1 << 40 }),
            Reply::NotEmpty("there are files".into()),
            Reply::Failed("/x: No space left on device".into()),
        ] {
            assert_eq!(Reply::of_line(&reply.line()), Some(reply));
        }
        for broken in ["", "done 1", "done 1 x\n", "done 1 2", "other x\n", "failed\n"] {
            assert_eq!(Reply::of_line(broken), None, "{broken}");
        }
        let long = Reply::Failed("小\n".repeat(5000)).line();
        assert!(long.len() <= Reply::MAX_LINE && long.ends_with('\n') && long.matches('\n').count() == 1);
    }

    #[test]
    fn errands_are_done_and_others_are_refused() {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::fs::write(from.path().join("a"), "content").unwrap();
        let mut archive = Vec::new();
        serve(Errand::Pack.line().as_bytes(), &mut archive, from.path()).unwrap();
        let mut said = Vec::new();
        let sent = [Errand::Unpack.line().as_bytes(), &archive].concat();
        serve(&sent[..], &mut said, to.path()).unwrap();
        assert_eq!(said, b"done 1 7\n");
        said.clear();
        serve(&sent[..], &mut said, to.path()).unwrap_err();
        assert!(said.starts_with(b"not-empty "), "{said:?}");
        for errand in ["", "pack", "remove\n", "unpack and more than that\n"] {
            let refused = serve(errand.as_bytes(), Vec::new(), to.path());
            assert!(matches!(refused, Err(ArchiveError::NoErrand)), "{errand}: {refused:?}");
        }
    }
}
