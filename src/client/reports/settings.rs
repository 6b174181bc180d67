//! [`ReportSettings`]: who gets reports, which, and for how long they are kept for him.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::choice::Choice;
use crate::client::settings::{SettingsError, Vars};
use crate::config::Endpoint;
use crate::model::name::ClientName;

/// The most reports that may be asked to be kept.
const MAX_QUEUE: u32 = 100_000;

/// The most events for `check_event` that may be asked to be kept.
const MAX_RECENT: u32 = 10_000;

/// What can be set about reports. A variable's name may have the plugin's prefix, as the controller and the original's
/// template have it, or not, as a start parameter has it; the former counts where both are there.
pub(in crate::client) struct ReportSettings {
    /// Who gets reports of messages and events.
    pub post_api: Option<Endpoint>,
    /// Which events are reported besides messages.
    pub(super) events: Choice,
    /// Whether the report of a login code has its image in it.
    pub(super) media: bool,
    /// Whether each report is printed as a line of JSON.
    pub print: bool,
    /// How long a report is kept for a receiver that is away.
    pub(super) keep: Duration,
    /// The pause after a first failure, and the longest one.
    pub(super) pauses: (Duration, Duration),
    /// How many reports are kept.
    pub(super) queue: usize,
    /// How many events are kept for `check_event`.
    pub recent: usize,
    /// The folder in which reports wait, this account's alone.
    pub(super) folder: PathBuf,
}

impl Default for ReportSettings {
    fn default() -> Self {
        Self {
            post_api: None,
            events: Choice::default(),
            media: true,
            print: false,
            keep: Duration::from_secs(3600),
            pauses: (Duration::from_secs(1), Duration::from_secs(60)),
            queue: 10_000,
            recent: 20,
            folder: PathBuf::new(),
        }
    }
}

impl ReportSettings {
    /// Reads the variables. `tmpdir` is the folder of the client's files where nobody names one for what must last.
    pub(in crate::client) fn from_vars(
        vars: &Vars,
        account: &ClientName,
        tmpdir: &Path,
    ) -> Result<Self, SettingsError> {
        let usual = Self::default();
        let chosen = vars.checked(
            vars.plugin("POST_EVENT_LIST"),
            "names of events, with commas between them",
            Choice::of,
        )?;
        let events = match vars.flag(vars.plugin("POST_EVENT"))? {
            Some(false) => Choice::nothing(),
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
        let pause = |name| vars.seconds(vars.plugin(name));
        let state = vars.state_directory.clone().map_or_else(|| tmpdir.to_owned(), PathBuf::from);
        Ok(Self {
            post_api: vars.checked(vars.plugin("POST_API"), "an http or https URL", Endpoint::new)?,
            events,
            media: vars.flag(vars.plugin("POST_MEDIA_DATA"))?.unwrap_or(usual.media),
            print: vars.flag(vars.plugin("POST_STDOUT"))?.unwrap_or(usual.print),
            keep: pause("POST_RETRY")?.unwrap_or(usual.keep),
            pauses: (
                pause("POST_RETRY_MIN")?.unwrap_or(usual.pauses.0),
                pause("POST_RETRY_MAX")?.unwrap_or(usual.pauses.1),
            ),
            queue: count("POST_QUEUE", "a number from 1 to 100000", MAX_QUEUE)?.unwrap_or(usual.queue),
            recent: count("CHECK_EVENT_LIST_MAX_SIZE", "a number from 1 to 10000", MAX_RECENT)?
                .unwrap_or(usual.recent),
            folder: state.join(format!("mojo_webqq_reports_{account}")),
        })
    }
}
