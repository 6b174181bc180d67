//! [`LogLevel`]: the six words that the original knows, and what they mean to `tracing`.

use std::fmt;

/// How much is logged, from much to little.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LogLevel {
    /// Every step.
    Debug,
    /// What an operator wants to see of a healthy daemon.
    #[default]
    Info,
    /// The original's level for chat messages. The controller sees none, so for it this is [`Self::Info`].
    Msg,
    /// What went wrong and mended itself.
    Warn,
    /// What went wrong and did not.
    Error,
    /// What ends the program. `tracing` has nothing above [`Self::Error`], so for it the two are one.
    Fatal,
}

impl LogLevel {
    /// Every level, from much to little.
    pub const ALL: [Self; 6] = [Self::Debug, Self::Info, Self::Msg, Self::Warn, Self::Error, Self::Fatal];

    /// The word that the original uses, as clients get it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Msg => "msg",
            Self::Warn => "warn",
            Self::Error => "error",
            Self::Fatal => "fatal",
        }
    }

    /// Reads the original's word, in lower case.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|level| level.as_str() == word)
    }

    /// The least severe level that the controller's own log shows.
    pub fn tracing_level(self) -> tracing::Level {
        match self {
            Self::Debug => tracing::Level::DEBUG,
            Self::Info | Self::Msg => tracing::Level::INFO,
            Self::Warn => tracing::Level::WARN,
            Self::Error | Self::Fatal => tracing::Level::ERROR,
        }
    }
}

impl fmt::Display for LogLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words() {
        for level in LogLevel::ALL {
            assert_eq!(LogLevel::from_word(level.as_str()), Some(level));
        }
        assert_eq!(LogLevel::from_word("INFO"), None);
        assert_eq!(LogLevel::from_word("trace"), None);
    }

    #[test]
    fn levels_without_a_counterpart() {
        assert_eq!(LogLevel::Msg.tracing_level(), tracing::Level::INFO);
        assert_eq!(LogLevel::Fatal.tracing_level(), tracing::Level::ERROR);
    }
}
