//! What the controllers of several machines say to each other. One of them, the *door*, passes calls on to the others.

/// The header of a request that a door passes on, or makes itself. It opens nothing: it says how much of what the request may do
/// otherwise was granted to the door's own caller. A request with it goes no further, so no loop can come about.
pub const DOOR: &str = "x-wqcontroller-door";

/// The header of an answer by which a controller says to a door that it refuses what the door itself asked: its word is one of
/// [`Refused`]. What an account's client refuses has no such header, and is the caller's.
pub const REFUSED: &str = "x-wqcontroller-refused";

/// Why a controller refuses a request of a door.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The door's token is unknown there, or it shows none.
    Token,
    /// The door's token may only read there.
    ReadOnly,
    /// No door is let in there.
    Door,
}

impl Refused {
    const ALL: [Self; 3] = [Self::Token, Self::ReadOnly, Self::Door];

    /// The word in the header [`REFUSED`].
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::ReadOnly => "read-only",
            Self::Door => "door",
        }
    }

    /// Reads that word.
    pub fn of(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|refused| refused.as_str() == word)
    }
}

/// What the door says of its caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Said {
    /// It is an application without a token of the door: a token of the account has to open it.
    Account,
    /// The door asks for no tokens. An account that has one of its own may still ask for that.
    Unasked,
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
            Self::Unasked => "unasked",
            Self::ReadOnly => "read-only",
            Self::Full => "full",
        }
    }

    /// Reads that word. An unknown one grants the least.
    pub fn of(word: &str) -> Self {
        let others = [Self::Unasked, Self::ReadOnly, Self::Full];
        others.into_iter().find(|said| said.as_str() == word).unwrap_or(Self::Account)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_words_grant_the_least() {
        for said in [Said::Account, Said::Unasked, Said::ReadOnly, Said::Full] {
            assert_eq!(Said::of(said.as_str()), said);
        }
        assert_eq!(Said::of("everything"), Said::Account);
        for refused in Refused::ALL {
            assert_eq!(Refused::of(refused.as_str()), Some(refused));
        }
        assert_eq!(Refused::of("everything"), None);
    }
}
