//! [`BusError`]: why systemd did not do what it was asked, and what that means.

/// Why systemd did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum BusError {
    /// There is no connection.
    #[error("the bus of the {0} manager can't be reached")]
    Away(&'static str),
    /// There can be none.
    #[error("the bus of the {0} manager can't be reached")]
    Connect(&'static str, #[source] zbus::Error),
    /// The call failed.
    #[error("systemd refuses {0}")]
    Call(&'static str, #[source] zbus::Error),
    /// No answer came.
    #[error("systemd does not answer {0}")]
    Silent(&'static str),
}

impl BusError {
    /// Whether the bus went away, so that it is not known whether the call was done.
    pub(super) fn is_lost(&self) -> bool {
        match self {
            Self::Call(_, error) => {
                matches!(error, zbus::Error::InputOutput(_))
                    || named(
                        error,
                        &[
                            "org.freedesktop.DBus.Error.NoReply",
                            "org.freedesktop.DBus.Error.Disconnected",
                            "org.freedesktop.DBus.Error.ServiceUnknown",
                            "org.freedesktop.DBus.Error.NameHasNoOwner",
                        ],
                    )
            }
            Self::Away(_) | Self::Connect(..) | Self::Silent(_) => true,
        }
    }

    /// Whether a unit of this name is not loaded: then it does not run, and did not fail.
    pub(super) fn is_no_unit(&self) -> bool {
        matches!(self, Self::Call(_, error) if named(error, &["org.freedesktop.systemd1.NoSuchUnit"]))
    }

    /// The property that this systemd does not know, if that is what it complains about.
    pub(super) fn unknown_property(&self) -> Option<String> {
        let Self::Call(_, error) = self else { return None };
        if !named(error, &["org.freedesktop.DBus.Error.PropertyReadOnly"]) {
            return None;
        }
        // "Cannot set property X, or unknown property."
        error.to_string().split_once("set property ")?.1.split(',').next().map(str::to_owned)
    }
}

/// Whether the error has one of these names. By its text, which begins with its name whether zbus knows that or not.
fn named(error: &zbus::Error, names: &[&str]) -> bool {
    let text = error.to_string();
    names
        .iter()
        .any(|name| text.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with(':')))
}

#[cfg(test)]
mod tests {
    use super::*;
    use zbus::fdo;

    #[test]
    fn errors_are_told_apart_by_name() {
        let call = |error: fdo::Error| BusError::Call("X", error.into());
        assert!(call(fdo::Error::NoReply("gone".into())).is_lost());
        assert!(call(fdo::Error::ServiceUnknown("gone".into())).is_lost());
        let denied = call(fdo::Error::AccessDenied("no".into()));
        assert!(!denied.is_lost() && !denied.is_no_unit() && denied.unknown_property().is_none());
        let unknown = "Cannot set property RestartMode, or unknown property.";
        let unknown = call(fdo::Error::PropertyReadOnly(unknown.into()));
        assert_eq!(unknown.unknown_property().as_deref(), Some("RestartMode"));
        let gone = zbus::Error::Failure("org.freedesktop.systemd1.NoSuchUnit: Unit x not loaded.".into());
        let gone = BusError::Call("X", gone);
        assert!(gone.is_no_unit() && !gone.is_lost());
    }
}
