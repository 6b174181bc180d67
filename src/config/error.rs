//! [`ConfigError`]: what an operator reads when the configuration is refused.

use std::fmt;
use std::io;
use std::path::PathBuf;

/// Why there are no settings.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A configuration file is there, or was asked for by name, and can't be read.
    #[error("cannot read the configuration file {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A folder of drop-ins is there and can't be listed.
    #[error("cannot list the configuration folder {}", path.display())]
    List {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The files were read, and these things in them are wrong: at least one, in the order of files and
    /// lines. Displayed one a line, the first [`ConfigError::MAX_SHOWN`] of them.
    #[error("{}", Shown(.0))]
    Invalid(Vec<Problem>),
    /// An address that was really listened on must not be open without a token.
    #[error("`listen` {0}")]
    Open(OpenListener),
}

impl ConfigError {
    /// Whether the only reason is that this user may not read the file or folder.
    pub fn is_forbidden(&self) -> bool {
        match self {
            Self::Read { source, .. } | Self::List { source, .. } => {
                source.kind() == io::ErrorKind::PermissionDenied
            }
            Self::Invalid(_) | Self::Open(_) => false,
        }
    }

    /// How many problems are displayed: a file of another format altogether would have thousands.
    pub const MAX_SHOWN: usize = 100;
}

/// One thing that is wrong in one file. Displayed as `FILE:LINE: message`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The file.
    pub file: PathBuf,
    /// The line, from 1, unless the file as a whole is meant.
    pub line: Option<usize>,
    /// What is wrong and what is allowed. Never the value of a secret.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.file.display())?;
        if let Some(line) = self.line {
            write!(f, "{line}:")?;
        }
        write!(f, " {}", self.message)
    }
}

/// A value that does not count, because a later file has the same option. Displayed as `NAME: FILE:LINE, replaced by
/// FILE:LINE`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overridden {
    /// The option, or the part of one that is merged.
    pub name: String,
    /// The file and line of the value that does not count.
    pub earlier: (PathBuf, usize),
    /// The file and line of the one in its place.
    pub later: (PathBuf, usize),
}

impl fmt::Display for Overridden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (earlier, later) = (&self.earlier, &self.later);
        let (from, to) = (earlier.0.display(), later.0.display());
        write!(f, "{}: {from}:{}, replaced by {to}:{}", self.name, earlier.1, later.1)
    }
}

/// A listener that is not opened: every program that reaches it could run every account. Displayed as the end of a sentence that
/// begins with what is to be listened on, or with the option that says so.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenListener {
    /// Other machines reach it, and callers need no token.
    #[error(
        "opens {0} to the network, where whoever reaches it could run every account: let callers show a token \
         ([[auth.tokens]] with name and file), or set `allow_unauthenticated = true` in [auth] if strangers are kept out \
         in another way; or listen on 127.0.0.1, which only this machine reaches"
    )]
    Network(String),
    /// Its callers have to show a token, and there is none.
    #[error(
        "has {0} with require_token, and no token is configured: add one ([[auth.tokens]] with name and file), or take \
         require_token away"
    )]
    TokenRequired(String),
}

struct Shown<'a>(&'a [Problem]);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, problem) in self.0.iter().take(ConfigError::MAX_SHOWN).enumerate() {
            let separator = if at == 0 { "" } else { "\n" };
            write!(f, "{separator}{problem}")?;
        }
        match self.0.len().saturating_sub(ConfigError::MAX_SHOWN) {
            0 => Ok(()),
            more => write!(f, "\nand {more} more"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(line: Option<usize>) -> Problem {
        Problem { file: PathBuf::from("/etc/a.toml"), line, message: "is wrong".into() }
    }

    #[test]
    fn problems_are_shown_one_a_line() {
        let error = ConfigError::Invalid(vec![problem(Some(3)), problem(None)]);
        assert_eq!(error.to_string(), "/etc/a.toml:3: is wrong\n/etc/a.toml: is wrong");
    }

    #[test]
    fn no_more_than_the_limit_is_shown() {
        let error = ConfigError::Invalid(vec![problem(Some(3)); ConfigError::MAX_SHOWN + 3]);
        assert_eq!(error.to_string().lines().count(), ConfigError::MAX_SHOWN + 1);
        assert!(error.to_string().ends_with("\nand 3 more"));
    }

    #[test]
    fn the_source_is_not_repeated() {
        let source = io::Error::from(io::ErrorKind::PermissionDenied);
        let error = ConfigError::Read { path: "/etc/a.toml".into(), source };
        assert_eq!(error.to_string(), "cannot read the configuration file /etc/a.toml");
        assert!(std::error::Error::source(&error).is_some());
    }
}
