use super::queue::{MAX_BYTES, MAX_EVENTS};
use super::*;

const HOLD: Duration = Duration::from_secs(30);

fn named(name: &str) -> Option<ApplicationKey> {
    Some(ApplicationKey::Name(name.to_owned()))
}

/// What the application would be told now, without waiting.
fn next(attachment: &Attachment) -> Option<Next> {
    let listeners = locked(&attachment.hub.0.listeners);
    listeners.all[&attachment.id].backlog.next()
}

/// Reads all that waits.
fn read(attachment: &Attachment) -> Vec<String> {
    let mut all = Vec::new();
    while let Some(Next::Event(number, event)) = next(attachment) {
        attachment.written(number);
        all.push(event.to_string());
    }
    all
}

#[tokio::test(start_paused = true)]
async fn each_application_is_told_each_event_once() {
    let hub = Hub::new(HOLD);
    hub.publish("before");
    let (one, two) = (hub.attach(named("one")).unwrap(), hub.attach(None).unwrap());
    for event in ["a", "b"] {
        hub.publish(event);
    }
    assert_eq!(one.next().await, one.next().await, "the same until it is written");
    assert_eq!((read(&one), read(&two)), (vec!["a".into(), "b".into()], vec!["a".into(), "b".into()]));
    let waits = tokio::time::timeout(Duration::from_secs(1), one.next()).await;
    assert!(waits.is_err());
    let later = tokio::spawn(async move { one.next().await });
    tokio::task::yield_now().await;
    hub.publish("c");
    assert_eq!(later.await.unwrap(), Next::Event(4, "c".into()));
}

#[tokio::test(start_paused = true)]
async fn application_that_comes_back_is_told_what_was_not_written() {
    let hub = Hub::new(HOLD);
    let (known, anonymous) = (hub.attach(named("a")).unwrap(), hub.attach(None).unwrap());
    for event in ["1", "2"] {
        hub.publish(event);
    }
    let Next::Event(number, _) = known.next().await else { panic!() };
    known.written(number);
    assert_eq!(hub.present(), 2);
    drop((known, anonymous));
    assert_eq!(hub.present(), 0, "one is waited for");
    hub.publish("3");
    tokio::time::advance(HOLD - Duration::from_secs(1)).await;
    assert_eq!(read(&hub.attach(named("a")).unwrap()), ["2", "3"]);
    assert_eq!(read(&hub.attach(None).unwrap()), [""; 0]);
    assert_eq!(read(&hub.attach(named("b")).unwrap()), [""; 0]);
    hub.publish("4");
    tokio::time::advance(HOLD).await;
    assert_eq!(read(&hub.attach(named("a")).unwrap()), [""; 0], "it stayed away for too long");
    let without = Hub::new(Duration::ZERO);
    drop(without.attach(named("a")).unwrap());
    assert!(!without.has_listeners());
}

#[tokio::test(start_paused = true)]
async fn slow_application_is_let_go_and_delays_no_other() {
    let hub = Hub::new(HOLD);
    let (slow, quick) = (hub.attach(named("slow")).unwrap(), hub.attach(None).unwrap());
    for count in 0..=MAX_EVENTS {
        hub.publish(&count.to_string());
        assert_eq!(read(&quick), [count.to_string()]);
    }
    assert_eq!(next(&slow), Some(Next::LetGo));
    drop(slow);
    let back = read(&hub.attach(named("slow")).unwrap());
    assert_eq!((back.len(), back[0].as_str()), (MAX_EVENTS, "1"), "the oldest is lost");
    let large = hub.attach(None).unwrap();
    let event = "x".repeat(MAX_BYTES);
    hub.publish(&event);
    assert_ne!(next(&large), Some(Next::LetGo), "one always fits");
    hub.publish("y");
    assert_eq!(next(&large), Some(Next::LetGo));
}

#[tokio::test(start_paused = true)]
async fn second_connection_of_an_application_takes_over_from_a_dead_one() {
    let hub = Hub::new(HOLD);
    let dead = hub.attach(named("a")).unwrap();
    hub.publish("1");
    let second = hub.attach(named("a")).unwrap();
    hub.publish("2");
    drop(dead);
    hub.publish("3");
    assert_eq!(read(&second), ["1", "2", "3"]);
    assert!(hub.attach(named("a")).is_ok_and(|third| next(&third).is_none()));
}

#[tokio::test(start_paused = true)]
async fn number_of_applications_is_bounded() {
    let hub = Hub::new(HOLD);
    let mut all: Vec<_> = (0..MAX_LISTENERS).map(|i| hub.attach(named(&i.to_string())).unwrap()).collect();
    assert!(hub.attach(None).is_err());
    for gone in [5, 7] {
        drop(all.remove(gone));
        tokio::time::advance(Duration::from_secs(1)).await;
    }
    hub.publish("1");
    let (comes, back) = (hub.attach(None).unwrap(), hub.attach(named("8")).unwrap());
    assert_eq!(read(&back), ["1"], "the one that went last keeps its place");
    assert!(hub.attach(None).is_err());
    drop(comes);
    assert!(hub.attach(None).is_ok());
}

#[tokio::test(start_paused = true)]
async fn made_up_names_keep_no_other_application_out() {
    let hub = Hub::new(HOLD);
    let url = || Some(ApplicationKey::Url(0, "ws://h/".to_owned()));
    drop(hub.attach(url()).unwrap());
    let known = hub.attach(named("known")).unwrap();
    for count in 0..10 * MAX_LISTENERS {
        tokio::time::advance(Duration::from_millis(1)).await;
        drop(hub.attach(named(&count.to_string())).unwrap());
    }
    hub.publish("1");
    assert_eq!(read(&known), ["1"]);
    assert_eq!(read(&hub.attach(url()).unwrap()), ["1"], "it is in the settings, so it keeps its place");
    let newest = (10 * MAX_LISTENERS - 1).to_string();
    assert_eq!(read(&hub.attach(named(&newest)).unwrap()), ["1"]);
    assert!(read(&hub.attach(named("0")).unwrap()).is_empty(), "the first one gave way");
}

#[tokio::test(start_paused = true)]
async fn events_of_an_account_are_not_told_after_another_has_logged_in() {
    let hub = Hub::new(HOLD);
    let (away, there) = (hub.attach(named("away")).unwrap(), hub.attach(None).unwrap());
    let account = |number, is_online| AccountStatus { number, is_online };
    hub.set_status(account(Some(1), true));
    drop(away);
    hub.publish("of the first");
    hub.set_status(account(Some(1), false));
    assert!(next(&there).is_some(), "it is still the same account");
    hub.set_status(account(Some(2), true));
    hub.publish("of the second");
    assert_eq!(
        (read(&there), read(&hub.attach(named("away")).unwrap())),
        (vec!["of the second".into()], vec!["of the second".into()])
    );
}
