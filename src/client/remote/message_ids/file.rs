//! [`IdFile`]: the numbers of messages on disk, a line each, and a line for each start of the client.

use std::fmt::Write as _;
use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::table::after;
use super::{MessageKey, Scene};
use crate::files::{FileError, FileOwner, make_parent, read_untrusted, replace};

/// The first line: the format and its version.
const HEAD: &str = "message ids 1";

/// The largest file that is read, in bytes: more than twice the most messages.
const MAX_BYTES: u64 = 4 * 1024 * 1024;

/// What begins the line of a start; the first number of that run follows.
const START: &str = "start ";

/// How many numbers are left out at a start. Those of the last moments before a kill are not in the file: no other message may get
/// them, or an application would take back the wrong one.
const GAP: i32 = 1 << 20;

/// Why there is no file.
#[derive(Debug, thiserror::Error)]
pub(super) enum IdFileError {
    /// It can't be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// A system call failed.
    #[error("{}", .0.display())]
    Io(PathBuf, #[source] std::io::Error),
    /// It was written by something else, or by a later version of this program. It is left as it is.
    #[error("{}: it is no list of message ids of version 1", .0.display())]
    Foreign(PathBuf),
}

/// What was in the file.
pub(super) struct Kept {
    /// The messages, oldest first.
    pub all: Vec<(i32, MessageKey)>,
    /// The first number that none of them has, nor any that is missing.
    pub next: i32,
}

impl Kept {
    /// Nothing. Chance makes it unlikely that numbers of a lost file are given once more.
    pub(super) fn none() -> Self {
        let mut random = [0; 4];
        // Where there is no chance, numbers begin at one end.
        let _ = rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty());
        Self { all: Vec::new(), next: (i32::from_ne_bytes(random) & i32::MAX).max(1) }
    }
}

/// The file, which grows by a line for each message until it is written anew.
pub(super) struct IdFile {
    path: PathBuf,
    most: usize,
    lines: usize,
    /// Whether the last line is not whole, so that the file has to be written anew before anything is added.
    is_torn: bool,
}

impl IdFile {
    /// Reads the file, or makes one, and notes in it that there was a start: numbers of this run that never come into it must not be
    /// given by the next run either.
    pub(super) fn open(path: &Path, most: usize) -> Result<(Self, Kept), IdFileError> {
        let mut file = Self { path: path.to_owned(), most, lines: 0, is_torn: true };
        let content = match read_untrusted(path, &FileOwner::me(), MAX_BYTES) {
            Ok((content, _)) => content,
            Err(error) if error.is_missing() => Vec::new(),
            Err(error) => return Err(error.into()),
        };
        let mut kept = Kept::none();
        // A full disk leaves an empty file.
        if content.is_empty() {
            make_parent(path)?;
            replace(path, format!("{HEAD}\n{START}{}\n", kept.next).as_bytes(), 0o600)?;
            (file.lines, file.is_torn) = (1, false);
            return Ok((file, kept));
        }
        let content = String::from_utf8_lossy(&content);
        let mut lines = content.lines();
        if lines.next() != Some(HEAD) {
            return Err(IdFileError::Foreign(path.to_owned()));
        }
        for line in lines {
            file.lines += 1;
            let start = line.strip_prefix(START).and_then(|id| id.parse().ok()).filter(|id| *id > 0);
            let entry = read(line);
            if let Some(last) = start.or(entry.map(|(id, _)| id)) {
                kept.next = after(last, GAP);
            }
            kept.all.extend(entry);
        }
        file.is_torn = !content.ends_with('\n');
        file.append(&format!("{START}{}\n", kept.next), 1)?;
        Ok((file, kept))
    }

    /// Adds lines at the end.
    fn append(&mut self, text: &str, lines: usize) -> Result<(), IdFileError> {
        let flags = i32::try_from(rustix::fs::OFlags::NOFOLLOW.bits()).unwrap_or(0);
        // Not created: one that was removed is written anew.
        let opened = File::options().append(true).custom_flags(flags).open(&self.path);
        let added = opened.and_then(|mut file| {
            // A torn line joins what follows it, so both would be lost: an end of line saves the latter.
            let end = if self.is_torn { "\n" } else { "" };
            file.write_all(format!("{end}{text}").as_bytes())
        });
        self.is_torn = added.is_err();
        self.lines += lines;
        added.map_err(|error| IdFileError::Io(self.path.clone(), error))
    }

    /// Whether the file has to be written anew if so many come to it.
    pub(super) fn is_full_with(&self, more: usize) -> bool {
        self.is_torn || self.lines + more > 2 * self.most
    }

    /// Adds lines, or writes `all` in their place.
    pub(super) fn write(
        &mut self,
        more: &[(i32, MessageKey)],
        all: Option<&[(i32, MessageKey)]>,
    ) -> Result<(), IdFileError> {
        let text = |entries: &[(i32, MessageKey)]| {
            let mut text = String::with_capacity(entries.len() * 40);
            entries.iter().for_each(|(id, key)| line(&mut text, *id, key));
            text
        };
        if let Some(all) = all {
            make_parent(&self.path)?;
            replace(&self.path, format!("{HEAD}\n{}", text(all)).as_bytes(), 0o600)?;
            (self.lines, self.is_torn) = (all.len(), false);
            return Ok(());
        }
        match more.len() {
            0 => Ok(()),
            count => self.append(&text(more), count),
        }
    }
}

fn line(text: &mut String, id: i32, key: &MessageKey) {
    let scene = match key.scene {
        Scene::Friend => "friend",
        Scene::Group => "group",
        Scene::Temporary => "temp",
    };
    // Never an error, as it is memory.
    let _ = writeln!(text, "{id} {} {scene} {} {}", key.account, key.peer, key.seq);
}

fn read(line: &str) -> Option<(i32, MessageKey)> {
    let mut words = line.split(' ');
    let id = words.next()?.parse().ok().filter(|id| *id > 0)?;
    let account = words.next()?.parse().ok()?;
    let scene = match words.next()? {
        "friend" => Scene::Friend,
        "group" => Scene::Group,
        "temp" => Scene::Temporary,
        _ => return None,
    };
    let (peer, seq) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    words.next().is_none().then_some((id, MessageKey { account, scene, peer, seq }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(seq: u64) -> MessageKey {
        MessageKey { account: 1, scene: Scene::Temporary, peer: 12, seq }
    }

    #[test]
    fn what_was_written_is_read_again_beyond_broken_lines() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deeper/ids");
        let (mut file, kept) = IdFile::open(&path, 10).unwrap();
        assert!(kept.all.is_empty() && !file.is_full_with(1));
        file.write(&[(1, key(1))], None).unwrap();
        file.write(&[(2, key(2))], None).unwrap();
        // A kill in the middle of a line.
        let mut text = std::fs::read_to_string(&path).unwrap();
        text.push_str("3 1 te");
        std::fs::write(&path, &text).unwrap();
        let (mut file, kept) = IdFile::open(&path, 10).unwrap();
        assert_eq!((kept.all.as_slice(), kept.next), (&[(1, key(1)), (2, key(2))][..], GAP + 2));
        // The line of that start is not lost to the torn one before it.
        assert_eq!(IdFile::open(&path, 10).unwrap().1.next, after(GAP + 2, GAP));
        file.write(&[(9, key(9))], None).unwrap();
        assert_eq!(IdFile::open(&path, 10).unwrap().1.all.len(), 3);
        std::fs::write(&path, "").unwrap();
        assert!(IdFile::open(&path, 10).unwrap().1.all.is_empty());
        for garbage in
            ["", "x", "0 1 group 5 6", "1 1 guild 5 6", "1 1 group 5", "1 1 group 5 6 7", "-1 1 group 5 6"]
        {
            assert_eq!(read(garbage), None, "{garbage}");
        }
    }

    #[test]
    fn each_run_has_numbers_of_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ids");
        let starts: Vec<i32> = (0..4).map(|_| IdFile::open(&path, 10).unwrap().1.next).collect();
        for pair in starts.windows(2) {
            assert_eq!(pair[1], after(pair[0], GAP));
        }
    }

    #[test]
    fn file_of_another_version_is_left_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ids");
        std::fs::write(&path, "message ids 2\n").unwrap();
        assert!(matches!(IdFile::open(&path, 10), Err(IdFileError::Foreign(_))));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "message ids 2\n");
    }

    #[test]
    fn file_that_was_removed_is_written_anew() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ids");
        let (mut file, _) = IdFile::open(&path, 10).unwrap();
        file.write(&[(1, key(1))], None).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert!(file.write(&[(2, key(2))], None).is_err() && file.is_full_with(0));
        file.write(&[(2, key(2))], Some(&[(1, key(1)), (2, key(2))])).unwrap();
        assert_eq!(IdFile::open(&path, 10).unwrap().1.all.len(), 2);
    }
}
