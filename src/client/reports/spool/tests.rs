//! The spool over runs, on disks that fail, and by a history made up by chance.

use super::*;
use crate::client::reports::spool::trouble::SAID_TIME;
use crate::client::reports::wal::codec::Record;
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;

mod histories;

fn spool(folder: &Path) -> Spool {
    Spool::open(&folder.join("reports"), 3)
}

fn done(spool: &mut Spool, head: &PendingReport) {
    spool.delivered(head);
    spool.finish(head);
}

fn drain(spool: &mut Spool) -> Vec<(String, u32)> {
    let mut all = Vec::new();
    while let Some(head) = spool.attempt().unwrap() {
        done(spool, &head);
        all.push((head.text, head.attempt));
    }
    all
}

fn push(spool: &mut Spool, texts: &[&str]) {
    texts.iter().for_each(|text| spool.push((*text).into(), false, None));
}

#[tokio::test]
async fn full_spool_drops_the_oldest() {
    let root = tempfile::tempdir().unwrap();
    let mut spool = spool(root.path());
    push(&mut spool, &["1", "2", "3"]);
    let head = spool.attempt().unwrap().unwrap();
    push(&mut spool, &["4", "5"]);
    assert_eq!(spool.take_dropped(), DroppedReports { full: 2, ..DroppedReports::default() });
    // It was given up while it was under way; the place of another report is not taken for its own.
    done(&mut spool, &head);
    assert_eq!(drain(&mut spool), [("3".into(), 1), ("4".into(), 1), ("5".into(), 1)]);
    spool.push("x".repeat(MAX_TEXT + 1), false, None);
    assert_eq!((spool.len(), spool.take_dropped().full), (0, 1));
}

#[tokio::test]
async fn login_code_replaces_the_previous_one() {
    let root = tempfile::tempdir().unwrap();
    let mut first = spool(root.path());
    first.push("code 1".into(), true, None);
    push(&mut first, &["a"]);
    first.push("code 2".into(), true, None);
    let next = first.attempt().unwrap().unwrap();
    assert_eq!(next.text, "a");
    assert_eq!((first.len(), first.take_dropped()), (2, DroppedReports::default()));
    drop(first);
    // And the last one goes with its client.
    let mut second = spool(root.path());
    let again = second.attempt().unwrap().unwrap();
    assert_eq!((&again.id, again.attempt, again.text.as_str()), (&next.id, 2, "a"));
    assert_eq!(second.len(), 1);
    done(&mut second, &again);
    second.close();
    assert!(!root.path().join("reports").exists());
}

#[tokio::test]
async fn report_ids_are_never_reused() {
    let root = tempfile::tempdir().unwrap();
    let mut ids = std::collections::BTreeSet::new();
    for _ in 0..3 {
        let mut spool = spool(root.path());
        push(&mut spool, &["a", "b"]);
        while let Some(head) = spool.attempt().unwrap() {
            done(&mut spool, &head);
            assert!(ids.insert(head.id));
        }
        spool.close();
    }
    assert_eq!(ids.len(), 6);
}

#[tokio::test]
async fn copy_of_a_report_takes_no_place() {
    let root = tempfile::tempdir().unwrap();
    let mut first = spool(root.path());
    push(&mut first, &["a", "b"]);
    drop(first);
    let file = |number: u64| root.path().join(format!("reports/{number:016}.reports"));
    std::fs::copy(file(1), file(2)).unwrap();
    let mut second = spool(root.path());
    assert_eq!((second.len(), second.bytes), (2, 2));
    assert!(!file(2).exists(), "nothing in it waits");
    assert_eq!(drain(&mut second), [("a".into(), 1), ("b".into(), 1)]);
    assert_eq!(second.bytes, 0);
    second.close();
    assert!(!root.path().join("reports").exists());
}

#[tokio::test(start_paused = true)]
async fn reports_expire_by_their_own_age() {
    let root = tempfile::tempdir().unwrap();
    let mut spool = spool(root.path());
    push(&mut spool, &["1"]);
    tokio::time::advance(Duration::from_secs(60)).await;
    push(&mut spool, &["2"]);
    spool.expire(Duration::from_secs(59));
    assert_eq!(spool.take_dropped(), DroppedReports { aged: 1, ..DroppedReports::default() });
    assert_eq!(drain(&mut spool), [("2".into(), 1)]);
}

#[tokio::test]
async fn spool_works_in_memory_without_a_disk() {
    let root = tempfile::tempdir().unwrap();
    std::fs::write(root.path().join("reports"), "no folder").unwrap();
    let mut spool = Spool::open(&root.path().join("reports"), 10_000);
    for n in 0..MAX_IN_MEMORY + 2 {
        push(&mut spool, &[&n.to_string()]);
    }
    assert_eq!((spool.in_memory(), spool.take_dropped().full), (MAX_IN_MEMORY, 2));
    assert_eq!(drain(&mut spool)[0], ("2".into(), 1));
    assert_eq!((spool.in_memory(), spool.len()), (0, 0));
}

#[tokio::test]
async fn wrong_clock_expires_nothing() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("reports");
    let (mut journal, _) = WriteAheadLog::open(&folder, |_| true).unwrap();
    for seq in 1..=2 {
        // Before a clock was set by the network: 1970.
        journal.append(&Record { seq, run: 1, time: 5, is_code: false, text: "old" }).unwrap();
    }
    drop(journal);
    let mut spool = spool(root.path());
    assert!(spool.attempt().unwrap().is_some());
    spool.expire(Duration::from_secs(3600));
    assert_eq!((spool.len(), spool.take_dropped()), (2, DroppedReports::default()));
}

/// How a disk works, and how it does not.
type Write = fn(&File, &[u8], u64) -> io::Result<()>;
const WORKS: Write = FileExt::write_all_at;
const FULL: Write = |_, _, _| Err(io::ErrorKind::StorageFull.into());
const FILLS: Write = |file, bytes, at| {
    file.write_all_at(&bytes[..bytes.len() / 2], at)?;
    Err(io::ErrorKind::StorageFull.into())
};

fn write_by(spool: &mut Spool, write: Write) {
    spool.journal.as_mut().unwrap().write_by(write);
}

fn push_numbers(spool: &mut Spool, numbers: Range<usize>) {
    numbers.for_each(|number| spool.push(number.to_string(), false, None));
}

fn drain_numbers(spool: &mut Spool) -> Vec<usize> {
    drain(spool).iter().map(|(text, _)| text.parse().unwrap()).collect()
}

#[tokio::test]
async fn memory_is_bounded_and_flushed_to_disk_later() {
    let root = tempfile::tempdir().unwrap();
    let open = || Spool::open(&root.path().join("reports"), 10_000);
    let mut spool = open();
    push_numbers(&mut spool, 0..1000);
    write_by(&mut spool, FILLS);
    push_numbers(&mut spool, 1000..1000 + MAX_IN_MEMORY + 10);
    assert_eq!((spool.len(), spool.in_memory()), (1000 + MAX_IN_MEMORY, MAX_IN_MEMORY));
    assert_eq!(spool.take_dropped(), DroppedReports { full: 10, ..DroppedReports::default() });
    // With the next one, the next attempt, or at the end.
    let kept = |more| (0..1000).chain(1010..1010 + MAX_IN_MEMORY + more).collect::<Vec<_>>();
    let ways: [fn(&mut Spool); 3] = [
        |spool| push_numbers(spool, 1010 + MAX_IN_MEMORY..1011 + MAX_IN_MEMORY),
        |spool| drop(spool.attempt().unwrap().unwrap()),
        |spool| {
            write_by(spool, FULL);
            push_numbers(spool, 1011 + MAX_IN_MEMORY..1012 + MAX_IN_MEMORY);
            write_by(spool, WORKS);
            spool.close();
        },
    ];
    for (way, more) in ways.into_iter().zip([1, 1, 2]) {
        write_by(&mut spool, WORKS);
        way(&mut spool);
        assert_eq!(spool.in_memory(), 0);
        // As a kill does.
        drop(spool);
        spool = open();
        assert_eq!(spool.entries.values().map(|entry| entry.bytes).sum::<usize>(), spool.bytes);
        assert_eq!(spool.len(), kept(more).len());
    }
    assert_eq!(drain_numbers(&mut spool), kept(2));
}

#[tokio::test(start_paused = true)]
async fn full_disk_is_logged_once() {
    let root = tempfile::tempdir().unwrap();
    let mut spool = spool(root.path());
    push(&mut spool, &["1", "2"]);
    write_by(&mut spool, FULL);
    for _ in 0..3 {
        push(&mut spool, &["3"]);
        assert!(spool.appending.lasts);
        // The cursor is written, which tells nothing about the next report.
        let head = spool.attempt().unwrap().unwrap();
        done(&mut spool, &head);
        assert!(spool.appending.lasts && !spool.cursor.lasts);
    }
    write_by(&mut spool, WORKS);
    push(&mut spool, &["4"]);
    assert!(!spool.appending.lasts);
    assert!(!spool.appending.should_log_failure(), "that was said just now");
    tokio::time::advance(SAID_TIME).await;
    assert!(spool.appending.should_log_failure() && !spool.appending.should_log_failure());
    assert!(spool.appending.should_log_recovery() && !spool.appending.should_log_recovery());
}

#[test]
fn read_without_descriptors_is_retried() {
    use rustix::io::Errno;
    assert!(is_passing(&Errno::MFILE.into()) && is_passing(&Errno::NFILE.into()));
    assert!(!is_passing(&Errno::NOENT.into()) && !is_passing(&io::ErrorKind::UnexpectedEof.into()));
}

/// A report of a message in a group.
fn in_group(group: &str, content: &str) -> String {
    serde_json::json!({ "type": "group_message", "group_uid": group, "content": content }).to_string()
}

#[tokio::test(start_paused = true)]
async fn timed_out_report_is_repeated_three_times_and_delays_no_other_lane() {
    let root = tempfile::tempdir().unwrap();
    let open = || Spool::open(&root.path().join("reports"), 100);
    let mut spool = open();
    for text in [in_group("1", "slow"), in_group("1", "behind"), in_group("2", "other")] {
        spool.push(text, false, None);
    }
    let pause = Duration::from_secs(5);
    for attempt in 1..=4 {
        let slow = spool.attempt().unwrap().unwrap();
        assert_eq!((slow.text.as_str(), slow.attempt), (in_group("1", "slow").as_str(), attempt));
        if attempt == 1 {
            let other = spool.attempt().unwrap().unwrap();
            assert_eq!(other.text, in_group("2", "other"));
            done(&mut spool, &other);
        }
        assert!(spool.attempt().unwrap().is_none(), "what is behind it waits");
        let expected = if attempt < 4 { TimedOut::Repeat } else { TimedOut::GivenUp(4) };
        assert_eq!(spool.timed_out(&slow, false, pause), expected);
        // The count outlives a client; the pause does not, and is over here.
        if attempt == 2 {
            drop(spool);
            spool = open();
        } else if attempt < 4 {
            assert!(spool.attempt().unwrap().is_none());
            assert_eq!(spool.next_wake(), Some(Instant::now() + pause));
        }
        tokio::time::advance(pause).await;
    }
    assert_eq!(drain(&mut spool), [(in_group("1", "behind"), 1)]);
}

#[tokio::test]
async fn hanging_receiver_costs_only_the_oldest_report() {
    let root = tempfile::tempdir().unwrap();
    let mut spool = Spool::open(&root.path().join("reports"), 100);
    ["1", "2"].iter().for_each(|group| spool.push(in_group(group, "x"), false, None));
    for attempt in 1..=4 {
        let (oldest, other) = (spool.attempt().unwrap().unwrap(), spool.attempt().unwrap().unwrap());
        assert_eq!(spool.timed_out(&other, false, Duration::ZERO), TimedOut::Repeat);
        let expected = if attempt < 4 { TimedOut::Repeat } else { TimedOut::GivenUp(4) };
        assert_eq!(spool.timed_out(&oldest, false, Duration::ZERO), expected);
    }
    assert_eq!(drain(&mut spool), [(in_group("2", "x"), 5)]);
}

#[tokio::test]
async fn completed_reports_beyond_the_oldest_are_bounded() {
    let root = tempfile::tempdir().unwrap();
    let open = || Spool::open(&root.path().join("reports"), 100_000);
    let mut spool = open();
    spool.push(in_group("1", "x"), false, None);
    let oldest = spool.attempt().unwrap().unwrap();
    let window = usize::try_from(WINDOW).unwrap();
    (0..window + 9).for_each(|_| spool.push(in_group("2", "x"), false, None));
    assert_eq!(drain(&mut spool).len(), window - 1);
    drop(spool);
    let mut spool = open();
    assert_eq!(spool.len(), 11);
    let again = spool.attempt().unwrap().unwrap();
    assert_eq!((&again.id, again.attempt), (&oldest.id, 2));
    done(&mut spool, &again);
    assert_eq!(drain(&mut spool).len(), 10);
}
