//! Meta events (onebot-11, `event/meta.md`): the state of the connection and of the login.

use std::time::Duration;

use serde_json::{Value, json};

use super::hub::AccountStatus;

/// What has become of the connection or the posts to an application. Only posts are enabled and disabled, and only WebSockets are
/// connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LifecycleKind {
    /// A WebSocket.
    Connect,
    /// Posts.
    Enable,
    /// Posts have ended, as the client ends.
    Disable,
}

/// The first event of a connection, and the last one of posts.
pub(super) fn lifecycle(number: u64, kind: LifecycleKind, time: u64) -> Value {
    let sub_type = match kind {
        LifecycleKind::Connect => "connect",
        LifecycleKind::Enable => "enable",
        LifecycleKind::Disable => "disable",
    };
    json!({
        "time": time, "self_id": number, "post_type": "meta_event", "meta_event_type": "lifecycle",
        "sub_type": sub_type,
    })
}

/// What `get_status` answers, and a heartbeat carries.
pub(super) fn status(status: AccountStatus) -> Value {
    // Some applications read only `good`, so it is false as well while there is no login.
    json!({ "online": status.is_online, "good": status.is_online })
}

/// A heartbeat; the next one follows after `interval`.
pub(super) fn heartbeat(number: u64, account: AccountStatus, interval: Duration, time: u64) -> Value {
    json!({
        "time": time, "self_id": number, "post_type": "meta_event", "meta_event_type": "heartbeat",
        "status": status(account), "interval": u64::try_from(interval.as_millis()).unwrap_or(u64::MAX),
    })
}
