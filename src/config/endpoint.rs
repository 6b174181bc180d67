//! [`Endpoint`]: the address of another program's HTTP service, kept out of logs where it carries a secret.

use std::fmt;

use url::Url;

/// An `http` or `https` URL, kept as it was written.
///
/// Operators put passwords and tokens into such a URL, before the host or in the query. `Debug` and `Display`
/// show neither; only [`Endpoint::as_str`] has all of it.
#[derive(Clone, PartialEq, Eq)]
pub struct Endpoint(String);

impl Endpoint {
    /// The longest URL, in bytes: clients get it as a start parameter, and this is the limit of those.
    pub const MAX_BYTES: usize = 4096;

    /// Checks `text`; `None` if it is no URL of that kind.
    pub fn new(text: &str) -> Option<Self> {
        // The parser mends much that other readers of the same text will not: it drops newlines and takes
        // `http:host` and `http:\\host`. Clients get the text as written, so it must be plainly right.
        let scheme = ["http://", "https://"]
            .iter()
            .any(|scheme| text.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme)));
        let plain =
            text.len() <= Self::MAX_BYTES && !text.contains(|c: char| c.is_control() || c.is_whitespace());
        (scheme && plain && Url::parse(text).is_ok()).then(|| Self(text.to_owned()))
    }

    /// The URL as it was written, with its secrets: for requests, not for logs.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Scheme, host, port and path; `***` stands for a user with password, a query and a fragment.
impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Ok(url) = Url::parse(&self.0) else { return f.write_str("***") };
        write!(f, "{}://", url.scheme())?;
        if !url.username().is_empty() || url.password().is_some() {
            f.write_str("***@")?;
        }
        f.write_str(url.host_str().unwrap_or_default())?;
        if let Some(port) = url.port() {
            write!(f, ":{port}")?;
        }
        f.write_str(url.path())?;
        if url.query().is_some() || url.fragment().is_some() {
            f.write_str("?***")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Endpoint({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kept_as_written() {
        for good in
            ["http://127.0.0.1:8080/post", "HTTPS://Example.org", "http://[::1]:1/?a=%20b", "http://小明.cn/"]
        {
            assert_eq!(Endpoint::new(good).unwrap().as_str(), good);
        }
    }

    #[test]
    fn refused() {
        let long = format!("http://h/{}", "x".repeat(Endpoint::MAX_BYTES));
        for bad in [
            "",
            "xxxx",
            "ftp://host/",
            "http:host",
            "http:\\\\host",
            "http://",
            "http://h:99999/",
            "http://a b/",
            " http://h/",
            "http://h/\nx",
            "http://h/\0",
            &long,
        ] {
            assert!(Endpoint::new(bad).is_none(), "{bad:?}");
        }
    }

    #[test]
    fn secrets_are_redacted() {
        for (written, shown) in [
            ("http://h/", "http://h/"),
            ("https://me:hunter2@h:8443/p", "https://***@h:8443/p"),
            ("https://hunter2@h/p", "https://***@h/p"),
            ("https://:hunter2@h/p", "https://***@h/p"),
            ("http://[::1]:81/p?token=hunter2#hunter2", "http://[::1]:81/p?***"),
        ] {
            let endpoint = Endpoint::new(written).unwrap();
            assert_eq!(endpoint.to_string(), shown);
            assert_eq!(format!("{endpoint:?}"), format!("Endpoint({shown})"));
        }
    }
}
