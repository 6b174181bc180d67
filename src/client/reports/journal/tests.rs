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
