//! The spool against a model, over histories made up by chance.

use super::*;
use proptest::prelude::*;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

#[derive(Clone, Debug)]
enum Step {
    /// So many, so long, to this lane and the next ones in turn, or all to one.
    Push(usize, usize, usize, bool),
    Disk(usize),
    Attempt,
    /// One of the posts under way.
    Delivered(prop::sample::Index),
    Failed(prop::sample::Index),
    /// Whether others were taken meanwhile, and whether the lane pauses for long.
    TimedOut(prop::sample::Index, bool, bool),
    Kill,
    Close,
}

const LANES: usize = 100;

fn step() -> impl Strategy<Value = Step> {
    let push = (1..200_usize, prop_oneof![9 => 1..50_usize, 1 => Just(300_000)], 0..LANES, any::<bool>());
    let which = any::<prop::sample::Index>;
    prop_oneof![
        4 => push.prop_map(|(count, bytes, lane, many)| {
            Step::Push(if bytes > 50 { count % 5 } else { count }, bytes, lane, many)
        }),
        2 => (0..3_usize).prop_map(Step::Disk),
        12 => Just(Step::Attempt),
        6 => which().prop_map(Step::Delivered),
        2 => which().prop_map(Step::Failed),
        4 => (which(), any::<bool>(), any::<bool>()).prop_map(|(which, others, long)| Step::TimedOut(which, others, long)),
        1 => Just(Step::Kill),
        1 => Just(Step::Close),
    ]
}

#[derive(Clone, Debug)]
struct Waiting {
    lane: usize,
    bytes: usize,
    tries: Attempts,
}

/// What must be in a spool.
#[derive(Default)]
struct Model {
    waiting: BTreeMap<usize, Waiting>,
    /// How many of the last are in memory.
    in_memory: usize,
    /// Lanes with a post under way, and those that pause for long, with the report for which they do.
    busy: BTreeSet<usize>,
    pausing: BTreeMap<usize, usize>,
    full: u64,
}

impl Model {
    const MOST: usize = 500;

    fn push(&mut self, number: usize, lane: usize, bytes: usize, disk_works: bool) {
        self.waiting.insert(number, Waiting { lane, bytes, tries: Attempts::default() });
        self.in_memory = if disk_works { 0 } else { self.in_memory + 1 };
        if self.waiting.len() > Self::MOST {
            self.waiting.pop_first();
            self.full += 1;
        }
        while self.in_memory > MAX_IN_MEMORY || self.bytes_in_memory() > MAX_MEMORY_BYTES {
            let first = *self.waiting.keys().rev().nth(self.in_memory - 1).unwrap();
            self.waiting.remove(&first);
            self.in_memory -= 1;
            self.full += 1;
        }
    }

    fn bytes_in_memory(&self) -> usize {
        self.waiting.values().rev().take(self.in_memory).map(|waiting| waiting.bytes).sum()
    }

    /// The oldest report of a lane that may be posted.
    fn next(&self) -> Option<usize> {
        let mut firsts = BTreeMap::new();
        for (number, waiting) in &self.waiting {
            firsts.entry(waiting.lane).or_insert(*number);
        }
        let may = |lane: &usize, number: &usize| {
            !self.busy.contains(lane) && self.pausing.get(lane) != Some(number)
        };
        let ready: BTreeSet<_> =
            firsts.iter().filter(|(lane, number)| may(lane, number)).map(|(_, number)| *number).collect();
        let was_tried = |number: &usize| self.waiting[number].tries.attempts > 0;
        let tried = self.waiting.keys().filter(|number| was_tried(number)).count();
        let mut ready = ready.into_iter();
        if tried < MAX_TRIED { ready.next() } else { ready.find(was_tried) }
    }

    fn remove(&mut self, number: usize) -> bool {
        let is_in_memory = self.waiting.keys().rev().take(self.in_memory).any(|last| *last == number);
        self.in_memory -= usize::from(is_in_memory);
        self.waiting.remove(&number).is_some()
    }

    /// As the client ends: what is in memory goes, and so do pauses.
    fn end(&mut self) {
        for _ in 0..self.in_memory {
            self.waiting.pop_last();
        }
        self.in_memory = 0;
        self.busy.clear();
        self.pausing.clear();
    }
}

fn number(head: &PendingReport) -> usize {
    let report: Value = serde_json::from_str(&head.text).unwrap();
    usize::try_from(report["number"].as_u64().unwrap()).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Whatever the disk, the client and the receiver go through: of each lane one report at a time is posted, the
    /// oldest; none is posted again that was delivered or given up; those on disk outlive every end with the count of
    /// their attempts; and all that is missing was counted or in memory at the end of a client.
    #[test]
    fn any_history_keeps_the_delivery_guarantees(steps in prop::collection::vec(step(), 1..120)) {
        let root = tempfile::tempdir().unwrap();
        let open = || Spool::open(&root.path().join("reports"), Model::MOST);
        let (mut spool, mut model, mut disk, mut next) = (open(), Model::default(), WORKS, 0);
        let (mut works, mut under_way, mut ids) = (true, Vec::<PendingReport>::new(), BTreeSet::new());
        let steps = steps.into_iter().chain([Step::Disk(0), Step::Attempt, Step::Kill]);
        for step in steps {
            match step {
                Step::Push(count, bytes, lane, many) => for n in 0..count {
                    let lane = if many { (lane + n) % LANES } else { lane };
                    let report = json!({
                        "type": "group_message", "group_uid": lane.to_string(), "number": next, "rest": "0".repeat(bytes),
                    });
                    let text = report.to_string();
                    spool.push(text.clone(), false, None);
                    model.push(next, lane, text.len(), works);
                    next += 1;
                },
                Step::Disk(how) => {
                    (disk, works) = ([WORKS, FULL, FILLS][how], how == 0);
                    write_by(&mut spool, disk);
                }
                Step::Attempt => {
                    let head = spool.attempt().unwrap();
                    model.in_memory = if works { 0 } else { model.in_memory };
                    let expected = model.next();
                    prop_assert_eq!(head.as_ref().map(number), expected);
                    if let (Some(head), Some(number)) = (head, expected) {
                        let waiting = model.waiting.get_mut(&number).unwrap();
                        waiting.tries.attempts += 1;
                        prop_assert_eq!(head.attempt, waiting.tries.attempts);
                        model.busy.insert(waiting.lane);
                        under_way.push(head);
                    }
                }
                Step::Delivered(which) => if !under_way.is_empty() {
                    let head = under_way.swap_remove(which.index(under_way.len()));
                    let lane = lane_of(&head);
                    done(&mut spool, &head);
                    if model.remove(number(&head)) {
                        prop_assert!(ids.insert(head.id), "it was done with before");
                    }
                    model.busy.remove(&lane);
                }
                Step::Failed(which) => if !under_way.is_empty() {
                    let head = under_way.swap_remove(which.index(under_way.len()));
                    spool.finish(&head);
                    model.busy.remove(&lane_of(&head));
                }
                Step::TimedOut(which, others, is_long) => if !under_way.is_empty() {
                    let head = under_way.swap_remove(which.index(under_way.len()));
                    let (number, lane) = (number(&head), lane_of(&head));
                    let is_oldest = model.waiting.first_key_value().is_some_and(|(first, _)| *first == number);
                    let mut expected = TimedOut::Repeat;
                    if let Some(waiting) = model.waiting.get_mut(&number).filter(|_| others || is_oldest) {
                        waiting.tries.timeouts += 1;
                        if waiting.tries.timeouts == 4 {
                            expected = TimedOut::GivenUp(waiting.tries.attempts);
                            model.remove(number);
                            prop_assert!(ids.insert(head.id.clone()), "it was done with before");
                        }
                    }
                    model.busy.remove(&lane);
                    if is_long {
                        model.pausing.insert(lane, number);
                    }
                    let pause = Duration::from_secs(if is_long { 3600 } else { 0 });
                    prop_assert_eq!(spool.timed_out(&head, others, pause), expected);
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
                    under_way.clear();
                    let tries: Vec<_> = model.waiting.values().map(|waiting| waiting.tries).collect();
                    let kept = spool.entries.keys().map(|seq| spool.tried.get(seq).copied().unwrap_or_default());
                    prop_assert_eq!(kept.collect::<Vec<_>>(), tries);
                }
            }
            prop_assert_eq!((spool.len(), spool.in_memory()), (model.waiting.len(), model.in_memory));
            prop_assert_eq!(spool.take_dropped(), DroppedReports { full: std::mem::take(&mut model.full), ..DroppedReports::default() });
            prop_assert!(spool.bytes <= MAX_DISK_BYTES && spool.in_memory.1 <= MAX_MEMORY_BYTES);
            prop_assert!(spool.tried.len() <= MAX_TRIED);
        }
        let mut rest = BTreeSet::new();
        while let Some(head) = spool.attempt().unwrap() {
            done(&mut spool, &head);
            rest.insert(number(&head));
        }
        prop_assert_eq!(rest, model.waiting.keys().copied().collect::<BTreeSet<_>>());
        spool.close();
        prop_assert!(!root.path().join("reports").exists());
    }
}

fn lane_of(head: &PendingReport) -> usize {
    let report: Value = serde_json::from_str(&head.text).unwrap();
    report["group_uid"].as_str().unwrap().parse().unwrap()
}
