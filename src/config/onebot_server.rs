//! `[onebot_server]`: the applications of accounts whose start names none. The secrets themselves are in files and not read here.

use std::path::PathBuf;
use std::time::Duration;

use super::endpoint::Endpoint;
use super::fragment::{Item, Value};
use super::options::{Checked, Options};
use super::rules::{absolute_path, endpoint, fault, list_of, optional, seconds_or_zero_up_to, wrong};
use super::socket_url::SocketUrl;

/// `[onebot_server]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OneBotServerSettings {
    /// Where clients open WebSockets to applications.
    pub connect: Vec<SocketUrl>,
    /// Where clients post events to.
    pub post: Vec<Endpoint>,
    /// How long an application may be away before what waits for it is dropped; zero: no time.
    pub hold: Duration,
    /// The time between two heartbeats; zero: there are none.
    pub heartbeat: Duration,
    /// The file with the tokens of the applications.
    pub token_file: Option<PathBuf>,
    /// The file with what signs posts.
    pub secret_file: Option<PathBuf>,
}

impl OneBotServerSettings {
    /// The default of `hold`.
    pub const HOLD: Duration = Duration::from_secs(30);
    /// The default of `heartbeat`.
    pub const HEARTBEAT: Duration = Duration::from_secs(15);
    /// The longest of both, in seconds.
    pub const LONGEST: u32 = 3600;
    /// The most URLs of each kind.
    pub const MAX_URLS: usize = 16;

    /// Reads its options.
    pub(super) fn read(options: &mut Options<'_>) -> Self {
        let time = || seconds_or_zero_up_to(Self::LONGEST);
        let settings = Self {
            connect: options.get("onebot_server.connect", vec![], urls(socket)),
            post: options.get("onebot_server.post", vec![], urls(post)),
            hold: options.get("onebot_server.hold", Self::HOLD, time()),
            heartbeat: options.get("onebot_server.heartbeat", Self::HEARTBEAT, time()),
            token_file: options.get("onebot_server.token_file", None, optional(absolute_path)),
            secret_file: options.get("onebot_server.secret_file", None, optional(absolute_path)),
        };
        if settings.token_file.is_none() && settings.connect.iter().any(|url| url.token_name.is_some()) {
            let why = "has NAME=URL, so token_file must be set: that file has the token with this name";
            options.object("onebot_server.connect", why);
        }
        settings
    }
}

/// A list of a few URLs that differ.
fn urls<T: PartialEq>(rule: impl Fn(&Item) -> Checked<T>) -> impl Fn(&Item) -> Checked<Vec<T>> {
    let list = list_of(rule);
    move |item| {
        let all = list(item)?;
        if all.len() > OneBotServerSettings::MAX_URLS {
            let most = OneBotServerSettings::MAX_URLS;
            return Err(fault(item, format!("has {} URLs, must have at most {most}", all.len())));
        }
        // One that is there twice would get each event twice.
        let repeated = all.iter().enumerate().position(|(place, one)| all[..place].contains(one));
        match repeated {
            Some(place) => {
                Err(fault(item, format!("entry {} repeats a URL, must have each URL once", place + 1)))
            }
            None => Ok(all),
        }
    }
}

/// A URL of a WebSocket. Not shown: it may have a password.
fn socket(item: &Item) -> Checked<SocketUrl> {
    const ALLOWED: &str = "a ws:// or wss:// URL, after NAME= where its token has a name, and after api+ or event+ where it is \
                           for one of these alone; a comma in a URL is written %2C";
    let Value::Text(text) = &item.value else { return Err(wrong(item, ALLOWED)) };
    SocketUrl::read(text).ok_or_else(|| fault(item, format!("must be {ALLOWED}")))
}

/// A URL to post to, which clients get in a list.
fn post(item: &Item) -> Checked<Endpoint> {
    match endpoint(item)? {
        url if url.as_str().contains(',') => {
            Err(fault(item, "must be a URL in which a comma is written %2C".to_owned()))
        }
        url => Ok(url),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::fragment::Fragment;
    use std::path::Path;

    fn read(text: &str) -> Result<OneBotServerSettings, String> {
        let fragments = [Fragment::parse(Path::new("f.toml"), &format!("[onebot_server]\n{text}"))];
        let mut options = Options::new(&fragments);
        let settings = OneBotServerSettings::read(&mut options);
        options.finish().map(|()| settings).map_err(|error| error.to_string())
    }

    #[test]
    fn table_is_read_and_shows_no_secret() {
        let settings = read(
            "connect = ['ws://a:hunter2@h/ws', 'koishi=api+ws://h/api?t=hunter2']\npost = ['http://h/?t=hunter2']\nhold = 0\n\
             heartbeat = 1.5\ntoken_file = '/t'\nsecret_file = '/s'",
        )
        .unwrap();
        assert_eq!((settings.connect.len(), settings.post.len()), (2, 1));
        assert_eq!((settings.hold, settings.heartbeat), (Duration::ZERO, Duration::from_millis(1500)));
        assert!(!format!("{settings:?}").contains("hunter2"));
        let none = read("connect = []\ntoken_file = ''").unwrap();
        assert_eq!((none.connect.len(), none.hold, none.token_file), (0, OneBotServerSettings::HOLD, None));
    }

    #[test]
    fn mistakes_name_the_option_and_show_no_secret() {
        let many = format!("connect = [{}]", (0..17).map(|n| format!("'ws://h/{n}',")).collect::<String>());
        for (bad, why) in [
            ("connect = 'ws://hunter2@h/'", "`onebot_server.connect` is a string, must be a list"),
            ("connect = ['ws://h/', 'http://hunter2@h/']", "`onebot_server.connect` entry 2 must be a ws://"),
            ("connect = ['ws://h/,ws://hunter2@h/']", "`onebot_server.connect` entry 1 must be a ws://"),
            ("connect = [1]", "`onebot_server.connect` entry 1 is 1, must be a ws://"),
            (&many, "`onebot_server.connect` has 17 URLs, must have at most 16"),
            ("connect = ['ws://h/', 'ws://h/']", "`onebot_server.connect` entry 2 repeats a URL"),
            (
                "connect = ['koishi=ws://h/']",
                "`onebot_server.connect` has NAME=URL, so token_file must be set",
            ),
            ("post = ['ws://hunter2@h/']", "`onebot_server.post` entry 1 must be a valid http://"),
            ("post = ['http://h/?a,hunter2']", "`onebot_server.post` entry 1 must be a URL in which a comma"),
            ("post = ['http://h/', 'http://h/']", "`onebot_server.post` entry 2 repeats a URL"),
            ("hold = 3601", "`onebot_server.hold` is 3601, must be a number of seconds from 0.001 to 3600"),
            ("heartbeat = -1", "`onebot_server.heartbeat` is -1, must be a number of seconds"),
            ("token_file = 'hush'", "`onebot_server.token_file` is \"hush\", must be an absolute path"),
            ("secret_file = 1", "`onebot_server.secret_file` is 1, must be an absolute path"),
            ("token = 'hunter2'", "`onebot_server.token`"),
        ] {
            let error = read(bad).unwrap_err();
            assert!(error.starts_with("f.toml:2: ") && error.contains(why), "{bad}: {error}");
            assert!(!error.contains("hunter2"), "{bad}: {error}");
        }
    }
}
