//! [`ReportSettings`]: where reports are posted, which, and how long they are kept for a receiver that is away.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{EventFilter, SettingsError, Vars};
use crate::config::Endpoint;
use crate::model::name::ClientName;

/// The type of reports.
const JSON: &str = "application/json";

/// The largest value of [`ReportSettings::queue`].
const MAX_QUEUE: u32 = 100_000;

/// The largest value of [`ReportSettings::recent`].
const MAX_RECENT: u32 = 10_000;

/// The settings of reports. The controller and the original's template give a variable with the plugin's prefix, a start
/// parameter has none; where both are set, the one with the prefix counts.
pub struct ReportSettings {
    /// The URL to which reports of messages and events are posted.
    pub post_api: Option<Endpoint>,
    /// Which events are reported, besides messages.
    pub events: EventFilter,
    /// Whether the report of a login code contains the image.
    pub media: bool,
    /// Whether each report is printed as a line of JSON.
    pub print: bool,
    /// The time limit of one post, its answer included.
    pub post_timeout: Duration,
    /// How long a report is kept for a receiver that is away.
    pub keep: Duration,
    /// The pause after a first failure, and the longest one.
    pub pauses: (Duration, Duration),
    /// How many reports are kept.
    pub queue: usize,
    /// How many events are kept for `check_event`.
    pub recent: usize,
    /// The type of what is posted.
    pub content_type: &'static str,
    /// The folder in which reports wait; it belongs to this account alone.
    pub folder: PathBuf,
}

impl Default for ReportSettings {
    fn default() -> Self {
        Self {
            post_api: None,
            events: EventFilter::default(),
            media: true,
            print: false,
            post_timeout: Duration::from_secs(30),
            keep: Duration::from_secs(3600),
            pauses: (Duration::from_secs(1), Duration::from_secs(60)),
            queue: 10_000,
            recent: 20,
            content_type: JSON,
            folder: PathBuf::new(),
        }
    }
}

impl ReportSettings {
    /// Reads the variables. `tmpdir` takes the place of a folder for files that outlive the client, where none is given.
    pub(super) fn from_vars(vars: &Vars, account: &ClientName, tmpdir: &Path) -> Result<Self, SettingsError> {
        let usual = Self::default();
        let chosen = vars.checked(
            vars.plugin("POST_EVENT_LIST"),
            "names of events, with commas between them",
            EventFilter::parse,
        )?;
        let events = match vars.flag(vars.plugin("POST_EVENT"))? {
            Some(false) => EventFilter::none(),
            _ => chosen.unwrap_or(usual.events),
        };
        let count = |name, what, most| {
            vars.checked(vars.plugin(name), what, |text| {
                text.parse::<u32>()
                    .ok()
                    .filter(|count| (1..=most).contains(count))
                    .map(|count| count as usize)
            })
        };
        let pause = |name| vars.pause(vars.plugin(name));
        // Waiting reports outlive the client, and the runtime folder of a unit does not.
        let state = vars.state_directory.clone().map_or_else(|| tmpdir.to_owned(), PathBuf::from);
        Ok(Self {
            post_api: vars.checked(vars.plugin("POST_API"), "an http or https URL", Endpoint::new)?,
            events,
            media: vars.flag(vars.plugin("POST_MEDIA_DATA"))?.unwrap_or(usual.media),
            print: vars.flag(vars.plugin("POST_STDOUT"))?.unwrap_or(usual.print),
            post_timeout: vars
                .checked(vars.plugin("POST_TIMEOUT"), "a number of seconds, from 0.1 to 3600", |text| {
                    let seconds = text.parse().ok().filter(|seconds| (0.1..=3600.0).contains(seconds));
                    seconds.map(Duration::from_secs_f64)
                })?
                .unwrap_or(usual.post_timeout),
            keep: vars.seconds(vars.plugin("POST_RETRY"))?.unwrap_or(usual.keep),
            pauses: (
                pause("POST_RETRY_MIN")?.unwrap_or(usual.pauses.0),
                pause("POST_RETRY_MAX")?.unwrap_or(usual.pauses.1),
            ),
            queue: count("POST_QUEUE", "a number from 1 to 100000", MAX_QUEUE)?.unwrap_or(usual.queue),
            recent: count("CHECK_EVENT_LIST_MAX_SIZE", "a number from 1 to 10000", MAX_RECENT)?
                .unwrap_or(usual.recent),
            content_type: usual.content_type,
            folder: state.join(format!("mojo_webqq_reports_{account}")),
        })
    }
}
