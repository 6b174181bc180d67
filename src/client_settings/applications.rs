//! The settings of the applications that speak OneBot v11 to the client: those of the start, and for what it leaves out those of
//! `[onebot_server]` in the controller's configuration.
//!
//! What the configuration has secret goes only to addresses of the configuration. Callers who may start accounts choose addresses,
//! too, and must not be able to have the operator's token sent to them, or something signed for them.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::{SettingsError, Vars};
use crate::backends::Secret;
use crate::config::{Endpoint, OneBotServerSettings, SocketUrl};
use crate::files::{FileError, read_secret};

/// The most tokens that open an account.
const MAX_TOKENS: usize = 16;

const TOKENS: &str = "tokens of visible ASCII with commas between them, each a word or NAME=WORD, at most 16";
const NAMED: &str =
    "such that each NAME in `connect` of [onebot_server] in the configuration has its token: NAME=WORD";
const CONNECT: &str = "ws or wss URLs with commas between them, each a URL or NAME=URL with the NAME of a token of \
                       onebot_server_token, with api+ or event+ before the URL where it is for one of these alone, at most 16; \
                       a comma in a URL is written %2C";
const POST: &str = "http or https URLs with commas between them, at most 16; a comma in a URL is written %2C";
const SECRET: &str = "a word of visible ASCII";
const TIME: &str = "seconds from 0 to 3600";

/// The settings of applications.
pub struct ApplicationSettings {
    /// The tokens that open the account.
    pub tokens: TokenSource,
    /// The applications to which the client opens WebSockets.
    pub connect: Arc<[SocketUrl]>,
    /// The tokens. Each of these applications is shown one.
    pub connect_tokens: TokenSource,
    /// The applications to which the client posts events.
    pub post: Arc<[Endpoint]>,
    /// What signs these posts.
    pub secret: Option<SecretSource>,
    /// How long an application may be away before what waits for it is dropped; zero: no time.
    pub hold: Duration,
    /// The time between two heartbeats; zero: there are none.
    pub heartbeat: Duration,
}

/// Where tokens are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenSource {
    /// Here. If there are none, every program that reaches the port is let in, and applications are shown none.
    Given(Arc<[ApplicationToken]>),
    /// In a file of the operator.
    File(PathBuf),
}

/// Where the secret of posts is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretSource {
    /// Here.
    Given(PostSecret),
    /// In a file of the operator.
    File(PathBuf),
}

/// Why a file of the operator can't be used. It shows nothing of the content.
#[derive(Debug, thiserror::Error)]
pub enum ApplicationFileError {
    /// It can't be read, or others can read it.
    #[error("the file can't be used")]
    File(#[from] FileError),
    /// It has something else.
    #[error("{}: must have one line with {allowed}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What it must have.
        allowed: &'static str,
    },
}

/// A token that opens one account to an application. `Debug` hides it.
#[derive(Clone, PartialEq, Eq)]
pub struct ApplicationToken {
    /// The name of the application, which is shown.
    pub name: String,
    secret: String,
}

impl fmt::Debug for ApplicationToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ApplicationToken").field(&self.name).finish_non_exhaustive()
    }
}

impl ApplicationToken {
    /// The token itself.
    pub fn secret(&self) -> &str {
        &self.secret
    }

    /// Reads the tokens of a file of the operator. Blocks on the file system.
    ///
    /// # Errors
    /// It can't be used.
    pub fn read_all(path: &Path) -> Result<Arc<[Self]>, ApplicationFileError> {
        read(path, TOKENS, tokens)
    }

    #[cfg(test)]
    pub(crate) fn of(name: &str, secret: &str) -> Self {
        Self { name: name.to_owned(), secret: secret.to_owned() }
    }
}

/// What signs posts. `Debug` hides it.
#[derive(Clone, PartialEq, Eq)]
pub struct PostSecret(String);

impl fmt::Debug for PostSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PostSecret")
    }
}

impl PostSecret {
    /// Reads the secret in a file of the operator. Blocks on the file system.
    ///
    /// # Errors
    /// It can't be used.
    pub fn read(path: &Path) -> Result<Self, ApplicationFileError> {
        read(path, SECRET, secret)
    }

    /// The secret itself.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl ApplicationSettings {
    pub(super) fn from_vars(vars: &Vars) -> Result<Self, SettingsError> {
        let longest = Duration::from_secs(OneBotServerSettings::LONGEST.into());
        let time = |names: [&'static str; 2], usual| {
            let mut found = None;
            for name in names {
                let time = vars.seconds(name)?;
                let is_allowed = time.is_none_or(|time| time <= longest);
                found = found.or(is_allowed.then_some(time).ok_or(SettingsError::Invalid(name, TIME))?);
            }
            Ok(found.unwrap_or(usual))
        };
        let file = |name| Ok(vars.text(name)?.map(PathBuf::from));
        // All are asked for, whether they count or not: what is not counts as misspelt.
        let given = vars.checked("ONEBOT_SERVER_TOKEN", TOKENS, tokens)?;
        let token_file = file("ONEBOT_SERVER_DEFAULT_TOKEN_FILE")?;
        let own_tokens = given.clone().unwrap_or_default();
        let known = |url: &SocketUrl| {
            let name = url.token_name.as_ref();
            name.is_none_or(|name| own_tokens.iter().any(|token| token.name == *name))
        };
        let own = |one: &str| SocketUrl::read(one).filter(known);
        let own = vars.checked("ONEBOT_SERVER_CONNECT", CONNECT, |text| all_of(text, own))?;
        let usual =
            vars.checked("ONEBOT_SERVER_DEFAULT_CONNECT", CONNECT, |text| all_of(text, SocketUrl::read))?;
        let tokens = match (given.is_some(), token_file) {
            // The file also closes the account to programs without a token, and an address of a caller must not open it.
            (false, Some(file)) => TokenSource::File(file),
            _ => TokenSource::Given(own_tokens.clone()),
        };
        let (connect, connect_tokens) = match (own, usual) {
            (Some(own), _) => (own, TokenSource::Given(own_tokens.clone())),
            (None, Some(usual)) => {
                if matches!(tokens, TokenSource::Given(_)) && !usual.iter().all(known) {
                    return Err(SettingsError::Invalid("ONEBOT_SERVER_TOKEN", NAMED));
                }
                (usual, tokens.clone())
            }
            (None, None) => (Arc::default(), tokens.clone()),
        };
        let posts = |name| vars.checked(name, POST, |text| all_of(text, Endpoint::new));
        let (own, usual) = (posts("ONEBOT_SERVER_POST")?, posts("ONEBOT_SERVER_DEFAULT_POST")?);
        let given = vars.checked("ONEBOT_SERVER_SECRET", SECRET, secret)?.map(SecretSource::Given);
        let secret_file = file("ONEBOT_SERVER_DEFAULT_SECRET_FILE")?.map(SecretSource::File);
        // What is signed for a caller could be shown to the operator's own application.
        let secret = given.or(secret_file.filter(|_| own.is_none()));
        Ok(Self {
            tokens,
            connect,
            connect_tokens,
            post: own.or(usual).unwrap_or_default(),
            secret,
            hold: time(["ONEBOT_SERVER_HOLD", "ONEBOT_SERVER_DEFAULT_HOLD"], OneBotServerSettings::HOLD)?,
            heartbeat: time(
                ["ONEBOT_SERVER_HEARTBEAT", "ONEBOT_SERVER_DEFAULT_HEARTBEAT"],
                OneBotServerSettings::HEARTBEAT,
            )?,
        })
    }
}

/// Reads a file of the operator.
fn read<T>(path: &Path, rule: &'static str, parse: fn(&str) -> Option<T>) -> Result<T, ApplicationFileError> {
    let content = read_secret(path, true, Secret::MAX_BYTES)?;
    // What is not UTF-8 becomes empty, which neither allows.
    let text = String::from_utf8(content).unwrap_or_default();
    parse(text.trim_end_matches(['\r', '\n']))
        .ok_or(ApplicationFileError::Content { path: path.to_owned(), allowed: rule })
}

/// Reads URLs with commas between them; none if one can't be used, or is there twice.
fn all_of<T: PartialEq>(text: &str, read: impl Fn(&str) -> Option<T>) -> Option<Arc<[T]>> {
    let all: Option<Vec<T>> = text.split(',').map(|one| read(one.trim())).collect();
    // One that is there twice would be told each event twice.
    let differ = |all: &Vec<T>| all.iter().enumerate().all(|(place, one)| !all[..place].contains(one));
    all.filter(|all| all.len() <= OneBotServerSettings::MAX_URLS && differ(all)).map(Arc::from)
}

/// Reads what signs posts.
fn secret(text: &str) -> Option<PostSecret> {
    let is_word = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
    is_word.then(|| PostSecret(text.to_owned()))
}

/// Reads tokens; none if one can't be sent in a header.
fn tokens(text: &str) -> Option<Arc<[ApplicationToken]>> {
    let all = text.split(',').enumerate().map(|(place, one)| {
        let (name, secret) = match one.trim().split_once('=') {
            // A token may end in `=`, as base64 does.
            Some((name, secret)) if !name.is_empty() && !secret.trim_matches('=').is_empty() => {
                (name.to_owned(), secret)
            }
            _ => (format!("number {}", place + 1), one.trim()),
        };
        let is_word = !secret.is_empty() && secret.bytes().all(|byte| byte.is_ascii_graphic());
        is_word.then(|| ApplicationToken { name, secret: secret.to_owned() })
    });
    let all: Option<Vec<_>> = all.collect();
    all.filter(|all| all.len() <= MAX_TOKENS).map(Arc::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_have_names() {
        let read = |text: &str| {
            let all = tokens(text)?;
            Some(all.iter().map(|token| (token.name.clone(), token.secret.clone())).collect::<Vec<_>>())
        };
        let pair = |name: &str, secret: &str| (name.to_owned(), secret.to_owned());
        assert_eq!(read("word"), Some(vec![pair("number 1", "word")]));
        assert_eq!(read("nonebot=a, koishi=b"), Some(vec![pair("nonebot", "a"), pair("koishi", "b")]));
        assert_eq!(read("YWI="), Some(vec![pair("number 1", "YWI=")]));
        for wrong in ["a,", "a b", "é", &["x"; 17].join(",")] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
        assert!(!format!("{:?}", ApplicationToken::of("a", "word")).contains("word"));
    }

    /// The settings by these variables without `ONEBOT_SERVER_`.
    fn settings(vars: &[(&str, &str)]) -> Result<ApplicationSettings, SettingsError> {
        let named = |(name, value): &(&str, &str)| {
            (format!("MOJO_WEBQQ_ONEBOT_SERVER_{name}").into(), (*value).into())
        };
        ApplicationSettings::from_vars(&Vars::new(vars.iter().map(named)))
    }

    #[test]
    fn urls_are_a_few_that_differ_and_name_tokens_that_are_there() {
        let read = |text: &str| {
            let settings = settings(&[("TOKEN", "nonebot=a,koishi=b"), ("CONNECT", text)]).ok()?;
            Some(settings.connect.iter().map(SocketUrl::written).collect::<Vec<_>>())
        };
        assert_eq!(
            read("ws://h/a, koishi=wss://h/b,api+ws://h/a").unwrap(),
            ["ws://h/a", "koishi=wss://h/b", "api+ws://h/a"]
        );
        let many = (0..17).map(|count| format!("ws://h/{count}")).collect::<Vec<_>>().join(",");
        for wrong in ["h", "ws://h/,", "zhin=ws://h/", "ws://h/,ws://h/", &many] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
        assert!(!format!("{:?}", PostSecret("hush".into())).contains("hush"));
    }

    const TABLE: [(&str, &str); 6] = [
        ("DEFAULT_CONNECT", "ws://table/"),
        ("DEFAULT_POST", "http://table/"),
        ("DEFAULT_HOLD", "5"),
        ("DEFAULT_HEARTBEAT", "6"),
        ("DEFAULT_TOKEN_FILE", "/t"),
        ("DEFAULT_SECRET_FILE", "/s"),
    ];

    /// For these parameters beside [`TABLE`]: where tokens for the account, and for its connections, are from; the connection; the
    /// secret; the post.
    fn beside(own: &[(&str, &str)]) -> (TokenSource, TokenSource, String, Option<SecretSource>, String) {
        let found = settings(&[&TABLE, own].concat()).unwrap();
        let (connect, post) = (found.connect[0].written(), found.post[0].as_str().to_owned());
        (found.tokens, found.connect_tokens, connect, found.secret, post)
    }

    #[test]
    fn secrets_of_the_configuration_go_to_its_own_addresses_alone() {
        let file = || TokenSource::File("/t".into());
        let signed = || Some(SecretSource::File("/s".into()));
        let own = TokenSource::Given([ApplicationToken::of("number 1", "w")].into());
        let (at_table, posted) = (|| "ws://table/".to_owned(), || "http://table/".to_owned());
        assert_eq!(beside(&[]), (file(), file(), at_table(), signed(), posted()));
        assert_eq!(beside(&[("CONNECT", ""), ("TOKEN", "")]), beside(&[]), "an empty one counts as none");
        // To an address of the caller goes nothing, and the account stays closed.
        let nothing = || TokenSource::Given([].into());
        let (opens, shown, connect, secret, _) = beside(&[("CONNECT", "ws://caller/")]);
        assert_eq!((opens, shown, connect, secret), (file(), nothing(), "ws://caller/".into(), signed()));
        let (opens, shown, _, secret, post) = beside(&[("POST", "http://caller/")]);
        assert_eq!((opens, shown, secret, post), (file(), file(), None, "http://caller/".into()));
        // What the caller has goes wherever it connects.
        assert_eq!(beside(&[("TOKEN", "w")]), (own.clone(), own.clone(), at_table(), signed(), posted()));
        let (opens, shown, ..) = beside(&[("TOKEN", "w"), ("CONNECT", "ws://caller/")]);
        assert_eq!((opens, shown), (own.clone(), own));
        let (.., secret, _) = beside(&[("SECRET", "x"), ("POST", "http://caller/")]);
        assert_eq!(secret, Some(SecretSource::Given(PostSecret("x".into()))));
    }

    #[test]
    fn times_and_names_of_the_start_and_of_the_configuration_meet() {
        let times = |own: &[(&str, &str)]| {
            let found = settings(&[&TABLE, own].concat()).unwrap();
            (found.hold.as_secs(), found.heartbeat.as_secs())
        };
        assert_eq!((times(&[]), times(&[("HOLD", "0")])), ((5, 6), (0, 6)));
        let none = settings(&[]).unwrap();
        assert_eq!(
            (none.hold, none.heartbeat),
            (OneBotServerSettings::HOLD, OneBotServerSettings::HEARTBEAT)
        );
        // The file may have any names; tokens that are given must have those that are used.
        let named = [("DEFAULT_CONNECT", "koishi=ws://table/"), ("DEFAULT_TOKEN_FILE", "/t")];
        assert!(settings(&named).is_ok());
        assert!(settings(&[&named[..], &[("TOKEN", "koishi=w")]].concat()).is_ok());
        let error = settings(&[&named[..], &[("TOKEN", "w")]].concat()).err().unwrap();
        assert_eq!(error, SettingsError::Invalid("ONEBOT_SERVER_TOKEN", NAMED));
    }

    #[test]
    fn files_must_be_private_and_of_one_line() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        let write = |content: &[u8], mode| {
            std::fs::write(&path, content).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        };
        write(b"nonebot=hush,hush2\r\n", 0o600);
        assert_eq!(ApplicationToken::read_all(&path).unwrap().len(), 2);
        write(b"hush\n", 0o600);
        assert_eq!(PostSecret::read(&path).unwrap().as_str(), "hush");
        for (content, mode) in [
            ("hush", 0o640),
            ("", 0o600),
            ("\n", 0o600),
            ("hu\tsh", 0o600),
            ("hush\nhush", 0o600),
            ("h\u{7}", 0o600),
        ] {
            write(content.as_bytes(), mode);
            let errors =
                [ApplicationToken::read_all(&path).err().unwrap(), PostSecret::read(&path).err().unwrap()];
            for error in errors {
                let said = format!("{} {error:?}", crate::model::error_chain::ErrorChain(&error));
                assert!(said.contains("secret") && !said.contains("hush"), "{said}");
            }
        }
        write(&[0xff], 0o600);
        assert!(PostSecret::read(&path).is_err());
        assert!(matches!(PostSecret::read(&folder.path().join("none")), Err(ApplicationFileError::File(_))));
    }
}
