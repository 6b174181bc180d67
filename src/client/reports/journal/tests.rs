//! The journal over runs, damaged ends and other versions.

use super::*;
use std::os::unix::fs::PermissionsExt;

fn record(seq: u64, text: &str) -> Record<&str> {
    Record { seq, run: 1, time: 2, is_code: false, text }
}

/// A folder that is ours alone.
fn root() -> tempfile::TempDir {
    let mode = fs::Permissions::from_mode(0o700);
    tempfile::Builder::new().permissions(mode).tempdir().unwrap()
}

fn open(folder: &Path) -> (Journal, u64, Vec<Left>) {
    let mut left = Vec::new();
    let (journal, next) = Journal::open(folder, |found| left.push(found)).unwrap();
    (journal, next, left)
}

fn seqs(left: &[Left]) -> Vec<u64> {
    left.iter().map(|left| left.record.seq).collect()
}

#[test]
fn what_waits_is_found_by_the_next() {
    let root = root();
    let folder = root.path().join("reports");
    let (mut journal, next, _) = open(&folder);
    assert_eq!(next, 1);
    let places: Vec<_> =
        (1..=3).map(|seq| journal.append(&record(seq, &"x".repeat(seq as usize))).unwrap()).collect();
    journal.advance(1, 1).unwrap();
    journal.release(places[0]);
    journal.advance(2, 4).unwrap();
    assert!(matches!(Journal::open(&folder, |_| {}), Err(JournalError::Locked(_))));
    for entry in fs::read_dir(&folder).unwrap() {
        assert_eq!(entry.unwrap().metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }
    // As after kill -9: nothing is closed in order.
    drop(journal);

    let (mut journal, next, left) = open(&folder);
    assert_eq!((next, seqs(&left)), (4, vec![2, 3]));
    assert_eq!((left[0].attempts, left[1].attempts), (4, 0));
    assert_eq!(journal.read(left[1].place).unwrap(), "xxx");
    for left in &left {
        journal.release(left.place);
    }
    journal.advance(4, 0).unwrap();
    let place = journal.append(&record(4, "y")).unwrap();
    assert_eq!(journal.read(place).unwrap(), "y");
    journal.release(place);
    journal.advance(5, 0).unwrap();
    journal.close();
    assert!(!folder.exists());
}

#[test]
fn a_damaged_end_costs_no_other_report() {
    let root = root();
    let (mut journal, _, _) = open(root.path());
    for seq in 1..=2 {
        journal.append(&record(seq, "text")).unwrap();
    }
    let path = segment_path(root.path(), 1);
    drop(journal);
    let length = fs::metadata(&path).unwrap().len();
    File::options().write(true).open(&path).unwrap().set_len(length - 1).unwrap();
    fs::write(segment_path(root.path(), 2), "").unwrap();
    let (mut journal, next, left) = open(root.path());
    assert_eq!((next, seqs(&left)), (2, vec![1]));
    journal.append(&record(2, "new")).unwrap();
    drop(journal);
    let (_, _, left) = open(root.path());
    assert_eq!(seqs(&left), [1, 2]);
}

#[test]
fn done_segments_go() {
    let root = root();
    let (mut journal, _, _) = open(root.path());
    let text = "x".repeat(SEGMENT_BYTES as usize / 2);
    let count = || segment_numbers(root.path()).unwrap().len();
    let places: Vec<_> = (1..=6).map(|seq| journal.append(&record(seq, &text)).unwrap()).collect();
    assert_eq!(count(), 3);
    assert!(journal.unsynced().is_some_and(|unsynced| unsynced.0.len() == 5 && unsynced.sync().is_ok()));
    assert!(journal.unsynced().is_none());
    for (place, next) in places.into_iter().zip(2..) {
        journal.release(place);
        journal.advance(next, 0).unwrap();
        assert_eq!(count() as u64, (7 - next).div_ceil(2));
    }
}

#[test]
fn other_versions_are_left_alone() {
    let root = root();
    let mut header = HEADER;
    header[15] = 9;
    fs::write(segment_path(root.path(), 7), header).unwrap();
    assert!(matches!(Journal::open(root.path(), |_| {}), Err(JournalError::OtherVersion(_))));
    assert_eq!(fs::read_dir(root.path()).unwrap().count(), 1);
}

/// What a disk that becomes full does.
fn write_half(file: &File, bytes: &[u8], at: u64) -> io::Result<()> {
    file.write_all_at(&bytes[..bytes.len() / 2], at)?;
    Err(io::ErrorKind::StorageFull.into())
}

#[test]
fn what_cannot_be_written_leaves_nothing() {
    let root = root();
    let (mut journal, _, _) = open(root.path());
    journal.append(&record(1, "first")).unwrap();
    for _ in 0..2 {
        journal.write_by(write_half);
        assert!(journal.append(&record(2, "second")).is_err());
        // With a header that can be written, and a record that cannot.
        journal.write_by(|file, bytes, at| match at {
            0 => file.write_all_at(bytes, at),
            _ => write_half(file, bytes, at),
        });
        assert!(journal.append(&record(2, "second")).is_err());
        assert_eq!(segment_numbers(root.path()).unwrap(), [1]);
    }
    journal.write_by(FileExt::write_all_at);
    let place = journal.append(&record(2, "second")).unwrap();
    assert_eq!(journal.read(place).unwrap(), "second");
    drop(journal);
    let (_, next, left) = open(root.path());
    assert_eq!((next, seqs(&left)), (3, vec![1, 2]));
}

#[test]
fn what_a_cleaner_removes_is_made_anew() {
    let root = root();
    let folder = root.path().join("reports");
    let (mut journal, _, _) = open(&folder);
    let place = journal.append(&record(1, "first")).unwrap();
    fs::remove_dir_all(&folder).unwrap();
    // A disk that is full then takes nothing; it loses nothing, either.
    journal.write_by(write_half);
    assert!(journal.append(&record(2, "second")).is_err());
    assert_eq!(journal.read(place).unwrap(), "first");
    journal.write_by(FileExt::write_all_at);
    let second = journal.append(&record(2, "second")).unwrap();
    assert_eq!(journal.read(second).unwrap(), "second");
    assert!(matches!(Journal::open(&folder, |_| {}), Err(JournalError::Locked(_))));
    // A file alone.
    fs::remove_file(folder.join(CURSOR)).unwrap();
    journal.release(place);
    journal.advance(2, 3).unwrap();
    drop(journal);
    let (mut journal, _, left) = open(&folder);
    assert_eq!((seqs(&left), left[0].attempts), (vec![2], 3));
    // And where nothing waits.
    let third = journal.append(&record(3, "third")).unwrap();
    journal.release(left[0].place);
    journal.release(third);
    journal.advance(4, 0).unwrap();
    fs::remove_dir_all(&folder).unwrap();
    journal.append(&record(4, "fourth")).unwrap();
    drop(journal);
    let (_, _, left) = open(&folder);
    assert_eq!(seqs(&left), [4]);
}

#[test]
fn a_folder_that_cannot_be_made_is_made_later() {
    let root = root();
    let folder = root.path().join("link/reports");
    std::os::unix::fs::symlink(root.path().join("disk"), root.path().join("link")).unwrap();
    let (mut journal, _, _) = open(&folder);
    assert!(journal.append(&record(1, "first")).is_err());
    journal.advance(1, 1).unwrap();
    fs::create_dir(root.path().join("disk")).unwrap();
    journal.append(&record(1, "first")).unwrap();
    drop(journal);
    let (_, _, left) = open(&folder);
    assert_eq!((seqs(&left), left[0].attempts), (vec![1], 1));
}

#[test]
fn what_is_no_file_of_ours_is_refused_at_once() {
    let refused = |name: &str, make: &dyn Fn(&Path)| {
        let root = root();
        make(&root.path().join(name));
        Journal::open(root.path(), |_| {}).unwrap_err()
    };
    let pipe = |path: &Path| rustix::fs::mkfifoat(rustix::fs::CWD, path, rustix::fs::Mode::RUSR).unwrap();
    let link = |path: &Path| std::os::unix::fs::symlink("/dev/zero", path).unwrap();
    for name in ["0000000000000001.reports", CURSOR] {
        assert!(matches!(refused(name, &pipe), JournalError::Io(..)), "{name}");
        assert!(matches!(refused(name, &link), JournalError::Io(..)), "{name}");
        assert!(
            matches!(refused(name, &|path| fs::create_dir(path).unwrap()), JournalError::Io(..)),
            "{name}"
        );
    }
    let last = format!("{}.reports", u64::MAX);
    assert!(matches!(refused(&last, &|path| fs::write(path, "").unwrap()), JournalError::LastNumber(_)));
    // The last one that can be followed: then there is none for the one after.
    let root = root();
    fs::write(root.path().join(format!("{}.reports", u64::MAX - 1)), "").unwrap();
    let (mut journal, _, _) = open(root.path());
    assert!(journal.append(&record(1, "x")).is_err());
}
