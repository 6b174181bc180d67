//! [`BusError`]: why a call to systemd failed, and what that means.

/// Why a call to systemd failed.
#[derive(Debug, thiserror::Error)]
pub enum BusError {
    /// There is no connection to the bus.
    #[error("cannot reach systemd on the {0} bus")]
    Unreachable(&'static str),
    /// No connection can be opened.
    #[error("cannot connect to systemd on the {0} bus")]
    Connect(&'static str, #[source] zbus::Error),
    /// The call was refused or failed.
    #[error("systemd refused {0}")]
    Call(&'static str, #[source] zbus::Error),
    /// No reply came in time.
    #[error("systemd did not reply to {0}")]
    NoReply(&'static str),
}

impl BusError {
    /// Whether the connection was lost, so that the call may or may not have been carried out.
    pub(in crate::supervisor) fn is_lost(&self) -> bool {
        match self {
            Self::Call(_, error) => {
                matches!(error, zbus::Error::InputOutput(_))
                    || named(
                        error,
                        &[
                            // By the bus, if systemd leaves it before it has replied; the last two if systemd is not back on it
                            // yet.
                            "org.freedesktop.DBus.Error.NoReply",
                            "org.freedesktop.DBus.Error.Disconnected",
                            "org.freedesktop.DBus.Error.ServiceUnknown",
                            "org.freedesktop.DBus.Error.NameHasNoOwner",
                        ],
                    )
            }
            Self::Unreachable(_) | Self::Connect(..) | Self::NoReply(_) => true,
        }
    }

    /// Whether systemd has no such unit loaded: then it neither runs nor has failed.
    pub(super) fn is_no_unit(&self) -> bool {
        matches!(self, Self::Call(_, error) if named(error, &["org.freedesktop.systemd1.NoSuchUnit"]))
    }

    /// Whether the unit can't be cleaned: it is active, is being cleaned, or has a job.
    pub(super) fn is_busy(&self) -> bool {
        matches!(self, Self::Call(_, error) if named(error, &["org.freedesktop.systemd1.UnitBusy"]))
    }

    /// Whether the unit has no folders that could be cleaned.
    pub(super) fn is_nothing_to_clean(&self) -> bool {
        matches!(self, Self::Call(_, error) if named(error, &["org.freedesktop.systemd1.NothingToClean"]))
    }

    /// Whether the unit has no `ExecReload=`.
    pub(super) fn is_not_reloadable(&self) -> bool {
        let names = ["org.freedesktop.systemd1.JobTypeNotApplicable"];
        matches!(self, Self::Call(_, error) if named(error, &names))
    }

    /// The property that this systemd does not know, where that is the error.
    pub(super) fn unknown_property(&self) -> Option<String> {
        let Self::Call(_, error) = self else { return None };
        if !named(error, &["org.freedesktop.DBus.Error.PropertyReadOnly"]) {
            return None;
        }
        // "Cannot set property X, or unknown property."
        error.to_string().split_once("set property ")?.1.split(',').next().map(str::to_owned)
    }
}

/// Whether the error is that systemd does not know the property.
pub(super) fn has_no_property(error: &zbus::Error) -> bool {
    named(error, &["org.freedesktop.DBus.Error.UnknownProperty"])
}

/// Whether the error has one of these D-Bus names. Compares the text, because it begins with the name also where zbus has no type
/// for the error.
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
