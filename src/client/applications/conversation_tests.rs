//! Applications that break the protocol of WebSockets, on a clock that is advanced as soon as all wait.

use std::sync::Arc;

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::task::JoinHandle;
use tokio_tungstenite::tungstenite::protocol::Role;

use super::super::hub::Hub;
use super::*;
use crate::client::sandbox::Sandbox;
use crate::client::sandbox::tests::logged_in;
use crate::client::settings::ClientSettings;

/// A conversation, and the end of its application.
struct Talk {
    ended: JoinHandle<(Ended, Duration)>,
    application: DuplexStream,
    hub: Hub,
    _kept: (tempfile::TempDir, tokio::sync::mpsc::Receiver<crate::client::backend::BackendEvent>),
}

/// A conversation over a pipe of so many bytes.
async fn talk(role: SocketRole, size: usize) -> Talk {
    let (sandbox, news, folder) = logged_in().await;
    let vars = [("ACCOUNT", "a"), ("PLUGIN_OPENQQ_PORT", "5000"), ("TMPDIR", "/tmp")];
    let vars = vars.map(|(name, value)| (format!("MOJO_WEBQQ_{name}").into(), value.into()));
    let settings = ClientSettings::from_vars(vars).unwrap().applications;
    let (hub, ending) = (Hub::new(Duration::ZERO), CancellationToken::new());
    hub.set_status(super::super::hub::AccountStatus { number: Some(10_001), is_online: true });
    let (applications, queue) =
        super::super::open::<Sandbox>(&settings, Arc::new(sandbox), hub.clone(), ending.clone());
    tokio::spawn(queue.run(ending));
    let (ours, application) = duplex(size);
    let attachment = role.listens().then(|| hub.attach(None).unwrap());
    let ended = tokio::spawn(async move {
        let socket = WebSocketStream::from_raw_socket(ours, Role::Server, Some(config())).await;
        let began = Instant::now();
        let ending = applications.ending.clone();
        let ended = run(socket, &applications, (role, None), attachment, &ending).await;
        (ended, began.elapsed())
    });
    Talk { ended, application, hub, _kept: (folder, news) }
}

/// A frame of an application. Its mask is zero, so its content stands as it is.
fn frame(first: u8, content: &[u8]) -> Vec<u8> {
    let length = u8::try_from(content.len()).unwrap();
    assert!(length < 126);
    [&[first, 0x80 | length, 0, 0, 0, 0][..], content].concat()
}

const TEXT: u8 = 0x01;
const CONTINUATION: u8 = 0x00;
const PING: u8 = 0x89;
const LAST: u8 = 0x80;

#[tokio::test(start_paused = true)]
async fn application_that_never_reads_is_let_go() {
    let talk = talk(SocketRole::Universal, 64).await;
    talk.hub.publish(&json!({ "post_type": "message", "message": "x".repeat(1000) }).to_string());
    let (ended, after) = talk.ended.await.unwrap();
    assert_eq!(ended, Ended::Hangs);
    assert!(after <= WRITE_TIME * 2, "{after:?}");
}

#[tokio::test(start_paused = true)]
async fn application_that_falls_too_far_behind_is_let_go_though_it_reads_a_little() {
    let mut talk = talk(SocketRole::Event, 64).await;
    for _ in 0..20_000 {
        talk.hub.publish("{}");
    }
    let mut byte = [0];
    while talk.application.read(&mut byte).await.unwrap() > 0 {}
    assert_eq!(talk.ended.await.unwrap().0, Ended::TooSlow);
}

#[tokio::test(start_paused = true)]
async fn application_that_answers_no_ping_is_let_go() {
    for role in [SocketRole::Universal, SocketRole::Api, SocketRole::Event] {
        let mut talk = talk(role, 1 << 20).await;
        let (ended, after) = (&mut talk.ended).await.unwrap();
        assert_eq!((ended, after >= SILENCE && after <= SILENCE * 2), (Ended::Silent, true), "{after:?}");
        drop(talk.application);
    }
}

#[tokio::test(start_paused = true)]
async fn message_that_never_ends_is_given_up() {
    let mut talk = talk(SocketRole::Api, 1 << 20).await;
    talk.application.write_all(&frame(TEXT, br#"{"action":"#)).await.unwrap();
    // Something comes all the time, but never a message.
    let sending = async {
        while talk.application.write_all(&frame(CONTINUATION, b" ")).await.is_ok() {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    let (_, ended) = tokio::join!(sending, &mut talk.ended);
    assert_eq!(ended.unwrap().0, Ended::Silent);
}

#[tokio::test(start_paused = true)]
async fn fragments_are_bounded_together() {
    let mut talk = talk(SocketRole::Api, 1 << 20).await;
    let piece = vec![b'x'; 1 << 20];
    let mut head = vec![TEXT, 0xff];
    head.extend_from_slice(&(piece.len() as u64).to_be_bytes());
    head.extend_from_slice(&[0; 4]);
    let mut sent = 0;
    while talk.application.write_all(&head).await.is_ok() && talk.application.write_all(&piece).await.is_ok()
    {
        head[0] = CONTINUATION;
        sent += piece.len();
        assert!(sent <= 2 * MAX_MESSAGE, "it takes more than there may be");
    }
    assert!(matches!(talk.ended.await.unwrap().0, Ended::Broke(_)));
}

#[tokio::test(start_paused = true)]
async fn announced_lengths_take_no_memory() {
    for length in [1_u64 << 30, 1 << 40, (1 << 63) - 1, u64::MAX] {
        let mut talk = talk(SocketRole::Api, 64).await;
        let head = [&[TEXT | LAST, 0xff][..], &length.to_be_bytes(), &[0; 4]].concat();
        talk.application.write_all(&head).await.unwrap();
        assert!(matches!(talk.ended.await.unwrap().0, Ended::Broke(_)), "{length}");
    }
}

#[tokio::test(start_paused = true)]
async fn flood_of_pings_is_borne() {
    let mut talk = talk(SocketRole::Api, 1 << 16).await;
    // Nothing is read meanwhile: all but the last pongs may be left out (RFC 6455, 5.5.3).
    for _ in 0..100_000 {
        talk.application.write_all(&frame(PING, b"x")).await.unwrap();
    }
    let call = frame(TEXT | LAST, br#"{"action":"get_status","echo":7}"#);
    talk.application.write_all(&call).await.unwrap();
    let (mut seen, mut part) = (Vec::new(), [0; 4096]);
    while !String::from_utf8_lossy(&seen).contains(r#""echo":7"#) {
        let count = talk.application.read(&mut part).await.unwrap();
        assert!(count > 0, "it is let go");
        seen.extend_from_slice(&part[..count]);
    }
    drop(talk.application);
    talk.ended.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn frames_against_the_protocol_end_the_connection() {
    for bytes in [
        // Not masked, reserved bits, an unknown opcode, a ping in pieces, a ping that is too long, a piece of no message.
        vec![0x81, 0x01, b'x'],
        frame(0xf1, b"x"),
        frame(0x83, b"x"),
        frame(0x09, b"x"),
        [&[0x89, 0xfe, 0, 126, 0, 0, 0, 0][..], &[b'x'; 126]].concat(),
        frame(0x80, b"x"),
        // No UTF-8.
        frame(0x81, b"\xff"),
    ] {
        let mut talk = talk(SocketRole::Api, 1 << 16).await;
        talk.application.write_all(&bytes).await.unwrap();
        assert!(matches!(talk.ended.await.unwrap().0, Ended::Broke(_)), "{bytes:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn actions_whose_answers_are_not_read_are_bounded() {
    let mut talk = talk(SocketRole::Api, 4096).await;
    let call = frame(TEXT | LAST, br#"{"action":"get_group_list","echo":1}"#);
    let mut taken = 0_u32;
    while talk.application.write_all(&call).await.is_ok() {
        taken += 1;
        assert!(taken < 100_000);
    }
    // What is under way, what waits to be written, and what is in buffers.
    assert!(taken < 2000, "{taken}");
    assert_eq!(talk.ended.await.unwrap().0, Ended::Hangs);
}

#[tokio::test(start_paused = true)]
async fn answers_and_events_end_a_loop() {
    let mut talk = talk(SocketRole::Universal, 1 << 16).await;
    let answer = r#"{"status":"failed","retcode":1400}"#;
    for content in [answer, r#"{"post_type":"meta_event"}"#] {
        talk.application.write_all(&frame(TEXT | LAST, content.as_bytes())).await.unwrap();
    }
    let call = frame(TEXT | LAST, br#"{"action":"fly","echo":7}"#);
    talk.application.write_all(&call).await.unwrap();
    let (mut seen, mut part) = (Vec::new(), [0; 4096]);
    while !String::from_utf8_lossy(&seen).contains(r#""echo":7"#) {
        let count = talk.application.read(&mut part).await.unwrap();
        assert!(count > 0, "it is let go");
        seen.extend_from_slice(&part[..count]);
    }
    assert_eq!(String::from_utf8_lossy(&seen).matches("retcode").count(), 1);
    talk.application.write_all(&frame(0x88, b"")).await.unwrap();
    assert_eq!(talk.ended.await.unwrap().0, Ended::Closed(String::new()));
}
