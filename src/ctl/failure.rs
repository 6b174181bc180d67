//! [`Failure`]: why a command failed, what to type next, and the exit status that says so.

use std::fmt;
use std::io;

use crate::ctl::screen::printable;

/// The kinds of failures, each with an exit status that never changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The reader of standard output has gone, which is no failure: there is nothing to be told, and no one to tell.
    Unheard = 0,
    /// The controller refused, or could not do it.
    Refused = 1,
    /// The command was not given as it has to be.
    Usage = 2,
    /// No controller can be reached.
    Unreachable = 3,
    /// It does not let this user in.
    NotAllowed = 4,
    /// There is no such account.
    NoAccount = 5,
}

/// Why a command failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) kind: Kind,
    pub(super) text: String,
    /// What to type, or to do, next.
    pub(super) next: Option<String>,
}

pub(super) type Outcome<T = ()> = Result<T, Failure>;

impl Failure {
    pub(super) fn new(kind: Kind, text: impl Into<String>) -> Self {
        Self { kind, text: text.into(), next: None }
    }

    pub(super) fn refused(text: impl Into<String>) -> Self {
        Self::new(Kind::Refused, text)
    }

    pub(super) fn usage(text: impl Into<String>) -> Self {
        Self::new(Kind::Usage, text)
    }

    /// The same with what to type next.
    pub(super) fn next(self, next: impl Into<String>) -> Self {
        Self { next: Some(next.into()), ..self }
    }

    /// The same without it, where that is known already.
    pub(super) fn unless_next(self, next: impl FnOnce() -> String) -> Self {
        match self.next {
            Some(_) => self,
            None => self.next(next()),
        }
    }

    /// Whether this is a part of what it says.
    pub(super) fn says(&self, part: &str) -> bool {
        self.text.contains(part)
    }

    /// The same in other words.
    pub(super) fn because(self, text: &str) -> Self {
        let next = "install the same version of it, and systemctl restart wqcontroller";
        Self { text: text.to_owned(), next: Some(next.to_owned()), ..self }
    }

    /// The same about this account: its name is in what to type next, and at the front unless it is known what it is about.
    pub(super) fn about(self, name: &str) -> Self {
        let is_of_account = matches!(self.kind, Kind::Refused | Kind::NoAccount);
        let is_told = !is_of_account || self.text.starts_with(name);
        let text = if is_told { self.text } else { format!("{name}: {}", self.text) };
        let next = self.next.map(|next| next.replace("NAME", &quoted(name)));
        Self { text, next, ..self }
    }

    /// What became of standard output.
    pub(super) fn of_output(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::new(Kind::Unheard, ""),
            _ => Self::refused(format!("standard output can't be written: {error}")),
        }
    }
}

/// A name as a shell takes it.
pub(super) fn quoted(name: &str) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '.' | '@' | ':' | '+' | '/');
    match !name.starts_with('-') && name.chars().all(is_plain) {
        true => name.to_owned(),
        false => {
            let option = if name.starts_with('-') { "-- " } else { "" };
            format!("{option}'{}'", name.replace('\'', "'\\''"))
        }
    }
}

/// A line, and another one with what to type next. What the controller said is in it, so it is escaped.
impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "wqctl: {}", printable(&self.text))?;
        match &self.next {
            Some(next) => write!(f, "\nwqctl: next: {}", printable(next)),
            None => Ok(()),
        }
    }
}
