//! [`Deliverer`]: the task that posts reports until they are accepted or given up.

mod disk_sync;
mod post;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use reqwest::Client;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use self::disk_sync::DiskSync;
use self::post::{Acceptance, PostOutcome, post};
use super::answer::{ReceiverAnswer, ReportedMessage};
use super::recent::RecentEvents;
use super::reporter::{ReportQueue, Reporter};
use super::spool::{DroppedReports, PendingReport, Spool, TimedOut};
use crate::client::backoff::{AttemptFailure, Backoff};
use crate::client_settings::ReportSettings;
use crate::config::Endpoint;
use crate::http_client::ReceiverGuard;
use crate::peers::{OwnersUnavailable, PeerPolicy};
use crate::service::nonblocking_writer::Lines;

/// How many posts may be under way.
const MAX_POSTS: usize = 4;

/// After this fraction of `post_timeout` an answer is slow, and other conversations stop waiting for it.
const SLOW_PART: u32 = 10;

// Below the 2.5 s after which `TaskGroup` aborts the deliverer.
/// How long waiting reports may take when the client stops.
const FLUSH_TIME: Duration = Duration::from_secs(2);

/// When an answer counts as slow while the client stops.
const SLOW_AT_THE_END: Duration = Duration::from_millis(200);

/// Why no reports can be posted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DelivererError {
    /// No HTTP client can be created: for an https URL, most likely because no CA certificates are installed.
    #[error("no HTTP client can be made for reports")]
    Client(#[source] reqwest::Error),
}

/// The task that posts reports.
///
/// One after another and in order, as long as each is answered soon. While one is slow, those of other
/// conversations go on over connections of their own.
pub(crate) struct Deliverer {
    outgoing: Arc<ReportQueue>,
    /// Keeps its connection. None: created with the next report.
    client: Option<Client>,
    /// Its `Display` hides secret parts.
    url: Endpoint,
    guard: Arc<ReceiverGuard>,
    content_type: &'static str,
    post_timeout: Duration,
    keep: Duration,
    backoff: Backoff,
    /// No posts until then: the receiver accepts none.
    paused_until: Option<Instant>,
    /// How many reports were accepted.
    taken: u64,
    /// The current failure; logged once per change, not per attempt.
    trouble: Option<String>,
    /// The logged reasons for ignored answers; each is logged once.
    unusable: BTreeSet<&'static str>,
    dropped: DroppedReports,
}

/// Creates the reporter and, if there is a `post_api`, its deliverer. `printed`: the output on which each
/// report is printed, if any. `policy`: decides whose programs on this machine may get reports.
///
/// # Errors
/// No HTTP client can be created.
pub(crate) fn open(
    settings: &ReportSettings,
    printed: Option<Lines>,
    recent: RecentEvents,
    policy: impl FnOnce() -> Result<Option<PeerPolicy>, OwnersUnavailable>,
) -> Result<(Reporter, Option<Deliverer>), DelivererError> {
    let Some(url) = &settings.post_api else {
        return Ok((Reporter::new(settings, None, printed, recent), None));
    };
    let client = post::client(url, settings.post_timeout, true).map_err(DelivererError::Client)?;
    let outgoing = ReportQueue::new(Spool::open(&settings.folder, settings.queue));
    let deliverer = Deliverer {
        outgoing: outgoing.clone(),
        client: Some(client),
        url: url.clone(),
        guard: Arc::new(ReceiverGuard::of(url, policy)),
        content_type: settings.content_type,
        post_timeout: settings.post_timeout,
        keep: settings.keep,
        backoff: Backoff::new(settings.pauses.0, settings.pauses.1),
        paused_until: None,
        taken: 0,
        trouble: None,
        unusable: BTreeSet::new(),
        dropped: DroppedReports::default(),
    };
    Ok((Reporter::new(settings, Some(outgoing), printed, recent), Some(deliverer)))
}

/// A post under way.
type Post = BoxFuture<'static, Posted>;

/// A post that ended.
struct Posted {
    head: PendingReport,
    /// How many reports had been accepted when it began.
    taken_before: u64,
    outcome: PostOutcome,
}

/// The posts under way.
#[derive(Default)]
struct Posts {
    running: FuturesUnordered<Post>,
    /// When each began, by sequence number.
    began: BTreeMap<u64, Instant>,
}

impl Posts {
    /// When the next may begin, unless another ends before; none if too many are under way.
    fn next_start(&self, slow: Duration) -> Option<Instant> {
        if self.began.len() >= MAX_POSTS {
            return None;
        }
        // Counted from the youngest: each further post begins only when the one before it has turned out to be slow.
        Some(self.began.values().max().map_or_else(Instant::now, |began| *began + slow))
    }

    fn any_slow(&self, slow: Duration) -> bool {
        self.began.values().any(|began| began.elapsed() >= slow)
    }

    async fn next(&mut self) -> Posted {
        match self.running.next().await {
            Some(posted) => {
                self.began.remove(&posted.head.seq);
                posted
            }
            // An empty set is ready at once, which would make the loop busy.
            None => std::future::pending().await,
        }
    }
}

impl Deliverer {
    /// Posts reports until `stop`, then the waiting ones as far as time allows; the rest stays on disk. `act`
    /// does what the answer to a message's report asks for, once.
    pub(crate) async fn run(
        mut self,
        stop: CancellationToken,
        mut act: impl FnMut(ReportedMessage, ReceiverAnswer) + Send,
    ) {
        let cut = async {
            stop.cancelled().await;
            sleep(FLUSH_TIME).await;
        };
        tokio::select! {
            // The cut drops the posts under way. Their attempts are on disk, so the next run goes on counting.
            () = self.deliver(&stop, &mut act) => {}
            () = cut => {}
        }
        self.log_dropped(true);
        let mut spool = self.outgoing.spool();
        // Closing writes what is in memory, so count afterwards.
        spool.close();
        let (waiting, in_memory) = (spool.len(), spool.in_memory());
        if in_memory > 0 {
            warn!("lost {in_memory} reports to {}: they were neither delivered nor saved to disk", self.url);
        }
        if waiting > in_memory {
            info!(
                "{} reports to {} are left on disk; the next start delivers them",
                waiting - in_memory,
                self.url
            );
        }
    }

    async fn deliver(
        &mut self,
        stop: &CancellationToken,
        act: &mut (impl FnMut(ReportedMessage, ReceiverAnswer) + Send),
    ) {
        let mut posts = Posts::default();
        let mut sync = DiskSync::default();
        let mut is_stopping = false;
        loop {
            self.log_dropped(false);
            let next_start = self.start_posts(&mut posts, is_stopping);
            // Nothing waits that may be posted now, and the client does not wait for pauses.
            if is_stopping && posts.began.is_empty() {
                return;
            }
            let is_held_up = self.paused_until.is_some() || posts.any_slow(self.post_timeout / SLOW_PART);
            sync.arrange(&self.outgoing, is_held_up);
            tokio::select! {
                posted = posts.next() => {
                    let has_failed = matches!(posted.outcome, PostOutcome::Failed(..));
                    self.finish(posted, !posts.began.is_empty(), act);
                    // Only one attempt: there is no time to wait for the receiver.
                    if has_failed && is_stopping {
                        return;
                    }
                }
                () = self.outgoing.new_report.notified() => {}
                () = at(next_start) => {}
                // One last attempt whatever the pause is: the receiver may be back.
                () = stop.cancelled(), if !is_stopping => (is_stopping, self.paused_until) = (true, None),
                () = sync.due(&self.outgoing) => {}
            }
        }
    }

    /// Begins the posts that may begin now. Returns when to look again if nothing happens before.
    fn start_posts(&mut self, posts: &mut Posts, is_stopping: bool) -> Option<Instant> {
        let slow = self.post_timeout / SLOW_PART;
        let slow = if is_stopping { slow.min(SLOW_AT_THE_END) } else { slow };
        loop {
            let start = posts.next_start(slow)?.max(self.paused_until.unwrap_or_else(Instant::now));
            if start > Instant::now() {
                return Some(start);
            }
            self.paused_until = None;
            let head = self.outgoing.spool().attempt();
            let client = match head {
                Ok(None) => return self.outgoing.spool().next_wake(),
                Ok(Some(head)) => match self.client(posts) {
                    Ok(client) => Ok((client, head)),
                    Err(error) => {
                        // Its lane is free again.
                        self.outgoing.spool().finish(&head);
                        Err(error.to_string())
                    }
                },
                Err(error) => Err(format!("it cannot be read now: {error}")),
            };
            match client {
                Ok((client, head)) => self.start(posts, client, head),
                Err(error) => self.on_unavailable(AttemptFailure::Unavailable, error),
            }
        }
    }

    /// The HTTP client for the next post. While other posts are under way its connection must not be kept: a
    /// receiver that serves one connection at a time would wait for its end, and the other posts for that.
    fn client(&mut self, posts: &Posts) -> reqwest::Result<Client> {
        if !posts.began.is_empty() {
            return post::client(&self.url, self.post_timeout, false);
        }
        let client = match self.client.take() {
            Some(client) => client,
            None => post::client(&self.url, self.post_timeout, true)?,
        };
        self.client = Some(client.clone());
        Ok(client)
    }

    fn start(&self, posts: &mut Posts, client: Client, head: PendingReport) {
        let (url, outgoing, taken_before) = (self.url.clone(), self.outgoing.clone(), self.taken);
        let (content_type, guard) = (self.content_type, self.guard.clone());
        posts.began.insert(head.seq, Instant::now());
        posts.running.push(Box::pin(async move {
            let outcome = match guard.check().await {
                Ok(()) => post(client, (&url, content_type), &head, &outgoing).await,
                Err(refusal) => PostOutcome::Failed(AttemptFailure::Unavailable, refusal.to_string()),
            };
            Posted { head, taken_before, outcome }
        }));
    }

    fn finish(
        &mut self,
        posted: Posted,
        others: bool,
        act: &mut (impl FnMut(ReportedMessage, ReceiverAnswer) + Send),
    ) {
        let Posted { head, taken_before, outcome } = posted;
        // Closes its idle connection: a receiver that serves one at a time would wait for its end before it answers the
        // others.
        if others {
            self.client = None;
        }
        match outcome {
            PostOutcome::Taken(taken) => {
                self.taken += 1;
                self.on_success();
                self.act_on_answer(taken, head.source.clone(), act);
                self.outgoing.spool().finish(&head);
            }
            PostOutcome::Failed(failure, error) => {
                // Without a pause of its lane: the receiver's pause holds all lanes.
                self.outgoing.spool().finish(&head);
                self.on_unavailable(failure, error);
                // Age counts only while posts fail: a receiver that takes reports gets the old ones as well.
                self.outgoing.spool().expire(self.keep);
            }
            PostOutcome::TimedOut => {
                // Others that were taken meanwhile show that the receiver lives, and that this report is the reason.
                self.on_timeout(&head, self.taken != taken_before);
                self.outgoing.spool().expire(self.keep);
            }
        }
    }

    fn act_on_answer(
        &mut self,
        taken: Acceptance,
        source: Option<ReportedMessage>,
        act: &mut (impl FnMut(ReportedMessage, ReceiverAnswer) + Send),
    ) {
        let body = match taken {
            Acceptance::Answer(body) => body,
            Acceptance::BrokenAnswer if source.is_some() => {
                warn!("ignored an answer of {} to a report: it broke off or is too long", self.url);
                return;
            }
            Acceptance::BrokenAnswer | Acceptance::Refusal => return,
        };
        let why = match (ReceiverAnswer::read(&body), source) {
            (Ok(Some(answer)), Some(source)) => return act(source, answer),
            (Ok(None), _) => return,
            // Events have no sender, and ids of an earlier login are invalid now.
            (Ok(Some(_)), None) => "the report is about an event, or of an earlier run",
            (Err(why), _) => why,
        };
        // All reasons are constants, so the set stays small.
        if self.unusable.insert(why) {
            warn!("ignored a reply or a mute that {} asks for: {why}; this is logged once", self.url);
        }
    }

    fn on_success(&mut self) {
        self.backoff.reset();
        if self.trouble.take().is_some() {
            let waiting = self.outgoing.spool().len();
            info!("reports to {} are delivered again ({waiting} waiting)", self.url);
        }
    }

    /// The receiver accepts nothing: all lanes wait. Of posts that fail together, one counts.
    fn on_unavailable(&mut self, failure: AttemptFailure, error: String) {
        if self.paused_until.is_none_or(|until| until <= Instant::now()) {
            self.paused_until = Some(Instant::now() + self.backoff.next_pause(failure));
        }
        // A receiver that is down for a day gets one line and not one for each attempt.
        if self.trouble.as_ref() == Some(&error) {
            return debug!("cannot deliver a report: {error}");
        }
        let keep = self.keep.as_secs();
        warn!("cannot deliver reports to {}: {error}; retrying for {keep} s", self.url);
        self.trouble = Some(error);
    }

    fn on_timeout(&mut self, head: &PendingReport, others_were_taken: bool) {
        // Per report: its repeats are what wears out, not the receiver.
        let pause = self.backoff.pause_after(head.attempt.saturating_sub(1));
        let timed_out = self.outgoing.spool().timed_out(head, others_were_taken, pause);
        let (id, seconds) = (&head.id, self.post_timeout.as_secs_f64());
        match timed_out {
            TimedOut::Repeat if head.attempt == 1 => {
                warn!(
                    "report {id} was not answered by {} within {seconds} s (post_timeout); retrying, other conversations go on",
                    self.url
                );
            }
            TimedOut::Repeat => {
                debug!("report {id} was not answered within {seconds} s (attempt {})", head.attempt);
            }
            TimedOut::GivenUp(attempts) => {
                warn!(
                    "gave up report {id} after {attempts} attempts: {} never answered within {seconds} s (post_timeout)",
                    self.url
                );
            }
        }
    }

    /// Logs how many reports were dropped: when that begins, when it ends, and at the end of the client.
    fn log_dropped(&mut self, is_end: bool) {
        let new = self.outgoing.spool().take_dropped();
        let begins = self.dropped == DroppedReports::default() && new != DroppedReports::default();
        self.dropped.full += new.full;
        self.dropped.aged += new.aged;
        self.dropped.unreadable += new.unreadable;
        let DroppedReports { full, aged, unreadable } = self.dropped;
        if begins {
            warn!(
                "dropping reports to {}: {full} over the limit (post_queue), {aged} too old (post_retry), {unreadable} unreadable",
                self.url
            );
        }
        if self.dropped != DroppedReports::default() && (is_end || self.trouble.is_none()) {
            warn!(
                "dropped reports to {}: {full} over the limit, {aged} too old, {unreadable} unreadable",
                self.url
            );
            self.dropped = DroppedReports::default();
        }
    }
}

/// Waits until `time`; forever if there is none.
async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}
