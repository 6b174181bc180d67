//! What the configuration says about implementations: `[implementations.NAME]`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use url::Url;

use super::ImplementationKind;
use super::placeholders;
use crate::backends::{TableKey, is_this_machine};

const fn text(name: &'static str, allowed: &'static str, is_valid: fn(&str) -> bool) -> TableKey {
    TableKey { name, allowed, is_valid, is_shown: true, is_parameter: false }
}

/// The keys of all kinds. Which of them a kind has is in its contract.
pub const KEYS: [TableKey; 11] = [
    text("kind", "llbot, napcat, yogurt or command", |name| ImplementationKind::from_name(name).is_some()),
    TableKey::path("program"),
    TableKey::path("script"),
    TableKey::path("auth_token_file"),
    text("display", "the display of an X server, such as \":99\"", |text| {
        text.strip_prefix(':').is_some_and(|rest| {
            !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.')
        })
    }),
    text("sign_url", "an http or https URL", |text| {
        Url::parse(text).is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
    }),
    text("version", "the version of the QQ protocol, such as \"46494\"", |text| {
        !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'.')
    }),
    text(
        "command",
        "a command line that begins with an absolute path, such as \"/opt/bot/bot --port {port}\", with {port}, {uin} and {dir} \
         where they are needed; {token} belongs into the file, as every user can read a command line",
        placeholders::is_command_line,
    ),
    text("file", "the relative path of a file, such as \"config.json\"", is_relative),
    TableKey::path("file_template"),
    text(
        "url",
        "a ws or http URL of this machine with {port}, such as \"ws://127.0.0.1:{port}/\"",
        is_own_url,
    ),
];

/// A path that stays below the folder that it is relative to.
fn is_relative(text: &str) -> bool {
    let normal = |part: std::path::Component<'_>| matches!(part, std::path::Component::Normal(_));
    !text.is_empty() && !text.contains('\0') && Path::new(text).components().all(normal)
}

/// A URL of this machine: the token goes there.
fn is_own_url(text: &str) -> bool {
    // With some number, because braces are no port.
    let url = Url::parse(&text.replace("{port}", "1"));
    // The placeholder must be the port itself: with a fixed port two accounts would share it.
    text.contains(":{port}")
        && url.is_ok_and(|url| matches!(url.scheme(), "ws" | "http") && is_this_machine(&url))
}

/// An implementation that the operator installed: the keys of its table, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImplementationSettings {
    /// Its kind.
    pub kind: ImplementationKind,
    keys: BTreeMap<&'static str, String>,
}

impl ImplementationSettings {
    /// Takes the keys of a table.
    ///
    /// # Errors
    /// The key that is missing, unknown to the kind or wrong, and why: the end of a sentence that begins with the
    /// implementation.
    pub fn new(
        keys: impl IntoIterator<Item = (&'static str, String)>,
    ) -> Result<Self, (&'static str, String)> {
        let mut keys: BTreeMap<_, _> = keys.into_iter().collect();
        let kind = keys.remove("kind").and_then(|name| ImplementationKind::from_name(&name));
        let Some(kind) = kind else {
            return Err(("kind", "must have a kind: llbot, napcat, yogurt or command".to_owned()));
        };
        let contract = kind.contract();
        if let Some(missing) = contract.required().iter().find(|key| !keys.contains_key(**key)) {
            return Err(("kind", format!("must have {missing}, as every {} has", contract.name())));
        }
        let is_known = |key: &str| contract.required().contains(&key) || contract.optional().contains(&key);
        if let Some(key) = keys.keys().copied().find(|key| !is_known(key)) {
            let known = [contract.required(), contract.optional()].concat().join(", ");
            return Err((key, format!("has {key}, which {} does not know; it has {known}", contract.name())));
        }
        let settings = Self { kind, keys };
        contract.check(&settings)?;
        Ok(settings)
    }

    /// The value of a key, if it is set.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.keys.get(key).map(String::as_str)
    }

    /// The value of a key that is a path. Empty where it is not set, which [`ImplementationSettings::new`] rules out for those
    /// that a kind requires.
    pub fn path(&self, key: &str) -> PathBuf {
        self.get(key).unwrap_or_default().into()
    }
}

/// All implementations of the configuration, by the operator's names for them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Implementations(BTreeMap<String, ImplementationSettings>);

impl Implementations {
    /// Adds one.
    pub fn add(&mut self, name: String, settings: ImplementationSettings) {
        self.0.insert(name, settings);
    }

    /// The one of this name.
    pub fn get(&self, name: &str) -> Option<&ImplementationSettings> {
        self.0.get(name)
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &ImplementationSettings)> {
        self.0.iter().map(|(name, settings)| (name.as_str(), settings))
    }

    /// All names, as the end of a sentence.
    pub fn names(&self) -> String {
        match self.0.is_empty() {
            true => "none".to_owned(),
            false => self.0.keys().map(String::as_str).collect::<Vec<_>>().join(", "),
        }
    }
}
