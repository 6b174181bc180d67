//! The rules for addresses: where it is listened, what callers may call us, and which web sites may.

use std::net::IpAddr;

use url::Url;

use super::fragment::{Item, Table, Value};
use super::listen::{ListenAddress, ListenError, UnixSocket};
use super::options::Checked;
use super::rules::{fault, list_of, quoted, whole, wrong, wrong_shown, yes_or_no};

/// One address to listen on, or a list of at least one, each once.
pub(super) fn addresses(item: &Item) -> Checked<Vec<ListenAddress>> {
    let Value::List(entries) = &item.value else { return Ok(vec![address(item)?]) };
    let addresses = list_of(address)(item)?;
    if addresses.is_empty() {
        return Err(fault(item, "is an empty list, must have at least one address".to_owned()));
    }
    for (at, (address, entry)) in addresses.iter().zip(entries).enumerate() {
        // The kernel chooses another port for each.
        let kernels_choice = matches!(address, ListenAddress::Tcp { port: 0, .. });
        // As text, which has only the path of a socket: with another mode it is still the same socket.
        let is_same = |earlier: &ListenAddress| earlier.to_string() == address.to_string();
        if !kernels_choice && addresses.iter().take(at).any(is_same) {
            return Err(fault(
                entry,
                format!("entry {} repeats {address}, must have each address once", at + 1),
            ));
        }
    }
    Ok(addresses)
}

fn address(item: &Item) -> Checked<ListenAddress> {
    match &item.value {
        Value::Text(text) => {
            text.parse().map_err(|error: ListenError| fault(item, format!("is {}, {error}", quoted(text))))
        }
        Value::Table(table) if table.contains_key("unix") => unix(item, table),
        Value::Table(table) => host_and_port(item, table),
        _ => Err(wrong(
            item,
            "\"host:port\", \"unix:/path\", { host = \"host\", port = port }, { unix = \"/path\", mode = \"0600\" } or a list \
             of these",
        )),
    }
}

fn host_and_port(item: &Item, table: &Table) -> Checked<ListenAddress> {
    known_keys(table, &["host", "port"], "host and port, or unix, mode, group and require_token")?;
    if table.is_empty() {
        return Err(fault(item, "is an empty table, must have a host, a port or both".to_owned()));
    }
    let host = match table.get("host").map(|host| (host, &host.value)) {
        None => ListenAddress::DEFAULT_HOST,
        Some((_, Value::Text(host))) => host,
        Some((host, value)) => {
            return Err(fault(host, format!("has {} as host, must be a string", value.shown())));
        }
    };
    let port = match table.get("port") {
        None => ListenAddress::DEFAULT_PORT,
        Some(port) => whole(0..=u16::MAX)(port)
            .map_err(|_| fault(port, format!("has {} as port, {}", port.value.shown(), ListenError::Port)))?,
    };
    ListenAddress::tcp(host, port)
        .map_err(|error| fault(item, format!("has the host {}, {error}", quoted(host))))
}

fn unix(item: &Item, table: &Table) -> Checked<ListenAddress> {
    known_keys(table, &["unix", "mode", "group", "require_token"], "unix, mode, group and require_token")?;
    let path = match table.get("unix").map(|path| &path.value) {
        Some(Value::Text(path)) => path,
        _ => return Err(fault(item, "has a unix that must be the path of a socket".to_owned())),
    };
    let address = ListenAddress::unix(path)
        .map_err(|error| fault(item, format!("has the socket {}, {error}", quoted(path))))?;
    let ListenAddress::Unix(socket) = address else { return Ok(address) };
    Ok(ListenAddress::Unix(UnixSocket {
        mode: table.get("mode").map_or(Ok(socket.mode), mode)?,
        group: table.get("group").map(group).transpose()?,
        require_token: table.get("require_token").map_or(Ok(false), yes_or_no)?,
        ..socket
    }))
}

fn known_keys(table: &Table, known: &[&str], named: &str) -> Checked<()> {
    match table.iter().find(|(key, _)| !known.contains(&key.as_str())) {
        None => Ok(()),
        Some((key, entry)) => {
            Err(fault(entry, format!("has the unknown key {}, known are {named}", quoted(key))))
        }
    }
}

/// Permissions. A string: as a number it would have to be written 0o660, and 660 would be something else.
fn mode(item: &Item) -> Checked<u32> {
    let digits = match &item.value {
        // The first digit is 0: set-user-ID, set-group-ID and sticky bits mean nothing for a socket.
        Value::Text(text) => text.strip_prefix('0').filter(|digits| digits.len() == 3),
        _ => None,
    };
    let mode = digits.filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
    let mode = mode.and_then(|digits| u32::from_str_radix(digits, 8).ok());
    mode.ok_or_else(|| wrong_shown(item, "a mode of four octal digits in quotes, such as \"0660\""))
}

fn group(item: &Item) -> Checked<String> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    match &item.value {
        Value::Text(text) if (1..=32).contains(&text.len()) && text.bytes().all(plain) => Ok(text.clone()),
        _ => Err(wrong_shown(item, "the name or, in quotes, the number of a group")),
    }
}

/// Whether a host to listen on is an address that other machines may reach.
pub(super) fn opens_to_strangers(host: &str) -> bool {
    host.parse().is_ok_and(|address: IpAddr| !address.to_canonical().is_loopback())
}

/// A name or address of ours, in lower case; an IPv6 address without brackets, as the standard library writes it.
pub(super) fn host(item: &Item) -> Checked<String> {
    let allowed = "a host name or an address without port, such as \"bots.example.org\"";
    let Value::Text(text) = &item.value else { return Err(wrong(item, allowed)) };
    match ListenAddress::tcp(text.strip_suffix('.').unwrap_or(text), 0) {
        Ok(ListenAddress::Tcp { host, .. }) => Ok(host
            .parse()
            .map_or(host.to_ascii_lowercase(), |address: IpAddr| address.to_canonical().to_string())),
        _ => Err(wrong_shown(item, allowed)),
    }
}

/// A web site, as browsers write it in `Origin` (RFC 6454, 6.2).
pub(super) fn origin(item: &Item) -> Checked<String> {
    let allowed =
        "the scheme, host and, if need be, port of a web site, such as \"https://bots.example.org\"";
    let Value::Text(text) = &item.value else { return Err(wrong(item, allowed)) };
    let url = Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
    let origin = url.map(|url| url.origin().ascii_serialization());
    // What the parser would drop or mend was meant to be something.
    let is_all = |origin: &String| origin.eq_ignore_ascii_case(text.strip_suffix('/').unwrap_or(text));
    origin.filter(is_all).ok_or_else(|| wrong_shown(item, allowed))
}

/// The URL by which browsers reach the controller.
pub(super) fn public_url(item: &Item) -> Checked<String> {
    let allowed = "an http or https URL without query, such as \"https://bots.example.org/\"";
    let Value::Text(text) = &item.value else { return Err(wrong(item, allowed)) };
    let url = Url::parse(text).ok().filter(|url| {
        matches!(url.scheme(), "http" | "https")
            && url.query().is_none()
            && url.fragment().is_none()
            && url.username().is_empty()
            && url.password().is_none()
    });
    // A link is this text with something after it.
    let is_plain = text.starts_with("http") && text.bytes().all(|byte| byte.is_ascii_graphic());
    match url {
        Some(_) if is_plain => Ok(text.trim_end_matches('/').to_owned()),
        _ => Err(wrong_shown(item, allowed)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::rules::tests::check;

    #[test]
    fn listen_addresses() {
        let good = |value| {
            let addresses = check(addresses, value).unwrap();
            addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(good("'h:1'"), "h:1");
        assert_eq!(good("{ host = '::1' }"), "[::1]:4000");
        assert_eq!(good("{ port = 0 }"), "127.0.0.1:0");
        assert_eq!(good("['unix:/s', { host = '[::]', port = 1 }, 'h:0', 'h:0']"), "unix:/s [::]:1 h:0 h:0");
        for (bad, message) in [
            ("[]", "1: is an empty list, must have at least one address"),
            ("{}", "1: is an empty table, must have a host, a port or both"),
            ("'h:x'", "1: is \"h:x\", its port must be a whole number from 0 to 65535"),
            ("{ port = 70000 }", "1: has 70000 as port, its port must be a whole number from 0 to 65535"),
            ("{ host = 1 }", "1: has 1 as host, must be a string"),
            (
                "{ host = 'a b' }",
                "1: has the host \"a b\", its host must be an IPv4 or IPv6 address or a host name",
            ),
            ("{ prot = 1 }", "1: has the unknown key \"prot\", known are host and port"),
            ("['h:1',\n'i:1',\n'h:1']", "3: entry 3 repeats h:1, must have each address once"),
            ("['unix:/s', { unix = '/s', mode = '0666' }]", "1: entry 2 repeats unix:/s"),
            ("[\n'h',\n4000]", "2: entry 1 is \"h\", must be \"host:port\""),
            ("[['h:1']]", "1: entry 1 is a list, must be \"host:port\""),
        ] {
            let error = check(addresses, bad).unwrap_err();
            assert!(error.starts_with(message), "{bad}: {error}");
        }
    }

    #[test]
    fn unix_sockets() {
        let socket = |value| match check(address, value).unwrap() {
            ListenAddress::Unix(socket) => (socket.mode, socket.group, socket.require_token),
            ListenAddress::Tcp { .. } => panic!("{value}"),
        };
        assert_eq!(socket("'unix:/s'"), (0o600, None, false));
        assert_eq!(socket("{ unix = '/s' }"), (0o600, None, false));
        let all = "{ unix = '/s', mode = '0660', group = 'wqbots', require_token = true }";
        assert_eq!(socket(all), (0o660, Some("wqbots".into()), true));
        for (bad, message) in [
            ("{ unix = 's' }", "has the socket \"s\", its socket path must be absolute"),
            ("{ unix = 1 }", "has a unix that must be the path"),
            ("{ unix = '/s', mode = 660 }", "is 660, must be a mode of four octal digits in quotes"),
            ("{ unix = '/s', mode = '660' }", "is \"660\", must be a mode"),
            ("{ unix = '/s', mode = '0680' }", "is \"0680\", must be a mode"),
            ("{ unix = '/s', mode = '0+60' }", "is \"0+60\", must be a mode"),
            ("{ unix = '/s', mode = '2660' }", "is \"2660\", must be a mode"),
            ("{ unix = '/s', group = 'a b' }", "is \"a b\", must be the name"),
            ("{ unix = '/s', require_token = 1 }", "is 1, must be true or false"),
            ("{ unix = '/s', port = 1 }", "has the unknown key \"port\", known are unix, mode"),
        ] {
            let error = check(address, bad).unwrap_err();
            assert!(error.contains(message), "{bad}: {error}");
        }
    }

    #[test]
    fn what_other_machines_may_reach() {
        for open in ["0.0.0.0", "::", "192.168.1.5", "fe80::1", "::ffff:10.0.0.1", "128.0.0.1"] {
            assert!(opens_to_strangers(open), "{open}");
        }
        for closed in ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1", "localhost", "a-name"] {
            assert!(!opens_to_strangers(closed), "{closed}");
        }
    }

    #[test]
    fn public_url_is_one_that_a_link_can_begin_with() {
        for (text, meant) in
            [("https://bots.example.org/", "https://bots.example.org"), ("http://h:81/wq", "http://h:81/wq")]
        {
            assert_eq!(check(public_url, &format!("'{text}'")).unwrap(), meant);
        }
        for bad in [
            "''",
            "'h'",
            "'ftp://h'",
            "'http://h/?x'",
            "'http://h/#x'",
            "'http://u:p@h/'",
            "'http://h/ x'",
            "1",
        ] {
            assert!(check(public_url, bad).unwrap_err().contains("must be an http or https URL"), "{bad}");
        }
    }

    #[test]
    fn hosts_and_origins_are_written_as_callers_write_them() {
        for (text, meant) in [
            ("Bots.Example.org", "bots.example.org"),
            ("h.", "h"),
            ("[2001:DB8::1]", "2001:db8::1"),
            ("::ffff:1.2.3.4", "1.2.3.4"),
        ] {
            assert_eq!(check(host, &format!("'{text}'")).unwrap(), meant);
        }
        for bad in ["''", "'h:1'", "'http://h'", "'*.h'", "'a b'", "1", "'..'"] {
            assert!(check(host, bad).unwrap_err().contains("must be a host name or an address"), "{bad}");
        }
        for (text, meant) in [
            ("https://H.org", "https://h.org"),
            ("http://h:81/", "http://h:81"),
            ("https://[::1]:1", "https://[::1]:1"),
        ] {
            assert_eq!(check(origin, &format!("'{text}'")).unwrap(), meant);
        }
        for bad in [
            "''",
            "'*'",
            "'null'",
            "'h'",
            "'ftp://h'",
            "'https://h/p'",
            "'https://me@h'",
            "'https://h:443'",
            "1",
        ] {
            assert!(check(origin, bad).unwrap_err().contains("must be the scheme"), "{bad}");
        }
    }
}
