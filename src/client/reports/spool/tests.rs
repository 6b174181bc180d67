//! The spool over runs, on disks that fail, and by a history made up by chance.

use super::*;
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;

fn spool(folder: &Path) -> Spool {
    Spool::open(&folder.join("reports"), 3)
}

fn drain(spool: &mut Spool) -> Vec<(String, u32)> {
    let mut all = Vec::new();
    while let Some(head) = spool.attempt().unwrap() {
        spool.delivered(head.seq);
        all.push((head.text, head.attempt));
    }
    all
}

fn push(spool: &mut Spool, texts: &[&str]) {
    texts.iter().for_each(|text| spool.push((*text).into(), false, None));
}

#[tokio::test]
async fn the_oldest_make_room() {
    let root = tempfile::tempdir().unwrap();
    let mut spool = spool(root.path());
    push(&mut spool, &["1", "2", "3"]);
    let head = spool.attempt().unwrap().unwrap();
    push(&mut spool, &["4", "5"]);
    assert_eq!(spool.take_lost(), Lost { full: 2, ..Lost::default() });
    // It was given up while it was under way; nobody else's place is taken for its own.
    spool.delivered(head.seq);
    assert_eq!(drain(&mut spool), [("3".into(), 1), ("4".into(), 1), ("5".into(), 1)]);
    spool.push("x".repeat(MAX_TEXT + 1), false, None);
    assert_eq!((spool.len(), spool.take_lost().full), (0, 1));
}

#[tokio::test]
async fn a_code_takes_the_place_of_the_one_before() {
    let root = tempfile::tempdir().unwrap();
    let mut first = spool(root.path());
    first.push("code 1".into(), true, None);
    push(&mut first, &["a"]);
    first.push("code 2".into(), true, None);
    let next = first.attempt().unwrap().unwrap();
    assert_eq!(next.text, "a");
    assert_eq!((first.len(), first.take_lost()), (2, Lost::default()));
    drop(first);
    // And the last one goes with its client.
    let mut second = spool(root.path());
    let again = second.attempt().unwrap().unwrap();
    assert_eq!((again.id, again.attempt, again.text.as_str()), (next.id, 2, "a"));
    assert_eq!(second.len(), 1);
    second.delivered(again.seq);
    second.close();
    assert!(!root.path().join("reports").exists());
}

#[tokio::test]
async fn ids_are_never_used_again() {
    let root = tempfile::tempdir().unwrap();
    let mut ids = std::collections::BTreeSet::new();
    for _ in 0..3 {
        let mut spool = spool(root.path());
        push(&mut spool, &["a", "b"]);
        while let Some(head) = spool.attempt().unwrap() {
            spool.delivered(head.seq);
            assert!(ids.insert(head.id));
        }
        spool.close();
    }
    assert_eq!(ids.len(), 6);
}

#[tokio::test(start_paused = true)]
async fn age_is_counted_for_each() {
    let root = tempfile::tempdir().unwrap();
    let mut spool = spool(root.path());
    push(&mut spool, &["1"]);
    tokio::time::advance(Duration::from_secs(60)).await;
    push(&mut spool, &["2"]);
    spool.give_up(Duration::from_secs(59));
    assert_eq!(spool.take_lost(), Lost { aged: 1, ..Lost::default() });
    assert_eq!(drain(&mut spool), [("2".into(), 1)]);
}

#[tokio::test]
async fn memory_does_where_the_disk_does_not() {
    let root = tempfile::tempdir().unwrap();
    std::fs::write(root.path().join("reports"), "no folder").unwrap();
    let mut spool = Spool::open(&root.path().join("reports"), 10_000);
    for n in 0..MAX_IN_MEMORY + 2 {
        push(&mut spool, &[&n.to_string()]);
    }
    assert_eq!((spool.in_memory(), spool.take_lost().full), (MAX_IN_MEMORY, 2));
    assert_eq!(drain(&mut spool)[0], ("2".into(), 1));
    assert_eq!((spool.in_memory(), spool.len()), (0, 0));
}

#[tokio::test]
async fn a_wrong_clock_gives_nothing_up() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("reports");
    let (mut journal, _) = Journal::open(&folder, |_| {}).unwrap();
    for seq in 1..=2 {
        // Before a clock was set by the network: 1970.
        journal.append(&Record { seq, run: 1, time: 5, is_code: false, text: "old" }).unwrap();
    }
    drop(journal);
    let mut spool = spool(root.path());
    assert!(spool.attempt().unwrap().is_some());
    spool.give_up(Duration::from_secs(3600));
    assert_eq!((spool.len(), spool.take_lost()), (2, Lost::default()));
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
async fn memory_makes_room_for_itself_alone_and_goes_to_the_disk_later() {
    let root = tempfile::tempdir().unwrap();
    let open = || Spool::open(&root.path().join("reports"), 10_000);
    let mut spool = open();
    push_numbers(&mut spool, 0..1000);
    write_by(&mut spool, FILLS);
    push_numbers(&mut spool, 1000..1000 + MAX_IN_MEMORY + 10);
    assert_eq!((spool.len(), spool.in_memory()), (1000 + MAX_IN_MEMORY, MAX_IN_MEMORY));
    assert_eq!(spool.take_lost(), Lost { full: 10, ..Lost::default() });
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
        assert_eq!(spool.entries.iter().map(|entry| entry.bytes).sum::<usize>(), spool.bytes);
        assert_eq!(spool.len(), kept(more).len());
    }
    assert_eq!(drain_numbers(&mut spool), kept(2));
}

#[tokio::test(start_paused = true)]
async fn it_is_said_once_that_the_disk_is_full() {
    let root = tempfile::tempdir().unwrap();
    let mut spool = spool(root.path());
    push(&mut spool, &["1", "2"]);
    write_by(&mut spool, FULL);
    for _ in 0..3 {
        push(&mut spool, &["3"]);
        assert!(spool.appending.lasts);
        // The cursor is written, which tells nothing about the next report.
        let head = spool.attempt().unwrap().unwrap();
        spool.delivered(head.seq);
        assert!(spool.appending.lasts && !spool.cursor.lasts);
    }
    write_by(&mut spool, WORKS);
    push(&mut spool, &["4"]);
    assert!(!spool.appending.lasts);
    assert!(!spool.appending.begins(), "that was said just now");
    tokio::time::advance(SAID_TIME).await;
    assert!(spool.appending.begins() && !spool.appending.begins());
    assert!(spool.appending.ends() && !spool.appending.ends());
}

#[test]
fn what_cannot_be_read_for_want_of_descriptors_is_read_later() {
    use rustix::io::Errno;
    assert!(is_passing(&Errno::MFILE.into()) && is_passing(&Errno::NFILE.into()));
    assert!(!is_passing(&Errno::NOENT.into()) && !is_passing(&io::ErrorKind::UnexpectedEof.into()));
}

#[derive(Clone, Debug)]
enum Step {
    Push(usize, usize),
    Disk(usize),
    Attempt,
    Delivered,
    Kill,
    Close,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1..200_usize, prop_oneof![9 => 1..50_usize, 1 => Just(300_000)])
            .prop_map(|(count, bytes)| Step::Push(if bytes > 50 { count % 5 } else { count }, bytes)),
        2 => (0..3_usize).prop_map(Step::Disk),
        4 => Just(Step::Attempt),
        4 => Just(Step::Delivered),
        1 => Just(Step::Kill),
        1 => Just(Step::Close),
    ]
}

/// What must be in a spool: number, attempts and length of each report, and how many of the last are in memory.
#[derive(Default)]
struct Model {
    waiting: VecDeque<(usize, u32, usize)>,
    in_memory: usize,
    full: u64,
}

impl Model {
    const MOST: usize = 500;

    fn push(&mut self, number: usize, bytes: usize, disk_works: bool) {
        self.waiting.push_back((number, 0, bytes));
        self.in_memory = if disk_works { 0 } else { self.in_memory + 1 };
        if self.waiting.len() > Self::MOST {
            self.waiting.pop_front();
            self.full += 1;
        }
        while self.in_memory > MAX_IN_MEMORY || self.bytes_in_memory() > MAX_MEMORY_BYTES {
            self.waiting.remove(self.waiting.len() - self.in_memory);
            self.in_memory -= 1;
            self.full += 1;
        }
    }

    fn bytes_in_memory(&self) -> usize {
        let first = self.waiting.len() - self.in_memory;
        self.waiting.range(first..).map(|(.., bytes)| bytes).sum()
    }

    fn end(&mut self) {
        self.waiting.truncate(self.waiting.len() - self.in_memory);
        self.in_memory = 0;
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Whatever the disk and the client go through, reports come in order, none comes again that was delivered, those
    /// on disk outlive every end, and all that is missing was counted or in memory at the end of a client.
    #[test]
    fn any_history_keeps_the_promise(steps in prop::collection::vec(step(), 1..60)) {
        let root = tempfile::tempdir().unwrap();
        let open = || Spool::open(&root.path().join("reports"), Model::MOST);
        let (mut spool, mut model, mut disk, mut number) = (open(), Model::default(), WORKS, 0);
        let (mut works, mut under_way, mut ids) = (true, None, BTreeSet::new());
        let steps = steps.into_iter().chain([Step::Disk(0), Step::Attempt, Step::Kill]);
        for step in steps {
            match step {
                Step::Push(count, bytes) => for _ in 0..count {
                    let text = format!("{}{number}", "0".repeat(bytes));
                    spool.push(text.clone(), false, None);
                    model.push(number, text.len(), works);
                    number += 1;
                },
                Step::Disk(how) => {
                    (disk, works) = ([WORKS, FULL, FILLS][how], how == 0);
                    write_by(&mut spool, disk);
                }
                Step::Attempt => {
                    under_way = spool.attempt().unwrap();
                    model.in_memory = if works { 0 } else { model.in_memory };
                    let expected = model.waiting.front_mut().map(|(number, attempts, _)| {
                        *attempts += 1;
                        (*number, *attempts)
                    });
                    let got = under_way.as_ref().map(|head| (head.text.parse().unwrap(), head.attempt));
                    prop_assert_eq!(got, expected);
                }
                Step::Delivered => if let Some(head) = under_way.take() {
                    spool.delivered(head.seq);
                    if model.waiting.front().is_some_and(|(number, ..)| head.text.parse() == Ok(*number)) {
                        prop_assert!(ids.insert(head.id), "it came twice");
                        model.waiting.pop_front();
                        model.in_memory = model.in_memory.min(model.waiting.len());
                    }
                }
                Step::Kill | Step::Close => {
                    if matches!(step, Step::Close) {
                        spool.close();
                        model.in_memory = if works { 0 } else { model.in_memory };
                    }
                    prop_assert_eq!(spool.in_memory(), model.in_memory);
                    drop(spool);
                    spool = open();
                    write_by(&mut spool, disk);
                    model.end();
                    under_way = None;
                }
            }
            prop_assert_eq!((spool.len(), spool.in_memory()), (model.waiting.len(), model.in_memory));
            prop_assert_eq!(spool.take_lost(), Lost { full: std::mem::take(&mut model.full), ..Lost::default() });
            prop_assert!(spool.bytes <= MAX_DISK_BYTES && spool.in_memory.1 <= MAX_MEMORY_BYTES);
        }
        prop_assert_eq!(drain_numbers(&mut spool), model.waiting.iter().map(|(number, ..)| *number).collect::<Vec<_>>());
        spool.close();
        prop_assert!(!root.path().join("reports").exists());
    }
}
