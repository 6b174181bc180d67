//! The journal over runs, damaged ends and other versions.

use super::*;
use crate::client::reports::wal::codec::OLD_HEADER;
use crate::client::reports::wal::cursor;
use std::os::unix::fs::PermissionsExt;

fn record(seq: u64, text: &str) -> Record<&str> {
    Record { seq, run: 1, time: 2, is_code: false, text }
}

/// A folder that is ours alone.
fn root() -> tempfile::TempDir {
    let mode = fs::Permissions::from_mode(0o700);
    tempfile::Builder::new().permissions(mode).tempdir().unwrap()
}

fn open(folder: &Path) -> (WriteAheadLog, u64, Vec<Recovered>) {
    let mut left = Vec::new();
    let (journal, next) = WriteAheadLog::open(folder, |found| {
        left.push(found);
        true
    })
    .unwrap();
    (journal, next, left)
}

/// How often a report was posted.
fn tries(seq: u64, attempts: u32) -> BTreeMap<u64, Attempts> {
    BTreeMap::from([(seq, Attempts { attempts, timeouts: 0 })])
}

fn attempts(journal: &WriteAheadLog, seq: u64) -> u32 {
    journal.tried().get(&seq).map_or(0, |tries| tries.attempts)
}

fn seqs(left: &[Recovered]) -> Vec<u64> {
    left.iter().map(|left| left.record.seq).collect()
}

#[test]
fn waiting_reports_are_found_by_the_next_run() {
    let root = root();
    let folder = root.path().join("reports");
    let (mut journal, next, _) = open(&folder);
    assert_eq!(next, 1);
    let places: Vec<_> =
        (1..=3).map(|seq| journal.append(&record(seq, &"x".repeat(seq as usize))).unwrap()).collect();
    journal.advance(1, &tries(1, 1)).unwrap();
    journal.release(1, Some(places[0]));
    journal.advance(2, &tries(2, 4)).unwrap();
    assert!(matches!(WriteAheadLog::open(&folder, |_| true), Err(WalError::Locked(_))));
    for entry in fs::read_dir(&folder).unwrap() {
        assert_eq!(entry.unwrap().metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }
    // As after kill -9: nothing is closed in order.
    drop(journal);

    let (mut journal, next, left) = open(&folder);
    assert_eq!((next, seqs(&left)), (4, vec![2, 3]));
    assert_eq!((attempts(&journal, 2), attempts(&journal, 3)), (4, 0));
    assert_eq!(journal.read(left[1].place).unwrap(), "xxx");
    for left in &left {
        journal.release(left.record.seq, Some(left.place));
    }
    journal.advance(4, &BTreeMap::new()).unwrap();
    let place = journal.append(&record(4, "y")).unwrap();
    assert_eq!(journal.read(place).unwrap(), "y");
    journal.release(4, Some(place));
    journal.advance(5, &BTreeMap::new()).unwrap();
    journal.close();
    assert!(!folder.exists());
}

#[test]
fn damaged_end_costs_no_other_report() {
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
fn completed_segments_are_removed() {
    let root = root();
    let (mut journal, _, _) = open(root.path());
    let text = "x".repeat(SEGMENT_BYTES as usize / 2);
    let count = || segment_numbers(root.path()).unwrap().len();
    let places: Vec<_> = (1..=6).map(|seq| journal.append(&record(seq, &text)).unwrap()).collect();
    assert_eq!(count(), 3);
    assert!(journal.unsynced().is_some_and(|unsynced| unsynced.0.len() == 5 && unsynced.sync().is_ok()));
    assert!(journal.unsynced().is_none());
    for (place, next) in places.into_iter().zip(2..) {
        journal.release(next - 1, Some(place));
        journal.advance(next, &BTreeMap::new()).unwrap();
        assert_eq!(count() as u64, (7 - next).div_ceil(2));
    }
}

#[test]
fn queue_of_a_later_version_is_refused_and_kept() {
    for (name, mut header) in
        [("0000000000000007.reports", HEADER.to_vec()), (CURSOR, cursor::HEADER.to_vec())]
    {
        let root = root();
        header[15] = 3;
        header.extend_from_slice(b"what it knows and we do not");
        fs::write(root.path().join(name), &header).unwrap();
        let refused = WriteAheadLog::open(root.path(), |_| true).unwrap_err();
        assert!(matches!(refused, WalError::OtherVersion(_)), "{refused:?}");
        assert!(refused.to_string().contains("later version"), "{refused}");
        assert_eq!(fs::read(root.path().join(name)).unwrap(), header);
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 1);
    }
}

/// A folder as 0.1.0 leaves it: the first report was delivered, the second was posted 33 times, four more wait.
fn queue_of_0_1_0() -> tempfile::TempDir {
    let root = root();
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/client/queue-0.1.0");
    for entry in fs::read_dir(fixture).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), root.path().join(entry.file_name())).unwrap();
    }
    root
}

/// What 0.1.0 does when it opens a folder: it refuses one with a segment that is not its own.
fn is_refused_by_0_1_0(folder: &Path) -> bool {
    let header = |number| fs::read(segment_path(folder, number)).unwrap()[..16].to_vec();
    segment_numbers(folder).unwrap().into_iter().any(|number| header(number) != OLD_HEADER)
}

#[test]
fn queue_of_0_1_0_is_read_and_converted() {
    let root = queue_of_0_1_0();
    let (mut journal, next, left) = open(root.path());
    assert_eq!((next, seqs(&left), attempts(&journal, 2)), (7, vec![2, 3, 4, 5, 6], 33));
    assert_eq!(left[0].lane, left[2].lane, "a message and what came back");
    assert_eq!(left.iter().map(|left| left.lane).collect::<std::collections::BTreeSet<_>>().len(), 3);
    assert!(journal.read(left[4].place).unwrap().contains("three"));
    assert!(!is_refused_by_0_1_0(root.path()), "reading changes nothing");
    // The third before the second.
    journal.release(3, Some(left[1].place));
    journal.advance(2, &tries(2, 34)).unwrap();
    assert!(is_refused_by_0_1_0(root.path()));
    drop(journal);
    let (mut journal, next, left) = open(root.path());
    assert_eq!((next, seqs(&left), attempts(&journal, 2)), (7, vec![2, 4, 5, 6], 34));
    for left in &left {
        journal.release(left.record.seq, Some(left.place));
    }
    journal.advance(7, &BTreeMap::new()).unwrap();
    journal.close();
    assert!(!root.path().exists());
    fs::create_dir(root.path()).unwrap();
}

#[test]
fn kill_during_conversion_of_a_0_1_0_queue_loses_nothing() {
    let root = queue_of_0_1_0();
    let old = fs::read(root.path().join(CURSOR)).unwrap();
    let (mut journal, _, left) = open(root.path());
    journal.release(2, Some(left[0].place));
    journal.advance(3, &BTreeMap::new()).unwrap();
    drop(journal);
    // Killed before the header was written.
    let mut content = fs::read(root.path().join(CURSOR)).unwrap();
    content[..old.len()].copy_from_slice(&old);
    fs::write(root.path().join(CURSOR), content).unwrap();
    let (mut journal, _, left) = open(root.path());
    assert_eq!(seqs(&left), [2, 3, 4, 5, 6]);
    journal.release(3, Some(left[1].place));
    journal.advance(2, &BTreeMap::new()).unwrap();
    drop(journal);
    assert_eq!(seqs(&open(root.path()).2), [2, 4, 5, 6]);
}

#[test]
fn reports_completed_out_of_order_are_not_found_again() {
    let root = root();
    let (mut journal, _, _) = open(root.path());
    let text = "x".repeat(SEGMENT_BYTES as usize / 2);
    let places: Vec<_> = (1..=7).map(|seq| journal.append(&record(seq, &text)).unwrap()).collect();
    for seq in [2, 3, 4, 6, 7] {
        journal.release(seq, Some(places[seq as usize - 1]));
        journal.advance(1, &tries(1, 2)).unwrap();
    }
    // The second of four has nothing that waits; the last is written to.
    assert_eq!(segment_numbers(root.path()).unwrap(), [1, 3, 4]);
    drop(journal);
    // The next run writes to none of them, so the last one goes, too.
    drop(open(root.path()));
    assert_eq!(segment_numbers(root.path()).unwrap(), [1, 3]);
    let (mut journal, next, left) = open(root.path());
    assert_eq!((next, seqs(&left), attempts(&journal, 1)), (8, vec![1, 5], 2));
    // The numbers of those that are gone do not come again, or theirs would count as done with.
    journal.append(&record(next, "new")).unwrap();
    drop(journal);
    assert_eq!(seqs(&open(root.path()).2), [1, 5, 8]);
}

/// What a disk that becomes full does.
fn write_half(file: &File, bytes: &[u8], at: u64) -> io::Result<()> {
    file.write_all_at(&bytes[..bytes.len() / 2], at)?;
    Err(io::ErrorKind::StorageFull.into())
}

#[test]
fn failed_write_leaves_nothing() {
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
fn removed_files_are_created_again() {
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
    assert!(matches!(WriteAheadLog::open(&folder, |_| true), Err(WalError::Locked(_))));
    // A file alone.
    fs::remove_file(folder.join(CURSOR)).unwrap();
    journal.release(1, Some(place));
    journal.advance(2, &tries(2, 3)).unwrap();
    drop(journal);
    let (mut journal, _, left) = open(&folder);
    assert_eq!((seqs(&left), attempts(&journal, 2)), (vec![2], 3));
    // And where nothing waits.
    let third = journal.append(&record(3, "third")).unwrap();
    journal.release(2, Some(left[0].place));
    journal.release(3, Some(third));
    journal.advance(4, &BTreeMap::new()).unwrap();
    fs::remove_dir_all(&folder).unwrap();
    journal.append(&record(4, "fourth")).unwrap();
    drop(journal);
    let (_, _, left) = open(&folder);
    assert_eq!(seqs(&left), [4]);
}

#[test]
fn folder_is_created_once_possible() {
    let root = root();
    let folder = root.path().join("link/reports");
    std::os::unix::fs::symlink(root.path().join("disk"), root.path().join("link")).unwrap();
    let (mut journal, _, _) = open(&folder);
    assert!(journal.append(&record(1, "first")).is_err());
    journal.advance(1, &tries(1, 1)).unwrap();
    fs::create_dir(root.path().join("disk")).unwrap();
    journal.append(&record(1, "first")).unwrap();
    drop(journal);
    let (journal, _, left) = open(&folder);
    assert_eq!((seqs(&left), attempts(&journal, 1)), (vec![1], 1));
}

#[test]
fn foreign_files_are_refused_at_once() {
    let refused = |name: &str, make: &dyn Fn(&Path)| {
        let root = root();
        make(&root.path().join(name));
        WriteAheadLog::open(root.path(), |_| true).unwrap_err()
    };
    let pipe = |path: &Path| rustix::fs::mkfifoat(rustix::fs::CWD, path, rustix::fs::Mode::RUSR).unwrap();
    let link = |path: &Path| std::os::unix::fs::symlink("/dev/zero", path).unwrap();
    for name in ["0000000000000001.reports", CURSOR] {
        assert!(matches!(refused(name, &pipe), WalError::Io(..)), "{name}");
        assert!(matches!(refused(name, &link), WalError::Io(..)), "{name}");
        assert!(matches!(refused(name, &|path| fs::create_dir(path).unwrap()), WalError::Io(..)), "{name}");
    }
    let last = format!("{}.reports", u64::MAX);
    assert!(matches!(refused(&last, &|path| fs::write(path, "").unwrap()), WalError::LastNumber(_)));
    // The last one that can be followed: then there is none for the one after.
    let root = root();
    fs::write(root.path().join(format!("{}.reports", u64::MAX - 1)), "").unwrap();
    let (mut journal, _, _) = open(root.path());
    assert!(journal.append(&record(1, "x")).is_err());
}
