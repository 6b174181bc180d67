use super::*;
use serde_json::json;

const HERE: FrameSource = FrameSource::Connection(0);

fn inbox() -> (Inbox, EventQueue) {
    let binding = AccountBinding::open(std::path::Path::new("/proc/nonexistent/binding"), Some(1), None);
    open(&crate::client::onebot::OneBot11, Arc::new(Calls::new(Duration::from_secs(1))), Arc::new(binding))
}

fn message(n: usize) -> Vec<u8> {
    let message = json!({
        "post_type": "message", "message_type": "private", "sub_type": "friend", "user_id": 7, "message": n.to_string(),
    });
    message.to_string().into_bytes()
}

#[tokio::test]
async fn inbox_drops_events_before_the_lists_and_pauses_reading_afterwards() {
    let (inbox, mut events) = inbox();
    for n in 0..WAITING_EVENTS + 2 {
        inbox.take(&message(n), HERE).await;
    }
    assert_eq!(inbox.dropped.load(Ordering::Relaxed), 2);
    inbox.open();
    let waits = message(0);
    let mut waiting = std::pin::pin!(inbox.take(&waits, HERE));
    assert!(futures_util::poll!(&mut waiting).is_pending());
    assert!(matches!(
        events.next().await,
        Some((RemoteEvent::Said(_), EventStamp { source: HERE, digest: None, .. }))
    ));
    waiting.await;
    assert_eq!(inbox.dropped.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn frames_signal_heartbeats_and_refused_tokens() {
    let (inbox, _events) = inbox();
    let beat = br#"{"post_type":"meta_event","meta_event_type":"heartbeat","interval":30000}"#;
    assert_eq!(inbox.take(beat, HERE).await, ConnectionSignal::Alive(Duration::from_secs(30)));
    let refused = br#"{"status":"failed","retcode":1403,"data":null,"echo":null}"#;
    assert_eq!(inbox.take(refused, HERE).await, ConnectionSignal::TokenRefused);
    for other in [&message(1)[..], b"{", br#"{"status":"failed","retcode":1400,"echo":null}"#] {
        assert_eq!(inbox.take(other, HERE).await, ConnectionSignal::None);
    }
}

#[tokio::test]
async fn bot_offline_counts_at_once_before_the_lists() {
    let (inbox, mut events) = inbox();
    let offline = br#"{"post_type":"notice","notice_type":"bot_offline","message":"kicked"}"#;
    inbox.open();
    inbox.take(offline, HERE).await;
    assert_eq!(*inbox.offline().borrow(), None, "in its turn");
    assert!(matches!(events.next().await, Some((RemoteEvent::Offline(why), _)) if why == "kicked"));
    inbox.mark_handled();
    inbox.close().await;
    inbox.take(offline, HERE).await;
    assert_eq!(inbox.offline().borrow().as_deref(), Some("kicked"));
}

#[tokio::test]
async fn heartbeats_set_online() {
    let (inbox, _events) = inbox();
    let mut online = inbox.online();
    let beat = |status: &str| {
        format!(r#"{{"post_type":"meta_event","meta_event_type":"heartbeat","status":{status}}}"#)
    };
    for (status, says) in
        [(r#"{"online":false}"#, Some(false)), ("null", None), (r#"{"online":true}"#, Some(true))]
    {
        inbox.take(beat(status).as_bytes(), HERE).await;
        assert_eq!(online.has_changed().unwrap(), says.is_some());
        if says.is_some() {
            assert_eq!(*online.borrow_and_update(), says);
        }
    }
    inbox.begin();
    assert_eq!(*online.borrow(), None);
    assert_eq!(*inbox.offline().borrow(), None, "it was not put out");
}

#[tokio::test]
async fn events_of_another_account_are_refused() {
    let (inbox, _events) = inbox();
    inbox.open();
    let mine = br#"{"post_type":"notice","notice_type":"friend_add","user_id":7,"self_id":"1"}"#;
    let others = br#"{"post_type":"notice","notice_type":"bot_offline","self_id":2}"#;
    assert_eq!(inbox.take(mine, HERE).await, ConnectionSignal::None);
    assert_eq!(
        inbox.take(others, HERE).await,
        ConnectionSignal::OtherAccount(OtherAccount { bound: 1, found: 2 })
    );
    assert_eq!(inbox.taken.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn queued_events_of_the_previous_account_are_stale() {
    let folder = tempfile::tempdir().unwrap();
    let binding = Arc::new(AccountBinding::open(&folder.path().join("binding"), None, None));
    let (inbox, mut events) =
        open(&crate::client::onebot::OneBot11, Arc::new(Calls::new(Duration::from_secs(1))), binding.clone());
    let came = |account: &str| {
        format!(r#"{{"post_type":"notice","notice_type":"friend_add","user_id":7{account}}}"#).into_bytes()
    };
    // It was forgotten whose the client is, and the old connection for events is still open.
    for account in ["", r#","self_id":1"#, r#","self_id":2"#] {
        inbox.take(&came(account), HERE).await;
    }
    binding.bind(2).unwrap();
    inbox.change_account();
    inbox.take(&came(""), HERE).await;
    let mut told = Vec::new();
    for _ in 0..4 {
        let (_, stamp) = events.next().await.unwrap();
        told.push(inbox.is_of_this_account(&stamp));
    }
    assert_eq!(told, [false, false, true, true]);
}

#[tokio::test]
async fn bot_offline_of_a_forgotten_account_does_not_end_the_client() {
    let folder = tempfile::tempdir().unwrap();
    let binding = Arc::new(AccountBinding::open(&folder.path().join("binding"), None, None));
    let (inbox, mut events) =
        open(&crate::client::onebot::OneBot11, Arc::new(Calls::new(Duration::from_secs(1))), binding.clone());
    let offline = |account: u64| {
        format!(
            r#"{{"post_type":"notice","notice_type":"bot_offline","message":"kicked","self_id":{account}}}"#
        )
        .into_bytes()
    };
    binding.bind(1).unwrap();
    inbox.open();
    // It waits in the queue when the account is forgotten.
    inbox.take(&offline(1), HERE).await;
    binding.forget();
    let (event, stamp) = events.next().await.unwrap();
    assert!(inbox.is_of_forgotten_account(&event, &stamp));
    inbox.mark_handled();
    // It comes afterwards, on a connection of the old account for events alone.
    inbox.take(&offline(1), HERE).await;
    inbox.close().await;
    inbox.take(&offline(1), HERE).await;
    assert_eq!(*inbox.offline().borrow(), None);
    // The account that is to have the client now is offline.
    inbox.take(&offline(2), HERE).await;
    assert_eq!(inbox.offline().borrow().as_deref(), Some("kicked"));
}

#[tokio::test]
async fn bot_offline_of_an_account_that_is_back_counts_again() {
    let folder = tempfile::tempdir().unwrap();
    let binding = Arc::new(AccountBinding::open(&folder.path().join("binding"), None, None));
    let (inbox, _events) =
        open(&crate::client::onebot::OneBot11, Arc::new(Calls::new(Duration::from_secs(1))), binding.clone());
    binding.bind(1).unwrap();
    binding.forget();
    binding.bind(1).unwrap();
    let offline = br#"{"post_type":"notice","notice_type":"bot_offline","message":"kicked","self_id":1}"#;
    inbox.take(offline, HERE).await;
    assert_eq!(inbox.offline().borrow().as_deref(), Some("kicked"));
}
