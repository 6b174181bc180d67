//! `[onebot]`: what the operator says about the OneBot implementations of accounts. Callers can't: a token goes only where
//! the operator wants it.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use url::{Host, Url};

use super::fragment::{Item, Value};
use super::options::{Checked, Options};
use super::rules::{absolute_path, fault, list_of, quoted, wrong, wrong_shown};
use crate::model::name::ClientName;

/// `[onebot]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OneBotSettings {
    /// What is said about each account, each once.
    pub clients: Vec<OneBotClient>,
}

/// What is said about one account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OneBotClient {
    /// The account.
    pub client: String,
    /// The file with the token of its implementation.
    pub token_file: Option<PathBuf>,
    /// Where its implementation writes the image of its login code.
    pub qrcode_path: Option<PathBuf>,
    /// Where its implementation is; wins over what a start says.
    pub url: Option<String>,
    /// Where its implementation comes to; wins over what a start says.
    pub listen: Option<SocketAddr>,
}

impl OneBotSettings {
    pub(super) fn read(options: &mut Options<'_>) -> Self {
        Self { clients: options.get("onebot.clients", vec![], clients) }
    }

    /// What is said about an account.
    pub fn of(&self, name: &ClientName) -> Option<&OneBotClient> {
        self.clients.iter().find(|client| client.client == name.as_str())
    }
}

impl OneBotClient {
    /// The file of the token, if it may be shown to whom the start parameter `url` names: the operator's own word, or this
    /// machine. Else whoever may start a client could have the token sent to himself.
    pub fn token_for(&self, url: Option<&str>) -> Option<&PathBuf> {
        let goes_out = self.url.is_none() && url.is_some_and(|url| !is_this_machine(url));
        self.token_file.as_ref().filter(|_| !goes_out)
    }
}

/// Whether a URL leads to this machine and nowhere else.
fn is_this_machine(url: &str) -> bool {
    match Url::parse(url).ok().as_ref().and_then(Url::host) {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    }
}

/// Whether others than this machine reach a listener.
pub fn opens_to_network(address: &SocketAddr) -> bool {
    !match address.ip() {
        IpAddr::V4(ip) => ip.is_loopback(),
        IpAddr::V6(ip) => ip.is_loopback(),
    }
}

const FORM: &str =
    "{ client = \"NAME\", token_file = \"/path\" }, with qrcode_path, url and listen if they are needed";

fn clients(item: &Item) -> Checked<Vec<OneBotClient>> {
    let clients = list_of(client)(item)?;
    for (at, client) in clients.iter().enumerate() {
        if clients.iter().take(at).any(|earlier| earlier.client == client.client) {
            let name = quoted(&client.client);
            let message = format!("entry {} repeats the client {name}, must have each client once", at + 1);
            return Err(fault(item, message));
        }
    }
    Ok(clients)
}

fn client(item: &Item) -> Checked<OneBotClient> {
    let Value::Table(table) = &item.value else { return Err(wrong(item, FORM)) };
    let known = ["client", "token_file", "qrcode_path", "url", "listen"];
    if let Some((key, entry)) = table.iter().find(|(key, _)| !known.contains(&key.as_str())) {
        return Err(fault(entry, format!("has the unknown key {}, must be {FORM}", quoted(key))));
    }
    let Some(name) = table.get("client") else {
        return Err(fault(item, format!("has no client, must be {FORM}")));
    };
    let path = |key: &str| table.get(key).map(absolute_path).transpose();
    let client = OneBotClient {
        client: client_name(name)?,
        token_file: path("token_file")?,
        qrcode_path: path("qrcode_path")?,
        url: table.get("url").map(url).transpose()?,
        listen: table.get("listen").map(listen).transpose()?,
    };
    if client.listen.as_ref().is_some_and(opens_to_network) && client.token_file.is_none() {
        return Err(fault(item, "listens to other machines, and must have a token_file then".to_owned()));
    }
    Ok(client)
}

fn client_name(item: &Item) -> Checked<String> {
    match &item.value {
        Value::Text(text) if ClientName::new(text).is_ok() => Ok(text.clone()),
        _ => Err(wrong_shown(item, "the name of a client")),
    }
}

fn url(item: &Item) -> Checked<String> {
    let is_one = |text: &str| {
        Url::parse(text)
            .is_ok_and(|url| matches!(url.scheme(), "ws" | "wss" | "http" | "https") && url.has_host())
    };
    match &item.value {
        Value::Text(text) if is_one(text) => Ok(text.clone()),
        // Not shown: some write the token into it.
        _ => Err(wrong(item, "a ws or http URL, such as \"ws://127.0.0.1:3001/\"")),
    }
}

fn listen(item: &Item) -> Checked<SocketAddr> {
    let address = match &item.value {
        Value::Text(text) => text.parse().ok(),
        _ => None,
    };
    address.ok_or_else(|| wrong_shown(item, "an IP address with a port, such as \"127.0.0.1:6001\""))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::rules::tests::check;

    #[test]
    fn entries() {
        let good = "[{ client = '小明', token_file = '/t', qrcode_path = '/q', url = 'wss://h:1/', listen = '[::1]:2' }, \
                    { client = 'b' }]";
        let clients = check(clients, good).unwrap();
        assert_eq!((clients[0].client.as_str(), clients[1].token_file.as_ref()), ("小明", None));
        for (bad, why) in [
            ("1", "must be a list"),
            ("['a']", "must be { client"),
            ("[{ token_file = '/t' }]", "has no client"),
            ("[{ client = 'a/b' }]", "the name of a client"),
            ("[{ client = 'a', token = 'hush' }]", "has the unknown key \"token\""),
            ("[{ client = 'a', token_file = 't' }]", "an absolute path"),
            ("[{ client = 'a', url = 'ftp://hush' }]", "a ws or http URL"),
            ("[{ client = 'a', listen = 'here' }]", "an IP address with a port"),
            ("[{ client = 'a', listen = '0.0.0.0:1' }]", "must have a token_file"),
            ("[{ client = 'a' }, { client = 'a' }]", "repeats the client \"a\""),
        ] {
            let error = check(super::clients, bad).unwrap_err();
            assert!(error.contains(why) && !error.contains("hush"), "{bad}: {error}");
        }
    }

    #[test]
    fn a_token_goes_only_where_the_operator_wants_it() {
        let client = |url: Option<&str>| OneBotClient {
            client: "a".into(),
            token_file: Some("/t".into()),
            qrcode_path: None,
            url: url.map(str::to_owned),
            listen: None,
        };
        for url in [None, Some("ws://127.0.0.1:3001/"), Some("ws://localhost/"), Some("http://[::1]:1/")] {
            assert!(client(None).token_for(url).is_some(), "{url:?}");
        }
        for url in [
            "ws://10.0.0.1/",
            "ws://evil.example/",
            "ws://localhost.evil.example/",
            "x",
            "ws://127.0.0.1@evil.example/",
            "wss://10.0.0.1/",
        ] {
            assert!(client(None).token_for(Some(url)).is_none(), "{url}");
            assert!(
                client(Some("ws://10.0.0.1/")).token_for(Some(url)).is_some(),
                "the operator's URL is used: {url}"
            );
        }
    }
}
