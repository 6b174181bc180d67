//! `[login]`: what is done about accounts with an implementation that are not logged in, and who learns of it.

use std::time::Duration;

use super::endpoint::Endpoint;
use super::fragment::{Item, Value};
use super::options::{Checked, Options};
use super::rules::{endpoint, fault, list_of, quoted, seconds, whole, wrong};
use super::units::word;
use crate::model::login::{LoginRules, WhenOffline, WhenPutOut};

/// `[login]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoginSettings {
    /// What is done.
    pub rules: LoginRules,
    /// Where each change is posted.
    pub notify: Vec<NotifyTarget>,
}

/// Where changes are posted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotifyTarget {
    /// The URL.
    pub url: Endpoint,
    /// What is posted there.
    pub format: NotifyFormat,
}

/// What is posted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum NotifyFormat {
    /// A JSON object.
    Json,
    /// A sentence.
    Text,
}

impl LoginSettings {
    pub(super) fn read(options: &mut Options<'_>) -> Self {
        let rules = LoginRules {
            offline_after: options.get("login.offline_after", Duration::from_secs(60), seconds),
            when_offline: options.get("login.when_offline", WhenOffline::Restart, |item| {
                let words = [
                    ("restart", WhenOffline::Restart),
                    ("wait", WhenOffline::Wait),
                    ("hold", WhenOffline::Hold),
                ];
                word(item, &words)
            }),
            when_put_out: options.get("login.when_put_out", WhenPutOut::Code, |item| {
                word(item, &[("code", WhenPutOut::Code), ("hold", WhenPutOut::Hold)])
            }),
            code_attempts: options.get("login.code_attempts", 5, whole(1..=1000)),
        };
        Self { rules, notify: options.get("login.notify", vec![], list_of(target)) }
    }
}

const FORM: &str =
    "{ url = \"https://example.org/hook\" }, and format = \"text\" for a sentence instead of JSON";

fn target(item: &Item) -> Checked<NotifyTarget> {
    // A string may be the URL with its secrets, so it is not shown.
    let Value::Table(table) = &item.value else { return Err(wrong(item, FORM)) };
    if let Some((key, entry)) = table.iter().find(|(key, _)| !["url", "format"].contains(&key.as_str())) {
        return Err(fault(entry, format!("has the unknown key {}, must be {FORM}", quoted(key))));
    }
    let Some(url) = table.get("url") else { return Err(fault(item, format!("has no url, must be {FORM}"))) };
    let format = match table.get("format") {
        Some(format) => word(format, &[("json", NotifyFormat::Json), ("text", NotifyFormat::Text)])?,
        None => NotifyFormat::Json,
    };
    Ok(NotifyTarget { url: endpoint(url)?, format })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::fragment::Fragment;
    use std::path::Path;

    fn read(text: &str) -> Result<LoginSettings, String> {
        let fragments = [Fragment::parse(Path::new("f.toml"), text)];
        let mut options = Options::new(&fragments);
        let settings = LoginSettings::read(&mut options);
        options.finish().map(|()| settings).map_err(|error| error.to_string())
    }

    #[test]
    fn targets_have_a_url_and_a_format() {
        let text = "[login]\nwhen_offline = 'hold'\nnotify = [{ url = 'https://h/?key=geheim' }, { url = 'http://h/', format = 'text' }]\n";
        let settings = read(text).unwrap();
        assert_eq!(settings.rules.when_offline, WhenOffline::Hold);
        let formats: Vec<_> = settings.notify.iter().map(|target| target.format).collect();
        assert_eq!(formats, [NotifyFormat::Json, NotifyFormat::Text]);
        assert!(!format!("{settings:?}").contains("geheim"));
    }

    #[test]
    fn mistakes_show_no_secret() {
        for (notify, expected) in [
            ("['https://h/?key=geheim']", "entry 1 is a string, must be { url"),
            ("[{ url = 'geheim' }]", "entry 1"),
            ("[{ format = 'text' }]", "has no url"),
            ("[{ url = 'http://h/', format = 'xml' }]", "one of json, text"),
            ("[{ url = 'http://h/', to = 'x' }]", "unknown key \"to\""),
        ] {
            let error = read(&format!("[login]\nnotify = {notify}\n")).unwrap_err();
            assert!(error.contains(expected) && !error.contains("geheim"), "{error}");
        }
    }
}
