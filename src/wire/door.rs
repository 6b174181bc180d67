//! What the controllers of several machines say to each other. One of them, the *door*, passes calls on to the others.

/// The header of a request that a door passes on, or makes itself. It opens nothing: it says how much of what the request may do
/// otherwise was granted to the door's own caller. A request with it goes no further, so no loop can come about.
pub const DOOR: &str = "x-wqcontroller-door";

/// What the door says of its caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Said {
    /// It is an application without a token of the door: a token of the account has to open it.
    Account,
    /// It may only read.
    ReadOnly,
    /// It may do everything.
    Full,
}

impl Said {
    /// The word in the header [`DOOR`].
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Account => "account",
            Self::ReadOnly => "read-only",
            Self::Full => "full",
        }
    }

    /// Reads that word. An unknown one grants the least.
    pub fn of(word: &str) -> Self {
        [Self::ReadOnly, Self::Full].into_iter().find(|said| said.as_str() == word).unwrap_or(Self::Account)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_words_grant_the_least() {
        for said in [Said::Account, Said::ReadOnly, Said::Full] {
            assert_eq!(Said::of(said.as_str()), said);
        }
        assert_eq!(Said::of("everything"), Said::Account);
    }
}
